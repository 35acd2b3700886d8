"""Seconds and dollars of starts, out of lives, phases and prices."""

from dataclasses import replace
from pathlib import Path

import pytest

from stoker.meter.lives import Lives, MachineLife, Phase, PriceStep, StayLife
from stoker.meter.starts import report
from stoker.meter.store import Store

NOON = 1_793_620_800.0
USD = 10**9


@pytest.fixture
def lives(tmp_path: Path) -> Lives:
    return Lives(Store(f"sqlite:///{tmp_path}/ledger.db"))


def a_machine(name: str, began: float, usable: float, *, capacity: str = "on-demand", extra: int = 0) -> MachineLife:
    return MachineLife(
        id=name,
        pool="gpu",
        capacity=capacity,
        type="g6.xlarge",
        zone="us-west-2a",
        nano_usd_per_hour=36 * USD // 10,
        extra_nano_usd_per_hour=extra,
        began_at=NOON + began,
        usable_at=NOON + usable,
        seen_at=NOON + 10_000,
    )


def a_replica(name: str, machine: str, bound: float, ready: float | None, share: float = 1.0) -> StayLife:
    return StayLife(
        id=f"uid-{name}",
        machine=machine,
        workload="model-general",
        model="general",
        replica=name,
        share=share,
        began_at=NOON + bound,
        ready_at=None if ready is None else NOON + ready,
        seen_at=NOON + 10_000,
    )


def phases(subject: str, detail: str | None = None, **spans: tuple[float, float | None]) -> list[Phase]:
    return [
        Phase(
            subject=subject,
            phase=name.replace("_", "-"),
            began_at=NOON + began,
            ended_at=None if ended is None else NOON + ended,
            detail=detail if name == "image" else None,
        )
        for name, (began, ended) in spans.items()
    ]


def test_a_start_costs_its_share_of_the_machine_from_when_that_is_billed(lives: Lives) -> None:
    # 3.60 dollars an hour and half as much for volumes and fees: 0.0015 dollars a second.
    lives.write(
        machines_seen=[a_machine("i-1", 24, 71, extra=18 * USD // 10)],
        stays_seen=[a_replica("general-a", "i-1", 72, 316, share=0.5)],
        phases_seen=[
            *phases("i-1", capacity=(4, 24), boot=(24, 71)),
            *phases("uid-general-a", "8.00 GiB", queue=(0, 4), capacity=(4, 24), boot=(24, 72)),
            *phases("uid-general-a", "8.00 GiB", image=(72, 196), weights=(196, 306), warm_up=(306, 316)),
        ],
    )
    found = report(lives, since=NOON - 100, until=NOON + 10_000)

    machine, replica = found["starts"]
    assert (machine["kind"], machine["seconds"], machine["usd"]) == ("machine", 67.0, 0.0705)
    assert (replica["name"], replica["seconds"]) == ("general-a", 316.0)
    assert [(part["phase"], part["seconds"], part["usd"]) for part in replica["phases"]] == [
        ("queue", 4.0, 0.0),
        ("capacity", 20.0, 0.0),
        ("boot", 48.0, 0.036),
        ("image", 124.0, 0.093),
        ("weights", 110.0, 0.0825),
        ("warm-up", 10.0, 0.0075),
    ]
    [model] = found["models"]
    assert (model["model"], model["starts"], model["ready"], model["usd"]) == ("general", 1, 1, 0.219)
    assert model["dominates"] == "image"
    assert model["evidence"] == "image (8.00 GiB) is 39 % of 1 start"
    assert "SOCI" in model["would_help"]


def test_a_replica_that_died_before_it_was_ready_costs_no_more_from_then_on(lives: Lives) -> None:
    dead = replace(a_replica("general-a", "i-1", 60, None, share=0.5), seen_at=NOON + 160, ended_at=NOON + 160)
    lives.write(
        machines_seen=[a_machine("i-1", 0, 60)],
        stays_seen=[dead],
        phases_seen=phases("uid-general-a", image=(60, None)),
    )
    found = report(lives, since=NOON, until=NOON + 10_000)
    assert [each["usd"] for each in found["starts"]] == [0.05]
    assert found["models"][0]["usd"] == 0.05


def test_on_spot_each_second_has_its_price(lives: Lives) -> None:
    lives.write(
        machines_seen=[a_machine("i-1", 0, 60, capacity="spot")],
        stays_seen=[a_replica("general-a", "i-1", 60, 260)],
        phases_seen=phases("uid-general-a", weights=(60, 260)),
        prices_seen=[
            PriceStep(
                type="g6.xlarge", zone="us-west-2a", capacity="spot", at=NOON - 60, nano_usd_per_hour=36 * USD // 100
            ),
            PriceStep(
                type="g6.xlarge", zone="us-west-2a", capacity="spot", at=NOON + 160, nano_usd_per_hour=72 * USD // 100
            ),
        ],
    )
    [start] = report(lives, since=NOON, until=NOON + 10_000)["starts"]
    assert start["usd"] == 0.03


def test_the_summary_is_of_all_starts_and_what_is_not_ready_costs_and_has_no_time(lives: Lives) -> None:
    machines, stays, seen = [], [], []
    for i in range(20):
        begins = 100.0 * i
        machines.append(a_machine(f"i-{i:02}", begins, begins))
        stays.append(a_replica(f"general-{i:02}", f"i-{i:02}", begins, begins + 10 + i))
        seen += phases(f"uid-general-{i:02}", weights=(begins, begins + 10 + i))
    machines.append(a_machine("i-99", 9_900, 9_900))
    stays.append(a_replica("general-99", "i-99", 9_900, None))
    seen += phases("uid-general-99", weights=(9_900, None))
    lives.write(machines_seen=machines, stays_seen=stays, phases_seen=seen)

    found = report(lives, since=NOON, until=NOON + 10_000, model="general", most=2)
    assert [(each["name"], each["seconds"], each["usd"]) for each in found["starts"]] == [
        ("general-99", None, 0.1),
        ("general-19", 29.0, 0.029),
    ]
    [model] = found["models"]
    assert (model["starts"], model["ready"], model["median_s"], model["p95_s"]) == (21, 20, 19.5, 28.0)
    assert model["usd"] == pytest.approx(0.1 + 0.39)
    assert report(lives, since=NOON, until=NOON + 10_000, model="code")["models"] == []


def test_a_start_that_began_before_the_time_is_not_in_it(lives: Lives) -> None:
    lives.write(
        machines_seen=[a_machine("i-1", 0, 60)],
        stays_seen=[a_replica("general-a", "i-1", 60, 260)],
        phases_seen=phases("uid-general-a", queue=(0, 60), weights=(60, 260)),
    )
    assert report(lives, since=NOON + 30, until=NOON + 10_000)["starts"] == []
