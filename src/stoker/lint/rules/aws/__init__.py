"""ACK objects and AWS definitions written as manifests."""

from stoker.lint.rule import Rule

RULES: tuple[Rule, ...] = ()
