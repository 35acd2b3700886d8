"""The id of a resource cannot be used in expressions.

Ids are names in CEL: a letter, then letters and digits, beginning small (lowerCamelCase). A dash would be a minus. Some
words are taken.

Symptom: ResourceGraphDefinition is Inactive: naming convention violation: id model-bucket is not valid

Wrong:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string}}
      resources:
      - id: model-bucket
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}

Right:

    apiVersion: kro.run/v1alpha1
    kind: ResourceGraphDefinition
    metadata: {name: stack}
    spec:
      schema: {apiVersion: v1alpha1, kind: Stack, spec: {name: string}}
      resources:
      - id: modelBucket
        template:
          apiVersion: v1
          kind: ConfigMap
          metadata: {name: "${schema.spec.name}"}

Source: kubernetes-sigs/kro@v0.9.3 pkg/graph/validation.go
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.kro._graphs import graphs

_ID = re.compile(r"[a-z][A-Za-z0-9]*", re.ASCII)
_WORDS = """
apiVersion context dependency dependencies each externalRef externalReference externalRefs externalReferences graph
graphengine instance item items kind kro metadata namespace object resource resourceGraphDefinition
resourcegraphdefinition resources root runtime schema self serviceAccountName spec status this variables vars version
true false null in as break const continue else for function if import let loop package return var void while
"""
_TAKEN = frozenset(_WORDS.split())


def check(cluster: Cluster) -> Iterator[Problem]:
    for graph in graphs(cluster):
        seen = set()
        for resource in graph.resources:
            name, path = resource.id, (*resource.path, "id")
            if name and not _ID.fullmatch(name):
                yield Problem(
                    graph.manifest,
                    path,
                    f"the id {name} is no name that an expression can use, and the graph stays Inactive",
                    hint=_camel(name),
                )
            elif name in _TAKEN:
                yield Problem(graph.manifest, path, f"the id {name} is a word of kro or CEL", hint=f"{name}Object")
            elif name in seen:
                yield Problem(graph.manifest, path, f"a second resource {name}", hint="another id")
            seen.add(name)


def _camel(name: str) -> str:
    words = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]
    return "".join(
        [word[:1].lower() + word[1:] if i == 0 else word[:1].upper() + word[1:] for i, word in enumerate(words)]
    )


RULE = Rule("STK-KRO-012", Severity.ERROR, "The id of a resource cannot be used in expressions", check, __name__)
