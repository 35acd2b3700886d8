"""A CloudWatch namespace is perhaps misspelt.

A namespace of CloudWatch comes into being by being written to, so a misspelt one is not refused: it is just empty, or
the one thing that everybody has to misspell alike. It differs by one letter from a word that is used otherwise.

Symptom: the metric is in CloudWatch, and KEDA reads nothing

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat, namespace: agentic-ai}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: aws-cloudwatch
        metadata:
          {namespace: AgenicAI, metricName: Waiting, dimensionName: Model, dimensionValue: chat,
           targetMetricValue: "20", minMetricValue: "0", awsRegion: us-west-2}
        authenticationRef: {name: aws}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat, namespace: agentic-ai}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: aws-cloudwatch
        metadata:
          {namespace: AgenticAI, metricName: Waiting, dimensionName: Model, dimensionValue: chat,
           targetMetricValue: "20", minMetricValue: "0", awsRegion: us-west-2}
        authenticationRef: {name: aws}

Source: Amazon CloudWatch user guide, Metrics concepts (namespaces)
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import text, triggers
from stoker.manifests.objects import Manifest, sections
from stoker.spec.faults import Path

SHORTEST = 6
"""Shorter words are near each other by chance."""
_USUAL = ("agentic", "inference", "training", "platform", "production", "serving", "gateway", "cluster", "embedding")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_OF_METRICS = re.compile(r"(CLOUDWATCH|METRICS?)_?NAMESPACE$", re.IGNORECASE)


def check(cluster: Cluster) -> Iterator[Problem]:
    places = list(_places(cluster))
    if not places:
        return
    known = {word: word for word in _USUAL} | _words(cluster)
    for manifest, path, namespace in places:
        for word in (*namespace.split("/"), *_PARTS.findall(namespace)):
            near = _nearest(_plain(word), known)
            if near:
                told = f"the CloudWatch namespace {namespace} has {word}, and {near} is what is used otherwise"
                yield Problem(manifest, path, told, hint="the same spelling wherever the metric is written and read")
                break


def _places(cluster: Cluster) -> Iterator[tuple[Manifest, Path, str]]:
    for trigger in triggers(cluster, "aws-cloudwatch"):
        if trigger.metadata.get("namespace"):
            yield trigger.manifest, trigger.at("metadata", "namespace"), trigger.metadata["namespace"]
    for workload in cluster.workloads:
        for path, container in workload.containers(init=True):
            for i, each in sections(container.get("env")):
                if _OF_METRICS.search(text(each.get("name"))) and text(each.get("value")):
                    yield workload.manifest, (*path, "env", i, "value"), each["value"]


def _words(cluster: Cluster) -> dict[str, str]:
    """Names and namespaces of all objects: without dashes and capitals -> as written."""
    names = {each for manifest in cluster.manifests for each in (manifest.name, manifest.namespace) if each}
    return {_plain(name): name for name in sorted(names) if len(_plain(name)) >= SHORTEST}


def _plain(word: str) -> str:
    return re.sub(r"[^a-z]", "", word.lower())


def _nearest(word: str, known: dict[str, str]) -> str:
    if len(word) < SHORTEST or word in known:
        return ""
    return next((known[each] for each in known if _is_one_edit_away(word, each)), "")


def _is_one_edit_away(a: str, b: str) -> bool:
    """One letter more, less or other; a plural is no mistake."""
    if abs(len(a) - len(b)) > 1 or a.rstrip("s") == b.rstrip("s"):
        return False
    short, long = sorted((a, b), key=len)
    at = next((i for i, letter in enumerate(short) if letter != long[i]), len(short))
    return short[at:] == long[at + 1 :] or (len(a) == len(b) and a[at + 1 :] == b[at + 1 :])


RULE = Rule(
    "STK-KEDA-038", Severity.INFO, "A CloudWatch namespace is perhaps misspelt", check, __name__, guide=("W11",)
)
