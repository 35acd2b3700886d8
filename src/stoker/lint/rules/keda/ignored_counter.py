"""A redis-streams trigger has a threshold that its mode does not use.

What the scaler counts depends on two parameters alone. With `consumerGroup` and `lagCount` it is what the group has
not read yet, held against `lagCount`. With `consumerGroup` alone it is what was read and not acknowledged, against
`pendingEntriesCount`. Without a group it is the length of the stream, against `streamLength`. Each of the other
thresholds is ignored without a word.

Symptom: streamLength is set to 10, the stream holds 1000 entries, and nothing is scaled

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      minReplicaCount: 1
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, lagCount: "5", streamLength: "10"}

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

Source: kedacore/keda@v2.20.2 pkg/scalers/redis_streams_scaler.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._streams import LAG, LENGTH, PENDING, THRESHOLDS, mode
from stoker.lint.rules.keda._views import STREAMS, triggers
from stoker.manifests.edits import Remove

_COUNTS = {
    LAG: "only what the group has not read yet is counted, against lagCount",
    PENDING: "without lagCount only what was read and not acknowledged is counted, against pendingEntriesCount",
    LENGTH: "without consumerGroup the length of the stream is counted, against streamLength",
}


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster, *STREAMS):
        now = mode(trigger)
        for name in THRESHOLDS:
            if name in trigger.metadata and THRESHOLDS[name] != now and not _is_zero_lag(name, trigger.metadata[name]):
                path = trigger.at("metadata", name)
                yield Problem(
                    trigger.manifest,
                    path,
                    f"{name} is ignored: {_COUNTS[now]}",
                    hint="lagCount, to count what waits" if now == PENDING else f"no {name}",
                    key=True,
                    # With lagCount there it is a leftover. Elsewhere it may be what was meant.
                    edits=(Remove(path),) if now == LAG else (),
                )


def _is_zero_lag(name: str, value: str) -> bool:
    return name == "lagCount" and value.strip() in ("", "0")


RULE = Rule(
    "STK-KEDA-008",
    Severity.WARNING,
    "A redis-streams trigger has a threshold that its mode does not use",
    check,
    __name__,
    guide=("S06",),
)
