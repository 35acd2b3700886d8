"""Applications of Argo CD, those that ApplicationSets make included: where they deploy to, and from where."""

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.manifests.objects import Manifest, filled_in_later, sections
from stoker.spec.faults import Path

GROUP = "argoproj.io"
IN_CLUSTER = "https://kubernetes.default.svc"


@dataclass(frozen=True, eq=False)
class Application:
    """`base` is where the spec of the Application stands in its manifest."""

    manifest: Manifest
    base: Path

    @property
    def spec(self) -> dict[str, Any]:
        found = self.manifest.get(*self.base)
        return found if isinstance(found, dict) else {}

    @property
    def destination(self) -> dict[str, Any]:
        found = self.spec.get("destination")
        return found if isinstance(found, dict) else {}

    @property
    def project(self) -> str:
        """The name of its project; empty where it is filled in later."""
        name = self.spec.get("project")
        return name if isinstance(name, str) and not filled_in_later(name) else ""

    @property
    def sources(self) -> list[tuple[Path, dict[str, Any]]]:
        one = self.spec.get("source")
        found: list[tuple[Path, dict[str, Any]]] = []
        if isinstance(one, dict):
            found.append(((*self.base, "source"), one))
        found += [((*self.base, "sources", i), each) for i, each in sections(self.spec.get("sources"))]
        return found


def applications(cluster: Cluster) -> Iterator[Application]:
    for manifest in cluster.of("Application", group=GROUP):
        yield Application(manifest, ("spec",))
    for manifest in cluster.of("ApplicationSet", group=GROUP):
        yield Application(manifest, ("spec", "template", "spec"))


def is_in_cluster(server: object) -> bool:
    return isinstance(server, str) and server.rstrip("/").removesuffix(":443") == IN_CLUSTER


def matches(pattern: object, text: str) -> bool:
    """As a project's patterns are meant, `*` taking in more than Argo CD's would: who is sure only says no."""
    return isinstance(pattern, str) and fnmatch.fnmatchcase(_plain(text), _plain(pattern))


def _plain(url: str) -> str:
    return url.lower().rstrip("/").removesuffix(".git")
