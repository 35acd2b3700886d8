"""A CloudWatch trigger has a period that does not exist, or a window that is no multiple of it.

`metricStatPeriod` is 1, 5, 10, 30 or a multiple of 60 seconds, and `metricCollectionTime`, which reaches back from
now, has to be a multiple of it. Both are 300 where they are not written.

Symptom: KEDAScalerFailed: metricCollectionTime must be greater than 0 and a multiple of metricStatPeriod

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: aws-cloudwatch
        metadata:
          {namespace: Chat, metricName: Waiting, dimensionName: Model, dimensionValue: chat, metricCollectionTime: "60",
           targetMetricValue: "20", minMetricValue: "0", awsRegion: us-west-2}
        authenticationRef: {name: aws}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: aws-cloudwatch
        metadata:
          {namespace: Chat, metricName: Waiting, dimensionName: Model, dimensionValue: chat, metricCollectionTime: "60",
           metricStatPeriod: "60", targetMetricValue: "20", minMetricValue: "0", awsRegion: us-west-2}
        authenticationRef: {name: aws}

Source: kedacore/keda@v2.20.2 pkg/scalers/aws_cloudwatch_scaler.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import Trigger, triggers

_SHORT = (1, 5, 10, 30)
_DEFAULT = "300"


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster, "aws-cloudwatch"):
        period, window = _seconds(trigger, "metricStatPeriod"), _seconds(trigger, "metricCollectionTime")
        if period is None or window is None:
            continue
        if period not in _SHORT and (period % 60 or period == 0):
            told = f"metricStatPeriod {period} s does not exist in CloudWatch: the scaler can not be built"
            right = "1, 5, 10, 30 or a multiple of 60"
            yield Problem(trigger.manifest, _path(trigger, "metricStatPeriod"), told, hint=right)
        elif window % period:
            name = "metricCollectionTime" if "metricCollectionTime" in trigger.metadata else "metricStatPeriod"
            told = f"metricCollectionTime {window} s is no multiple of metricStatPeriod {period} s: no scaler is built"
            yield Problem(trigger.manifest, _path(trigger, name), told, hint=f'metricStatPeriod: "{_fitting(window)}"')


def _path(trigger: Trigger, name: str) -> tuple[str | int, ...]:
    return trigger.at("metadata", name)


def _seconds(trigger: Trigger, name: str) -> int | None:
    value = trigger.metadata.get(name, _DEFAULT).strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _fitting(window: int) -> int:
    return next((period for period in (300, 60, 30, 10, 5) if window % period == 0), 1)


RULE = Rule("STK-KEDA-034", Severity.ERROR, "A CloudWatch trigger has a period that does not exist", check, __name__)
