"""A reconciler dies, too: whoever comes next goes on, and nothing that was only set aside is counted as spent."""

from pathlib import Path

import pytest
from gateway_parts import a_platform

from stoker.engine.client import EngineClient
from stoker.gateway import journal
from stoker.gateway.measures import Measures
from stoker.gateway.reconciler import TAKEN_S, Reconciler
from stoker.policy.budgets import Ask
from stoker.queue import Leased, MemoryBudgets, MemoryQueue
from stoker.telemetry.metrics import Metrics
from stoker.testing import ManualClock

COUNTER = "key:key_1:tokens:total"


async def test_an_owner_that_another_is_winding_up_keeps_its_journal_until_its_slices_are_free(tmp_path: Path) -> None:
    clock = ManualClock()
    budgets, reconciler = await a_dead_owner(tmp_path, clock)
    assert await budgets.take_over("gw_dead", "gw_elsewhere", ttl_s=TAKEN_S, is_proved_dead=True) is not None

    await reconciler.reconcile()  # gw_elsewhere is at it
    assert journals(tmp_path) == ["gw_dead.journal"]

    await clock.advance(TAKEN_S)  # it has died at it
    await reconciler.reconcile()
    assert journals(tmp_path) == []
    [state] = await budgets.state([COUNTER])
    assert state is not None
    assert (state.spent, state.leased) == (0, 0)
    assert await budgets.dead_owners() == []


async def test_a_reconciler_that_died_in_the_middle_is_followed_at_once(tmp_path: Path) -> None:
    class DiesInTheMiddle(BaseException):
        pass

    class Dying(MemoryBudgets):
        async def forfeit(self, *_: object, **__: object) -> bool:
            raise DiesInTheMiddle

    clock = ManualClock()
    queue = MemoryQueue(clock=clock)
    budgets, second = await a_dead_owner(tmp_path, clock, queue)
    first = a_reconciler("gw_first", Dying(queue, clock=clock), tmp_path, clock)
    with pytest.raises(DiesInTheMiddle):
        await first.reconcile()
    await second.reconcile()
    [state] = await budgets.state([COUNTER])
    assert state is not None
    assert (state.spent, state.leased) == (0, 0)
    assert journals(tmp_path) == []


async def a_dead_owner(
    directory: Path, clock: ManualClock, queue: MemoryQueue | None = None
) -> tuple[MemoryBudgets, Reconciler]:
    """It holds 100 tokens, has nothing in flight, and its journal is not locked."""
    budgets = MemoryBudgets(queue or MemoryQueue(clock=clock), clock=clock)
    await budgets.establish(wait_s=0)
    await budgets.enter("gw_dead", ttl_s=60)
    await budgets.begin(COUNTER, 0, expires_at=None)
    assert isinstance(await budgets.lease("gw_dead", [Ask(COUNTER, 1000, 100, 100)]), Leased)
    journal.Journal(directory, "gw_dead").close(remove=False)
    return budgets, a_reconciler("gw_second", budgets, directory, clock)


def journals(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.suffix == ".journal"]


def a_reconciler(name: str, budgets: MemoryBudgets, directory: Path, clock: ManualClock) -> Reconciler:
    def connect(_: object) -> EngineClient:
        raise AssertionError("nothing was in flight")

    queue = MemoryQueue(clock=clock)
    return Reconciler(name, budgets, queue, a_platform(), directory, connect, Measures(Metrics()), clock)
