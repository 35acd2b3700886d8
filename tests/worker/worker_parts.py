"""A worker beside an echo engine, on the queue in memory."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

from stoker.base.clock import SystemClock
from stoker.base.ids import KeyId, ModelName, TaskId, TenantName
from stoker.engine.client import EngineClient
from stoker.meter.usage import UsageRecord
from stoker.queue import Claim, MemoryQueue, MemoryRegistry, NewTask, Queue, State, Task
from stoker.spec import Prices
from stoker.testing.engine import EchoEngine
from stoker.worker.loop import Worker
from stoker.worker.runner import Runner, Settings

GENERAL = ModelName("general")
PRICES = Prices(
    input_usd_per_million_tokens=Decimal(1),
    cached_input_usd_per_million_tokens=Decimal(1),
    output_usd_per_million_tokens=Decimal(2),
)


class Bench:
    def __init__(self, engine: EchoEngine, queue: MemoryQueue | None = None) -> None:
        self.engine = engine
        self.queue = queue or MemoryQueue()
        self.registry = MemoryRegistry()
        self.clock = SystemClock()
        self.client = EngineClient(engine.url, model="general")
        self.give_back = asyncio.Event()
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()
        self._working: asyncio.Task[None] | None = None

    def runner(self, **changes: Any) -> Runner:
        given: dict[str, Any] = {
            "model": "general",
            "replica": "w1",
            "prices": PRICES,
            "lease_s": 15.0,
            "retry_base_s": 0.01,
            "retry_cap_s": 0.02,
            "timeout_s": 20.0,
            "continuous_usage": True,
        }
        settings = Settings(**{**given, **changes})
        return Runner(settings, self.client, self.queue, self.clock, Random(1), started_at=1.0)

    def worker(self, name: str = "w1", **changes: Any) -> Worker:
        given: dict[str, Any] = {"capacity": 2, "lease_s": 15.0, "grace_s": 0.2, "registry": self.registry, **changes}
        return Worker(
            name=name,
            model=GENERAL,
            url=self.engine.url,
            engine=self.client,
            queue=self.queue,
            runner=self.runner(replica=name),
            clock=self.clock,
            on_ready=self.ready.set,
            **given,
        )

    def start(self, **changes: Any) -> "asyncio.Task[None]":
        """A worker that runs until `stop` is set."""
        self._worker = self.worker(**changes)
        self._working = asyncio.create_task(self._worker.run(self.stop))
        return self._working

    @property
    def is_stopping(self) -> bool:
        """Whether the worker has heard of the stop."""
        return self._worker._stopping.is_set()

    async def submit(self, text: str = "one two three four", *, stream: bool = False, max_attempts: int = 2) -> TaskId:
        new = NewTask(
            model=GENERAL,
            tenant=TenantName("acme"),
            key_id=KeyId("key_1"),
            endpoint="/v1/chat/completions",
            body={"model": "general", "messages": [{"role": "user", "content": text}]},
            session="s",
            run="r",
            stream=stream,
            max_attempts=max_attempts,
        )
        return (await self.queue.submit(new)).id

    async def claim(self, worker: str = "w1") -> Claim:
        [claim] = await self.queue.claim(GENERAL, worker, wait_s=20, lease_s=15)
        return claim

    async def end_of(self, task_id: TaskId) -> Task:
        task = await self.queue.wait(task_id, timeout_s=20)
        assert task.state.has_ended
        return task

    async def records(self) -> list[UsageRecord]:
        return await records_of(self.queue)

    async def close(self) -> None:
        self.stop.set()
        if self._working is not None and not self._working.done():
            await self._working
        await self.client.close()


async def records_of(queue: Queue) -> list[UsageRecord]:
    return [record for _, record in await queue.read_usage("test")]


async def until(holds: Callable[[], object], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.002)


def state_of(bench: Bench, task_id: TaskId) -> State:
    return bench.queue._kept[task_id].task.state
