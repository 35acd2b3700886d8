"""About the linter's own work: comments that silence, and rules that failed."""

from stoker.lint.rule import Rule
from stoker.lint.rules.lint import failed_rule, idle_comment, unread_comment

RULES: tuple[Rule, ...] = (unread_comment.RULE, idle_comment.RULE, failed_rule.RULE)
