"""`/admin/v1/starts`: how machines and replicas started, and what that cost. The admin key only."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.gateway.services import Services
from stoker.meter import starts
from stoker.web.parameters import Number, Text, whole, whole_of
from stoker.web.server import JSONResponse

MOST_STARTS = 1000
USUAL_S = 86400.0
_MOST_TIME = 1e12
MODEL = Text("model", "Only replicas of this model.")
SINCE = Number(
    "since", 0, _MOST_TIME, "Begun then or later, in seconds since the epoch. Default: a day before `until`."
)
UNTIL = Number("until", 0, _MOST_TIME, "Begun before, in seconds since the epoch. Default: now.")
LIMIT = whole("limit", 1, MOST_STARTS, 100, "How many starts at most; the summary is of all.")


def routes(services: Services) -> list[Route]:
    return [Route("/admin/v1/starts", _starts(services))]


def _starts(services: Services) -> Callable[[Request], Awaitable[Response]]:
    async def found(request: Request) -> Response:
        await services.auth.admin(request)
        until = UNTIL.of(request)
        until = services.clock.now() if until is None else until
        since = SINCE.of(request)
        return JSONResponse(
            await asyncio.to_thread(
                starts.report,
                services.lives,
                since=until - USUAL_S if since is None else since,
                until=until,
                model=MODEL.of(request),
                most=whole_of(LIMIT, request),
            )
        )

    return found
