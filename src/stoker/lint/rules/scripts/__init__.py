"""Code that is written into manifests: commands, inline Python, shell scripts, user data."""

from stoker.lint.rule import Rule
from stoker.lint.rules.scripts import (
    kills_out_of_reach,
    metadata_out_of_reach,
    metadata_without_token,
    name_not_imported,
    python_syntax,
    reference_to_nothing,
    shell_keeps_signals,
    sleeps_through_notice,
    variable_not_expanded,
    variable_not_set,
)

RULES: tuple[Rule, ...] = (
    name_not_imported.RULE,
    python_syntax.RULE,
    variable_not_set.RULE,
    variable_not_expanded.RULE,
    reference_to_nothing.RULE,
    metadata_without_token.RULE,
    kills_out_of_reach.RULE,
    sleeps_through_notice.RULE,
    metadata_out_of_reach.RULE,
    shell_keeps_signals.RULE,
)
