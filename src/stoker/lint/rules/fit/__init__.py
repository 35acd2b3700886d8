"""Does each pod find a place: what fits where, and what the limits allow together."""

from stoker.lint.rule import Rule
from stoker.lint.rules.fit import (
    arch_not_offered,
    capacity_type_not_offered,
    daemons_push_out,
    fits_no_type,
    fits_one_type,
    gpus_left_idle,
    just_misses,
    more_replicas_than_zones,
    nearly_full,
    no_gpu_pool,
    over_pool_limit,
    scaled_above_limits,
    spread_over_one_zone,
    sum_above_limits,
    too_few_values,
    type_not_offered,
    unused_sizes,
    zone_not_offered,
)

RULES: tuple[Rule, ...] = (
    fits_no_type.RULE,
    just_misses.RULE,
    fits_one_type.RULE,
    daemons_push_out.RULE,
    over_pool_limit.RULE,
    scaled_above_limits.RULE,
    sum_above_limits.RULE,
    unused_sizes.RULE,
    zone_not_offered.RULE,
    type_not_offered.RULE,
    arch_not_offered.RULE,
    capacity_type_not_offered.RULE,
    no_gpu_pool.RULE,
    gpus_left_idle.RULE,
    nearly_full.RULE,
    spread_over_one_zone.RULE,
    more_replicas_than_zones.RULE,
    too_few_values.RULE,
)
