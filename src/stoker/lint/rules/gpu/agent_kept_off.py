"""An agent for GPU nodes does not tolerate the taints of GPU pools.

A DaemonSet is not put on a node whose taints it does not tolerate. Without the exporter those GPUs have no metrics;
without the device plugin they are not offered to pods at all. An agent of every node tolerates everything.

Symptom: no GPU metrics from some node pools
Symptom: "0/3 nodes are available: 3 Insufficient nvidia.com/gpu" although the nodes have GPUs

Wrong:

    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: gpu-metrics, namespace: watch}
    spec:
      selector: {matchLabels: {app: gpu-metrics}}
      template:
        metadata: {labels: {app: gpu-metrics}}
        spec:
          tolerations: [{key: nvidia.com/gpu, operator: Exists}]
          containers:
          - {name: exporter, image: "nvcr.io/nvidia/k8s/dcgm-exporter:4.2.3-4.1.3-ubuntu22.04"}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
          taints: [{key: workload-type, value: training, effect: NoSchedule}]
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [p5]}]

Right:

    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: gpu-metrics, namespace: watch}
    spec:
      selector: {matchLabels: {app: gpu-metrics}}
      template:
        metadata: {labels: {app: gpu-metrics}}
        spec:
          tolerations: [{operator: Exists}]
          containers:
          - {name: exporter, image: "nvcr.io/nvidia/k8s/dcgm-exporter:4.2.3-4.1.3-ubuntu22.04"}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
          taints: [{key: workload-type, value: training, effect: NoSchedule}]
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [p5]}]

Source: Kubernetes documentation, concepts/workloads/controllers/daemonset (taints and tolerations)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.pools import Pool, pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.gpu._views import agents
from stoker.manifests.node_pools import pod_view
from stoker.manifests.objects import texts
from stoker.manifests.workloads import Workload
from stoker.policy.taints import untolerated


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in agents(cluster):
        tolerations = pod_view(workload).tolerations
        kept_off = {
            pool.name: untolerated(pool.view.taints, tolerations)
            for pool in pools(cluster).all
            if pool.gpu_types and not _is_for_others(workload, pool)
        }
        names = sorted(name for name, taints in kept_off.items() if taints)
        if names:
            taints = sorted({str(taint) for each in kept_off.values() for taint in each})
            yield Problem(
                workload.manifest,
                (*workload.path, "tolerations"),
                f"does not tolerate {', '.join(taints)}, so the GPU nodes of {', '.join(names)} have no such agent",
                hint="tolerations: [{operator: Exists}]",
            )


def _is_for_others(workload: Workload, pool: Pool) -> bool:
    """Whether the agent selects by a label that this pool gives another value: then it is not meant for it."""
    given = texts(pool.manifest.get("spec", "template", "metadata", "labels"))
    selector = texts(workload.spec.get("nodeSelector"))
    return any(key in given and given[key] != value for key, value in selector.items() if "capacity" not in key)


RULE = Rule(
    "STK-GPU-003",
    Severity.WARNING,
    "An agent for GPU nodes does not tolerate the taints of GPU pools",
    check,
    __name__,
    guide=("R17",),
)
