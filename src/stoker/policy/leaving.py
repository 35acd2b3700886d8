"""When a machine is taken away: until when running work may go on, and whether a notice still stands.

Workers and training ask: `instance.notices` looks at the instance's metadata, `worker.loop` acts.
"""

import math
from dataclasses import dataclass
from typing import Literal

SpotAction = Literal["terminate", "stop", "hibernate"]
Action = SpotAction | Literal["rebalance"]

# So many looks in a row have to find no notice before one that stood is taken for withdrawn.
LOOKS_TO_WITHDRAW = 2


@dataclass(frozen=True, slots=True)
class Notice:
    """Why to leave. `at` is when the instance goes, in seconds since the epoch; None: nobody said, or not readably."""

    action: Action
    at: float | None = None


def finish_by(notice: Notice, *, now: float, reserve_s: float) -> float:
    """Until when running tasks may go on before they are handed back, in seconds since the epoch; never before `now`.

    1. terminate, stop: until `reserve_s` before the instance goes. A time that is past or cannot be read is now.
    2. hibernate: now, since it begins with the notice.
    3. rebalance: as long as they take. Nobody has said that the instance goes.
    """
    if notice.action == "rebalance":
        return math.inf
    if notice.action == "hibernate" or notice.at is None:
        return now
    return max(now, notice.at - reserve_s)


@dataclass(frozen=True, slots=True)
class Standing:
    """The notice that stands, and how many looks in a row have not found it."""

    notice: Notice | None = None
    misses: int = 0


def looked(before: Standing, found: Notice | None) -> Standing:
    """After a look that was answered. One that finds nothing may be a glitch; the next one that does is believed."""
    if found is not None or before.notice is None:
        return Standing(found)
    misses = before.misses + 1
    return Standing() if misses >= LOOKS_TO_WITHDRAW else Standing(before.notice, misses)


def unanswered(before: Standing) -> Standing:
    """After a look that was not answered, which says nothing: no notice comes of it, and none goes."""
    return Standing(before.notice)
