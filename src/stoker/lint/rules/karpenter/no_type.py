"""The requirements leave no instance type.

Each line is met by some type, and all together by none: such a pool is accepted, is ready, and never launches a node.

Symptom: pods stay Pending; NodePool requirements filtered out all available instance types

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5, g6]}
          - {key: karpenter.k8s.aws/instance-gpu-count, operator: In, values: ["2"]}

Right:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5, g6]}
          - {key: karpenter.k8s.aws/instance-gpu-count, operator: In, values: ["4"]}

Source: aws/karpenter-provider-aws@v1.14.1 website/content/en/docs/reference/instance-types.md
"""

from collections.abc import Iterator

from stoker.catalog import ec2
from stoker.catalog.labels import OF_TYPES, labels_of
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import REQUIREMENTS, Line, lines_of, listed, pools, types_of, view_of
from stoker.manifests.objects import Manifest


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        view = view_of(pool)
        if pool.templated or not view.requirements or view.contradictions or types_of(pool):
            continue
        strange = _unknown(pool)
        news = f", if {listed(strange)} is not newer than this catalogue" if strange else ""
        yield Problem(
            pool,
            REQUIREMENTS,
            f"no instance type meets all requirements{news}: the pool never launches a node",
            hint="drop the requirement that the wanted type does not meet",
            severity=Severity.WARNING if strange else None,
        )


def _unknown(pool: Manifest) -> list[str]:
    """Values that no type of the catalogue has: the type may be newer."""
    domain = view_of(pool).domain
    lines = [each for each in lines_of(pool) if each.operator == "In" and each.key in OF_TYPES[domain]]
    known = {key: {labels_of(each, domain).get(key) for each in ec2.instance_types().values()} for key in _keys(lines)}
    return [value for each in lines for value in each.values if value not in known[each.key]]


def _keys(lines: list[Line]) -> set[str]:
    return {each.key for each in lines}


RULE = Rule("STK-KARPENTER-021", Severity.ERROR, "No instance type is left", check, __name__)
