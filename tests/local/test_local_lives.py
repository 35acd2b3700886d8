"""What the ledger hears of this machine and its engines."""

from decimal import Decimal
from pathlib import Path

import pytest

from stoker import spec
from stoker.base.errors import SpecInvalid, Unavailable
from stoker.local.board import Board, Child, Role
from stoker.local.lives import Price, Recorder, Seen, cheapest_like, price_of_this_machine
from stoker.meter.lives import Lives, MachineLife, StayLife
from stoker.meter.store import Store
from stoker.testing import ManualClock

BEGAN = 1_700_000_000.0


def a_board() -> Board:
    children = [
        Child("redis", Role.REDIS),
        Child("engine-general-1", Role.ENGINE, model="general"),
        Child("worker-general-1", Role.WORKER, model="general"),
    ]
    return Board(children, now=0.0, backoff_s=lambda _: 1.0)


def a_life(seen_at: float, ended_at: float | None = None) -> MachineLife:
    return MachineLife(
        id="local-1700000000-7",
        pool="local",
        capacity="local",
        type="local",
        zone="local",
        nano_usd_per_hour=0,
        began_at=BEGAN,
        usable_at=BEGAN,
        seen_at=seen_at,
        ended_at=ended_at,
    )


def a_stay(pid: int, began: float, seen: float, ready: float | None = None, ended: float | None = None) -> StayLife:
    return StayLife(
        id=f"local-1700000000-7/engine-general-1/{pid}",
        machine="local-1700000000-7",
        workload="engine-general-1",
        model="general",
        replica="general-1",
        share=0.25,
        began_at=BEGAN + began,
        ready_at=None if ready is None else BEGAN + ready,
        seen_at=BEGAN + seen,
        ended_at=None if ended is None else BEGAN + ended,
    )


def test_an_engine_is_there_from_its_start_to_its_end_and_another_takes_its_name() -> None:
    board, seen = a_board(), Seen(cores=4, began_at=BEGAN, pid=7)

    def look(now: float, *, is_over: bool = False) -> tuple[MachineLife, list[StayLife]]:
        return seen.look(board, now=BEGAN + now, monotonic=now, is_over=is_over)

    assert look(1.0) == (a_life(BEGAN + 1), [])
    board.started("engine-general-1", 41, {}, 2.0)
    board.started("worker-general-1", 42, {}, 2.0)
    assert look(3.0)[1] == [a_stay(41, 2.0, 3.0)]
    board.ready("engine-general-1", None, 5.0)
    assert look(6.0)[1] == [a_stay(41, 2.0, 6.0, ready=5.0)]
    board.exited("engine-general-1", "signal SIGKILL", 8.0)
    assert look(8.0)[1] == [a_stay(41, 2.0, 8.0, ready=5.0, ended=8.0)]
    assert look(9.0)[1] == []
    board.started("engine-general-1", 43, {}, 9.0)
    assert look(10.0)[1] == [a_stay(43, 9.0, 10.0)]
    first, second = a_stay(41, 2.0, 8.0, ready=5.0, ended=8.0), a_stay(43, 9.0, 12.0, ended=12.0)
    assert [
        (each.subject[-2:], each.phase, each.began_at - BEGAN, each.ended_at) for each in seen.phases([first, second])
    ] == [
        ("41", "queue", 0.0, BEGAN + 2),
        ("41", "boot", 2.0, BEGAN + 5),
        ("43", "boot", 9.0, None),
    ]
    # The second says of itself when it had its port and its weights.
    board.ready("engine-general-1", None, 11.5, {"listening_at": BEGAN + 9.5, "loaded_at": BEGAN + 11.0})
    [third] = look(12.0)[1]
    assert [(each.phase, each.began_at - BEGAN, each.ended_at) for each in seen.phases([third])] == [
        ("boot", 9.0, BEGAN + 9.5),
        ("weights", 9.5, BEGAN + 11),
        ("warm-up", 11.0, BEGAN + 11.5),
    ]
    assert look(12.0, is_over=True) == (a_life(BEGAN + 12, BEGAN + 12), [a_stay(43, 9.0, 12.0, ready=11.5, ended=12.0)])


def test_a_machine_costs_what_the_cheapest_one_costs_that_is_no_smaller() -> None:
    found = cheapest_like(4, 16 * 1024, "amd64")
    assert (found.vcpu, found.arch, found.gpu_count) == (4, "amd64", 0)
    assert found.memory_mib >= 16 * 1024 * 0.9
    assert found.prices["us-east-1"] < 0.2
    assert found.category not in ("t", "g", "p")
    assert cheapest_like(10_000, 1, "amd64").vcpu >= 192  # none is that large: the largest
    assert cheapest_like(2, 1024, "arm64").arch == "arm64"


def test_what_platform_yaml_says_of_the_machine_wins() -> None:
    own = spec.Costs(machine={"usd_per_hour": Decimal("0.25")})  # type: ignore[arg-type]
    assert price_of_this_machine(own) == Price("costs.machine", 250_000_000)
    typed = spec.loads("costs: {machine: {instanceType: m5.xlarge}}").costs
    assert price_of_this_machine(typed) == Price("m5.xlarge", 192_000_000)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("{instanceType: m5.huge}", '"m5.huge" is no EC2 type whose price the catalogue has; one is m7i.xlarge'),
        ("{instanceType: big}", "an EC2 instance type, such as m7i.xlarge"),
        ("{usdPerHour: 0}", "must be above 0"),
        ("{usdPerHour: 1, instanceType: m5.xlarge}", "instanceType says the price already; write one of the two"),
    ],
)
def test_prices_that_are_none_are_refused(said: str, why: str) -> None:
    with pytest.raises(SpecInvalid, match=r"costs\.machine") as caught:
        spec.loads(f"costs: {{machine: {said}}}")
    assert why in str(caught.value)


async def test_what_is_seen_is_in_the_ledger_with_its_price(tmp_path: Path) -> None:
    url, clock, board = f"sqlite:///{tmp_path / 'ledger.sqlite'}", ManualClock(start=BEGAN), a_board()
    costs = spec.loads("costs: {machine: {usdPerHour: 0.25}}").costs
    recorder = Recorder(Seen(cores=4, began_at=BEGAN, pid=7), costs, url, clock)
    board.started("engine-general-1", 41, {}, clock.monotonic())
    recorder.look(board)
    await clock.advance(60.0)
    recorder.close(board)
    store = Store(url)
    [machine] = Lives(store).machines(since=BEGAN, until=BEGAN + 100)
    [stay] = Lives(store).stays(since=BEGAN, until=BEGAN + 100)
    assert (machine.nano_usd_per_hour, machine.type, machine.ended_at) == (250_000_000, "costs.machine", BEGAN + 60)
    assert (stay.replica, stay.share, stay.ended_at) == ("general-1", 0.25, BEGAN + 60)
    store.close()


async def test_a_ledger_that_is_away_is_written_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, clock, board = f"sqlite:///{tmp_path / 'ledger.sqlite'}", ManualClock(start=BEGAN), a_board()
    write, tries = Lives.write, []

    def refuse_once(self: Lives, **seen: object) -> None:
        tries.append(seen)
        if len(tries) == 1:
            raise Unavailable("the ledger is away")
        write(self, **seen)  # type: ignore[arg-type]

    monkeypatch.setattr(Lives, "write", refuse_once)
    recorder = Recorder(Seen(cores=1, began_at=BEGAN, pid=7), spec.Costs(), url, clock)
    recorder.look(board)
    while not tries:
        await clock.advance(0.0)
    recorder.close(board)
    store = Store(url)
    assert [machine.ended_at for machine in Lives(store).machines(since=0, until=2e9)] == [BEGAN]
    store.close()
