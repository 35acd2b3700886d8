"""Stoker's queue: `submit` and `wait`; a worker process that claims and completes, with result and usage."""

import asyncio
import json
from typing import Any

from rules import drive, say_ready, told

from stoker.base.clock import SystemClock
from stoker.base.ids import KeyId, ModelName, TenantName
from stoker.meter.usage import UsageRecord
from stoker.queue import Claim, NewTask, RedisQueue, Task
from stoker.web import server

MODEL = ModelName("general")
AT_ONCE = 64
BATCHES = 4


async def work(queue: RedisQueue) -> None:
    """Up to BATCHES claims of AT_ONCE tasks at the same time, as an engine with so much room has."""
    clock, room, running = SystemClock(), asyncio.Semaphore(BATCHES), set()
    say_ready()
    while True:
        async with room:
            claims = await queue.claim(MODEL, "w", count=AT_ONCE, wait_s=1.0, lease_s=30.0)
        if claims:
            await room.acquire()
            batch = asyncio.create_task(complete(queue, claims, clock))
            running.add(batch)
            batch.add_done_callback(running.discard)
            batch.add_done_callback(lambda _: room.release())


async def complete(queue: RedisQueue, claims: list[Claim], clock: SystemClock) -> None:
    await asyncio.gather(*(complete_one(queue, claim, clock.now()) for claim in claims))


async def complete_one(queue: RedisQueue, claim: Claim, now: float) -> None:
    task = claim.task
    usage = UsageRecord(
        id=task.usage_id,
        kind="task",
        status="done",
        tenant=task.tenant,
        key_id=task.key_id,
        model=task.model,
        prompt_tokens=1,
        completion_tokens=1,
        nano_usd=1,
        started_at=now,
        ended_at=now,
    )
    if not await queue.complete(claim, {"length": len(task.body["messages"][0]["content"])}, usage=usage):
        raise SystemExit(f"{task.id} was not the worker's any more")


async def submit(queue: RedisQueue, tasks: int, size: int, at_once: int) -> None:
    """A worker with an engine answers with a chat completion, the one here with the length."""
    body: dict[str, Any] = {"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": ""}]}
    text = "x" * (size - len(json.dumps(body, separators=(",", ":"))))
    body["messages"][0]["content"] = text
    new = NewTask(
        model=MODEL, tenant=TenantName("acme"), key_id=KeyId("key_01"), endpoint="/v1/chat/completions", body=body
    )

    async def read(task: Task) -> bool:
        result = (await queue.wait(task.id, timeout_s=600)).result or {}
        if "choices" in result:
            return bool(result["choices"][0]["message"]["content"] == "ok")
        return bool(result == {"length": len(text)})

    await drive(lambda: queue.submit(new), read, tasks=tasks, at_once=at_once, right=True)


async def main() -> None:
    what, url, tasks, size, at_once = told()
    queue = RedisQueue(url)
    await (work(queue) if what == "work" else submit(queue, tasks, size, at_once))
    await queue.aclose()


server.run(main())
