"""The termination handler cannot run where nodes are taken, or has no right to drain them.

It is a DaemonSet that has to be on every spot node. Without tolerations it is kept off the tainted ones, which with
GPU pools are most. It also cordons and evicts through the API, for which its ServiceAccount needs a ClusterRole: one
that nothing in sight binds is said, as a note.

Symptom: spot nodes vanish without being drained although the handler is installed
Symptom: the handler logs "forbidden: ... cannot get resource \"nodes\""

Wrong:

    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: aws-node-termination-handler, namespace: kube-system}
    spec:
      selector: {matchLabels: {app: handler}}
      template:
        metadata: {labels: {app: handler}}
        spec:
          containers:
          - {name: handler, image: "public.ecr.aws/aws-ec2/aws-node-termination-handler:v1.25.0"}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: gpu}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
          taints: [{key: nvidia.com/gpu, effect: NoSchedule}]
          requirements: [{key: karpenter.sh/capacity-type, operator: In, values: [spot]}]

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: gpu}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
          taints: [{key: nvidia.com/gpu, effect: NoSchedule}]
          requirements: [{key: karpenter.sh/capacity-type, operator: In, values: [spot]}]

Source: aws/aws-node-termination-handler@v1.25.0 config/helm/aws-node-termination-handler/values.yaml
Source: Kubernetes documentation, concepts/scheduling-eviction/taint-and-toleration
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.disruption._views import share_namespace
from stoker.lint.rules.disruption.handler_beside_karpenter import handlers
from stoker.manifests.node_pools import pod_view
from stoker.manifests.objects import sections
from stoker.manifests.workloads import Workload
from stoker.policy.taints import untolerated


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in handlers(cluster):
        if workload.kind == "DaemonSet":
            yield from _kept_off(cluster, workload)
        if not _is_bound(cluster, workload):
            account = workload.spec.get("serviceAccountName", "default")
            yield Problem(
                workload.manifest,
                (*workload.path, "serviceAccountName"),
                f"nothing in sight gives the ServiceAccount {account} the right to cordon nodes and evict pods",
                hint="a ClusterRoleBinding to a ClusterRole with nodes (get, patch, update) and pods/eviction (create)",
                severity=Severity.INFO,
            )


def _kept_off(cluster: Cluster, workload: Workload) -> Iterator[Problem]:
    tolerations = pod_view(workload).tolerations
    off = {pool.name: untolerated(pool.view.taints, tolerations) for pool in pools(cluster).all if pool.is_spot}
    off = {name: taints for name, taints in off.items() if taints}
    if off:
        taints = sorted({str(taint) for each in off.values() for taint in each})
        yield Problem(
            workload.manifest,
            (*workload.path, "tolerations"),
            f"does not tolerate {', '.join(taints)}, so it is not on the spot nodes of {', '.join(sorted(off))}",
            hint="tolerations: [{operator: Exists}]",
        )


def _is_bound(cluster: Cluster, workload: Workload) -> bool:
    account = workload.spec.get("serviceAccountName", "default")
    return any(
        subject.get("kind") == "ServiceAccount" and subject.get("name") == account
        for binding in cluster.of("ClusterRoleBinding", "RoleBinding")
        if binding.kind == "ClusterRoleBinding" or share_namespace(binding, workload.manifest)
        for _, subject in sections(binding.get("subjects"))
    )


RULE = Rule(
    "STK-DISRUPTION-012",
    Severity.WARNING,
    "The termination handler cannot run where nodes are taken",
    check,
    __name__,
    guide=("R09",),
)
