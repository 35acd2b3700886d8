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
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._moving import alone
from stoker.lint.rules.karpenter._views import BUDGETS, REASONS, pools
from stoker.manifests.edits import Edit, Remove, Replace
from stoker.manifests.objects import Manifest, is_open, sections

_BY_LOWER = {each.lower(): each for each in REASONS}
_FORCED = ("expired", "expiration", "interrupted", "interruption", "spotinterruption", "deleted", "unhealthy")


def check(cluster: Cluster) -> Iterator[Problem]:
    return alone(problems(cluster))


def problems(cluster: Cluster) -> Iterator[Problem]:
    """With what mends them, whatever the version of the object."""
    for pool in pools(cluster):
        every = sections(pool.get(*BUDGETS))
        useless = [i for i, budget in every if _is_useless(pool, budget)]
        for i, budget in every:
            for j, reason in _unknown(pool, budget):
                edits = _edits(pool, i, j, reason, useless)
                meant = _BY_LOWER.get(reason.lower())
                why = "no budget holds that up" if reason.lower() in _FORCED else "Karpenter gives no such reason"
                right = meant or ("no budget for it" if i in useless else "leave it out")
                yield Problem(
                    pool,
                    (*BUDGETS, i, "reasons", j),
                    f"there is no reason {reason}: {why}, and the pool is refused",
                    hint=f"{right}; the reasons are {', '.join(REASONS)}",
                    edits=edits,
                )


def _unknown(pool: Manifest, budget: dict[str, Any]) -> list[tuple[int, str]]:
    reasons = budget.get("reasons")
    return [
        (j, reason)
        for j, reason in enumerate(reasons if isinstance(reasons, list) else ())
        if isinstance(reason, str) and reason not in REASONS and not is_open(pool, reason)
    ]


def _is_useless(pool: Manifest, budget: dict[str, Any]) -> bool:
    """Whether no reason of the budget exists, nor is one that is only misspelt."""
    unknown = _unknown(pool, budget)
    misspelt = any(reason.lower() in _BY_LOWER for _, reason in unknown)
    return bool(unknown) and len(unknown) == len(budget["reasons"]) and not misspelt


def _edits(pool: Manifest, i: int, j: int, reason: str, useless: list[int]) -> tuple[Edit, ...]:
    path = (*BUDGETS, i, "reasons", j)
    if i not in useless:
        meant = _BY_LOWER.get(reason.lower())
        return (Replace(path, meant) if meant else Remove(path),)
    if j > 0:
        return ()  # the budget goes with its first reason
    if len(useless) < len(pool.get(*BUDGETS)):
        return (Remove((*BUDGETS, i)),)
    # An empty list would be no limit at all; without the field there is the default of 10%.
    return (Remove(BUDGETS),) if i == useless[0] else ()


RULE = Rule("STK-KARPENTER-012", Severity.ERROR, "A budget for an unknown reason", check, __name__, guide=("E09",))
