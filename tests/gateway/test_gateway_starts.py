"""`/admin/v1/starts`: the ledger's phases, for the admin."""

import asyncio
from pathlib import Path

import pytest
from gateway_parts import ADMIN_KEY, KEY, a_stack

from stoker.base.errors import InvalidInput, NotPermitted
from stoker.gateway.cold_starts import LOOK_EVERY_S
from stoker.meter.lives import Lives, MachineLife, Phase, StayLife
from stoker.telemetry.metrics import read_by
from stoker.testing import ManualClock

NOW = 20_000 * 86400.0
PATH = "/admin/v1/starts"


async def test_what_started_in_a_day(tmp_path: Path) -> None:
    async with a_stack(tmp_path, clock=(clock := ManualClock(start=NOW))) as stack:
        machine = MachineLife(
            id="m",
            pool="local",
            capacity="local",
            type="t",
            zone="local",
            nano_usd_per_hour=36 * 10**8,
            began_at=NOW - 7200,
            usable_at=NOW - 7200,
            seen_at=NOW,
        )
        stay = StayLife(
            id="s",
            machine="m",
            workload="w",
            model="general",
            replica="general-1",
            share=0.5,
            began_at=NOW - 3600,
            ready_at=NOW - 3590,
            seen_at=NOW,
        )
        phase = Phase(subject="s", phase="weights", began_at=NOW - 3600, ended_at=NOW - 3590)
        Lives(stack.store).write(machines_seen=[machine], stays_seen=[stay], phases_seen=[phase])

        admin = await stack.http(ADMIN_KEY)
        found = await admin.get_json(PATH)
        assert (found["since"], found["until"]) == (NOW - 86400, NOW)
        assert [(each["name"], each["seconds"], each["usd"]) for each in found["starts"]] == [
            ("general-1", 10.0, 0.005)
        ]
        assert (await admin.get_json(f"{PATH}?since={NOW - 3599}"))["starts"] == []
        assert (await admin.get_json(f"{PATH}?model=code"))["starts"] == []
        with pytest.raises(InvalidInput, match="limit is '0'"):
            await admin.get_json(f"{PATH}?limit=0")
        with pytest.raises(NotPermitted, match="may not use /admin/v1/starts"):
            await (await stack.http(KEY)).get_json(PATH)

        # Its metrics: it looks again each five minutes; who is not yet asleep then is woken the next time.
        text = ""
        async with asyncio.timeout(20):
            while 'stoker_starts{model="general"} 1.0' not in text:
                await clock.advance(LOOK_EVERY_S)
                await asyncio.sleep(0.01)
                text = (await (await stack.http(key=None)).request("GET", "/metrics")).body.decode()
        took = read_by(text, "phase", "stoker_start_seconds")["stoker_start_seconds"]
        assert {phase: seconds for phase, seconds in took.items() if seconds} == {"weights": 10.0}
