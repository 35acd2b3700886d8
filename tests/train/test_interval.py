"""When a checkpoint is due, and when it is late."""

import asyncio

from stoker.spec.run import RunCheckpoints
from stoker.testing.clock import ManualClock
from stoker.train.interval import Interval


def pass_(clock: ManualClock, seconds: float) -> None:
    asyncio.run(clock.advance(seconds))


def interval(clock: ManualClock, *, rate: float = 0.0, step: int = 0, **wanted: object) -> Interval:
    return Interval(RunCheckpoints(**wanted), interruptions_per_hour=rate, clock=clock, step=step)


def test_by_steps_it_is_due_at_multiples_wherever_it_began() -> None:
    every = interval(ManualClock(), every_steps=5, step=7)
    assert [step for step in range(8, 21) if every.is_over(step)] == [10, *range(11, 21)]
    every.begin(11)
    assert [step for step in range(12, 21) if every.is_over(step)] == [15, 16, 17, 18, 19, 20]


def test_by_seconds_it_is_due_so_long_after_the_last_was_begun() -> None:
    clock = ManualClock()
    every = interval(clock, every_seconds=60.0)
    pass_(clock, 59.0)
    assert not every.is_over(1)
    pass_(clock, 1.0)
    assert every.is_over(1)
    every.begin(1)
    assert not every.is_over(2)


def test_without_either_it_is_youngs_and_follows_what_a_save_costs() -> None:
    every = interval(ManualClock(), rate=1.0)
    assert every.seconds == (2 * 1.0 * 3600) ** 0.5
    every.took(4.0)
    assert every.seconds == (2 * 4.0 * 3600) ** 0.5


def test_where_nothing_is_ever_taken_away_once_an_hour_is_enough() -> None:
    assert interval(ManualClock()).seconds == 3600.0


def test_it_is_late_once_after_two_intervals_and_again_after_the_next_that_was_kept() -> None:
    clock = ManualClock()
    every = interval(clock, every_steps=5)
    pass_(clock, 40.0)
    assert every.late(10) is None
    assert every.late(11) == "no checkpoint has become durable for 40 s: 11 steps would be lost now"
    assert every.late(12) is None
    every.durable(10)
    pass_(clock, 31.0)
    assert every.late(21) == "no checkpoint has become durable for 31 s: 11 steps would be lost now"


def test_steps_that_are_shorter_than_a_save_are_not_late() -> None:
    clock = ManualClock()
    every = interval(clock, every_steps=1)
    pass_(clock, 1.9)
    assert every.late(1000) is None
