"""The program called helm: releases in the cluster's stand-in, definitions of charts, and faults."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stoker.testing.kubernetes import ApiServer, api_server
from stoker.testing.kubernetes.helm import HelmStandIn, write_helm

UPGRADE = (
    "upgrade",
    "--install",
    "keda",
    "kedacore/keda",
    "--version",
    "2.20.2",
    "--namespace",
    "keda",
    "--create-namespace",
    "--wait",
    "--timeout",
    "60s",
)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(name="api")
def a_server() -> Iterator[ApiServer]:
    with api_server(installed=()) as api:
        yield api


@pytest.fixture(name="helm")
def a_helm(tmp_path: Path) -> HelmStandIn:
    return write_helm(tmp_path / "bin", {"kedacore/keda": ["keda.sh"]})


@pytest.fixture(name="run")
def a_run(api: ApiServer, helm: HelmStandIn, tmp_path: Path) -> Run:
    config = api.kubeconfig(tmp_path / "config")

    def run(*words: str, expect: int = 0) -> "subprocess.CompletedProcess[str]":
        command = [str(helm.folder / "helm"), *words, "--kubeconfig", str(config), "--kube-context", "stand-in"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == expect, done.stderr
        return done

    return run


def releases(run: Run) -> list[tuple[str, str, str, str]]:
    listed = json.loads(run("list", "-A", "--deployed", "--failed", "--pending", "-o", "json").stdout)
    return [(each["name"], each["chart"], each["revision"], each["status"]) for each in listed]


def test_a_release_comes_is_upgraded_and_goes(api: ApiServer, helm: HelmStandIn, run: Run) -> None:
    assert run("version", "--short").stdout == "v4.0.0+gstandin\n"
    run(*UPGRADE)
    assert releases(run) == [("keda", "keda-2.20.2", "1", "deployed")]
    assert api.get("CustomResourceDefinition", "scaledobjects.keda.sh") is not None
    assert api.get("Deployment", "keda", "keda") is not None

    run(*UPGRADE)

    assert releases(run) == [("keda", "keda-2.20.2", "2", "deployed")]
    assert json.loads(run("status", "keda", "-n", "keda", "-o", "json").stdout)["info"]["status"] == "deployed"

    run("uninstall", "keda", "-n", "keda", "--ignore-not-found", "--wait")
    run("uninstall", "keda", "-n", "keda", "--ignore-not-found", "--wait")

    assert releases(run) == []
    assert api.objects("Deployment") == api.objects("Secret") == []
    assert [each[0] for each in helm.changing] == ["upgrade", "upgrade", "uninstall", "uninstall"]
    assert helm.calls[1][: len(UPGRADE)] == list(UPGRADE)


def test_it_fails_when_it_is_told_to(api: ApiServer, helm: HelmStandIn, run: Run) -> None:
    helm.fail(1, "before", "no such host")
    helm.fail(2, "middle")
    helm.fail(4, "after")

    assert run(*UPGRADE, expect=1).stderr == "Error: no such host\n"
    assert releases(run) == []

    run(*UPGRADE, expect=137)
    assert releases(run) == [("keda", "keda-2.20.2", "1", "pending-install")]
    assert "another operation" in run(*UPGRADE, expect=1).stderr

    run("uninstall", "keda", "-n", "keda", expect=1)
    assert releases(run) == []


def test_it_waits_for_what_is_not_ready_in_vain(api: ApiServer, run: Run) -> None:
    api.readiness = {("Deployment", "keda"): "ImagePullBackOff"}

    assert "context deadline exceeded" in run(*UPGRADE, expect=1).stderr

    assert releases(run) == [("keda", "keda-2.20.2", "1", "failed")]


def test_an_interrupted_upgrade_is_rolled_back(helm: HelmStandIn, run: Run) -> None:
    run(*UPGRADE)
    helm.fail(2, "middle")
    run(*UPGRADE, expect=137)

    run("rollback", "keda", "-n", "keda", "--wait")

    assert releases(run) == [("keda", "keda-2.20.2", "3", "deployed")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("upgrade", "--install", "x", "repo/x", "-n", "x"), "failed to fetch repo/x"),
        (("upgrade", "--install", "keda", "kedacore/keda", "--wrong"), "unknown flag: --wrong"),
        (("status", "keda", "-n", "keda"), "release: not found"),
        (("uninstall", "keda", "-n", "keda"), "release: not found"),
    ],
)
def test_what_it_refuses(run: Run, words: tuple[str, ...], said: str) -> None:
    assert said in run(*words, expect=1).stderr
