"""No schema is at hand for this kind, so it was not checked.

It may be right. The kinds that are known are those of Kubernetes and of the definitions that ship with Stoker
(`stoker schemas list`); the definition of any other can be added with `stoker schemas add FILE`, from the YAML of its
release. A kind that is not in its group, where the group is Kubernetes' own or all of its kinds are known, is an error:
the API server has no such kind.

Symptom: no matches for kind "AIInferenceStack" in version "v1alpha1"

Wrong:

    apiVersion: example.com/v1
    kind: Widget
    metadata: {name: a}

Right:

    apiVersion: v1
    kind: ConfigMap
    metadata: {name: a}

Source: Kubernetes documentation, API concepts: resource types
"""

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any

from stoker.catalog import schemas
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import Manifest

_WHOLE = ("karpenter.sh", "karpenter.k8s.aws", "keda.sh")
"""Groups of which every kind ships. Of others (argoproj.io, external-secrets.io) some do."""


def check(cluster: Cluster) -> Iterator[Problem]:
    defined = _defined_here(cluster)
    for manifest in cluster.manifests:
        if _is_defined(manifest, defined):
            continue
        if cluster.is_made_by_graph(manifest):
            continue
        if not manifest.api_version or not manifest.kind:
            missing = "apiVersion" if not manifest.api_version else "kind"
            yield Problem(
                manifest,
                (missing,),
                f"{missing} is missing, or is not text",
                severity=Severity.ERROR,
                hint="every object has apiVersion and kind",
            )
        elif cluster.schema(manifest) is None and not schemas.versions_of(manifest.group, manifest.kind):
            meant = _nearest(manifest)
            if meant or manifest.group in _WHOLE or manifest.group in _of_kubernetes():
                yield Problem(
                    manifest,
                    ("kind",),
                    f"the group {manifest.group or 'core'} has no kind {manifest.kind}",
                    severity=Severity.ERROR,
                    hint=meant or "see `stoker schemas list` for the kinds of each group",
                )
            else:
                yield Problem(
                    manifest,
                    ("kind",),
                    f"no schema of {manifest.kind} in {manifest.api_version}: its fields were not checked",
                    hint="`stoker schemas add FILE` with the CustomResourceDefinition of its release",
                )


def _nearest(manifest: Manifest) -> str:
    """The kind of this group that is written almost alike; empty where there is none."""
    of_group = [kind for version, kind in schemas.kinds() if version.rpartition("/")[0] == manifest.group]
    return next(iter(get_close_matches(manifest.kind, of_group, 1, 0.9)), "")


@cache
def _of_kubernetes() -> frozenset[str]:
    return frozenset(each.partition(" ")[0].rpartition("/")[0] for each in schemas.index(schemas.SHIPPED)["core"])


def _defined_here(cluster: Cluster) -> set[tuple[str, str]]:
    """Group and kind of what definitions among the manifests make: of custom resources, and graphs of kro."""
    found: list[tuple[Any, Any]] = []
    for each in cluster.of("CustomResourceDefinition"):
        found.append((each.get("spec", "group"), each.get("spec", "names", "kind")))
    for each in cluster.of("ResourceGraphDefinition", "ResourceGroup"):
        kind = each.get("spec", "schema", "kind")
        found += [(each.get("spec", "schema", "group", default="kro.run"), kind), ("", kind)]
    return {(group, kind) for group, kind in found if isinstance(group, str) and isinstance(kind, str)}


def _is_defined(manifest: Manifest, defined: set[tuple[str, str]]) -> bool:
    """What a graph defines is its own even where it lacks the group: another rule says that."""
    return (manifest.group, manifest.kind) in defined


RULE = Rule("STK-API-009", Severity.INFO, "No schema is at hand for this kind", check, __name__)
