"""Streams whose clients may come back: on any gateway, to any event, paid once."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from gateway_parts import HELLO, KEY, OTHER_KEY, SlowQueue, Stack, a_stack, running_worker, until

from stoker.base.ids import ModelName
from stoker.meter.keys import KeyStore
from stoker.queue import (
    BudgetStore,
    Claim,
    MemoryBudgets,
    MemoryQueue,
    MemoryRegistry,
    Queue,
    QueueSettings,
    RedisBudgets,
    RedisQueue,
    State,
)
from stoker.spec import Budgets
from stoker.testing import ManualClock
from stoker.testing.engine import EchoEngine
from stoker.testing.redis import RedisServer

CHAT = "/v1/chat/completions"
GENERAL = ModelName("general")
ASKED: dict[str, Any] = {"model": "general", "messages": HELLO, "stream": True}
WITH_USAGE = {**ASKED, "stream_options": {"include_usage": True}}
WORDS = ["one", " two", " three", " four", None]

RESUMABLE = {"X-Stoker-Resumable": "true"}


@dataclass(frozen=True, slots=True)
class Event:
    id: str | None
    data: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Reader:
    """A client that reads server-sent events as the specification says, with another library than ours."""

    def __init__(self, answer: httpx2.Response) -> None:
        assert answer.status_code == 200, answer.status_code
        self.id = answer.headers["x-request-id"]
        self.comments: list[str] = []
        self._lines = answer.aiter_lines()

    async def next(self) -> Event | None:
        seen, data = None, None
        async for line in self._lines:
            if not line and data is not None:
                return Event(seen, data)
            if line.startswith(":"):
                self.comments.append(line)
            name, _, value = line.partition(": ")
            if name == "id":
                seen = value
            elif name == "data":
                data = value
        return None

    async def rest(self) -> list[Event]:
        found = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found


@asynccontextmanager
async def asking(stack: Stack, body: Any = ASKED, *, key: str = KEY, **headers: str) -> AsyncIterator[Reader]:
    """A stream that its client may come back to; leaving the block closes the connection."""
    sent = {"Authorization": f"Bearer {key}", **RESUMABLE, **headers}
    async with (
        httpx2.AsyncClient(timeout=20) as client,
        client.stream("POST", stack.url + CHAT, json=body, headers=sent) as answer,
    ):
        yield Reader(answer)


async def gone_on(stack: Stack, stream: str, seen: str | None, *, by: str = "GET", key: str = KEY) -> Reader:
    """The rest of a stream, once it has ended."""
    answer = await came_back(stack, stream, seen, by=by, key=key)
    return Reader(answer)


async def came_back(
    stack: Stack, stream: str, seen: str | None, *, by: str = "GET", key: str = KEY, **headers: str
) -> httpx2.Response:
    sent = {"Authorization": f"Bearer {key}", **({} if seen is None else {"Last-Event-ID": seen}), **headers}
    async with httpx2.AsyncClient(timeout=20) as client:
        if by == "POST":
            return await client.post(stack.url + CHAT, json=WITH_USAGE, headers={**sent, **RESUMABLE})
        return await client.request(by, f"{stack.url}/v1/streams/{stream}", headers=sent)


def words(events: list[Event]) -> list[str | None]:
    return [event.json["choices"][0]["delta"].get("content") for event in events]


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Stack, Stack]]:
    """Two gateways on one queue."""
    queue: Queue
    budgets: BudgetStore
    if request.param == "redis":
        url = request.getfixturevalue("redis_server").url
        queue, budgets = RedisQueue(url), RedisBudgets(url)
    else:
        queue = MemoryQueue()
        budgets = MemoryBudgets(queue)
    shared: Any = {"queue": queue, "budgets": budgets, "registry": MemoryRegistry()}
    async with a_stack(tmp_path, **shared) as one, a_stack(tmp_path, **shared) as other:
        yield one, other
    await queue.aclose()
    await budgets.aclose()


# --- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["GET", "POST"])
async def test_a_stream_broken_off_after_any_event_goes_on_at_another_gateway_and_is_paid_once(
    pair: tuple[Stack, Stack], by: str
) -> None:
    one, other = pair
    made = KeyStore(one.store).create("acme", budgets=Budgets(tokens_total=10_000))
    streams: list[str] = []
    async with EchoEngine() as engine, running_worker(one, engine, "w1"):
        for n in range(len(WORDS) + 2):  # up to the last event before [DONE]
            hold = engine.hold_at(n) if n < len(WORDS) else None
            seen: list[Event] = []
            async with asking(one, WITH_USAGE, key=made.secret) as reader:
                while len(seen) < n:
                    event = await reader.next()
                    assert event is not None
                    seen.append(event)
                if hold is not None:
                    await hold.reached()
            back = asyncio.create_task(
                gone_on(other, reader.id, seen[-1].id if seen else None, by=by if seen else "GET", key=made.secret)
            )
            if hold is not None:
                hold.open.set()
            again = await back
            *chunks, last, done = seen + await again.rest()
            streams.append(reader.id)

            assert again.id == reader.id
            assert words(chunks) == WORDS
            assert [event.id for event in [*chunks, last]] == [f"{reader.id}/1-{k}" for k in range(len(WORDS) + 1)]
            assert (done.id, done.data) == (None, "[DONE]")
            assert last.json["usage"]["total_tokens"] == 8
            receipt = last.json["stoker"]
            assert (receipt["prompt_tokens"], receipt["completion_tokens"], receipt["cost_usd"]) == (4, 4, 0.000012)
        assert [request.state for request in engine.requests] == ["done"] * len(streams)
    records = await one.records()
    assert sorted(record.id for record in records) == sorted(streams)
    assert {(record.kind, record.status, record.prompt_tokens, record.completion_tokens) for record in records} == {
        ("task", "done", 4, 4)
    }
    [spent] = await one.budgets.state([f"key:{made.key.id}:tokens:total"])
    assert spent is not None
    assert (spent.spent, spent.held) == (8 * len(streams), 0)


async def test_a_stream_goes_on_after_its_gateway_has_left(pair: tuple[Stack, Stack]) -> None:
    one, other = pair
    async with EchoEngine() as engine, running_worker(other, engine, "w1"):
        hold = engine.hold_at(2)
        async with asking(one) as reader:
            seen = [await reader.next(), await reader.next()]
            await hold.reached()
            await one.shut()
            with pytest.raises(httpx2.RemoteProtocolError):  # no end that could be taken for one
                await reader.next()
        hold.open.set()
        assert seen[-1] is not None
        *rest, done = await (await gone_on(other, reader.id, seen[-1].id)).rest()
    assert (words(rest), done.data) == (WORDS[2:], "[DONE]")
    assert [(record.id, record.status) for record in await other.records()] == [(reader.id, "done")]


async def test_a_stream_goes_through_the_queue_though_a_replica_has_room(stack: Stack) -> None:
    engine = await stack.engine()
    async with running_worker(stack, engine, "w1"), asking(stack) as reader:
        *chunks, done = await reader.rest()
    assert (words(chunks), done.data) == (WORDS, "[DONE]")
    assert [comment.partition(" {")[0] for comment in reader.comments] == [": receipt"]
    assert [record.kind for record in await stack.records()] == ["task"]


async def test_nobody_has_to_listen(stack: Stack) -> None:
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        hold = engine.hold_at(1)
        async with asking(stack) as reader:
            request = await hold.reached()
        hold.open.set()
        assert await request.end() == "done"
        record = await stack.record()
    assert (record.id, record.status, record.completion_tokens) == (reader.id, "done", 4)


async def test_what_is_whole_is_told_again_with_its_receipt(stack: Stack) -> None:
    body = {**WITH_USAGE, "conversation": "s"}
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        async with asking(stack, body) as reader:
            first = await reader.rest()
        again = await (await gone_on(stack, reader.id, None)).rest()
    assert again == first
    assert again[-2].json["stoker"]["session_cost_usd"] == 0.000012
    # Who has seen the last chunk, and not that it was the last, is told so.
    assert [event.data for event in await (await gone_on(stack, reader.id, first[-2].id)).rest()] == ["[DONE]"]


async def test_the_sdk_reads_it(stack: Stack) -> None:
    """It takes an empty line after a comment for an event without data, once an event has had an id."""
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        sdk = await stack.sdk()
        made = await sdk.chat.completions.create(
            model="general",
            messages=HELLO,  # type: ignore[arg-type]
            stream=True,
            extra_headers=RESUMABLE,
        )
        assert [chunk.choices[0].delta.content async for chunk in made] == WORDS


async def test_a_worker_that_is_lost_in_the_middle_is_told_and_the_new_answer_can_be_had_whole(stack: Stack) -> None:
    async with asking(stack) as reader:
        claim = await claimed(stack)
        await stack.queue.publish(claim, [piece("a")], first=0)
        first = await reader.next()
        await stack.queue.release(claim)
        again = await claimed(stack)
        await stack.queue.publish(again, [piece("b")], first=0)
        [error] = await reader.rest()
    assert error.json["error"]["code"] == "stream_restarted"
    assert first is not None
    answer = await came_back(stack, reader.id, first.id)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "stream_restarted")
    assert not (await stack.queue.get(again.task.id)).cancel_requested

    await stack.queue.complete(again, {"choices": []})
    *chunks, done = await (await gone_on(stack, reader.id, None)).rest()
    assert (words(chunks), done.data) == (["b"], "[DONE]")


async def test_the_error_of_a_stream_that_failed_is_told_to_who_comes_back(stack: Stack) -> None:
    async with asking(stack) as reader:
        claim = await claimed(stack)
        await stack.queue.publish(claim, [piece("a")], first=0)
        await stack.queue.fail(claim, "boom", retry_in_s=None)
        first, failed = await reader.rest()
    assert (words([first]), failed.json["error"]["message"]) == (["a"], "boom")
    assert await (await gone_on(stack, reader.id, first.id)).rest() == [failed]


async def claimed(stack: Stack) -> Claim:
    [claim] = await stack.queue.claim(GENERAL, "w1", wait_s=20)
    return claim


def piece(text: str) -> bytes:
    return b'{"choices":[{"index":0,"delta":{"content":"%s"}}]}' % text.encode()


# --- ending it --------------------------------------------------------------------------------------------------------


async def test_a_stream_is_cancelled_by_its_id(stack: Stack) -> None:
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        hold = engine.hold_at(2)
        async with asking(stack) as reader:
            request = await hold.reached()
            seen = [event for event in (await reader.next(), await reader.next()) if event is not None]
            assert (await came_back(stack, reader.id, None, by="DELETE", key=OTHER_KEY)).status_code == 404
            answer = await came_back(stack, reader.id, None, by="DELETE")
            assert answer.json() == {"id": reader.id, "object": "stream", "state": "running"}
            assert await request.end() == "cancelled"
            [error] = await reader.rest()
    assert (words(seen), error.json["error"]["message"]) == (WORDS[:2], f"task {reader.id} was cancelled")
    record = await stack.record()
    assert (record.status, record.completion_tokens) == ("cancelled", 2)


async def test_a_client_that_goes_before_it_was_told_the_id_takes_the_stream_along(tmp_path: Path) -> None:
    queue = SlowQueue()
    async with a_stack(tmp_path, queue=queue) as stack:
        opening = asyncio.create_task(came_back(stack, "", None, by="POST"))
        await queue.submitting.wait()
        opening.cancel()
        await asyncio.wait({opening})
        await until(lambda: len(stack.gateway.commitments._running) == 2)  # the submission, and what will call it off
        queue.go_on.set()
        await stack.gateway.commitments.settled()
        assert [kept.task.state for kept in queue._kept.values()] == [State.CANCELLED]


# --- what cannot be gone on with --------------------------------------------------------------------------------------


async def test_what_is_no_event_of_ours_is_refused_and_begins_nothing(stack: Stack) -> None:
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        async with asking(stack) as reader:
            events = await reader.rest()
        last = str(events[-2].id)
        for by in ("GET", "POST"):
            for seen, status, code in (
                ("", 400, "invalid_value"),
                ("7", 400, "invalid_value"),
                (f"{reader.id}/", 400, "invalid_value"),
                (f"{reader.id}/1-0;", 400, "invalid_value"),
                (f"{reader.id}/1-99", 400, "invalid_value"),
                (f"{reader.id}/2-0", 400, "invalid_value"),
                ("req_unknown/1-0", 404 if by == "POST" else 400, "stream_not_found" if by == "POST" else None),
            ):
                answer = await came_back(stack, reader.id, seen, by=by)
                assert answer.status_code == status, (by, seen)
                assert code in (None, answer.json()["error"]["code"])
            answer = await came_back(stack, reader.id, last, by=by, key=OTHER_KEY)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "stream_not_found")
        assert (await came_back(stack, "req_unknown", None)).status_code == 404
        assert len(engine.requests) == 1
    assert len(stack.queue._kept) == 1  # type: ignore[attr-defined]
    assert [record.id for record in await stack.records()] == [reader.id]


async def test_a_stream_that_is_over_for_long_is_gone(tmp_path: Path) -> None:
    clock = ManualClock()
    queue = MemoryQueue(clock=clock, settings=QueueSettings(result_ttl_s=60))
    async with a_stack(tmp_path, queue=queue) as stack:
        async with EchoEngine() as engine, running_worker(stack, engine, "w1"), asking(stack) as reader:
            first, *_ = await reader.rest()
        assert len(await stack.records()) == 1
        await clock.advance(61)
        for by in ("GET", "POST"):
            answer = await came_back(stack, reader.id, first.id, by=by)
            assert (answer.status_code, answer.json()["error"]["code"]) == (410, "stream_gone")
            assert answer.json()["error"]["message"].startswith(f"the events of stream {reader.id} are not kept any")
            assert (await came_back(stack, reader.id, first.id, by=by, key=OTHER_KEY)).status_code == 404
        assert len(engine.requests) == 1


async def test_a_stream_whose_events_are_gone_before_its_result_is_gone(tmp_path: Path) -> None:
    clock = ManualClock()
    async with a_stack(tmp_path, queue=MemoryQueue(clock=clock)) as stack:
        async with EchoEngine() as engine, running_worker(stack, engine, "w1"), asking(stack) as reader:
            first, *_ = await reader.rest()
        await clock.advance(3599)
        assert words((await (await gone_on(stack, reader.id, first.id)).rest())[:-1]) == WORDS[1:]
        await clock.advance(1)
        http = await stack.http()
        for path in (f"/v1/streams/{reader.id}", f"/v1/tasks/{reader.id}/events"):
            answer = await http.request("GET", path)
            assert (answer.status, answer.json()["error"]["code"]) == (410, "stream_gone")
        assert (await http.get_json(f"/v1/tasks/{reader.id}"))["result"]["usage"]["completion_tokens"] == 4


async def test_a_stream_whose_client_did_not_ask_to_come_back_cannot_be_gone_on_with(stack: Stack) -> None:
    await stack.engine()
    answer = await (await stack.http()).request("POST", CHAT, body=ASKED)
    await stack.record()
    assert (await came_back(stack, answer.headers["x-request-id"], None)).status_code == 404


async def test_only_streams_are_resumable_and_the_header_says_true_or_false(stack: Stack) -> None:
    await stack.engine()
    http = await stack.http()
    answer = await http.request("POST", CHAT, body={**ASKED, "stream": False}, headers=RESUMABLE)
    assert (answer.status, answer.headers["x-stoker-replica"]) == (200, "general-0")
    answer = await http.request("POST", CHAT, body=ASKED, headers={"X-Stoker-Resumable": "false"})
    assert (answer.status, answer.headers["x-stoker-replica"]) == (200, "general-0")
    answer = await http.request("POST", CHAT, body=ASKED, headers={"X-Stoker-Resumable": "1"})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "x-stoker-resumable")
