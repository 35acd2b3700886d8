"""What Kubernetes and Prometheus ask of a process of agents: `/health` and `/metrics`. No key is asked for either."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.telemetry.metrics import CONTENT_TYPE, Metrics
from stoker.web import server
from stoker.web.server import JSONResponse


async def nothing() -> None:
    """What is counted is known at any time."""


def routes(metrics: Metrics, refresh: Callable[[], Awaitable[None]] = nothing) -> list[Route]:
    """`refresh` sets what is known only when somebody asks."""

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def exposition(_: Request) -> Response:
        await refresh()
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return [Route("/health", health), Route("/metrics", exposition)]


@contextlib.asynccontextmanager
async def answering(metrics: Metrics, port: int | None, host: str = "0.0.0.0") -> AsyncIterator[str | None]:  # noqa: S104 - of its pod
    """Within the block a worker, which serves nothing else, answers them; with None it does not. Gives its URL."""
    if port is None:
        yield None
        return
    over = asyncio.Event()
    listening = server.bind(host, port)
    serving = asyncio.create_task(server.serve(server.application(routes(metrics)), listening, over, grace_s=1.0))
    try:
        yield server.url_of(listening)
    finally:
        over.set()
        await serving
