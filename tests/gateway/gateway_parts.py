"""A whole gateway on a free port of loopback, with engines and workers beside it, in the test's own event loop."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from openai import AsyncOpenAI

from stoker.base.clock import Clock, SystemClock
from stoker.base.errors import QueueUnavailable
from stoker.base.ids import ModelName, TaskId
from stoker.engine.client import EngineClient
from stoker.gateway.ask import Ask
from stoker.gateway.bounds import quote_of
from stoker.gateway.endpoints import CHAT
from stoker.gateway.limits import Terms
from stoker.gateway.running import Gateway
from stoker.meter.accounts import Account, TenantTerms
from stoker.meter.charge import Caller
from stoker.meter.keys import KeyStore
from stoker.meter.store import Store
from stoker.meter.usage import UsageRecord
from stoker.queue import (
    BudgetStore,
    MemoryBudgets,
    MemoryQueue,
    MemoryRegistry,
    NewTask,
    Queue,
    Registry,
    Replica,
    Task,
)
from stoker.queue.budgets import Hold
from stoker.spec import Platform, loads
from stoker.testing.engine import EchoEngine
from stoker.testing.spans import Told
from stoker.web.client import HttpClient
from stoker.web.server import bind, url_of
from stoker.worker.loop import Worker
from stoker.worker.runner import Runner, Settings

KEY, OTHER_KEY, ADMIN_KEY = "sk-stoker-user", "sk-stoker-stranger", "sk-stoker-admin"
HELLO = [{"role": "user", "content": "one two three four"}]

SPEC = """
gateway: {maxBodyBytes: 4096, timeouts: {connectSeconds: CONNECT, firstTokenSeconds: TOTAL, totalSeconds: TOTAL}}
queue: {maxAttempts: 2, retryBaseSeconds: 0.01, retryCapSeconds: 0.02}
llm:
  models:
    general:
      aliases: [gpt-4o]
      limits: {maxOutputTokens: 100, concurrency: 4}
      prices: {inputUsdPerMillionTokens: 1, cachedInputUsdPerMillionTokens: 0.5, outputUsdPerMillionTokens: 2}
    code: {}
    vision: {}
tenants: {acme: {}, other: {}}
"""


def a_platform(*, total_s: float = 20.0) -> Platform:
    return loads(SPEC.replace("TOTAL", str(total_s)).replace("CONNECT", str(min(total_s, 2.0))))


def an_ask(stack: "Stack", body: dict[str, Any]) -> Ask:
    """What the gateway makes of a body, for tests that stand where its routes do."""
    caller = Caller("acme", "key_1", None, None)
    model = stack.platform.llm.models["general"]
    account = Account(id="key_1", name="", role="user", tenant_terms=TenantTerms("acme"))
    return Ask(
        caller=caller,
        endpoint=CHAT,
        body=body,
        model="general",
        route="model",
        prices=model.prices,
        max_attempts=2,
        timeout_s=20.0,
        continuous_usage=True,
        terms=Terms(account, None, None),
        quote=quote_of(body, model, output_tokens=100, is_elastic=False),
    )


class Stack:
    """One platform in one process. Parts that a test adds are taken down with it, the last one first."""

    def __init__(
        self,
        platform: Platform,
        store: Store,
        queue: Queue,
        registry: Registry,
        clock: Clock,
        *,
        budgets: BudgetStore,
        journals: Path,
        **agents: str | None,
    ) -> None:
        self.platform = platform
        self.store = store
        self.queue = queue
        self.registry = registry
        self.clock = clock
        self.budgets = budgets
        self.gateway = Gateway.of(
            platform,
            queue=queue,
            registry=registry,
            budgets=budgets,
            journals=journals,
            store=store,
            clock=clock,
            **agents,
        )
        self.stop = asyncio.Event()
        self.url = ""
        self._parts = AsyncExitStack()
        self._names = itertools.count()
        self._serving: asyncio.Task[None] | None = None

    async def start(self, grace_s: float = 0.2) -> None:
        keys = KeyStore(self.store)
        for secret, tenant, role in ((KEY, "acme", "user"), (OTHER_KEY, "other", "user"), (ADMIN_KEY, "acme", "admin")):
            keys.ensure(secret, tenant=tenant, name=f"the {role}'s", role=role)  # type: ignore[arg-type]
        listening = bind("127.0.0.1", 0)
        self.url = url_of(listening)
        ready = asyncio.Event()
        self._serving = asyncio.create_task(self.gateway.run(listening, self.stop, on_ready=ready.set, grace_s=grace_s))
        await ready.wait()

    async def close(self) -> None:
        await self._parts.aclose()
        await self.shut()

    async def shut(self) -> None:
        """Stop the gateway; what it raises at its end comes out here."""
        self.stop.set()
        if self._serving is not None:
            serving, self._serving = self._serving, None
            await serving

    # --- clients ----------------------------------------------------------------------------------------------------

    async def sdk(self, path: str = "/v1", key: str = KEY) -> AsyncOpenAI:
        made = AsyncOpenAI(base_url=self.url + path, api_key=key, max_retries=0)
        self._parts.push_async_callback(made.close)
        return made

    async def http(self, key: str | None = KEY) -> HttpClient:
        return await self._parts.enter_async_context(HttpClient(self.url, key=key))

    # --- engines and workers ----------------------------------------------------------------------------------------

    async def engine(self, model: str = "general", *, capacity: int = 4) -> EchoEngine:
        """An engine that the gateway knows of, as if its worker had announced it."""
        engine = await self._parts.enter_async_context(EchoEngine(model))
        await self.announce(engine, capacity=capacity)
        return engine

    async def announce(self, engine: EchoEngine, *, capacity: int = 4) -> str:
        name = f"{engine.model}-{next(self._names)}"
        replica = Replica(id=name, model=ModelName(engine.model), url=engine.url, capacity=capacity, started_at=1.0)
        await self.registry.announce(replica, ttl_s=3600)
        await self.gateway.fleet.refresh()
        return name

    async def worker(self, engine: EchoEngine, *, name: str = "worker") -> None:
        """A worker beside an engine; it announces the engine, too, but the gateway looks only every half second."""
        await self._parts.enter_async_context(running_worker(self, engine, name))

    # --- what was written down --------------------------------------------------------------------------------------

    async def records(self) -> list[UsageRecord]:
        with contextlib.suppress(QueueUnavailable):  # Redis is away: what is in the ledger is there all the same
            await self.gateway.services.settle_all()
        return self.gateway.services.ledger.records()

    async def record(self) -> UsageRecord:
        """The only one there is, as soon as there is one."""
        async with asyncio.timeout(20):
            while not (found := await self.records()):  # noqa: ASYNC110 - it ends on the other side of a connection
                await asyncio.sleep(0.005)
        assert len(found) == 1
        return found[0]


def said_of(span: Told) -> dict[str, Any]:
    """Its attributes, with those that it has in common with others."""
    return {**span.shape.attributes, **span.attributes}


class SlowQueue(MemoryQueue):
    """A submission waits for `go_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.submitting, self.go_on = asyncio.Event(), asyncio.Event()

    async def submit(self, new: NewTask, *, task_id: TaskId | None = None, hold: Hold | None = None) -> Task:
        self.submitting.set()
        await self.go_on.wait()
        return await super().submit(new, task_id=task_id, hold=hold)


def a_worker(stack: Stack, engine: EchoEngine, client: EngineClient, name: str, **settings: Any) -> Worker:
    model = stack.platform.llm.models[engine.model]
    queue = stack.platform.queue
    given = Settings(
        model=engine.model,
        replica=name,
        prices=model.prices,
        lease_s=queue.lease_seconds,
        retry_base_s=queue.retry_base_seconds,
        retry_cap_s=queue.retry_cap_seconds,
        timeout_s=model.limits.timeout_seconds,
        continuous_usage=True,
    )
    runner = Runner(given, client, stack.queue, stack.clock, Random(1), started_at=stack.clock.now())
    options: dict[str, Any] = {"capacity": 4, "lease_s": queue.lease_seconds, "grace_s": 0.2, **settings}
    return Worker(
        name=name,
        model=ModelName(engine.model),
        url=engine.url,
        engine=client,
        queue=stack.queue,
        registry=stack.registry,
        runner=runner,
        clock=stack.clock,
        **options,
    )


@asynccontextmanager
async def running_worker(stack: Stack, engine: EchoEngine, name: str) -> AsyncIterator[None]:
    client = EngineClient(engine.url, model=engine.model)
    stop = asyncio.Event()
    running = asyncio.create_task(a_worker(stack, engine, client, name).run(stop))
    try:
        yield
    finally:
        stop.set()
        await running
        await client.close()


@asynccontextmanager
async def a_stack(
    directory: Path,
    *,
    platform: Platform | None = None,
    queue: Queue | None = None,
    registry: Registry | None = None,
    clock: Clock | None = None,
    budgets: BudgetStore | None = None,
    grace_s: float = 0.2,
    agents_key: str | None = None,
    agents_url: str | None = None,
) -> AsyncIterator[Stack]:
    """A queue that is not in memory needs `budgets` on the same Redis."""
    store = Store(f"sqlite:///{directory / 'ledger.sqlite'}")
    clock, queue = clock or SystemClock(), queue or MemoryQueue()
    if budgets is None:
        assert isinstance(queue, MemoryQueue)
        budgets = MemoryBudgets(queue)
    stack = Stack(
        platform or a_platform(),
        store,
        queue,
        registry or MemoryRegistry(),
        clock,
        budgets=budgets,
        journals=directory / "journals",
        agents_key=agents_key,
        agents_url=agents_url,
    )
    try:
        await stack.start(grace_s)
        yield stack
    finally:
        await stack.close()
        store.close()


async def events_of(answer: Any) -> list[Any]:
    """The events of a stream as values, `[DONE]` as text."""
    assert answer.error is None, answer.error
    return [json.loads(event) if event != b"[DONE]" else "[DONE]" async for event in answer.events]


async def until(holds: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Returns when `holds` does; for what happens on the other side of a connection and tells nobody."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.002)
