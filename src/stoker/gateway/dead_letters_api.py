"""`/admin/v1/dead`: dead letters over HTTP, for the admin key. What is done with them is in `dead_letters`."""

from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.base.errors import Conflict, InvalidInput, NotFound
from stoker.base.ids import ModelName, TaskId
from stoker.gateway import dead_letters
from stoker.gateway.dead_letters import Chosen, Outcome
from stoker.gateway.services import Services
from stoker.gateway.tasks import Handler, shown
from stoker.queue import State, Which
from stoker.spec import read_section
from stoker.spec.requests import Dropping, FromSqs, Letters
from stoker.web.server import JSONResponse, read_json

Json = dict[str, Any]
L = TypeVar("L", bound=Letters)

MOST = 1000
MOST_BODY_BYTES = 1 << 17
# What a listing may be narrowed by: the names of `Letters`.
_FILTERS = ("model", "tenant", "reason", "older_than", "newer_than")


def routes(services: Services) -> list[Route]:
    return [
        Route("/admin/v1/dead", _list(services)),
        Route("/admin/v1/dead/replay", _replay(services), methods=["POST"]),
        Route("/admin/v1/dead/drop", _drop(services), methods=["POST"]),
        Route("/admin/v1/dead/dropped", _dropped(services)),
        Route("/admin/v1/dead/replay-from-sqs", _replay_from_sqs(services), methods=["POST"]),
        Route("/admin/v1/dead/{id}", _show(services)),
    ]


def _list(services: Services) -> Handler:
    async def dead(request: Request) -> Response:
        await services.auth.admin(request)
        query = request.query_params
        asked = _filters(request)
        found, more = await dead_letters.page(
            services,
            _models(services, asked.model),
            _which(services, asked),
            after=query.get("after") or None,
            limit=_limit(query.get("limit")),
        )
        answer = {"tasks": [shown(task) for task in found], "next": more, "forwarding": await _forwarding(services)}
        return JSONResponse(answer)

    return dead


def _show(services: Services) -> Handler:
    """One letter with all its attempts; `?body=true`: with what was asked, which may be private."""

    async def show(request: Request) -> Response:
        await services.auth.admin(request)
        task = await services.queue.get(TaskId(request.path_params["id"]))
        if task.state not in (State.DEAD, State.FORWARDED, State.DROPPED):
            raise NotFound(f"task {task.id} is {task.state}; it has no dead letter", code="not_dead")
        answer = {**shown(task), "replays": task.replays}
        if _flag(request, "body"):
            answer["body"] = task.body or None
        return JSONResponse(answer)

    return show


def _replay(services: Services) -> Handler:
    async def replay(request: Request) -> Response:
        _, body = await services.auth.admin_and_body(request, partial(read_json, max_bytes=MOST_BODY_BYTES))
        asked = read_section(Letters, body)
        outcome = await dead_letters.replay_many(services, _chosen(services, asked))
        return JSONResponse(_outcome(outcome, "replayed"))

    return replay


def _drop(services: Services) -> Handler:
    async def drop(request: Request) -> Response:
        by, body = await services.auth.admin_and_body(request, partial(read_json, max_bytes=MOST_BODY_BYTES))
        asked = read_section(Dropping, body)
        outcome = await dead_letters.drop_many(services, _chosen(services, asked), by=by.id, why=asked.why)
        return JSONResponse(_outcome(outcome, "dropped"))

    return drop


def _dropped(services: Services) -> Handler:
    async def dropped(request: Request) -> Response:
        await services.auth.admin(request)
        found = await services.queue.dropped(limit=_limit(request.query_params.get("limit")))
        return JSONResponse({"dropped": [asdict(entry) for entry in found]})

    return dropped


def _replay_from_sqs(services: Services) -> Handler:
    async def replay(request: Request) -> Response:
        _, body = await services.auth.admin_and_body(request, partial(read_json, max_bytes=MOST_BODY_BYTES))
        asked = read_section(FromSqs, body)
        if services.sqs is None:
            raise Conflict(
                "dead letters are not sent to SQS here, so none come back",
                hint="keda.scalers.sqs: true in platform.yaml switches it on",
                code="sqs_is_off",
            )
        outcome = await dead_letters.replay_from_sqs(services, services.sqs, most=asked.most)
        return JSONResponse(_outcome(outcome, "replayed"))

    return replay


async def _forwarding(services: Services) -> Json | None:
    """What waits to go to SQS and how that goes; None where dead letters stay in Redis."""
    if services.sqs is None:
        return None
    waiting = 0
    for model in services.platform.llm.models:
        waiting += (await services.queue.depth(ModelName(model))).dead
    said = await services.queue.forwarding()
    return {"queue": services.sqs.name, "waiting": waiting, **(said or {"state": "starting"})}


def _outcome(outcome: Outcome, done: str) -> Json:
    return {done: outcome.done, "refused": outcome.refused, "stopped": outcome.stopped, "more": outcome.more}


def _filters(request: Request) -> Letters:
    """What the query says. Raises InvalidInput."""
    said: Json = {name: request.query_params[name] for name in _FILTERS if request.query_params.get(name)}
    for name in ("older_than", "newer_than"):
        if name in said:
            said[name] = _number(name, said[name])
    return read_section(Letters, {**said, "all": True})


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise InvalidInput(f"{name} is {text[:80]!r}; it has to be a number of seconds", param=name) from exc


def _chosen(services: Services, asked: Letters) -> Chosen:
    ids = [TaskId(each) for each in dict.fromkeys(asked.ids)]
    return Chosen(_models(services, asked.model), _which(services, asked), asked.most, ids)


def _models(services: Services, model: str | None) -> list[ModelName]:
    if model is not None:
        return [dead_letters.known_model(services, model)]
    return [ModelName(name) for name in services.platform.llm.models]


def _which(services: Services, asked: Letters) -> Which:
    now = services.clock.now()
    return Which(
        tenant=asked.tenant,
        code=asked.reason,
        died_before=None if asked.older_than is None else now - asked.older_than,
        died_after=None if asked.newer_than is None else now - asked.newer_than,
    )


def _limit(text: str | None) -> int:
    if text is None:
        return 100
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:5]) <= MOST and len(text) < 5):
        raise InvalidInput(f"limit is {text[:80]!r}; it has to be a number from 1 to {MOST}", param="limit")
    return int(text)


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false")
    if text not in ("true", "false"):
        raise InvalidInput(f"{name} is {text[:80]!r}; it has to be true or false", param=name)
    return text == "true"
