"""A pod asks for what its namespace forbids.

The label `pod-security.kubernetes.io/enforce` of a namespace makes the API server refuse pods above a level. A
Deployment or Job is still accepted: its controller creates no pods, and only its events say why.

Symptom: 0/3 replicas, and in the events: pods "chat-" is forbidden: violates PodSecurity "baseline:latest"

Wrong:

    apiVersion: v1
    kind: Namespace
    metadata:
      name: ai
      labels: {pod-security.kubernetes.io/enforce: baseline}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      hostNetwork: true
      containers:
      - {name: chat, image: "registry.example.com/chat:1.0"}

Right:

    apiVersion: v1
    kind: Namespace
    metadata:
      name: ai
      labels: {pod-security.kubernetes.io/enforce: baseline}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      containers:
      - {name: chat, image: "registry.example.com/chat:1.0"}

Source: Kubernetes documentation, Pod Security Standards; Pod Security Admission
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._pod_security import violations

LABEL = "pod-security.kubernetes.io/enforce"


def check(cluster: Cluster) -> Iterator[Problem]:
    levels = {each.name: each.labels[LABEL] for each in cluster.of("Namespace", group="") if LABEL in each.labels}
    if not levels:
        return
    for workload in cluster.workloads:
        level = levels.get(workload.namespace, "")
        if not level:
            continue
        refused = "it" if workload.kind == "Pod" else "its pods"
        for path, what in violations(workload.spec, workload.annotations, level):
            yield Problem(
                workload.manifest,
                (*workload.path, *path),
                f"{what}: the namespace {workload.namespace} enforces {level}, so {refused} will be refused",
                hint=f"what {level} allows, or {LABEL}: privileged for this namespace",
            )


RULE = Rule("STK-SECURITY-014", Severity.ERROR, "A pod asks for what its namespace forbids", check, __name__)
