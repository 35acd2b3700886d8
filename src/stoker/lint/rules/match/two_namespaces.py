"""Two objects have the same kind and name, and one of them names no namespace.

The one without goes where kubectl happens to point. In the namespace of the other it replaces it; anywhere else there
are two.

Symptom: a Deployment shows up twice, or the wrong one is changed

Wrong:

    apiVersion: v1
    kind: ConfigMap
    metadata: {name: settings, namespace: ai}
    data: {MODEL: llama}
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: settings}
    data: {MODEL: mistral}

Right:

    apiVersion: v1
    kind: ConfigMap
    metadata: {name: settings, namespace: ai}
    data: {MODEL: llama}
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: settings, namespace: drafts}
    data: {MODEL: mistral}

Source: Kubernetes documentation, Namespaces
"""

from collections import defaultdict
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._names import named, place


def check(cluster: Cluster) -> Iterator[Problem]:
    found = defaultdict(list)
    for manifest in named(cluster):
        found[place(manifest), manifest.group, manifest.kind, manifest.name].append(manifest)
    for same in found.values():
        without = [each for each in same if not each.namespace]
        others = sorted({each.namespace for each in same if each.namespace})
        for each in without if others else ():
            yield Problem(
                each,
                ("metadata", "namespace"),
                f"{each} names no namespace, and there is another of this name in {', '.join(others)}: it replaces "
                "that one, or is a second one, as kubectl happens to point",
                hint=f"namespace: {others[0]}, or another",
            )


RULE = Rule(
    "STK-MATCH-035", Severity.INFO, "Same kind and name, with and without a namespace", check, __name__, guide=("E11",)
)
