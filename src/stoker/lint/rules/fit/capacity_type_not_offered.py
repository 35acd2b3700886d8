"""A pod wants a capacity type that its pools do not have.

A pool whose requirements say spot launches no on-demand node, whatever the pod asks for. A label of that key in the
pool's template narrows it as a requirement does.

Symptom: Pending with "incompatible requirements, key karpenter.sh/capacity-type"

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
          - {key: karpenter.sh/capacity-type, operator: In, values: [spot]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {tier: serving, karpenter.sh/capacity-type: on-demand}
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
          - {key: karpenter.sh/capacity-type, operator: In, values: [spot]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {tier: serving, karpenter.sh/capacity-type: spot}
      containers:
      - name: server
        image: chat:v1
        resources:
          requests: {cpu: 3, memory: 8Gi}

Source: aws/karpenter-provider-aws website/content/en/docs/concepts/scheduling.md (capacity type)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.fit._refusals import refusals


def check(cluster: Cluster) -> Iterator[Problem]:
    return refusals(
        cluster,
        lambda blocker: blocker.kind == "capacity-type",
        "it is never scheduled there",
        "allow the capacity type in the pool",
    )


RULE = Rule("STK-FIT-012", Severity.ERROR, "A pod wants a capacity type that its pools do not have", check, __name__)
