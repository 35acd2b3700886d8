"""`/admin/v1/usage/records` and `/admin/v1/usage/prune`: every record, page by page, and old ones as sums."""

import asyncio
import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import ADMIN_KEY, KEY, Stack, a_stack

from stoker.cli.app import run
from stoker.meter.usage import UsageRecord
from stoker.testing import ManualClock

RECORDS, PRUNE = "/admin/v1/usage/records", "/admin/v1/usage/prune"
DAY = 86400.0


def a_record(number: int, **changed: Any) -> UsageRecord:
    given: dict[str, Any] = {
        "id": f"req_{number}",
        "kind": "request",
        "status": "done",
        "tenant": "acme",
        "key_id": "key_1",
        "model": "general",
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "nano_usd": 3,
        "started_at": 1.0,
        "ended_at": 10.0 * number,
    }
    return UsageRecord(**{**given, **changed})


async def sent(stack: Stack, *records: UsageRecord) -> None:
    """As the gateway sends them: not in the ledger yet."""
    for record in records:
        await stack.queue.append_usage(record)


async def test_records_come_in_pages_in_the_order_of_their_ends(stack: Stack) -> None:
    http = await stack.http(ADMIN_KEY)
    await sent(stack, *(a_record(number, ended_at=ends) for number, ends in ((1, 30.5), (2, 10.0), (3, 20.0))))
    first = await http.get_json(RECORDS, {"limit": "2"})
    assert first == {
        "records": [asdict(a_record(2, ended_at=10.0)), asdict(a_record(3, ended_at=20.0))],
        "next": "20.0,req_3",
    }
    second = await http.get_json(RECORDS, {"limit": "2", "after": first["next"]})
    assert second == {"records": [asdict(a_record(1, ended_at=30.5))], "next": None}


async def test_a_page_that_is_just_full_is_the_last_one(stack: Stack) -> None:
    http = await stack.http(ADMIN_KEY)
    await sent(stack, a_record(1), a_record(2))
    assert (await http.get_json(RECORDS, {"limit": "2"}))["next"] is None
    assert (await http.get_json(RECORDS, {"since": "999"})) == {"records": [], "next": None}


async def test_records_are_narrowed(stack: Stack) -> None:
    http = await stack.http(ADMIN_KEY)
    await sent(stack, *(a_record(number, tenant="a" if number % 2 else "b") for number in range(1, 6)))

    async def ids(**asked: str) -> list[str]:
        return [record["id"] for record in (await http.get_json(RECORDS, asked))["records"]]

    assert await ids(tenant="a") == ["req_1", "req_3", "req_5"]
    assert await ids(since="20", until="40") == ["req_2", "req_3"]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"after": "nonsense"}, "after"),
        ({"after": "10.0"}, "after"),
        ({"after": "nan,req_1"}, "after"),
        ({"limit": "0"}, "limit"),
        ({"limit": "5001"}, "limit"),
        ({"until": "tomorrow"}, "until"),
    ],
)
async def test_a_page_that_there_cannot_be(stack: Stack, asked: dict[str, str], param: str) -> None:
    answer = await (await stack.http(ADMIN_KEY)).request("GET", RECORDS, params=asked)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)


async def test_a_user_sees_no_records_and_prunes_none(stack: Stack) -> None:
    http = await stack.http(KEY)
    assert (await http.request("GET", RECORDS)).status == 403
    assert (await http.request("POST", PRUNE, body={"before": "1970-01-05"})).status == 403


async def test_pruning_turns_old_days_into_sums(tmp_path: Path) -> None:
    async with a_stack(tmp_path, clock=ManualClock(100 * DAY)) as stack:
        http = await stack.http(ADMIN_KEY)
        await sent(stack, *(a_record(day, ended_at=day * DAY) for day in (1, 68, 69, 70)))
        before = await http.get_json("/admin/v1/usage")
        assert await http.post_json(PRUNE, {"before": "1970-03-11"}) == {"before": "1970-03-11", "pruned": 2}
        assert await http.post_json(PRUNE, {"before": "1970-03-11"}) == {"before": "1970-03-11", "pruned": 0}
        assert [record["id"] for record in (await http.get_json(RECORDS))["records"]] == ["req_69", "req_70"]
        assert await http.get_json("/admin/v1/usage") == before

        for day, why in (
            ("1970-03-12", "must be 1970-03-11 or earlier"),
            ("1970-02-30", "there is no such day"),
            ("yesterday", "must be a date, such as 2026-01-31"),
        ):
            answer = await http.request("POST", PRUNE, body={"before": day})
            assert (answer.status, answer.json()["error"]["param"]) == (400, "before")
            assert why in answer.json()["error"]["message"]


async def test_the_command_line_exports_and_prunes_what_a_running_platform_has(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stoker.cli.usage._PAGE", 2)
    await sent(stack, *(a_record(number) for number in range(1, 6)))
    platform = ["--url", stack.url, "--key", ADMIN_KEY]
    file = tmp_path / "usage.csv"
    assert await asyncio.to_thread(run, ["usage", "export", *platform, "-o", str(file), "--until", "1970-01-02"]) == 0
    assert [row["id"] for row in csv.DictReader(file.read_text().splitlines())] == [f"req_{n}" for n in range(1, 6)]
    assert await asyncio.to_thread(run, ["usage", "prune", *platform, "--before", "1970-01-02", "--json"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == '{"before": "1970-01-02", "pruned": 5}'
    assert f"5 records written to {file}\n" in said.err
