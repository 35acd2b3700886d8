"""What a drill asks of a platform as its admin, against one that answers as a test says."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

import pytest
from drill_parts import SkippingClock, record

from stoker.base.errors import Unauthenticated, Unavailable
from stoker.drill.outside import Outside, generated_by
from stoker.testing.receiver import Receiver


def said(value: object, status: int = 200) -> bytes:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def asked(*answers: int | bytes) -> AsyncIterator[tuple[Outside, Receiver]]:
    async with Receiver(*answers) as platform:
        outside = Outside(platform.url, "admin", SkippingClock())
        yield outside, platform
        await outside.close()


async def test_a_platform_that_is_hurt_is_asked_again() -> None:
    async with asked(b"", said({}, 503), said({}, 429), said({"replicas": []})) as (outside, platform):
        assert await outside.call("GET", "/admin/v1/replicas") == {"replicas": []}

    assert len(platform.got) == 4


async def test_but_not_for_ever_and_a_no_is_a_no() -> None:
    async with asked(*[said({}, 503)] * 100) as (outside, platform):
        with pytest.raises(Unavailable):
            await outside.call("GET", "/admin/v1/replicas", patience_s=2.0)
        assert len(platform.got) == 11  # five a second

    async with asked(said({}, 401)) as (outside, platform):
        with pytest.raises(Unauthenticated):
            await outside.make_key("drill", tokens=10, expires_at=2.0)
        assert len(platform.got) == 1


async def test_the_records_of_its_key_from_all_pages() -> None:
    mine, other = record("req_1", "drill_1-1"), record("req_2", "x", key_id="key_2")
    more = record("req_3", "drill_1-3")
    pages = [{"records": [asdict(mine), asdict(other)], "next": "2.0,req_2"}, {"records": [asdict(more)], "next": None}]
    async with asked(*map(said, pages)) as (outside, platform):
        assert await outside.records("key_1", 1.5) == [mine, more]

    assert platform.got[0].path == "/admin/v1/usage/records?tenant=drill&since=1.5&limit=5000"
    assert platform.got[1].path.endswith("&after=2.0%2Creq_2")


async def test_what_the_books_say_of_its_key() -> None:
    rows = [{"id": "key_2", "spent": 1, "reserved": 2}, {"id": "key_1", "spent": 30, "reserved": 4}]
    async with asked(said({"budgets": rows})) as (outside, _):
        assert await outside.spent_and_reserved("key_1") == (30, 4)


async def test_a_task_and_one_that_nobody_knows() -> None:
    task = {
        "id": "req_1",
        "run": "drill_1-1",
        "state": "dead",
        "failures": [{"attempt": 1, "why": "lease expired"}],
        "error": {"message": "it killed its worker"},
        "worker": "general-1",
        "result": None,
    }
    async with asked(said(task), said({}, 404)) as (outside, _):
        found = await outside.task("req_1")
        assert found is not None
        assert (found.state, found.failures, found.error) == ("dead", ("lease expired",), "it killed its worker")
        assert (found.worker, found.answer) == ("general-1", None)
        assert await outside.task("req_2") is None


async def test_one_that_drains_is_sent_nothing_more() -> None:
    replicas = [{"id": "general-1", "state": "up"}, {"id": "general-2", "state": "draining"}]
    async with asked(said({"replicas": replicas})) as (outside, _):
        assert await outside.serving() == {"general-1"}


async def test_what_an_engine_has_generated() -> None:
    text = b'# TYPE vllm:generation_tokens_total counter\nvllm:generation_tokens_total{model_name="general"} 1234.0\n'
    async with Receiver(said(text), said(b"nothing of the kind\n"), b"") as engine:
        assert [await generated_by(engine.url) for _ in range(3)] == [1234, None, None]
