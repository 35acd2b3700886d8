"""A field of the schema is declared in a way that kro does not read.

A declaration is a text: a type, then after `|` what limits it. The type is string, integer, boolean, float or object, a
list `[]type`, a map `map[string]type`, or one from `types`. A default must be of the type.

Symptom: ResourceGraphDefinition is Inactive: failed to build OpenAPI schema: unknown type int

Wrong:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string, least: 'integer | default="one"'}}
      resources:
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}
          data: {least: "${string(schema.spec.least)}"}

Right:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string, least: integer | default=1}}
      resources:
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}
          data: {least: "${string(schema.spec.least)}"}

Source: kubernetes-sigs/kro@v0.9.3 website/docs: simple schema
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.kro._graphs import Graph, graphs
from stoker.lint.rules.kro._simple_schema import BUILT_IN, Leaf, element, text_fits, unquoted
from stoker.spec.faults import Path

_MEANT = {"int": "integer", "str": "string", "bool": "boolean", "double": "float", "text": "string", "list": "[]string"}


def check(cluster: Cluster) -> Iterator[Problem]:
    for graph in graphs(cluster):
        for path, field in graph.fields.items():
            yield from _field(graph, ("spec", "schema", "spec", *path), field)


def _field(graph: Graph, path: Path, field: Leaf) -> Iterator[Problem]:
    name = path[-1]
    if not field.type:
        yield Problem(
            graph.manifest,
            path,
            f"{name} is not declared as a text with a type, and the graph stays Inactive",
            hint=f"{name}: string, or {name}: integer | default=1",
        )
        return
    kind = element(field.type)
    if kind not in BUILT_IN and kind not in graph.types:
        meant = _MEANT.get(kind.lower())
        yield Problem(
            graph.manifest,
            path,
            f"{name}: there is no type {kind}, and the graph stays Inactive",
            hint=meant or f"{', '.join(BUILT_IN)}, or a type from spec.schema.types",
        )
        return
    default = field.markers.get("default")
    if default is not None and not text_fits(field.type, default):
        yield Problem(
            graph.manifest,
            path,
            f"{name}: the default {default} is no {field.type}, and the graph stays Inactive",
            hint=f"a default that is a {field.type}",
        )
    elif default is not None and field.enum and field.type == "string" and unquoted(default) not in field.enum:
        yield Problem(
            graph.manifest,
            path,
            f"{name}: the default {default} is none of its values",
            hint=f"one of: {', '.join(field.enum)}",
        )


RULE = Rule(
    "STK-KRO-011",
    Severity.ERROR,
    "A field of the schema is declared in a way that kro does not read",
    check,
    __name__,
)
