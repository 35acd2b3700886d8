"""What PodDisruptionBudgets allow: how many pods may go now, and whether the Eviction API would let one go."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from stoker.policy.cluster import DisruptionBudget, Pod, PodShape
from stoker.policy.fitting import matches


@lru_cache(1 << 14)
def selects(selector_of: DisruptionBudget, shape: PodShape) -> bool:
    """Whether a PodDisruptionBudget is about pods of this shape. An empty selector is about all of its namespace."""
    return selector_of.namespace == shape.namespace and matches(selector_of.selector, shape.labels)


@dataclass(frozen=True, slots=True)
class Room:
    """The status of one budget. `allowed` is how many more of its pods may go."""

    expected: int
    healthy: int
    desired: int
    allowed: int


def room(budget: DisruptionBudget, all_pods: Iterable[Pod]) -> Room:
    """As the disruption controller computes it. (pkg/controller/disruption/disruption.go, getExpectedPodCount.)

    What the controllers of its pods want is taken from the pods that are there, bound or waiting, and not leaving: a
    controller replaces a pod that leaves at once.
    """
    own = [pod for pod in all_pods if selects(budget, pod.shape)]
    staying = [pod for pod in own if pod.leaving_since is None]
    healthy = sum(pod.ready_at is not None for pod in staying)
    if budget.max_unavailable is not None:
        expected = len(staying)
        desired = max(expected - _scaled(budget.max_unavailable, budget.is_percent, expected), 0)
    elif budget.min_available is not None and budget.is_percent:
        expected = len(staying)
        desired = _scaled(budget.min_available, True, expected)
    elif budget.min_available is not None:
        expected, desired = len(own), budget.min_available
    else:
        expected, desired = 0, 0  # neither is said: nothing is expected, and then nothing may go
    allowed = max(healthy - desired, 0) if expected > 0 else 0
    return Room(expected, healthy, desired, allowed)


def _scaled(value: int, is_percent: bool, of: int) -> int:
    """A percentage is rounded up, also one of pods that may be away."""
    return -(-value * of // 100) if is_percent else value


Rooms = Sequence[tuple[DisruptionBudget, Room]]


def rooms(all_pods: Sequence[Pod], budgets: Iterable[DisruptionBudget]) -> Rooms:
    return tuple((each, room(each, all_pods)) for each in budgets)


def is_held(pod: Pod, by: Rooms) -> bool:
    """Whether the Eviction API would refuse now. (pkg/registry/core/pod/storage/eviction.go.)

    1. One that has no node yet, or is leaving already, is not held.
    2. One that no budget is about, neither.
    3. More than one budget is an error.
    4. One that is not ready may go while as many are healthy as have to be (`unhealthyPodEvictionPolicy` by default).
    5. Any other, while its budget allows one more to be away.
    """
    if pod.node is None or pod.leaving_since is not None:
        return False
    own = [now for budget, now in by if selects(budget, pod.shape)]
    if not own:
        return False
    if len(own) > 1:
        return True
    now = own[0]
    if pod.ready_at is None and now.healthy >= now.desired > 0:
        return False
    return now.allowed <= 0


def may_evict(pod: Pod, all_pods: Sequence[Pod], budgets: Sequence[DisruptionBudget]) -> bool:
    """Whether the Eviction API would let the pod go now: its PodDisruptionBudgets allow one more to be away."""
    return not is_held(pod, rooms(all_pods, (each for each in budgets if selects(each, pod.shape))))
