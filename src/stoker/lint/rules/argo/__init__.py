"""Argo Workflows and Argo CD."""

from stoker.lint.rule import Rule

RULES: tuple[Rule, ...] = ()
