"""A CloudWatch trigger says p95 and reads the average.

`metricStat` is Average where it is not written. A percentile has to be asked for: `metricStat: p95`. The average of
latencies stays low while one request in twenty waits.

Symptom: p95 is far over the target in the dashboard, and nothing is scaled

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: aws-cloudwatch
        metricType: Value
        metadata:
          namespace: Chat
          metricName: Latency
          dimensionName: Model
          dimensionValue: chat
          targetMetricValue: "2000"  # p95 in ms
          minMetricValue: "0"
          awsRegion: us-west-2
        authenticationRef: {name: aws}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: aws-cloudwatch
        metricType: Value
        metadata:
          namespace: Chat
          metricName: Latency
          metricStat: p95
          dimensionName: Model
          dimensionValue: chat
          targetMetricValue: "2000"  # p95 in ms
          minMetricValue: "0"
          awsRegion: us-west-2
        authenticationRef: {name: aws}

Source: kedacore/keda-docs content/docs/2.21/scalers/aws-cloudwatch.md; kedacore/keda@v2.20.2
  pkg/scalers/aws_cloudwatch_scaler.go
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import Trigger, comment_above, comment_at, triggers

_PERCENTILE = re.compile(r"(?<![a-z0-9])p-?(\d{2}(?:\.\d+)?)(?![0-9a-z])|(\d{2})th percentile", re.IGNORECASE)


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster, "aws-cloudwatch"):
        said = _PERCENTILE.search(_words(trigger))
        if said and trigger.metadata.get("metricStat", "Average") == "Average" and "expression" not in trigger.metadata:
            stat = f"p{said[1] or said[2]}"
            yield Problem(
                trigger.manifest,
                trigger.at("metadata", "metricStat"),
                f"{stat} is meant, and metricStat is Average: the average is read",
                hint=f"metricStat: {stat}",
            )


def _words(trigger: Trigger) -> str:
    names = [trigger.metadata.get("metricName", ""), trigger.name, comment_above(trigger.manifest, trigger.path)]
    return " ".join([*names, *(comment_at(trigger.manifest, trigger.at("metadata", key)) for key in trigger.metadata)])


RULE = Rule(
    "STK-KEDA-016",
    Severity.WARNING,
    "A CloudWatch trigger says a percentile and reads the average",
    check,
    __name__,
    guide=("S09",),
)
