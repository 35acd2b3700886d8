"""One claim: what it comes to, whatever happens meanwhile, and the one record that it leaves."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from worker_parts import Bench, state_of

from stoker.base.errors import QueueUnavailable
from stoker.engine.client import EngineClient
from stoker.queue import Claim, LeaseState, MemoryQueue, QueueSettings, State
from stoker.telemetry.spans import Tracing
from stoker.testing.engine import EchoEngine
from stoker.testing.spans import Sink


async def test_a_task_is_done_with_the_engines_answer_and_one_record(bench: Bench) -> None:
    bench.engine.cached_tokens = 1
    task_id = await bench.submit()
    await bench.runner().run(await bench.claim(), give_back=bench.give_back)

    task = await bench.queue.get(task_id)
    assert task.state is State.DONE
    assert task.result is not None
    assert task.result["object"] == "chat.completion"
    assert task.result["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "one two three four"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert task.result["usage"]["completion_tokens"] == 4
    [record] = await bench.records()
    assert (record.id, record.kind, record.status, record.route) == (task_id, "task", "done", "queue")
    assert (record.tenant, record.key_id, record.session, record.run) == ("acme", "key_1", "s", "r")
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (4, 1, 4)
    assert (record.nano_usd, record.replica, record.attempts) == (4 * 1000 + 4 * 2000, "w1", 1)
    assert record.started_at <= (record.first_token_at or 0) <= record.ended_at


async def test_what_a_streamed_task_says_is_published_as_it_comes(bench: Bench) -> None:
    task_id = await bench.submit(stream=True)
    hold = bench.engine.hold_at(2)
    running = asyncio.create_task(bench.runner().run(await bench.claim(), give_back=bench.give_back))
    await hold.reached()
    chunks = bench.queue.chunks(task_id)
    async with asyncio.timeout(20):  # the second came right after the first, and nothing after it
        assert b'"one"' in (await anext(chunks)).data
        assert b'" two"' in (await anext(chunks)).data
    hold.open.set()
    await running
    assert len([chunk async for chunk in chunks]) == 4  # two words, the end, the usage


async def test_the_engine_is_asked_for_its_count_in_every_chunk_only_if_it_can(bench: Bench) -> None:
    for can in (True, False):
        await bench.submit()
        await bench.runner(continuous_usage=can).run(await bench.claim(), give_back=bench.give_back)
    options = [request.body["stream_options"] for request in bench.engine.requests]
    assert options == [{"include_usage": True, "continuous_usage_stats": True}, {"include_usage": True}]


async def test_an_attempt_and_its_call_of_the_engine_are_spans_below_who_sent_the_task(bench: Bench) -> None:
    sink = Sink()
    trace, sender = "a" * 32, "b" * 16
    for status in (200, 400):
        if status == 400:
            bench.engine.refuse(400, {"error": {"message": "secret words"}})
        await bench.submit()
        runner = bench.runner()
        runner.tracing = Tracing(sink, lambda *_: True)
        claim = await bench.claim()
        claim = replace(claim, task=replace(claim.task, trace=f"00-{trace}-{sender}-01"))
        await runner.run(claim, give_back=bench.give_back)
    told = sink.told
    call, attempt, refused, failed = told
    assert [(each.shape.kind, each.parent) for each in told] == [
        ("client", attempt.id),
        ("consumer", bytes.fromhex(sender)),
        ("client", failed.id),
        ("consumer", bytes.fromhex(sender)),
    ]
    assert {each.trace_id for each in told} == {bytes.fromhex(trace)}
    assert (call.attributes["gen_ai.usage.input_tokens"], call.attributes["gen_ai.usage.output_tokens"]) == (4, 4)
    assert call.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert call.attributes["gen_ai.response.time_to_first_chunk"] >= 0
    assert call.attributes["gen_ai.response.model"] == "general"
    assert refused.attributes["gen_ai.response.finish_reasons"] is None
    assert "gen_ai.usage.input_tokens" not in attempt.attributes
    assert [(each.is_wrong, each.attributes.get("error.type")) for each in told] == [
        (False, None),
        (False, None),
        (True, "Wrong"),
        (True, "Wrong"),
    ]
    assert "secret words" not in str(told)
    assert refused.ended_at is not None


# --- what the engine says no to ---------------------------------------------------------------------------------------


async def test_a_task_that_the_engine_refuses_is_dead_at_once_with_the_engines_words(bench: Bench) -> None:
    said = {"message": "too long", "type": "invalid_request_error", "code": "context_length", "param": "messages"}
    bench.engine.refuse(400, {"error": said})
    task_id = await bench.submit()
    await bench.runner().run(await bench.claim(), give_back=bench.give_back)

    task = await bench.queue.get(task_id)
    assert (task.state, task.error) == (State.DEAD, {**said, "status": 400})
    assert [attempt.reason for attempt in task.attempts] == ["too long"]
    assert [record.status for record in await bench.records()] == ["failed"]


@pytest.mark.parametrize("status", [401, 402, 403, 408, 429, 500, 503])
async def test_what_may_work_later_is_tried_again(bench: Bench, status: int) -> None:
    bench.engine.refuse(status, {"error": {"message": "not now"}})
    task_id = await bench.submit()
    await bench.runner().run(await bench.claim(), give_back=bench.give_back)
    task = await bench.queue.get(task_id)
    assert task.state in (State.RETRYING, State.QUEUED)
    assert [attempt.reason for attempt in task.attempts] == [f"the engine answered with status {status}"]
    assert await bench.records() == []


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        (lambda engine: engine.break_off_after(2, times=2), "the engine closed the"),
        (lambda engine: [engine.fail_after(2, {"message": "no memory"}) for _ in range(2)], "the engine failed in the"),
        (lambda engine: engine.refuse(200, {"object": "x"}, times=2), "the engine answered at once where a stream"),
    ],
)
async def test_an_engine_that_breaks_twice_makes_it_dead_with_the_tokens_of_both_attempts(
    bench: Bench, fail: Any, reason: str
) -> None:
    fail(bench.engine)
    task_id = await bench.submit(max_attempts=2)
    runner = bench.runner(retry_base_s=0.0, retry_cap_s=0.0)
    for _ in range(2):
        await runner.run(await bench.claim(), give_back=bench.give_back)

    task = await bench.queue.get(task_id)
    assert task.state is State.DEAD
    assert [attempt.reason[: len(reason)] for attempt in task.attempts] == [reason, reason]
    [record] = await bench.records()
    assert (record.status, record.attempts) == ("failed", 2)
    assert record.completion_tokens == (0 if "at once" in reason else 2 + 2)


async def test_an_engine_that_takes_no_connection_costs_no_attempt(bench: Bench) -> None:
    """The one that broke off did try; one that was never reached did not."""
    bench.engine.break_off_after(2)
    task_id = await bench.submit(max_attempts=2)
    told: list[State] = []
    runner = bench.runner(retry_base_s=0.0, retry_cap_s=0.0)
    await runner.run(await bench.claim(), give_back=bench.give_back)
    runner.engine = EngineClient("http://127.0.0.1:1", model="general")
    for _ in range(3):
        await runner.run(
            await bench.claim(),
            give_back=bench.give_back,
            on_unreachable=lambda: told.append(state_of(bench, task_id)),
        )
    await runner.engine.close()

    task = await bench.queue.get(task_id)
    assert (task.state, len(task.attempts)) == (State.QUEUED, 1)
    assert told == [State.RUNNING] * 3  # the worker hears of it before anybody can claim the task again
    assert await bench.records() == []


async def test_an_engine_that_never_ends_is_given_up(bench: Bench) -> None:
    hold = bench.engine.hold_at(1)
    task_id = await bench.submit(max_attempts=1)
    await bench.runner(timeout_s=0.1).run(await bench.claim(), give_back=bench.give_back)
    task = await bench.queue.get(task_id)
    assert task.state is State.DEAD
    assert task.error is not None
    assert (task.error["message"], task.error["status"]) == ("the engine did not finish within 0.1 s", 504)
    assert await (await hold.reached()).end() == "cancelled"


async def test_a_result_too_large_to_keep_is_dead_at_once(engine: EchoEngine) -> None:
    bench = Bench(engine, MemoryQueue(settings=QueueSettings(max_result_bytes=50)))
    task_id = await bench.submit()
    await bench.runner().run(await bench.claim(), give_back=bench.give_back)
    task = await bench.queue.get(task_id)
    assert task.error is not None
    assert (task.state, task.error["code"]) == (State.DEAD, "result_too_large")
    [record] = await bench.records()
    assert (record.status, record.completion_tokens) == ("failed", 4)
    await bench.close()


# --- whose task it is -------------------------------------------------------------------------------------------------


async def test_the_lease_is_kept_while_the_engine_works(engine: EchoEngine) -> None:
    extended = asyncio.Event()

    class Watched(MemoryQueue):
        async def extend(self, claim: Claim, *, lease_s: float) -> LeaseState:
            extended.set()
            return await super().extend(claim, lease_s=lease_s)

    bench = Bench(engine, Watched())
    hold = engine.hold_at(1)
    task_id = await bench.submit()
    running = asyncio.create_task(bench.runner(lease_s=0.06).run(await bench.claim(), give_back=bench.give_back))
    await hold.reached()
    async with asyncio.timeout(20):
        for _ in range(3):
            extended.clear()
            await extended.wait()
    hold.open.set()
    await running
    assert state_of(bench, task_id) is State.DONE
    await bench.close()


async def test_a_lost_lease_stops_the_engine_and_stores_nothing(bench: Bench) -> None:
    hold = bench.engine.hold_at(2)
    task_id = await bench.submit()
    first = await bench.claim()
    running = asyncio.create_task(bench.runner(lease_s=0.06).run(first, give_back=bench.give_back))
    request = await hold.reached()
    await bench.queue.release(first)  # what a reclaim does to a worker that was taken for dead
    second = await bench.claim("w2")

    assert await request.end() == "cancelled"
    await running
    task = await bench.queue.get(task_id)
    assert (task.state, task.worker, task.result) == (State.RUNNING, "w2", None)
    assert await bench.records() == []
    assert await bench.queue.complete(second, {"by": "w2"})
    assert len(await bench.records()) == 1


async def test_a_cancellation_reaches_the_engine_at_once(bench: Bench) -> None:
    """Long before the lease has to be extended."""
    hold = bench.engine.hold_at(3)
    task_id = await bench.submit()
    running = asyncio.create_task(bench.runner(lease_s=3600.0).run(await bench.claim(), give_back=bench.give_back))
    request = await hold.reached()
    await bench.queue.cancel(task_id)

    assert await request.end() == "cancelled"
    await running
    assert state_of(bench, task_id) is State.CANCELLED
    [record] = await bench.records()
    assert (record.status, record.prompt_tokens, record.completion_tokens) == ("cancelled", 4, 3)


async def test_a_worker_that_leaves_hands_its_task_back(bench: Bench) -> None:
    hold = bench.engine.hold_at(1)
    task_id = await bench.submit()
    running = asyncio.create_task(bench.runner().run(await bench.claim(), give_back=bench.give_back))
    request = await hold.reached()
    bench.give_back.set()

    assert await request.end() == "cancelled"
    await running
    task = await bench.queue.get(task_id)
    assert (task.state, task.attempts) == (State.QUEUED, ())  # handed back is not failed
    assert await bench.records() == []


async def test_a_lease_that_cannot_be_extended_for_a_moment_does_not_stop_the_work(engine: EchoEngine) -> None:
    tried = asyncio.Event()

    class Away(MemoryQueue):
        failures = 2

        async def extend(self, claim: Claim, *, lease_s: float) -> LeaseState:
            if self.failures:
                self.failures -= 1
                raise QueueUnavailable("cannot extend: Redis said nothing")
            tried.set()
            return await super().extend(claim, lease_s=lease_s)

        async def cancelled(self, claim: Claim) -> None:
            if self.failures:
                raise QueueUnavailable("cannot listen: Redis said nothing")
            await super().cancelled(claim)

    bench = Bench(engine, Away())
    hold = engine.hold_at(1)
    task_id = await bench.submit()
    running = asyncio.create_task(bench.runner(lease_s=0.06).run(await bench.claim(), give_back=bench.give_back))
    await hold.reached()
    async with asyncio.timeout(20):
        await tried.wait()
    hold.open.set()
    await running
    assert state_of(bench, task_id) is State.DONE
    await bench.close()
