"""Whose each moment of a replica was: its time shared by the requests that ran in it.

A request has a span on its replica and an amount of work. It works at a steady pace, its work divided by its span, and
a moment is shared by those who run in it in proportion to their pace. That is processor sharing, told by virtual time
as in fair queueing (Parekh and Gallager, "A Generalized Processor Sharing Approach to Flow Control", 1993): virtual
time passes at one over the sum of all paces, and who runs from s to e has pace x (V(e) - V(s)) of the time. The shares
of any window sum to the time in it at which anything ran.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Who = TypeVar("Who", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Span(Generic[Who]):
    """`who` ran from `began_at` to `ended_at` (seconds) and caused `work`, in any unit that is the same for all."""

    who: Who
    began_at: float
    ended_at: float
    work: float


class Timeline(Generic[Who]):
    """One replica. Spans that last no time have none of it; one without work counts as the least that any has."""

    def __init__(self, spans: Sequence[Span[Who]]) -> None:
        kept = sorted((span for span in spans if span.ended_at > span.began_at), key=lambda span: span.began_at)
        least = min((span.work for span in kept if span.work > 0), default=1.0)
        self._who = [span.who for span in kept]
        self._began = [span.began_at for span in kept]
        self._ended = [span.ended_at for span in kept]
        self._pace = [max(span.work, least) / (span.ended_at - span.began_at) for span in kept]
        self._longest = max((span.ended_at - span.began_at for span in kept), default=0.0)
        self._moments = _moments(self._began, self._ended, self._pace)
        self._times = [moment.at for moment in self._moments]

    def seconds(self, began_at: float, ended_at: float) -> dict[Who, float]:
        """Who had how many seconds of this window. What is missing to its length was idle."""
        first = bisect_left(self._began, began_at - self._longest)
        last = bisect_left(self._began, ended_at)
        (from_v, from_busy), (to_v, to_busy) = self._at(began_at), self._at(ended_at)
        found: dict[Who, float] = {}
        for i in range(first, last):
            if self._ended[i] <= began_at:
                continue
            since = from_v if self._began[i] <= began_at else self._at(self._began[i])[0]
            until = to_v if self._ended[i] >= ended_at else self._before(self._ended[i])
            who = self._who[i]
            found[who] = found.get(who, 0.0) + self._pace[i] * max(0.0, until - since)
        shared = sum(found.values())
        if not shared:
            return {}
        # Roundings of virtual time are shared out, too.
        busy = min(to_busy - from_busy, ended_at - began_at)
        return {who: seconds * busy / shared for who, seconds in found.items() if seconds > 0}

    def _at(self, time: float) -> tuple[float, float]:
        """Virtual time, and seconds so far in which anything ran."""
        i = bisect_right(self._times, time) - 1
        return (0.0, 0.0) if i < 0 else self._moments[i].after(time)

    def _before(self, time: float) -> float:
        """Virtual time as it was when a span ended then: it begins anew when nobody runs any more."""
        return self._moments[bisect_left(self._times, time) - 1].after(time)[0]


@dataclass(frozen=True, slots=True)
class _Moment:
    """Who runs changes here. From here on virtual time passes at `per_s`; 0: nobody runs."""

    at: float
    virtual: float
    busy_s: float
    per_s: float

    def after(self, time: float) -> tuple[float, float]:
        passed = time - self.at
        return self.virtual + passed * self.per_s, self.busy_s + (passed if self.per_s else 0.0)


def _moments(began: Sequence[float], ended: Sequence[float], pace: Sequence[float]) -> list[_Moment]:
    """Virtual time begins at 0 whenever somebody runs after nobody did, so that it stays small. Paces are summed as
    whole numbers: a small one is not lost beside a large one that leaves again."""
    ratios = [each.as_integer_ratio() for each in pace]
    scale = max((denominator for _, denominator in ratios), default=1)
    whole = [numerator * (scale // denominator) for numerator, denominator in ratios]
    changes: dict[float, int] = {}
    for times, sign in ((began, 1), (ended, -1)):
        for at, each in zip(times, whole, strict=True):
            changes[at] = changes.get(at, 0) + sign * each
    found: list[_Moment] = []
    total, virtual, busy_s = 0, 0.0, 0.0
    for at in sorted(changes):
        if found:
            virtual, busy_s = found[-1].after(at)
        was_idle = not total
        total += changes[at]
        found.append(_Moment(at, 0.0 if was_idle else virtual, busy_s, scale / total if total else 0.0))
    return found
