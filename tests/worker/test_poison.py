"""Poison: tasks that no engine can answer, those that end whoever takes them, and what becomes of their neighbours."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from worker_parts import GENERAL, Bench, records_of

from stoker.base.ids import KeyId, TaskId, TenantName
from stoker.queue import NewTask, RedisQueue, State, Task
from stoker.testing.engine import EchoEngine
from stoker.testing.redis import RedisServer

POISON = "poison"


def a_task(text: str, *, endpoint: str = "/v1/chat/completions", max_attempts: int = 3) -> NewTask:
    body: dict[str, Any] = {"model": "general", "messages": [{"role": "user", "content": text}]}
    return NewTask(
        model=GENERAL,
        tenant=TenantName("acme"),
        key_id=KeyId("key_1"),
        endpoint=endpoint,
        body=body if "chat" in endpoint else {"model": "general", "input": text},
        max_attempts=max_attempts,
    )


def is_poison(request: Any) -> bool:
    return POISON in json.dumps(request.body)


# --- what no engine can answer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 405, 409, 413, 422])
async def test_what_the_engine_says_is_the_tasks_own_fault_is_dead_at_once(bench: Bench, status: int) -> None:
    bench.engine.refuse(status, {"error": {"message": "no", "type": "invalid_request_error", "code": "never"}})
    task_id = await bench.submit(max_attempts=3)
    await bench.runner().run(await bench.claim(), give_back=bench.give_back)
    task = await bench.queue.get(task_id)
    assert task.error is not None
    assert (task.state, task.error["code"], task.error["status"]) == (State.DEAD, "never", status)
    assert len(bench.engine.requests) == 1


async def test_an_endpoint_that_the_engine_has_not_is_dead_at_once(bench: Bench) -> None:
    bench.engine.lacks = frozenset({"embeddings"})
    await bench.engine.stop()
    await bench.engine.start()
    task = await bench.queue.submit(a_task("one", endpoint="/v1/embeddings"))
    await bench.runner().run(await bench.claim(), give_back=bench.give_back)
    found = await bench.queue.get(task.id)
    assert found.error is not None
    assert (found.state, found.error["status"], len(found.attempts)) == (State.DEAD, 404, 1)


@pytest.mark.parametrize(
    ("answer", "why"),
    [("[]", "the engine's answer is no object"), ("<html>", "the answer (status 200) is not JSON")],
)
async def test_an_answer_that_is_nonsense_is_tried_again_and_then_dead(bench: Bench, answer: str, why: str) -> None:
    bench.engine.refuse(200, answer, times=3)
    task = await bench.queue.submit(a_task("one", endpoint="/v1/embeddings"))
    runner = bench.runner(retry_base_s=0.0, retry_cap_s=0.0)
    for _ in range(3):
        await runner.run(await bench.claim(), give_back=bench.give_back)
    found = await bench.queue.get(task.id)
    assert found.error is not None
    assert (found.state, found.error["code"]) == (State.DEAD, "upstream_error")
    assert [attempt.reason for attempt in found.attempts] == [why] * 3
    [record] = await bench.records()
    assert (record.id, record.status) == (task.id, "failed")


# --- what ends whoever takes it ---------------------------------------------------------------------------------------


async def test_an_engine_that_dies_of_one_task_does_not_take_its_neighbours_along(bench: Bench) -> None:
    """It dies as soon as it reads the poison, whatever else it answers; it is started again each time."""
    texts = ["one", POISON, "two"]
    holds = [bench.engine.hold_at(0) for _ in texts]  # all of them are there before it dies for the first time
    tasks = [await bench.submit(text, max_attempts=2) for text in texts]
    bench.start(capacity=3)
    for hold in holds:
        await hold.reached()
    holds = [bench.engine.hold_at(0) for _ in texts]
    await bench.engine.stop()
    await bench.engine.start()
    for number, hold in enumerate(holds, start=3):
        request = await hold.reached()
        assert bench.engine.running == [request] == bench.engine.requests[number:]
        if is_poison(request):
            await bench.engine.stop()
            await bench.engine.start()
        else:
            hold.open.set()
    ended = [await bench.end_of(task_id) for task_id in tasks]
    assert [task.state for task in ended] == [State.DONE, State.DEAD, State.DONE]
    assert [len(task.attempts) for task in ended] == [1, 2, 1]


@pytest.mark.flow
@pytest.mark.redis
async def test_a_task_that_kills_its_worker_is_dead_and_the_seven_beside_it_are_done(tmp_path: Path) -> None:
    """Real workers, killed by SIGKILL as soon as their engine reads the poison, and started anew."""
    spec = tmp_path / "platform.yaml"
    spec.write_text(
        "queue: {leaseSeconds: 1.5, maxAttempts: 3}\nllm: {models: {general: {limits: {concurrency: 8}}}}\n"
    )
    with RedisServer() as redis:
        queue = RedisQueue(redis.url)
        async with EchoEngine() as engine:
            engine.pace_s = 0.02  # for each of 12 words: the poison is read long before anything ends
            texts = [" ".join([f"word{number}"] * 12) for number in range(7)]
            innocents = [(await queue.submit(a_task(text))).id for text in texts[:4]]
            poison = (await queue.submit(a_task(POISON))).id
            innocents += [(await queue.submit(a_task(text))).id for text in texts[4:]]
            beside = await asyncio.wait_for(killing(engine, spec, redis.url, queue, poison), 60)
            ended = [await queue.wait(task_id, timeout_s=30) for task_id in innocents]
            dead = await queue.get(poison)
            records = await records_of(queue)
        await queue.aclose()

    assert [task.state for task in ended] == [State.DONE] * 7
    assert [len(task.attempts) <= 2 for task in ended] == [True] * 7
    assert dead.error is not None
    assert (dead.state, dead.error["code"]) == (State.DEAD, "lease_expired")
    assert [attempt.worker for attempt in dead.attempts] == ["w0", "w1", "w2"]
    assert beside == [7, 7, 0]  # it was with all the others, twice, and then alone
    assert sorted(record.id for record in records) == sorted([*innocents, poison])


async def killing(engine: EchoEngine, spec: Path, url: str, queue: RedisQueue, poison: TaskId) -> list[int]:
    """Kill each worker that takes the poison; the last one does all else. How many ran beside it each time."""
    beside: list[int] = []
    seen = 0
    while True:
        name = f"w{len(beside)}"
        worker = a_worker(spec, url, engine, name)
        try:
            reader = asyncio.create_task(poison_read(engine, seen))
            is_dead = asyncio.create_task(dead(queue, poison))
            await asyncio.wait({reader, is_dead}, return_when=asyncio.FIRST_COMPLETED)
            if is_dead.done():
                reader.cancel()
                await all_done(queue)
                return beside
            is_dead.cancel()
            seen = await reader
            beside.append(sum(not is_poison(request) for request in engine.running))
        finally:
            worker.kill()
            await asyncio.to_thread(worker.wait, 20)


def a_worker(spec: Path, url: str, engine: EchoEngine, name: str) -> "subprocess.Popen[bytes]":
    options = ("--spec", str(spec), "--model", "general", "--replica", name, "--engine-url", engine.url)
    return subprocess.Popen(
        [sys.executable, "-m", "stoker.worker", *options, "--redis", url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


async def poison_read(engine: EchoEngine, after: int) -> int:
    """Returns when the engine reads the poison, and, the first times, all others: how many requests it has had."""
    number = after
    while True:
        request = await engine.request(number)
        number += 1
        if is_poison(request):
            break
    if after < 16:
        await engine.request(after + 7)
    return len(engine.requests)


async def dead(queue: RedisQueue, task_id: TaskId) -> Task:
    while True:
        task = await queue.wait(task_id, timeout_s=60)
        if task.state.has_ended:
            return task


async def all_done(queue: RedisQueue) -> None:
    for task in await queue.list(model=GENERAL):
        await queue.wait(task.id, timeout_s=30)
