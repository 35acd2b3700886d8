"""A budget with a schedule and no duration, or the other way round.

A schedule says when a budget begins to hold, the duration for how long: one without the other is refused. A budget
that is to hold always has neither.

Symptom: 'schedule' must be set with 'duration'

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
        - nodes: "20%"
          schedule: "* * * * *"

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
        - nodes: "20%"

Source: aws/karpenter-provider-aws@v1.14.1 pkg/apis/crds/karpenter.sh_nodepools.yaml, spec.disruption.budgets
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.karpenter._moving import alone
from stoker.lint.rules.karpenter._views import ALWAYS, BUDGETS, pools
from stoker.manifests.edits import Remove
from stoker.manifests.objects import sections


def check(cluster: Cluster) -> Iterator[Problem]:
    return alone(problems(cluster))


def problems(cluster: Cluster) -> Iterator[Problem]:
    """With what mends them, whatever the version of the object."""
    for pool in pools(cluster):
        for i, budget in sections(pool.get(*BUDGETS)):
            schedule, duration = budget.get("schedule"), budget.get("duration")
            if (schedule is None) == (duration is None):
                continue
            there, lacking = ("schedule", "duration") if duration is None else ("duration", "schedule")
            path = (*BUDGETS, i, there)
            always = isinstance(schedule, str) and " ".join(schedule.split()) == ALWAYS
            yield Problem(
                pool,
                path,
                f"{there} {budget[there]} without {lacking}: the pool is refused",
                hint="leave the schedule out: the budget then holds always" if always else f"{lacking} beside it",
                edits=(Remove(path),) if always else (),
                instead_of=BUDGETS,
            )


RULE = Rule(
    "STK-KARPENTER-013", Severity.ERROR, "A budget's schedule without duration", check, __name__, guide=("E13",)
)
