"""A pod that is reached from outside holds a token of the API server.

Unless told otherwise every pod has the token of its ServiceAccount in a file. What can be read through a hole of the
server (a path that is not checked, a tool of an agent that reads files) then speaks to the API server.

Symptom: calls of the API server by system:serviceaccount:ai:default in the audit log

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: api, namespace: ai, labels: {app: api}}
    spec:
      containers:
      - {name: api, image: "registry.example.com/api:1.0"}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: api, namespace: ai}
    spec:
      type: LoadBalancer
      selector: {app: api}
      ports: [{port: 80}]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: api, namespace: ai, labels: {app: api}}
    spec:
      automountServiceAccountToken: false
      containers:
      - {name: api, image: "registry.example.com/api:1.0"}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: api, namespace: ai}
    spec:
      type: LoadBalancer
      selector: {app: api}
      ports: [{port: 80}]

Source: Kubernetes documentation, Configure Service Accounts for Pods: opt out of API credential automounting
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._views import reached_from_outside
from stoker.manifests.workloads import Workload


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        if "automountServiceAccountToken" in workload.spec or _opted_out(cluster, workload):
            continue
        by = reached_from_outside(cluster, workload)
        if by is not None:
            yield Problem(
                workload.manifest,
                (*workload.path, "automountServiceAccountToken"),
                f"it is reached from outside (by {by}) and holds a token of the API server",
                hint="automountServiceAccountToken: false, unless it calls the API server",
            )


def _opted_out(cluster: Cluster, workload: Workload) -> bool:
    name = workload.spec.get("serviceAccountName")
    account = cluster.find("ServiceAccount", name, workload.namespace) if isinstance(name, str) else None
    return account is not None and account.get("automountServiceAccountToken") is False


RULE = Rule(
    "STK-SECURITY-024",
    Severity.INFO,
    "A pod that is reached from outside holds a token of the API server",
    check,
    __name__,
)
