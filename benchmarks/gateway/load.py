"""The load: so many clients, each with one connection, each asking again as soon as it has its answer.

Every answer is looked at whole: status, text, usage, and for a stream the number of chunks and its end.
"""

import asyncio
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import httptools
from mock_upstream import CHUNKS, PACED, TEXT

LINGER_S = 60.0
"""How long the last answers may take after the end of the window."""

_TEXT = f'"{TEXT}"'.encode()
_CONTENT = re.compile(rb'"content":\s*"((?:[^"\\]|\\.)+)"')
_USAGE = re.compile(rb'"completion_tokens":\s*%d\b' % CHUNKS)


def body_of(*, is_stream: bool = False, is_paced: bool = False, prompt_bytes: int = 0) -> dict[str, object]:
    """As a client of OpenAI's API would write it; `prompt_bytes` is how long its context is."""
    question = "Which words do you know?" + (f" {PACED}" if is_paced else "")
    context = "The context of a request is a long text. " * (prompt_bytes // 41 + 1)
    body: dict[str, object] = {
        "model": "general",
        "messages": [
            {"role": "system", "content": context[:prompt_bytes] or "You are an assistant. Answer in few words."},
            {"role": "user", "content": question},
        ],
        "max_tokens": 64,
        "temperature": 0.7,
    }
    return {**body, "stream": True, "stream_options": {"include_usage": True}} if is_stream else body


def encoded(body: object, key: str | None, *, path: str = "/v1/chat/completions") -> bytes:
    data = json.dumps(body).encode()
    authorization = "" if key is None else f"Authorization: Bearer {key}\r\n"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: */*\r\n"
        f"{authorization}Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def wrong_with_answer(status: int, body: bytes) -> str | None:
    """What is wrong with a whole answer, in a few words."""
    if status != 200:
        return f"status {status}: {body[:160].decode(errors='replace')}"
    if _TEXT not in body:
        return "another text"
    return None if _USAGE.search(body) else "no usage"


def wrong_with_stream(status: int, body: bytes) -> str | None:
    if status != 200:
        return f"status {status}: {body[:160].decode(errors='replace')}"
    words = _CONTENT.findall(body)
    if len(words) != CHUNKS:
        return f"{len(words)} chunks with content"
    if b"".join(words) != TEXT.encode():
        return "another text"
    if not _USAGE.search(body):
        return "no usage"
    return None if b"data: [DONE]" in body[-256:] else "no [DONE]"


@dataclass
class Sample:
    """What one window came to. `wrong`: what was wrong with answers, and how often, those after the window included."""

    window_s: float = 0.0
    took_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    """Until the first chunk with content, of streams."""
    wrong: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        return len(self.took_s)


Check = Callable[[int, bytes], str | None]


@dataclass(frozen=True, slots=True)
class Errand:
    """What a client sends, and what looks at the answer. `leaves`: it breaks off as soon as it has seen any content."""

    ask: bytes
    check: Check
    leaves: bool = False


class Run:
    """What the clients of one load share: the errands that they take in turn. `is_open`: the window is; `is_over`: no
    client asks again."""

    def __init__(self, port: int, errands: Iterator[Errand], *, wants_first: bool = False) -> None:
        self.port = port
        self.errands = errands
        self.wants_first = wants_first
        self.sample = Sample()
        self.answered = 0
        """Answers and streams that were left, right or wrong."""
        self.is_open = False
        self.is_over = False
        self.running = 0
        self.ended = asyncio.Event()
        self._connecting: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        self.running += 1
        try:
            await asyncio.get_running_loop().create_connection(lambda: _Client(self), "127.0.0.1", self.port)
        except OSError as error:
            self.sample.wrong[f"no connection: {error.strerror}"] += 1
            self._one_less()

    def lost(self) -> None:
        """A connection; another one takes its place."""
        if not self.is_over:
            task = asyncio.create_task(self.connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        self._one_less()

    def _one_less(self) -> None:
        self.running -= 1
        if self.is_over and not self.running and not self._connecting:
            self.ended.set()


class _Client(asyncio.Protocol):
    def __init__(self, run: Run) -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._errand: Errand | None = None
        """What it waits for."""
        self._looks_for_first = run.wants_first
        self._parts: list[bytes] = []
        self._began = 0.0
        self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        errand = self._errand = None if self._run.is_over else next(self._run.errands, None)
        if errand is None:
            self._run.is_over = True
            self._transport.close()
            return
        self._parts.clear()
        self._first = 0.0
        self._looks_for_first = self._run.wants_first or errand.leaves
        self._began = time.perf_counter()
        self._transport.write(errand.ask)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._errand is not None:
                self._run.sample.wrong[f"no HTTP: {error}"] += 1
            self._errand = None
            if self._transport is not None:
                self._transport.abort()

    def on_body(self, body: bytes) -> None:
        if self._looks_for_first and not self._first and b'"content"' in body:
            self._first = time.perf_counter()
            if self._errand is not None and self._errand.leaves:
                self._leave()
        self._parts.append(body)

    def _leave(self) -> None:
        assert self._transport is not None
        self._errand = None
        self._run.answered += 1
        self._transport.abort()

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        run, errand, self._errand = self._run, self._errand, None
        assert self._transport is not None
        if errand is None:  # it has left
            return
        run.answered += 1
        wrong = errand.check(self._parser.get_status_code(), b"".join(self._parts))
        if wrong is not None:
            run.sample.wrong[wrong] += 1
        elif run.is_open:
            run.sample.took_s.append(now - self._began)
            if run.wants_first:
                run.sample.first_s.append(self._first - self._began)
        if run.is_over or not self._parser.should_keep_alive():
            self._transport.close()
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._errand is not None:
            self._run.sample.wrong["the connection was closed before the answer"] += 1
        self._run.lost()


async def load(
    port: int,
    ask: bytes,
    check: Check,
    *,
    clients: int,
    seconds: float,
    warm_up_s: float = 0.5,
    wants_first: bool = False,
    on_begin: Callable[[], None] = lambda: None,
    on_end: Callable[[], None] = lambda: None,
) -> Sample:
    """A window of so many seconds after a warm-up. `on_begin` and `on_end` are called at its ends, to read what the
    gateway has used. What is not answered when the window closes is waited for and looked at, and not counted."""
    run = Run(port, itertools.repeat(Errand(ask, check)), wants_first=wants_first)
    await asyncio.gather(*(run.connect() for _ in range(clients)))
    await asyncio.sleep(warm_up_s)
    on_begin()
    began = time.perf_counter()
    run.is_open = True
    await asyncio.sleep(seconds)
    run.is_open = False
    run.sample.window_s = time.perf_counter() - began
    on_end()
    run.is_over = True
    await linger(run)
    return run.sample


async def linger(run: Run) -> None:
    """Until the last client has its answer, or gives up."""
    if run.running:
        try:
            async with asyncio.timeout(LINGER_S):
                await run.ended.wait()
        except TimeoutError:
            run.sample.wrong[f"no answer within {LINGER_S:g} s of the end"] += run.running
