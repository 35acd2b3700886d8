"""What an attacker, an auditor or a bad day would find."""

from stoker.lint.rule import Rule

RULES: tuple[Rule, ...] = ()
