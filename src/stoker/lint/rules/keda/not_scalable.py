"""An autoscaler has a target that has no number of replicas.

Autoscalers set the scale subresource of their target. DaemonSets, Jobs, CronJobs and Pods have none. Jobs for a queue
are made by a ScaledJob.

Symptom: target resource doesn't expose /scale subresource

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {apiVersion: batch/v1, kind: Job, name: chat}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledJob
    metadata: {name: chat}
    spec:
      jobTargetRef:
        template:
          spec:
            restartPolicy: Never
            containers: [{name: worker, image: "chat:v1"}]
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: kedacore/keda-docs content/docs/2.21/concepts/scaling-jobs.md, concepts/scaling-deployments.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import HPA, SCALED_OBJECT, target_of

_HAS_NONE = ("DaemonSet", "Job", "CronJob", "Pod", "Service", "ScaledJob", "ScaledObject", "NodePool")


def check(cluster: Cluster) -> Iterator[Problem]:
    for scaler in (*cluster.of(SCALED_OBJECT, group="keda.sh"), *cluster.of(HPA, group="autoscaling")):
        kind, _ = target_of(scaler)
        if kind in _HAS_NONE:
            yield Problem(
                scaler,
                ("spec", "scaleTargetRef", "kind"),
                f"a {kind} has no scale subresource: {scaler.kind} can not scale it",
                hint="a ScaledJob" if kind in ("Job", "CronJob", "ScaledJob") else "a Deployment or a StatefulSet",
            )


RULE = Rule(
    "STK-KEDA-029", Severity.ERROR, "An autoscaler has a target that has no number of replicas", check, __name__
)
