"""`stoker schemas`: kinds from files, found before those that are shipped."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.catalog import schemas
from stoker.cli.app import run

WIDGET = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Cluster
  names: {kind: Widget, plural: widgets}
  versions:
    - name: v1beta1
      served: false
      storage: false
      schema: {openAPIV3Schema: {type: object, description: Old.}}
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, description: What is wanted.}}}}
"""
POD = {"type": "object", "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}]}
SWAGGER = {
    "swagger": "2.0",
    "info": {"version": "v1.99.3"},
    "definitions": {
        "io.k8s.api.core.v1.Pod": {**POD, "properties": {"spec": {"$ref": "#/definitions/io.k8s.api.core.v1.PodSpec"}}},
        "io.k8s.api.core.v1.PodSpec": {"type": "object", "description": "For people."},
    },
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's own folder, not there yet."""
    own = tmp_path / "own"
    monkeypatch.setenv("STOKER_SCHEMAS", str(own))
    schemas.forget()
    yield own
    schemas.forget()


def write(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_a_definition_is_added_found_listed_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schemas", "add", write(tmp_path, "widgets.yaml", WIDGET)]) == 0
    assert capsys.readouterr().out == "added example.com/v1beta1 Widget\nadded example.com/v1 Widget\n"

    found = schemas.find("example.com/v1", "Widget")
    assert found is not None
    assert (found.scope, found.served, found.source) == ("Cluster", True, "widgets.yaml")
    assert found.tree == {"type": "object", "properties": {"spec": {"type": "object"}}}
    assert schemas.versions_of("example.com", "Widget") == ["v1"]

    assert run(["schemas", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "example.com/v1  Widget  (widgets.yaml; yours)" in lines
    assert "example.com/v1beta1  Widget  (widgets.yaml; not served; yours)" in lines

    assert run(["schemas", "remove", "example.com/v1/Widget"]) == 0
    assert capsys.readouterr().out == "removed example.com/v1/Widget\n"
    assert schemas.find("example.com/v1", "Widget") is None
    assert schemas.find("example.com/v1beta1", "Widget") is not None


def test_what_is_shipped_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schemas", "list", "--json"]) == 0
    rows = {(row["apiVersion"], row["kind"]): row for row in json.loads(capsys.readouterr().out)}

    assert rows["karpenter.sh/v1", "NodePool"] == {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "scope": "Cluster",
        "served": True,
        "source": "aws/karpenter-provider-aws@v1.14.1",
        "yours": False,
    }
    assert rows["v1", "Pod"]["source"] == "Kubernetes 1.35, 1.36, 1.37"
    assert rows["karpenter.sh/v1beta1", "NodePool"]["note"] == "Karpenter v1.1 took v1beta1 away; write v1"


def test_one_of_the_users_own_is_found_before_the_shipped_one(tmp_path: Path) -> None:
    own = WIDGET.replace("example.com", "karpenter.sh").replace("kind: Widget", "kind: NodePool")

    assert run(["schemas", "add", write(tmp_path, "pools.yaml", own)]) == 0
    found = schemas.find("karpenter.sh/v1", "NodePool")
    assert found is not None
    assert found.source == "pools.yaml"

    assert run(["schemas", "remove", "karpenter.sh/v1/NodePool"]) == 0
    shipped = schemas.find("karpenter.sh/v1", "NodePool")
    assert shipped is not None
    assert shipped.source == "aws/karpenter-provider-aws@v1.14.1"


def test_a_kubernetes_release_is_added_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schemas", "add", write(tmp_path, "swagger.json", json.dumps(SWAGGER))]) == 0
    assert capsys.readouterr().out == "added the kinds of Kubernetes 1.99\n"
    assert schemas.minors() == ["1.35", "1.36", "1.37", "1.99"]
    found = schemas.find("v1", "Pod", "1.99")
    assert found is not None
    assert found.resolve(found.tree["properties"]["spec"])["type"] == "object"

    assert run(["schemas", "remove", "1.99"]) == 0
    assert schemas.minors() == ["1.35", "1.36", "1.37"]


def test_folders_are_read_and_what_is_no_definition_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "crds/deep/widgets.yaml", f"kind: Namespace\n---\n{WIDGET}")
    write(tmp_path, "crds/values.yaml", "a: 1\n")
    write(tmp_path, "crds/README.md", "# no YAML: [\n")

    assert run(["schemas", "add", str(tmp_path / "crds")]) == 0
    assert capsys.readouterr().out == "added example.com/v1beta1 Widget\nadded example.com/v1 Widget\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "a: [", "not YAML"),
        ("a.yaml", "kind: Pod\n", "a.yaml has no definitions of Kubernetes kinds"),
        ("a.yaml", "", "is empty: a CustomResourceDefinition or a swagger.json is wanted"),
        ("a.yaml", "a: &x [1]\nb: *x\n", "aliases are not read here"),
        ("a.json", "{", "is no JSON"),
        ("a.yaml", WIDGET.replace("extensions.k8s.io/v1", "extensions.k8s.io/v1beta1"),
         "apiVersion must be apiextensions.k8s.io/v1, not 'apiextensions.k8s.io/v1beta1'"),
        ("a.yaml", WIDGET.replace("group: example.com", "group: ../../etc"), "spec.group must be a DNS name"),
        ("a.yaml", WIDGET.replace("kind: Widget", "kind: ../x"), "spec.names.kind must be a CamelCase word"),
        ("a.yaml", WIDGET.replace("scope: Cluster", "scope: Global"), "must be Namespaced or Cluster, not 'Global'"),
        ("a.yaml", WIDGET.replace("name: v1beta1", "name: ../v1"), "a version must have a name such as v1"),
        ("a.yaml", WIDGET.replace("openAPIV3Schema", "none"), "version v1beta1 has no schema.openAPIV3Schema"),
        ("a.json", json.dumps({**SWAGGER, "info": {}}), "a.json does not say of which Kubernetes it is"),
    ],
)  # fmt: skip
def test_what_cannot_be_added_is_said_and_nothing_is_written(
    name: str, text: str, message: str, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["schemas", "add", write(tmp_path, name, text)]) == 2

    assert message in capsys.readouterr().err
    assert not (folder / "index.json.gz").exists()


def test_a_file_that_is_not_there_and_a_kind_that_was_not_added(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schemas", "add", "/nowhere/a.yaml"]) == 2
    assert "error: /nowhere/a.yaml cannot be read: No such file or directory" in capsys.readouterr().err

    assert run(["schemas", "remove", "karpenter.sh/v1/NodePool"]) == 2
    assert capsys.readouterr().err == (
        "error: no schema of karpenter.sh/v1/NodePool was added\n\nhint: nothing was added\n"
    )


def test_where_the_users_folder_is() -> None:
    assert schemas.user_folder({"HOME": "/home/a"}) == Path("/home/a/.local/share/stoker/schemas")
    assert schemas.user_folder({"HOME": "/home/a", "XDG_DATA_HOME": "/d"}) == Path("/d/stoker/schemas")
    assert schemas.user_folder({"HOME": "/home/a", "STOKER_SCHEMAS": "/s"}) == Path("/s")
