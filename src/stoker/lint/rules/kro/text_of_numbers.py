"""A text is put together from what is no text.

An expression that is all of a value may be of any type. One beside other text, or beside another expression, has to
give text: kro refuses a number there when the graph is created.

Symptom: ResourceGraphDefinition is Inactive: the expression returns int, expected string

Wrong:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string, shards: integer | default=1}}
      resources:
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}-${schema.spec.shards}"}

Right:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string, shards: integer | default=1}}
      resources:
      - id: config
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}-${string(schema.spec.shards)}"}

Source: kubernetes-sigs/kro website/docs/docs/concepts/rgd/03-cel-expressions.md: string templates
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.kro._graphs import Graph, expressions, graphs

_PREFIX = "schema.spec."


def check(cluster: Cluster) -> Iterator[Problem]:
    for graph in graphs(cluster):
        for resource in graph.resources:
            places = {(id(read.manifest), read.path): read for read in resource.reads if read.root == "schema"}
            for read in places.values():
                text = read.manifest.get(*read.path)
                for expression, kind in _not_text(graph, text) if isinstance(text, str) else ():
                    yield Problem(
                        read.manifest,
                        read.path,
                        f"{expression} is a {kind}, and stands in a text: the graph stays Inactive",
                        hint=f"${{string({expression})}}",
                    )


def _not_text(graph: Graph, text: str) -> Iterator[tuple[str, str]]:
    """The plain fields of the schema in a text of several parts that are declared as numbers or truths."""
    found = list(expressions(text))
    if len(found) == 1 and text == f"${{{found[0]}}}":
        return
    for each in dict.fromkeys(found):
        name = each.strip()
        path = tuple(name.removeprefix(_PREFIX).split("."))
        kind = graph.fields[path].type if name.startswith(_PREFIX) and path in graph.fields else ""
        if kind in ("integer", "float", "boolean"):
            yield name, kind


RULE = Rule("STK-KRO-013", Severity.ERROR, "A text is put together from what is no text", check, __name__)
