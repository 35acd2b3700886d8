"""A comment gives another time or amount than the value beside it.

One of the two is wrong, and the cluster follows the value.

Symptom: replicas go away after five minutes, and the manifest says ten

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      advanced:
        horizontalPodAutoscalerConfig:
          behavior:
            scaleDown:
              stabilizationWindowSeconds: 300  # 10 minutes
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      advanced:
        horizontalPodAutoscalerConfig:
          behavior:
            scaleDown:
              stabilizationWindowSeconds: 600  # 10 minutes
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: Kubernetes API reference, HPAScalingRules (seconds, percent and pods)
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import HPA, scaled, text
from stoker.manifests.objects import Manifest, look, sections, whole
from stoker.spec.faults import Path

_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "eight": 8, "ten": 10, "fifteen": 15}
_WORDS |= {"twenty": 20, "thirty": 30, "sixty": 60, "an": 1}
_UNITS = {"s": 1, "m": 60, "h": 3600}
_TIME = re.compile(
    rf"(?<![\w.])(\d{{1,6}}|{'|'.join(_WORDS)})[ -]?(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)\b", re.IGNORECASE
)
_AMOUNT = {
    "Percent": re.compile(r"(?<![\w.])(\d{1,4}) ?%"),
    "Pods": re.compile(r"(?<![\w.])(\d{1,4}) (?:pods?|replicas?)\b"),
}
# A comment that compares does not say what the value is.
_COMPARES = re.compile(
    r"\b(than|was|were|instead|default\w*|over|under|above|below|plus|times|each|every \w+ing)\b|[<>+*/=~]"
)


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in (*scaled(cluster), *cluster.of(HPA, group="autoscaling")):
        if not manifest.document.comments:
            continue
        for path, unit in _places(manifest):
            value = whole(manifest.get(*path))
            comment = manifest.document.comments.get(manifest.where(path).line, "")
            said = None if value is None or _COMPARES.search(comment) else _said(comment, unit)
            if said is not None and said != value:
                unit_shown = {"s": " s", "Percent": " %", "Pods": " pods"}[unit]
                yield Problem(
                    manifest,
                    path,
                    f"{path[-1]} is {value}{unit_shown}, and the comment beside it says {said}{unit_shown}",
                    hint=f"{said}, or another comment",
                )


def _places(manifest: Manifest) -> Iterator[tuple[Path, str]]:
    for name in ("pollingInterval", "cooldownPeriod", "initialCooldownPeriod"):
        yield ("spec", name), "s"
    inside: Path = ("behavior",) if manifest.kind == HPA else ("advanced", "horizontalPodAutoscalerConfig", "behavior")
    for side in ("scaleUp", "scaleDown"):
        path: Path = ("spec", *inside, side)
        yield (*path, "stabilizationWindowSeconds"), "s"
        for i, policy in sections(manifest.get(*path, "policies")):
            yield (*path, "policies", i, "periodSeconds"), "s"
            if text(look(policy, "type")) in _AMOUNT:
                yield (*path, "policies", i, "value"), policy["type"]


def _said(comment: str, unit: str) -> int | None:
    """What the comment says in this unit, when it says one thing."""
    if unit != "s":
        found = {int(each) for each in _AMOUNT[unit].findall(comment)}
    else:
        found = {_number(n) * _UNITS[of[0].lower()] for n, of in _TIME.findall(comment)}
    return found.pop() if len(found) == 1 else None


def _number(written: str) -> int:
    return int(written) if written.isdigit() else _WORDS[written.lower()]


RULE = Rule(
    "STK-KEDA-035", Severity.WARNING, "A comment gives another time or amount than the value beside it", check, __name__
)
