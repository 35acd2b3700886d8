"""NodePools and EC2NodeClasses."""

from stoker.lint.rule import Rule
from stoker.lint.rules.karpenter import (
    expire_after_moved,
    gone_kind,
    kubelet_moved,
    no_ami,
    no_template,
    no_wait,
    node_class_ref,
    old_names,
    old_version,
    policy_renamed,
    reasons_in_v1beta1,
    schedule_alone,
    unknown_reason,
    wait_beside_underutilized,
)

RULES: tuple[Rule, ...] = (
    old_version.RULE,
    gone_kind.RULE,
    policy_renamed.RULE,
    wait_beside_underutilized.RULE,
    expire_after_moved.RULE,
    node_class_ref.RULE,
    kubelet_moved.RULE,
    no_wait.RULE,
    no_template.RULE,
    no_ami.RULE,
    reasons_in_v1beta1.RULE,
    unknown_reason.RULE,
    schedule_alone.RULE,
    old_names.RULE,
)
