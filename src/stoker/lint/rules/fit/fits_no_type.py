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
from stoker.lint.fleet import OF_INSTANCES, Fleet, Pod, fleet, has_devices, lacking, what_blocks
from stoker.lint.pools import Pool
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.placements import nearest_text
from stoker.policy.placement import Placement


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    for pod in known.pods:
        found = fits_nowhere(known, pod)
        if not found:
            continue
        pool, best = min(found, key=lambda each: _distance(each[1]))
        closest = best.closest[1] if best.closest else ()
        # A device that no type of the catalogue has: of a plugin that may be on nodes that are there already.
        unknown = any(each.kind == "resource" for each in closest)
        among = f" (nor of {len(found) - 1} more that take it)" if len(found) > 1 else ""
        yield Problem(
            pod.workload.manifest,
            pod.path_of_request(*(each.key for each in closest), "nvidia.com/gpu", "cpu", "memory"),
            f"{pod.workload}: fits no node of {pool}{among}, so it is never scheduled: {what_blocks(best)}",
            hint=f"{nearest_text(best)}: allow it in the pool, or request less" if best.nearest else "request less",
            severity=Severity.ERROR if known.tied(pod) and not unknown else Severity.WARNING,
        )


def fits_nowhere(known: Fleet, pod: Pod) -> list[tuple[Pool, Placement]]:
    """The pools that let the pod on, where it fits none of them by its size. Nothing where a pool is broken, and where
    another rule says what is wrong: no GPUs anywhere, DaemonSets, limits, labels of the type."""
    if known.fits(pod):
        return []
    found = known.placements(pod)
    if any(placement.against_pool for _, placement in found):
        return []
    if pod.devices and not known.tied(pod) and not any(has_devices(pool, pod) for pool in known.pools):
        return []
    if any(known.placement(pod, pool, daemons=False).is_possible for pool, _ in found):
        return []
    against = [blockers for _, each in found for blockers in each.against_type.values()]
    if any(all(each.kind == "limit" for each in blockers) for blockers in against):
        return []
    if all(any(each.key in OF_INSTANCES for each in blockers) for blockers in against):
        return []
    return found


def _distance(placement: Placement) -> tuple[int, float]:
    """How far the pod is from fitting: how much is against it on the closest type, and how large a part is lacking."""
    blockers = placement.closest[1] if placement.closest else ()
    return len(blockers), lacking(blockers)


RULE = Rule(
    "STK-FIT-001",
    Severity.ERROR,
    "A pod fits no node of any pool that it may run on",
    check,
    __name__,
    guide=("R01", "R12"),
)
