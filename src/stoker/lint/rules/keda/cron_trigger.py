"""A cron trigger has times that KEDA does not take, or more replicas than allowed.

`start` and `end` are cron lines of five fields, and must differ. Between them the workload has at least
`desiredReplicas`, but never more than `maxReplicaCount`.

Symptom: KEDAScalerFailed: error parsing start schedule
Symptom: start and end can not have exactly same time input

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: cron
        metadata: {timezone: Europe/Berlin, start: 0 0 8 * * *, end: 0 0 18 * * *, desiredReplicas: "4"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: cron
        metadata: {timezone: Europe/Berlin, start: 0 8 * * *, end: 0 18 * * *, desiredReplicas: "4"}

Source: kedacore/keda@v2.20.2 pkg/scalers/cron_scaler.go; kedacore/keda-docs content/docs/2.21/scalers/cron.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import Trigger, maximum, number, triggers
from stoker.manifests.objects import is_open
from stoker.policy import cron


def check(cluster: Cluster) -> Iterator[Problem]:
    for trigger in triggers(cluster, "cron"):
        yield from _times(trigger)
        wanted, most = number(trigger.metadata.get("desiredReplicas", "")), maximum(trigger.manifest)
        if wanted is not None and most is not None and wanted > most:
            told = f"desiredReplicas {wanted:g} is over maxReplicaCount {most}, where it ends"
            path = trigger.at("metadata", "desiredReplicas")
            yield Problem(trigger.manifest, path, told, hint=f"at most {most}", severity=Severity.WARNING)


def _times(trigger: Trigger) -> Iterator[Problem]:
    for name in ("start", "end"):
        line = trigger.metadata.get(name, "").strip()
        if not line or line.startswith(("TZ=", "CRON_TZ=")) or is_open(trigger.manifest, line):
            continue
        wrong = cron.fault(line)
        if wrong:
            told = f"{name} {wrong}: the scaler can not be built"
            path = trigger.at("metadata", name)
            yield Problem(trigger.manifest, path, told, hint="minute hour day-of-month month day-of-week")
    start, end = (trigger.metadata.get(name, "").strip() for name in ("start", "end"))
    if start and start == end:
        told = "end is the same as start: the scaler can not be built"
        yield Problem(trigger.manifest, trigger.at("metadata", "end"), told, hint="a later time")


RULE = Rule("STK-KEDA-042", Severity.ERROR, "A cron trigger has times that KEDA does not take", check, __name__)
