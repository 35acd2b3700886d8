"""The HTTP client of all that calls something: gateway and worker to engines, the command line to a gateway.

Transport errors become Unavailable or TimedOut; an answer with an error status is returned as it is, for whoever
passes it on, and `raise_for_error` makes it a StokerError for whoever wants that.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from stoker.base import errors
from stoker.web import sse

# A hundred idle connections to one engine are plenty; the number of running ones is the caller's business.
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Raises UpstreamError when the body is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError as exc:
            raise errors.UpstreamError(
                f"the answer (status {self.status}) is not JSON", upstream_status=self.status
            ) from exc

    def raise_for_error(self) -> "Answer":
        """Self, or the StokerError that this answer is the shape of."""
        if self.status < 400:
            return self
        raise error_of(self)


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer whose events are still coming. `error` is the whole answer when it is not a stream of events."""

    status: int
    headers: Mapping[str, str]
    events: AsyncIterator[bytes]
    error: Answer | None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `read_s` is the longest silence: up to the first byte, and between any two."""

    connect_s: float = 2.0
    read_s: float = 60.0


class HttpClient:
    """One server, many requests, kept-alive connections. `key` is sent as a bearer token and appears in no message."""

    def __init__(self, base_url: str, *, key: str | None = None, timeouts: Timeouts | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        limits = timeouts or Timeouts()
        self._client = httpx2.AsyncClient(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(limits.read_s, connect=limits.connect_s),
            limits=_LIMITS,
            trust_env=False,
            follow_redirects=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def __aenter__(self) -> "HttpClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """One whole answer. Raises Unavailable, TimedOut."""
        with _Translated(self.base_url):
            response = await self._client.request(
                method,
                path,
                params=params,
                headers=_headers(body, headers),
                content=_encoded(body),
                timeout=httpx2.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s,
            )
        return Answer(response.status_code, response.headers, response.content)

    async def get_json(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        return (await self.request("GET", path, params=params)).raise_for_error().json()

    async def post_json(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Any:
        return (await self.request("POST", path, body=body, headers=headers)).raise_for_error().json()

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Stream]:
        """An answer by events (the bytes of each `data` field, `[DONE]` included). Leaving the block closes the
        connection, which is how the server learns that nobody listens any more. Raises Unavailable, TimedOut, also
        in the middle of the events.
        """
        with _Translated(self.base_url):
            async with self._client.stream(
                method, path, params=params, headers=_headers(body, headers), content=_encoded(body)
            ) as response:
                if response.headers.get("content-type", "").startswith("text/event-stream"):
                    yield Stream(response.status_code, response.headers, sse.parse(response.aiter_raw()), None)
                else:
                    whole = Answer(response.status_code, response.headers, await response.aread())
                    yield Stream(whole.status, whole.headers, _nothing(), whole)


async def _nothing() -> AsyncIterator[bytes]:
    for event in list[bytes]():
        yield event


def _encoded(body: object) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _headers(body: object, headers: Mapping[str, str] | None) -> dict[str, str]:
    return {**({"Content-Type": "application/json"} if body is not None else {}), **(headers or {})}


class _Translated:
    """The one door through which httpx2's errors become ours. A class, so that it costs no generator per request."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, exc: BaseException | None, _traceback: object) -> None:
        if isinstance(exc, httpx2.TimeoutException) and not isinstance(exc, httpx2.ConnectTimeout):
            raise errors.TimedOut(f"{self._base_url} did not answer in time ({type(exc).__name__})") from exc
        if isinstance(exc, httpx2.TransportError):
            cause = str(exc) or type(exc).__name__
            raise errors.Unavailable(f"cannot reach {self._base_url}: {cause}") from exc
        if isinstance(exc, httpx2.InvalidURL):
            raise errors.InvalidInput(f"{self._base_url} is not a URL: {exc}") from exc


_BY_STATUS: dict[int, type[errors.StokerError]] = {
    400: errors.InvalidInput,
    401: errors.Unauthenticated,
    403: errors.NotPermitted,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.InvalidInput,
    422: errors.InvalidInput,
    429: errors.Refused,
    503: errors.Unavailable,
    504: errors.TimedOut,
}


def error_of(answer: Answer) -> errors.StokerError:
    """The error that an answer in OpenAI's shape stands for; UpstreamError for any other."""
    try:
        error = json.loads(answer.body)["error"]
        message, code = str(error["message"]), error.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        return errors.UpstreamError(f"the server answered with status {answer.status}", upstream_status=answer.status)
    kind = _BY_STATUS.get(answer.status)
    if kind is None:
        return errors.UpstreamError(message, upstream_status=answer.status)
    return kind(message, code=str(code) if code else None)
