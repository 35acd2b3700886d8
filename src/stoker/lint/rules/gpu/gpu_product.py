"""A pod selects a GPU model that no pool has.

GPU feature discovery labels nodes with the model, such as `nvidia.com/gpu.product: NVIDIA-A10G`. The label comes when
the node is there: Karpenter does not know it beforehand, and launches none for it. If no pool allows a type with that
model, no node will ever have it.

Symptom: Pending with "didn't match Pod's node affinity/selector"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}
      containers:
      - name: server
        image: example.com/chat:v1
        resources: {limits: {nvidia.com/gpu: 1, memory: 24Gi}}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: gpu}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [g5, g6]}]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {karpenter.k8s.aws/instance-gpu-name: l4}
      containers:
      - name: server
        image: example.com/chat:v1
        resources: {limits: {nvidia.com/gpu: 1, memory: 24Gi}}
    ---
    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: gpu}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [g5, g6]}]

Source: NVIDIA/k8s-device-plugin@v0.17.1 docs/gpu-feature-discovery/README.md (nvidia.com/gpu.product)
"""

import re
from collections.abc import Iterator

from stoker.catalog.ec2 import instance_types
from stoker.lint.cluster import Cluster
from stoker.lint.pools import pools
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import look

_LABEL = "nvidia.com/gpu.product"


def check(cluster: Cluster) -> Iterator[Problem]:
    models = {each.gpu_name for pool in pools(cluster).all for each in pool.gpu_types}
    if not models:
        return
    known = {each.gpu_name for each in instance_types().values() if each.gpu_name}
    for workload in cluster.workloads:
        product = look(workload.spec, "nodeSelector", _LABEL)
        if not isinstance(product, str):
            continue
        named = known & set(re.split(r"[-_ ]", product.lower()))
        if named and not named & models:
            yield Problem(
                workload.manifest,
                (*workload.path, "nodeSelector", _LABEL),
                f"{product} is wanted, and the pools in sight have {', '.join(sorted(models))}",
                hint="karpenter.k8s.aws/instance-gpu-name, which Karpenter knows before the node is there",
            )


RULE = Rule("STK-GPU-020", Severity.INFO, "A pod selects a GPU model that no pool has", check, __name__)
