"""Requests for which no replica has room: through the queue, by a worker, with the same answer and one record."""

import asyncio
from pathlib import Path
from typing import Any

from gateway_parts import HELLO, SlowQueue, Stack, a_stack, events_of, running_worker, until

from stoker.base.errors import QueueUnavailable
from stoker.base.ids import ModelName, TaskId
from stoker.queue import Hold, MemoryQueue, NewTask, State, Task
from stoker.testing.engine import EchoEngine

CHAT = "/v1/chat/completions"
GENERAL = ModelName("general")


def asked(**changes: Any) -> dict[str, Any]:
    return {"model": "general", "messages": HELLO, **changes}


async def test_a_request_without_a_replica_is_answered_by_a_worker(stack: Stack) -> None:
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        answer = await (await stack.http()).request("POST", CHAT, body=asked(), headers={"X-Session-Id": "s"})

        assert answer.status == 200
        assert answer.json()["choices"][0]["message"] == {"role": "assistant", "content": "one two three four"}
        assert answer.json()["object"] == "chat.completion"
        assert answer.headers["x-stoker-replica"] == "queue"
        record = await stack.record()
        assert (record.id, record.kind, record.status) == (answer.headers["x-request-id"], "task", "done")
        assert (record.prompt_tokens, record.completion_tokens, record.replica) == (4, 4, "w1")
        assert (record.tenant, record.session, record.route) == ("acme", "s", "model")


async def test_a_stream_without_a_replica_is_answered_by_a_worker(stack: Stack) -> None:
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        http = await stack.http()
        async with http.stream("POST", CHAT, body=asked(stream=True)) as answer:
            *chunks, done = await events_of(answer)

        assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == [
            "one",
            " two",
            " three",
            " four",
            None,
        ]
        assert not any("usage" in chunk for chunk in chunks)
        assert done == "[DONE]"
        record = await stack.record()
        assert (record.id, record.status, record.completion_tokens) == (answer.headers["x-request-id"], "done", 4)


async def test_replicas_that_are_full_or_say_503_leave_it_to_the_queue(stack: Stack) -> None:
    engine = await stack.engine(capacity=1)
    hold = engine.hold_at(0)
    http = await stack.http()
    first = asyncio.create_task(http.request("POST", CHAT, body=asked()))
    await hold.reached()
    second = asyncio.create_task(http.request("POST", CHAT, body=asked()))  # one is all that the replica takes
    await until(lambda: len(stack.queue._kept) == 1)  # type: ignore[attr-defined]
    hold.open.set()
    assert (await first).headers["x-stoker-replica"] == "general-0"

    engine.capacity = 0  # from now on it says so itself
    third = asyncio.create_task(http.request("POST", CHAT, body=asked()))
    await until(lambda: len(stack.queue._kept) == 2)  # type: ignore[attr-defined]
    engine.capacity = None
    async with running_worker(stack, engine, "w1"):
        for asking in (second, third):
            answer = await asking
            assert (answer.status, answer.headers["x-stoker-replica"]) == (200, "queue")
    records = await stack.records()
    assert [record.kind for record in records] == ["request", "task", "task"]
    assert stack.gateway.fleet.snapshot()[0]["state"] == "up"  # full is not down


async def test_a_client_that_leaves_while_it_waits_in_the_queue_takes_its_task_with_it(stack: Stack) -> None:
    http = await stack.http()
    for stream in (False, True):
        opening = http.stream("POST", CHAT, body=asked(stream=stream))
        entering = asyncio.create_task(opening.__aenter__())
        await until(lambda n=stream: len(stack.queue._kept) == 1 + n)  # type: ignore[attr-defined,misc]
        if stream:
            await entering  # the stream has begun, and has nothing to say yet
            await opening.__aexit__(None, None, None)
        else:
            entering.cancel()
            await asyncio.wait({entering})
        await until(lambda: {kept.task.state for kept in stack.queue._kept.values()} == {State.CANCELLED})  # type: ignore[attr-defined]
    records = await stack.records()
    assert [(record.status, record.completion_tokens) for record in records] == [("cancelled", 0)] * 2


async def test_a_client_that_leaves_while_a_worker_streams_stops_the_engine(stack: Stack) -> None:
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        hold = engine.hold_at(2)
        http = await stack.http()
        async with http.stream("POST", CHAT, body=asked(stream=True)) as answer:
            await anext(answer.events)
            request = await hold.reached()
        assert await request.end() == "cancelled"
        record = await stack.record()
        assert (record.status, record.prompt_tokens, record.completion_tokens) == ("cancelled", 4, 2)


async def test_an_engine_that_refuses_a_queued_request_is_heard(stack: Stack) -> None:
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        http = await stack.http()
        said = {"message": "no such thing", "type": "invalid_request_error", "code": "nope", "param": "messages[0]"}
        engine.refuse(422, {"error": said}, times=2)

        answer = await http.request("POST", CHAT, body=asked())
        assert (answer.status, answer.json()) == (422, {"error": said})
        async with http.stream("POST", CHAT, body=asked(stream=True)) as stream:
            assert await events_of(stream) == [{"error": said}]
        assert [record.status for record in await stack.records()] == ["failed", "failed"]


async def test_a_queue_that_does_not_answer_is_told_with_a_status_also_to_a_stream(tmp_path: Path) -> None:
    async with a_stack(tmp_path, queue=DeafQueue()) as stack:
        http = await stack.http()
        for stream in (False, True):
            answer = await http.request("POST", CHAT, body=asked(stream=stream))
            assert (answer.status, answer.json()["error"]["code"]) == (503, "queue_unavailable")


class DeafQueue(MemoryQueue):
    async def submit(self, new: NewTask, *, task_id: TaskId | None = None, hold: Hold | None = None) -> Task:
        raise QueueUnavailable("cannot submit: Redis said nothing")


async def test_a_client_that_leaves_while_its_task_is_submitted_leaves_no_task(tmp_path: Path) -> None:
    queue = SlowQueue()
    async with a_stack(tmp_path, queue=queue) as stack:
        http = await stack.http()
        asking = asyncio.create_task(http.request("POST", CHAT, body=asked()))
        await queue.submitting.wait()
        asking.cancel()
        await asyncio.wait({asking})
        await until(lambda: len(stack.gateway.commitments._running) == 2)  # the submission, and what will call it off
        queue.go_on.set()
        await stack.gateway.commitments.settled()
        assert [kept.task.state for kept in queue._kept.values()] == [State.CANCELLED]


async def test_a_worker_that_is_lost_in_the_middle_ends_the_stream_with_an_error(stack: Stack) -> None:
    http = await stack.http()
    async with http.stream("POST", CHAT, body=asked(stream=True)) as answer:
        [claim] = await stack.queue.claim(GENERAL, "w1", wait_s=20, lease_s=30)
        await stack.queue.publish(claim, [b'{"choices":[{"index":0,"delta":{"content":"a"}}]}'], first=0)
        assert await anext(answer.events) == b'{"choices":[{"index":0,"delta":{"content":"a"}}]}'
        await stack.queue.release(claim)
        [again] = await stack.queue.claim(GENERAL, "w2", wait_s=20, lease_s=30)
        await stack.queue.publish(again, [b'{"choices":[]}'], first=0)
        [error] = await events_of(answer)
    assert error["error"]["message"].startswith("the worker was lost in the middle of the answer")
    assert (await stack.queue.get(again.task.id)).cancel_requested
