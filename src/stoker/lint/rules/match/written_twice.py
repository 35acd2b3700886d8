"""The same object is written twice.

Same kind, same name, same namespace: the one that is applied last replaces the other, without a word.

Symptom: a change has no effect, or comes and goes with the order of the files

Wrong:

    apiVersion: v1
    kind: ConfigMap
    metadata: {name: settings, namespace: ai}
    data: {MODEL: llama}
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: settings, namespace: ai}
    data: {MODEL: mistral}

Right:

    apiVersion: v1
    kind: ConfigMap
    metadata: {name: settings, namespace: ai}
    data: {MODEL: llama}
    ---
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: drafts, namespace: ai}
    data: {MODEL: mistral}

Source: Kubernetes documentation, Object Names and IDs
"""

from collections import defaultdict
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._names import named, place


def check(cluster: Cluster) -> Iterator[Problem]:
    found = defaultdict(list)
    for manifest in named(cluster):
        # In different folders the same name is the rule: bases, overlays, one folder a stage.
        found[place(manifest), manifest.group, manifest.kind, manifest.namespace, manifest.name].append(manifest)
    for same in found.values():
        for each in same[1:]:
            first = same[0].document
            line = same[0].where(()).line
            where = f"line {line}" if first.file == each.document.file else f"{first.file}:{line}"
            yield Problem(
                each,
                ("metadata", "name"),
                f"{each} is written before, at {where}: what is applied last replaces the other",
                hint="another name, or one of the two",
                # Files side by side may be for clusters of their own.
                severity=None if first.file == each.document.file else Severity.INFO,
            )


RULE = Rule("STK-MATCH-034", Severity.WARNING, "The same object is written twice", check, __name__)
