"""`/admin/v1/cost`: what machines cost, and for whom. The admin key only."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.gateway.services import Services
from stoker.meter import costs
from stoker.web.parameters import Number, Text, whole, whole_of
from stoker.web.server import JSONResponse

MOST_ROWS = 100_000
USUAL_S = 86400.0
# Seconds since the epoch; beyond any time that there is.
_MOST_TIME = 1e12
_NAMES = "|".join(costs.KEYS)
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
    return [Route("/admin/v1/cost", _cost(services))]


def _cost(services: Services) -> Callable[[Request], Awaitable[Response]]:
    async def cost(request: Request) -> Response:
        await services.auth.admin(request)
        until = UNTIL.of(request)
        until = services.clock.now() if until is None else until
        since = SINCE.of(request)
        asked = costs.asked_of(
            services.platform,
            by=BY.of(request) or "tenant",
            since=until - USUAL_S if since is None else since,
            until=until,
            most_rows=whole_of(LIMIT, request),
        )
        await services.settle_all()
        return JSONResponse(await services.costs.report(asked))

    return cost
