"""What the API server refuses, by its own schemas: one file for each kind of fault."""

from stoker.lint.rule import Rule
from stoker.lint.rules.api import (
    bad_value,
    cel,
    list_duplicate,
    missing_field,
    not_evaluated,
    not_in_enum,
    unknown_field,
    unknown_kind,
    unserved_version,
    wrong_type,
)

RULES: tuple[Rule, ...] = (
    unknown_field.RULE,
    wrong_type.RULE,
    missing_field.RULE,
    not_in_enum.RULE,
    bad_value.RULE,
    list_duplicate.RULE,
    cel.RULE,
    not_evaluated.RULE,
    unknown_kind.RULE,
    unserved_version.RULE,
)
