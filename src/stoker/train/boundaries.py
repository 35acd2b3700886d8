"""What happens at the end of a step. Pure: all processes have the same numbers, and so they do the same."""

import enum
from dataclasses import dataclass

from stoker.train import exits


class Flag(enum.IntEnum):
    """What a process may say at the end of a step; what is agreed on is how many said it."""

    SAVE = 0
    """It wishes for a save (rebalance)."""
    STOP = 1
    """It wishes to end (notice, SIGTERM)."""
    BUSY = 2
    """Its last save is not durable yet."""
    DUE = 3
    """Process 0: the interval is over."""
    SPENT = 4
    """Process 0: the budget is spent."""
    FENCED = 5
    """Another launch has taken over."""


@dataclass(frozen=True)
class Next:
    """In this order: validate, save (why), end (with which code; after the save is durable)."""

    validate: bool = False
    save: str | None = None
    end: int | None = None


def after_step(
    said: frozenset[Flag], *, step: int, steps: int, saved: int, validates: bool, validate_every: int | None
) -> Next:
    """`step` steps of `steps` are done, `saved` of them in the last save that was begun.

    1. Fenced off: nothing is written any more.
    2. A stop goes before everything: what nobody may have time for is not done.
    3. A save that is due waits while the last one is being written; so does one that is wished for.
    """
    if Flag.FENCED in said:
        return Next(end=exits.FENCED)
    is_unsaved = step > saved
    if step >= steps:
        return Next(validate=validates, save="end" if is_unsaved else None, end=exits.COMPLETED)
    if Flag.STOP in said:
        return Next(save="preempted" if is_unsaved else None, end=exits.PREEMPTED)
    if Flag.SPENT in said:
        return Next(save="budget" if is_unsaved else None, end=exits.BUDGET_SPENT)
    validate = validates and validate_every is not None and step % validate_every == 0
    if Flag.BUSY in said or not is_unsaved:
        return Next(validate=validate)
    why = "rebalance" if Flag.SAVE in said else "interval" if Flag.DUE in said else None
    return Next(validate=validate, save=why)
