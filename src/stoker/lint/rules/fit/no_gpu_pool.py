"""A pod asks for GPUs, and no pool in sight has any.

Karpenter launches a machine with GPUs only when a pool allows such families. A pool that allows everything of the
categories c, m and r has none.

Symptom: Pending with "no instance type satisfied resources {\"nvidia.com/gpu\":\"1\"}"

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: server
        image: chat:v1
        resources: {limits: {nvidia.com/gpu: 1}}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: server
        image: chat:v1
        resources: {limits: {nvidia.com/gpu: 1}}

Source: aws/karpenter-provider-aws website/content/en/docs/concepts/scheduling.md (accelerators, GPU)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import fleet, has_devices
from stoker.lint.rule import Problem, Rule, Severity


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    for pod in known.pods:
        if (
            not pod.devices
            or not known.is_whole
            or known.tied(pod)
            or any(has_devices(each, pod) for each in known.pools)
        ):
            continue
        key = next(iter(pod.devices))
        names = ", ".join(pool.view.name for pool in known.pools[:4])
        yield Problem(
            pod.workload.manifest,
            pod.path_of_request(key),
            f"{pod.workload}: asks for {pod.devices[key]} {key}, and no NodePool in sight ({names}) allows a type "
            "that has one: it waits, unless other nodes have them",
            hint="a NodePool that allows a family with them, such as g6 for nvidia.com/gpu",
        )


RULE = Rule("STK-FIT-013", Severity.WARNING, "A pod asks for GPUs, and no pool in sight has any", check, __name__)
