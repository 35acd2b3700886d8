"""A kind that Karpenter no longer has.

Provisioner, Machine and AWSNodeTemplate were replaced in 0.32 by NodePool, NodeClaim and EC2NodeClass, whose fields
have other names and places: they are written anew, not renamed.

Symptom: no matches for kind "Provisioner" in version "karpenter.sh/v1alpha5"

Wrong:

    apiVersion: karpenter.sh/v1alpha5
    kind: Provisioner
    metadata: {name: serving}
    spec:
      requirements:
      - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
      providerRef: {name: serving}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}

Source: Karpenter documentation, v1beta1 migration: which kind became which
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import AWS, CORE

_NOW = {
    (CORE, "Provisioner"): f"a NodePool of {CORE}/v1",
    (CORE, "Machine"): f"a NodeClaim of {CORE}/v1, which Karpenter makes itself",
    (AWS, "AWSNodeTemplate"): f"an EC2NodeClass of {AWS}/v1",
}


def check(cluster: Cluster) -> Iterator[Problem]:
    for (group, kind), now in _NOW.items():
        for manifest in cluster.of(kind, group=group):
            yield Problem(
                manifest, ("kind",), f"Karpenter has no {kind} since 0.33: the object is refused", hint=f"write {now}"
            )


RULE = Rule("STK-KARPENTER-002", Severity.ERROR, "A kind that is gone", check, __name__, guide=("E01",))
