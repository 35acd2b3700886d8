"""Requirements of one key that leave nothing.

Every line of `requirements` must hold. Two lines of one key are intersected; when they have no value in common the
pool launches no node, and says so only when a pod waits.

Symptom: pods stay Pending; no instance type satisfied resources and requirements

Wrong:

    apiVersion: karpenter.sh/v1
    kind: NodePool
    metadata: {name: serving}
    spec:
      template:
        spec:
          nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: serving}
          requirements:
          - {key: karpenter.k8s.aws/instance-family, operator: In, values: [g5]}
          - {key: karpenter.k8s.aws/instance-family, operator: NotIn, values: [g5, g6]}

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
          - {key: karpenter.k8s.aws/instance-size, operator: NotIn, values: [xlarge]}

Source: kubernetes-sigs/karpenter@v1.14.1 pkg/scheduling/requirement.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import lines_of, pools, view_of
from stoker.manifests.objects import is_open


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        lines = lines_of(pool)
        for key, asked in view_of(pool).requirements.items():
            of_key = [each for each in lines if each.key == key]
            if not asked.is_empty or len(of_key) < 2 or any(is_open(pool, v) for each in of_key for v in each.values):
                continue
            said = "; ".join(f"{each.operator} [{', '.join(each.values)}]" for each in of_key)
            yield Problem(
                pool,
                (*of_key[-1].path, "values"),
                f"the requirements of {key} have no value in common ({said}): the pool launches no node",
                hint=f"one line for {key}",
            )


RULE = Rule("STK-KARPENTER-018", Severity.ERROR, "Requirements that contradict one another", check, __name__)
