"""`/admin/v1`: what the owner of the platform sees and does. The admin key only."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, date, datetime
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.base import logs
from stoker.base.errors import InvalidInput
from stoker.base.ids import ModelName, TaskId
from stoker.gateway import accounts_api, dead_letters, dead_letters_api
from stoker.gateway.services import Services
from stoker.gateway.tasks import shown
from stoker.meter.report import usage_report
from stoker.queue import State
from stoker.spec import read_section
from stoker.spec.requests import Pruning
from stoker.web.server import JSONResponse, read_json

Handler = Callable[[Request], Awaitable[Response]]

_log = logs.get(__name__)
MOST_TASKS = 1000
MOST_RECORDS = 5000
MOST_BODY_BYTES = 1 << 16


def routes(services: Services) -> list[Route]:
    return [
        Route("/admin/v1/usage", _usage(services)),
        Route("/admin/v1/usage/records", _usage_records(services)),
        Route("/admin/v1/usage/prune", _prune_usage(services), methods=["POST"]),
        Route("/admin/v1/tasks", _tasks(services)),
        Route("/admin/v1/tasks/{id}", _task(services)),
        Route("/admin/v1/tasks/{id}/retry", _retry(services), methods=["POST"]),
        Route("/admin/v1/replicas", _replicas(services)),
        *dead_letters_api.routes(services),
        *accounts_api.routes(services),
    ]


def _usage(services: Services) -> Handler:
    async def usage(request: Request) -> Response:
        await services.auth.admin(request)
        since = _number(request, "since", None)
        await services.settle_all()
        rows = await asyncio.to_thread(
            services.ledger.rows, since=since, tenant=request.query_params.get("tenant") or None
        )
        return JSONResponse(usage_report(rows))

    return usage


def _usage_records(services: Services) -> Handler:
    """A page of records, in the order of their ends. `next` goes on after the last of them; null: there are no more."""

    async def records(request: Request) -> Response:
        await services.auth.admin(request)
        limit = int(_number(request, "limit", 1000.0, least=1, most=MOST_RECORDS) or 1000)
        since, until, after = _number(request, "since", None), _number(request, "until", None), _after(request)
        if after is None:  # what comes in while somebody turns the pages would not change those that they have
            await services.settle_all()
        tenant = request.query_params.get("tenant") or None
        found = await asyncio.to_thread(
            services.ledger.page, since=since, until=until, tenant=tenant, after=after, limit=limit + 1
        )
        page = found[:limit]
        more = f"{page[-1].ended_at!r},{page[-1].id}" if len(found) > limit else None
        return JSONResponse({"records": [asdict(record) for record in page], "next": more})

    return records


def _prune_usage(services: Services) -> Handler:
    async def prune(request: Request) -> Response:
        by, body = await services.auth.admin_and_body(request, partial(read_json, max_bytes=MOST_BODY_BYTES))
        asked = read_section(Pruning, body)
        today = datetime.fromtimestamp(services.clock.now(), UTC).date()
        await services.settle_all()
        pruned = await asyncio.to_thread(services.ledger.prune, _day(asked.before), today)
        _log.info("admin change", by=by.id, did="usage.prune", before=asked.before, pruned=pruned)
        return JSONResponse({"before": asked.before, "pruned": pruned})

    return prune


def _tasks(services: Services) -> Handler:
    async def tasks(request: Request) -> Response:
        await services.auth.admin(request)
        model = _model(services, request)
        found = await services.queue.list(model=model, state=_state(request), limit=_limit(request))
        return JSONResponse({"tasks": [shown(task) for task in found]})

    return tasks


def _task(services: Services) -> Handler:
    async def task(request: Request) -> Response:
        await services.auth.admin(request)
        found = await services.queue.get(TaskId(request.path_params["id"]))
        return JSONResponse({**shown(found), "result": found.result})

    return task


def _retry(services: Services) -> Handler:
    async def retry(request: Request) -> Response:
        await services.auth.admin(request)
        task = await services.queue.get(TaskId(request.path_params["id"]))
        return JSONResponse(shown(await dead_letters.replay(services, task)))

    return retry


def _replicas(services: Services) -> Handler:
    async def replicas(request: Request) -> Response:
        await services.auth.admin(request)
        return JSONResponse({"replicas": services.fleet.snapshot()})

    return replicas


def _model(services: Services, request: Request) -> ModelName | None:
    name = request.query_params.get("model")
    return dead_letters.known_model(services, name) if name else None


def _state(request: Request) -> State | None:
    word = request.query_params.get("state")
    try:
        return State(word) if word else None
    except ValueError as exc:
        raise InvalidInput(f"state is {word!r}; it is one of {', '.join(State)}", param="state") from exc


def _after(request: Request) -> tuple[float, str] | None:
    text = request.query_params.get("after")
    if not text:
        return None
    ended_at, _, record_id = text.partition(",")
    try:
        found = float(ended_at), record_id
    except ValueError:
        found = math.nan, ""
    if not math.isfinite(found[0]) or not record_id:
        raise InvalidInput(f"after is {text[:80]!r}; it has to be what `next` of the page before said", param="after")
    return found


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise InvalidInput(f"before is {text!r}; there is no such day", param="before") from exc


def _limit(request: Request) -> int:
    return int(_number(request, "limit", 100.0, least=1, most=MOST_TASKS) or 100)


def _number(
    request: Request, name: str, default: float | None, *, least: float = 0.0, most: float = 1e12
) -> float | None:
    text = request.query_params.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise InvalidInput(f"{name} is {text!r}; it has to be a number from {least:g} to {most:g}", param=name)
    return value
