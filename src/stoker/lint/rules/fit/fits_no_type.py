"""A pod fits no node of any pool that it may run on.

A pod fits when an instance type that its pool allows has what it requests, all at once, after what the system and the
DaemonSets keep of the machine. A machine sold with 8 cores and 32 GiB gives pods 7.91 cores and 28.6 GiB. Karpenter
launches nothing for a pod that fits nothing, and says so in an event.

Symptom: Pending with "no instance type satisfied resources and requirements" or "no instance type met all requirements"

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
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [2xlarge]}
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
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [2xlarge]}
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

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.fit._views import Fleet, Pod, Pool, fleet, has_devices, what_blocks
from stoker.manifests.placements import nearest_text
from stoker.policy.placement import Placement


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    for pod in known.pods:
        found = fits_nowhere(known, pod)
        if not found:
            continue
        pool, best = min(found, key=lambda each: len(each[1].closest[1]) if each[1].closest else 99)
        closest = best.closest[1] if best.closest else ()
        # A device that no type of the catalogue has: of a plugin that may be on nodes that are there already.
        unknown = any(each.kind == "resource" for each in closest)
        among = f" (nor of {len(found) - 1} more that take it)" if len(found) > 1 else ""
        yield Problem(
            pod.workload.manifest,
            pod.path_of_request(*(each.key for each in closest), "nvidia.com/gpu", "cpu", "memory"),
            f"{pod.workload}: fits no node of {pool}{among}, so it is never scheduled: {what_blocks(best)}",
            hint=f"{nearest_text(best)}: allow it in the pool, or request less",
            severity=Severity.ERROR if known.tied(pod) and not unknown else Severity.WARNING,
        )


def fits_nowhere(known: Fleet, pod: Pod) -> list[tuple[Pool, Placement]]:
    """The pools that let the pod on, where it fits none of them by its size; nothing where one is broken, or where only
    DaemonSets or the pool's limits are in the way."""
    if pod.devices and not known.tied(pod) and not any(has_devices(pool, pod) for pool in known.pools):
        return []  # said by STK-FIT-013
    if known.fits(pod):
        return []
    found = known.placements(pod)
    if any(placement.against_pool for _, placement in found):
        return []
    if any(known.placement(pod, pool, daemons=False).is_possible for pool, _ in found):
        return []
    if any(all(blocker.kind == "limit" for blocker in each) for _, one in found for each in one.against_type.values()):
        return []
    return found


RULE = Rule(
    "STK-FIT-001",
    Severity.ERROR,
    "A pod fits no node of any pool that it may run on",
    check,
    __name__,
    guide=("R01", "R12"),
)
