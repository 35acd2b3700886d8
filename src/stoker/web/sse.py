"""Server-sent events: writing them, reading them, and an answer that notices when its reader is gone.

An event here is the bytes of its `data` field. Events of responses have a name, too (`event:`), which is the `type` in
their data: reading passes over it. The end of other streams is the event `[DONE]`. (https://html.spec.whatwg.org/multipage/server-sent-events.html)
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from stoker.base import json_text

DONE = b"[DONE]"
# Without an empty line after it: once an event has had an `id`, OpenAI's SDK takes an empty line after a comment for an
# event without data, and stumbles over it.
KEEPALIVE = b": keepalive\n"
# Proxies close a connection that is silent for 60 s (ALB and nginx by default).
KEEPALIVE_S = 15.0


def events(those: list[bytes]) -> bytes:
    """Several events without a name, ready for the wire."""
    joined = b"\n\ndata: ".join(those)
    if joined.count(b"\n") > 2 * (len(those) - 1):  # one of them has lines
        return b"".join(map(event, those))
    return b"data: " + joined + b"\n\n" if those else b""


def event(data: bytes, *, name: str | None = None) -> bytes:
    """One event, ready for the wire. A name is one line: what would end it is left out."""
    head = b"" if name is None else b"event: " + "".join(name.splitlines()).encode("utf-8", "replace") + b"\n"
    return head + b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"


def json_event(value: object, *, name: str | None = None) -> bytes:
    return event(json_text.dumps(value), name=name)


class Reader:
    """Reads a byte stream that is cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The `data` of each event that is whole now; comments and other fields are passed over."""
        events: list[bytes] = []
        data = self._data
        if not data and not self._rest:
            # As engines write them: one line of data each.
            *pieces, rest = chunk.split(b"\n\n")
            if b"\n" not in rest:
                for piece in pieces:
                    if not piece.startswith(b"data: ") or b"\n" in piece or b"\r" in piece:
                        break
                    events.append(piece[6:])
                else:
                    self._rest = rest
                    return events
                events.clear()
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line and data:
                events.append(data[0] if len(data) == 1 else b"\n".join(data))
                data.clear()
        return events


class EventStream(Response):
    """Sends what `events` yields (wire bytes). When the client goes away, `events` is closed at once: the cancellation
    is raised where it waits, so its `finally` can stop the work behind it. While `events` is silent, comments keep
    proxies from closing the connection.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        *,
        headers: Mapping[str, str] | None = None,
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **(headers or {})})
        del self.headers["content-length"]
        self._events = events
        self._keepalive_s = keepalive_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(until_gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not sending.done():
                sending.cancel()
            try:
                with suppress(asyncio.CancelledError):
                    await sending
            finally:
                # Here and not in the task: one that is cancelled before its first step runs no `finally`.
                close = getattr(self._events, "aclose", None)
                if close is not None:
                    await close()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        beat = asyncio.create_task(self._keep_alive(send))
        try:
            async for chunk in self._events:
                self._sent_at = asyncio.get_running_loop().time()
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        finally:
            beat.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _keep_alive(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        self._sent_at = loop.time()
        while True:
            quiet_s = loop.time() - self._sent_at
            if quiet_s >= self._keepalive_s:
                await send({"type": "http.response.body", "body": KEEPALIVE, "more_body": True})
                self._sent_at = loop.time()
                quiet_s = 0.0
            await asyncio.sleep(self._keepalive_s - quiet_s)


async def until_gone(receive: Receive) -> None:
    """Returns when the client has closed the connection. The body must have been read before."""
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            return
