"""`/v1/ws` as clients meet it: the `websockets` library against a real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from gateway_parts import HELLO, KEY, OTHER_KEY, Stack, a_stack, events_of, running_worker, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from stoker.gateway.ws import MOST_AT_ONCE
from stoker.meter.keys import KeyStore
from stoker.spec import Budgets
from stoker.testing.engine import EchoEngine

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "general", "messages": HELLO}
STREAM = {**BODY, "stream": True}
DEEP = "[" * 950 + "]" * 950
WORDS = ["one", " two", " three", " four", None]
ENDS = ("done", "error", "cancelled")


class Client:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, action: str, name: str | None = None, **rest: Any) -> None:
        said = {"action": action, **({} if name is None else {"id": name}), **rest}
        await self.socket.send(json.dumps(said))

    async def next(self) -> Any:
        async with asyncio.timeout(20):
            return json.loads(await self.socket.recv())

    async def until(self, kind: str) -> Any:
        while (frame := await self.next())["type"] != kind:
            assert frame["type"] not in ENDS, frame
        return frame

    async def answer(self) -> list[Any]:
        """The frames of the only message that runs, up to its last."""
        frames = [await self.next()]
        while frames[-1]["type"] not in ENDS:
            frames.append(await self.next())
        return frames

    async def ask(self, action: str, name: str = "a", **rest: Any) -> list[Any]:
        await self.say(action, name, **rest)
        return await self.answer()

    async def closed(self) -> int | None:
        """The code that the server closes with."""
        async with asyncio.timeout(20):
            try:
                while True:
                    await self.socket.recv()
            except ConnectionClosed as closed:
                return None if closed.rcvd is None else closed.rcvd.code


@asynccontextmanager
async def connected(stack: Stack, key: str | None = KEY, *, offers: list[str] | None = None, **headers: str) -> Any:
    sent = headers if key is None else {"Authorization": f"Bearer {key}", **headers}
    offered = None if offers is None else [Subprotocol(each) for each in offers]
    url = stack.url.replace("http://", "ws://") + "/v1/ws"
    async with connect(url, additional_headers=sent, subprotocols=offered, proxy=None) as socket:
        yield Client(socket)


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with connected(stack) as made:
        yield made


def words(frames: list[Any]) -> list[str | None]:
    return [frame["data"]["choices"][0]["delta"].get("content") for frame in frames if frame["type"] == "chunk"]


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_a_stream_is_told_in_frames_with_its_receipt(stack: Stack, client: Client) -> None:
    await stack.engine()
    begin, *chunks, done = await client.ask("chat", "mine", body=STREAM)
    assert {frame["id"] for frame in (begin, *chunks, done)} == {"mine"}
    assert (begin["type"], begin["headers"]["X-Stoker-Model"]) == ("begin", "general")
    assert begin["headers"]["X-Stoker-Replica"] == "general-0"
    assert words(chunks) == WORDS
    assert not any("usage" in frame["data"] or "cursor" in frame for frame in chunks)
    assert (done["type"], done["receipt"]["completion_tokens"], done["receipt"]["cost_usd"]) == ("done", 4, 0.000012)
    record = await stack.record()
    assert (record.id, record.status, record.completion_tokens) == (begin["request_id"], "done", 4)


async def test_its_chunks_are_those_of_server_sent_events(stack: Stack, client: Client) -> None:
    await stack.engine()
    body = {**STREAM, "stream_options": {"include_usage": True}}
    async with (await stack.http()).stream("POST", CHAT, body=body) as answer:
        *events, _ = await events_of(answer)
    _, *chunks, done = await client.ask("chat", **body)  # the body as it stands
    for frame, event in zip(chunks, events, strict=True):
        assert frame["data"].keys() == event.keys()
        assert (frame["data"]["choices"], frame["data"].get("usage")) == (event["choices"], event.get("usage"))
    assert done["receipt"] == chunks[-1]["data"]["stoker"]


async def test_a_whole_answer_is_one_frame(stack: Stack, client: Client) -> None:
    await stack.engine()
    [done] = await client.ask("chat", body=BODY)
    assert (done["type"], done["status"]) == ("done", 200)
    assert done["data"]["choices"][0]["message"]["content"] == "one two three four"
    assert done["headers"]["X-Stoker-Completion-Tokens"] == "4"
    [done] = await client.ask("completion", body={"model": "general", "prompt": "a b"})
    assert done["data"]["choices"][0]["text"] == "a b"
    assert [record.status for record in await stack.records()] == ["done", "done"]


async def test_an_error_has_the_status_the_headers_and_the_words_that_it_has_over_http(
    stack: Stack, client: Client
) -> None:
    engine = await stack.engine()
    said = {"message": "no such thing", "type": "invalid_request_error", "code": "nope", "param": None}
    engine.refuse(422, {"error": said}, times=2)
    for body in (BODY, STREAM):
        [error] = await client.ask("chat", body=body)
        assert (error["type"], error["status"], error["error"]) == ("error", 422, said)
    [error] = await client.ask("chat", body={**BODY, "model": "gpt-9"})
    answer = await (await stack.http()).request("POST", CHAT, body={**BODY, "model": "gpt-9"})
    assert (error["status"], {"error": error["error"]}) == (answer.status, answer.json())
    engine.fail_after(2, {"message": "boom"})
    begin, *chunks, error = await client.ask("chat", body=STREAM)
    assert (words(chunks), error["type"]) == (WORDS[:2], "error")
    assert "boom" in error["error"]["message"]
    assert [(record.id, record.status) for record in await stack.records()] == [(begin["request_id"], "failed")]


async def test_several_messages_are_answered_at_once_and_no_more_than_may_be(stack: Stack, client: Client) -> None:
    engine = await stack.engine(capacity=MOST_AT_ONCE)
    holds = [engine.hold_at(1) for _ in range(MOST_AT_ONCE)]
    for number, hold in enumerate(holds):
        await client.say("chat", str(number), body=STREAM)
        await hold.reached()
    begun = {frame["id"] for frame in [await client.next() for _ in range(2 * MOST_AT_ONCE)]}
    assert begun == {str(number) for number in range(MOST_AT_ONCE)}

    [refused] = await client.ask("chat", "more", body=STREAM)
    assert (refused["id"], refused["status"], refused["error"]["code"]) == ("more", 429, "too_many_at_once")
    for number in (3, 1):  # whichever goes on is told on
        holds[number].open.set()
        frames = await client.answer()
        assert {frame["id"] for frame in frames} == {str(number)}
        assert words(frames) == WORDS[1:]
    assert (await client.ask("chat", "more", body=STREAM))[-1]["type"] == "done"
    [refused] = await client.ask("chat", "0", body=STREAM)
    assert refused["error"]["code"] == "id_in_use"
    for hold in holds:
        hold.open.set()
    ends = [await client.answer() for _ in range(MOST_AT_ONCE - 2)]
    assert {frames[-1]["type"] for frames in ends} == {"done"}


async def test_ping(client: Client) -> None:
    await client.say("ping")
    assert await client.next() == {"id": None, "type": "pong"}


@pytest.mark.parametrize(
    ("text", "code", "name"),
    [
        ("hello", "invalid_json", None),
        ("[]", "invalid_json", None),
        ('{"id": "a"}', "invalid_value", "a"),
        ('{"id": "a", "action": "fly"}', "invalid_value", "a"),
        ('{"id": 7, "action": "ping"}', "invalid_value", None),
        ('{"id": "", "action": "ping"}', "invalid_value", None),
        ('{"action": "chat", "body": {}}', "invalid_value", None),
        ('{"id": "a", "action": "chat", "body": 1}', "invalid_value", "a"),
        ('{"id": "a", "action": "chat", "session": 1, "body": {}}', "invalid_value", "a"),
        ('{"id": "a", "action": "chat", "session": ["a' + "é" * 80 + '"], "body": {}}', "invalid_value", "a"),
        ('{"id": "a", "action": "chat", "session": ' + DEEP + "}", "invalid_json", None),
        ('{"id": "a", "action": ' + DEEP + "}", "invalid_json", None),
        ('{"id": "a", "action": "chat", "resumable": ' + DEEP + "}", "invalid_json", None),
        ('{"id": "a", "action": "chat", "body": {"a": ' + DEEP + "}}", "invalid_json", None),
        ('{"id": "a", "action": "chat", "session": "a b", "body": {}}', "invalid_value", "a"),
        ('{"id": "a", "action": "chat", "resumable": 1, "body": {}}', "invalid_value", "a"),
        ('{"id": "a", "action": "resume"}', "invalid_value", "a"),
        ('{"id": "a", "action": "resume", "request_id": "x", "cursor": "7"}', "invalid_value", "a"),
        ('{"id": "a", "action": "resume", "request_id": "x"}', "stream_not_found", "a"),
        ('{"id": "a", "action": "cancel"}', "not_found", "a"),
    ],
)
async def test_a_message_that_says_nothing_clear_is_refused_and_the_connection_goes_on(
    client: Client, text: str, code: str, name: str | None
) -> None:
    for message in (text, text.encode()):
        await client.socket.send(message)
        error = await client.next()
        assert (error["type"], error["id"], error["error"]["code"]) == ("error", name, code)
    await client.say("ping", "p")
    assert (await client.next())["type"] == "pong"


async def test_a_message_that_is_too_large_ends_the_connection(stack: Stack, client: Client) -> None:
    most = stack.platform.gateway.max_body_bytes
    await client.socket.send("x" * most)
    assert (await client.next())["error"]["code"] == "invalid_json"
    await client.socket.send("x" * (most + 1))
    assert await client.closed() == 1009


async def test_a_client_that_reads_slowly_holds_its_engine_up_and_gets_everything(stack: Stack) -> None:
    engine = await stack.engine()
    engine.reply = " ".join(["x" * 300_000] * 100)  # more than all buffers on the way
    async with connected(stack) as client:
        client.socket.transport.pause_reading()
        await client.say("chat", "a", body=STREAM)
        request = await engine.request(0)
        steady, before = 0, -1

        def stands_still() -> bool:
            nonlocal steady, before
            steady, before = (steady + 1 if request.sent == before else 0), request.sent
            return request.sent > 0 and steady > 100

        await until(stands_still)
        assert (request.state, request.sent < 100) == ("running", True)
        client.socket.transport.resume_reading()
        frames = await client.answer()
    assert len("".join(word or "" for word in words(frames))) == 100 * 300_000 + 99


# --- who asks ---------------------------------------------------------------------------------------------------------


async def test_a_browser_gives_its_key_behind_our_name(stack: Stack) -> None:
    await stack.engine()
    async with connected(stack, None, offers=["stoker", KEY]) as client:
        assert client.socket.subprotocol == "stoker"  # and the key is not said again
        assert (await client.ask("chat", body=BODY))[-1]["type"] == "done"
    assert (await stack.record()).tenant == "acme"


@pytest.mark.parametrize(("key", "offers"), [(None, None), ("sk-wrong", None), (None, ["stoker", "sk-wrong"])])
async def test_a_key_that_is_none_is_refused_before_the_connection(
    stack: Stack, key: str | None, offers: list[str] | None
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with connected(stack, key, offers=offers):
            pass
    response = caught.value.response
    assert response.status_code == 401
    assert json.loads(response.body or b"")["error"]["code"] == "invalid_api_key"


async def test_a_key_that_is_revoked_meanwhile_ends_the_connection_with_the_next_message(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.gateway.auth.REMEMBER_S", 0.0)
    monkeypatch.setattr("stoker.gateway.auth._LOOK_AFTER_S", 0.0)
    engine = await stack.engine()
    keys = KeyStore(stack.store)
    made = keys.create("acme")
    hold = engine.hold_at(1)
    async with connected(stack, made.secret) as client:
        await client.say("chat", "a", body=STREAM)
        await client.until("chunk")
        request = await hold.reached()
        keys.revoke(made.key.id)
        await client.say("chat", "b", body=STREAM)
        error = await client.next()
        assert (error["id"], error["status"], error["error"]["code"]) == ("b", 401, "invalid_api_key")
        assert await client.closed() == 4401
    assert await request.end() == "cancelled"
    assert len(engine.requests) == 1


async def test_a_connection_is_a_session_of_its_own_unless_one_is_named(stack: Stack) -> None:
    await stack.engine()
    for headers in ({}, {}, {"X-Session-Id": "named", "X-Run-Id": "run"}):
        async with connected(stack, **headers) as client:
            for message in (
                {"body": BODY},
                {"body": BODY},
                {"body": BODY, "session": "other", "run": "mine"},
                {"body": {**BODY, "conversation": "talk"}},
            ):
                assert (await client.ask("chat", **message))[-1]["type"] == "done"
    sessions = [(record.session or "", record.run) for record in await stack.records()]
    first, second = sessions[0][0], sessions[4][0]
    assert first.startswith("ws_")
    assert second.startswith("ws_")
    assert first != second
    ours = [[(name, None), (name, None), ("other", "mine"), ("talk", None)] for name in (first, second)]
    named = [("named", "run"), ("named", "run"), ("other", "mine"), ("named", "run")]
    assert sessions == [*ours[0], *ours[1], *named]


async def test_each_message_is_let_in_by_itself(stack: Stack) -> None:
    engine = await stack.engine()
    made = KeyStore(stack.store).create("acme", budgets=Budgets(tokens_total=55), models=["general"])
    body = {**BODY, "max_tokens": 10}  # 42 tokens at most, 8 in the end
    async with connected(stack, made.secret) as client:
        [refused] = await client.ask("chat", body={**BODY, "model": "code"})
        assert (refused["status"], refused["error"]["code"]) == (403, "not_permitted")
        for _ in range(2):
            assert (await client.ask("chat", body=body))[-1]["type"] == "done"
        [refused] = await client.ask("chat", body=body)
        assert (refused["status"], refused["error"]["code"]) == (402, "budget_exhausted")
        assert refused["headers"]["x-ratelimit-remaining-tokens"] == "39"
    assert len(engine.requests) == 2


# --- what ends early --------------------------------------------------------------------------------------------------


async def test_a_message_is_cancelled_by_its_id_and_others_go_on(stack: Stack, client: Client) -> None:
    engine = await stack.engine()
    first, second = engine.hold_at(2), engine.hold_at(1)
    await client.say("chat", "a", body=STREAM)
    request = await first.reached()
    await client.say("chat", "b", body=STREAM)
    await second.reached()
    seen = [await client.next() for _ in range(5)]
    assert sorted(frame["id"] for frame in seen) == ["a", "a", "a", "b", "b"]
    await client.say("cancel", "a")
    assert await client.next() == {"id": "a", "type": "cancelled"}
    assert await request.end() == "cancelled"
    second.open.set()
    assert (await client.answer())[-1]["type"] == "done"
    records = {record.status: record.completion_tokens for record in await stack.records()}
    assert records == {"cancelled": 2, "done": 4}


async def test_a_connection_that_closes_cancels_what_runs_to_the_chunk(stack: Stack) -> None:
    engine = await stack.engine()
    holds = [engine.hold_at(number) for number in (1, 3)]
    async with connected(stack) as client:
        for name, hold in zip("ab", holds, strict=True):
            await client.say("chat", name, body=STREAM)
            await hold.reached()
        await client.say("chat", "c", body=BODY)
        last = await engine.request(2)
        await last.end()
    for request in engine.requests[:2]:
        assert await request.end() == "cancelled"
    await until(lambda: not stack.gateway.services.inference.commitments._running)
    records = [(record.status, record.completion_tokens) for record in await stack.records()]
    assert sorted(records) == [("cancelled", 1), ("cancelled", 3), ("done", 4)]


async def test_a_connection_that_is_cut_off_cancels_what_runs(stack: Stack) -> None:
    engine = await stack.engine()
    hold = engine.hold_at(1)
    async with connected(stack) as client:
        await client.say("chat", "a", body=STREAM)
        request = await hold.reached()
        client.socket.transport.abort()
        assert await request.end() == "cancelled"
    assert (await stack.record()).status == "cancelled"


async def test_a_resumable_stream_goes_on_over_another_connection(stack: Stack) -> None:
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        hold = engine.hold_at(2)
        async with connected(stack) as client:
            await client.say("chat", "a", body=STREAM, resumable=True)
            begin, *seen = [await client.next() for _ in range(3)]
            assert [frame["cursor"] for frame in seen] == ["1-0", "1-1"]
            await hold.reached()
        resumed = {"request_id": begin["request_id"], "cursor": seen[-1]["cursor"]}
        async with connected(stack, OTHER_KEY) as stranger:
            [error] = await stranger.ask("resume", **resumed)
            assert (error["status"], error["error"]["code"]) == (404, "stream_not_found")
        async with connected(stack) as client:
            await client.say("resume", "b", **resumed)
            assert (await client.next())["request_id"] == begin["request_id"]
            hold.open.set()
            rest = await client.answer()
            [error] = await client.ask("resume", request_id=begin["request_id"], cursor="1-99")
            assert error["status"] == 400
            again = await client.ask("resume", request_id=begin["request_id"])
    assert words(seen) + words(rest) == words(again) == WORDS
    assert rest[-1] == {**again[-1], "id": "b"}
    assert [(record.id, record.status) for record in await stack.records()] == [(begin["request_id"], "done")]


async def test_a_resumable_stream_that_is_cancelled_does_not_go_on(stack: Stack, client: Client) -> None:
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        hold = engine.hold_at(1)
        await client.say("chat", "a", body=STREAM, resumable=True)
        await client.until("chunk")
        request = await hold.reached()
        await client.say("cancel", "a")
        assert (await client.next())["type"] == "cancelled"
        assert await request.end() == "cancelled"
        record = await stack.record()
    assert (record.status, record.completion_tokens) == ("cancelled", 1)


# --- the end of the server --------------------------------------------------------------------------------------------


async def test_a_server_that_stops_lets_what_runs_end_and_takes_nothing_new(tmp_path: Path) -> None:
    async with a_stack(tmp_path, grace_s=20) as stack:
        engine = await stack.engine()
        hold = engine.hold_at(2)
        async with connected(stack) as idle, connected(stack) as client:
            await client.say("chat", "a", body=STREAM)
            await hold.reached()
            ending = asyncio.create_task(stack.shut())
            assert await idle.closed() == 1012
            frames = [await client.next() for _ in range(3)]
            [refused] = await client.ask("chat", "b", body=STREAM)
            assert (refused["status"], refused["error"]["code"]) == (503, "unavailable")
            hold.open.set()
            frames += await client.answer()
            assert (words(frames), frames[-1]["type"]) == (WORDS, "done")
            assert await client.closed() == 1012
        await ending
        assert [record.status for record in stack.gateway.services.ledger.records()] == ["done"]


async def test_what_outlives_the_grace_is_cancelled_and_written_down(stack: Stack) -> None:
    engine = await stack.engine()
    hold = engine.hold_at(2)
    async with connected(stack) as client:
        await client.say("chat", "a", body=STREAM)
        await hold.reached()
        ending = asyncio.create_task(stack.shut())
        assert await client.closed() == 1012
    await ending
    assert await engine.requests[0].end() == "cancelled"
    [record] = stack.gateway.services.ledger.records()
    assert (record.status, record.completion_tokens) == ("cancelled", 2)


# --- on the wire ------------------------------------------------------------------------------------------------------


async def raw(stack: Stack, *lines: str) -> bytes:
    """All that the server says to a request that is none of a WebSocket, until it closes the connection."""
    host, port = stack.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write("\r\n".join((*lines, "", "")).encode())
    async with asyncio.timeout(20):
        said = await reader.read()
    writer.close()
    await writer.wait_closed()
    return said


UPGRADE = ("Host: x", "Connection: Upgrade, close", "Upgrade: websocket", "Sec-WebSocket-Version: 13")


async def test_what_is_no_handshake_is_told_so_and_hangs_nobody(stack: Stack) -> None:
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    for status, lines in (
        (400, ("GET /v1/ws HTTP/1.1", *UPGRADE)),
        (431, ("GET /v1/ws HTTP/1.1", *UPGRADE, key, *(f"X-{n}: y" for n in range(200)))),
        (403, ("GET /v1/nothing HTTP/1.1", *UPGRADE, key)),
        (404, ("GET /v1/ws HTTP/1.1", "Host: x", "Connection: close")),
    ):
        assert (await raw(stack, *lines)).startswith(f"HTTP/1.1 {status} ".encode()), lines[:1]
    async with connected(stack) as client:
        await client.say("ping")
        assert (await client.next())["type"] == "pong"


async def test_frames_before_the_handshake_is_done_break_nothing(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def held(_: object) -> None:
        begun.set()
        await may_go_on.wait()

    monkeypatch.setattr(stack.gateway.services.auth, "user", held)
    where = urlsplit(stack.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    writer.write("\r\n".join(["GET /v1/ws HTTP/1.1", *UPGRADE, key, "", ""]).encode())
    await begun.wait()
    writer.write(b"\x81\x05hello")  # not masked
    assert await asyncio.wait_for(reader.read(), 20) == b""
    may_go_on.set()
    writer.close()
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("behind", [b"", b"\x88\x80\x00\x00\x00\x00"])
async def test_text_that_is_none_ends_the_connection_whatever_comes_behind(
    stack: Stack, caplog: pytest.LogCaptureFixture, behind: bytes
) -> None:
    where = urlsplit(stack.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    lines = (*UPGRADE, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"Authorization: Bearer {KEY}")
    writer.write("\r\n".join(["GET /v1/ws HTTP/1.1", *lines, "", ""]).encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    writer.write(b"\x81\x81\x00\x00\x00\x00\xff" + behind)
    said = await asyncio.wait_for(reader.read(), 20)
    assert said == (b"\x88\x00" if behind else b"\x88\x0b\x03\xefnot UTF-8")  # the code 1007, or the close again
    writer.close()
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_handshake_in_the_middle_of_an_answer_is_none(stack: Stack) -> None:
    """It would hand the connection over while events are still written to it, and nobody would notice its end."""
    engine = await stack.engine()
    hold = engine.hold_at(1)
    host, port = stack.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(STREAM)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write((head + body).encode())
    request = await hold.reached()
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    writer.write("\r\n".join(("GET /v1/ws HTTP/1.1", *UPGRADE, key, f"Authorization: Bearer {KEY}", "", "")).encode())
    async with asyncio.timeout(20):
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        hold.open.set()
        said = await reader.readuntil(b"\r\n0\r\n\r\n")
        assert said.count(b"HTTP/1.1") == 0
        assert said.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 404")
    writer.close()
    await writer.wait_closed()
    assert await request.end() == "done"
