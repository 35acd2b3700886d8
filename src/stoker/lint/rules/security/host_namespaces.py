"""A pod shares the node's network, processes or IPC.

With the node's network it passes by NetworkPolicies, takes ports of the node, and reaches the instance metadata with
the node's role; with its processes it sees the environment of all others. DaemonSets of networking and monitoring do
this on purpose.

Symptom: a NetworkPolicy has no effect on one pod; two pods on a node fight over a port

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: api}
    spec:
      hostNetwork: true
      containers:
      - {name: api, image: "registry.example.com/api:1.0"}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: api}
    spec:
      containers:
      - {name: api, image: "registry.example.com/api:1.0"}

Source: Kubernetes documentation, Pod Security Standards: baseline, host namespaces
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity

_EFFECTS = {
    "hostNetwork": "NetworkPolicies do not hold for it, and it has the node's address, ports and role",
    "hostPID": "it sees the processes of all pods of the node, with their environment",
    "hostIPC": "it shares memory segments with every process of the node",
}


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for key, effect in _EFFECTS.items():
            if workload.spec.get(key) is True:
                yield Problem(
                    workload.manifest,
                    (*workload.path, key),
                    f"{key}: true: {effect}",
                    hint=f"leave {key} out",
                    severity=Severity.INFO if workload.kind == "DaemonSet" else None,
                )


RULE = Rule("STK-SECURITY-003", Severity.WARNING, "A pod shares the node's network, processes or IPC", check, __name__)
