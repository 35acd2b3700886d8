"""`/admin/v1/cost`: what machines cost, and for whom. The admin key only."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.base.errors import InvalidInput
from stoker.gateway.services import Services
from stoker.meter import costs, savings, sources
from stoker.meter.bill_lines import Bill
from stoker.web.parameters import Number, Text, whole, whole_of
from stoker.web.server import JSONResponse, read_json

MOST_ROWS = 100_000
MOST_BODY_BYTES = 64 << 20
USUAL_S = 86400.0
# Seconds since the epoch; beyond any time that there is.
_MOST_TIME = 1e12
_NAMES = "|".join(costs.KEYS)
BY_DEFAULT = "tenant"
BY_PATTERN = rf"^({_NAMES})(,({_NAMES})){{0,{costs.MOST_KEYS - 1}}}$"
BY = Text(
    "by",
    f"What to sum by: one to {costs.MOST_KEYS} of {', '.join(costs.KEYS)}, with commas between. Default: tenant.",
    rf"({_NAMES})(,({_NAMES})){{0,{costs.MOST_KEYS - 1}}}",
    f"one to {costs.MOST_KEYS} different ones of {', '.join(costs.KEYS)}, with commas between",
)
SINCE = Number("since", 0, _MOST_TIME, "From then on, in seconds since the epoch. Default: a day before `until`.")
UNTIL = Number("until", 0, _MOST_TIME, "Up to then, in seconds since the epoch. Default: now.")
LIMIT = whole("limit", 1, MOST_ROWS, 1000, "How many rows at most; all others are one row more.")


def routes(services: Services) -> list[Route]:
    return [
        Route("/admin/v1/cost", _cost(services), methods=["GET"]),
        Route("/admin/v1/cost", _cost_of_bill(services), methods=["POST"]),
        Route("/admin/v1/cost/savings", _savings(services), methods=["GET"]),
    ]


def _cost(services: Services) -> Callable[[Request], Awaitable[Response]]:
    async def cost(request: Request) -> Response:
        await services.auth.admin(request)
        until = UNTIL.of(request)
        until = services.clock.now() if until is None else until
        since = SINCE.of(request)
        asked = costs.asked_of(
            services.platform,
            by=BY.of(request) or BY_DEFAULT,
            since=until - USUAL_S if since is None else since,
            until=until,
            most_rows=whole_of(LIMIT, request),
        )
        await services.settle_all()
        return JSONResponse(await services.costs.report(asked))

    return cost


def _cost_of_bill(services: Services) -> Callable[[Request], Awaitable[Response]]:
    """It changes nothing: it is a POST since a bill is too long for a query."""

    async def cost(request: Request) -> Response:
        await services.auth.admin(request)
        body = await read_json(request, max_bytes=MOST_BODY_BYTES)
        asked, bill = await asyncio.to_thread(_asked_of, services, body)
        await services.settle_all()
        taken = await asyncio.to_thread(sources.known_of, asked, bill, services.lives)
        found = await services.costs.report(asked, lines=taken.lines, source=taken.source)
        return JSONResponse(sources.with_left_out(found, taken))

    return cost


def _savings(services: Services) -> Callable[[Request], Awaitable[Response]]:
    async def found(request: Request) -> Response:
        await services.auth.admin(request)
        until = UNTIL.of(request)
        until = services.clock.now() if until is None else until
        since = SINCE.of(request)
        since = until - USUAL_S if since is None else since
        return JSONResponse(await asyncio.to_thread(savings.of_lives, services.lives, since=since, until=until))

    return found


def _asked_of(services: Services, body: dict[str, Any]) -> tuple[costs.Asked, Bill]:
    unknown = sorted(set(body) - {"by", "since", "until", "limit", "source", "lines", "if_known"})
    if unknown:
        raise InvalidInput(f"the unknown key {unknown[0]}", param=unknown[0])
    by, source = body.get("by", BY_DEFAULT), body.get("source", "bill")
    for name, text in (("by", by), ("source", source)):
        if not isinstance(text, str) or not 0 < len(text) <= 200:
            raise InvalidInput(f"{name} is {text!r}; it must be a text of at most 200 characters", param=name)
    since, until = (_time_of(body, name) for name in ("since", "until"))
    limit = body.get("limit", 1000)
    if type(limit) is not int or not 1 <= limit <= MOST_ROWS:
        raise InvalidInput(f"limit is {limit!r}; it must be a whole number from 1 to {MOST_ROWS}", param="limit")
    asked = costs.asked_of(services.platform, by=by, since=since, until=until, most_rows=limit)
    lines = sources.lines_of_json(body.get("lines"), "lines")
    return asked, Bill(source, lines, sources.lines_of_json(body.get("if_known", []), "if_known"))


def _time_of(body: dict[str, Any], name: str) -> float:
    found = body.get(name)
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 <= found <= _MOST_TIME:
        raise InvalidInput(f"{name} is {found!r}; it must be seconds since the epoch", param=name)
    return float(found)
