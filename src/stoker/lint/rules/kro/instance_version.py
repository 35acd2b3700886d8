"""An instance of a graph does not name its group and version.

`schema.apiVersion` of a graph is a version only; its instances write group and version. The group is kro.run unless the
graph says another.

Symptom: no matches for kind "Stack" in version "v1alpha1"

Wrong:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string}}
      resources:
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}
    ---
    apiVersion: v1alpha1
    kind: Stack
    metadata: {name: a}
    spec: {name: a}

Right:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string}}
      resources:
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}
    ---
    apiVersion: kro.run/v1alpha1
    kind: Stack
    metadata: {name: a}
    spec: {name: a}

Source: kubernetes-sigs/kro@v0.9.3 website/docs: ResourceGraphDefinition schema
Source: guide-errors E25
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.kro._graphs import graphs, instances
from stoker.manifests.edits import Replace

_NO_GROUP = re.compile(r"v\d+(?:alpha|beta)\d+", re.ASCII)


def check(cluster: Cluster) -> Iterator[Problem]:
    known = set()
    for graph in graphs(cluster):
        for manifest in instances(cluster, graph):
            known.add(id(manifest))
            if graph.api_version and manifest.api_version != graph.api_version:
                yield Problem(
                    manifest,
                    ("apiVersion",),
                    f"{manifest.kind} is of {graph.api_version}, not of {manifest.api_version}: no cluster knows it",
                    hint=f"apiVersion: {graph.api_version}",
                    edits=(Replace(("apiVersion",), graph.api_version),),
                )
    for manifest in cluster.manifests:
        if _NO_GROUP.fullmatch(manifest.api_version) and id(manifest) not in known:
            yield Problem(
                manifest,
                ("apiVersion",),
                f"{manifest.api_version} has no group: only v1, of the core kinds, has none",
                hint=f"the group of {manifest.kind}, a slash, and {manifest.api_version}"
                f" (kro.run/{manifest.api_version} for an instance of a kro graph)",
            )


RULE = Rule(
    "STK-KRO-003",
    Severity.ERROR,
    "An instance of a graph does not name its group and version",
    check,
    __name__,
    guide=("E25",),
)
