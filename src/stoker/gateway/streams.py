"""Streams that survive their connection: those of clients that ask for it (`X-Stoker-Resumable: true`).

Such a stream is a task from its start, so what it has said is in Redis, and any gateway process goes on where a
connection broke off: there is one task, so it is admitted and paid once. The id of each event is
`<request id>/<cursor>`.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.base import logs
from stoker.base.errors import Conflict, InvalidInput, NotFound, StokerError
from stoker.base.ids import TaskId
from stoker.gateway import audited
from stoker.gateway.ask import Ask, Served, result_of
from stoker.gateway.endpoints import endpoint_of
from stoker.gateway.receipts import Receipt
from stoker.gateway.services import Services
from stoker.meter.accounts import Account
from stoker.meter.charge import Caller, Charge
from stoker.queue import State, Task
from stoker.queue.cursors import parse_cursor
from stoker.web import sse
from stoker.web.server import JSONResponse

_log = logs.get(__name__)
Json = dict[str, Any]
Events = AsyncGenerator[bytes, None]

RESUMABLE = "x-stoker-resumable"
LAST_EVENT = "last-event-id"
EVENT_ID_PATTERN = "^([A-Za-z0-9_.-]{1,128})/([0-9]{1,15}-[0-9]{1,15})$"
_EVENT_ID = re.compile(EVENT_ID_PATTERN)


def routes(services: Services) -> list[Route]:
    async def follow(request: Request) -> Response:
        key = await services.auth.user(request)
        stream_id, seen = request.path_params["id"], request.headers.get(LAST_EVENT)
        after = None
        if seen is not None:
            of, after = event_of(seen)
            if of != stream_id:
                raise InvalidInput(
                    f"Last-Event-ID is {seen!r}, which is no event of {stream_id}", param="Last-Event-ID"
                )
        headers, events = await resumed(services, key, stream_id, after)
        return sse.EventStream(events, headers=headers)

    async def cancel(request: Request) -> Response:
        key = await services.auth.user(request)
        stream_id = request.path_params["id"]
        if key.role == "admin":
            async with services.changes.recorded(audited.begun(request, key, "tasks.cancel", f"task:{stream_id}")):
                task = await cancelled(services, key, stream_id)
        else:
            task = await cancelled(services, key, stream_id)
        return JSONResponse({"id": task.id, "object": "stream", "state": task.state.value})

    return [Route("/v1/streams/{id}", follow, methods=["GET"]), Route("/v1/streams/{id}", cancel, methods=["DELETE"])]


def is_resumable(ask: Ask, headers: Mapping[str, str]) -> bool:
    """Whether the client wants to be able to come back. A whole answer has nothing to come back to. Raises
    InvalidInput for a header that says neither."""
    said = headers.get(RESUMABLE)
    if said is None:
        return False
    if said.lower() not in ("true", "false"):
        raise InvalidInput(f"X-Stoker-Resumable is {said[:40]!r}; it has to be true or false", param=RESUMABLE)
    return ask.wants_stream and said.lower() == "true"


def event_of(said: str) -> tuple[str, str]:
    """The request and the cursor that a `Last-Event-ID` names. Raises InvalidInput."""
    found = _EVENT_ID.fullmatch(said)
    if found is None:
        raise InvalidInput(
            f"Last-Event-ID is {said[:80]!r}; it has to be the `id` of an event of a resumable stream",
            param="Last-Event-ID",
            hint="leave it out to ask anew",
        )
    return found[1], found[2]


async def begun(services: Services, key: Account, ask: Ask) -> Served:
    """A stream that goes on when its client goes. Raises what `Inference.run` raises."""
    task = await services.inference.submit_to_stay(ask)
    return Served(None, events=_events(services, key, task, None), headers=services.inference.limits(ask))


async def resumed(services: Services, key: Account, stream_id: str, after: str | None) -> tuple[dict[str, str], Events]:
    """Headers and events of a stream that is there already, from the one after the cursor `after` (None: from the
    beginning). Nothing is admitted, begun or paid.

    Raises NotFound, with the status 410 when it is over for too long; InvalidInput for a cursor that it never had;
    Conflict (`stream_restarted`) when what is to be gone on with is void.
    """
    task = await _own(services, key, stream_id)
    await _check(services, task, after)
    headers = {
        "X-Request-Id": task.id,
        "X-Stoker-Model": task.model,
        "X-Stoker-Route": task.route or "queue",
        "X-Stoker-Replica": "queue",
    }
    return headers, _events(services, key, task, after)


async def cancelled(services: Services, key: Account, stream_id: str) -> Task:
    """Nobody wants it any more. Raises NotFound."""
    return await services.queue.cancel((await _own(services, key, stream_id)).id)


async def _own(services: Services, key: Account, stream_id: str) -> Task:
    """The task behind a stream. A stranger's is as unknown as one that never was."""
    try:
        task = await services.queue.get(TaskId(stream_id))
    except NotFound:
        records = await asyncio.to_thread(services.ledger.records, [stream_id])
        if any(record.tenant == key.tenant and record.kind == "task" for record in records):
            raise gone(stream_id) from None
        task = None
    if task is None or (task.tenant != key.tenant and key.role != "admin"):
        raise NotFound(f"there is no stream {stream_id[:80]!r} to go on with", code="stream_not_found")
    if not task.stream:
        raise InvalidInput(
            f"task {task.id} was submitted without `stream: true`, so it has no events",
            param="id",
            hint=f"GET /v1/tasks/{task.id}?wait=60",
        )
    return task


async def _check(services: Services, task: Task, after: str | None) -> None:
    """Raises for what cannot be gone on with, so that it has a status of its own."""
    newest = await services.queue.newest_chunk(task.id)
    if newest is None:
        if task.state is State.DONE:
            raise gone(task.id)
        if task.state.has_ended:
            result_of(task)
        return
    if after is None:
        return
    if parse_cursor(after)[0] < parse_cursor(newest)[0]:
        raise _restarted(task.id)
    if parse_cursor(after) > parse_cursor(newest):
        raise _never_said(task.id, after)


async def _events(services: Services, key: Account, task: Task, after: str | None) -> Events:
    """The rest of a stream, each event with its id; errors as events. What its reader has is never mixed with what
    another attempt says."""
    relay = endpoint_of(task.endpoint).relay(task.body, None)
    deadline = services.clock.monotonic() + services.platform.gateway.timeouts.total_seconds
    seen = after
    try:
        async with aclosing(services.inference.task_chunks(task.id, deadline, after)) as chunks:
            async for chunk in chunks:
                if seen is not None and parse_cursor(seen)[0] != chunk.token:
                    raise _restarted(task.id)
                seen = chunk.cursor
                passed = relay.pass_on(chunk.data, services.clock.now())
                if passed is not None:
                    yield _with_id(task.id, seen, passed)
        if after is not None and seen == after and after != await services.queue.newest_chunk(task.id):
            raise _never_said(task.id, after)
        receipt = await receipt_of(services, key, await services.queue.get(task.id))
    except StokerError as error:
        yield relay.failed(error)
        return
    last = relay.end({} if receipt is None else receipt.as_json())
    # A comment is followed by no empty line here, see `sse.KEEPALIVE`.
    yield last.removesuffix(b"\n") if last.startswith(b":") else _with_id(task.id, seen or "", last)
    if relay.ends_with_done:
        yield sse.event(sse.DONE)


def _with_id(task_id: str, cursor: str, event: bytes) -> bytes:
    return f"id: {task_id}/{cursor}\n".encode() + event


async def receipt_of(services: Services, key: Account, task: Task) -> Receipt | None:
    """What a task that is done came to, whichever process is asked; what is left of budgets is that of now. None: there
    is no saying."""
    model = services.platform.llm.models.get(task.model)
    if model is None or task.result is None:  # the platform has other models now
        return None
    caller = Caller(task.tenant, task.key_id, task.session, task.run, task.team, task.agent)
    charge = Charge(
        id=task.id,
        kind="task",
        caller=caller,
        model=task.model,
        route=task.route,
        prices=model.prices,
        started_at=task.submitted_at,
    )
    charge.saw_usage(endpoint_of(task.endpoint).usage_in(task.result))
    return Receipt(
        prompt_tokens=charge.prompt_tokens,
        cached_tokens=charge.cached_tokens,
        completion_tokens=charge.completion_tokens,
        nano_usd=charge.nano_usd(),
        queue_wait_s=max(0.0, (task.started_at or task.submitted_at) - task.submitted_at),
        left=services.inference.admission.left(services.terms.of(key, task.session, task.run, task.agent)),
        session_nano_usd=None if task.session is None else await _spent(services, task.tenant, task.session),
    )


async def _spent(services: Services, tenant: str, session: str) -> int | None:
    """What a session has cost, by the ledger, since no process here counts what its tasks cost. None: it is away."""
    try:
        await services.settle_all()
        return (await asyncio.to_thread(services.ledger.spent, "session", tenant, session)).nano_usd
    except StokerError as error:
        _log.warning("the cost of a session is not known", session=session, error=error.message)
        return None


def gone(stream_id: str) -> NotFound:
    """What was said is not kept any more."""
    error = NotFound(
        f"the events of stream {stream_id} are not kept any more",
        hint="they are kept for an hour after the end of the answer; its usage is in the ledger",
        code="stream_gone",
    )
    error.status = 410
    return error


def _restarted(stream_id: str) -> Conflict:
    return Conflict(
        "the worker was lost in the middle of the answer; another began it anew",
        hint=f"GET /v1/streams/{stream_id} without Last-Event-ID is the new one from its beginning",
        code="stream_restarted",
    )


def _never_said(stream_id: str, cursor: str) -> InvalidInput:
    return InvalidInput(f"stream {stream_id} has no event {cursor!r}", param="Last-Event-ID")
