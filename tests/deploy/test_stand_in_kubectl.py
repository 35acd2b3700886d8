"""The cluster's stand-in and kubectl, a client that is none of ours: what `stoker render` writes, and more."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from stand_in_client import deployment

from stoker.testing.kubernetes import ApiServer, api_server

RENDERED = Path(__file__).parents[1] / "render" / "golden" / "platform" / "karpenter"
"""As `stoker render` writes the defaults."""
KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not on PATH")

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(name="api")
def a_server() -> Iterator[ApiServer]:
    with api_server() as api:
        yield api


@pytest.fixture(name="kubectl")
def a_kubectl(api: ApiServer, tmp_path: Path) -> Kubectl:
    config = api.kubeconfig(tmp_path / "config")

    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}

    def run(*words: str, expect: int = 0) -> "subprocess.CompletedProcess[str]":
        command = [str(KUBECTL), f"--kubeconfig={config}", f"--cache-dir={tmp_path / 'cache'}", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)
        assert done.returncode == expect, done.stderr
        return done

    return run


def listed() -> list[str]:
    found: list[str] = yaml.safe_load((RENDERED / "kustomization.yaml").read_text())["resources"]
    return found


def rendered() -> list[dict[str, Any]]:
    """The objects that the kustomization lists."""
    texts = [(RENDERED / name).read_text() for name in listed()]
    return [each for text in texts for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each]


def identity(obj: dict[str, Any]) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def holds(stored: Any, applied: Any) -> bool:
    """Whether all that was applied stands in what is stored."""
    if isinstance(applied, dict):
        return isinstance(stored, dict) and all(key in stored and holds(stored[key], applied[key]) for key in applied)
    if isinstance(applied, list):
        return isinstance(stored, list) and len(stored) == len(applied) and all(map(holds, stored, applied))
    return bool(stored == applied)


def test_what_is_rendered_is_applied_as_it_is_written_and_is_ready(
    api: ApiServer, kubectl: Kubectl, tmp_path: Path
) -> None:
    whole = tmp_path / "whole.yaml"  # kubectl reads one file sooner than a kustomization
    whole.write_text("\n---\n".join((RENDERED / name).read_text() for name in listed()))
    kubectl("apply", "--server-side", "-k", str(RENDERED))

    stored = {identity(each): each for each in api.objects()}
    wanted = rendered()
    assert len(wanted) > 60
    assert [identity(each) for each in wanted if not holds(stored.get(identity(each)), each)] == []
    kubectl("rollout", "status", "deployment/gateway", "-n", "agentic-ai", "--timeout=5s")
    kubectl("rollout", "status", "statefulset/redis", "-n", "agentic-ai", "--timeout=5s")
    kubectl("wait", "nodepool", "--all", "--for=condition=Ready", "--timeout=5s")
    secrets = kubectl("get", "secrets", "-n", "agentic-ai", "-o", "name").stdout.split()
    assert "secret/redis" in secrets  # of the ExternalSecret

    kubectl("apply", "--server-side", "-f", str(whole))

    assert {identity(each): each for each in api.objects()} == stored
    assert kubectl("diff", "--server-side", "-f", str(whole)).stdout == ""

    gone = kubectl("delete", "--ignore-not-found", "--wait=false", "-f", str(whole)).stdout

    assert 'namespace "agentic-ai" deleted' in gone
    assert {each["metadata"]["name"] for each in api.objects()} == {
        "default",
        "kube-node-lease",
        "kube-public",
        "kube-system",
    }


def test_drift_is_shown_and_a_conflict_is_told_and_forced(api: ApiServer, kubectl: Kubectl, tmp_path: Path) -> None:
    file = tmp_path / "map.yaml"
    file.write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default}\ndata: {mine: '1', other: '1'}\n"
    )
    kubectl("apply", "--server-side", "--field-manager=stoker", "-f", str(file))
    api.edit("ConfigMap", "a", "default", lambda obj: obj["data"].update(mine="2"))

    shown = kubectl("diff", "--server-side", "--force-conflicts", "--field-manager=stoker", "-f", str(file), expect=1)
    assert '-  mine: "2"\n+  mine: "1"\n' in shown.stdout
    said = kubectl("apply", "--server-side", "--field-manager=stoker", "-f", str(file), expect=1).stderr
    assert 'Apply failed with 1 conflict: conflict with "kubectl-edit" using v1: .data.mine' in said

    kubectl("apply", "--server-side", "--field-manager=stoker", "--force-conflicts", "-f", str(file))

    stored = yaml.safe_load(kubectl("get", "configmap", "a", "-o", "yaml", "--show-managed-fields").stdout)
    assert stored["data"] == {"mine": "1", "other": "1"}
    assert [(each["manager"], each["operation"]) for each in stored["metadata"]["managedFields"]] == [
        ("stoker", "Apply")
    ]


def test_what_the_schema_does_not_have_is_refused(kubectl: Kubectl, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {portz: [], ports: [{port: 80}]}\n")

    said = kubectl("apply", "--server-side", "-f", str(file), expect=1).stderr

    assert 'unknown field "spec.portz"' in said


def test_other_writes_of_kubectl(api: ApiServer, kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl("create", "namespace", "mine")
    kubectl("create", "configmap", "a", "-n", "mine", "--from-literal=x=1")
    kubectl("create", "secret", "generic", "s", "-n", "mine", "--from-literal=x=1")
    file = tmp_path / "web.yaml"
    file.write_text(yaml.safe_dump(deployment()).replace("namespace: default", "namespace: mine"))
    kubectl("create", "-f", str(file))
    kubectl("scale", "deployment", "web", "-n", "mine", "--replicas=3", expect=1)  # no /scale here
    kubectl("patch", "deployment", "web", "-n", "mine", "-p", '{"spec": {"replicas": 3}}')
    kubectl("label", "configmap", "a", "-n", "mine", "of=tests")
    kubectl("delete", "configmap", "-n", "mine", "-l", "of=tests")

    assert api.objects("ConfigMap") == []
    assert api.get("Secret", "s", "mine")["data"] == {"x": "MQ=="}  # type: ignore[index]
    web = api.get("Deployment", "web", "mine")
    assert web is not None
    assert web["status"]["readyReplicas"] == 3

    kubectl("delete", "namespace", "mine")

    assert api.get("Deployment", "web") is None
