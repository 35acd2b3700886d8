"""An expression reads a field that the schema of the graph does not declare.

What an instance may say is what `schema.spec` declares. An expression on anything else does not compile, and the graph
stays Inactive.

Symptom: ResourceGraphDefinition is Inactive: undefined field 'modelname'

Wrong:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {modelName: string}}
      resources:
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.modelName}"}
          data: {model: "${schema.spec.modelname}"}

Right:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {modelName: string}}
      resources:
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.modelName}"}
          data: {model: "${schema.spec.modelName}"}

Source: kubernetes-sigs/kro@v0.9.3 website/docs: simple schema
"""

import difflib
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.kro._graphs import Graph, Reference, graphs
from stoker.lint.rules.kro._simple_schema import BUILT_IN


def check(cluster: Cluster) -> Iterator[Problem]:
    for graph in graphs(cluster):
        for reference in graph.reads:
            if reference.root == "schema" and reference.fields[:1] == ("spec",) and len(reference.fields) > 1:
                name = _undeclared(graph, reference)
                if name:
                    known = sorted(".".join(path) for path in graph.fields)
                    near = difflib.get_close_matches(name, known, 1)
                    yield Problem(
                        reference.manifest,
                        reference.path,
                        f"{reference}: the schema declares no {name}, and the graph stays Inactive",
                        hint=f"schema.spec.{near[0]}" if near else f"{name}: string, in spec.schema.spec",
                    )


def _undeclared(graph: Graph, reference: Reference) -> str:
    """The field that is not declared; empty where all is, or where it is in a type of one's own or a free object."""
    fields = reference.fields[1:-1] if reference.is_optional else reference.fields[1:]
    for i in range(1, len(fields) + 1):
        path = tuple(each for each in fields[:i] if isinstance(each, str))
        if path in graph.fields:
            kind = graph.fields[path].type
            rest = [each for each in fields[i:] if isinstance(each, str)]
            return ".".join([*path, *rest]) if rest and kind in BUILT_IN[:-1] else ""
        if not any(declared[: len(path)] == path for declared in graph.fields):
            return ".".join(path)
    return ""


RULE = Rule(
    "STK-KRO-005",
    Severity.ERROR,
    "An expression reads a field that the schema of the graph does not declare",
    check,
    __name__,
)
