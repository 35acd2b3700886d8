"""The gateway as an application: every route, in the order in which they are tried."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.base import json_text
from stoker.gateway import admin, batches, files, openai, openapi, streams, tasks, ws
from stoker.gateway.services import Services
from stoker.telemetry import metrics
from stoker.web.server import JSONResponse, application


def create(services: Services) -> Starlette:
    document = json_text.dumps(openapi.document(services.platform))

    async def health(_: Request) -> Response:
        """This process runs."""
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        """Each model has a replica, so requests of every kind are answered."""
        up = services.fleet.models_up()
        missing = sorted(set(services.platform.llm.models) - up)
        return JSONResponse({"ready": not missing, "up": sorted(up), "missing": missing}, 503 if missing else 200)

    async def exposition(_: Request) -> Response:
        services.measures.replicas(services.platform.llm.models, services.fleet.breakers())
        return Response(services.measures.metrics.text(), media_type=metrics.CONTENT_TYPE)

    async def described(_: Request) -> Response:
        return Response(document, media_type="application/json")

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
        ],
        on_problem=lambda error: services.measures.refused(error.code),
    )
