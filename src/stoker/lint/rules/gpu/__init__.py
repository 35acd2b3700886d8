"""GPUs: requests, drivers, exporters, sharing."""

from stoker.lint.rule import Rule

RULES: tuple[Rule, ...] = ()
