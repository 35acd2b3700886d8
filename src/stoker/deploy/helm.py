"""Helm as `deploy` runs it: controllers as releases, each installed or upgraded to what is wanted, at one version."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stoker.deploy import programs

LEAST = (3, 14)
_STATES = ("--deployed", "--failed", "--pending", "--uninstalling")
"""Of releases that are listed; -a for all is Helm 3's alone."""
_HELPS = "the controllers that the platform needs are installed"


class Chart(Protocol):
    """What of a controller Helm is told."""

    @property
    def name(self) -> str: ...
    @property
    def chart(self) -> str: ...
    @property
    def repository(self) -> str | None: ...
    @property
    def version(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def values(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Release:
    """`chart`: name and version as Helm writes them (`keda-2.20.2`). `status`: deployed, failed, pending-install ..."""

    name: str
    namespace: str
    chart: str
    status: str

    @property
    def is_interrupted(self) -> bool:
        """Somebody ended Helm in the middle. Helm itself then refuses to go on ("another operation is in progress")."""
        return self.status.startswith("pending-")


class Helm:
    def __init__(self, program: programs.Program, kubeconfig: Path, context: str, wait_s: int) -> None:
        self._program = program
        self._where = ("--kubeconfig", str(kubeconfig), "--kube-context", context)
        self._wait_s = wait_s

    def releases(self) -> list[Release]:
        """Of all namespaces, also those that failed or were interrupted."""
        said = self._program.output("list", "-A", *_STATES, "-o", "json", *self._where)
        return [
            Release(each["name"], each["namespace"], each["chart"], each["status"]) for each in json.loads(said or "[]")
        ]

    def install(self, chart: Chart, before: Release | None) -> None:
        """Install it, or bring it to this version and these values; waits until its pods are ready. `before`: what is
        there. Raises ProgramFailed."""
        if before is not None and before.is_interrupted:
            self._clear(before)
        with _values(chart.values) as file:
            words = ["upgrade", "--install", chart.name, chart.chart, "--version", chart.version]
            words += ["--repo", chart.repository] if chart.repository else []
            words += ["--namespace", chart.namespace, "--create-namespace", "-f", str(file)]
            words += ["--wait", "--timeout", f"{self._wait_s}s", *self._where]
            self._program.output(*words, timeout_s=self._wait_s + 120)

    def uninstall(self, name: str, namespace: str) -> None:
        """Whether or not it is there."""
        words = ("uninstall", name, "--namespace", namespace, "--ignore-not-found", "--wait", *self._where)
        self._program.output(*words, timeout_s=self._wait_s + 120)

    def _clear(self, release: Release) -> None:
        """A first install goes; an upgrade goes back to what was there."""
        if release.status == "pending-install":
            self.uninstall(release.name, release.namespace)
        else:
            words = ("rollback", release.name, "--namespace", release.namespace, "--wait", *self._where)
            self._program.output(*words, timeout_s=self._wait_s + 120)


def find(kubeconfig: Path, context: str, wait_s: int) -> Helm:
    """Raises InvalidInput where Helm is not there or too old."""
    return Helm(program(), kubeconfig, context, wait_s)


def program() -> programs.Program:
    return programs.find("helm", LEAST, ("version", "--short"), _HELPS)


@contextmanager
def _values(values: Mapping[str, Any]) -> Iterator[Path]:
    """JSON is YAML; the file is readable by nobody else, and goes afterwards."""
    handle, name = tempfile.mkstemp(prefix="stoker-values-", suffix=".json")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(values, file)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
