"""An expression reads a resource that the graph does not have.

Expressions name resources by their id, not by the name or kind of their object. With an unknown one the graph stays
Inactive.

Symptom: ResourceGraphDefinition is Inactive: references to unknown resources: [deployment]

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
          data: {server: "${deployment.metadata.name}"}

Right:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string}}
      resources:
      - id: account
        template:
          apiVersion: v1
          kind: ServiceAccount
          metadata: {name: "${schema.spec.name}"}
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}
          data: {server: "${account.metadata.name}"}

Source: kubernetes-sigs/kro@v0.9.3 website/docs: expressions
"""

import difflib
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.kro._graphs import RESOURCE_PARTS, graphs


def check(cluster: Cluster) -> Iterator[Problem]:
    for graph in graphs(cluster):
        names = graph.names
        for reference in graph.reads:
            if reference.root in names or not reference.fields or reference.fields[0] not in RESOURCE_PARTS:
                continue
            near = difflib.get_close_matches(reference.root, list(graph.by_id), 1)
            yield Problem(
                reference.manifest,
                reference.path,
                f"{reference}: no resource has the id {reference.root}, and the graph stays Inactive",
                hint=near[0] if near else f"one of: {', '.join(graph.by_id)}",
            )


RULE = Rule(
    "STK-KRO-007", Severity.ERROR, "An expression reads a resource that the graph does not have", check, __name__
)
