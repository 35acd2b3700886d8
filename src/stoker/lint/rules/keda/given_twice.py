"""A parameter is given by its value and by a variable.

KEDA takes the first of `metadata.<name>`, the variable of `<name>FromEnv`, and the TriggerAuthentication that it
finds, in an order that each scaler has for itself. The other one is not read, and a change there makes no difference.

Symptom: the address in the environment was changed, and KEDA still asks the old server

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", addressFromEnv: REDIS, stream: tasks, consumerGroup: workers, lagCount: "5"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, lagCount: "5"}

Source: kedacore/keda@v2.20.2 pkg/scalers/scalersconfig/typed_config.go
"""

from collections.abc import Iterator

from stoker.catalog.keda import FROM_ENV
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import triggers


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster):
        for name in trigger.metadata:
            plain = name.removesuffix(FROM_ENV)
            if plain == name or not trigger.metadata.get(plain) or trigger.known is None:
                continue
            if trigger.known.written_as(name) is None or trigger.known.written_as(plain) is None:
                continue
            yield Problem(
                trigger.manifest,
                trigger.at("metadata", name),
                f"{plain} and {name} both give {plain} of {trigger.type}: one of them is not read",
                hint=f"{plain} or {name} alone",
                key=True,
            )


RULE = Rule("STK-KEDA-006", Severity.WARNING, "A parameter is given by its value and by a variable", check, __name__)
