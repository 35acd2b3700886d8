"""What machines cost an hour at this moment."""

from dataclasses import replace

from stoker.meter.attribution import IDLE, PLATFORM, STARTING
from stoker.meter.lives import MachineLife, PriceStep, StayLife
from stoker.meter.rates import rates

NODE = MachineLife(
    id="i-1",
    pool="gpu",
    capacity="spot",
    type="g5.xlarge",
    zone="us-east-1a",
    nano_usd_per_hour=900,
    extra_nano_usd_per_hour=100,
    began_at=0.0,
    usable_at=100.0,
    seen_at=1000.0,
)
STAY = StayLife(
    id="p", machine="i-1", workload="w", model="general", replica="r", share=0.5, began_at=0.0, seen_at=1000.0
)


def test_by_pool_and_by_who_has_which_part() -> None:
    stays = [STAY, replace(STAY, id="q", model="", share=0.25), replace(STAY, id="r", machine="i-9")]
    found = rates([NODE, replace(NODE, id="i-2", pool="cpu", capacity="on-demand")], stays, [], now=1000.0)
    assert found.by_pool == {("gpu", "spot"): 1000, ("cpu", "on-demand"): 1000}
    assert found.by_type == {("g5.xlarge", "spot"): 1000, ("g5.xlarge", "on-demand"): 1000}
    assert found.by_model == {"general": 500, PLATFORM: 250, IDLE: 1250}


def test_what_has_ended_or_was_not_seen_for_long_costs_nothing_now() -> None:
    gone = [replace(NODE, ended_at=900.0), replace(NODE, id="i-2", seen_at=909.9)]
    assert rates(gone, [STAY], [], now=1000.0).by_pool == {}
    assert rates([NODE], [replace(STAY, ended_at=1000.0)], [], now=1000.0).by_model == {IDLE: 1000}


def test_a_price_that_is_known_of_now_wins_and_a_machine_that_comes_is_start_up() -> None:
    steps = [
        PriceStep(type="g5.xlarge", zone="us-east-1a", capacity="spot", at=at, nano_usd_per_hour=nano)
        for at, nano in ((2000.0, 9), (500.0, 400), (100.0, 300))
    ]
    found = rates([replace(NODE, usable_at=None)], [STAY], steps, now=1000.0)
    assert (found.by_pool, found.by_model) == ({("gpu", "spot"): 500}, {STARTING: 500})


def test_together_replicas_have_no_more_than_the_machine() -> None:
    found = rates([NODE], [replace(STAY, share=0.9), replace(STAY, id="q", model="code", share=0.6)], [], now=1000.0)
    assert found.by_model == {"general": 600, "code": 400}
