"""A CloudWatch trigger does not say which metric it reads.

A metric of CloudWatch is known by its namespace, its name and its dimensions. The aws-cloudwatch scaler wants all of
them, names and values of dimensions in the same number (several are separated by `;`), or an `expression` (Metrics
Insights) in their place.

Symptom: KEDAScalerFailed: dimension name not given
Symptom: the ScaledObject is never ready, though its other triggers are right

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
          {namespace: Chat, metricName: Waiting, targetMetricValue: "10", minMetricValue: "0", awsRegion: us-west-2}
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
          {namespace: Chat, metricName: Waiting, dimensionName: Model, dimensionValue: chat,
           targetMetricValue: "10", minMetricValue: "0", awsRegion: us-west-2}
        authenticationRef: {name: aws}

Source: kedacore/keda@v2.20.2 pkg/scalers/aws_cloudwatch_scaler.go; kedacore/keda-docs
  content/docs/2.21/scalers/aws-cloudwatch.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import Trigger, triggers
from stoker.manifests.objects import is_open

NEEDED = ("namespace", "metricName", "dimensionName", "dimensionValue")


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster, "aws-cloudwatch"):
        if not trigger.metadata.get("expression"):
            yield from _judged(trigger)


def _judged(trigger: Trigger) -> Iterator[Problem]:
    missing = [name for name in NEEDED if not trigger.metadata.get(name)]
    if missing:
        yield Problem(
            trigger.manifest,
            trigger.at("metadata", missing[0]),
            f"aws-cloudwatch has no {', no '.join(missing)} and no expression: the scaler can not be built",
            hint=" and ".join(missing) + ", or an expression",
        )
        return
    names, values = (trigger.metadata[name] for name in NEEDED[2:])
    if any(is_open(trigger.manifest, each) for each in (names, values)):
        return
    n, m = len(names.split(";")), len(values.split(";"))
    if n != m:
        yield Problem(
            trigger.manifest,
            trigger.at("metadata", "dimensionValue"),
            f"{n} names of dimensions and {m} values: the scaler can not be built",
            hint="as many values as names, separated by ;",
        )


RULE = Rule(
    "STK-KEDA-004",
    Severity.ERROR,
    "A CloudWatch trigger does not say which metric it reads",
    check,
    __name__,
    guide=("R05",),
)
