"""A pod asks for a whole machine as it is sold, and so takes the next larger one.

What is sold is not what pods can have: the kubelet, the system and the firmware keep a part. A pod that requests the
8 cores and 32 GiB of a machine of that size does not fit it, and a little less would. Half of the larger one, which is
paid for, stays empty.

Symptom: nodes that are twice as large as the pods need, and half idle

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
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [2xlarge, 4xlarge]}
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
          requests: {cpu: 8, memory: 32Gi, nvidia.com/gpu: 1}
          limits: {nvidia.com/gpu: 1}

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
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [2xlarge, 4xlarge]}
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
          requests: {cpu: 7, memory: 26Gi, nvidia.com/gpu: 1}
          limits: {nvidia.com/gpu: 1}

Source: aws/karpenter-provider-aws website/content/en/docs/reference/instance-types.md (allocatable of each type)
"""

from collections.abc import Iterator

from stoker.catalog.ec2 import InstanceType, find
from stoker.lint.cluster import Cluster
from stoker.lint.fleet import Pod, fleet
from stoker.lint.pools import Pool
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.quantities import format_amount
from stoker.policy.placement import Placement, by_price, how_many
from stoker.policy.pod_resources import CPU, MEMORY

_LARGE_CPU = 8_000
_LARGE_MEMORY = 32 * 1024**3
_MUCH = 1.2
"""How many times dearer the larger type is before it is worth a word."""


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    for pod in known.pods:
        for pool, placement in known.each_placement(pod) if takes_machines(pod) else ():
            missed = missed_type(pod, pool, placement)
            if missed is None:
                continue
            key = CPU if pod.view.requests.get(CPU, 0) == missed.vcpu * 1000 else MEMORY
            had = {
                each: missed.allocatable[each] - pool.daemons.get(each, 0)
                for each in (CPU, MEMORY)
                if each in pod.view.requests
            }
            said = " and ".join(f"{_exact(each, amount)} of {each}" for each, amount in had.items())
            yield Problem(
                pod.workload.manifest,
                pod.path_of_request(key),
                f"{pod.workload}: requests {format_amount(key, pod.view.requests[key])} of {key}, all that a "
                f"{missed.name} is sold with; pods can have {said} of it, so {pool} takes {placement.types[0]}",
                hint=f"at most {said}, to fit {missed.name}",
            )
            break


def _exact(resource: str, amount: int) -> str:
    """Never more than the amount: it is what to write."""
    return f"{amount // 1024**2}Mi" if resource == MEMORY else format_amount(resource, amount)


def missed_type(pod: Pod, pool: Pool, placement: Placement) -> InstanceType | None:
    """The cheapest type that the pod would fit if all that is sold were for pods, where it is much cheaper than the one
    that it fits, and the pod asks for all of it."""
    best = find(placement.types[0]) if placement.types else None
    if best is None:
        return None
    nominal = [each for each in pool.types if _fits_as_sold(pod, each, placement)]
    cheapest = min(nominal, key=by_price, default=None)
    if cheapest is None or cheapest.name in placement.types or how_many(pod.view, cheapest, pool.daemons, pool.view):
        return None
    cheap, dear = cheapest.usd_per_hour(), best.usd_per_hour()
    asks_for_all = (
        pod.view.requests.get(CPU, 0) == cheapest.vcpu * 1000
        or pod.view.requests.get(MEMORY, 0) == cheapest.memory_mib * 1024**2
    )
    return cheapest if asks_for_all and cheap and dear and dear > _MUCH * cheap else None


def takes_machines(pod: Pod) -> bool:
    """Whether it is large enough to have a machine for itself: smaller ones share, and its size is not theirs."""
    cpu, memory = pod.view.requests.get(CPU, 0), pod.view.requests.get(MEMORY, 0)
    return bool(pod.devices) or cpu >= _LARGE_CPU or memory >= _LARGE_MEMORY


def _fits_as_sold(pod: Pod, each: InstanceType, placement: Placement) -> bool:
    against = placement.against_type.get(each.name, ())
    asked = pod.view.requests
    return (
        asked.get(CPU, 0) <= each.vcpu * 1000
        and asked.get(MEMORY, 0) <= each.memory_mib * 1024**2
        and all(blocker.key in (CPU, MEMORY) and blocker.kind != "limit" for blocker in against)
    )


RULE = Rule(
    "STK-FIT-002",
    Severity.INFO,
    "A pod asks for a whole machine as it is sold",
    check,
    __name__,
    guide=("R01",),
)
