"""An autoscaler scales something that is not there.

The target is looked for in the autoscaler's own namespace, by its kind and its name.

Symptom: ScaledObject READY False: deployments.apps not found
Symptom: HPA: FailedGetScale

Wrong:

    apiVersion: apps/v1
    kind: StatefulSet
    metadata: {name: chat, namespace: ai}
    spec:
      serviceName: chat
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "chat:v1"}]
    ---
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat, namespace: ai}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Right:

    apiVersion: apps/v1
    kind: StatefulSet
    metadata: {name: chat, namespace: ai}
    spec:
      serviceName: chat
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "chat:v1"}]
    ---
    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat, namespace: ai}
    spec:
      scaleTargetRef: {kind: StatefulSet, name: chat}
      triggers:
      - type: prometheus
        metadata: {serverAddress: "http://prometheus:9090", query: "sum(waiting)", threshold: "8"}

Source: kedacore/keda-docs content/docs/2.21/reference/scaledobject-spec.md (scaleTargetRef)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.keda._views import HPA, SCALED_OBJECT, scaled_workload, target_of
from stoker.manifests.objects import Manifest, is_open

_SCALED = ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController", "Rollout")


def check(cluster: Cluster) -> Iterator[Problem]:
    for scaler in (*cluster.of(SCALED_OBJECT, group="keda.sh"), *cluster.of(HPA, group="autoscaling")):
        kind, name = target_of(scaler)
        if not name or kind not in _SCALED or is_open(scaler, name):
            continue
        if scaled_workload(cluster, scaler) is None and not cluster.exists(kind, name, scaler.namespace):
            path, hint = _nearest(cluster, scaler, kind, name)
            alone = next(cluster.of(*_SCALED), None) is None
            yield Problem(
                scaler,
                path,
                f"no {kind} {name} is in sight: "
                + (f"what {scaler.kind} scales was not judged" if alone else f"{scaler.kind} scales nothing"),
                hint=hint,
                severity=Severity.INFO if alone else None,
            )


def _nearest(cluster: Cluster, scaler: Manifest, kind: str, name: str) -> tuple[tuple[str, ...], str]:
    """What is wrong with the reference: the kind, the namespace, or the name."""
    for other in _SCALED:
        if other != kind and cluster.find(other, name, scaler.namespace or None) is not None:
            return ("spec", "scaleTargetRef", "kind"), f"kind: {other}"
    elsewhere = cluster.find(kind, name)
    if elsewhere is not None:
        return ("metadata", "namespace"), f"namespace: {elsewhere.namespace}, where it is"
    return ("spec", "scaleTargetRef", "name"), f"a {kind} of this name, or the name of one"


RULE = Rule("STK-KEDA-028", Severity.WARNING, "An autoscaler scales something that is not there", check, __name__)
