"""The walk-throughs of docs/deploy, command by command: real Terraform against moto's server, a stand-in for the
cluster's API, and one for Helm's program. `make test-deploy`: each takes some five minutes."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cloud_stage import CONTEXT, cloud, push_images, why_not

from stoker.deploy.controllers import Facts, controllers
from stoker.deploy.prerequisites import own_images
from stoker.render.plan import Plan
from stoker.render.run import render_objects
from stoker.spec import loads

ROOT = Path(__file__).parents[2]
MODES = ("auto", "karpenter", "hybrid")
PAGES = {mode: (ROOT / "docs" / "deploy" / f"walk-{mode}.md").read_text() for mode in MODES}
LACKING = [
    "access-entries",
    "addons",
    "budgets",
    "cluster-security-group",
    "elasticache",
    "fsx",
    "kro",
    "pod-identities",
]
"""What moto's server has not (docs/deploy/terraform.md)."""


def commands(page: str) -> list[list[str]]:
    """The commands of a page, in their order."""
    lines = re.findall(r"^    ((?:stoker|images/build|kubectl) .*)$", page, re.MULTILINE)
    return [shlex.split(line) for line in lines]


def spec_of(page: str) -> str:
    found = re.search(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found, "the page has no platform.yaml"
    return found[1]


@pytest.mark.parametrize("mode", MODES)
def test_the_pages_say_what_their_test_needs(mode: str) -> None:
    spec = loads(spec_of(PAGES[mode]))
    assert spec.global_.cluster.mode == mode
    words = [" ".join(each) for each in commands(PAGES[mode])]
    assert words[0] == "stoker deploy --dry-run"
    assert words.count("stoker deploy --yes") == 3
    assert words[-1] == "stoker destroy --yes --delete-data"
    before_kubectl = PAGES[mode].partition("\n    kubectl ")[0]
    assert f"`aws eks update-kubeconfig --name {spec.global_.cluster.name} --region us-west-2`" in before_kubectl
    assert "`aws iam create-service-linked-role --aws-service-name spot.amazonaws.com`" in before_kubectl


@pytest.mark.skipif("WALKS" not in os.environ, reason="five minutes for each of three: make test-deploy")
@pytest.mark.parametrize("mode", MODES)
def test_each_command_does_what_the_page_says(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if (why := why_not()) is not None:
        pytest.skip(why)
    text = spec_of(PAGES[mode])
    data = yaml.safe_load(text)
    data["deploy"]["context"] = CONTEXT  # clusters of moto's have no API; the stand-in is reached by this context
    (tmp_path / "platform.yaml").write_text(yaml.safe_dump(data))
    plan = Plan(loads(text), mode, "terraform")  # type: ignore[arg-type]
    objects = render_objects(plan)
    images = own_images(plan, objects)
    charts = {each.chart: each.groups for each in controllers(plan, objects, Facts.of({}))}
    bundled = ("karpenter.sh", "eks.amazonaws.com") if mode != "karpenter" else ()
    with cloud(tmp_path, monkeypatch, charts, installed=bundled) as found:
        docker = found.helm.folder / "docker"
        docker.write_text("#!/bin/sh\nexit 0\n")
        docker.chmod(0o755)
        monkeypatch.setenv("STOKER_TERRAFORM_VARIABLES", json.dumps({"without": LACKING}))
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        before = {(each["kind"], each["metadata"]["name"]) for each in found.server.objects()}
        deploys = 0
        for words in commands(PAGES[mode]):
            if words[0] == "images/build":
                push_images(images)
                continue
            is_first = words == ["stoker", "deploy", "--yes"] and deploys == 0
            deploys += words == ["stoker", "deploy", "--yes"]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=900)
            assert done.returncode == (1 if is_first else 0), f"{shlex.join(words)}: {done.stdout}\n{done.stderr}"
            if is_first:
                assert "images/build --push platform.yaml" in done.stderr
            if words == ["stoker", "diff"]:  # moto forgets parts of what Terraform told it
                assert all(line.startswith("terraform") for line in done.stdout.splitlines()), done.stdout
        left = {(each["kind"], each["metadata"]["name"]) for each in found.server.objects()} - before
        assert {kind for kind, _ in left} <= {"CustomResourceDefinition", "Namespace", "ServiceAccount", "ConfigMap"}
        assert not _resources(tmp_path)


def _resources(folder: Path) -> list[str]:
    """What Terraform still has."""
    states = list(folder.glob(".stoker/deploy/*/terraform/terraform.tfstate"))
    assert len(states) == 1
    return [each["type"] for each in json.loads(states[0].read_text())["resources"] if each["mode"] == "managed"]
