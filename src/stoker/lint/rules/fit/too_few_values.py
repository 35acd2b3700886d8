"""A pod leaves fewer instance types than its pool insists on.

minValues says among how many different values (of types, families) Karpenter must be able to choose. A pod so large
that fewer are left is not scheduled, though it fits one of them.

Symptom: "minValues requirement is not met for label(s)"

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i, m5, m7i], minValues: 3}
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
          requests: {cpu: 120}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        metadata: {labels: {tier: serving}}
        spec:
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [m6i, m5, m7i], minValues: 3}
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
          requests: {cpu: 60}

Source: aws/karpenter-provider-aws website/content/en/docs/concepts/nodepools.md (minValues)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import fleet
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.placements import blocker_text


def check(cluster: Cluster) -> Iterator[Problem]:
    known = fleet(cluster)
    for pod in known.pods:
        if known.fits(pod):
            continue
        found = known.placements(pod)
        against = [each for _, placement in found for each in placement.against_pool]
        if not against or any(each.kind != "min-values" for each in against):
            continue
        pool, placement = next(each for each in found if each[1].against_pool)
        yield Problem(
            pod.workload.manifest,
            pod.path_of_request("nvidia.com/gpu", "cpu", "memory"),
            f"{pod.workload}: leaves {pool} too few types to choose from, so it is never scheduled: "
            f"{blocker_text(placement.against_pool[0])}",
            hint="request less, more types in the pool, or a lower minValues",
        )


RULE = Rule("STK-FIT-018", Severity.ERROR, "A pod leaves fewer types than its pool insists on", check, __name__)
