"""What is asked of a pod's node, and what Karpenter gives up of it, one thing after the other, when no node does.

Source: kubernetes-sigs/karpenter, pkg/controllers/provisioning/scheduling/preferences.go and pkg/scheduling/
requirements.go. A preference is a requirement until it is given up. Of several preferred node terms the heaviest counts
alone; of several required ones, the first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from stoker.policy.cluster import PodShape, PodTerm, Spread
from stoker.policy.requirements import Requirements, both
from stoker.policy.taints import Toleration

_ANY_PREFERENCE = Toleration(operator="Exists", effect="PreferNoSchedule")


@dataclass(frozen=True, eq=False)
class Wish:
    """A shape with what is asked at one moment. Wishes of one shape are the same objects every time."""

    shape: PodShape
    requirements: Requirements
    """Of the node's labels, the preferred ones among them."""
    strict: Requirements
    """Without the preferred ones: what decides which domains a spread counts."""
    tolerations: tuple[Toleration, ...]
    spread: tuple[Spread, ...]
    affinity: tuple[PodTerm, ...]
    anti_affinity: tuple[PodTerm, ...]
    is_impossible: bool = False
    """The pod's affinity matches no node whatever."""


@dataclass(frozen=True, slots=True)
class _State:
    alternatives: tuple[Requirements, ...]
    preferred: tuple[Requirements, ...]
    """The heaviest first, as are the preferred terms below."""
    affinity: tuple[PodTerm, ...]
    anti_affinity: tuple[PodTerm, ...]
    spread: tuple[Spread, ...]
    tolerations: tuple[Toleration, ...] = field(default=())


@lru_cache(maxsize=4096)
def wishes(shape: PodShape, has_preferred_taints: bool = False) -> tuple[Wish, ...]:
    """From everything that is preferred to what is required alone, each with one thing less than the one before.
    `has_preferred_taints`: some pool has a taint PreferNoSchedule, which is tolerated at the very end."""
    state: _State | None = _State(
        shape.view.requirements,
        tuple(each.requirements for each in sorted(shape.preferred, key=lambda each: -each.weight)),
        _heaviest_first(shape.affinity),
        _heaviest_first(shape.anti_affinity),
        shape.spread,
        shape.view.tolerations,
    )
    found = []
    while state is not None:
        found.append(_wish(shape, state))
        state = next(_relaxed(state, has_preferred_taints), None)
    return tuple(found)


def _relaxed(state: _State, has_preferred_taints: bool) -> Iterator[_State]:
    """What is given up, in the order of `Preferences.Relax`: the first that there is."""
    if len(state.alternatives) > 1:
        yield replace(state, alternatives=state.alternatives[1:])
    if (place := _first_preferred(state.affinity)) is not None:
        yield replace(state, affinity=_without(state.affinity, place))
    if (place := _first_preferred(state.anti_affinity)) is not None:
        yield replace(state, anti_affinity=_without(state.anti_affinity, place))
    if state.preferred:
        yield replace(state, preferred=state.preferred[1:])
    if (place := _first_preferred(state.spread)) is not None:
        # The last one takes the place of the one that goes.
        *rest, last = state.spread
        kept = [last if i == place else each for i, each in enumerate(rest)]
        yield replace(state, spread=tuple(kept))
    if has_preferred_taints and _ANY_PREFERENCE not in state.tolerations:
        yield replace(state, tolerations=(*state.tolerations, _ANY_PREFERENCE))


def _wish(shape: PodShape, state: _State) -> Wish:
    strict: Requirements = state.alternatives[0] if state.alternatives else {}
    return Wish(
        shape=shape,
        requirements=both(strict, state.preferred[0]) if state.preferred else strict,
        strict=strict,
        tolerations=state.tolerations,
        spread=state.spread,
        affinity=state.affinity,
        anti_affinity=state.anti_affinity,
        is_impossible=not state.alternatives,
    )


def _heaviest_first(terms: Sequence[PodTerm]) -> tuple[PodTerm, ...]:
    return tuple(sorted(terms, key=lambda each: (not each.is_required, -each.weight if not each.is_required else 0)))


def _first_preferred(held: Sequence[PodTerm | Spread]) -> int | None:
    return next((i for i, each in enumerate(held) if not each.is_required), None)


def _without(held: tuple[PodTerm, ...], place: int) -> tuple[PodTerm, ...]:
    return held[:place] + held[place + 1 :]
