"""`ledger.retentionDays`: what becomes of records as days go by."""

import asyncio
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from gateway_parts import SPEC, a_stack, until

from stoker.base.errors import SpecInvalid, Unavailable
from stoker.gateway.retention import LOOK_EVERY_S, forget_changes_forever, prune_forever
from stoker.meter.audit import AuditTrail, Change
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.meter.usage import UsageRecord
from stoker.spec import loads
from stoker.testing import ManualClock

DAY = 86400.0


def ended(day: float) -> UsageRecord:
    return UsageRecord(
        id=f"req_{day}",
        kind="request",
        status="done",
        tenant="acme",
        key_id="key_1",
        model="general",
        prompt_tokens=1,
        completion_tokens=2,
        nano_usd=3,
        started_at=1.0,
        ended_at=day * DAY,
    )


class LockedOnce(Ledger):
    is_locked = True

    def prune(self, before: date, today: date) -> int:
        if self.is_locked:
            self.is_locked = False
            raise Unavailable("the ledger's database refused: locked", code="ledger_unavailable")
        return super().prune(before, today)


class NotingClock(ManualClock):
    """Says what is in the ledger when a look has ended and the next one is waited for."""

    def __init__(self, start: float, ledger: Ledger) -> None:
        super().__init__(start)
        self._ledger = ledger
        self.looks: asyncio.Queue[list[str]] = asyncio.Queue()

    async def sleep(self, seconds: float) -> None:
        self.looks.put_nowait([record.id for record in self._ledger.records()])
        await super().sleep(seconds)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield made
    made.close()


async def left_after_looks(ledger: Ledger, days: int | None, count: int) -> list[list[str]]:
    clock = NotingClock(100.9 * DAY, ledger)
    keeping = asyncio.create_task(prune_forever(ledger, days, clock))
    left = []
    for _ in range(count):
        left.append(await clock.looks.get())
        await clock.advance(LOOK_EVERY_S)
    keeping.cancel()
    return left


async def test_records_go_when_their_days_are_over(store: Store) -> None:
    ledger = LockedOnce(store)
    ledger.append([ended(59.9), ended(60.0), ended(60.9), ended(61.0)])
    assert await left_after_looks(ledger, 40, 5) == [
        ["req_59.9", "req_60.0", "req_60.9", "req_61.0"],  # the database said no
        ["req_60.0", "req_60.9", "req_61.0"],  # day 100: days from 60 on are kept
        ["req_60.0", "req_60.9", "req_61.0"],
        ["req_61.0"],  # day 101
        ["req_61.0"],
    ]
    assert ledger.spent("tenant", "acme", "acme").requests == 4


async def test_without_a_word_of_it_every_record_is_kept(store: Store) -> None:
    ledger = Ledger(store)
    ledger.append([ended(1.0)])
    assert await left_after_looks(ledger, None, 2) == [["req_1.0"]] * 2


async def test_a_gateway_does_what_the_file_says(tmp_path: Path, store: Store) -> None:
    ledger = Ledger(store)
    ledger.append([ended(10.0), ended(90.0)])
    platform = loads(SPEC.replace("TOTAL", "20").replace("CONNECT", "2") + "ledger: {retentionDays: 31}")
    async with a_stack(tmp_path, platform=platform, clock=ManualClock(121.5 * DAY)):
        await until(lambda: [record.id for record in ledger.records()] == ["req_90.0"])


def test_fewer_days_than_budgets_need_are_refused() -> None:
    with pytest.raises(SpecInvalid, match=r"ledger\.retentionDays: 30 "):
        loads("ledger: {retentionDays: 30}")


async def test_what_admins_changed_is_forgotten_after_so_many_days(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    clock = NotingClock(1000 * DAY, Ledger(store))
    trail = AuditTrail(store, clock)
    for days in (7, 1, 0):
        trail.refused(Change("key_1", "req_1", "keys.revoke", f"key:{days}"), "conflict")
        await clock.advance(days * DAY)
    kept = []
    for days in (0, 6, 7):
        later = NotingClock(1008 * DAY + days * DAY, Ledger(store))
        forgetting = asyncio.create_task(forget_changes_forever(trail, 7, later))
        await later.looks.get()  # it has looked, and sleeps
        kept.append([one.object for one in trail.page()])
        forgetting.cancel()
        await asyncio.gather(forgetting, return_exceptions=True)
    assert kept == [["key:0", "key:1"], ["key:0", "key:1"], ["key:0"]]
    store.close()
