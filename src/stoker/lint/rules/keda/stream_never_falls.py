"""The length of a stream does not fall when its entries are done.

Without `consumerGroup` the redis-streams scaler counts every entry of the stream. Acknowledging an entry does not
remove it: the number only falls when consumers delete entries or producers trim the stream. Otherwise the replicas
only ever go up.

Symptom: all tasks are done and the replicas stay at the maximum

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, streamLength: "10"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, lagCount: "10"}

Source: kedacore/keda@v2.20.2 pkg/scalers/redis_streams_scaler.go; Redis documentation, XLEN, XACK
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._streams import LENGTH, mode
from stoker.lint.rules.keda._views import STREAMS, triggers


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster, *STREAMS):
        if mode(trigger) == LENGTH:
            yield Problem(
                trigger.manifest,
                trigger.at("metadata", "consumerGroup"),
                "without consumerGroup every entry of the stream counts, done or not, until it is deleted or trimmed",
                hint="consumerGroup and lagCount",
            )


RULE = Rule(
    "STK-KEDA-012", Severity.INFO, "The length of a stream does not fall when its entries are done", check, __name__
)
