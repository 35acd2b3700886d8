"""Labels, selectors, tolerations and names that must meet."""

from stoker.lint.rule import Rule

RULES: tuple[Rule, ...] = ()
