"""OpenAI's routes, under `/v1` and under each prefix (`/v1/code`)."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.base import json_text
from stoker.base.errors import NotFound, StokerError
from stoker.gateway import idempotency, recording, refusals, spans, streams
from stoker.gateway.auth import permitted_models
from stoker.gateway.endpoints import ENDPOINTS
from stoker.gateway.services import Services
from stoker.gateway.tasks import shown
from stoker.meter.accounts import Account
from stoker.spec import AUTO
from stoker.web.direct import Direct, DirectAnswer, DirectRequest, Failed, Handler
from stoker.web.server import JSONResponse, json_object

Page = Callable[[Request], Awaitable[Response]]


def routes(services: Services) -> list[Route]:
    prefixes: list[str | None] = [None, *services.platform.gateway.routes]
    return [route for prefix in prefixes for route in _under(services, prefix)]


def _under(services: Services, prefix: str | None) -> list[Route]:
    base = "/v1" if prefix is None else f"/v1/{prefix}"
    return [
        # Answered by `direct`; what comes here has another method, and is told so.
        *(Route(base + endpoint.removeprefix("/v1"), _not_here, methods=["POST"]) for endpoint in ENDPOINTS),
        Route(base + "/models", _list_models(services, prefix)),
        Route(base + "/models/{model:path}", _show_model(services, prefix)),
    ]


async def _not_here(_: Request) -> Response:
    raise NotFound("this path wants a POST")


def direct(services: Services) -> Direct:
    """The endpoints that generate, without a framework."""
    prefixes: list[str | None] = [None, *services.platform.gateway.routes]
    return Direct(
        {
            _path(prefix, endpoint): _generate(services, endpoint, prefix)
            for prefix in prefixes
            for endpoint in ENDPOINTS
        },
        max_body_bytes=services.platform.gateway.max_body_bytes,
        on_problem=lambda error: services.measures.refused(error.code),
    )


def _path(prefix: str | None, endpoint: str) -> str:
    return endpoint if prefix is None else f"/v1/{prefix}{endpoint.removeprefix('/v1')}"


def _generate(services: Services, endpoint: str, prefix: str | None) -> Handler:
    async def generate(request: DirectRequest) -> DirectAnswer:
        key, span = None, spans.begun(services.tracing, request.headers, services.clock.now(), request.turns)
        try:
            key = await services.auth.user(request)
            if (seen := request.headers.get(streams.LAST_EVENT)) is not None:
                headers, events = await streams.resumed(services, key, *streams.event_of(seen))
                if span is not None:
                    refusals.knows(span, _path(prefix, endpoint), key)
                    events = await recording.recorded(span, events, services.clock)
                return DirectAnswer(200, headers, events=events)
            body = json_object(request.body)
            once = await idempotency.once_of(request.headers, key, _path(prefix, endpoint), body)
            ask = await services.ask(request, key, endpoint, prefix, body, span)
        except BaseException as error:
            refusals.tell(span, _path(prefix, endpoint), key, error, services.clock.now())
            raise
        ask = ask if once is None else once.of(ask)
        headers = {"X-Request-Id": ask.id, "X-Stoker-Model": ask.model, "X-Stoker-Route": ask.route}
        try:
            is_resumable = streams.is_resumable(ask, request.headers)
            if once is not None:
                served = await idempotency.answered(services, key, ask, once, headers)
            elif is_resumable:
                served = await streams.begun(services, key, ask)
            else:
                served = await services.inference.run(ask)
        except StokerError as error:
            refusals.end(span, error, services.clock.now())
            raise Failed(error, {**headers, **services.inference.limits(ask)}) from error
        except BaseException as error:
            refusals.end(span, error, services.clock.now())
            raise
        if served.events is not None and span is not None and not span.ends_later:
            served.events = await recording.recorded(span, served.events, services.clock)
        refused = None if served.answer is None else refusals.code_of(served.answer)
        if refused is not None:
            services.measures.refused(refused)
        if span is not None and not span.ends_later:
            status = 202 if served.task is not None else 200 if served.answer is None else served.answer.status
            if span.with_content and served.answer is not None:
                spans.answered_by(span, served.answer.body)
            spans.answered_with(span, status, services.clock.now(), refused)
        headers.update(served.headers)
        headers["X-Stoker-Replica"] = served.replica or "queue"
        if served.task is not None:
            headers["Location"] = f"/v1/tasks/{served.task.id}"
            return DirectAnswer(202, headers, json_text.dumps(shown(served.task)))
        if served.events is not None:
            return DirectAnswer(200, headers, events=served.events)
        assert served.answer is not None  # noqa: S101 - one of the two is there by construction
        answer = served.answer
        retry_after = answer.headers.get("retry-after")
        if retry_after:
            headers["Retry-After"] = retry_after
        return DirectAnswer(answer.status, headers, answer.body)

    return generate


def _list_models(services: Services, prefix: str | None) -> Page:
    async def list_models(request: Request) -> Response:
        account = await services.auth.user(request)
        names = _names(services, account, prefix)
        return JSONResponse({"object": "list", "data": [_card(services, name) for name in names]})

    return list_models


def _show_model(services: Services, prefix: str | None) -> Page:
    async def show_model(request: Request) -> Response:
        account = await services.auth.user(request)
        name = request.path_params["model"]
        known = _names(services, account, prefix)
        if name not in known:
            raise NotFound(f"there is no model {name!r}; the models are: {', '.join(known)}", code="model_not_found")
        return JSONResponse(_card(services, name))

    return show_model


def _names(services: Services, account: Account, prefix: str | None) -> list[str]:
    """What this client may write as `model` here: the models and their aliases, and `auto`. Raises NotPermitted."""
    models, routes = services.platform.llm.models, services.platform.gateway.routes
    there = list(models) if prefix is None else [routes[prefix]]
    chosen = permitted_models(account, prefix, routes, there)
    shared = services.platform.gateway.weights if prefix is None else {}
    weighted = [name for name, shares in shared.items() if any(shares.get(model) for model in chosen)]
    return [*chosen, *(alias for name in chosen for alias in models[name].aliases), *weighted, AUTO]


def _card(services: Services, name: str) -> dict[str, object]:
    # OpenAI's shape; the time is that of the start, since a model of ours has no other date.
    return {"id": name, "object": "model", "created": int(services.started_at), "owned_by": "stoker"}
