"""What a person sees of a run as it goes, and when its budget ends it."""

import io
from dataclasses import dataclass
from typing import Any

import pytest
from run_records import NODE, T0, life

from stoker.base.errors import InvalidInput
from stoker.spec.run import Run, RunBudget
from stoker.testing.clock import ManualClock
from stoker.train.accounting import summary
from stoker.train.budget import BudgetWatch, cannot_begin, must_stop
from stoker.train.live import Live, Seen
from stoker.train.progress import Progress, line, short, span

NOTHING = summary([], now=T0)


@dataclass(frozen=True)
class Did:
    number: int
    loss: float = 1.25
    rate: float = 1.8e-4
    norm: float = 0.5
    tokens: int = 1000
    seconds: float = 2.0
    data_s: float = 0.25
    stall_s: float = 0.25


def seen(**more: Any) -> Seen:
    fields: dict[str, Any] = {"step": 120, "steps": 1000, "loss": 1.23449, "rate": 1.8e-4, "norm": 1.0}
    fields |= {"tokens_per_s": 4096.0, "goodput": 0.971, "lost_work_s": 0.0, "checkpoint_age_s": 12.2, "usd": 0.4213}
    return Seen(**(fields | {"hours": 0.1, "left_s": 178.0, "at": T0} | more))


# --- up to now --------------------------------------------------------------------------------------------------------


async def test_live_figures_are_those_of_all_launches_together() -> None:
    clock = ManualClock(T0)
    earlier = summary(life(T0 - 50, epoch=1, from_step=0, to_step=10, saved=(10,), end="preempted"), now=T0)
    live = Live(earlier, [NODE, NODE], steps=20, started_at=T0 - 6, from_step=10, clock=clock)
    await clock.advance(2.0)
    live.stepped(Did(11))
    await clock.advance(4.0)
    live.saved()
    live.validated(3.5)
    await clock.advance(1.0)

    found = live.stepped(Did(12))

    assert (found.step, found.steps, found.validation, found.checkpoint_age_s) == (12, 20, 3.5, 1.0)
    # 27 s of the first launch, 6 s before this one was there, and 7 s
    assert found.hours == pytest.approx(40 / 3600)
    assert found.goodput == pytest.approx((20 + 1.5 + 1.5) / 40)
    assert found.usd == pytest.approx((27 + 2 * 13) * 1e-4)
    assert found.tokens_per_s == pytest.approx(1000 / 5)
    assert found.left_s == pytest.approx(8 * 5)


async def test_steps_that_are_done_again_are_lost_work() -> None:
    clock = ManualClock(T0)
    running = summary(life(T0 - 30, epoch=1, from_step=0, to_step=10, saved=(5,)), now=T0)

    live = Live(running, [], steps=20, started_at=T0, from_step=5, clock=clock)
    await clock.advance(2.0)

    assert live.stepped(Did(6)).lost_work_s == 10.0


def test_without_a_price_there_are_no_dollars() -> None:
    live = Live(NOTHING, [{"usd_per_hour": None}], steps=1, started_at=T0, clock=ManualClock(T0))

    assert live.usd is None
    assert live.stepped(Did(1)).checkpoint_age_s is None


# --- budget -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "spent_usd", "spent_s", "stops"),
    [
        (RunBudget(), 1e9, 1e9, None),
        (RunBudget(usd=1.0), 0.983, 0.0, None),  # a step of 2 s and 1.2 saves of 10 s at $3.60 per hour: $0.014
        (RunBudget(usd=1.0), 0.987, 0.0, "$0.9870 of $1.0000 are spent; another step and a checkpoint would be more"),
        (RunBudget(usd=1.0), None, 0.0, None),
        (RunBudget(hours=1.0), None, 3586.0, None),
        (RunBudget(hours=1.0), None, 3586.5, "1.00 of 1 hours are over; another step and a checkpoint would be more"),
    ],
)
def test_a_run_stops_while_its_checkpoint_is_still_paid_for(
    budget: RunBudget, spent_usd: float | None, spent_s: float, stops: str | None
) -> None:
    found = must_stop(budget, spent_usd=spent_usd, usd_per_hour=3.6, spent_s=spent_s, step_s=2.0, save_s=10.0)

    assert found == stops


async def test_a_watched_run_ends_below_its_budget_with_its_checkpoint() -> None:
    """$0.36 per hour: a cent is 100 s. Steps of 2 s, saves of 3 s; 27 s were spent by the launch before."""
    clock = ManualClock(T0)
    earlier = summary(life(T0 - 50, epoch=1, from_step=0, to_step=10, saved=(10,), end="preempted"), now=T0)
    live = Live(earlier, [NODE], steps=1000, started_at=T0, from_step=10, clock=clock)
    watch = BudgetWatch(RunBudget(usd=0.01), live, save_s=lambda: 3.0)
    number = 10
    while not watch():
        number += 1
        await clock.advance(2.0)
        live.stepped(Did(number))
    await clock.advance(3.0)

    assert number == 10 + 34
    assert live.usd == pytest.approx(0.0098)
    assert watch.why == "$0.0095 of $0.0100 are spent; another step and a checkpoint would be more"


@pytest.mark.parametrize(
    ("prices", "usd", "hours", "why"),
    [
        # 27 s at $0.36 per hour are $0.0027; a start of 6 s, a step of 2 s and 1.2 saves of 0.5 s are $0.00086
        ({}, 0.0036, None, None),
        ({}, 0.0035, None, "$0.0027 of $0.0035 are spent; a start, a step and a checkpoint would be more"),
        ({"usd_per_hour": 0.036}, 0.0028, None, None),
        ({"usd_per_hour": 0.36}, 0.0028, None, "$0.0027 of $0.0028 are spent; a start, a step and"),
        ({}, None, 36 / 3600, None),
        ({}, None, 35 / 3600, "0.01 of 0.00972222 hours are over; a start, a step and a checkpoint would be more"),
        ({}, None, None, None),
    ],
)
def test_a_spent_budget_begins_no_launch(
    prices: dict[str, float], usd: float | None, hours: float | None, why: str | None
) -> None:
    records = life(T0 - 5000, epoch=1, from_step=0, to_step=10, saved=(10,), end="budget")
    run = Run(name="tune", data="d.jsonl", prices=prices, budget=RunBudget(usd=usd, hours=hours))

    found = cannot_begin(run, records, now=T0)

    assert (found or "").startswith(why or "")
    assert (found is None) == (why is None)
    assert cannot_begin(run, [], now=T0) is None


def test_a_budget_in_dollars_needs_a_price() -> None:
    live = Live(NOTHING, [], steps=1, started_at=T0, clock=ManualClock(T0))

    with pytest.raises(InvalidInput, match="what the machine costs is not known"):
        BudgetWatch(RunBudget(usd=1.0), live, save_s=lambda: 0.0)
    assert not BudgetWatch(RunBudget(hours=1.0), live, save_s=lambda: 0.0)()


# --- the line ---------------------------------------------------------------------------------------------------------


def test_the_line_says_what_a_person_wants_to_know() -> None:
    assert line(seen()) == (
        "step 120/1000  loss 1.234  lr 1.8e-04  4.1k tok/s  ckpt 12 s ago  goodput 97 %  $0.42  3 min left"
    )


def test_what_is_not_known_is_left_out() -> None:
    assert line(seen(step=1000, checkpoint_age_s=None, usd=None, validation=1.5, goodput=1.0)) == (
        "step 1000/1000  loss 1.234  lr 1.8e-04  4.1k tok/s  val 1.5  goodput 100 %  done"
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.5, "0.5"), (12.4, "12"), (999.4, "999"), (999.6, "1.0k"), (4096, "4.1k"), (123_456, "123k"), (2.5e6, "2.5M")],
)
def test_numbers_are_short(number: float, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0.2 s"),
        (99.4, "99 s"),
        (178, "3 min"),
        (5400, "1 h 30 min"),
        (7500, "2 h 05 min"),
        (270_000, "3 d 3 h"),
        (float("inf"), "?"),
    ],
)
def test_spans_are_short(seconds: float, text: str) -> None:
    assert span(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_on_a_terminal_one_line_is_written_anew() -> None:
    clock, out = ManualClock(), Terminal()
    progress = Progress(out, clock, width=30)
    progress.show(seen())
    progress.show(seen(step=121))  # too soon
    await clock.advance(0.2)
    progress.show(seen(step=122))
    progress.tell("checkpoint s00000122 written")
    progress.show(seen(step=1000))
    progress.close()
    progress.close()

    assert out.getvalue() == (
        "\rstep 120/1000  loss 1.234  lr\x1b[K"
        "\rstep 122/1000  loss 1.234  lr\x1b[K"
        "\r\x1b[Kcheckpoint s00000122 written\n"
        "\rstep 1000/1000  loss 1.234  l\x1b[K\n"
    )


async def test_elsewhere_there_is_a_line_now_and_then_and_one_for_the_last_step() -> None:
    clock, out = ManualClock(), io.StringIO()
    progress = Progress(out, clock)
    for step in range(1, 31):
        progress.show(seen(step=step, steps=30))
        await clock.advance(1.0)
    progress.tell("done")
    progress.close()

    assert [text.split("  ")[0] for text in out.getvalue().splitlines()] == [
        "step 1/30",
        "step 11/30",
        "step 21/30",
        "step 30/30",
        "done",
    ]


def test_a_reader_that_leaves_ends_nothing() -> None:
    out = io.StringIO()
    out.close()

    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    Progress(Gone(), ManualClock()).show(seen())
