"""Where engines are is the platform's own affair: what a client is told, and what is kept for it, names the replica."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from gateway_parts import ADMIN_KEY, HELLO, Stack, a_platform, a_stack, events_of
from structlog.testing import capture_logs

from stoker.testing.engine import EchoEngine
from stoker.web.client import HttpClient

CHAT = "/v1/chat/completions"
ASKED: dict[str, Any] = {"model": "general", "messages": HELLO}


def logged(lines: Any, event: str) -> str:
    [line] = [line for line in lines if line["event"] == event]
    return str(line["why"])


async def reasons(stack: Stack) -> list[str | None]:
    return [record.reason for record in await stack.records()]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_says_nothing(tmp_path: Path, stream: bool) -> None:
    async with a_stack(tmp_path, platform=a_platform(total_s=0.1)) as stack:
        engine = await stack.engine()
        engine.hold_at(0)
        with capture_logs() as lines:
            answer = await (await stack.http()).request("POST", CHAT, body={**ASKED, "stream": stream})
        said = "the answer did not end in time"
        told = f"{said} (gateway.timeouts.totalSeconds bounds it)"
        assert (answer.status, answer.json()["error"]["message"]) == (504, told)
        assert await reasons(stack) == [said]
        assert engine.url not in str(lines)


async def test_an_engine_that_breaks_off_a_stream(stack: Stack) -> None:
    engine = await stack.engine()
    engine.break_off_after(2)
    http = await stack.http()
    with capture_logs() as lines:
        async with http.stream("POST", CHAT, body={**ASKED, "stream": True}) as answer:
            *_, last = await events_of(answer)
    said = "replica general-0 closed the connection in the middle of the answer"
    assert last["error"]["message"] == said
    assert await reasons(stack) == [said]
    assert engine.url in logged(lines, "request failed")


async def test_an_engine_that_cannot_be_reached_is_passed_over_and_its_address_is_in_the_log(stack: Stack) -> None:
    async with EchoEngine() as gone:
        await stack.announce(gone)
    engine = await stack.engine()
    with capture_logs() as lines:
        answer = await (await stack.http()).request("POST", CHAT, body=ASKED)
    assert (answer.status, len(engine.requests)) == (200, 1)
    assert logged(lines, "replica is down").startswith(f"cannot reach replica general-0 ({gone.url}: ")


async def test_a_task_whose_engine_breaks_off(stack: Stack) -> None:
    http, admin = await stack.http(), await stack.http(ADMIN_KEY)
    async with EchoEngine() as engine:
        engine.break_off_after(1, times=2)
        with capture_logs() as lines:
            await stack.worker(engine)
            task_id = (await http.post_json("/v1/tasks", ASKED))["id"]
            dead = await http.get_json(f"/v1/tasks/{task_id}", {"wait": "20"})
        said = "the engine closed the connection in the middle of the answer"
        assert (dead["state"], dead["error"]["message"]) == ("dead", said)
        assert [failure["why"] for failure in dead["failures"]] == [said, said]
        assert await reasons(stack) == [said]
        seen = await told(http, f"/v1/tasks/{task_id}") + await told(admin, "/admin/v1/dead")
        assert urlsplit(engine.url).netloc not in seen
        assert [engine.url in line["why"] for line in lines if line["event"] == "task failed"] == [True, True]


async def told(http: HttpClient, path: str) -> str:
    return (await http.request("GET", path)).body.decode()
