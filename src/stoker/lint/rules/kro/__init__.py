"""kro graphs."""

from stoker.lint.rule import Rule
from stoker.lint.rules.kro import (
    bad_declaration,
    bad_id,
    instance_field,
    instance_version,
    no_selector,
    resource_cycle,
    text_of_numbers,
    undeclared_input,
    unknown_field,
    unknown_resource,
    unused_input,
    wrong_group,
    wrong_kind,
)

RULES: tuple[Rule, ...] = (
    wrong_group.RULE,
    wrong_kind.RULE,
    instance_version.RULE,
    unknown_field.RULE,
    undeclared_input.RULE,
    unused_input.RULE,
    unknown_resource.RULE,
    resource_cycle.RULE,
    no_selector.RULE,
    instance_field.RULE,
    bad_declaration.RULE,
    bad_id.RULE,
    text_of_numbers.RULE,
)
