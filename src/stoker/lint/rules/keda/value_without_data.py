"""A CloudWatch trigger reports a number when there is no data.

`minMetricValue` is what the scaler answers while CloudWatch has no datapoint (with `ignoreNullValues`, which is the
default). It is no lower bound of the metric. Over the activation value it keeps a workload that nobody uses from
going to zero; over the target it scales up because nothing is known.

Symptom: the workload never goes to zero although there is no traffic at all

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 0
      triggers:
      - type: aws-cloudwatch
        metadata:
          {namespace: Chat, metricName: Waiting, dimensionName: Model, dimensionValue: chat,
           targetMetricValue: "20", minMetricValue: "5", awsRegion: us-west-2}
        authenticationRef: {name: aws}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 0
      triggers:
      - type: aws-cloudwatch
        metadata:
          {namespace: Chat, metricName: Waiting, dimensionName: Model, dimensionValue: chat,
           targetMetricValue: "20", minMetricValue: "0", awsRegion: us-west-2}
        authenticationRef: {name: aws}

Source: kedacore/keda@v2.20.2 pkg/scalers/aws_cloudwatch_scaler.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import Trigger, number, scales_to_zero, triggers


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster, "aws-cloudwatch"):
        told = _number(trigger, "minMetricValue")
        if told is None or told <= 0 or trigger.metadata.get("ignoreNullValues", "true").strip().lower() == "false":
            continue
        target, activation = _number(trigger, "targetMetricValue"), _number(trigger, "activationTargetMetricValue") or 0
        severity = Severity.WARNING
        if target is not None and told >= target:
            does = f"which reaches the target {target:g} and scales up"
        elif told > activation and scales_to_zero(trigger.manifest):
            does = "so it never goes to zero"
        else:
            does, severity = "as if it had been measured", Severity.INFO
        yield Problem(
            trigger.manifest,
            trigger.at("metadata", "minMetricValue"),
            f"while CloudWatch has no data, {told:g} is reported, {does}",
            hint='minMetricValue: "0"',
            severity=severity,
        )


def _number(trigger: Trigger, name: str) -> float | None:
    value = trigger.metadata.get(name)
    return None if value is None else number(value)


RULE = Rule(
    "STK-KEDA-017",
    Severity.WARNING,
    "A CloudWatch trigger reports a number when there is no data",
    check,
    __name__,
    guide=("S09",),
)
