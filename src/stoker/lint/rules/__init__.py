"""Every rule, by area. A rule is one file; each area's list is in its `__init__`, in the order of the ids."""

from stoker.lint.rule import Rule
from stoker.lint.rules import (
    api,
    argo,
    aws,
    disruption,
    edge,
    fit,
    gpu,
    karpenter,
    keda,
    kro,
    match,
    read,
    scripts,
    security,
    training,
)
from stoker.lint.rules import lint as own

RULES: tuple[Rule, ...] = (
    *read.RULES,
    *api.RULES,
    *karpenter.RULES,
    *fit.RULES,
    *match.RULES,
    *keda.RULES,
    *disruption.RULES,
    *gpu.RULES,
    *training.RULES,
    *scripts.RULES,
    *security.RULES,
    *edge.RULES,
    *argo.RULES,
    *kro.RULES,
    *aws.RULES,
    *own.RULES,
)

TROUBLES: dict[str, Rule] = read.TROUBLES
"""Kind of a trouble of reading -> the rule that is its page."""
