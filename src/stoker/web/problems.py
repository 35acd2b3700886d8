"""Errors over HTTP in one shape, OpenAI's: every StokerError, what Starlette refuses, and what nobody expected."""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from stoker.base import json_text, logs
from stoker.base.errors import InvalidInput, StokerError, TooSlow, writable

_log = logs.get(__name__)
Handler = Callable[[Request, Exception], Awaitable[Response]]

# RFC 9110 has no word for a client that went away; nginx's 499 is what logs call it. Nobody receives it.
CLIENT_GONE = 499


def body_of(error: StokerError) -> dict[str, Any]:
    """`{"error": {"message", "type", "code", "param"}}`, and what else a program wants to know. The hint joins the
    message, since SDKs show only that."""
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    param = error.param if isinstance(error, InvalidInput) else None
    said = {"message": writable(message), "type": error.type, "code": error.code}
    return {"error": {**said, "param": param and writable(param), **getattr(error, "more", {})}}


def response_of(error: StokerError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """`headers` are the answer's own, beside those that the error asks for."""
    asked = {**dict(headers or {}), **headers_of(error)}
    if isinstance(error, TooSlow):
        asked["Connection"] = "close"  # nobody waits for the rest of the request
    return JSONResponse(body_of(error), status_code=error.status, headers=asked)


def headers_of(error: StokerError) -> dict[str, str]:
    """What an error asks for."""
    asked: dict[str, str] = {}
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        asked["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    if error.status == 401:
        asked["WWW-Authenticate"] = "Bearer"
    return asked


def encoded(error: StokerError) -> bytes:
    """The body of an answer that is an error."""
    return json_text.dumps(body_of(error))


def unexpected(path: str, error: Exception) -> StokerError:
    """What a client is told of an error that nobody expected; the log has it."""
    _log.error("request failed", path=path, exc_info=error)
    return StokerError("something went wrong here; the log has the details")


def _of_router(request: Request, http: HTTPException) -> StokerError:
    path = request.url.path
    message = {
        404: f"there is nothing at {path}",
        405: f"{request.method} is not possible at {path}",
    }.get(http.status_code, str(http.detail))
    known = StokerError(message, code={404: "not_found", 405: "method_not_allowed"}.get(http.status_code, "http_error"))
    known.type, known.status = "invalid_request_error", http.status_code
    return known


def _possible(request: Request) -> list[str]:
    """The methods of all routes that the path has; the router looks at the first one alone."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)


async def _client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


def handlers(on_problem: Callable[[StokerError], None]) -> dict[Any, Handler]:
    """For `Starlette(exception_handlers=...)`. `on_problem` hears of each answer that is an error, to count it. That of
    a StokerError has the headers that the route has put into `request.state.headers` by then."""

    async def expected(request: Request, error: Exception) -> Response:
        known = cast(StokerError, error)
        on_problem(known)
        return response_of(known, getattr(request.state, "headers", None))

    async def refused_by_router(request: Request, error: Exception) -> Response:
        http = cast(HTTPException, error)
        known = _of_router(request, http)
        on_problem(known)
        headers = {"Allow": ", ".join(_possible(request))} if http.status_code == 405 else http.headers
        return response_of(known, headers)

    async def not_expected(request: Request, error: Exception) -> Response:
        known = unexpected(request.url.path, error)
        on_problem(known)
        return response_of(known)

    return {
        StokerError: expected,
        HTTPException: refused_by_router,
        ClientDisconnect: _client_gone,
        Exception: not_expected,
    }
