"""A pod fits only one of the instance types that its pools allow.

The others are there in name only: when the one type is sold out, which is common for large GPU machines, the pod waits.
On spot it is worse, since the choice between many pools of capacity is what makes spot last.

Symptom: InsufficientCapacityError for one type, while others of the pool are not tried
Symptom: "no instance type satisfied resources" for all but one type

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
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [2xlarge, 4xlarge, 8xlarge, 16xlarge]}
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
          requests: {cpu: 40, memory: 32Gi, nvidia.com/gpu: 1}
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
          - {key: karpenter.k8s.aws/instance-size, operator: In, values: [2xlarge, 4xlarge, 8xlarge, 16xlarge]}
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
          requests: {cpu: 15, memory: 32Gi, nvidia.com/gpu: 1}
          limits: {nvidia.com/gpu: 1}

Source: aws/karpenter-provider-aws website/content/en/docs/reference/instance-types.md (allocatable of each type)
Source: Amazon EC2 user guide, best practices for EC2 Spot (be flexible about instance types)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import Fleet, Pod, fleet, lacking
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.placements import blocker_text


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    for pod in known.pods:
        if _fits_several(known, pod):
            continue
        possible = [(pool, each) for pool, each in known.placements(pod) if each.is_possible]
        names = {name for _, each in possible for name in each.types}
        allowed = {name for _, each in possible for name in each.against_type}
        if len(names) != 1 or len(allowed) < 2:
            continue
        pool, placement = max(possible, key=lambda each: len(each[1].against_type))
        only = next(iter(names))
        against = [each for each in placement.against_type.items() if each[1]]
        if not against:
            continue
        missed = min(against, key=lambda each: (len(each[1]), lacking(each[1])))
        spot = all(each.view.capacity_types == ("spot",) for each, _ in possible)
        yield Problem(
            pod.workload.manifest,
            pod.path_of_request(*(each.key for each in missed[1]), "cpu", "memory"),
            f"{pod.workload}: of the {len(allowed)} types of {pool} it fits only {only}"
            f"{', and that on spot only' if spot else ''}; not {missed[0]}: {blocker_text(missed[1][0])}",
            hint=f"request what {missed[0]} has left, or allow more types",
            severity=Severity.WARNING if spot else None,
        )


def _fits_several(known: Fleet, pod: Pod) -> bool:
    first = ""
    for _, each in known.fitting(pod):
        if first and each.name != first:
            return True
        first = each.name
    return False


RULE = Rule(
    "STK-FIT-003",
    Severity.INFO,
    "A pod fits only one of the instance types that its pools allow",
    check,
    __name__,
    guide=("R12",),
)
