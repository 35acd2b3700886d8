"""kro graphs."""

from stoker.lint.rule import Rule

RULES: tuple[Rule, ...] = ()
