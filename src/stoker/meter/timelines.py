"""Whose each moment of a replica was: its time shared by the requests that ran in it.

A request has a span on its replica and an amount of work. It works at a steady pace, its work divided by its span, and
a moment is shared by those who run in it in proportion to their pace. That is processor sharing, told by virtual time
as in fair queueing (Parekh and Gallager, "A Generalized Processor Sharing Approach to Flow Control", 1993): virtual
time passes at one over the sum of all paces, and who runs from s to e has pace x (V(e) - V(s)) of the time. The shares
of any window sum to the time in it at which anything ran.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Sequence
from itertools import accumulate
from operator import itemgetter, mul, sub
from typing import Generic, NamedTuple, TypeVar

Who = TypeVar("Who", bound=Hashable)
_LEAST_WORK = 1e-9
"""Less is none."""
_TICKS = 2**32
"""Of a second."""
_BITS = 64
"""That an increment of virtual time has at least. As a float it would be lost: where one slow request runs beside many
fast ones, virtual time passes fast and slowly by turns."""


class Span(NamedTuple, Generic[Who]):
    """`who` ran from `began_at` to `ended_at` (seconds) and caused `work`, in any unit that is the same for all."""

    who: Who
    began_at: float
    ended_at: float
    work: float


class Timeline(Generic[Who]):
    """One replica. Spans that last less than a billionth of a second have none of it; one without work counts as the
    least that any has."""

    def __init__(self, spans: Sequence[Span[Who]]) -> None:
        ticks = [(round(span.began_at * _TICKS), round(span.ended_at * _TICKS), span) for span in spans]
        kept = sorted((each for each in ticks if each[1] > each[0]), key=itemgetter(0))
        least = min((span.work for _, _, span in kept if span.work >= _LEAST_WORK), default=1.0)
        self._who = [span.who for _, _, span in kept]
        self._began = [began for began, _, _ in kept]
        self._ended = [ended for _, ended, _ in kept]
        self._pace = _whole([max(span.work, least) / (span.ended_at - span.began_at) for _, _, span in kept])
        self._longest = max((ended - began for began, ended, _ in kept), default=0)
        self._times, totals = _paces(self._began, self._ended, self._pace)
        self._shift = _BITS + max((total.bit_length() for total in totals), default=0)
        self._per_tick = [(1 << self._shift) // total if total else 0 for total in totals]
        passed = map(sub, self._times[1:], self._times)
        self._virtual = [*accumulate(map(mul, passed, self._per_tick), initial=0)]
        at = dict(zip(self._times, self._virtual, strict=False))  # without spans there is no time, and the first 0
        self._virtual_began = [at[began] for began in self._began]
        self._virtual_ended = [at[ended] for ended in self._ended]

    def seconds(self, began_at: float, ended_at: float) -> dict[Who, float]:
        """Who had how many seconds of this window. What is missing to its length was idle."""
        began, ended = _ticks(began_at), _ticks(ended_at)
        first, last = self._at(began), self._at(ended)
        found: dict[Who, int] = {}
        for i in range(bisect_left(self._began, began - self._longest), bisect_left(self._began, ended)):
            if self._ended[i] > began:
                since = first if self._began[i] < began else self._virtual_began[i]
                until = last if self._ended[i] > ended else self._virtual_ended[i]
                who = self._who[i]
                found[who] = found.get(who, 0) + self._pace[i] * (until - since)
        scale = _TICKS << self._shift
        return {who: share / scale for who, share in found.items() if share > 0}

    def _at(self, time: int) -> int:
        """Virtual time."""
        i = bisect_right(self._times, time) - 1
        return 0 if i < 0 else self._virtual[i] + (time - self._times[i]) * self._per_tick[i]


def _ticks(seconds: float) -> int:
    return round(seconds * _TICKS)


def _whole(numbers: Sequence[float]) -> list[int]:
    """In the same proportions, exactly: denominators of floats are powers of two."""
    ratios = [number.as_integer_ratio() for number in numbers]
    scale = max((denominator for _, denominator in ratios), default=1)
    return [numerator * (scale // denominator) for numerator, denominator in ratios]


def _paces(began: Sequence[int], ended: Sequence[int], pace: Sequence[int]) -> tuple[list[int], list[int]]:
    """When who runs changes, and the sum of the paces from there on; 0: nobody runs."""
    changes: dict[int, int] = {}
    for times, sign in ((began, 1), (ended, -1)):
        for at, each in zip(times, pace, strict=True):
            changes[at] = changes.get(at, 0) + sign * each
    times_of_all, total, totals = sorted(changes), 0, []
    for at in times_of_all:
        total += changes[at]
        totals.append(total)
    return times_of_all, totals
