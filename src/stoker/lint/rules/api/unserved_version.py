"""The kind exists, but not in this version.

The API server knows a kind by group and version. A version that a release dropped, or one that never was, matches
nothing.

Symptom: no matches for kind "HorizontalPodAutoscaler" in version "autoscaling/v2beta2"

Wrong:

    apiVersion: policy/v1beta1
    kind: PodDisruptionBudget
    metadata: {name: a}
    spec:
      maxUnavailable: 1
      selector: {matchLabels: {app: a}}

Right:

    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata: {name: a}
    spec:
      maxUnavailable: 1
      selector: {matchLabels: {app: a}}

Source: Kubernetes documentation, deprecated API migration guide
"""

from collections.abc import Iterator

from stoker.catalog import schemas
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.manifests:
        if not manifest.api_version or not manifest.kind or cluster.is_made_by_graph(manifest):
            continue
        schema = cluster.schema(manifest)
        if schema is not None and schema.served:
            continue
        served = [
            version for version in schemas.versions_of(manifest.group, manifest.kind) if version != manifest.version
        ]
        if schema is None and not served:
            continue  # not known at all: STK-API-009
        group = f"{manifest.group}/" if manifest.group else ""
        yield Problem(
            manifest,
            ("apiVersion",),
            f"no API server serves {manifest.kind} in {manifest.api_version}",
            (schema.note if schema is not None else "") or f"apiVersion: {group}{served[0]}",
        )


RULE = Rule("STK-API-010", Severity.ERROR, "The kind exists, but not in this version", check, __name__)
