"""A redis-streams trigger counts only what the workers have already read.

With `consumerGroup` and without `lagCount` the scaler asks for the pending entries: delivered to a consumer, not yet
acknowledged. A worker takes as many as it works on, so that number stays near the number of workers however long the
queue is. What waits is seen by `lagCount` (Redis 7 or newer).

Symptom: thousands of tasks wait and the number of replicas does not rise

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, pendingEntriesCount: "5"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, lagCount: "5"}

Source: kedacore/keda@v2.20.2 pkg/scalers/redis_streams_scaler.go; kedacore/keda-docs
  content/docs/2.21/scalers/redis-streams.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._streams import LAG, LENGTH, PENDING, mode, stream
from stoker.lint.rules.keda._views import STREAMS, Trigger, scaled, scales_to_zero, triggers_of
from stoker.manifests.objects import is_open


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in scaled(cluster):
        if scales_to_zero(manifest):
            continue  # there it is worse, and STK-KEDA-010 says so
        for trigger in unseen_backlogs(triggers_of(manifest)):
            yield Problem(
                manifest,
                trigger.at("metadata", "lagCount"),
                "without lagCount only what was read and not acknowledged counts: what waits is not seen (nor from 0)",
                hint='lagCount: "5", with Redis 7 or newer',
            )


def unseen_backlogs(triggers: list[Trigger]) -> Iterator[Trigger]:
    """Pending counters that no counter of what waits in the same stream stands beside."""
    streams = [each for each in triggers if each.type in STREAMS]
    for trigger in streams:
        if mode(trigger) != PENDING or is_open(trigger.manifest, trigger.metadata.get("lagCount")):
            continue
        name, group = stream(trigger)
        if not any(_sees(each, name, group) for each in streams):
            yield trigger


def _sees(trigger: Trigger, name: str, group: str) -> bool:
    if mode(trigger) == LENGTH:
        return stream(trigger)[0] == name
    return mode(trigger) == LAG and stream(trigger) == (name, group)


RULE = Rule(
    "STK-KEDA-009",
    Severity.WARNING,
    "A redis-streams trigger counts only what the workers have already read",
    check,
    __name__,
    guide=("S06", "S07"),
)
