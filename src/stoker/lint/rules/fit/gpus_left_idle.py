"""A pod with few GPUs goes on machines that have many more.

Karpenter packs several such pods on one machine when there are several. A single one leaves the other GPUs idle, and
they are paid for.

Symptom: nodes with 8 GPUs of which 1 is allocated

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [48xlarge]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {tier: serving}
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
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [2xlarge, 48xlarge]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {tier: serving}
      containers:
      - name: server
        image: chat:v1
        resources: {limits: {nvidia.com/gpu: 1}}

Source: aws/karpenter-provider-aws website/content/en/docs/reference/instance-types.md (GPUs of each type)
"""

from collections.abc import Iterator

from stoker.catalog.ec2 import find
from stoker.lint.cluster import Cluster
from stoker.lint.fleet import fleet
from stoker.lint.rule import Problem, Rule, Severity


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    for pod in known.pods:
        if not pod.devices:
            continue
        names = {name for _, placement in known.placements(pod) for name in placement.types}
        types = [each for name in sorted(names) if (each := find(name)) is not None]
        for key, wanted in pod.devices.items():
            had = [(each.allocatable.get(key, 0), each.name) for each in types]
            most = wanted * pod.most if pod.most is not None else None
            if had and most is not None and most * 2 <= min(had)[0]:
                there, name = min(had)
                yield Problem(
                    pod.workload.manifest,
                    pod.path_of_request(key),
                    f"{pod.workload}: asks for {most} {key} in all, and the smallest type that its pools have for it, "
                    f"{name}, has {there}: {there - most} stay idle unless other pods come",
                    hint="a smaller type in the pool",
                )


RULE = Rule("STK-FIT-014", Severity.INFO, "A pod with few GPUs goes on machines that have many more", check, __name__)
