"""EFA is asked for without huge pages.

The EFA provider of libfabric takes its buffers from huge pages. AWS's instructions ask for `hugepages-2Mi: 5120Mi`
beside the devices; without them it takes ordinary memory, which is slower to register.

Symptom: libfabric logs that it could not allocate huge pages

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        resources: {limits: {nvidia.com/gpu: 8, memory: 900Gi, vpc.amazonaws.com/efa: 4}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        resources: {limits: {nvidia.com/gpu: 8, memory: 900Gi, vpc.amazonaws.com/efa: 4, hugepages-2Mi: 5120Mi}}

Source: awsdocs/amazon-eks-user-guide@main latest/ug/ml/node-efa.adoc
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.pools import EFA
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.node_pools import container_requests


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for path, container in workload.containers():
            asked = container_requests(container)
            if asked.get(EFA) and not any(name.startswith("hugepages-") for name in asked):
                yield Problem(
                    workload.manifest,
                    (*path, "resources", "limits", "hugepages-2Mi"),
                    "EFA without huge pages, which libfabric takes its buffers from",
                    hint="hugepages-2Mi: 5120Mi in requests and limits",
                )


RULE = Rule("STK-TRAINING-003", Severity.INFO, "EFA is asked for without huge pages", check, __name__)
