"""What the API of agents does, apart from HTTP: runs are made, told of, gone on with, cancelled, and found when they
were left."""

import asyncio
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stoker.agents import schedules
from stoker.agents import store as rows
from stoker.agents.runs import (
    ACTIVE,
    ENDED,
    MOST_INPUT_BYTES,
    Event,
    Limits,
    Run,
    answers_in,
    granted,
    metadata_in,
    shown,
)
from stoker.agents.schedules import Schedule
from stoker.agents.store import Store
from stoker.agents.tasks import go_on, ring_standing, standing, submit_step
from stoker.base import json_text, logs
from stoker.base.clock import Clock
from stoker.base.errors import Conflict, InvalidInput, NotFound, NotPermitted, StokerError
from stoker.base.ids import TaskId, new_id
from stoker.meter.grants import CallerClaim
from stoker.queue import Queue, State
from stoker.spec import Agent, Platform

_log = logs.get(__name__)

Json = dict[str, Any]

SWEEP_EVERY_S = 2.0
LEAD_S = 10.0
# A run of which nothing was heard for so long is looked at: its worker, or who made it, may have died between two
# steps.
QUIET_S = 5.0
_ROLES = ("user", "assistant", "system", "tool", "developer")


@dataclass(frozen=True, slots=True)
class Service:
    platform: Platform
    store: Store
    queue: Queue
    clock: Clock

    def agent(self, name: str) -> Agent:
        """Raises NotFound."""
        agent = self.platform.agents.definitions.get(name)
        if agent is None:
            known = ", ".join(self.platform.agents.definitions) or "none"
            raise NotFound(f"there is no agent {name[:64]!r}; the agents are: {known}", code="agent_not_found")
        return agent

    def described(self, name: str) -> Json:
        """An agent as clients see it."""
        agent = self.agent(name)
        return {
            "id": name,
            "object": "agent",
            "name": name,
            "description": agent.description,
            "model": agent.model,
            "graph": agent.graph,
            "tools": [self._tool(tool) for tool in agent.tools],
            "limits": Limits.of(agent.limits).shown(),
            "grants": list(agent.grants),
            "grantable": list(agent.grantable),
        }

    def _tool(self, name: str) -> Json:
        tool = self.platform.agents.tools[name]
        said = {"effect": tool.effect, "repeatable": tool.repeatable, "approval": tool.approval}
        return {"name": name, "kind": tool.kind, "description": tool.description, **said}

    # --- runs -------------------------------------------------------------------------------------------------------

    async def start(
        self,
        caller: CallerClaim,
        name: str,
        body: Mapping[str, Any],
        *,
        once: str | None = None,
        trace: str | None = None,
    ) -> Run:
        """A new run, whose first step waits in the queue when this returns. `once`: an Idempotency-Key, with which the
        same call again finds the run that it made. `trace`: of the span that causes it (`Run.trace`). Raises
        InvalidInput, NotFound, Conflict for a thread with a run that has not ended.
        """
        _no_run(caller, "begin runs by the API")
        return await self.begin(caller, name, body, self._id(caller, name, once), trace=trace)

    async def begin(
        self, caller: CallerClaim, name: str, body: Mapping[str, Any], run_id: str, *, trace: str | None = None
    ) -> Run:
        """As `start`, for the run of this id."""
        run = replace(self._new(caller, name, body, run_id), trace=trace)
        made = await self.store.write(lambda c: self._insert(c, run))
        if made.status == "queued" and made.step == 1:
            try:
                await submit_step(self.queue, made)
            except StokerError as error:
                _log.warning("the sweep will submit the step", run=run.id, error=error.in_log)
        return made

    def _id(self, caller: CallerClaim, name: str, once: str | None) -> str:
        if once is None:
            return new_id("run", self.clock.now())
        said = json_text.dumps([caller.key_id, name, once])
        return "run_" + hashlib.sha256(said).hexdigest()[:26]

    def _new(self, caller: CallerClaim, name: str, body: Mapping[str, Any], run_id: str) -> Run:
        agent, now = self.agent(name), self.clock.now()
        unknown = sorted(set(body) - {"input", "thread", "limits", "grants", "metadata", "session"})
        if unknown:
            raise InvalidInput(f"{unknown[0][:64]!r} is nothing that a run has", param=unknown[0][:64])
        thread, session = _id_in(body, "thread", 128), _id_in(body, "session", 256)
        return Run(
            id=run_id,
            agent=name,
            tenant=caller.tenant,
            key_id=caller.key_id,
            team=caller.team,
            session=session,
            thread=thread,
            graph_thread=run_id if thread is None else _graph_thread(caller.tenant, name, thread),
            input=_input_in(agent, body),
            limits=Limits.of(agent.limits).lowered(body.get("limits")),
            grants=granted(agent, body.get("grants")),
            metadata=metadata_in(body.get("metadata")),
            created_at=now,
            updated_at=now,
        )

    def _insert(self, connection: Any, run: Run) -> Run:
        if run.thread is not None:
            _check_free(connection, run)
            head, is_tainted = rows.last_head(connection, run.graph_thread)
            run = replace(run, head=head, base=head, is_tainted=is_tainted)
        if rows.insert_run(connection, run):
            rows.add_events(connection, [rows.created(run)])
            return run
        try:
            known = rows.run_of(connection, run.id)
        except NotFound:  # another process was quicker in this thread
            _check_free(connection, run)
            raise
        if known.input != run.input or known.agent != run.agent:
            error = Conflict("this Idempotency-Key was sent before with another request", code="idempotency_key_reused")
            error.status = 422
            raise error
        return known

    async def shown(self, caller: CallerClaim, run_id: str, agent: str | None = None) -> Json:
        """Raises NotFound, also for another tenant's run."""

        def found(connection: Any) -> Json:
            run = self._run(connection, caller, run_id, agent)
            return shown(run, rows.usage_of(connection, run.id), rows.waits_of(connection, run.id))

        return await self.store.read(found)

    async def run(self, caller: CallerClaim, run_id: str, agent: str | None = None) -> Run:
        return await self.store.read(lambda c: self._run(c, caller, run_id, agent))

    def _run(self, connection: Any, caller: CallerClaim, run_id: str, agent: str | None) -> Run:
        run = rows.run_of(connection, run_id, tenant=None if caller.role == "admin" else caller.tenant)
        if agent is not None and run.agent != agent:
            raise NotFound(f"there is no run {run_id[:80]!r} of {agent}", code="run_not_found")
        return run

    async def listed(self, caller: CallerClaim, **asked: Any) -> list[Json]:
        tenant = None if caller.role == "admin" else caller.tenant

        def found(connection: Any) -> list[Json]:
            runs = rows.runs_that(connection, tenant=tenant, **asked)
            return [shown(run, rows.usage_of(connection, run.id), rows.waits_of(connection, run.id)) for run in runs]

        return await self.store.read(found)

    async def ended(self, caller: CallerClaim, run_id: str, agent: str | None, wait_s: float) -> Json:
        """As `shown`, as soon as it has ended or waits for somebody; or as it is after `wait_s`."""
        until = self.clock.monotonic() + wait_s
        async with self.queue.listening(standing(run_id)) as rung:
            while True:
                rung.clear()
                run = await self.run(caller, run_id, agent)
                left = until - self.clock.monotonic()
                if run.status not in ACTIVE or left <= 0:
                    return await self.shown(caller, run_id, agent)
                try:
                    async with asyncio.timeout(min(left, QUIET_S)):
                        await rung.wait()
                except TimeoutError:
                    pass

    async def cancel(self, caller: CallerClaim, run_id: str, agent: str | None = None) -> None:
        """It, and all below it. Nothing happens to one that has ended."""
        _no_run(caller, "cancel runs")
        run = await self.run(caller, run_id, agent)
        if run.status not in ENDED:
            await self._cancel(run)
        # A run below may begin another one until it is cancelled itself.
        while left := [
            each for each in await self.store.read(lambda c: rows.children_of(c, run.id)) if each.status not in ENDED
        ]:
            for each in left:
                await self._cancel(each)

    async def _cancel(self, run: Run) -> None:
        now = self.clock.now()
        before = await self.store.write(lambda c: _cancelled(c, run.id, now))
        if before is None:
            return
        try:
            await self.queue.cancel(TaskId(before.task_id))
        except NotFound:
            pass
        except StokerError as error:
            _log.warning("a step of a cancelled run may go on to its end", run=run.id, error=error.in_log)
        await ring_standing(self.queue, run.id)
        if run.parent is not None:
            await self.wake(run.parent)

    async def resume(self, caller: CallerClaim, run_id: str, agent: str | None, body: Mapping[str, Any]) -> None:
        """Answers what the run waits for; a run that failed goes on from its last checkpoint. Raises Conflict."""
        _no_run(caller, "answer what runs ask people")
        run = await self.run(caller, run_id, agent)
        if run.status == "failed":
            await self.wake(run.id, also_failed=True)
            return
        if run.status != "waiting":
            raise Conflict(
                f"run {run.id} is {run.status}; only one that waits or failed can be resumed", code="not_waiting"
            )

        def answered(connection: Any) -> None:
            waits = [wait for wait in rows.waits_of(connection, run.id) if not wait.is_answered]
            rows.answer(connection, run.id, answers_in(body, waits))

        await self.store.write(answered)
        await self.wake(run.id)

    async def wake(self, run_id: str, *, also_failed: bool = False) -> None:
        now = self.clock.now()

        def woken(connection: Any) -> Run | None:
            if also_failed:
                failed = rows.run_of(connection, run_id)
                _check_free(connection, failed)
                if not rows.is_newest(connection, failed):
                    raise Conflict(
                        f"thread {failed.thread} has gone on without run {run_id}",
                        code="thread_went_on",
                        hint="begin a new run in it",
                    )
            return rows.wake(connection, run_id, now, also_failed=also_failed)

        await go_on(self.queue, await self.store.write(woken))

    async def events(self, run_id: str, after: int, limit: int = 200) -> list[Event]:
        return await self.store.read(lambda c: rows.events_after(c, run_id, after, limit=limit))

    async def tree(self, run: Run) -> list[tuple[Json, list[Json]]]:
        """The run and all below it, each as it is shown, with its events."""

        def found(connection: Any) -> list[tuple[Json, list[Json]]]:
            below = rows.children_of(connection, run.id)
            return [
                (
                    shown(each, rows.usage_of(connection, each.id), []),
                    [event.shown() for event in rows.events_after(connection, each.id, 0, limit=100_000)],
                )
                for each in (run, *below)
            ]

        return await self.store.read(found)

    # --- threads ----------------------------------------------------------------------------------------------------

    async def thread(self, caller: CallerClaim, agent: str, thread: str) -> Json:
        """What was said in it, as far as runs came to an end. Raises NotFound."""
        self.agent(agent)
        # Of the caller's own tenant, also for an admin: others have threads of this name.
        runs = await self.listed(replace(caller, role="user"), agent=agent, thread=thread, limit=1000)
        if not runs:
            raise NotFound(f"{agent} has no thread {thread[:64]!r}", code="thread_not_found")
        messages: list[Json] = []
        for run in reversed(runs):
            asked = run["input"]
            messages += asked if isinstance(asked, list) else [{"role": "user", "content": asked}]
            if run["status"] == "completed":
                messages.append({"role": "assistant", "content": run["output"]})
        ids = [run["id"] for run in reversed(runs)]
        return {"id": thread, "object": "agent.thread", "agent": agent, "runs": ids, "messages": messages}

    async def forget_thread(self, caller: CallerClaim, agent: str, thread: str) -> None:
        """Its next run begins anew; its runs stay. Raises Conflict while one of them goes on."""
        _no_run(caller, "forget threads")
        name = _graph_thread(caller.tenant, agent, thread)

        def forgotten(connection: Any) -> None:
            if (busy := rows.is_busy(connection, name)) is not None:
                raise Conflict(f"run {busy} of thread {thread} has not ended", code="thread_busy")
            rows.forget_thread(connection, name)

        await self.store.write(forgotten)

    # --- schedules --------------------------------------------------------------------------------------------------

    async def schedule(self, caller: CallerClaim, name: str, body: Mapping[str, Any]) -> Schedule:
        _no_run(caller, "make schedules")
        said, now = schedules.said_in(body), self.clock.now()
        self._new(caller, name, {key: said[key] for key in said if key not in ("cron", "timezone")}, "run_checked")
        next_at = schedules.next_after(said, now)
        if next_at is None:
            raise InvalidInput(f"cron is {said['cron']!r}, which never comes", param="cron")
        made = Schedule(
            id=new_id("sched", now),
            agent=name,
            tenant=caller.tenant,
            key_id=caller.key_id,
            team=caller.team,
            said=said,
            next_at=next_at,
            last_run=None,
            created_at=now,
        )
        await self.store.write(lambda c: schedules.insert(c, made))
        return made

    async def fire_due(self) -> None:
        now = self.clock.now()
        for each in await self.store.read(lambda c: schedules.due(c, now)):
            await self._fire(each, now)

    async def _fire(self, each: Schedule, now: float) -> None:
        caller = CallerClaim(
            key_id=each.key_id, tenant=each.tenant, team=each.team, role="user", expires_at=now, request_id=each.id
        )
        body = {name: value for name, value in each.said.items() if name not in ("cron", "timezone")}
        run_id: str | None = None
        try:
            run_id = (await self.begin(caller, each.agent, body, each.run_id())).id
        except StokerError as error:
            _log.warning("a scheduled run cannot begin", schedule=each.id, error=error.in_log)
        # What was missed while nobody was there is not made up for: one run, and on from now.
        following = schedules.next_after(each.said, now)
        await self.store.write(lambda c: schedules.fired(c, each, following, run_id))

    # --- what was left ----------------------------------------------------------------------------------------------

    async def sweep(self) -> int:
        """Runs that should go on and do not: their step is not in the queue, since who was to submit it died, or Redis
        lost it; or it is dead. How many were found."""
        now, found = self.clock.now(), 0
        for run in await self.store.read(lambda c: rows.left_behind(c, now - QUIET_S)):
            if run.status == "waiting":
                await self.wake(run.id)
                found += 1
                continue
            try:
                task = await self.queue.get(TaskId(run.task_id))
            except NotFound:
                await submit_step(self.queue, run)
                found += 1
                continue
            if task.state.has_failed:
                await self._died(run, (task.error or {}).get("message") or "its workers died under it")
                await self.queue.drop_answer(task.id)
                found += 1
            elif task.state is State.CANCELLED:
                await self._died(run, "its step was cancelled")
            else:
                await self.store.write(lambda c, id=run.id: rows.touch(c, id, now))  # type: ignore[misc]
        return found

    async def _died(self, run: Run, why: str) -> None:
        now = self.clock.now()
        error = {"message": f"step {run.step} cannot be done: {why}", "type": "agent_error", "code": "step_died"}
        await self.store.write(lambda c: rows.finish(c, run.id, "failed", now, reason="step_died", error=error))
        await ring_standing(self.queue, run.id)
        if run.parent is not None:
            await self.wake(run.parent)

    async def look_forever(self, holder: str) -> None:
        """What one process at a time does: schedules, what was left behind."""
        while True:
            try:
                if await self.queue.lead("agents", holder, ttl_s=LEAD_S):
                    await self.fire_due()
                    await self.sweep()
            except StokerError as error:
                _log.warning("agents cannot be looked after", error=error.in_log)
            await self.clock.sleep(SWEEP_EVERY_S)


def _check_free(connection: Any, run: Run) -> None:
    """Raises Conflict while another run of its thread goes on."""
    busy = rows.is_busy(connection, run.graph_thread)
    if busy is not None and busy != run.id:
        raise Conflict(
            f"run {busy} of thread {run.thread} has not ended",
            code="thread_busy",
            hint="wait for it, cancel it, or use another thread",
        )


def _cancelled(connection: Any, run_id: str, now: float) -> Run | None:
    """The run as it was; None: it had ended."""
    before = rows.run_of(connection, run_id)
    ended = rows.finish(connection, run_id, "cancelled", now, reason="cancelled")
    return None if ended is None else before


def _no_run(caller: CallerClaim, what: str) -> None:
    """Raises NotPermitted for a run, in whose name a graph of one's own asks. What it begins would have a budget of its
    own, where it is to be paid of the run's; and what it asks a person it may not answer itself."""
    if caller.run is not None:
        raise NotPermitted(
            f"run {caller.run} may not {what}",
            hint="another agent is begun as a tool: agents.tools.<name>.agent",
        )


def _graph_thread(tenant: str, agent: str, thread: str) -> str:
    return f"{tenant}/{agent}/{thread}"


def _id_in(body: Mapping[str, Any], name: str, most: int) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if (
        not isinstance(value, str)
        or not re.fullmatch(f"[!-~]{{1,{most}}}", value)
        or (name == "thread" and "/" in value)
    ):
        signs = "spaces and slashes" if name == "thread" else "spaces"
        raise InvalidInput(f"{name} has to be an id of 1 to {most} printable characters without {signs}", param=name)
    return value


def _input_in(agent: Agent, body: Mapping[str, Any]) -> Any:
    """A text, messages as OpenAI's API has them, or for a graph of one's own an object."""
    asked = body.get("input")
    if asked is None or asked in ("", []):
        raise InvalidInput('there is no input in the body; send {"input": "..."}', param="input")
    if len(json_text.dumps(asked)) > MOST_INPUT_BYTES * (64 if isinstance(asked, list) else 1):
        raise InvalidInput(f"input has more than {MOST_INPUT_BYTES} bytes", param="input")
    if isinstance(asked, str):
        return asked
    if isinstance(asked, list):
        for place, message in enumerate(asked):
            role = message.get("role") if isinstance(message, dict) else None
            if role not in _ROLES or "content" not in message:
                raise InvalidInput(
                    f"input[{place}] is no message; it has to have a role ({', '.join(_ROLES)}) and content",
                    param=f"input[{place}]",
                )
        return asked
    if isinstance(asked, dict) and agent.graph is not None:
        return asked
    raise InvalidInput("input has to be a text, or a list of messages", param="input")
