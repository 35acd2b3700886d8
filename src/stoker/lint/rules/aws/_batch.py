"""Job definitions of AWS Batch, written as if they were objects of Kubernetes, seen alike: the containers they run."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.manifests.objects import Manifest, look, sections
from stoker.spec.faults import Path

KIND = "JobDefinition"


@dataclass(frozen=True, eq=False)
class Range:
    """Nodes that run the same container. A job of one node is one range, with no `targets`."""

    manifest: Manifest
    path: Path
    tree: dict[str, Any]
    container_path: Path
    container: dict[str, Any]
    targets: str

    def command(self) -> list[tuple[Path, str]]:
        words = self.container.get("command")
        return [
            ((*self.container_path, "command", i), each)
            for i, each in enumerate(words if isinstance(words, list) else ())
            if isinstance(each, str)
        ]


def definitions(cluster: Cluster) -> Iterator[Manifest]:
    """Kubernetes has no such kind; Batch's own has its fields under `spec` here."""
    for manifest in cluster.of(KIND):
        if "batch" in manifest.group and ("aws" in manifest.group or "amazon" in manifest.group):
            yield manifest


def is_multi_node(manifest: Manifest) -> bool:
    return manifest.get("spec", "type") == "multinode" or isinstance(manifest.get("spec", "nodeProperties"), dict)


def ranges(manifest: Manifest) -> list[Range]:
    found = []
    base: Path = ("spec", "nodeProperties", "nodeRangeProperties")
    for i, each in sections(manifest.get(*base)):
        targets = each.get("targetNodes")
        found += _range(manifest, (*base, i), each, targets if isinstance(targets, str) else "")
    spec = manifest.get("spec")
    return found or (_range(manifest, ("spec",), spec, "") if isinstance(spec, dict) else [])


def includes_main(manifest: Manifest, targets: str) -> bool:
    """Whether a range such as `0:` or `1:3` has the main node in it."""
    main = manifest.get("spec", "nodeProperties", "mainNode", default=0)
    first, colon, last = targets.partition(":")
    if not isinstance(main, int) or not (first.isdecimal() or not first) or not (last.isdecimal() or not last):
        return False
    low = int(first[:9] or 0)
    high = int(last[:9]) if last else (low if not colon else main)
    return low <= main <= high


def _range(manifest: Manifest, path: Path, tree: dict[str, Any], targets: str) -> list[Range]:
    for key in ("container", "containerProperties"):
        container = look(tree, key)
        if isinstance(container, dict):
            return [Range(manifest, path, tree, (*path, key), container, targets)]
    return []
