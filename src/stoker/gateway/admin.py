"""`/admin/v1`: what the owner of the platform sees and does. The admin key only."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stoker.base.errors import InvalidInput, NotFound
from stoker.base.ids import ModelName, TaskId
from stoker.gateway import accounts_api
from stoker.gateway.services import Services
from stoker.gateway.tasks import shown
from stoker.meter.report import usage_report
from stoker.queue import State

Handler = Callable[[Request], Awaitable[Response]]
MOST_TASKS = 1000


def routes(services: Services) -> list[Route]:
    return [
        Route("/admin/v1/usage", _usage(services)),
        Route("/admin/v1/tasks", _tasks(services)),
        Route("/admin/v1/tasks/{id}", _task(services)),
        Route("/admin/v1/tasks/{id}/retry", _retry(services), methods=["POST"]),
        Route("/admin/v1/dead", _dead(services)),
        Route("/admin/v1/replicas", _replicas(services)),
        *accounts_api.routes(services),
    ]


def _usage(services: Services) -> Handler:
    async def usage(request: Request) -> Response:
        await services.auth.admin(request)
        since = _number(request, "since", None)
        await services.settler.settle_all()
        rows = await asyncio.to_thread(
            services.ledger.rows, since=since, tenant=request.query_params.get("tenant") or None
        )
        return JSONResponse(usage_report(rows))

    return usage


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
        # It spends anew, so it is let in anew, in the name of whoever submitted it.
        account = await asyncio.to_thread(services.keys.account_of, task.key_id)
        terms = services.terms.of(account, task.session, task.run)
        quote = services.quote(task.model, task.body, is_elastic=False)
        return JSONResponse(shown(await services.inference.replay(task, terms, quote)))

    return retry


def _dead(services: Services) -> Handler:
    async def dead(request: Request) -> Response:
        await services.auth.admin(request)
        model = _model(services, request)
        models = [model] if model else [ModelName(name) for name in services.platform.llm.models]
        found = [task for name in models for task in await services.queue.dead(name, limit=_limit(request))]
        return JSONResponse({"tasks": [shown(task) for task in found]})

    return dead


def _replicas(services: Services) -> Handler:
    async def replicas(request: Request) -> Response:
        await services.auth.admin(request)
        return JSONResponse({"replicas": services.fleet.snapshot()})

    return replicas


def _model(services: Services, request: Request) -> ModelName | None:
    name = request.query_params.get("model")
    if not name:
        return None
    models = services.platform.llm.models
    if name not in models:
        raise NotFound(f"there is no model {name!r}; the models are: {', '.join(models)}", code="model_not_found")
    return ModelName(name)


def _state(request: Request) -> State | None:
    word = request.query_params.get("state")
    try:
        return State(word) if word else None
    except ValueError as exc:
        raise InvalidInput(f"state is {word!r}; it is one of {', '.join(State)}", param="state") from exc


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
