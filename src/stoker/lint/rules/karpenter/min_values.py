"""More different values are asked for than there are.

`minValues` is the least number of different values among the types that Karpenter can choose from. With more than the
pool's types have, it launches nothing, however much capacity there is.

Symptom: minValues requirement is not met for label(s) (label(s)=[karpenter.k8s.aws/instance-family])

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
          - {key: karpenter.k8s.aws/instance-generation, operator: Exists, minValues: 3}

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
          - {key: karpenter.k8s.aws/instance-generation, operator: Exists, minValues: 2}

Source: kubernetes-sigs/karpenter@v1.14.1 pkg/cloudprovider/types.go: minValues of the types
"""

from collections.abc import Iterator

from stoker.catalog.labels import OF_TYPES, labels_of
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import REQUIREMENTS, is_known, lines_of, pools, types_of, view_of


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        domain = view_of(pool).domain
        for line in lines_of(pool):
            least = pool.get(*line.path, "minValues")
            if not isinstance(least, int) or isinstance(least, bool):
                continue
            path = (*REQUIREMENTS, line.path[-1], "minValues")
            if line.operator == "In" and least > len(line.values):
                yield Problem(
                    pool,
                    path,
                    f"minValues {least}, and {len(line.values)} values are listed: the pool is refused",
                    hint=f"minValues: {len(line.values)} at most",
                    instead_of=REQUIREMENTS,
                )
            elif line.key in OF_TYPES[domain] and is_known(pool) and types_of(pool):
                there = {labels_of(each, domain).get(line.key) for each in types_of(pool)} - {None}
                if least > len(there):
                    yield Problem(
                        pool,
                        path,
                        f"minValues {least}, and the pool's types have {len(there)} values of {line.key}: "
                        "no node is launched",
                        hint=f"minValues: {len(there)} at most, or more types",
                    )


RULE = Rule("STK-KARPENTER-019", Severity.ERROR, "minValues above what there is", check, __name__)
