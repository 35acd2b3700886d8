"""ACK objects and AWS definitions written as manifests."""

from stoker.lint.rule import Rule
from stoker.lint.rules.aws import (
    addon_configuration,
    al2_node_group,
    bucket_tags,
    cluster_version,
    identity_without_account,
    job_definition,
    main_node_address,
    misplaced_volumes,
    no_dead_letters,
    no_tag_session,
    old_resources,
    open_bucket,
    platform_capability,
    spot_retry,
    tag_shape,
    unreadable_policy,
)

RULES: tuple[Rule, ...] = (
    job_definition.RULE,
    platform_capability.RULE,
    misplaced_volumes.RULE,
    old_resources.RULE,
    spot_retry.RULE,
    main_node_address.RULE,
    bucket_tags.RULE,
    tag_shape.RULE,
    open_bucket.RULE,
    al2_node_group.RULE,
    cluster_version.RULE,
    identity_without_account.RULE,
    no_tag_session.RULE,
    addon_configuration.RULE,
    no_dead_letters.RULE,
    unreadable_policy.RULE,
)
