"""A pod wants a zone that its pools do not have.

The zones of a pool are those of its requirements. A pod that asks for another one waits for ever; so does one whose
volume is in another zone.

Symptom: Pending with "incompatible requirements, key topology.kubernetes.io/zone"

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
          - {key: topology.kubernetes.io/zone, operator: In, values: [us-west-2a, us-west-2b]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {tier: serving, topology.kubernetes.io/zone: us-west-2c}
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
          - {key: topology.kubernetes.io/zone, operator: In, values: [us-west-2a, us-west-2b]}
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: nodes}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      nodeSelector: {tier: serving, topology.kubernetes.io/zone: us-west-2b}
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
        lambda blocker: blocker.kind == "zone",
        "it is never scheduled there",
        "add the zone to the pool",
    )


RULE = Rule("STK-FIT-009", Severity.ERROR, "A pod wants a zone that its pools do not have", check, __name__)
