"""NodePools and EC2NodeClasses."""

from stoker.lint.rule import Rule

RULES: tuple[Rule, ...] = ()
