"""Events on the wire, and an answer that notices when its reader is gone."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.web import sse


def parsed(data: bytes, cuts: Sequence[int] = ()) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    reader = sse.Reader()
    return [event for start, end in itertools.pairwise(places) for event in reader.feed(data[start:end])]


def test_comments_other_fields_and_line_ends_are_passed_over() -> None:
    data = b": keepalive\n\nid: 7\r\nevent: x\r\ndata: one\r\n\r\ndata:two\n\ndata: a\ndata: b\n\ndata: cut off"
    assert parsed(data) == [b"one", b"two", b"a\nb"]


# What can be in the data of an event: no carriage return, and no line break at its end.
payloads = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")).map(str.encode)


@given(st.lists(payloads, max_size=5), st.lists(st.integers(0, 10_000), max_size=8), st.booleans())
def test_any_cut_of_the_bytes_gives_the_same_events(events: list[bytes], cuts: list[int], crlf: bool) -> None:
    wire = b": hello\n\n".join(sse.event(each) for each in events)
    if crlf:
        wire = wire.replace(b"\n", b"\r\n")
    assert parsed(wire, cuts) == events


class Client:
    """The other side of an ASGI application: gets what is sent, and goes away when a test says so."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.sent: list[dict[str, Any]] = []
        self.news = asyncio.Condition()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        async with self.news:
            self.news.notify_all()

    async def got(self, count: int) -> list[bytes]:
        """The first bodies, as soon as there are so many."""
        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(lambda: len(self.bodies) >= count)
        return self.bodies[:count]

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message["type"] == "http.response.body"]


class Source:
    """Events that come one by one, and then none for ever; `closed` says that nobody wants them any more."""

    def __init__(self, *events: bytes, ends: bool = False, fails: bool = False) -> None:
        self.closed = asyncio.Event()
        self.cancelled = False
        self._events, self._ends, self._fails = events, ends, fails

    async def events(self) -> AsyncIterator[bytes]:
        try:
            for event in self._events:
                yield event
            if self._fails:
                raise ZeroDivisionError
            if not self._ends:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            self.closed.set()


async def primed(source: Source) -> Any:
    events = source.events()
    assert await anext(events) == b""  # type: ignore[arg-type]
    return events


def answering(events: Any, client: Client, **options: Any) -> "asyncio.Task[None]":
    return asyncio.create_task(sse.EventStream(events, **options)({}, client.receive, client.send))


async def test_events_are_sent_and_the_answer_ends() -> None:
    client, source = Client(), Source(b"a", b"b", ends=True)
    await answering(source.events(), client, headers={"X-Request-Id": "r"})
    assert client.sent[0]["status"] == 200
    headers = dict(client.sent[0]["headers"])
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert headers[b"x-request-id"] == b"r"
    assert b"content-length" not in headers
    assert client.bodies == [b"a", b"b", b""]
    assert [message["more_body"] for message in client.sent[1:]] == [True, True, False]
    assert source.closed.is_set()


async def test_a_client_that_goes_away_cancels_the_source_where_it_waits() -> None:
    client, source = Client(), Source(b"a")
    answer = answering(source.events(), client)
    await client.got(1)
    client.gone.set()
    await answer
    assert source.closed.is_set()
    assert source.cancelled


async def test_a_client_that_was_gone_before_the_first_step_closes_the_source_too() -> None:
    client, source = Client(), Source(b"", b"a")
    client.gone.set()
    events = await primed(source)
    await answering(events, client)
    assert source.closed.is_set()


async def test_an_answer_that_is_cancelled_closes_its_source() -> None:
    for steps in range(6):
        client, source = Client(), Source(b"", b"a", b"b")
        answer = answering(await primed(source), client)
        for _ in range(steps):
            await asyncio.sleep(0)
        answer.cancel()
        await asyncio.wait({answer})
        # An answer that never took its first step is not there to close anything; whoever made it has the source.
        assert source.closed.is_set() or steps == 0


async def test_a_source_that_fails_is_heard() -> None:
    client, source = Client(), Source(b"a", fails=True)
    with pytest.raises(ZeroDivisionError):
        await answering(source.events(), client)
    assert source.closed.is_set()
    assert client.bodies == [b"a"]  # no end: the client must not take this for a whole answer


async def test_a_connection_that_fails_closes_the_source() -> None:
    class Broken(Client):
        async def send(self, message: Any) -> None:
            if message["type"] == "http.response.body":
                raise OSError("broken pipe")

    source = Source(b"a")
    with pytest.raises(OSError, match="broken pipe"):
        await answering(source.events(), Broken())
    assert source.closed.is_set()


async def test_a_silent_source_is_kept_alive_by_comments() -> None:
    client, source = Client(), Source(b"a")
    answer = answering(source.events(), client, keepalive_s=0.01)
    assert await client.got(3) == [b"a", b": keepalive\n", b": keepalive\n"]
    client.gone.set()
    await answer


WIRE = b"data: one\n\n: a comment\n\ndata: two\ndata: lines\n\nid: 7\nevent: x\ndata:three\r\n\r\ndata: four\n\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, len(WIRE)])
def test_a_stream_reads_alike_however_it_is_cut(size: int) -> None:
    reader = sse.Reader()
    pieces = [WIRE[at : at + size] for at in range(0, len(WIRE), size)]
    assert [event for piece in pieces for event in reader.feed(piece)] == [b"one", b"two\nlines", b"three", b"four"]


@given(st.lists(st.binary(max_size=8).map(lambda data: data.replace(b"\r", b"")), max_size=6), st.integers(1, 12))
def test_what_is_written_is_read(events: list[bytes], size: int) -> None:
    wire = sse.events(events)
    assert wire == b"".join(map(sse.event, events))
    reader = sse.Reader()
    read = [event for at in range(0, len(wire), size) for event in reader.feed(wire[at : at + size])]
    assert read == events
