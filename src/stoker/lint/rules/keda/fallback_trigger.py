"""A trigger is meant as the fallback of another.

KEDA asks all triggers at all times, and the one that wants the most replicas wins. None of them stands in for
another. What happens when a source can not be asked is said by `spec.fallback`: so many replicas after so many
failures.

Symptom: replicas are scaled by a queue that should only count when the other one is away

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}
      # fallback, if Prometheus is down
      - type: aws-sqs-queue
        metadata: {queueURL: "https://sqs.us-west-2.amazonaws.com/1111/chat", awsRegion: us-west-2}
        authenticationRef: {name: aws}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      fallback: {failureThreshold: 3, replicas: 4}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: kedacore/keda-docs content/docs/2.21/reference/scaledobject-spec.md (fallback),
  concepts/scaling-deployments.md
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import comment_at, scaled, triggers_of

_STANDS_IN = re.compile(r"\b(fall-?\s?backs?|back-?\s?up|stand-?in|fail-?over)\b", re.IGNORECASE)
_DENIES = re.compile(r"\b(no|not|never|without)\b|n't\b", re.IGNORECASE)


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster):
        triggers = triggers_of(manifest)
        if len(triggers) < 2 or manifest.get("spec", "fallback") is not None:
            continue  # the comment may be about that one
        if isinstance(manifest.get("spec", "advanced", "scalingModifiers", "formula"), str):
            continue
        for trigger in triggers:
            comment = comment_at(manifest, trigger.at("type"))
            is_meant = _STANDS_IN.search(comment) and not _DENIES.search(comment)
            if is_meant or _STANDS_IN.search(trigger.name):
                yield Problem(
                    manifest,
                    trigger.at("type"),
                    f"{trigger} is called a fallback, but all triggers count at all times and the largest answer wins",
                    hint="spec.fallback: {failureThreshold: 3, replicas: N}",
                )


RULE = Rule(
    "STK-KEDA-018", Severity.WARNING, "A trigger is meant as the fallback of another", check, __name__, guide=("S10",)
)
