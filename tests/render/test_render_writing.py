"""Items into files."""

import pytest
import yaml

from stoker.render.hcl import Block
from stoker.render.items import Resource, Terraform, Variable
from stoker.render.writing import files

CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "yes", "y": "one\ntwo\n"}}
HEAD = "# Made by `stoker render`; change platform.yaml and render again.\n"


def test_objects_of_one_file_are_its_documents_with_their_comments() -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}
    made = files([Resource("base/a.yaml", CONFIG, "so that\n\nit is"), Resource("base/a.yaml", other)])
    assert list(made) == ["base/a.yaml", "kustomization.yaml"]
    assert made["base/a.yaml"] == (
        HEAD + "# so that\n#\n# it is\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n"
        "data:\n  x: 'yes'\n  y: |\n    one\n    two\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: b\n"
    )
    assert list(yaml.safe_load_all(made["base/a.yaml"])) == [CONFIG, other]


def test_the_kustomization_lists_every_file_of_objects_and_no_other() -> None:
    made = files(
        [Resource("z/b.yaml", CONFIG), Resource("a/c.yaml", CONFIG), Terraform("terraform/q.tf", Block("locals"))]
    )
    assert yaml.safe_load(made["kustomization.yaml"])["resources"] == ["a/c.yaml", "z/b.yaml"]


def test_what_is_applied_by_hand_is_written_and_not_listed() -> None:
    made = files([Resource("a.yaml", CONFIG), Resource("on-demand/job.yaml", CONFIG)])
    assert list(made) == ["a.yaml", "kustomization.yaml", "on-demand/job.yaml"]
    assert yaml.safe_load(made["kustomization.yaml"])["resources"] == ["a.yaml"]
    assert "kustomization.yaml" not in files([Resource("on-demand/job.yaml", CONFIG)])


def test_a_long_comment_is_wrapped() -> None:
    made = files([Resource("a.yaml", CONFIG, "word " * 40)])
    lines = made["a.yaml"].splitlines()
    assert [line[:7] for line in lines[1:4]] == ["# word ", "# word ", "apiVers"]
    assert max(map(len, lines)) <= 112


def test_terraform_has_its_versions_and_the_variables_that_were_asked_for_once() -> None:
    vpc = Variable("vpc_id", "string", "VPC of the cluster.")
    made = files(
        [
            vpc,
            Terraform("terraform/q.tf", Block("locals", (), {"a": 1}), "why"),
            vpc,
            Variable("days", "number", "Days.", 7),
        ]
    )
    assert made["terraform/q.tf"] == HEAD + "\n# why\nlocals {\n  a = 1\n}\n"
    assert 'source  = "hashicorp/aws"' in made["terraform/versions.tf"]
    assert made["terraform/variables.tf"] == (
        HEAD + '\nvariable "days" {\n  type        = number\n  description = "Days."\n  default     = 7\n}\n\n'
        'variable "vpc_id" {\n  type        = string\n  description = "VPC of the cluster."\n}\n'
    )
    assert "kustomization.yaml" not in made


def test_two_variables_of_one_name_must_be_the_same() -> None:
    one, other = Variable("a", "string", "One."), Variable("a", "string", "Other.")
    with pytest.raises(ValueError, match="two different variables are called a"):
        files([one, other])


def test_the_same_object_twice_is_written_out_twice() -> None:
    shared = {"app": "a"}
    made = files([Resource("a.yaml", {"kind": "A", "one": shared, "other": shared})])
    assert made["a.yaml"] == HEAD + "kind: A\none:\n  app: a\nother:\n  app: a\n"
