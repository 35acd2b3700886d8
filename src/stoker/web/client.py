"""The HTTP client of all that calls something: gateway and worker to engines, the command line to a gateway.

Transport errors become Unavailable or TimedOut; an answer with an error status is returned as it is, for whoever
passes it on, and `raise_for_error` makes it a StokerError for whoever wants that.
"""

import asyncio
import base64
import math
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

from stoker.base import errors, json_text
from stoker.web import sse
from stoker.web.connections import Connection, Connections, Lost, Silent

E = TypeVar("E", bound=errors.StokerError)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Raises UpstreamError when the body is not JSON."""
        try:
            return json_text.loads(self.body)
        except ValueError as exc:
            raise errors.UpstreamError(
                f"the answer (status {self.status}) is not JSON", upstream_status=self.status
            ) from exc

    def raise_for_error(self) -> "Answer":
        """Self, or the StokerError that this answer is the shape of."""
        if self.status < 400:
            return self
        raise error_of(self)


class Stream:
    """An answer whose events are still coming: the bytes of each `data` field, `[DONE]` included. `error` is the whole
    answer when it is not a stream of events. Close it when nobody wants more."""

    def __init__(self, client: "HttpClient", connection: Connection) -> None:
        self._client = client
        self._connection = connection
        self._inflate: Any = None
        self._reader = sse.Reader()
        self._is_closed = False
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.error: Answer | None = None
        self.events = self._each()
        """One after the other. Raises as `read` does."""

    async def begin(self) -> None:
        """Until the head is there, and all of what is no stream. Raises Unavailable, TimedOut."""
        connection = self._connection
        try:
            await connection.head()
            # Kept here: once this is closed the connection is another's.
            self.status, self.headers = connection.status, connection.headers
            if not self.headers.get("content-type", "").startswith("text/event-stream"):
                whole = self._client.inflated(connection, await connection.whole())
                self.error = Answer(self.status, self.headers, whole)
        except (Lost, Silent) as error:
            raise self._client.ours(error) from error
        self._inflate = _inflater(self.headers)

    async def read(self) -> list[bytes]:
        """The next events: those that have come, one at least; none at the end. Raises Unavailable, TimedOut."""
        while self.error is None and not self._is_closed:
            try:
                data = await self._connection.read()
                if not data:
                    break
                events = self._reader.feed(data if self._inflate is None else self._inflate.decompress(data))
            except (Lost, Silent) as error:
                raise self._client.ours(error) from error
            except zlib.error as error:
                raise self._client.damaged() from error
            if events:
                return events
        return []

    async def read_bytes(self) -> bytes:
        """In place of `read`: what has come of the stream, comments and all; empty at the end. Raises as `read`."""
        if self.error is not None or self._is_closed:
            return b""
        try:
            data = await self._connection.read()
            return data if self._inflate is None or not data else bytes(self._inflate.decompress(data))
        except (Lost, Silent) as error:
            raise self._client.ours(error) from error
        except zlib.error as error:
            raise self._client.damaged() from error

    async def _each(self) -> AsyncGenerator[bytes, None]:
        while events := await self.read():
            for event in events:
                yield event

    def abort(self, error: Exception) -> None:
        """Ends the events with that error, whoever waits for the next one."""
        if not self._is_closed:
            self._connection.abort(error)

    def close(self) -> None:
        """Before the end it closes the connection, which is how the server learns that nobody listens any more."""
        if not self._is_closed:
            self._is_closed = True
            self._client.give_back(self._connection)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `read_s` is the longest silence: up to the first byte, and between any two."""

    connect_s: float = 2.0
    read_s: float = 60.0


class HttpClient:
    """One server, many requests, kept-alive connections. `key` is sent as a bearer token and appears in no message.

    `name` is what errors call the server; None: its URL. One that has a name has an address that is not for everybody
    who is told of the error: it stands in the `detail` of the error, with what the system says, for the log.
    """

    def __init__(
        self, base_url: str, *, key: str | None = None, timeouts: Timeouts | None = None, name: str | None = None
    ) -> None:
        """Raises InvalidInput when `base_url` is no URL, or the key cannot be sent in a header."""
        if key is not None and not (key.isascii() and key.isprintable() and key == key.strip()):
            # Checked here, so that nothing below can show it.
            raise errors.InvalidInput(
                f"the key for {base_url} holds a character that no header can hold, such as a line break",
                hint="set it again, without what follows it",
            )
        self.base_url = base_url.rstrip("/")
        self._name = name
        self._timeouts = timeouts or Timeouts()
        try:
            url = urlsplit(self.base_url)
            port = url.port
            host = (url.hostname or "").encode("idna" if "%" not in (url.hostname or "") else "ascii").decode()
        except ValueError as exc:
            raise errors.InvalidInput(f"{self.base_url} is not a URL: {exc}") from exc
        if url.scheme not in ("http", "https") or not host:
            raise errors.InvalidInput(f"{self.base_url} is not a URL: it has to begin with http://HOST or https://HOST")
        self._prefix = quote(url.path, safe=_SAFE)
        tls = ssl.create_default_context() if url.scheme == "https" else None
        self._connections = Connections(host, port or (443 if tls else 80), tls)
        self._head = _fixed_head(url.netloc.rpartition("@")[2], key, url.username, url.password)

    async def close(self) -> None:
        self._connections.close()

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
        lines: str | None = None,
        timeout_s: float | None = None,
        within_s: float = math.inf,
    ) -> Answer:
        """One whole answer. `timeout_s` replaces the longest silence, not the time to connect; `within_s` is for all.
        `lines`: more headers, as they stand in a request's head; nobody looks at them again.
        Raises Unavailable, TimedOut."""
        silence_s = self._timeouts.read_s if timeout_s is None else timeout_s
        ends_at = asyncio.get_running_loop().time() + within_s
        request = self._encoded(method, path, params, headers, lines, body)
        try:
            connection = await self._connections.take(min(self._timeouts.connect_s, within_s))
            try:
                connection.exchange(request, silence_s, ends_at)
                await connection.head()
                whole = await connection.whole()
            finally:
                self._connections.give_back(connection)
        except (Lost, Silent) as error:
            raise self.ours(error) from error
        if "content-encoding" in connection.headers:
            whole = self.inflated(connection, whole)
        return Answer(connection.status, connection.headers, whole)

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
        """An answer by events, closed when the block is left. Raises Unavailable, TimedOut."""
        opened = await self.open(method, path, body=body, params=params, headers=headers)
        try:
            yield opened
        finally:
            opened.close()

    async def open(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        lines: str | None = None,
    ) -> Stream:
        """As `stream`, to be closed by whoever calls this; `lines` as of `request`."""
        request = self._encoded(method, path, params, headers, lines, body)
        try:
            connection = await self._connections.take(self._timeouts.connect_s)
        except Lost as error:
            raise self.ours(error) from error
        opened = Stream(self, connection)
        try:
            connection.exchange(request, self._timeouts.read_s)
            await opened.begin()
        except BaseException:
            opened.close()
            raise
        return opened

    # --- for its streams --------------------------------------------------------------------------------------------

    def give_back(self, connection: Connection) -> None:
        self._connections.give_back(connection)

    def inflated(self, connection: Connection, data: bytes) -> bytes:
        """We ask for no compression; some send it all the same."""
        inflate = _inflater(connection.headers)
        if inflate is None:
            return data
        try:
            return bytes(inflate.decompress(data) + inflate.flush())
        except zlib.error as error:
            raise self.damaged() from error

    def damaged(self) -> errors.UpstreamError:
        return self._told(errors.UpstreamError, f"{self._who} sent bytes that cannot be decompressed")

    def ours(self, error: Lost | Silent) -> errors.StokerError:
        if isinstance(error, Silent):
            return self._told(errors.TimedOut, f"{self._who} did not answer in time")
        if error.was_sent:
            return self._told(errors.Unavailable, f"{self._who} {error.what}", error.detail)
        why = f": it {error.what}" if error.what else ""
        return self._told(errors.Unreachable, f"cannot reach {self._who}{why}", error.detail)

    @property
    def _who(self) -> str:
        return self._name or self.base_url

    def _told(self, kind: type[E], message: str, detail: str = "") -> E:
        """`detail` is what the system says."""
        if self._name is None:
            return kind(f"{message}: {detail}" if detail else message)
        made = kind(message)
        made.detail = f"{self.base_url}: {detail}" if detail else self.base_url
        return made

    def _encoded(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        more: str | None,
        body: object,
    ) -> bytes:
        """The whole request as it goes out. Raises InvalidInput for what cannot stand in a header."""
        target = self._prefix + quote(path, safe=_SAFE) + (f"?{urlencode(params)}" if params else "")
        fixed = self._head
        if headers and "Accept" in headers:  # whoever forwards a request has its own
            fixed = fixed.replace(_ACCEPT, "", 1)
        lines = [f"{method} {target} HTTP/1.1\r\n{fixed}"]
        for name, value in (headers or {}).items():
            if "\n" in value or "\r" in value or not value.isascii():
                raise errors.InvalidInput(f"the header {name} holds what no header can hold", param=name)
            lines.append(f"{name}: {value}\r\n")
        content = _content(body)
        if content is not None:
            if not headers or "Content-Type" not in headers:
                lines.append("Content-Type: application/json\r\n")
            lines.append(f"Content-Length: {len(content)}\r\n")
        lines.append("\r\n" if more is None else f"{more}\r\n")
        head = "".join(lines).encode("ascii")
        return head if content is None else head + content


_ACCEPT = "Accept: */*\r\n"
# What stands in a path as it is; a percent sign too, since paths may come quoted, and a query with its mark.
_SAFE = "/%?:@!$&'()*+,;=~-._"


def _fixed_head(host: str, key: str | None, user: str | None, password: str | None) -> str:
    """The header lines of every request to one server."""
    lines = [f"Host: {host.encode('idna').decode() if not host.isascii() else host}", "Accept: */*"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    elif user is not None:
        pair = f"{unquote(user)}:{unquote(password or '')}".encode()
        lines.append(f"Authorization: Basic {base64.b64encode(pair).decode()}")
    return "".join(f"{line}\r\n" for line in lines)


def _inflater(headers: Mapping[str, str]) -> Any:
    """zlib's object for gzip or deflate; None where nothing is compressed."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(47)  # whichever of the two headers there is
    return None


def _content(body: object) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    return json_text.dumps(body)


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
        error = json_text.loads(answer.body)["error"]
    except (ValueError, KeyError, TypeError):
        return None
    return error if isinstance(error, dict) and "message" in error else None
