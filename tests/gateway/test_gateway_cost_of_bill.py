"""`POST /admin/v1/cost` and `/admin/v1/cost/savings`: a bill that is sent, by the machines that the ledger knows."""

from typing import Any

import pytest
from gateway_parts import ADMIN_KEY, KEY, Stack

from stoker.base.errors import InvalidInput, NotPermitted
from stoker.meter.lives import Lives, MachineLife

COST = "/admin/v1/cost"
LINE = {"nano_usd": 5_000_000_000, "began_at": 0, "ended_at": 86400, "capacity": "spot"}


def known(stack: Stack) -> None:
    Lives(stack.store).write(
        machines_seen=[
            MachineLife(
                id="i-1",
                pool="gpu",
                capacity="spot",
                type="g5.xlarge",
                zone="us-east-1a",
                nano_usd_per_hour=10**9,
                began_at=0.0,
                usable_at=0.0,
                seen_at=7200.0,
                ended_at=7200.0,
            )
        ]
    )


def body(**more: Any) -> dict[str, Any]:
    return {"by": "nodepool", "since": 0, "until": 86400, "lines": [LINE], **more}


async def test_a_bill_is_split_over_the_machines_that_are_known(stack: Stack) -> None:
    known(stack)
    http = await stack.http(ADMIN_KEY)
    shared = {**LINE, "nano_usd": -1_000_000_000, "item": "credit", "is_shared": True}
    found = await http.post_json(
        COST,
        body(
            lines=[LINE, shared],
            if_known=[{**LINE, "nano_usd": 1, "machine": "i-1"}, {**LINE, "nano_usd": 3 * 10**9, "machine": "i-9"}],
        ),
    )
    assert {row["key"]: row["nano_usd"] for row in found["rows"]} == {"gpu": 5_000_000_001, "(credit)": -(10**9)}
    assert (found["bill_nano_usd"], found["left_out_usd"], found["left_out_rows"]) == (4_000_000_001, 3.0, 1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"lines": [{**LINE, "nano_usd": 0.5}]}, "lines[0].nano_usd is 0.5"),
        ({"lines": [{**LINE, "ended_at": -1}]}, "lines[0] is from 0 to -1"),
        ({"lines": [{**LINE, "usd": 1}]}, "lines[0] has the unknown key usd"),
        ({"lines": None}, "lines must be a list"),
        ({"by": "colour"}, "by is 'colour'"),
        ({"limit": 0}, "limit is 0"),
        ({"more": 1}, "the unknown key more"),
    ],
)
async def test_what_is_no_bill_is_refused_with_where(wrong: dict[str, Any], said: str, stack: Stack) -> None:
    http = await stack.http(ADMIN_KEY)
    with pytest.raises(InvalidInput) as refused:
        await http.post_json(COST, body(**wrong))
    assert said in refused.value.message


async def test_only_the_admin_key_may_ask(stack: Stack) -> None:
    http = await stack.http(KEY)
    with pytest.raises(NotPermitted):
        await http.post_json(COST, body())
    with pytest.raises(NotPermitted):
        await http.get_json(f"{COST}/savings")


async def test_savings_are_of_the_time_that_is_asked_for(stack: Stack) -> None:
    known(stack)
    found = await (await stack.http(ADMIN_KEY)).get_json(f"{COST}/savings", {"since": "0", "until": "14400"})
    assert (found["spot"]["hours"], found["spot"]["paid_usd"]) == (2.0, 2.0)
    assert found["scaling"]["saved_usd"] == 2.0  # one machine at $1 for four hours, and it was there for two
