"""Argo CD sets the replicas back that an autoscaler chose.

With selfHeal, whatever differs from git is put back within seconds. A Deployment that has `replicas` in git and is
scaled by an HPA or KEDA differs all the time: the autoscaler scales up, Argo CD scales down, pods come and go.

Symptom: replicas jump between two values; new pods are terminated seconds after they started

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: Application
    metadata: {name: chat, namespace: argocd}
    spec:
      project: default
      source: {repoURL: "https://github.com/example/configs", path: chat}
      destination: {name: prod, namespace: ai}
      syncPolicy: {automated: {selfHeal: true}}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      replicas: 2
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
    kind: Application
    metadata: {name: chat, namespace: argocd}
    spec:
      project: default
      source: {repoURL: "https://github.com/example/configs", path: chat}
      destination: {name: prod, namespace: ai}
      syncPolicy: {automated: {selfHeal: true}}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
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
      scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
      maxReplicas: 10

Source: Argo CD documentation, Best Practices: leaving room for imperativeness
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._applications import Application, applications
from stoker.manifests.objects import Manifest, look


def check(cluster: Cluster) -> Iterator[Problem]:
    scaled = list(_scaled_with_replicas(cluster))
    for application in applications(cluster):
        if look(application.spec, "syncPolicy", "automated", "selfHeal") is not True or _leaves_replicas(application):
            continue
        namespace = application.destination.get("namespace")
        for target, scaler in scaled:
            if target.namespace == namespace:
                yield Problem(
                    application.manifest,
                    (*application.base, "ignoreDifferences"),
                    f"selfHeal: if this deploys {target}, it sets replicas back to {target.get('spec', 'replicas')}"
                    f" whenever {scaler} scales it",
                    hint=f"no replicas in {target}, or ignoreDifferences with jsonPointers: [/spec/replicas]",
                )
                break


def _scaled_with_replicas(cluster: Cluster) -> Iterator[tuple[Manifest, Manifest]]:
    """What an autoscaler scales though a number of replicas is written, with the autoscaler."""
    for scaler in cluster.of("HorizontalPodAutoscaler", "ScaledObject"):
        reference = scaler.get("spec", "scaleTargetRef")
        kind, name = look(reference, "kind", default="Deployment"), look(reference, "name")
        if not isinstance(name, str) or not isinstance(kind, str):
            continue
        target = cluster.find(kind, name, scaler.namespace or None)
        if target is not None and target.get("spec", "replicas") is not None:
            yield target, scaler


def _leaves_replicas(application: Application) -> bool:
    return "replicas" in str(application.spec.get("ignoreDifferences", ""))


RULE = Rule(
    "STK-ARGO-020", Severity.WARNING, "Argo CD sets the replicas back that an autoscaler chose", check, __name__
)
