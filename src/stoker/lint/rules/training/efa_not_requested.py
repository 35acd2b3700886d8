"""Pods that train together over several nodes do not ask for EFA.

Karpenter attaches EFA interfaces when pods request `vpc.amazonaws.com/efa`, and a container sees the devices only if
it has the resource. Without it NCCL goes over TCP, with a small part of the bandwidth, though the instances have EFA.
How many a type has is in Stoker's catalogue: 4 on p4d.24xlarge, 32 on p5.48xlarge, one on the large sizes of g5 and
g6.

Symptom: all-reduce over nodes at a few GB/s; NCCL logs "NET/Socket"
Symptom: two nodes train no faster than one

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
                resources: {limits: {nvidia.com/gpu: 8, memory: 900Gi}}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: training}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: training}
          requirements: [{key: node.kubernetes.io/instance-type, operator: In, values: [p4d.24xlarge]}]

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
          requirements: [{key: node.kubernetes.io/instance-type, operator: In, values: [p4d.24xlarge]}]

Source: aws/karpenter-provider-aws@v1.14.1 pkg/providers/instance/instance.go
Source: awsdocs/amazon-eks-user-guide@main latest/ug/ml/node-efa.adoc
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.pools import EFA, pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.training._views import gpu_container, pods_of_job, requests_device, trains_over_nodes

_LISTED = 4
_WHOLE_NODE = 8


def check(cluster: Cluster) -> Iterator[Problem]:
    nodes = pools(cluster)
    for workload in cluster.workloads:
        held = gpu_container(workload)
        if held is None or not trains_over_nodes(cluster, workload) or requests_device(workload, EFA):
            continue
        counts = {each.name: each.efa_count for each in nodes.types_of(workload) if each.efa_count}
        total = pods_of_job(cluster, workload)
        path = (*held[0], "resources", "limits", EFA)
        if counts:
            said = [f"{number} on {name}" for name, number in sorted(counts.items(), key=lambda each: -each[1])]
            yield Problem(
                workload.manifest,
                path,
                f"{total} pods with GPUs work together and none asks for {EFA}: NCCL goes over TCP",
                hint=f"in requests and limits, {', '.join(said[:_LISTED])}; hugepages-2Mi: 5120Mi beside it",
            )
        elif not nodes.all and nodes.gpus(workload) >= _WHOLE_NODE:
            yield Problem(
                workload.manifest,
                path,
                f"{total} pods with {nodes.gpus(workload)} GPUs each work together and none asks for {EFA}",
                hint="4 on p4d.24xlarge, 32 on p5.48xlarge; nothing where the nodes have no EFA",
                severity=Severity.INFO,
            )


RULE = Rule(
    "STK-TRAINING-001",
    Severity.WARNING,
    "Pods that train over several nodes do not ask for EFA",
    check,
    __name__,
    guide=("R13",),
)
