"""A pod fills its machine so closely that the next DaemonSet breaks it.

An agent that asks for 100m of CPU is enough to take the last place; from then on the pod is never scheduled again,
the next time that it starts.

Symptom: a workload that ran for months stays Pending after an agent was installed or upgraded

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
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [xlarge]}
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
        resources:
          requests: {cpu: 3900m, memory: 8Gi}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i]}
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [xlarge]}
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
        resources:
          requests: {cpu: 3500m, memory: 8Gi}

Source: aws/karpenter-provider-aws website/content/en/docs/reference/instance-types.md (allocatable of each type)
"""

from collections.abc import Iterator

from stoker.catalog.ec2 import InstanceType
from stoker.lint.cluster import Cluster
from stoker.lint.fleet import Fleet, Pod, fleet
from stoker.lint.pools import Pool
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.quantities import format_amount
from stoker.policy.placement import allocatable_of
from stoker.policy.pod_resources import CPU, MEMORY

Left = tuple[str, str, int, int]
_LEAST_LEFT = 50  # a fiftieth of the machine


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    for pod in known.pods:
        left: list[Left] = []
        for each in _each_left(known, pod):
            left.append(each)
            if each[2] * _LEAST_LEFT >= each[3]:
                break  # there is room somewhere
        if not left or left[-1][2] * _LEAST_LEFT >= left[-1][3]:
            continue
        key, name, rest, _ = max(left, key=lambda each: each[2] / each[3])
        yield Problem(
            pod.workload.manifest,
            pod.path_of_request(key),
            f"{pod.workload}: leaves {format_amount(key, rest)} of {key} on a {name}, and fits no type with more room: "
            "one more DaemonSet and it is not scheduled again",
            hint="request a little less, or allow a larger type",
        )


def _each_left(known: Fleet, pod: Pod) -> Iterator[Left]:
    for pool, each in known.fitting(pod):
        left = tightest(pod, pool, each)
        if left is not None:
            yield left


def tightest(pod: Pod, pool: Pool, instance: InstanceType) -> Left | None:
    """What is left of a type beside the pod and the DaemonSets: resource, type, how much, and of how much."""
    had = allocatable_of(instance, pool.view)
    found = [
        (key, instance.name, had[key] - pod.view.requests[key] - pool.daemons.get(key, 0), had[key])
        for key in (CPU, MEMORY)
        if pod.view.requests.get(key, 0) > 0 and had.get(key, 0) > 0
    ]
    return min(found, key=lambda each: each[2] / each[3], default=None)


RULE = Rule("STK-FIT-015", Severity.INFO, "A pod fills its machine to the last", check, __name__)
