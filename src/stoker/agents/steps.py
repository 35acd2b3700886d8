"""One step of a run: from the checkpoint at which it starts to the next one, or to the end.

A run that this worker has just taken a step of stays open: LangGraph's generator stands before the next step, and goes
on there if that step comes to this worker, from the same checkpoint. Else it is closed, and whoever has the step opens
the run anew.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from langgraph.types import Command

from stoker.agents import context, graphs
from stoker.agents import store as rows
from stoker.agents.context import Looping, Parts, RunContext
from stoker.agents.model import is_for_good
from stoker.agents.runs import ACTIVE, Event, Run, Wait
from stoker.agents.savers import Heads
from stoker.agents.spans import parent_of_call, span_id_of
from stoker.agents.tasks import ERRORS, errors_of, go_on, ring_standing, submit_step
from stoker.agents.tools.interface import BoundTool
from stoker.base import logs
from stoker.base.errors import BudgetExhausted, StokerError
from stoker.queue import Claim

_log = logs.get(__name__)

Json = dict[str, Any]
OPEN_MOST = 2000  # runs that stand before their next step here
OPEN_FOR_S = 20.0
# LangGraph's own limit of steps; the run's is ours.
_ANY_NUMBER = 1_000_000


@dataclass(frozen=True, slots=True)
class Came:
    """What a step came to. `head`: its checkpoint. `is_last`: nothing follows; `values` is the graph's state then."""

    head: str | None
    nodes: Sequence[str]
    waits: Sequence[Wait] = ()
    is_last: bool = False
    values: Any = None


@dataclass(slots=True)
class _Open:
    """A run whose graph is open here, standing before the step after `head`."""

    context: RunContext
    events: AsyncGenerator[Any, None]
    driver: "asyncio.Task[None] | None" = None
    go: asyncio.Event = field(default_factory=asyncio.Event)
    came: "asyncio.Future[Came] | None" = None
    head: str | None = None
    used_at: float = 0.0


class Stepper:
    """Runs steps. `perform` is called for each claim, many at once, never two for one run at a time within this
    worker."""

    def __init__(self, parts: Parts, heads: Heads, base: Path) -> None:
        self._parts, self._heads, self._base = parts, heads, base
        self._graphs: dict[str, Any] = {}
        self._tools: dict[str, Sequence[BoundTool]] = {}
        self._open: OrderedDict[str, _Open] = OrderedDict()

    async def perform(self, claim: Claim) -> None:
        """From the claim to what follows it, all but the end of its task. Raises StokerError and others when the step
        is to be tried again; what is over for good ends the run."""
        said = claim.task.body
        run_id, step = str(said["run"]), int(said["step"])
        run = await self._begun(run_id, step)
        if run is None:
            return
        logs.bound.set(parent_of_call(run_id, run.trace, span_id_of(run_id, "run"), lambda *_: True))
        try:
            if (why := _over_limit(run, self._parts.clock.now())) is not None:
                await self._fail(run, *why)
                return
            came = await self._step(run, claim)
        except BaseException as error:
            opened = self._open.get(run_id)
            events = [] if opened is None else opened.context.events
            await self._close(run_id)
            if not await self._is_over(run, error, claim, events):
                raise
            return
        await self._follow(run, came)

    def redacted(self, text: str) -> str:
        """As it may be logged: what a node raises may hold a secret."""
        return self._parts.toolbox.redacted(text)

    async def aclose(self) -> None:
        for run_id in list(self._open):
            await self._close(run_id)

    async def close_idle(self) -> None:
        """Runs whose next step went elsewhere, or nowhere."""
        now = self._parts.clock.monotonic()
        for run_id, each in list(self._open.items()):
            is_idle = each.came is None and now - each.used_at > OPEN_FOR_S
            if is_idle or (each.came is None and len(self._open) > OPEN_MOST):
                await self._close(run_id)

    async def flush(self) -> None:
        """What steps that go on for longer have to tell, told now."""
        for run_id, each in list(self._open.items()):
            if each.came is not None and (events := each.context.events):
                each.context.events = []
                await self._parts.store.write(partial(_added, events))
                await self._parts.queue.ring(run_id)

    # --- before -----------------------------------------------------------------------------------------------------

    async def _begun(self, run_id: str, step: int) -> Run | None:
        """The run, if it is this step's turn. A step that was taken before, by a worker that died before it could say
        so: what follows it is submitted."""
        known = self._open.get(run_id)
        if known is not None and known.context.run.step == step and known.came is None:
            return known.context.run
        now = self._parts.clock.now()
        run = await self._parts.store.write(lambda c: rows.begin_step(c, run_id, now))
        if run.step == step and run.status in ACTIVE:
            return run
        if run.step > step and run.status in ACTIVE:
            await submit_step(self._parts.queue, run)
        return None

    # --- the step ---------------------------------------------------------------------------------------------------

    async def _step(self, run: Run, claim: Claim) -> Came:
        opened = self._open.get(run.id)
        if opened is None or opened.came is not None or opened.head != run.head or opened.context.run is not run:
            await self._close(run.id)
            opened = await self._opened(run)
        self._open.move_to_end(run.id)
        opened.context.begin()
        worker = Event(
            run=run.id,
            type="step.started",
            key=f"step:{run.step}:{claim.attempt}",
            at=self._parts.clock.now(),
            step=run.step,
            data={"worker": self._parts.worker, "attempt": claim.attempt},
        )
        opened.context.events.append(worker)
        opened.came = asyncio.get_running_loop().create_future()
        if opened.driver is None:
            opened.driver = asyncio.create_task(self._drive(opened), name=f"run {run.id}")
        opened.go.set()
        time_is_over = asyncio.create_task(self._parts.clock.sleep(run.wall_left_s(self._parts.clock.now())))
        try:
            either: set[asyncio.Future[Any]] = {opened.came, time_is_over}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not opened.came.done():
                raise _WallTime
            return opened.came.result()
        finally:
            time_is_over.cancel()
            opened.came = None
            opened.used_at = self._parts.clock.monotonic()

    async def _opened(self, run: Run) -> _Open:
        parts = self._parts
        agent = parts.platform.agents.definitions.get(run.agent)
        if agent is None:
            raise _Gone(f"there is no agent {run.agent} any more")
        if run.agent not in self._graphs:
            self._graphs[run.agent] = await graphs.compiled(agent, self._heads, self._base)
        if run.agent not in self._tools:
            self._tools[run.agent] = await parts.toolbox.tools_of(agent.tools)
        waits = await parts.store.read(lambda c: rows.waits_of(c, run.id)) if run.step > 1 else []
        opened = RunContext(parts, run, agent, self._tools[run.agent], answered={wait.id: wait for wait in waits})
        asked = {wait.interrupt: wait.answer for wait in waits if wait.interrupt and wait.is_answered}
        given: Any = None
        if run.head == run.base:
            given = graphs.begin(agent, run.input)
        elif asked:
            given = Command(resume=asked)
        self._heads.at(run.graph_thread, run.head)
        config = {
            "configurable": {"thread_id": run.graph_thread},
            "recursion_limit": _ANY_NUMBER,
            "metadata": {"stoker_run": run.id},
        }
        events = self._graphs[run.agent].astream(
            given, config, stream_mode=["checkpoints", "updates"], durability="sync"
        )
        each = self._open[run.id] = _Open(opened, events, head=run.head)
        return each

    async def _drive(self, opened: _Open) -> None:
        """The graph's generator, in one task from its beginning to its end: LangGraph ties what it starts to the task
        that asks."""
        context.enter(opened.context)
        try:
            await self._until_end(opened)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if opened.came is not None and not opened.came.done():
                opened.came.set_exception(error)
        finally:
            try:
                await opened.events.aclose()
            except Exception as error:  # of a node that was stopped: what it came to is known already
                said = self.redacted(f"{type(error).__name__}: {error}")[:500]
                _log.warning("a graph did not close cleanly", run=opened.context.run.id, error=said)

    async def _until_end(self, opened: _Open) -> None:
        nodes: list[str] = []
        questions: list[Any] = []
        following: Sequence[str] = ()
        values: Any = None
        head = latest = opened.head
        await opened.go.wait()
        async for mode, said in opened.events:
            if mode == "updates":
                questions += said.get("__interrupt__", ())
                nodes += [name for name in said if not name.startswith("__")]
                continue
            latest = str(said["config"]["configurable"]["checkpoint_id"])
            values = said["values"]
            following = said["next"]
            opened.context.graph_step = int(said["metadata"]["step"]) + 1
            if not nodes or latest == head:
                continue  # of the input, or that from which this step starts
            head = latest
            if not said["next"]:
                continue  # the last one: the generator comes to its end
            opened.go.clear()
            self._came(opened, Came(head, nodes))
            nodes = []
            await opened.go.wait()
        if questions:
            self._came(opened, Came(latest, nodes, waits=_waits(opened.context.waits, questions)))
        elif following:
            # `interrupt_before` or `interrupt_after`: the graph stops here until somebody lets it go on.
            where = ", ".join(following)
            stop = Wait(id=f"{latest}:stop", kind="question", message=f"The graph stops before {where}. Go on?")
            self._came(opened, Came(latest, nodes, waits=[stop]))
        else:
            self._came(opened, Came(latest, nodes, is_last=True, values=values))

    def _came(self, opened: _Open, came: Came) -> None:
        opened.head = came.head
        if opened.came is not None and not opened.came.done():
            opened.came.set_result(came)

    async def _close(self, run_id: str) -> None:
        opened = self._open.pop(run_id, None)
        if opened is None:
            return
        if opened.driver is not None:
            opened.driver.cancel()
            await asyncio.wait({opened.driver})
        self._heads.leave(opened.context.run.graph_thread)

    # --- after ------------------------------------------------------------------------------------------------------

    async def _follow(self, run: Run, came: Came) -> None:
        opened = self._open[run.id]
        run = opened.context.run  # with what it has become by what it read
        now, events = self._parts.clock.now(), opened.context.events
        done = Event(
            run=run.id,
            type="step.completed",
            key=f"step:{run.step}:done",
            at=now,
            step=run.step,
            data={"nodes": list(came.nodes)},
        )
        if came.waits:
            await self._close(run.id)
            await self._wait(run, came, [*events, done])
        elif came.is_last:
            await self._close(run.id)
            out = graphs.output(came.values)
            await self._end(run, "completed", head=came.head, output=out, events=[*events, done])
        else:
            head = came.head or ""
            is_ours = await self._parts.store.write(
                lambda c: rows.end_step(c, run.id, run.step, head, [*events, done], now)
            )
            if not is_ours:
                await self._close(run.id)
                return
            following = opened.context.run = replace(run, step=run.step + 1, head=head)
            await asyncio.gather(submit_step(self._parts.queue, following), self._parts.queue.ring(run.id))

    async def _wait(self, run: Run, came: Came, events: Sequence[Event]) -> None:
        now, parts = self._parts.clock.now(), self._parts
        said = {"waits": [wait.shown() for wait in came.waits]}
        told = Event(run=run.id, type="run.waiting", key=f"waiting:{run.step}", at=now, step=run.step, data=said)
        if await parts.store.write(lambda c: rows.wait(c, run, came.head, came.waits, [*events, told], now)):
            await self._wake(run.id)
        await ring_standing(parts.queue, run.id)

    async def _end(self, run: Run, status: Any, **what: Any) -> None:
        now, parts = self._parts.clock.now(), self._parts
        ended = await parts.store.write(lambda c: rows.finish(c, run.id, status, now, step=run.step, **what))
        if ended is not None and ended.parent is not None:
            await self._wake(ended.parent)
        await ring_standing(parts.queue, run.id)

    async def _wake(self, run_id: str) -> None:
        """The run goes on, if all that it waits for is answered."""
        now, parts = self._parts.clock.now(), self._parts
        await go_on(parts.queue, await parts.store.write(lambda c: rows.wake(c, run_id, now)))

    async def _fail(self, run: Run, reason: str, message: str, events: Sequence[Event] = (), code: str = "") -> None:
        error = {"message": message, "type": "agent_error", "code": code or reason}
        await self._end(run, "failed", reason=reason, error=error, events=events)

    async def _is_over(self, run: Run, error: BaseException, claim: Claim, events: Sequence[Event]) -> bool:
        """Whether an error ends the run; it is written down then. Else the step is tried again."""
        if isinstance(error, Looping):
            await self._fail(run, "loop_detected", str(error), events)
        elif isinstance(error, _WallTime):
            await self._fail(run, "wall_time_exceeded", f"it took more than {run.limits.wall_s:g} s", events)
        elif isinstance(error, StokerError) and _is_budget(error):
            await self._fail(run, "budget_exhausted", error.message, events, code=error.code)
        elif getattr(error, "code", None) == BudgetExhausted.code:  # OpenAI's SDK has heard it, in a graph that uses it
            await self._fail(run, "budget_exhausted", str(error)[:2000], events)
        elif isinstance(error, StokerError) and error.code == "tool_calls_exceeded":
            await self._fail(run, "tool_calls_exceeded", error.message, events)
        elif isinstance(error, StokerError) and is_for_good(error):
            await self._fail(run, "error", error.message, events, code=error.code)
        elif isinstance(error, asyncio.CancelledError):
            return False
        elif errors_of(claim) + 1 >= ERRORS or isinstance(error, _Gone):
            said = error.message if isinstance(error, StokerError) else f"{type(error).__name__}: {error}"
            await self._fail(run, "error", self._parts.toolbox.redacted(said)[:2000], events)
        else:
            return False
        return True


def _added(events: Sequence[Event], connection: Any) -> None:
    rows.add_events(connection, events)


def _is_budget(error: StokerError) -> bool:
    """Nothing is left, or the call could cost more than there ever was."""
    return isinstance(error, BudgetExhausted) or error.code == "request_over_budget"


class _WallTime(Exception):
    """Its time is over."""


class _Gone(Exception):
    """What it needs is not there any more."""


def _over_limit(run: Run, now: float) -> tuple[str, str] | None:
    if run.step > run.limits.steps:
        return "steps_exceeded", f"it may take {run.limits.steps} steps, and has taken them"
    if run.wall_left_s(now) <= 0:
        return "wall_time_exceeded", f"it took more than {run.limits.wall_s:g} s"
    return None


def _waits(ours: Sequence[Wait], questions: Sequence[Any]) -> list[Wait]:
    """What was asked: of our own kinds, and what the graph itself asked with `interrupt()`."""
    found = list(ours)
    for question in questions:
        if isinstance(question.value, dict) and set(question.value) == {"stoker_wait"}:
            continue
        value = graphs.output({"output": question.value})
        message = value if isinstance(value, str) else None
        arguments = value if isinstance(value, dict) else None
        found.append(Wait(id=question.id, kind="question", message=message, arguments=arguments, interrupt=question.id))
    return found
