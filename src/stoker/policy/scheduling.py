"""Which node kube-scheduler binds a pod to, and whom it would evict for it: filters, scores, preemption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stoker.policy.cluster import DisruptionBudget, Node, Pod, PodShape


@dataclass(frozen=True, slots=True)
class Binding:
    """`node` is the name of the chosen one; None: no node does, and `against` says how many nodes each reason rules out
    (`Insufficient nvidia.com/gpu` -> 3), in kube-scheduler's words."""

    node: str | None
    against: Mapping[str, int]


def bind(pod: Pod, nodes: Sequence[Node]) -> Binding:
    """`nodes` are all there are; those that are not ready or are leaving are no choice. Spread and affinity count their
    `pods`."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Preemption:
    node: str
    victims: tuple[str, ...]
    """Names of pods."""


def preempt(pod: Pod, nodes: Sequence[Node], budgets: Sequence[DisruptionBudget] = ()) -> Preemption | None:
    """For a pod that `bind` found no node for: which pods of lower priority have to go from which node. None where that
    does not help, or the pod may not preempt."""
    raise NotImplementedError


def first_to_leave(pods: Sequence[Pod], nodes: Mapping[str, Node], now: float, count: int) -> list[Pod]:
    """Which `count` pods a ReplicaSet stops when it has too many: the whole order of `ActivePodsWithRanks`."""
    raise NotImplementedError


def may_evict(pod: Pod, all_pods: Sequence[Pod], budgets: Sequence[DisruptionBudget]) -> bool:
    """Whether the Eviction API would let the pod go now: its PodDisruptionBudgets allow one more to be away."""
    raise NotImplementedError


def selects(selector_of: DisruptionBudget, shape: PodShape) -> bool:
    """Whether a PodDisruptionBudget is about pods of this shape."""
    raise NotImplementedError
