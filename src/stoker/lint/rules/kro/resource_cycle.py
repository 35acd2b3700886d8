"""Resources of a graph need one another.

kro makes a resource when all that its template reads is there. Two that read one another are never made; kro refuses
the graph.

Symptom: ResourceGraphDefinition is Inactive: graph contains a cycle

Wrong:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string}}
      resources:
      - id: one
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}-1"}
          data: {other: "${two.metadata.name}"}
      - id: two
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}-2"}
          data: {other: "${one.metadata.name}"}

Right:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string}}
      resources:
      - id: one
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}-1"}
      - id: two
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}-2"}
          data: {other: "${one.metadata.name}"}

Source: kubernetes-sigs/kro@v0.9.3 website/docs: dependencies and ordering
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.kro._graphs import graphs


def check(cluster: Cluster) -> Iterator[Problem]:
    for graph in graphs(cluster):
        needs = {
            each.id: {read.root for read in each.reads} & graph.by_id.keys() for each in graph.resources if each.id
        }
        said: set[str] = set()
        for resource in graph.resources:
            for read in resource.reads:
                if read.root in needs and resource.id not in said and resource.id in _all(read.root, needs):
                    said |= _all(resource.id, needs)
                    other = "itself" if read.root == resource.id else read.root
                    yield Problem(
                        read.manifest,
                        read.path,
                        f"{resource.id} reads {other}"
                        + ("" if other == "itself" else f", which needs {resource.id} before")
                        + ": neither is made",
                        hint="schema.spec, where both can read it",
                    )


def _all(start: str, needs: dict[str, set[str]]) -> set[str]:
    """What a resource needs, it and all behind it included."""
    found: set[str] = set()
    ahead = [start]
    while ahead:
        each = ahead.pop()
        if each not in found:
            found.add(each)
            ahead += needs.get(each, ())
    return found


RULE = Rule("STK-KRO-008", Severity.ERROR, "Resources of a graph need one another", check, __name__)
