"""Nothing says how many replicas to have when the metric can not be read.

While a source can not be asked, the HPA leaves the number as it is: what ran at three in the morning also runs in the
rush. `fallback` gives a number for that time.

Symptom: Redis was away for an hour and the replicas stayed at one

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

Source: kedacore/keda-docs content/docs/2.21/reference/scaledobject-spec.md (fallback)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import OF_PODS, SCALED_OBJECT, scaled, triggers_of

NEVER_FAIL = (*OF_PODS, "cron", "kubernetes-workload")


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster, SCALED_OBJECT):
        asked = [trigger for trigger in triggers_of(manifest) if trigger.type and trigger.type not in NEVER_FAIL]
        if asked and manifest.get("spec", "fallback") is None:
            yield Problem(
                manifest,
                ("spec", "fallback"),
                f"no fallback: while {asked[0]} can not be asked, the number of replicas stays as it is",
                hint="fallback: {failureThreshold: 3, replicas: N}",
            )


RULE = Rule(
    "STK-KEDA-019",
    Severity.INFO,
    "Nothing says how many replicas to have when the metric can not be read",
    check,
    __name__,
)
