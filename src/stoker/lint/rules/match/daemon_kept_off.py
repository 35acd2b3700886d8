"""A DaemonSet for every node is kept off the nodes of tainted pools.

Without a selector a DaemonSet is meant for all nodes, and runs on those whose taints it tolerates. An agent for logs,
metrics or interruptions that has no tolerations is missing exactly where the expensive machines are.

Symptom: no logs and no metrics of GPU nodes; DESIRED of the DaemonSet is below the number of nodes

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}]
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
          taints: [{key: tier, value: serving, effect: NoSchedule}]
    ---
    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: logs, namespace: watch}
    spec:
      selector: {matchLabels: {app: logs}}
      template:
        metadata: {labels: {app: logs}}
        spec:
          containers: [{name: agent, image: "logs:v1"}]

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}]
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
          taints: [{key: tier, value: serving, effect: NoSchedule}]
    ---
    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: logs, namespace: watch}
    spec:
      selector: {matchLabels: {app: logs}}
      template:
        metadata: {labels: {app: logs}}
        spec:
          tolerations: [{operator: Exists}]
          containers: [{name: agent, image: "logs:v1"}]

Source: Kubernetes documentation, DaemonSet (taints and tolerations)
"""

from collections.abc import Iterator

from stoker.catalog.labels import ARCH, OS
from stoker.lint.cluster import Cluster
from stoker.lint.fleet import fleet
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.node_pools import pod_view
from stoker.manifests.workloads import Workload
from stoker.policy.placement import PodView
from stoker.policy.taints import untolerated


def check(cluster: Cluster) -> Iterator[Problem]:
    pools = fleet(cluster).pools
    for workload in cluster.workloads_like(["DaemonSet"]):
        view = pod_view(workload)
        if workload.manifest.templated or not pools or not is_for_all(view) or _has_own_rule(workload):
            continue
        kept = {pool.view.name: untolerated(pool.view.taints, view.tolerations) for pool in pools}
        off = {name: taints for name, taints in kept.items() if taints}
        if not off:
            continue
        everywhere = len(off) == len(kept)
        listed = "; ".join(f"{name} ({', '.join(str(each) for each in taints)})" for name, taints in off.items())
        yield Problem(
            workload.manifest,
            (*workload.path, "tolerations"),
            f"{workload}: runs on no node of {'any NodePool' if everywhere else 'the NodePools'} in sight whose taints "
            f"it does not tolerate: {listed}",
            hint="tolerations: {operator: Exists}, if it is meant for every node",
            severity=Severity.WARNING if everywhere else Severity.INFO,
        )


def is_for_all(view: PodView) -> bool:
    """Whether it says nothing of where it is to run but the system, the processor, or where it is not."""
    return len(view.requirements) == 1 and all(
        key in (OS, ARCH) or asked.absent for key, asked in view.requirements[0].items()
    )


def _has_own_rule(workload: Workload) -> bool:
    """STK-DISRUPTION-012 and STK-GPU-003 say of these what it costs."""
    images = " ".join(str(each.get("image")) for _, each in workload.containers())
    return any(each in images for each in ("node-termination-handler", "dcgm", "nvidia", "neuron"))


RULE = Rule(
    "STK-MATCH-005",
    Severity.WARNING,
    "A DaemonSet for every node is kept off tainted pools",
    check,
    __name__,
)
