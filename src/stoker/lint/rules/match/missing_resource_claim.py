"""A pod refers to a resource claim that is not there.

Dynamic resource allocation gives a device through a ResourceClaim, or through one made from a ResourceClaimTemplate.
Without it the pod is not scheduled.

Symptom: Pending with "waiting for resourceclaim to be created", or "resourceclaimtemplate not found"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      resourceClaims: [{name: gpu, resourceClaimTemplateName: one-gpu}]
      containers:
      - {name: server, image: "chat:v1"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      resourceClaims: [{name: gpu, resourceClaimTemplateName: one-gpu}]
      containers:
      - {name: server, image: "chat:v1"}
    ---
    apiVersion: resource.k8s.io/v1
    kind: ResourceClaimTemplate
    metadata: {name: one-gpu, namespace: ai}
    spec:
      spec:
        devices:
          requests: [{name: gpu, exactly: {deviceClassName: gpu.nvidia.com}}]

Source: Kubernetes documentation, Dynamic Resource Allocation
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import missing, pod_specs
from stoker.manifests.objects import sections


def check(cluster: Cluster) -> Iterator[Problem]:
    for spec in pod_specs(cluster):
        for i, _ in sections(spec.get("resourceClaims")):
            for kind in ("ResourceClaim", "ResourceClaimTemplate"):
                key = f"resourceClaim{kind.removeprefix('ResourceClaim')}Name"
                found = spec.refers("resourceClaims", i, key)
                yield from missing(cluster, kind, found, "the pod is not scheduled", f"a {kind} of this name")


RULE = Rule("STK-MATCH-022", Severity.WARNING, "A pod refers to a resource claim that is not there", check, __name__)
