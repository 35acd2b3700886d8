"""A model server that costs next to nothing: what a gateway in front of it takes is then the gateway's own.

    python benchmarks/gateway/mock_upstream.py --port PORT

`POST .../chat/completions` answers with a fixed text and its usage; with `"stream": true` in 20 chunks of content, each
sent on its own, then the usage if `include_usage` asks for it, then `[DONE]`. A body that holds PACED gets its first
chunk after 50 ms and one each 10 ms, as from a GPU; any other gets them as fast as the loop turns.
`GET /stats` says how many requests came and how many streams were left before their end.
"""

import argparse
import asyncio
import json
import re
import socket
from collections.abc import Sequence
from typing import cast

import httptools
import uvloop

CHUNKS = 20
PROMPT_TOKENS = 25
PACED = "[paced]"
FIRST_S, GAP_S = 0.050, 0.010
WORDS = tuple(f"word{number:02} " for number in range(CHUNKS))
TEXT = "".join(WORDS)
USAGE = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": CHUNKS, "total_tokens": PROMPT_TOKENS + CHUNKS}

_STREAM = re.compile(rb'"stream":\s*true')
_WANTS_USAGE = re.compile(rb'"include_usage":\s*true')
_COMMON = {"id": "chatcmpl-mock", "created": 1_700_000_000, "model": "general"}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _whole(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _answer() -> bytes:
    message = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return _whole("200 OK", _json({**_COMMON, "object": "chat.completion", "choices": [choice], "usage": USAGE}))


def _piece(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return f"{len(event):x}\r\n".encode() + event + b"\r\n"


def _stream(with_usage: bool) -> tuple[bytes, ...]:
    """What is written, one after the other."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    common = {**_COMMON, "object": "chat.completion.chunk"}
    pieces = []
    for number, word in enumerate(WORDS):
        delta = {"role": "assistant", "content": word} if number == 0 else {"content": word}
        ends = "stop" if number == CHUNKS - 1 else None
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": ends}
        pieces.append(_piece(_json({**common, "choices": [choice]})))
    pieces[0] = head + pieces[0]
    if with_usage:
        pieces.append(_piece(_json({**common, "choices": [], "usage": USAGE})))
    pieces.append(_piece(b"[DONE]") + b"0\r\n\r\n")
    return tuple(pieces)


ANSWER = _answer()
STREAMS = {False: _stream(False), True: _stream(True)}
HEALTHY = _whole("200 OK", b"{}")
MODELS = _whole("200 OK", _json({"object": "list", "data": [{"id": "general", "object": "model"}]}))
NOT_FOUND = _whole("404 Not Found", _json({"error": {"message": "no such path", "type": "not_found", "code": None}}))


class Stats:
    def __init__(self) -> None:
        self.seen = 0
        self.left = 0

    def answer(self) -> bytes:
        return _whole("200 OK", _json({"seen": self.seen, "left": self.left}))


class Connection(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop, stats: Stats) -> None:
        self._loop = loop
        self._stats = stats
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._body = b""
        self._coming: Sequence[bytes] = ()
        self._next = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._coming:
            self._stats.left += 1

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.close()

    # --- the parser's calls -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self._transport is not None
        if not self._url.endswith(b"/chat/completions"):
            self._transport.write(self._other())
            return
        self._stats.seen += 1
        if _STREAM.search(self._body) is None:
            self._transport.write(ANSWER)
            return
        self._coming, self._next = STREAMS[_WANTS_USAGE.search(self._body) is not None], 0
        if PACED.encode() in self._body:
            self._loop.call_later(FIRST_S, self._paced, self._loop.time() + FIRST_S)
        else:
            self._fast()

    def _other(self) -> bytes:
        if self._url == b"/health":
            return HEALTHY
        if self._url == b"/stats":
            return self._stats.answer()
        return MODELS if self._url == b"/v1/models" else NOT_FOUND

    # --- streams ------------------------------------------------------------------------------------------------------

    def _fast(self) -> None:
        # One a turn of the loop: what is written in the same turn would leave in one piece.
        if self._write_next():
            self._loop.call_soon(self._fast)

    def _paced(self, due: float) -> None:
        if self._write_next():
            # From when it was due, so that lateness does not add up.
            self._loop.call_at(due + GAP_S, self._paced, due + GAP_S)

    def _write_next(self) -> bool:
        """Whether there is more."""
        if self._transport is None:
            return False
        self._transport.write(self._coming[self._next])
        self._next += 1
        if self._next < len(self._coming):
            return True
        self._coming = ()
        return False


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    stats = Stats()
    listening = socket.create_server(("127.0.0.1", port), backlog=1024)
    server = await loop.create_server(lambda: Connection(loop, stats), sock=listening)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    uvloop.run(serve(options.port))


if __name__ == "__main__":
    main()
