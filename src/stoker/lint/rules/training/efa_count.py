"""The number of EFA devices is not what the instance type has.

A pod that takes all GPUs of a node should take all of its EFA devices, too: each carries a part of the bandwidth, and
what is left over nobody else can use. No type has more than 32.

Symptom: bandwidth between nodes is a quarter of what the type is sold with

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
                  limits: {nvidia.com/gpu: 8, memory: 900Gi, vpc.amazonaws.com/efa: 1, hugepages-2Mi: 5120Mi}
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

Source: awsdocs/amazon-eks-user-guide@main latest/ug/ml/node-efa.adoc
Source: Amazon EC2 user guide, Elastic Fabric Adapter (supported instance types)
"""

from collections.abc import Iterator

from stoker.catalog.ec2 import instance_types
from stoker.lint.cluster import Cluster
from stoker.lint.pools import EFA, pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.node_pools import container_requests
from stoker.manifests.objects import look


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for path, container in workload.containers():
            asked = container_requests(container).get(EFA, 0)
            if not asked:
                continue
            part = "limits" if look(container, "resources", "limits", EFA) is not None else "requests"
            place = (*path, "resources", part, EFA)
            most = max(each.efa_count for each in instance_types().values())
            if asked > most:
                message = f"{asked} EFA devices wanted, and no instance type has more than {most}"
                yield Problem(workload.manifest, place, message, severity=Severity.ERROR)
                continue
            wanted = pools(cluster).gpus(workload)
            fitting = [
                each
                for each in pools(cluster).types_of(workload)
                if each.gpu_count == wanted and each.efa_count >= asked and wanted > 1
            ]
            if fitting and all(each.efa_count > asked for each in fitting):
                least = min(fitting, key=lambda each: each.efa_count)
                yield Problem(
                    workload.manifest,
                    place,
                    f"all GPUs of a {least.name} and {asked} of its {least.efa_count} EFA devices: the rest lies idle",
                    hint=f"{EFA}: {least.efa_count}",
                )


RULE = Rule("STK-TRAINING-002", Severity.INFO, "The number of EFA devices is not what the type has", check, __name__)
