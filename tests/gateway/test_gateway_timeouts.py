"""The bounds of `gateway.timeouts`, each against an engine that would go on for ever."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import HELLO, Stack, a_platform, a_stack, events_of

from stoker.base.ids import ModelName
from stoker.gateway.ask import Patience
from stoker.gateway.running import connector
from stoker.queue import Replica
from stoker.spec import Timeouts, loads

CHAT = "/v1/chat/completions"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000000\r\n\r\n"

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def asked(**changes: Any) -> dict[str, Any]:
    return {"model": "general", "messages": HELLO, **changes}


def hurry(stack: Stack, **changes: float) -> None:
    inference = stack.gateway.services.inference
    inference.patience = replace(inference.patience, **changes)


async def announce(stack: Stack, url: str) -> None:
    replica = Replica(id="endless", model=ModelName("general"), url=url, capacity=4, started_at=1.0)
    await stack.registry.announce(replica, ttl_s=3600)
    await stack.gateway.fleet.refresh()


@asynccontextmanager
async def endless(head: bytes, unit: bytes, *, also_to_questions: bool = False) -> AsyncIterator[str]:
    """A server that never falls silent and never comes to anything, for as long as somebody listens. To questions about
    itself (GET) it says 404, unless it is so to those, too."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if line.startswith(b"GET") and not also_to_questions:
            writer.write(NOT_FOUND)
            writer.close()
            return
        writer.write(head)
        try:
            while True:
                writer.write(unit)
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def test_the_bounds_are_those_of_the_file() -> None:
    assert Patience.of(Timeouts(connect_seconds=1.0, first_token_seconds=7.0)) == Patience(1.0, 7.0, 7.0)
    said = Timeouts(connect_seconds=1.0, first_token_seconds=7.0, between_tokens_seconds=9.0)
    assert Patience.of(said) == Patience(1.0, 7.0, 9.0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets connections wait when the backlog is full")
async def test_a_replica_that_does_not_accept_in_time_is_passed_over(tmp_path: Path) -> None:
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for waiting in (first, second):  # they fill the backlog, so that nobody else is accepted
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        platform = loads(
            "gateway: {timeouts: {connectSeconds: 0.2}}\nllm: {models: {general: {}}}\ntenants: {acme: {}}"
        )
        async with a_stack(tmp_path, platform=platform) as stack:
            await announce(stack, f"http://127.0.0.1:{deaf.getsockname()[1]}")
            engine = await stack.engine()
            stack.gateway.fleet.members[(await stack.registry.live())[-1].id].served = 1  # so that the other is first
            answer = await (await stack.http()).request("POST", CHAT, body=asked())
            assert (answer.status, len(engine.requests)) == (200, 1)
            record = await stack.record()
            assert record.attempts == 2
            assert stack.gateway.fleet.members["endless"].breaker.nobody_listened


async def test_a_stream_without_a_first_token_in_time_is_refused(stack: Stack) -> None:
    engine = await stack.engine()
    hurry(stack, first_token_s=0.05)
    hold = engine.hold_at(0)
    answer = await (await stack.http()).request("POST", CHAT, body=asked(stream=True))
    assert (answer.status, answer.json()["error"]["code"]) == (504, "timeout")
    assert answer.json()["error"]["message"].startswith("the engine was silent for too long before its first token")
    assert await (await hold.reached()).end() == "cancelled"
    record = await stack.record()
    assert (record.status, record.attempts) == ("failed", 1)  # its time is used up: no other replica is tried


async def test_comments_are_no_tokens(stack: Stack) -> None:
    hurry(stack, first_token_s=0.05)
    async with endless(EVENTS, b": still here\n\n", also_to_questions=True) as url:
        await announce(stack, url)
        answer = await (await stack.http()).request("POST", CHAT, body=asked(stream=True))
    assert (answer.status, answer.json()["error"]["code"]) == (504, "timeout")
    assert stack.gateway.fleet.members["endless"].breaker.in_a_row == 1


async def test_a_stream_that_falls_silent_is_given_up(stack: Stack) -> None:
    engine = await stack.engine()
    hurry(stack, between_tokens_s=0.05)
    hold = engine.hold_at(2)
    http = await stack.http()
    async with http.stream("POST", CHAT, body=asked(stream=True)) as answer:
        events = await events_of(answer)
    assert [event["choices"][0]["delta"]["content"] for event in events[:-1]] == ["one", " two"]
    assert events[-1]["error"]["code"] == "timeout"
    assert "in the middle of the answer" in events[-1]["error"]["message"]
    assert await (await hold.reached()).end() == "cancelled"
    record = await stack.record()
    assert (record.status, record.completion_tokens) == ("failed", 2)


async def test_a_longer_silence_between_tokens_than_before_the_first_is_possible(tmp_path: Path) -> None:
    """Nor does the client below cut it short."""
    platform = loads("""
gateway: {timeouts: {connectSeconds: 0.1, firstTokenSeconds: 0.2, betweenTokensSeconds: 20, totalSeconds: 30}}
llm: {models: {general: {}}}
""")
    replica = Replica(id="a", model=ModelName("general"), url="http://127.0.0.1:1", capacity=1, started_at=0.0)
    client = connector(platform)(replica)
    assert (client._http._timeouts.connect_s, client._http._timeouts.read_s) == (0.1, 20.0)
    await client.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_no_answer_takes_longer_than_the_total_however_busy_its_engine_is(tmp_path: Path, stream: bool) -> None:
    head, unit = (EVENTS, b": still here\n\n") if stream else (JSON, b" ")
    async with a_stack(tmp_path, platform=a_platform(total_s=0.3)) as stack, endless(head, unit) as url:
        await announce(stack, url)
        answer = await (await stack.http()).request("POST", CHAT, body=asked(stream=stream))
        assert (answer.status, answer.json()["error"]["code"]) == (504, "timeout")
        assert answer.json()["error"]["message"].startswith("the answer did not end in time")
        assert (await stack.record()).status == "failed"
