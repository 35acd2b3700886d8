"""A pod wants a processor architecture that its pools do not have.

A pool that allows amd64 only has no node for an image built for arm64, and the other way round.

Symptom: Pending with "incompatible requirements, key kubernetes.io/arch"

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
          - {key: kubernetes.io/arch, operator: In, values: [amd64]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {tier: serving, kubernetes.io/arch: arm64}
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
          - {key: kubernetes.io/arch, operator: In, values: [amd64]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {tier: serving, kubernetes.io/arch: amd64}
      containers:
      - name: server
        image: chat:v1
        resources:
          requests: {cpu: 3, memory: 8Gi}

Source: aws/karpenter-provider-aws website/content/en/docs/concepts/scheduling.md (selecting nodes)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.fit._refusals import refusals


def check(cluster: Cluster) -> Iterator[Problem]:
    return refusals(
        cluster,
        lambda blocker: blocker.kind == "arch",
        "it is never scheduled there",
        "allow the architecture in the pool, with families that have it",
    )


RULE = Rule(
    "STK-FIT-011", Severity.ERROR, "A pod wants a processor architecture that its pools do not have", check, __name__
)
