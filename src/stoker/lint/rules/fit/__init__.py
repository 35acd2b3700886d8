"""Does each pod find a place: what fits where, and what the limits allow together."""

from stoker.lint.rule import Rule

RULES: tuple[Rule, ...] = ()
