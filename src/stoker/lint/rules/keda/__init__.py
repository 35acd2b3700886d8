"""KEDA: triggers, their parameters, and what the numbers really do."""

from stoker.lint.rule import Rule

RULES: tuple[Rule, ...] = ()
