"""A whole platform of agents in one process: our queue and SQL, LangGraph and its saver, and a model that follows a
script."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stoker.agents import savers
from stoker.agents.context import Parts
from stoker.agents.model import Answered
from stoker.agents.service import Service
from stoker.agents.steps import Stepper
from stoker.agents.store import Store
from stoker.agents.tasks import MODEL
from stoker.agents.tools.interface import BoundTool, Place, Result
from stoker.base.errors import StokerError
from stoker.meter.grants import CallerClaim
from stoker.queue import Claim, MemoryQueue
from stoker.spec import Platform, loads
from stoker.testing import ManualClock

Json = dict[str, Any]
Script = Callable[[Sequence[Json]], Json]
SECRET = "s" * 40
CALLER = CallerClaim(key_id="key_1", tenant="acme", team=None, role="user", expires_at=1e12, request_id="req_1")


def says(text: str) -> Json:
    return {"role": "assistant", "content": text}


def calls(*tools: tuple[str, Json]) -> Json:
    made = [
        {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for i, (name, arguments) in enumerate(tools)
    ]
    return {"role": "assistant", "content": None, "tool_calls": made}


@dataclass
class ScriptedGateway:
    """What the gateway is to a worker: `script` says what the model answers to messages. The same key gets the same
    answer, which was paid once. `before` is awaited before each call, for what is to go wrong there."""

    script: Script
    url: str = "http://gateway.test"
    asked: list[tuple[str, Json]] = field(default_factory=list)
    paid: dict[str, Answered] = field(default_factory=dict)
    before: Callable[[Json], Awaitable[None]] | None = None

    async def chat(
        self,
        body: Json,
        *,
        bearer: str,
        key: str,
        route: str | None = None,
        span: str | None = None,
        trace: str | None = None,
    ) -> Answered:
        self.asked.append((key, body))
        if self.before is not None:
            await self.before(body)
        if key not in self.paid:
            self.paid[key] = Answered(self.script(body["messages"]), "stop", "general", 10, 0, 5, 0.001)
        return self.paid[key]

    async def aclose(self) -> None: ...


@dataclass
class Tools:
    """A toolbox of functions by name."""

    bound: Mapping[str, BoundTool]

    async def tools_of(self, listed: Sequence[str]) -> Sequence[BoundTool]:
        return [self.bound[name] for name in listed]

    def place(self, run: str) -> Place:
        return Place(run=run, folder=Path("/nowhere"), secrets=str)

    def redacted(self, text: str) -> str:
        return text.replace("planted-secret", "[secret PLANTED]")

    async def aclose(self) -> None: ...


def tool(name: str, call: Callable[[Json], Any], *, agent: str | None = None, **terms: Any) -> BoundTool:
    async def called(arguments: Json, place: Place) -> Result:
        said = call(arguments)
        if hasattr(said, "__await__"):
            said = await said
        return said if isinstance(said, Result) else Result(text=str(said))

    effect = terms.pop("effect", "read")
    usual = {
        "listed_as": name,
        "description": name,
        "parameters": {"type": "object"},
        "repeatable": effect == "read",
        "approval": "never" if effect == "read" else "afterUntrusted",
        "trusted": True,
        "timeout_s": 5.0,
        "check": lambda arguments: arguments,
    }
    return BoundTool(name=name, effect=effect, call=called, agent=agent, **{**usual, **terms})


@dataclass
class Stage:
    platform: Platform
    queue: MemoryQueue
    store: Store
    service: Service
    gateway: ScriptedGateway
    clock: ManualClock
    folder: Path
    heads: savers.Heads
    tools: Tools
    steppers: list[Stepper] = field(default_factory=list)

    def worker(self, name: str = "w1") -> Stepper:
        parts = Parts(
            self.platform,
            self.store,
            self.queue,
            self.gateway,
            self.tools,
            self.clock,
            SECRET,
            self.folder,
            name,  # type: ignore[arg-type]
        )
        made = Stepper(parts, self.heads, self.folder)
        self.steppers.append(made)
        return made

    async def claim(self, name: str = "w1") -> Claim | None:
        found = await self.queue.claim(MODEL, name, count=1, wait_s=0.0, lease_s=10.0)
        return found[0] if found else None

    async def step(self, worker: Stepper, name: str = "w1") -> bool:
        """One step, to its end. False: there was none to take."""
        claim = await self.claim(name)
        if claim is None:
            return False
        try:
            await worker.perform(claim)
        except StokerError as error:
            await self.queue.fail(claim, error.message, retry_in_s=0.0)
            await self.queue.reclaim(MODEL)
            return True
        await self.queue.complete(claim, {})
        return True

    async def settle(self, worker: Stepper | None = None) -> None:
        """All steps there are, one after the other."""
        worker = worker or self.worker()
        while await self.step(worker):
            pass

    async def start(self, asked: Any, *, agent: str = "assistant", **body: Any) -> str:
        return (await self.service.start(CALLER, agent, {"input": asked, **body})).id

    async def shown(self, run_id: str) -> Json:
        return await self.service.shown(CALLER, run_id)

    async def types(self, run_id: str) -> list[str]:
        return [event.type for event in await self.service.events(run_id, 0, 1000)]


@asynccontextmanager
async def staged(
    folder: Path, script: Script, spec: str = "", tools: Sequence[BoundTool] = (), database: str | None = None
) -> AsyncIterator[Stage]:
    """`database`: None is a file of SQLite in `folder`."""
    url = database or f"sqlite:///{folder / 'agents.sqlite'}"
    clock, platform = ManualClock(), loads(spec)
    queue, store = MemoryQueue(clock=clock), Store(url)
    service = Service(platform, store, queue, clock)
    async with savers.opened(url, folder) as heads:
        made = Stage(
            platform, queue, store, service, ScriptedGateway(script), clock, folder, heads,
            Tools({each.listed_as: each for each in tools}),
        )  # fmt: skip
        try:
            yield made
        finally:
            for each in made.steppers:
                await each.aclose()
            store.close()
