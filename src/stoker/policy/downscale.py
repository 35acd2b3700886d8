"""Which pods a ReplicaSet stops first when it has too many: the order that `scheduling` has for pods of a cluster and
`scaling` for the replicas of one machine. (pkg/controller/controller_utils.go, ActivePodsWithRanks.)
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cmp_to_key

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """One pod, as far as it matters who leaves first. Times are of one clock; `ready_at` None: it is not ready."""

    name: str
    created_at: float
    ready_at: float | None
    restarts: int = 0
    is_bound: bool = True
    is_running: bool = True
    """Its containers have been started."""
    deletion_cost: int = 0
    beside: int = 0
    """Pods of the same owner on its node, itself among them."""


def in_order(pods: Iterable[Candidate], now: float | None = None) -> list[Candidate]:
    """The first is stopped first. With `now`, ages whose logarithms to base 2 (of nanoseconds) have the same whole part
    are the same age, and then the name decides, as the UID does; without, the younger one goes first."""

    def compare(a: Candidate, b: Candidate) -> int:
        return _compare(a, b, now)

    return sorted(sorted(pods, key=lambda pod: pod.name), key=cmp_to_key(compare))


def _compare(a: Candidate, b: Candidate, now: float | None) -> int:
    """Negative where `a` goes first.

    1. Without a node; 2. not started; 3. not ready; 4. the lower deletion cost; 5. more of its owner's pods on the
    node; 6. ready more recently; 7. more restarts; 8. created more recently.
    """
    for x, y in (
        (a.is_bound, b.is_bound),
        (a.is_running, b.is_running),
        (a.ready_at is not None, b.ready_at is not None),
        (a.deletion_cost, b.deletion_cost),
        (-a.beside, -b.beside),
    ):
        if x != y:
            return -1 if x < y else 1
    if a.ready_at is not None and b.ready_at is not None and a.ready_at != b.ready_at:
        return _by_age(a.name, a.ready_at, b.name, b.ready_at, now)
    if a.restarts != b.restarts:
        return b.restarts - a.restarts
    if a.created_at != b.created_at:
        return _by_age(a.name, a.created_at, b.name, b.created_at, now)
    return 0


def _by_age(a: str, at_a: float, b: str, at_b: float, now: float | None) -> int:
    """Two different times. (logarithmicRankDiff.)"""
    if now is None:
        return -1 if at_a > at_b else 1
    difference = _rank(now - at_a) - _rank(now - at_b)
    return difference or (-1 if a < b else 1)


def _rank(age_s: float) -> int:
    return int(math.log2(age_s * _NS)) if age_s * _NS >= 1 else -1
