"""Notice, rebalance, SIGTERM -> a wish, which the loop reads at the end of each step and agrees on with all processes.

No torch. Signals are caught in the main thread; metadata is watched in a thread, by one process of each node
(LOCAL_RANK 0), through `stoker.instance`. Durations are monotonic; a time in a notice that is past is now.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stoker.base.clock import Clock
from stoker.spec.run import RunSpot


class Wish(enum.IntEnum):
    """What this process wishes for; of all processes' wishes the highest is done."""

    GO_ON = 0
    SAVE = 1
    """Save, and go on (rebalance)."""
    STOP = 2
    """Save, and end as preempted."""


@dataclass(frozen=True)
class Why:
    wish: Wish
    reason: str
    """For people and the record: "spot notice: terminate at 12:00:00Z", "SIGTERM"."""
    deadline: float | None
    """By `clock.monotonic()`, when the save has to be durable; None: nobody said."""
    at: float
    """When it was noticed, by `clock.monotonic()`."""


class Interruption:
    """Use as a context: handlers and thread are there inside, and as before after it. A second SIGTERM changes nothing;
    SIGINT once is STOP, a second one raises KeyboardInterrupt."""

    def __init__(
        self, spot: RunSpot, *, environ: Mapping[str, str], clock: Clock, tell: Callable[[str], None], is_watcher: bool
    ) -> None:
        raise NotImplementedError

    def __enter__(self) -> "Interruption":
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        raise NotImplementedError

    @property
    def wish(self) -> Wish:
        """Cheap: read every step."""
        raise NotImplementedError

    @property
    def why(self) -> Why | None:
        raise NotImplementedError

    def done(self, wish: Wish) -> None:
        """A SAVE was done: it is not wished for any more, until the next rebalance."""
        raise NotImplementedError

    def nothing_unsaved(self, is_so: bool) -> None:
        """While nothing would be lost (before the first step, while compiling, in evaluation after a save), a STOP ends
        the process at once with exits.PREEMPTED, since nobody may come to the end of a step in time."""
        raise NotImplementedError
