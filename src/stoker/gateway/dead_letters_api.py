"""`/admin/v1/dead`: dead letters over HTTP, for the admin key. What is done with them is in `dead_letters`.

Each change of many is one record in the audit log, with each task's state before and after.
"""

from dataclasses import asdict
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from stoker.base.errors import Conflict, NotFound
from stoker.base.ids import ModelName, TaskId
from stoker.gateway import audited, dead_letters
from stoker.gateway.audited import Making
from stoker.gateway.dead_letters import Chosen, Outcome
from stoker.gateway.services import Services
from stoker.gateway.tasks import Handler, shown
from stoker.queue import Which
from stoker.spec import read_section
from stoker.spec.requests import MOST_AGE_S, Dropping, FromSqs, Letters
from stoker.spec.section import NAME_PATTERN
from stoker.web.parameters import Number, Text, flag, whole, whole_of
from stoker.web.server import JSONResponse, read_json

Json = dict[str, Any]

MOST = 1000
MOST_BODY_BYTES = 1 << 17
_NEXT = "what `next` of the page before said"
# What a listing may be narrowed by, as `Letters` may.
MODEL = Text("model", "Only this model's.")
TENANT = Text("tenant", "Only this tenant's.")
REASON = Text("reason", "Only those whose error has this code.")
OLDER_THAN = Number("older_than", 0, MOST_AGE_S, "Only what died longer ago, in seconds.", of_what=" of seconds")
NEWER_THAN = Number("newer_than", 0, MOST_AGE_S, "Only what died since, in seconds.", of_what=" of seconds")
AFTER = Text("after", f"Go on: {_NEXT}.", rf"{NAME_PATTERN[1:-1]}:([0-9]{{1,15}}-[0-9]{{1,15}})?", _NEXT)
LIMIT = whole("limit", 1, MOST, 100, "How many at most.")
BODY = flag("body", "With what was asked, which may be private.")

_CHANGES = ("replay", "drop", "replay-from-sqs")


class _Letter(Route):
    """Of one letter by its id. What is changed by POST has no id, and is not possible by GET."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        if match is not Match.NONE and found["path_params"]["id"] in _CHANGES:
            return Match.NONE, {}
        return match, found


def routes(services: Services) -> list[Route]:
    read = partial(read_json, max_bytes=MOST_BODY_BYTES)

    def change(word: str, make: Making) -> Route:
        handler = services.changes.elsewhere(f"dead.{word}", _object, make, read)
        return Route(f"/admin/v1/dead/{word}", handler, methods=["POST"])

    return [
        Route("/admin/v1/dead", _list(services)),
        change("replay", _replay(services)),
        change("drop", _drop(services)),
        change("replay-from-sqs", _replay_from_sqs(services)),
        Route("/admin/v1/dead/dropped", _dropped(services)),
        _Letter("/admin/v1/dead/{id}", _show(services)),
    ]


def _object(body: Json) -> str:
    """What a change is of: one task where one is named, else those that are dead."""
    ids = body.get("ids")
    return f"task:{ids[0]}" if isinstance(ids, list) and len(ids) == 1 and isinstance(ids[0], str) else "dead"


def _list(services: Services) -> Handler:
    async def dead(request: Request) -> Response:
        await services.auth.admin(request)
        tenant, reason = TENANT.of(request), REASON.of(request)
        which = _which(services, tenant, reason, OLDER_THAN.of(request), NEWER_THAN.of(request))
        after, limit = AFTER.of(request), whole_of(LIMIT, request)
        found, more = await dead_letters.page(
            services, _models(services, MODEL.of(request)), which, after=after, limit=limit
        )
        answer = {"tasks": [shown(task) for task in found], "next": more, "forwarding": await _forwarding(services)}
        return JSONResponse(answer)

    return dead


def _show(services: Services) -> Handler:
    """One letter with all its attempts."""

    async def show(request: Request) -> Response:
        await services.auth.admin(request)
        task = await services.queue.get(TaskId(request.path_params["id"]))
        if not task.state.has_failed:
            raise NotFound(f"task {task.id} is {task.state}; it has no dead letter", code="not_dead")
        answer = {**shown(task), "replays": task.replays}
        if BODY.of(request) == "true":
            answer["body"] = task.body or None
        return JSONResponse(answer)

    return show


def _replay(services: Services) -> Making:
    async def replay(_: Request, body: Json, record: audited.Outcome) -> Response:
        asked = read_section(Letters, body)
        outcome = await dead_letters.replay_many(services, _chosen(services, asked))
        return _answer(outcome, "replayed", record)

    return replay


def _drop(services: Services) -> Making:
    async def drop(_: Request, body: Json, record: audited.Outcome) -> Response:
        asked = read_section(Dropping, body)
        outcome = await dead_letters.drop_many(services, _chosen(services, asked), by=record.by, why=asked.why)
        return _answer(outcome, "dropped", record)

    return drop


def _dropped(services: Services) -> Handler:
    async def dropped(request: Request) -> Response:
        await services.auth.admin(request)
        found = await services.queue.dropped(limit=whole_of(LIMIT, request))
        return JSONResponse({"dropped": [asdict(entry) for entry in found]})

    return dropped


def _replay_from_sqs(services: Services) -> Making:
    async def replay(_: Request, body: Json, record: audited.Outcome) -> Response:
        asked = read_section(FromSqs, body)
        if services.sqs is None:
            raise Conflict(
                "dead letters are not sent to SQS here, so none come back",
                hint="keda.scalers.sqs: true in platform.yaml switches it on",
                code="sqs_is_off",
            )
        outcome = await dead_letters.replay_from_sqs(services, services.sqs, most=asked.most)
        return _answer(outcome, "replayed", record)

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


def _answer(outcome: Outcome, did: str, record: audited.Outcome) -> Response:
    """The answer, and what of it the record keeps: nothing where nothing was changed."""
    if outcome.done:
        record.before = {task_id: {"state": before.value} for task_id, (before, _) in outcome.done.items()}
        record.after = {task_id: {"state": after.value} for task_id, (_, after) in outcome.done.items()}
    said = {did: list(outcome.done), "refused": outcome.refused, "stopped": outcome.stopped, "more": outcome.more}
    return JSONResponse(said)


def _chosen(services: Services, asked: Letters) -> Chosen:
    ids = [TaskId(each) for each in dict.fromkeys(asked.ids)]
    which = _which(services, asked.tenant, asked.reason, asked.older_than, asked.newer_than)
    return Chosen(_models(services, asked.model), which, asked.most, ids)


def _models(services: Services, model: str | None) -> list[ModelName]:
    if model is not None:
        return [dead_letters.known_model(services, model)]
    return [ModelName(name) for name in services.platform.llm.models]


def _which(
    services: Services, tenant: str | None, reason: str | None, older_than: float | None, newer_than: float | None
) -> Which:
    now = services.clock.now()
    return Which(
        tenant=tenant,
        code=reason,
        died_before=None if older_than is None else now - older_than,
        died_after=None if newer_than is None else now - newer_than,
    )
