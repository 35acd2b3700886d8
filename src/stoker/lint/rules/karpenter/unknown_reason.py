"""A budget for a reason that does not exist.

The reasons are Underutilized, Empty and Drifted. Expiry, spot interruption, node repair and deletion by hand are not
asked: no budget holds them up, so a budget for them would do nothing even if it were accepted.

Symptom: spec.disruption.budgets[1].reasons[0]: Unsupported value: "Expired"

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
        consolidateAfter: 30s
        budgets:
        - nodes: "33%"
        - nodes: "100%"
          reasons: [Expired]

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
        consolidateAfter: 30s
        budgets:
        - nodes: "33%"

Source: aws/karpenter-provider-aws@v1.14.1 pkg/apis/crds/karpenter.sh_nodepools.yaml
Source: Karpenter documentation, disruption: automated forceful methods
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._views import BUDGETS, REASONS, is_open, pools
from stoker.manifests.edits import Edit, Remove, Replace
from stoker.manifests.objects import Manifest, sections

_BY_LOWER = {each.lower(): each for each in REASONS}
_FORCED = ("expired", "expiration", "interrupted", "interruption", "spotinterruption", "deleted", "unhealthy")


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in pools(cluster):
        for i, budget in sections(pool.get(*BUDGETS)):
            reasons = budget.get("reasons")
            if not isinstance(reasons, list):
                continue
            named = [
                (j, reason)
                for j, reason in enumerate(reasons)
                if isinstance(reason, str) and reason not in REASONS and not is_open(pool, reason)
            ]
            for n, (j, reason) in enumerate(named):
                useless = len(named) == len(reasons) and not any(each.lower() in _BY_LOWER for _, each in named)
                yield _problem(pool, i, j, reason, alone=useless, first=n == 0)


def _problem(pool: Manifest, budget: int, j: int, reason: str, *, alone: bool, first: bool) -> Problem:
    path = (*BUDGETS, budget, "reasons", j)
    meant = _BY_LOWER.get(reason.lower())
    forced = reason.lower() in _FORCED
    why = "no budget holds that up" if forced else "Karpenter gives no such reason"
    edits: tuple[Edit, ...] = (Remove(path),)
    if meant is not None:
        edits = (Replace(path, meant),)
    elif alone:
        last = len(pool.get(*BUDGETS)) == 1
        # Without any budget there would be no limit at all; without the field there is the default of 10%.
        edits = (Remove(BUDGETS if last else (*BUDGETS, budget)),) if first else ()
    right = meant or ("no budget for it" if alone else "leave it out")
    return Problem(
        pool,
        path,
        f"there is no reason {reason}: {why}, and the pool is refused",
        hint=f"{right}; the reasons are {', '.join(REASONS)}",
        edits=edits,
    )


RULE = Rule("STK-KARPENTER-012", Severity.ERROR, "A budget for an unknown reason", check, __name__, guide=("E09",))
