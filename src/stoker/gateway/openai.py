"""OpenAI's routes, under `/v1` and under each prefix (`/v1/code`)."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stoker.base.errors import NotFound, StokerError
from stoker.gateway.auth import permitted_models
from stoker.gateway.endpoints import ENDPOINTS
from stoker.gateway.inference import Served
from stoker.gateway.services import Services
from stoker.meter.accounts import Account
from stoker.spec import AUTO
from stoker.web.server import read_json, while_connected
from stoker.web.sse import EventStream

Handler = Callable[[Request], Awaitable[Response]]


def routes(services: Services) -> list[Route]:
    prefixes: list[str | None] = [None, *services.platform.gateway.routes]
    return [route for prefix in prefixes for route in _under(services, prefix)]


def _under(services: Services, prefix: str | None) -> list[Route]:
    base = "/v1" if prefix is None else f"/v1/{prefix}"
    return [
        *(
            Route(base + endpoint.removeprefix("/v1"), _generate(services, endpoint, prefix), methods=["POST"])
            for endpoint in ENDPOINTS
        ),
        Route(base + "/models", _list_models(services, prefix)),
        Route(base + "/models/{model:path}", _show_model(services, prefix)),
    ]


def _generate(services: Services, endpoint: str, prefix: str | None) -> Handler:
    async def generate(request: Request) -> Response:
        key = await services.auth.user(request)
        body = await read_json(request, max_bytes=services.platform.gateway.max_body_bytes)
        ask = await services.ask(request, key, endpoint, prefix, body)
        headers = {"X-Request-Id": ask.id, "X-Stoker-Model": ask.model, "X-Stoker-Route": ask.route}
        request.state.headers = headers  # for an answer that is an error, too
        try:
            served = await while_connected(request, services.inference.run(ask), unwanted=Served.aclose)
        except StokerError:
            headers.update(services.inference.limits(ask))
            raise
        return _response(served, {**headers, **served.headers, "X-Stoker-Replica": served.replica or "queue"})

    return generate


def _response(served: Served, headers: dict[str, str]) -> Response:
    if served.events is not None:
        return EventStream(served.events, headers=headers)
    assert served.answer is not None  # noqa: S101 - one of the two is there by construction
    answer = served.answer
    retry_after = answer.headers.get("retry-after")
    if retry_after:
        headers["Retry-After"] = retry_after
    return Response(answer.body, answer.status, headers, media_type="application/json")


def _list_models(services: Services, prefix: str | None) -> Handler:
    async def list_models(request: Request) -> Response:
        account = await services.auth.user(request)
        names = _names(services, account, prefix)
        return JSONResponse({"object": "list", "data": [_card(services, name) for name in names]})

    return list_models


def _show_model(services: Services, prefix: str | None) -> Handler:
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
    return [*chosen, *(alias for name in chosen for alias in models[name].aliases), AUTO]


def _card(services: Services, name: str) -> dict[str, object]:
    # OpenAI's shape; the time is that of the start, since a model of ours has no other date.
    return {"id": name, "object": "model", "created": int(services.started_at), "owned_by": "stoker"}
