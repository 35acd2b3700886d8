"""A pod wants an instance type or family that its pools do not allow.

Karpenter intersects what the pod asks for with the pool's requirements, and launches nothing when nothing is left.

Symptom: Pending with "incompatible requirements, key node.kubernetes.io/instance-type"

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
      nodeSelector: {tier: serving, node.kubernetes.io/instance-type: m7i.2xlarge}
      containers:
      - name: server
        image: chat:v1
        resources:
          requests: {cpu: 3, memory: 8Gi}

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
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {tier: serving, node.kubernetes.io/instance-type: m6i.2xlarge}
      containers:
      - name: server
        image: chat:v1
        resources:
          requests: {cpu: 3, memory: 8Gi}

Source: aws/karpenter-provider-aws website/content/en/docs/concepts/scheduling.md (selecting nodes)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import OF_INSTANCES, fleet
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.fit._refusals import refusals
from stoker.manifests.placements import blocker_text


def check(cluster: Cluster) -> Iterator[Problem]:
    yield from refusals(
        cluster,
        lambda blocker: blocker.kind == "label" and blocker.key in OF_INSTANCES,
        "it is never scheduled there",
        "allow it in the pool",
    )
    known = fleet(cluster)
    for pod in known.pods:
        if known.fits(pod):
            continue
        found = known.placements(pod)
        if not found or any(each.is_possible or each.against_pool for _, each in found):
            continue
        named = [
            blocker
            for _, each in found
            for blockers in each.against_type.values()
            for blocker in blockers
            if blocker.key in OF_INSTANCES
        ]
        # Each type is refused for such a label: the pool offers the label, with no type that has it as asked.
        if named and all(
            any(b.key in OF_INSTANCES for b in bs) for _, one in found for bs in one.against_type.values()
        ):
            yield Problem(
                pod.workload.manifest,
                pod.path_of_label(named[0].key),
                f"{pod.workload}: no type of {found[0][0]} has what it asks for: {blocker_text(named[0])}",
                hint="allow such a type in the pool",
                severity=Severity.ERROR if known.tied(pod) else Severity.WARNING,
            )


RULE = Rule("STK-FIT-010", Severity.ERROR, "A pod wants an instance type that its pools do not allow", check, __name__)
