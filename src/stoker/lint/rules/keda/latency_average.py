"""A latency is divided by the number of replicas.

Without `metricType` a trigger is an AverageValue: the HPA takes metric / target as the number of replicas, which is
right for a sum, such as the length of a queue. A latency is no sum. 4 s against a target of 2 s gives two replicas
however many there are now, and when these are enough the answer stays two. With `metricType: Value` the present
number is multiplied by metric / target.

Symptom: latency is twice the target, and the HPA removes replicas

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      triggers:
      - type: prometheus
        metadata:
          serverAddress: http://prometheus:9090
          query: histogram_quantile(0.95, sum by (le) (rate(request_seconds_bucket[2m])))
          threshold: "2"

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      triggers:
      - type: prometheus
        metricType: Value
        metadata:
          serverAddress: http://prometheus:9090
          query: histogram_quantile(0.95, sum by (le) (rate(request_seconds_bucket[2m])))
          threshold: "2"

Source: kedacore/keda-docs content/docs/2.21/concepts/scaling-deployments.md (metricType); Kubernetes
  pkg/controller/podautoscaler/replica_calculator.go
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import SCALED_OBJECT, Trigger, scaled, triggers_of

_SAYS_WHICH = ("metricName", "metricsQueryName", "valueLocation", "name")
_QUERIES = ("query", "expression", "nrql", "metricAggregationType")
_LATENCY = re.compile(
    r"latenc|response_?-?time|time_?-?to_?-?first|time_?-?per_?-?output|\bttft\b|\btpot\b|duration|(?<![a-z0-9])p(50|75|90|95|99)(?![0-9])",
    re.IGNORECASE,
)
_QUANTILE = re.compile(r"\b(histogram_quantile|quantile|percentile)\w*\s*\(", re.IGNORECASE)


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster, SCALED_OBJECT):
        if isinstance(manifest.get("spec", "advanced", "scalingModifiers", "formula"), str):
            continue  # there the type of the whole counts
        for trigger in triggers_of(manifest):
            if trigger.metric_type != "AverageValue" or trigger.metadata.get("metricStat") in ("Sum", "SampleCount"):
                continue
            what = _latency(trigger)
            if what:
                yield Problem(
                    manifest,
                    trigger.at("metricType"),
                    f"{what} is a latency, and as AverageValue it gives latency / target replicas, whatever the load",
                    hint="metricType: Value",
                )


def _latency(trigger: Trigger) -> str:
    for name in _SAYS_WHICH:
        value = trigger.metadata.get(name, "")
        # A count or a sum of latencies is a sum after all.
        if _LATENCY.search(value) and not re.search(r"(count|sum|total)$", value, re.IGNORECASE):
            return value
    for name in _QUERIES:
        if _QUANTILE.search(trigger.metadata.get(name, "")):
            return f"the {name} of {trigger}"
    return ""


RULE = Rule(
    "STK-KEDA-015",
    Severity.WARNING,
    "A latency is divided by the number of replicas",
    check,
    __name__,
    guide=("S09",),
)
