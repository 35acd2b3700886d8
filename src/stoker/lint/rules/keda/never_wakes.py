"""From zero replicas this trigger can never wake the workload.

It counts what consumers have read and not acknowledged. With no replica nobody reads, so it stays at nothing, the
trigger stays inactive, and the queue grows for ever. `lagCount` counts what nobody has read: the only way from zero
for a group.

Symptom: the workload was scaled to zero once, and no task ever starts it again

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 0
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, pendingEntriesCount: "5"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 0
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, lagCount: "5", activationLagCount: "0"}
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, pendingEntriesCount: "5"}

Source: kedacore/keda-docs content/docs/2.21/scalers/redis-streams.md; kedacore/keda issues 2819, 3127, 4592
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import OF_PODS, STREAMS, scaled, scales_to_zero, triggers_of
from stoker.lint.rules.keda.pending_only import unseen_backlogs


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster):
        if not scales_to_zero(manifest):
            continue
        triggers = triggers_of(manifest)
        others = [each for each in triggers if each.type not in (*STREAMS, *OF_PODS)]
        for trigger in unseen_backlogs(triggers):
            yield Problem(
                manifest,
                trigger.at("metadata", "lagCount"),
                "without lagCount only what was read is counted, and with 0 replicas nobody reads: it never wakes"
                + (" by this trigger" if others else ""),
                hint='lagCount: "5" (Redis 7 or newer), or minReplicaCount: 1',
                severity=Severity.WARNING if others else None,
            )


RULE = Rule(
    "STK-KEDA-010",
    Severity.ERROR,
    "From zero replicas this trigger can never wake the workload",
    check,
    __name__,
    guide=("S07",),
)
