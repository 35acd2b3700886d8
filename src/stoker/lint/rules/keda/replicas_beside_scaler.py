"""replicas is written although an autoscaler sets it.

Every apply sets the number back to what is written, whatever the load is; the autoscaler then works its way up again.
With GitOps that happens at each sync. Without the field the number is the autoscaler's alone.

Symptom: at each deployment most replicas go away and come back minutes later
Symptom: Argo CD shows the Deployment OutOfSync for ever

Wrong:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      replicas: 3
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "chat:v1"}]
    ---
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Right:

    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "chat:v1"}]
    ---
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: Kubernetes documentation, Horizontal Pod Autoscaling (migrating Deployments and StatefulSets)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import scalers_of
from stoker.manifests.edits import Remove

PATH = ("spec", "replicas")


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads_like(("Deployment", "StatefulSet", "ReplicaSet", "Rollout")):
        written = workload.manifest.get(*PATH)
        scalers = scalers_of(cluster, workload) if written is not None else []
        if scalers:
            yield Problem(
                workload.manifest,
                PATH,
                f"{scalers[0]} sets the replicas, and each apply sets them back to {written}",
                hint="no replicas",
                key=True,
                edits=(Remove(PATH),),
            )


RULE = Rule(
    "STK-KEDA-026",
    Severity.WARNING,
    "replicas is written although an autoscaler sets it",
    check,
    __name__,
    guide=("S12", "S22"),
)
