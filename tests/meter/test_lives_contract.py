"""Lives in the store, on both databases."""

from dataclasses import replace

import pytest

from stoker.meter.lives import Lives, MachineLife, Phase, PriceStep, StayLife
from stoker.meter.store import Store

NODE = MachineLife(
    id="i-1",
    pool="gpu",
    capacity="spot",
    type="g5.xlarge",
    zone="us-east-1a",
    nano_usd_per_hour=500_000_000,
    extra_nano_usd_per_hour=11_000_000,
    began_at=100.0,
    seen_at=110.0,
)
STAY = StayLife(id="pod-1", machine="i-1", workload="model-general", share=0.25, began_at=120.0, seen_at=130.0)


@pytest.fixture
def lives(store: Store) -> Lives:
    return Lives(store)


def test_what_is_seen_again_replaces_what_was_known(lives: Lives) -> None:
    lives.write(machines_seen=[NODE], stays_seen=[STAY])
    later = replace(NODE, usable_at=160.0, seen_at=200.0)
    ready = replace(STAY, model="general", replica="general-1", ready_at=190.0, seen_at=200.0, ended_at=200.0)
    lives.write(machines_seen=[later], stays_seen=[ready])
    assert lives.machines(since=0.0, until=1e9) == [later]
    assert lives.stays(since=0.0, until=1e9) == [ready]


def test_those_are_found_that_were_there_at_any_moment_of_a_time(lives: Lives) -> None:
    early = replace(NODE, id="i-0", began_at=0.0, seen_at=50.0, ended_at=50.0)
    late = replace(NODE, id="i-2", began_at=300.0, seen_at=400.0)
    lives.write(machines_seen=[late, NODE, early])
    assert [each.id for each in lives.machines(since=0.0, until=1e9)] == ["i-0", "i-1", "i-2"]
    assert [each.id for each in lives.machines(since=50.0, until=300.0)] == ["i-0", "i-1"]
    assert [each.id for each in lives.machines(since=51.0, until=100.0)] == []
    assert [each.id for each in lives.machines(since=400.0, until=500.0)] == ["i-2"]


def test_phases_and_prices_by_their_moment(lives: Lives) -> None:
    boot = Phase(subject="i-1", phase="boot", began_at=130.0, ended_at=160.0)
    capacity = Phase(subject="i-1", phase="capacity", began_at=100.0, ended_at=None)
    lives.write(phases_seen=[boot, capacity])
    lives.write(phases_seen=[replace(capacity, ended_at=130.0, detail="us-east-1a")])
    assert lives.phases(since=0.0, until=1e9) == [replace(capacity, ended_at=130.0, detail="us-east-1a"), boot]
    assert lives.phases(since=100.0, until=130.0) == [replace(capacity, ended_at=130.0, detail="us-east-1a")]
    steps = [
        PriceStep(type="g5.xlarge", zone="us-east-1a", capacity="spot", at=at, nano_usd_per_hour=nano)
        for at, nano in ((50.0, 400), (10.0, 300))
    ]
    lives.write(prices_seen=steps)
    assert lives.prices(until=1e9) == steps[::-1]
    assert lives.prices(until=50.0) == [steps[1]]
    lives.write(prices_seen=[replace(steps[0], zone="us-east-1b", at=5.0)])
    assert lives.prices(until=1e9, latest=True) == [replace(steps[0], zone="us-east-1b", at=5.0), steps[0]]
    assert [step.at for step in lives.prices(until=50.0, latest=True)] == [5.0, 10.0]


def test_texts_that_are_too_long_for_their_column_are_cut(lives: Lives) -> None:
    lives.write(machines_seen=[replace(NODE, pool="p" * 200 + "\0", zone="\0")])
    [found] = lives.machines(since=0.0, until=1e9)
    assert (found.pool, found.zone) == ("p" * 128, "")


def test_nothing_is_written_where_there_is_nothing(lives: Lives) -> None:
    lives.write()
    assert lives.machines(since=0.0, until=1e9) == []
