"""Pods with EFA may be spread over zones.

EFA traffic stays within one availability zone. If the pool may launch in several, two pods of one job can end up
where their EFA devices do not reach each other, and the job hangs or goes over TCP. One zone in the pool's
requirements, a pod affinity over zones, or a placement group keeps them together. Subnets may do it as well; where
the pool names no zone, this is a note.

Symptom: NCCL hangs in its first collective on some runs, and works on others

Wrong:

    apiVersion: kubeflow.org/v1
    kind: PyTorchJob
    metadata: {name: train}
    spec:
      nprocPerNode: "8"
      pytorchReplicaSpecs:
        Worker:
          replicas: 2
          template:
            spec:
              containers:
              - name: pytorch
                image: example.com/train:v1
                resources:
                  limits: {nvidia.com/gpu: 8, memory: 900Gi, vpc.amazonaws.com/efa: 4, hugepages-2Mi: 5120Mi}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: training}
          requirements:
          - {key: node.kubernetes.io/instance-type, operator: In, values: [p4d.24xlarge]}
          - {key: topology.kubernetes.io/zone, operator: In, values: [us-west-2a, us-west-2b]}

Right:

    apiVersion: kubeflow.org/v1
    kind: PyTorchJob
    metadata: {name: train}
    spec:
      nprocPerNode: "8"
      pytorchReplicaSpecs:
        Worker:
          replicas: 2
          template:
            spec:
              containers:
              - name: pytorch
                image: example.com/train:v1
                resources:
                  limits: {nvidia.com/gpu: 8, memory: 900Gi, vpc.amazonaws.com/efa: 4, hugepages-2Mi: 5120Mi}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: training}
          requirements:
          - {key: node.kubernetes.io/instance-type, operator: In, values: [p4d.24xlarge]}
          - {key: topology.kubernetes.io/zone, operator: In, values: [us-west-2b]}

Source: Amazon EC2 user guide, Elastic Fabric Adapter (limitations)
Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/concepts/nodeclasses.md (placementGroupSelector)
"""

from collections.abc import Iterator

from stoker.catalog.labels import ZONE
from stoker.lint.cluster import Cluster
from stoker.lint.pools import EFA, Pool, pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.training._views import pods_of_job
from stoker.manifests.node_pools import pod_view
from stoker.manifests.objects import look, sections
from stoker.manifests.workloads import Workload

_TOPOLOGY = ("kueue.x-k8s.io/podset-required-topology", "alpha.jobset.sigs.k8s.io/exclusive-topology")


def check(cluster: Cluster) -> Iterator[Problem]:
    nodes = pools(cluster)
    for workload in cluster.workloads:
        if not nodes.requests(workload, EFA) or pods_of_job(cluster, workload) < 2 or _keeps_together(workload):
            continue
        for pool in nodes.of(workload):
            zones = pool.view.zones
            if len(zones) == 1 or _has_placement_group(pool):
                continue
            where = f"in {len(zones)} zones ({', '.join(zones)})" if zones else "in any zone of its subnets"
            yield Problem(
                workload.manifest,
                (*workload.path, "affinity"),
                f"{pool.name} may launch {where}, and EFA does not reach from one to another",
                hint=f"one value for {ZONE} in the pool, or a podAffinity with topologyKey {ZONE}",
                severity=None if zones else Severity.INFO,
            )


def _keeps_together(workload: Workload) -> bool:
    """Whether the pods themselves ask for one zone."""
    asked = [each.get(ZONE) for each in pod_view(workload).requirements]
    if asked and all(each is not None and not each.complement and len(each.values) == 1 for each in asked):
        return True
    if any(each in workload.annotations or each in workload.manifest.annotations for each in _TOPOLOGY):
        return True
    terms = sections(look(workload.spec, "affinity", "podAffinity", "requiredDuringSchedulingIgnoredDuringExecution"))
    return any(term.get("topologyKey") == ZONE for _, term in terms)


def _has_placement_group(pool: Pool) -> bool:
    return pool.node_class is not None and pool.node_class.get("spec", "placementGroupSelector") is not None


RULE = Rule(
    "STK-TRAINING-018", Severity.WARNING, "Pods with EFA may be spread over zones", check, __name__, guide=("S17",)
)
