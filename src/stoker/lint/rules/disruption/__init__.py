"""What keeps nodes and pods from leaving, or lets them leave too soon."""

from stoker.lint.rule import Rule

RULES: tuple[Rule, ...] = ()
