"""The gateway as an application: every route, in the order in which they are tried."""

import asyncio
import functools

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.base import json_text, logs
from stoker.base.errors import StokerError
from stoker.base.ids import ModelName
from stoker.gateway import admin, agents, batches, files, openai, openapi, streams, tasks, ws
from stoker.gateway.services import Services
from stoker.queue import Depth
from stoker.telemetry import metrics
from stoker.web.server import JSONResponse, application

_log = logs.get(__name__)

# Less than KEDA (3 s) and Prometheus (10 s) wait for all metrics.
DEPTHS_WITHIN_S = 2.0


def create(services: Services) -> Starlette:
    @functools.cache
    def document() -> bytes:
        return json_text.dumps(openapi.document(services.platform))  # for the first who asks: it takes a while

    async def health(_: Request) -> Response:
        """This process runs."""
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        """Each model has a replica, or gets one with the first request, so requests of every kind are answered."""
        platform, up = services.platform, services.fleet.models_up()
        missing = sorted(
            model for model in platform.llm.models if model not in up and not platform.may_be_at_zero(model)
        )
        return JSONResponse({"ready": not missing, "up": sorted(up), "missing": missing}, 503 if missing else 200)

    async def exposition(_: Request) -> Response:
        await measure(services)
        return Response(services.measures.metrics.text(), media_type=metrics.CONTENT_TYPE)

    async def described(_: Request) -> Response:
        return Response(document(), media_type="application/json")

    return application(
        [
            Route("/health", health),
            Route("/ready", ready),
            Route("/metrics", exposition),
            Route("/openapi.json", described),
            *tasks.routes(services),
            *streams.routes(services),
            *ws.routes(services),
            *files.routes(services),
            *batches.routes(services),
            *openai.routes(services),
            *admin.routes(services),
            *agents.routes(
                services.auth,
                services.agents,
                services.clock,
                max_body_bytes=services.platform.gateway.max_body_bytes,
                refused=services.measures.refused,
                tracing=services.tracing,
            ),
        ],
        on_problem=lambda error: services.measures.refused(error.code),
    )


async def measure(services: Services) -> None:
    """Into the metrics, what is known only when somebody asks."""
    models = services.platform.llm.models
    services.measures.replicas(models, services.fleet.breakers())
    services.measures.in_flight(models, services.fleet.in_flight())
    services.measures.queued(*await asyncio.gather(depths(services), oldest(services)))


async def oldest(services: Services) -> dict[str, float]:
    """By model, the seconds for which the oldest task has waited; nothing while Redis does not answer."""
    names = [ModelName(name) for name in services.platform.llm.models]
    try:
        async with asyncio.timeout(DEPTHS_WITHIN_S):
            found = await asyncio.gather(*map(services.queue.oldest, names))
    except (StokerError, TimeoutError):
        return {}  # `depths` says so
    now = services.clock.now()
    return {name: 0.0 if at is None else max(0.0, now - at) for name, at in zip(names, found, strict=True)}


async def depths(services: Services) -> dict[str, tuple[Depth, int]]:
    """None while Redis does not answer: the other metrics are of use then."""
    queue = services.queue
    names = [ModelName(name) for name in services.platform.llm.models]
    try:
        async with asyncio.timeout(DEPTHS_WITHIN_S):
            # Together: they go to Redis as one batch.
            depths, tokens = await asyncio.gather(
                asyncio.gather(*map(queue.depth, names)), asyncio.gather(*map(queue.waiting_tokens, names))
            )
    except (StokerError, TimeoutError) as error:
        _log.warning("the queue's depth is not known", error=str(error) or "Redis is silent")
        return {}
    return dict(zip(names, zip(depths, tokens, strict=True), strict=True))
