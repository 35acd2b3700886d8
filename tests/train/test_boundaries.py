"""What happens at the end of a step."""

import pytest

from stoker.train import exits
from stoker.train.boundaries import Flag, Next, after_step


def after(*said: Flag, step: int = 7, steps: int = 20, saved: int = 5, every: int | None = None) -> Next:
    validates = every is not None
    return after_step(frozenset(said), step=step, steps=steps, saved=saved, validates=validates, validate_every=every)


def test_an_ordinary_step_is_followed_by_the_next() -> None:
    assert after() == Next()


def test_a_save_that_is_due_is_made() -> None:
    assert after(Flag.DUE) == Next(save="interval")


def test_one_that_aws_recommends_goes_on_afterwards() -> None:
    assert after(Flag.SAVE) == Next(save="rebalance")
    assert after(Flag.SAVE, Flag.DUE) == Next(save="rebalance")


@pytest.mark.parametrize("flag", [Flag.DUE, Flag.SAVE])
def test_a_save_waits_for_the_one_before_it(flag: Flag) -> None:
    assert after(flag, Flag.BUSY) == Next()


@pytest.mark.parametrize("flag", [Flag.DUE, Flag.SAVE])
def test_what_is_saved_is_not_saved_again(flag: Flag) -> None:
    assert after(flag, step=5) == Next()


def test_a_stop_saves_and_ends_whatever_else_is_due() -> None:
    everything = (Flag.STOP, Flag.DUE, Flag.SAVE, Flag.BUSY, Flag.SPENT)
    assert after(*everything, step=6, every=6) == Next(save="preempted", end=exits.PREEMPTED)


def test_a_stop_right_after_a_save_only_ends() -> None:
    assert after(Flag.STOP, step=5) == Next(end=exits.PREEMPTED)


def test_a_budget_that_is_spent_saves_and_ends() -> None:
    assert after(Flag.SPENT, Flag.BUSY) == Next(save="budget", end=exits.BUDGET_SPENT)


def test_the_last_step_is_measured_saved_and_completes_even_when_a_stop_came() -> None:
    assert after(Flag.STOP, step=20, every=7) == Next(validate=True, save="end", end=exits.COMPLETED)


def test_whoever_is_fenced_off_writes_nothing_more() -> None:
    assert after(*Flag, step=20, every=1) == Next(end=exits.FENCED)


def test_validation_comes_every_so_many_steps_before_a_save() -> None:
    assert after(step=6, every=6) == Next(validate=True)
    assert after(Flag.DUE, step=6, every=6) == Next(validate=True, save="interval")
    assert after(Flag.DUE, Flag.BUSY, step=6, every=6) == Next(validate=True)
    assert after(Flag.DUE, step=7, every=6) == Next(save="interval")
