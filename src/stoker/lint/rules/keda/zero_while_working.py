"""The workload is scaled to zero although tasks are still in work.

A counter of what waits falls to nothing when the last task is taken, not when it is done. After `cooldownPeriod` KEDA
sets the replicas to 0, whatever they are doing. A second trigger on the same stream, without `lagCount`, counts what
is in work and keeps the last ones alive.

Symptom: long generations break off some minutes after the queue has run empty

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 0
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, lagCount: "5"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 0
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, lagCount: "5"}
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, pendingEntriesCount: "5"}

Source: kedacore/keda@v2.20.2 pkg/scalers/redis_streams_scaler.go, pkg/scaling/executor/scale_scaledobjects.go,
  pkg/scalers/aws_sqs_queue_scaler.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._streams import counts_work
from stoker.lint.rules.keda._views import OF_PODS, SCALED_OBJECT, STREAMS, scaled, scales_to_zero, triggers_of
from stoker.manifests.objects import whole

COOLDOWN_S = 300


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster, SCALED_OBJECT):
        triggers = [each for each in triggers_of(manifest) if each.type not in OF_PODS]
        if not scales_to_zero(manifest) or not triggers or any(counts_work(each) is not False for each in triggers):
            continue
        cooldown = whole(manifest.get("spec", "cooldownPeriod", default=COOLDOWN_S))
        first = triggers[0]
        is_stream = first.type in STREAMS
        yield Problem(
            manifest,
            first.at("metadata", "lagCount" if is_stream else "scaleOnInFlight"),
            "only what waits is counted: "
            + (f"{cooldown} s after" if cooldown is not None else "after")
            + " the last task was taken the replicas go to 0, also those that still work",
            hint="a second trigger without lagCount on the same stream" if is_stream else 'scaleOnInFlight: "true"',
        )


RULE = Rule(
    "STK-KEDA-011", Severity.INFO, "The workload is scaled to zero although tasks are still in work", check, __name__
)
