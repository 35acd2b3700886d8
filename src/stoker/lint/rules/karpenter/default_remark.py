"""A comment states another default than Karpenter has.

`consolidateAfter` is 0s when the whole disruption block is left out, `expireAfter` 720h, and without budgets one of
10% holds. Who takes the comment's number for the default and leaves the field out gets another behaviour.

Symptom: nodes are removed at once where thirty seconds were expected

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
      disruption:
        consolidateAfter: 30s  # the default is 30s

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
      disruption:
        consolidateAfter: 30s  # the default is 0s

Source: aws/karpenter-provider-aws@v1.14.1 pkg/apis/crds/karpenter.sh_nodepools.yaml
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import pools, remarks

_STATED = re.compile(r"\bdefaults?\b\D{0,24}?(\d+)\s*(s|m|h|d|sec|min|hours?|days?|minutes?|seconds?|%)(?![a-z])", re.I)
_DEFAULTS = {"consolidateAfter": ("0s", 0), "expireAfter": ("720h", 720 * 3600), "nodes": ("10%", 10)}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "%": 1}


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        for remark in remarks(pool):
            field = str(remark.path[-1])
            stated = _STATED.search(remark.text) if field in _DEFAULTS else None
            if stated is None:
                continue
            text, number = _DEFAULTS[field]
            unit = stated[2][0].lower()
            same_kind = (unit == "%") == text.endswith("%")
            if same_kind and int(stated[1][:9]) * _UNITS[unit] != number:
                yield Problem(
                    pool,
                    remark.path,
                    f"the comment calls {stated[1]}{stated[2]} the default of {field}: it is {text}",
                    hint=f"default: {text}",
                )


RULE = Rule("STK-KARPENTER-023", Severity.WARNING, "A comment states a false default", check, __name__, guide=("E06",))
