"""Whether a replica is tried: a circuit breaker as a pure state machine. The gateway keeps one for each replica.

    closed     every request may go there
    open       it failed: nothing goes there until its time has come
    half-open  one request at a time, the trial: an answer closes it, a failure opens it again, for longer

    closed -> open        IN_A_ROW failures, or RATE of the last WINDOW outcomes, or nobody listens there at all
    open -> half-open     by time alone: after FIRST_S, twice as long after each further opening, CAP_S at most
    half-open -> closed   an answer
    half-open -> open     a failure, of the trial or of a probe

A probe asks a replica for its health while no request is at stake. One that fails opens a breaker or keeps it open; one
that succeeds closes a breaker that was opened because nobody listened, and leaves the rest to the trial: an engine that
is healthy and fails every request is not up.
"""

from dataclasses import dataclass, replace
from typing import Literal

State = Literal["closed", "open", "half-open"]

IN_A_ROW = 3
WINDOW = 20
RATE = 0.5
FIRST_S = 2.0
CAP_S = 30.0

_MASK = (1 << WINDOW) - 1


@dataclass(frozen=True, slots=True)
class Breaker:
    """`until` is the time before which an open one stays open. `openings` counts those since it was closed last.
    `recent` holds the last `outcomes` outcomes while it was closed, a bit each, 1 for a failure."""

    until: float | None = None
    openings: int = 0
    nobody_listened: bool = False
    trial: float | None = None
    """When the trial began that is under way; None: there is none."""
    in_a_row: int = 0
    recent: int = 0
    outcomes: int = 0

    def state(self, now: float) -> State:
        if self.until is None:
            return "closed"
        return "open" if now < self.until else "half-open"

    def admits(self, now: float) -> bool:
        """Whether a request may go there now."""
        return self.until is None or (now >= self.until and self.trial is None)

    def is_up(self, now: float) -> bool:
        """Whether it serves, as far as is known; a trial that runs does not make it less so."""
        return self.until is None or now >= self.until

    def began(self, now: float) -> "Breaker":
        """A request goes there, which `admits` allowed."""
        return self if self.until is None else replace(self, trial=now)

    def gave_up(self, began_at: float) -> "Breaker":
        """A request that began then ended without a verdict: its client went away, or the engine was full."""
        return replace(self, trial=None) if self.trial == began_at else self

    def succeeded(self, now: float) -> "Breaker":
        """An answer came. One to an older request does not close a breaker that has been opened since."""
        if self.until is None:
            recent = self.recent << 1 & _MASK
            # When all that is known is good there is nothing to remember, and no object to make for each request.
            return (
                replace(self, in_a_row=0, recent=recent, outcomes=min(self.outcomes + 1, WINDOW)) if recent else CLEAN
            )
        return CLEAN if now >= self.until else self

    def failed(self, now: float, *, nobody_listens: bool = False) -> "Breaker":
        """No answer came, or one that says that the engine is broken. `nobody_listens`: no connection could be made."""
        if self.until is not None:
            return self._opened(now, nobody_listens) if now >= self.until else self
        counted = replace(
            self,
            in_a_row=self.in_a_row + 1,
            recent=(self.recent << 1 | 1) & _MASK,
            outcomes=min(self.outcomes + 1, WINDOW),
        )
        is_often = counted.outcomes == WINDOW and counted.recent.bit_count() >= RATE * WINDOW
        return (
            counted._opened(now, nobody_listens)
            if nobody_listens or is_often or counted.in_a_row >= IN_A_ROW
            else counted
        )

    def probed(self, now: float, *, is_healthy: bool) -> "Breaker":
        """It was asked for its health. A closed one whose probe succeeds learns nothing: requests say more."""
        if not is_healthy:
            return self.failed(now, nobody_listens=self.nobody_listened)
        return CLEAN if self.until is not None and self.nobody_listened else self

    def _opened(self, now: float, nobody_listened: bool) -> "Breaker":
        wait_s = min(CAP_S, FIRST_S * 2 ** min(self.openings, 30))
        return Breaker(until=now + wait_s, openings=self.openings + 1, nobody_listened=nobody_listened)


CLEAN = Breaker()
