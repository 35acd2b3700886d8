"""An autoscaler looks for a Deployment where there is a Rollout.

A Rollout of Argo takes a Deployment's place, but is a kind of its own. The autoscaler finds no Deployment of that name,
and scales nothing. KEDA takes Deployment where no kind is said.

Symptom: FailedGetScale: deployments.apps "chat" not found

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: Rollout
    metadata: {name: chat, namespace: ai}
    spec:
      strategy: {canary: {}}
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec: {containers: [{name: chat, image: "registry.example.com/chat:1.0"}]}
    ---
    apiVersion: autoscaling/v2
    kind: HorizontalPodAutoscaler
    metadata: {name: chat, namespace: ai}
    spec:
      scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
      maxReplicas: 10

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: Rollout
    metadata: {name: chat, namespace: ai}
    spec:
      strategy: {canary: {}}
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers:
          - name: chat
            image: registry.example.com/chat:1.0
            resources: {requests: {cpu: 1, memory: 1Gi}}
    ---
    apiVersion: autoscaling/v2
    kind: HorizontalPodAutoscaler
    metadata: {name: chat, namespace: ai}
    spec:
      scaleTargetRef: {apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: chat}
      maxReplicas: 10

Source: Argo Rollouts documentation, Horizontal Pod Autoscaling
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import look


def check(cluster: Cluster) -> Iterator[Problem]:
    for scaler in cluster.of("HorizontalPodAutoscaler", "ScaledObject"):
        reference = scaler.get("spec", "scaleTargetRef")
        name, kind = look(reference, "name"), look(reference, "kind", default="Deployment")
        if not isinstance(name, str) or kind != "Deployment":
            continue
        where = scaler.namespace or None
        rollout = cluster.find("Rollout", name, where)
        if rollout is not None and cluster.find("Deployment", name, where) is None:
            yield Problem(
                scaler,
                ("spec", "scaleTargetRef", "kind"),
                f"{name} is a Rollout, and there is no Deployment of that name: nothing is scaled",
                hint=f"apiVersion: {rollout.api_version}, kind: Rollout",
            )


RULE = Rule(
    "STK-ARGO-022",
    Severity.ERROR,
    "An autoscaler looks for a Deployment where there is a Rollout",
    check,
    __name__,
)
