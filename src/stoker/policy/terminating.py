"""How the nodes of Karpenter end when it is decided: when they expire, in which order their pods go, and when a drain
gives up being polite.

No budget holds expiry back, and nothing is launched before it. Who decides sooner is `disruption`.
"""

from collections.abc import Iterable

from stoker.policy.cluster import Disruption, Node, Pod

CRITICAL = ("system-cluster-critical", "system-node-critical")
SHORTEST_GRACE_S = 1.0
_LEAST_WAIT_S, _MOST_WAIT_S, _WAIT_PER_COMMAND_S = 600.0, 3600.0, 0.08


def expires_at(node: Node, settings: Disruption) -> float | None:
    """When a node is deleted for its age; None: never. (karpenter pkg/controllers/nodeclaim/expiration)"""
    return None if settings.expire_after_s is None else node.created_at + settings.expire_after_s


def eviction_groups(pods: Iterable[Pod]) -> tuple[tuple[Pod, ...], ...]:
    """In four groups, of which the next begins when the one before is gone: others, daemons, critical ones, critical
    daemons; those that are empty left out. (karpenter pkg/controllers/node/termination/terminator)"""
    groups: tuple[list[Pod], ...] = ([], [], [], [])
    for each in pods:
        is_critical, is_daemon = each.shape.view.priority_class in CRITICAL, each.shape.owner.startswith("DaemonSet ")
        groups[2 * is_critical + is_daemon].append(each)
    return tuple(tuple(group) for group in groups if group)


def forced_at(pod: Pod, deleted_at: float, settings: Disruption) -> float | None:
    """When a pod of a node that is deleted is stopped whatever its disruption budgets and annotations say, so that its
    grace is over when the node's is; None: never. (karpenter terminator.go, DeleteExpiringPods)"""
    if settings.termination_grace_s is None:
        return None
    return deleted_at + settings.termination_grace_s - max(pod.shape.grace_s, SHORTEST_GRACE_S)


def gives_up_after_s(commands: int) -> float:
    """How long replacements may take to be ready before a command is given up and its nodes stay.
    (karpenter pkg/controllers/disruption/queue.go)"""
    return min(max(_WAIT_PER_COMMAND_S * commands, _LEAST_WAIT_S), _MOST_WAIT_S)
