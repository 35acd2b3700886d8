"""The HTTP client of all that calls something: gateway and worker to engines, the command line to a gateway.

Transport errors become Unavailable or TimedOut; an answer with an error status is returned as it is, for whoever
passes it on, and `raise_for_error` makes it a StokerError for whoever wants that.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
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
        """Raises InvalidInput when `base_url` is no URL, or the key cannot be sent in a header."""
        if key is not None and not (key.isascii() and key.isprintable() and key == key.strip()):
            # Checked here, since the library's own error would show it.
            raise errors.InvalidInput(
                f"the key for {base_url} holds a character that no header can hold, such as a line break",
                hint="set it again, without what follows it",
            )
        self.base_url = base_url.rstrip("/")
        self._timeouts = timeouts or Timeouts()
        with _Translated(self.base_url):
            self._client = httpx2.AsyncClient(
                base_url=self.base_url,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=_timeout(self._timeouts, None),
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
        """One whole answer. `timeout_s` replaces the longest silence, not the time to connect. Raises Unavailable,
        TimedOut."""
        with _Translated(self.base_url):
            response = await self._client.request(
                method,
                path,
                params=params,
                headers=_headers(body, headers),
                content=_encoded(body),
                timeout=_timeout(self._timeouts, timeout_s),
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
                    # Closed here, since a generator that is merely forgotten is closed by the garbage collector.
                    chunks = response.aiter_bytes()
                    async with aclosing(chunks), aclosing(sse.parse(chunks)) as events:
                        yield Stream(response.status_code, response.headers, events, None)
                else:
                    whole = Answer(response.status_code, response.headers, await response.aread())
                    yield Stream(whole.status, whole.headers, _nothing(), whole)


async def _nothing() -> AsyncIterator[bytes]:
    for event in list[bytes]():
        yield event


def _timeout(timeouts: Timeouts, read_s: float | None) -> httpx2.Timeout:
    """However long an answer may take, a server that does not even accept is given up after `connect_s`."""
    return httpx2.Timeout(timeouts.read_s if read_s is None else read_s, connect=timeouts.connect_s)


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
            was_sent = not isinstance(exc, httpx2.ConnectError | httpx2.ConnectTimeout)
            kind = errors.Unavailable if was_sent else errors.Unreachable
            raise kind(f"cannot reach {self._base_url}: {cause}") from exc
        if isinstance(exc, httpx2.DecodingError):
            raise errors.UpstreamError(f"{self._base_url} sent bytes that cannot be decompressed") from exc
        if isinstance(exc, httpx2.InvalidURL):
            raise errors.InvalidInput(f"{self._base_url} is not a URL: {exc}") from exc


_BY_STATUS: dict[int, type[errors.StokerError]] = {
    401: errors.Unauthenticated,
    402: errors.BudgetExhausted,
    403: errors.NotPermitted,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.TooLarge,
    429: errors.Refused,
    503: errors.Unavailable,
    504: errors.TimedOut,
}


def error_of(answer: Answer) -> errors.StokerError:
    """The error that an answer stands for, in the words of its body, with its own status below 500."""
    excerpt = answer.body[:200].decode(errors="replace").strip()
    error = openai_error_in(answer) or {"message": f"the server answered with status {answer.status}: {excerpt}"}
    message, code = str(error["message"]), error.get("code")
    kind = _BY_STATUS.get(answer.status, errors.InvalidInput if answer.status < 500 else errors.UpstreamError)
    made = kind(message, code=str(code) if code else None)
    if answer.status < 500:
        made.status = answer.status
    if isinstance(made, errors.InvalidInput):
        made.param = error.get("param")
    if isinstance(made, errors.UpstreamError):
        made.upstream_status = answer.status
    return made


def openai_error_in(answer: Answer) -> dict[str, Any] | None:
    """The `error` of a body of OpenAI's error shape, or None when it has another."""
    try:
        error = json.loads(answer.body)["error"]
    except (ValueError, KeyError, TypeError):
        return None
    return error if isinstance(error, dict) and "message" in error else None
