"""KEDA: triggers, their parameters, and what the numbers really do."""

from stoker.lint.rule import Rule
from stoker.lint.rules.keda import (
    bad_value,
    cloudwatch_dimensions,
    given_twice,
    ignored_counter,
    missing_parameter,
    never_wakes,
    pending_only,
    stream_never_falls,
    unknown_parameter,
    unknown_trigger,
    variable_of_target,
    zero_while_working,
)

RULES: tuple[Rule, ...] = (
    unknown_trigger.RULE,
    unknown_parameter.RULE,
    missing_parameter.RULE,
    cloudwatch_dimensions.RULE,
    bad_value.RULE,
    given_twice.RULE,
    variable_of_target.RULE,
    ignored_counter.RULE,
    pending_only.RULE,
    never_wakes.RULE,
    zero_while_working.RULE,
    stream_never_falls.RULE,
)
