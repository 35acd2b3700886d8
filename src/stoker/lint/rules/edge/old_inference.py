"""A kind of the inference extension that has gone.

InferenceModel was removed before the first stable release. Its priority lives on in InferenceObjective, which refers
to the pool by `poolRef`; which model a request goes to is said by the route and the pool. InferencePool is
`inference.networking.k8s.io/v1` now, with `targetPorts`, `selector.matchLabels` and `endpointPickerRef`.

Symptom: no matches for kind "InferenceModel" in version "inference.networking.x-k8s.io/v1alpha2"

Wrong:

    apiVersion: inference.networking.x-k8s.io/v1alpha2
    kind: InferenceModel
    metadata: {name: chat, namespace: ai}
    spec:
      modelName: chat
      criticality: Critical
      poolRef: {name: chat}

Right:

    apiVersion: inference.networking.x-k8s.io/v1alpha2
    kind: InferenceObjective
    metadata: {name: chat, namespace: ai}
    spec:
      priority: 10
      poolRef: {name: chat}

Source: kubernetes-sigs/gateway-api-inference-extension@v0.5.1 config/crd/bases (InferenceModel), its documentation,
  API types
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._routes import POOL, POOL_GROUPS

NEW, OLD = POOL_GROUPS


def check(cluster: Cluster) -> Iterator[Problem]:
    for model in cluster.of("InferenceModel", group=OLD):
        told = "InferenceModel was removed: the API server does not know it"
        right = "InferenceObjective, with priority in place of criticality"
        yield Problem(model, ("kind",), told, hint=right, instead_of=("apiVersion",))
    for pool in cluster.of(POOL, group=OLD):
        told = f"InferencePool is {NEW}/v1 now: with targetPorts, selector.matchLabels and endpointPickerRef"
        right = f"apiVersion: {NEW}/v1"
        yield Problem(pool, ("apiVersion",), told, hint=right, severity=Severity.WARNING, instead_of=("kind",))


RULE = Rule("STK-EDGE-016", Severity.ERROR, "A kind of the inference extension that has gone", check, __name__)
