"""`/admin/v1/cost`: the ledger's lives and records as parts of a bill."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from gateway_parts import ADMIN_KEY, HELLO, KEY, a_stack

from stoker.base.errors import InvalidInput, NotPermitted, Unavailable
from stoker.gateway import cost_reports
from stoker.gateway.spending import LOOK_EVERY_S
from stoker.meter.ledger import Ledger
from stoker.meter.lives import Lives, MachineLife, StayLife
from stoker.meter.rates import FRESH_S
from stoker.meter.usage import UsageRecord
from stoker.testing import ManualClock

DAY = 86400.0
NOW = 20_000 * DAY
USD = 10**9
SEEN_S = 3600.0
PATH = "/admin/v1/cost"


def a_record(number: int, tenant: str, began: float, ended: float) -> UsageRecord:
    return UsageRecord(
        id=f"req_{number}",
        kind="request",
        status="done",
        tenant=tenant,
        key_id="key_1",
        model="general",
        replica="general-1",
        prompt_tokens=10,
        completion_tokens=5,
        nano_usd=1,
        started_at=NOW + began,
        ended_at=NOW + ended,
    )


async def test_what_a_day_cost_and_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(start=NOW)
    async with a_stack(tmp_path, clock=clock) as stack:
        machine = MachineLife(
            id="m",
            pool="local",
            capacity="local",
            type="t",
            zone="local",
            nano_usd_per_hour=USD,
            began_at=NOW - 7200,
            usable_at=NOW - 7200,
            seen_at=NOW + SEEN_S,
        )
        stay = StayLife(
            id="s",
            machine="m",
            workload="w",
            model="general",
            replica="general-1",
            share=1.0,
            began_at=NOW - 7200,
            ready_at=NOW - 7200,
            seen_at=NOW + SEEN_S,
        )
        Lives(stack.store).write(machines_seen=[machine], stays_seen=[stay])
        Ledger(stack.store).append([a_record(1, "acme", -7200, -3600), a_record(2, "zeta", -3600, -1800)])

        admin = await stack.http(ADMIN_KEY)
        whole = found = await admin.get_json(PATH)
        assert (found["by"], found["since"], found["until"], found["source"]) == (
            ["tenant"],
            NOW - DAY,
            NOW,
            "platform",
        )
        assert {row["key"]: (row["usd"], row["requests"]) for row in found["rows"]} == {
            "acme": (1.0, 1),
            "zeta": (0.5, 1),
            "(idle)": (0.5, 0),
        }
        assert (found["total_usd"], found["bill_usd"]) == (2.0, 2.0)

        found = await admin.get_json(f"{PATH}?by=nodepool,model&since={NOW - 3600}&until={NOW - 1800}&limit=1")
        assert [(row["key"], row["nodepool"], row["model"], row["usd"]) for row in found["rows"]] == [
            ("local, general", "local", "general", 0.5)
        ]

        for wrong, why in (
            ("by=colour", "by is 'colour'; it has to be one to 3 different ones of tenant, team, key, session"),
            ("by=tenant,tenant", "by is 'tenant,tenant'; it must be one to 3 different ones of"),
            ("since=x", "since is 'x'; it has to be a number from 0"),
            ("limit=0", "limit is '0'; it has to be a whole number from 1 to 100000"),
        ):
            with pytest.raises(InvalidInput, match=why):
                await admin.get_json(f"{PATH}?{wrong}")

        async def machines() -> str:
            return (await (await stack.http(key=None)).request("GET", "/metrics")).body.decode()

        async def look_until(holds: Callable[[str], bool]) -> str:
            """It looks again each half minute; who is not yet asleep then is woken the next time."""
            async with asyncio.timeout(20):
                while not holds(text := await machines()):
                    await clock.advance(LOOK_EVERY_S)
                    await asyncio.sleep(0.01)
            return text

        there = 'stoker_machine_usd_per_hour{capacity="local",nodepool="local"} 1.0'
        assert 'stoker_model_usd_per_hour{model="general"} 1.0' in await look_until(lambda text: there in text)
        await clock.advance(SEEN_S + FRESH_S)
        await look_until(lambda text: "stoker_machine_usd_per_hour{" not in text)

        # A large one is made by another process, and is the same.
        monkeypatch.setattr(cost_reports, "MOST_INLINE", 1)
        assert await admin.get_json(f"{PATH}?until={NOW}") == whole
        monkeypatch.setattr(stack.gateway.services.costs, "_url", "mysql://nobody@localhost/none")
        with pytest.raises(Unavailable, match="the report of costs failed") as caught:
            await admin.get_json(PATH)
        assert caught.value.code == "cost_report_failed"

        with pytest.raises(NotPermitted, match="may not use /admin/v1/cost"):
            await (await stack.http(KEY)).get_json(PATH)


async def test_what_has_just_ended_is_in_the_ledger_before_a_report_is_made(tmp_path: Path) -> None:
    clock = ManualClock(start=NOW)
    async with a_stack(tmp_path, clock=clock) as stack:
        await stack.engine()
        said = {"model": "general", "messages": HELLO, "max_tokens": 3}
        await (await stack.http(KEY)).post_json("/v1/chat/completions", said)
        assert (await (await stack.http(ADMIN_KEY)).request("GET", PATH)).status == 200
        assert stack.gateway.services.ledger.spent("tenant", "acme", "acme").requests == 1
