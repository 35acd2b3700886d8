"""A field that the schema declares and nothing reads.

Whoever makes an instance fills it in and believes that it does something.

Symptom: gpuType was set to a larger one, and the pods are where they were

Wrong:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema:
        apiVersion: v1alpha1
        kind: Stack
        spec:
          name: string
          gpuType: string | default="g5.xlarge"
      resources:
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}

Right:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema:
        apiVersion: v1alpha1
        kind: Stack
        spec:
          name: string
          gpuType: string | default="g5.xlarge"
      resources:
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}
          data: {type: "${schema.spec.gpuType}"}

Source: guide-errors S22
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.kro._graphs import graphs


def check(cluster: Cluster) -> Iterator[Problem]:
    for graph in graphs(cluster):
        used = [
            _names(each.fields[1:]) for each in graph.reads if each.root == "schema" and each.fields[:1] == ("spec",)
        ]
        whole = () in used or any(each.root == "schema" and not each.fields for each in graph.reads)
        if whole or not graph.resources:
            continue
        for path in graph.fields:
            if not any(path[: len(each)] == each[: len(path)] for each in used):
                yield Problem(
                    graph.manifest,
                    ("spec", "schema", "spec", *path),
                    f"nothing reads {'.'.join(path)}: what an instance says there has no effect",
                    hint=f"${{schema.spec.{'.'.join(path)}}} where it is meant, or leave it out",
                    key=True,
                )


def _names(fields: tuple[str | int, ...]) -> tuple[str, ...]:
    return tuple(each.removeprefix("?") for each in fields if isinstance(each, str))


RULE = Rule(
    "STK-KRO-006",
    Severity.WARNING,
    "A field that the schema declares and nothing reads",
    check,
    __name__,
    guide=("S22",),
)
