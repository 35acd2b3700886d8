"""`/v1/tasks`: work that may wait, is never lost, and is fetched, awaited, streamed or cancelled by its id."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.base.errors import InvalidInput, NotFound, StokerError
from stoker.base.ids import TaskId
from stoker.gateway import audited, busy, callbacks, idempotency, refusals, spans
from stoker.gateway.endpoints import CHAT, COMPLETIONS, ENDPOINTS, endpoint_of
from stoker.gateway.services import Services
from stoker.gateway.streams import gone
from stoker.meter.accounts import Account
from stoker.queue import Delivery, Place, State, Task
from stoker.queue.cursors import parse_cursor
from stoker.web import sse
from stoker.web.parameters import Number
from stoker.web.server import JSONResponse, read_json, while_connected

Json = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]

# A long poll ends before the proxies in between lose patience; who wants to wait longer asks again.
LONGEST_WAIT_S = 300.0
WAIT = Number("wait", 0, LONGEST_WAIT_S, "Wait so many seconds for its end.", default=0.0, of_what=" of seconds")


def routes(services: Services) -> list[Route]:
    return [
        Route("/v1/tasks", _submit(services), methods=["POST"]),
        Route("/v1/tasks/{id}", _show(services), methods=["GET"]),
        Route("/v1/tasks/{id}", _cancel(services), methods=["DELETE"]),
        Route("/v1/tasks/{id}/events", _events(services), methods=["GET"]),
    ]


def shown(task: Task) -> Json:
    """A task as people and scripts see it. `attempts` counts those that were begun; `failures` says why some failed."""
    failures = [
        {"attempt": a.number, "worker": a.worker, "started_at": a.started_at, "ended_at": a.ended_at, "why": a.reason}
        for a in task.attempts
    ]
    return {
        "id": task.id,
        "object": "task",
        "model": task.model,
        "tenant": task.tenant,
        "state": task.state.value,
        "priority": task.priority,
        "attempts": len(failures) + (task.state in (State.RUNNING, State.DONE)),
        "endpoint": task.endpoint,
        "session": task.session,
        "run": task.run,
        "agent": task.agent,
        "submitted_at": task.submitted_at,
        "started_at": task.started_at,
        "ended_at": task.ended_at,
        "worker": task.worker,
        "failures": failures,
        "error": task.error,
        "callback": _callback(task),
    }


def _callback(task: Task) -> Json | None:
    if task.callback is None:
        return None
    delivery = task.delivery or Delivery(state="waiting", tries=0, at=0.0)
    return {"url": task.callback, **asdict(delivery), "at": delivery.at or None}


def _submit(services: Services) -> Handler:
    read = partial(read_json, max_bytes=services.platform.gateway.max_body_bytes)

    async def submit(request: Request) -> Response:
        span = spans.begun(services.tracing, request.headers, services.clock.now())
        try:
            key, sent = await services.auth.user_and_body(request, read)
            once = await idempotency.once_of(request.headers, key, request.url.path, sent)
            priority = busy.priority_of(priority_in(sent), key.tenant_terms, usual="normal")
            if (said := request.headers.get(busy.PRIORITY)) is not None:
                priority = busy.priority_of(said, key.tenant_terms, usual="normal")
            callback = callbacks.wanted_by(sent.get("callback_url"), key.tenant_terms)
            endpoint, body = wanted(sent)
            _check_says_something(endpoint, body)
            ask = await services.ask(request, key, endpoint, None, body, span)
        except BaseException as error:
            account = getattr(request.state, "account", None)
            refusals.tell(span, "/v1/tasks", account, error, services.clock.now())
            raise
        ask = replace(ask if once is None else once.of(ask), priority=priority, callback=callback)
        spans.came_by(span, "/v1/tasks")
        headers = {"X-Request-Id": ask.id, "X-Stoker-Model": ask.model, "X-Stoker-Route": ask.route}
        request.state.headers = headers  # for an answer that is an error, too
        try:
            if once is None:
                task = await services.inference.submit_alone(ask)
            else:
                task, told = await idempotency.submitted(services, ask, once, timeout_s=None)
                headers.update(told)
        except BaseException as error:
            refusals.end(span, error, services.clock.now())
            raise
        finally:
            headers.update(services.inference.limits(ask))
        spans.answered_with(span, 202, services.clock.now())
        return JSONResponse(shown(task), 202, headers={"Location": f"/v1/tasks/{task.id}", **headers})

    return submit


def priority_in(sent: Json) -> object:
    """What a submission says of its priority. In an OpenAI body as it stands a number is for the engine (vLLM's)."""
    said = sent.get("priority")
    return said if _is_spelled_out(sent) or isinstance(said, str) else None


def _is_spelled_out(sent: Json) -> bool:
    return "endpoint" in sent or "body" in sent


def wanted(sent: Json) -> tuple[str, Json]:
    """The endpoint and the body that a submission asks for: spelled out, or an OpenAI body as it stands."""
    if not _is_spelled_out(sent):
        sent = {name: value for name, value in sent.items() if name != "callback_url"}
        sent = {name: value for name, value in sent.items() if name != "priority" or not isinstance(value, str)}
        if "input" in sent and "messages" not in sent:
            raise InvalidInput(
                "a body with `input` may be one for /v1/responses or for /v1/embeddings: "
                'send {"endpoint": ..., "body": ...}',
                param="endpoint",
            )
        return (COMPLETIONS if "prompt" in sent else CHAT).path, sent
    endpoint, body = sent.get("endpoint", CHAT.path), sent.get("body")
    if not isinstance(endpoint, str) or endpoint not in ENDPOINTS:
        raise InvalidInput(f"endpoint is {endpoint!r}; it has to be one of {', '.join(ENDPOINTS)}", param="endpoint")
    if not isinstance(body, dict):
        raise InvalidInput("body has to be the JSON object that you would send to that endpoint", param="body")
    return endpoint, body


def _check_says_something(endpoint: str, body: Json) -> None:
    """What no engine could answer is refused now: nobody would look at a dead task. Raises InvalidInput."""
    needs = ENDPOINTS[endpoint].needs
    if body.get(needs) is None:
        raise InvalidInput(f"there is no {needs} in the body, which {endpoint} needs", param=needs)


def _show(services: Services) -> Handler:
    async def show(request: Request) -> Response:
        key = await services.auth.user(request)
        wait_s = WAIT.of(request) or 0.0
        task = await _own(services, key, request)
        if wait_s > 0 and not task.state.has_ended:
            task = await while_connected(request, services.queue.wait(task.id, timeout_s=wait_s))
        place = await services.queue.place(task.id) if task.state is State.QUEUED else None
        return JSONResponse({**shown(task), **_place(place), "result": task.result})

    return show


def _place(place: Place | None) -> Json:
    """Null for what does not wait. The first has a position of 0; both are estimates (`queue.Place`)."""
    return {
        "position": None if place is None else place.ahead,
        "estimated_wait_s": None if place is None else place.wait_s,
    }


def _cancel(services: Services) -> Handler:
    async def cancel(request: Request) -> Response:
        key = await services.auth.user(request)
        task = await _own(services, key, request)
        if key.role != "admin":
            return JSONResponse(shown(await services.queue.cancel(task.id)))
        change = audited.begun(request, key, "tasks.cancel", f"task:{task.id}")
        async with services.changes.recorded(change) as outcome:
            cancelled = await services.queue.cancel(task.id)
            outcome.before, outcome.after = {"state": task.state.value}, {"state": cancelled.state.value}
        return JSONResponse(shown(cancelled), headers={"X-Request-Id": change.request_id})

    return cancel


def _events(services: Services) -> Handler:
    async def events(request: Request) -> Response:
        key = await services.auth.user(request)
        task = await _own(services, key, request)
        if not task.stream:
            raise InvalidInput(
                f"task {task.id} was submitted without `stream: true`, so it has no events",
                param="id",
                hint=f"GET /v1/tasks/{task.id}?wait=60",
            )
        if task.state is State.DONE and await services.queue.newest_chunk(task.id) is None:
            raise gone(task.id)
        after = request.headers.get("last-event-id")
        token = None if after is None else parse_cursor(after)[0]
        return sse.EventStream(_event_stream(services, task, after, token))

    return events


async def _event_stream(services: Services, task: Task, after: str | None, token: int | None) -> AsyncIterator[bytes]:
    """Each event carries its cursor as `id`; `event: restart` says that what came before it is void. `token` is that of
    what the client has seen already, up to `after`.
    """
    relay = endpoint_of(task.endpoint).relay(task.body, None, passes_usage=True)
    deadline = services.clock.monotonic() + services.platform.gateway.timeouts.total_seconds
    try:
        async with aclosing(services.inference.task_chunks(task.id, deadline, after)) as chunks:
            async for chunk in chunks:
                if token not in (None, chunk.token):
                    yield b"event: restart\n" + sse.json_event({"object": "task.restart", "id": task.id})
                token = chunk.token
                passed = relay.pass_on(chunk.data, services.clock.now())
                if passed is not None:
                    yield b"id: " + chunk.cursor.encode() + b"\n" + passed
    except StokerError as error:
        yield relay.failed(error)
        return
    yield sse.event(sse.DONE)


async def _own(services: Services, key: Account, request: Request) -> Task:
    """The task of the path. A stranger's is as unknown as one that never was."""
    task_id = request.path_params["id"]
    try:
        task = await services.queue.get(TaskId(task_id))
    except NotFound:
        task = None
    if task is None or (task.tenant != key.tenant and key.role != "admin"):
        raise NotFound(f"there is no task {json.dumps(task_id)}", code="task_not_found")
    return task
