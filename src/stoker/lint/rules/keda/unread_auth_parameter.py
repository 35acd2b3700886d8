"""A TriggerAuthentication gives a parameter that no trigger takes from there.

The names are those of the scaler: what it does not ask for by this name is not used, and the scaler signs in without
it, or not at all.

Symptom: NOAUTH Authentication required, although the Secret holds the password

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, lagCount: "5"}
        authenticationRef: {name: redis}
    ---
    apiVersion: keda.sh/v1alpha1
    kind: TriggerAuthentication
    metadata: {name: redis}
    spec:
      secretTargetRef: [{parameter: passwort, name: redis, key: password}]

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: redis-streams
        metadata: {address: "redis:6379", stream: tasks, consumerGroup: workers, lagCount: "5"}
        authenticationRef: {name: redis}
    ---
    apiVersion: keda.sh/v1alpha1
    kind: TriggerAuthentication
    metadata: {name: redis}
    spec:
      secretTargetRef: [{parameter: password, name: redis, key: password}]

Source: kedacore/keda@v2.20.2 schema/generated/scalers-schema.json; kedacore/keda-docs
  content/docs/2.21/concepts/authentication.md
"""

from collections import defaultdict
from collections.abc import Iterator

from stoker.catalog import keda
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import Trigger, auth_of, text, triggers
from stoker.lint.rules.keda.unknown_parameter import PASSED_ON, SHARED
from stoker.manifests.objects import Manifest, is_open, sections

LISTS = ("secretTargetRef", "env", "configMapTargetRef")


def check(cluster: Cluster) -> Iterator[Problem]:
    users: dict[Manifest, list[Trigger]] = defaultdict(list)
    for trigger in triggers(cluster):
        auth = auth_of(cluster, trigger)
        if auth is not None:
            users[auth].append(trigger)
    for auth, by in users.items():
        if all(each.known is not None and each.type not in PASSED_ON for each in by):
            yield from _judged(auth, by)


def _judged(auth: Manifest, users: list[Trigger]) -> Iterator[Problem]:
    taken = {name for each in users if each.known for name, one in each.known.parameters.items() if one.from_auth}
    for part in LISTS:
        for i, each in sections(auth.get("spec", part)):
            name = text(each.get("parameter"))
            if not name or name in taken or is_open(auth, name):
                continue
            near = keda.nearest(name, taken)
            if SHARED.match(name) and (near or "").lower() != name.lower():
                continue
            types = ", ".join(sorted({user.type for user in users}))
            yield Problem(
                auth,
                ("spec", part, i, "parameter"),
                f"{types} takes no {name} from a TriggerAuthentication: it is not used",
                hint=near or "a parameter that the scaler takes from there",
                severity=None if near else Severity.INFO,
            )


RULE = Rule(
    "STK-KEDA-023",
    Severity.WARNING,
    "A TriggerAuthentication gives a parameter that no trigger takes from there",
    check,
    __name__,
)
