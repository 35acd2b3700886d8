"""A NodePool refers to a node class that is not there.

A pool whose EC2NodeClass or NodeClass does not exist is not ready, and launches nothing.

Symptom: NodePool Ready=False, NodeClassNotReady; pods stay Pending

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}]
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          requirements: [{key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}]
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: gpu}
    ---
    apiVersion: karpenter.k8s.aws/v1
    kind: EC2NodeClass
    metadata: {name: gpu}
    spec:
      amiSelectorTerms: [{alias: al2023@v20260801}]
      role: node-role
      subnetSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]
      securityGroupSelectorTerms: [{tags: {karpenter.sh/discovery: atelier}}]

Source: aws/karpenter-provider-aws website/content/en/docs/concepts/nodepools.md (spec.template.spec.nodeClassRef)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.match._references import Reference, missing

_PATH = ("spec", "template", "spec", "nodeClassRef", "name")
_KINDS = ("EC2NodeClass", "NodeClass")


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in cluster.of("NodePool", group="karpenter.sh"):
        name = pool.get(*_PATH)
        kind = pool.get(*_PATH[:-1], "kind", default="EC2NodeClass")
        if not isinstance(name, str) or kind not in _KINDS:
            continue
        # EKS Auto Mode has a NodeClass of its own, default.
        built_in = ("default",) if kind == "NodeClass" else ()
        yield from missing(
            cluster,
            kind,
            [Reference(pool, _PATH, name, str(pool))],
            "the pool launches no node",
            f"{kind} {name} beside it, or exists: [{kind} ...] in the config",
            known=built_in,
            like=_KINDS,
        )


RULE = Rule(
    "STK-MATCH-018",
    Severity.WARNING,
    "A NodePool refers to a node class that is not there",
    check,
    __name__,
    guide=("R03",),
)
