"""Jobs of many pods: their network, their ranks, their checkpoints."""

from stoker.lint.rule import Rule

RULES: tuple[Rule, ...] = ()
