"""`/admin/v1`: what the owner of the platform sees and does. The admin key only."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, date, datetime
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.base.errors import InvalidInput
from stoker.base.ids import ModelName, TaskId
from stoker.gateway import accounts_api, costs_api, dead_letters, dead_letters_api, starts_api
from stoker.gateway.audited import Json, Making, Outcome, no_body
from stoker.gateway.services import Services
from stoker.gateway.tasks import shown
from stoker.meter.report import usage_report
from stoker.queue import State
from stoker.spec import read_section
from stoker.spec.requests import Pruning
from stoker.web.parameters import Choice, Number, Text, whole, whole_of
from stoker.web.server import JSONResponse, read_json

Handler = Callable[[Request], Awaitable[Response]]

MOST_TASKS = 1000
MOST_RECORDS = 5000
MOST_CHANGES = 1000
MOST_BODY_BYTES = 1 << 16

# Seconds since the epoch; beyond any time that there is.
_MOST_TIME = 1e12
TENANT = Text("tenant", "Only this tenant's.")
AGENT = Text("agent", "Only this agent's.")
RUN = Text("run", "Only this run's, with all below it.")
MODEL = Text("model", "Only this model's.")
SINCE = Number("since", 0, _MOST_TIME, "Only what ended then or later, in seconds since the epoch.")
UNTIL = Number("until", 0, _MOST_TIME, "Only what ended before, in seconds since the epoch.")
STATE = Choice("state", tuple(state.value for state in State), "Only tasks in this state.")
TASKS_LIMIT = whole("limit", 1, MOST_TASKS, 100, "How many at most.")
RECORDS_LIMIT = whole("limit", 1, MOST_RECORDS, 1000, "How many at most.")
KEY = Text("key", "Only what this key did: its id.")
DID = Text("did", "Only this, such as `keys.revoke`; `keys.*` for all that begin so.")
OBJECT = Text("object", "Only what was done to this, such as `key:key_1`; `team:research/*` for all that begin so.")
CHANGED_SINCE = Number("since", 0, _MOST_TIME, "Only then or later, in seconds since the epoch.")
CHANGED_UNTIL = Number("until", 0, _MOST_TIME, "Only before, in seconds since the epoch.")
AUDIT_LIMIT = whole("limit", 1, MOST_CHANGES, 100, "How many at most.")
_NEXT = "what `next` of the page before said"
# Of usage records and of changes: a time and an id.
AFTER = Text("after", f"Go on: {_NEXT}.", r"[0-9]{1,12}(\.[0-9]{1,12})?(e[+-]?[0-9]{1,2})?,[!-~]{1,128}", _NEXT)


def routes(services: Services) -> list[Route]:
    return [
        Route("/admin/v1/usage", _usage(services)),
        Route("/admin/v1/usage/records", _usage_records(services)),
        Route(
            "/admin/v1/usage/prune",
            services.changes.elsewhere("usage.prune", "usage", _prune_usage(services), _body),
            methods=["POST"],
        ),
        *costs_api.routes(services),
        *starts_api.routes(services),
        Route("/admin/v1/tasks", _tasks(services)),
        Route("/admin/v1/tasks/{id}", _task(services)),
        Route(
            "/admin/v1/tasks/{id}/retry",
            services.changes.elsewhere("tasks.retry", "task:{id}", _retry(services), no_body),
            methods=["POST"],
        ),
        *dead_letters_api.routes(services),
        Route("/admin/v1/replicas", _replicas(services)),
        Route("/admin/v1/audit", _audit(services)),
        *accounts_api.routes(services),
    ]


def _usage(services: Services) -> Handler:
    async def usage(request: Request) -> Response:
        await services.auth.admin(request)
        since, tenant, agent, run = SINCE.of(request), TENANT.of(request), AGENT.of(request), RUN.of(request)
        await services.settle_all()
        rows = await asyncio.to_thread(services.ledger.rows, since=since, tenant=tenant, agent=agent, run=run)
        return JSONResponse(usage_report(rows))

    return usage


def _usage_records(services: Services) -> Handler:
    """A page of records, in the order of their ends. `next` goes on after the last of them; null: there are no more."""

    async def records(request: Request) -> Response:
        await services.auth.admin(request)
        limit, tenant = whole_of(RECORDS_LIMIT, request), TENANT.of(request)
        since, until, after = SINCE.of(request), UNTIL.of(request), _after(request)
        if after is None:  # what comes in while somebody turns the pages would not change those that they have
            await services.settle_all()
        found = await asyncio.to_thread(
            services.ledger.page, since=since, until=until, tenant=tenant, after=after, limit=limit + 1
        )
        page = found[:limit]
        more = f"{page[-1].ended_at!r},{page[-1].id}" if len(found) > limit else None
        return JSONResponse({"records": [asdict(record) for record in page], "next": more})

    return records


_body = partial(read_json, max_bytes=MOST_BODY_BYTES)


def _prune_usage(services: Services) -> Making:
    """Many transactions, one for each day: so it is recorded as what is not in SQL is."""

    async def prune(_: Request, body: Json, outcome: Outcome) -> Response:
        asked = read_section(Pruning, body)
        today = datetime.fromtimestamp(services.clock.now(), UTC).date()
        await services.settle_all()
        pruned = await asyncio.to_thread(services.ledger.prune, _day(asked.before), today)
        outcome.after = {"before": asked.before, "pruned": pruned}
        return JSONResponse({"before": asked.before, "pruned": pruned})

    return prune


def _tasks(services: Services) -> Handler:
    async def tasks(request: Request) -> Response:
        await services.auth.admin(request)
        model = _model(services, request)
        state = STATE.of(request)
        found = await services.queue.list(
            model=model, state=None if state is None else State(state), limit=whole_of(TASKS_LIMIT, request)
        )
        return JSONResponse({"tasks": [shown(task) for task in found]})

    return tasks


def _task(services: Services) -> Handler:
    async def task(request: Request) -> Response:
        await services.auth.admin(request)
        found = await services.queue.get(TaskId(request.path_params["id"]))
        return JSONResponse({**shown(found), "result": found.result})

    return task


def _retry(services: Services) -> Making:
    async def retry(request: Request, _: Json, outcome: Outcome) -> Response:
        task = await services.queue.get(TaskId(request.path_params["id"]))
        replayed = await dead_letters.replay(services, task)
        outcome.before, outcome.after = {"state": task.state.value}, {"state": replayed.state.value}
        return JSONResponse(shown(replayed))

    return retry


def _replicas(services: Services) -> Handler:
    async def replicas(request: Request) -> Response:
        await services.auth.admin(request)
        return JSONResponse({"replicas": services.fleet.snapshot()})

    return replicas


def _audit(services: Services) -> Handler:
    """A page of records, the newest first. `next` goes on after the last of them; null: there are no more."""

    async def records(request: Request) -> Response:
        await services.auth.admin(request)
        limit = whole_of(AUDIT_LIMIT, request)
        found = await asyncio.to_thread(
            services.changes.trail.page,
            key_id=KEY.of(request),
            did=DID.of(request),
            object=OBJECT.of(request),
            since=CHANGED_SINCE.of(request),
            until=CHANGED_UNTIL.of(request),
            after=_after(request),
            limit=limit + 1,
        )
        page = found[:limit]
        more = f"{page[-1].at!r},{page[-1].id}" if len(found) > limit else None
        return JSONResponse({"records": [asdict(record) for record in page], "next": more})

    return records


def _model(services: Services, request: Request) -> ModelName | None:
    name = MODEL.of(request)
    return None if name is None else dead_letters.known_model(services, name)


def _after(request: Request) -> tuple[float, str] | None:
    text = AFTER.of(request)
    if text is None:
        return None
    ended_at, _, record_id = text.partition(",")
    return float(ended_at), record_id


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise InvalidInput(f"before is {text!r}; there is no such day", param="before") from exc
