"""What a run comes to: which steps count, where each second went, and whose each dollar was."""

import math
import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_records import NODE, T0, flat, launch, life, said, save, step

from stoker.meter.prices import Prices
from stoker.train.accounting import CAUSES, SILENT_S, Summary, summary

SPOT = ("g5.xlarge", "us-east-1a", "spot")


def spent(found: Summary) -> dict[str, float]:
    return {cause: seconds for cause, seconds in found.seconds.items() if seconds}


def test_a_run_that_nobody_began_is_empty() -> None:
    found = summary([], now=T0)

    assert (found.state, found.launches, found.steps, found.goodput, found.usd) == ("empty", 0, 0, None, None)


def test_a_run_that_came_to_its_end() -> None:
    found = summary(life(T0, epoch=1, from_step=0, to_step=10, saved=(5, 10), end="completed"), now=T0 + 1000)

    assert (found.state, found.steps, found.steps_of_all, found.launches, found.checkpoints) == (
        "completed",
        10,
        10,
        1,
        2,
    )
    assert found.losses == {number: 10.0 - number for number in range(1, 11)}
    assert found.samples == {number: f"{number:016x}" for number in range(1, 11)}
    assert found.tokens == 1000
    assert spent(found) == {"useful": 20.0, "start": 6.0, "idle": 1.0}
    assert found.goodput == pytest.approx(20 / 27, abs=1e-12)
    assert (found.interruptions, found.lost_steps, found.lost_work_s) == ((), 0, 0.0)
    assert (found.started_at, found.ended_at) == (T0, T0 + 27)
    assert found.usd == pytest.approx(0.36 * 27 / 3600, abs=1e-9)
    assert found.usd_by_cause["useful"] == pytest.approx(0.36 * 20 / 3600, abs=1e-9)


def test_steps_that_were_done_twice_count_the_second_time_and_the_first_is_lost() -> None:
    first = life(T0, epoch=1, from_step=0, to_step=7, saved=(5,))
    again = life(T0 + 100, epoch=2, from_step=5, to_step=10, saved=(10,), end="completed")
    for record in again:
        if record["kind"] == "step":
            record["loss"] = -1.0 * record["step"]

    found = summary(flat(first, again), now=T0 + 1000)

    assert found.losses == {**{n: 10.0 - n for n in range(1, 6)}, **{n: -1.0 * n for n in range(6, 11)}}
    assert (found.steps, found.tokens, found.lost_steps, found.lost_work_s) == (10, 1000, 2, 4.0)
    # Of 20 s and 17 s, and 80 s between them in which the same machine was there.
    assert spent(found) == {"useful": 20.0, "start": 11.0, "restore": 1.0, "recompute": 4.0, "idle": 81.0}
    assert found.interruptions == ("ended without a word after step 7",)
    assert [(each.from_step, each.to_step, each.state) for each in found.lives] == [
        (0, 7, "lost"),
        (5, 10, "completed"),
    ]


def test_between_two_launches_only_machines_that_stayed_are_paid_for() -> None:
    first = life(T0, epoch=1, from_step=0, to_step=5, saved=(5,))
    other = life(T0 + 100, epoch=2, from_step=5, to_step=10, end="completed")
    other[0]["nodes"] = [{**NODE, "id": "i-2"}]

    found = summary(flat(first, other), now=T0 + 1000)
    assert spent(found)["idle"] == 1.0

    first[0]["nodes"] = [NODE, {**NODE, "id": "i-2"}]
    found = summary(flat(first, other), now=T0 + 1000)
    assert found.money is not None
    assert spent(found)["idle"] == 1.0 + (100 - 16) / 2  # one of its two stayed
    assert found.money.paid == round(1e5 * (2 * 16 + 84 + 17))  # $0.36 per hour: 1e5 nano-dollars per second


def test_after_a_long_time_nobody_says_that_the_machine_was_there() -> None:
    first = life(T0, epoch=1, from_step=0, to_step=5, saved=(5,))
    days_later = life(T0 + 300_000, epoch=2, from_step=5, to_step=10, end="completed")

    assert spent(summary(flat(first, days_later), now=T0 + 1e6))["idle"] == 1.0


def test_steps_after_the_last_checkpoint_of_a_launch_that_was_killed_are_lost_until_they_are_done_again() -> None:
    killed = life(T0, epoch=1, from_step=0, to_step=7, saved=(5,))

    lost = summary(killed, now=T0 + 20 + SILENT_S)
    assert (lost.state, lost.steps, lost.lost_steps, lost.lost_work_s) == ("lost", 5, 2, 4.0)
    assert lost.ended_at == T0 + 20
    assert spent(lost) == {"useful": 10.0, "start": 6.0, "recompute": 4.0}

    runs = summary(killed, now=T0 + 21)
    assert (runs.state, runs.steps, runs.lost_steps, runs.ended_at) == ("running", 7, 0, None)
    assert spent(runs) == {"useful": 14.0, "start": 6.0, "idle": 1.0}


def test_a_checkpoint_that_was_published_and_not_written_down_saves_its_steps() -> None:
    """Killed right after HEAD named it: the next launch goes on from it."""
    killed = life(T0, epoch=1, from_step=0, to_step=7, saved=(5,))
    again = life(T0 + 100, epoch=2, from_step=7, to_step=10, end="completed")

    found = summary(flat(killed, again), now=T0 + 1000)

    assert (found.lost_steps, len(found.losses)) == (0, 10)


def test_a_launch_that_dies_before_it_does_anything_loses_nothing() -> None:
    first = life(T0, epoch=1, from_step=0, to_step=5, saved=(5,), end="preempted")
    dead = [launch(T0 + 50, epoch=2), said("end", T0 + 60, 7.0, state="failed", why="no GPU", step=0)]

    found = summary(flat(first, dead), now=T0 + 1000)

    assert (found.state, found.steps, found.lost_steps) == ("failed", 5, 0)
    assert found.interruptions == ("preempted at step 5", "failed after step 0: no GPU")
    assert found.seconds["start"] == 6.0 + 10.0


def test_without_a_checkpoint_all_is_lost() -> None:
    found = summary(
        flat(life(T0, epoch=1, from_step=0, to_step=4), life(T0 + 50, epoch=2, from_step=0, to_step=2, end="budget")),
        now=T0 + 1000,
    )

    assert (found.state, found.steps, found.lost_steps, len(found.losses)) == ("budget", 0, 6, 0)
    assert found.goodput == 0.0


def test_two_launches_that_overlap_are_both_paid_and_the_later_one_counts() -> None:
    """The old pod is not dead."""
    old = life(T0, epoch=1, from_step=0, to_step=9, saved=(5,), end="fenced")
    new = life(T0 + 17, epoch=2, from_step=5, to_step=10, saved=(10,), end="completed")

    found = summary(flat(old, new), now=T0 + 1000)

    assert found.money is not None
    assert found.money.paid == 100_000 * (25 + 17)
    assert sum(found.seconds.values()) == 25 + 17
    assert (found.lost_steps, found.steps) == (4, 10)
    assert found.interruptions == ("fenced off after step 9: another launch took over",)


def test_what_a_step_waited_and_what_a_save_stalled_is_not_useful() -> None:
    records = [
        launch(),
        said("resume", T0 + 5, 2.0, step=3, name="s", skipped=[], seconds=0.5),
        step(4, T0 + 10, 7.0, seconds=3.0, data_s=1.0, stall_s=0.5),
        save(4, T0 + 11, 8.0, stall_s=0.5),  # waited for inside step 4
        step(5, T0 + 12, 9.0, seconds=2.0),
        said("validate", T0 + 14, 11.0, step=5, loss=2.5, seconds=1.5),
        save(5, T0 + 16, 13.0, stall_s=2.0),  # waited for after the last step
        said("end", T0 + 16, 13.0, state="completed", why="", step=5),
    ]

    found = summary(records, now=T0 + 100)

    assert spent(found) == {
        "useful": 3.5,
        "start": 6.5,  # 16 s in all
        "restore": 0.5,
        "save": 2.5,
        "data": 1.0,
        "evaluate": 1.5,
        "idle": 0.5,
    }
    assert found.validation == {5: 2.5}


def test_validations_of_steps_that_were_lost_do_not_count() -> None:
    first = [*life(T0, epoch=1, from_step=0, to_step=6), said("validate", T0 + 19, 16.0, step=6, loss=1.0, seconds=0.1)]
    again = life(T0 + 100, epoch=2, from_step=4, to_step=5, end="preempted")

    assert summary(flat(first, again), now=T0 + 1000).validation == {}


def test_losses_that_are_no_numbers_are_kept() -> None:
    records = [launch(), step(1, T0 + 8, 5.0, loss=0.0), step(2, T0 + 9, 6.0), step(3, T0 + 10, 7.0)]
    records[1]["loss"], records[2]["loss"] = "nan", "inf"

    losses = summary(records, now=T0 + 11).losses

    assert math.isnan(losses[1])
    assert (losses[2], losses[3]) == (math.inf, 7.0)


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_is_set_within_a_launch_changes_no_second(jump_s: float) -> None:
    records = life(T0, epoch=1, from_step=0, to_step=10, end="completed")
    moved = [{**each, "at": each["at"] + jump_s} if i > 5 else each for i, each in enumerate(records)]

    assert summary(moved, now=T0).seconds == summary(records, now=T0).seconds


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_is_set_between_launches_gives_no_negative_second(jump_s: float) -> None:
    first = life(T0, epoch=1, from_step=0, to_step=5, saved=(5,))
    again = life(T0 + 100 + jump_s, epoch=2, from_step=5, to_step=10, end="completed")

    found = summary(flat(first, again), now=T0 + 1000)

    assert spent(found) == {"useful": 20.0, "start": 11.0, "restore": 1.0, "idle": 1.0}


def test_the_price_of_the_moment_is_paid() -> None:
    """Three prices of the zone in one life; the record's own price is what is paid where the list has none."""
    records = life(T0, epoch=1, from_step=0, to_step=10, end="completed")
    prices = Prices({SPOT: ((T0 - 50, 0.36), (T0 + 10, 0.72), (T0 + 20, 3.6))})

    found = summary(records, now=T0 + 1000, prices=prices)
    other = summary(records, now=T0 + 1000, prices=Prices({("p5.48xlarge", "us-east-1a", "spot"): ((T0, 30.0),)}))

    assert found.money is not None
    assert found.money.paid == 100_000 * 10 + 200_000 * 10 + 1_000_000 * 7
    assert other.usd == pytest.approx(27 * 1e-4)


def test_what_has_no_price_is_said_and_costs_nothing() -> None:
    unknown = {"id": "host", "type": None, "zone": None, "capacity": None, "usd_per_hour": None}

    neither = summary(life(T0, epoch=1, from_step=0, to_step=10, end="completed"), now=T0)
    records = life(T0, epoch=1, from_step=0, to_step=10, end="completed")
    records[0]["nodes"] = [unknown]
    none = summary(records, now=T0)
    records[0]["nodes"] = [NODE, unknown]
    half = summary(records, now=T0)

    assert (none.usd, none.usd_by_cause, none.unpriced_s) == (None, {}, 27.0)
    assert (half.usd, half.unpriced_s) == (neither.usd, 27.0)


def test_a_bill_that_is_played_back_is_met() -> None:
    """A month of spot: 40 machines come and go in two zones whose prices move each hour; the bill is summed second by
    second. G14 asks for half a per cent."""
    chance = random.Random(7)
    keys = [("g5.xlarge", "us-east-1a", "spot"), ("g5.xlarge", "us-east-1b", "spot")]
    prices = Prices(
        {key: tuple((T0 + 3600.0 * hour, 0.3 + 0.3 * chance.random()) for hour in range(720)) for key in keys}
    )
    records: list[Any] = []
    bill, at, done = 0.0, T0, 0
    for epoch in range(1, 41):
        key = chance.choice(keys)
        at += chance.uniform(60, 3000)
        steps = chance.randrange(1000, 20_000)
        began, up = at, 1.0
        node = {"id": f"i-{epoch}", "type": key[0], "zone": key[1], "capacity": key[2], "usd_per_hour": 0.4}
        records.append(launch(at, epoch=epoch, nodes=[node], steps=10**6))
        for number in range(done + 1, done + steps + 1, 50):
            up += 50.0
            records.append(step(number, began + 4 + up, up, seconds=1.0))
        at = began + 3 + up
        lasted_s = math.ceil(at - began)  # EC2 bills whole seconds
        bill += sum(prices.at(key, began + second, 9.9) / 3600 for second in range(lasted_s))
        done += chance.randrange(steps)

    found = summary(records, now=at + 1000, prices=prices)

    assert found.usd == pytest.approx(bill, rel=0.005)
    assert sum(found.seconds.values()) == pytest.approx(sum(each.ended_at - each.began_at for each in found.lives))


# --- any record at all ------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.floats(-4000, 4000),
    st.integers(-5, 5000),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e300, None, "x", True]),
)
NODES = st.lists(
    st.fixed_dictionaries(
        {"id": st.sampled_from(["a", "b", None]), "usd_per_hour": st.one_of(st.none(), st.floats(0, 100))},
        optional={"type": st.just("g5.xlarge"), "zone": st.just("us-east-1a"), "capacity": st.just("spot")},
    ),
    max_size=3,
)


@st.composite
def any_record(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(
        st.sampled_from(["launch", "resume", "step", "step", "step", "validate", "save", "wish", "alive", "end"])
    )
    record: dict[str, Any] = {"kind": kind, "at": T0 + draw(st.floats(-4000, 4000))}
    if draw(st.booleans()):
        record["up"] = draw(NUMBERS)
    if kind == "launch":
        record |= {"epoch": draw(NUMBERS), "nodes": draw(NODES), "started_at": T0 + draw(st.floats(-4000, 4000))}
        record |= {"steps": 20, "run": "fine"}
    elif kind == "end":
        record |= {"state": draw(st.sampled_from(["completed", "preempted", "failed"])), "why": "", "step": 3}
    else:
        record |= {
            "step": draw(st.one_of(st.integers(0, 12), NUMBERS)),
            "seconds": draw(NUMBERS),
            "loss": draw(NUMBERS),
        }
        record |= {"data_s": draw(NUMBERS), "stall_s": draw(NUMBERS), "tokens": draw(NUMBERS), "samples": "ab"}
    return record


@settings(max_examples=150, deadline=None)
@given(st.lists(any_record(), max_size=25), st.floats(-5000, 5000), st.booleans())
def test_whatever_was_written_the_parts_sum_to_the_whole(records: list[Any], later: float, is_timed: bool) -> None:
    prices = Prices({SPOT: ((T0, 1.0), (T0 + 600, 2.0))}) if is_timed else Prices()
    found = summary(records, now=T0 + later, prices=prices)

    assert set(found.seconds) == set(CAUSES)
    assert all(seconds >= 0 for seconds in found.seconds.values())
    assert found.goodput is None or 0 <= found.goodput <= 1
    assert list(found.losses) == sorted(set(found.losses))
    assert found.lost_work_s >= 0
    if found.money is not None:
        assert all(nano >= 0 for nano in found.money.by_cause.values())
        assert sum(found.money.by_cause.values()) == found.money.paid
        assert found.usd == found.money.paid / 10**9
        assert sum(each.usd or 0.0 for each in found.lives) <= found.usd + 1e-6
    steps = sum(each["kind"] == "step" and isinstance(each["step"], int) and each["step"] > 0 for each in records)
    assert len(found.losses) + found.lost_steps == steps


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
def test_each_launch_lasts_as_long_as_its_parts(lives: list[tuple[int, int]]) -> None:
    at, records = T0, []
    for epoch, (from_step, done) in enumerate(lives, 1):
        records += life(at, epoch=epoch, from_step=from_step, to_step=from_step + done, saved=(from_step + done,))
        at += 100

    found = summary(records, now=at + 1000)

    paid = [each.ended_at - each.began_at for each in found.lives]
    between = [after.began_at - before.ended_at for before, after in zip(found.lives, found.lives[1:], strict=False)]
    assert sum(found.seconds.values()) == pytest.approx(sum(paid) + sum(between), abs=1e-6)
    assert [sum(each.seconds.values()) for each in found.lives] == pytest.approx(paid, abs=1e-6)


def test_ten_thousand_steps_take_little_memory() -> None:
    def records() -> Any:
        yield launch()
        for number in range(1, 10_001):
            yield step(number, T0 + number, float(number), seconds=0.9)

    tracemalloc.start()
    found = summary(records(), now=T0 + 10_001)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (len(found.losses), found.samples[7_777]) == (10_000, f"{7_777:016x}")
    assert peak < 10_000 * 120  # bytes
