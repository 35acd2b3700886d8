"""Ingress, load balancers and gateways."""

from stoker.lint.rule import Rule

RULES: tuple[Rule, ...] = ()
