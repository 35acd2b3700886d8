"""`/v1/batches`: OpenAI's batches. Many requests in a file, each a task of its own; `batch_driver.py` does them."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.base.errors import InvalidInput, NotFound, NotPermitted
from stoker.gateway import files
from stoker.gateway.endpoints import ENDPOINTS
from stoker.gateway.services import Services, caller
from stoker.meter.accounts import Account
from stoker.meter.batches import Batch, NewBatch
from stoker.web.parameters import whole, whole_of
from stoker.web.server import JSONResponse, read_json

Json = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]

LIMIT = whole("limit", 1, 100, 20, "How many at most.")
# OpenAI's own bounds of what a client may write down with a batch.
MOST_METADATA, LONGEST_NAME, LONGEST_VALUE = 16, 64, 512
# From 1m to 7d, as the OpenAPI document has it.
WINDOW_PATTERN = (
    "([1-9][0-9]{0,3}|100[0-7][0-9]|10080)m|([1-9][0-9]?|1[0-5][0-9]|16[0-8])h|[1-7]d"  # 10080 minutes, 168 hours
)
_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86400.0}
TIMES = (
    *("created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at"),
    *("failed_at", "expired_at", "cancelling_at", "cancelled_at"),
)
_KNOWN = ("input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after")


def routes(services: Services) -> list[Route]:
    return [
        Route("/v1/batches", _create(services), methods=["POST"]),
        Route("/v1/batches", _list(services), methods=["GET"]),
        Route("/v1/batches/{id}", _show(services), methods=["GET"]),
        Route("/v1/batches/{id}/cancel", _cancel(services), methods=["POST"]),
    ]


def shown(batch: Batch) -> Json:
    """As OpenAI's SDKs read it. `usage` is that of the requests that were completed."""
    times = {name: _whole(getattr(batch, name)) for name in TIMES}
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": None if batch.errors is None else {"object": "list", "data": batch.errors},
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        **times,
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": {
            "input_tokens": batch.prompt_tokens,
            "input_tokens_details": {"cached_tokens": batch.cached_tokens},
            "output_tokens": batch.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": batch.prompt_tokens + batch.completion_tokens,
        },
        "metadata": batch.metadata,
    }


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _create(services: Services) -> Handler:
    read = partial(read_json, max_bytes=services.platform.gateway.max_body_bytes)

    async def create(request: Request) -> Response:
        key, sent = await services.auth.user_and_body(request, read)
        if key.grant is not None:  # its lines would be asked in the name of the key, outside of the run's limits
            raise NotPermitted("a run's grant may not begin batches", hint="make a request for each line")
        new = _wanted(request, key, sent)
        await _check_file(services, key, new.input_file_id)
        most = services.platform.gateway.batches.per_tenant
        made = await asyncio.to_thread(partial(services.batches.create, new, most_open=most))
        services.batch_news.set()
        return JSONResponse(shown(made))

    return create


def _wanted(request: Request, key: Account, sent: Json) -> NewBatch:
    """Raises InvalidInput."""
    unknown = sorted(set(sent) - set(_KNOWN))
    if unknown:
        raise InvalidInput(f"there is no {unknown[0][:40]!r}; there are: {', '.join(_KNOWN)}", param=unknown[0][:40])
    input_file_id, endpoint = sent.get("input_file_id"), sent.get("endpoint")
    if not isinstance(input_file_id, str):
        raise InvalidInput(
            f"input_file_id {_said(input_file_id)}; it has to be the id of a file with purpose batch",
            param="input_file_id",
        )
    if not isinstance(endpoint, str) or endpoint not in ENDPOINTS:
        raise InvalidInput(f"endpoint {_said(endpoint)}; it has to be one of {', '.join(ENDPOINTS)}", param="endpoint")
    by = caller(request, key, {})
    keeps = sent.get("output_expires_after")
    return NewBatch(
        tenant=key.tenant,
        key_id=key.id,
        endpoint=endpoint,
        input_file_id=input_file_id,
        completion_window=str(sent.get("completion_window")),
        window_s=_window_s(sent.get("completion_window")),
        session=by.session,
        run=by.run,
        metadata=_metadata(sent.get("metadata")),
        output_expires_s=files.BATCH_KEPT_S if keeps is None else files.checked_kept_s(keeps, "output_expires_after"),
    )


def _said(value: object) -> str:
    return "is missing" if value is None else f"is {json.dumps(value)[:80]}"


def _window_s(window: object) -> float:
    if not isinstance(window, str) or not re.fullmatch(WINDOW_PATTERN, window):
        raise InvalidInput(
            f"completion_window {_said(window)}; it has to be a time such as 24h, 30m or 2d, from 1m to 7d",
            param="completion_window",
        )
    return int(window[:-1]) * _SECONDS[window[-1]]


def _metadata(sent: object) -> dict[str, str] | None:
    if sent is None:
        return None
    if not isinstance(sent, dict) or len(sent) > MOST_METADATA:
        raise InvalidInput(f"metadata has to be an object of at most {MOST_METADATA} texts", param="metadata")
    for name, value in sent.items():
        if len(name) > LONGEST_NAME or not isinstance(value, str) or len(value) > LONGEST_VALUE:
            raise InvalidInput(
                f"metadata.{name[:LONGEST_NAME]}: a name has at most {LONGEST_NAME} characters, and a value is a text "
                f"of at most {LONGEST_VALUE}",
                param="metadata",
            )
    return sent


async def _check_file(services: Services, key: Account, file_id: str) -> None:
    """Whatever an admin may see, a batch is of its own tenant's file. Raises InvalidInput."""
    try:
        file = await asyncio.to_thread(partial(services.files.get, file_id, tenant=key.tenant))
    except NotFound:
        raise InvalidInput(
            f"there is no file {file_id[:80]!r}", param="input_file_id", code="file_not_found", hint="upload it first"
        ) from None
    if file.purpose != files.BATCH:
        raise InvalidInput(
            f"file {file.id} has the purpose {file.purpose}; the input of a batch has the purpose batch",
            param="input_file_id",
        )


def _list(services: Services) -> Handler:
    async def list_batches(request: Request) -> Response:
        key = await services.auth.user(request)
        limit = whole_of(LIMIT, request)
        find = partial(services.batches.list, key.tenant, limit=limit + 1, after=files.AFTER.of(request))
        found = await asyncio.to_thread(find)
        return JSONResponse(files.page([shown(batch) for batch in found], limit))

    return list_batches


def _show(services: Services) -> Handler:
    async def show(request: Request) -> Response:
        find, batch_id, tenant = services.batches.get, *_whose(await services.auth.user(request), request)
        return JSONResponse(shown(await asyncio.to_thread(partial(find, batch_id, tenant=tenant))))

    return show


def _cancel(services: Services) -> Handler:
    async def cancel(request: Request) -> Response:
        batch_id, tenant = _whose(await services.auth.user(request), request)
        batch = await asyncio.to_thread(partial(services.batches.cancel, batch_id, tenant=tenant))
        services.batch_news.set()
        return JSONResponse(shown(batch))

    return cancel


def _whose(key: Account, request: Request) -> tuple[str, str | None]:
    """A stranger's is as unknown as one that never was; an admin sees all."""
    return request.path_params["id"], None if key.role == "admin" else key.tenant
