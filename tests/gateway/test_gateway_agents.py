"""`/v1/agents` at the gateway: what reaches the agents' service, what comes back, and how both sides end. The service
is a small real server of the test's own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import ADMIN_KEY, KEY, Stack, a_stack, until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stoker.meter.grants import CALLER_HEADER, CallerClaim, Grant
from stoker.meter.keys import KeyStore
from stoker.web import sse
from stoker.web.server import bind, serve, url_of

SECRET = "of-the-agents-" + "s" * 32
RUN = "/v1/agents/writer/runs/run_x.1"


class Service:
    """It says what it was asked, and does what the path says."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, Any]] = []
        self.has_begun = asyncio.Event()
        self.ended: list[object] = []
        self.sockets: list[WebSocket] = []

    async def answer(self, request: Request) -> Response:
        self._note(request.method, request)
        path = request.url.path
        if path.endswith("/events"):
            return sse.EventStream(self.events(), headers={"X-Events": "yes"})
        body = (await request.body()).decode()
        if path.endswith("/refused"):
            said = {"error": {"message": "no such run", "type": "invalid_request_error", "code": "run_not_found"}}
            return JSONResponse(said, 404, headers={"Retry-After": "7"})
        if request.method == "DELETE":
            return Response(status_code=204)
        return JSONResponse({"body": body}, 202 if request.method == "POST" else 200, headers={"Location": RUN})

    async def events(self) -> AsyncIterator[bytes]:
        """Cut where no line ends, and then no end."""
        try:
            yield b": hello\nid: 1\nevent: run.star"
            yield b'ted\ndata: {"a":1}\n\nid: 2\ndata: b\n\n'
            self.has_begun.set()
            await asyncio.Event().wait()
        finally:
            self.ended.append("events")

    async def socket(self, socket: WebSocket) -> None:
        self._note("WS", socket)
        if socket.url.path.startswith("/v1/agents/nobody/"):
            await socket.send_denial_response(JSONResponse({"error": {"code": "agent_not_found"}}, 404))
            return
        await socket.accept()
        self.sockets.append(socket)
        try:
            while True:
                received = await socket.receive_text()
                if received == "bye":
                    await socket.send_bytes(b"\x00\xff")
                    await socket.close(4000)
                    return
                await socket.send_text(received.upper())
        except WebSocketDisconnect as left:
            self.ended.append(left.code)

    def _note(self, method: str, asked: Request | WebSocket) -> None:
        headers = dict(asked.headers)
        claim = CallerClaim.read(headers.pop(CALLER_HEADER), SECRET, now=0.0)
        target = asked.scope["raw_path"].decode() + "?" + asked.scope["query_string"].decode()
        self.asked.append({"method": method, "target": target, "headers": headers, "claim": claim})

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Service"]:
        listening, stop, ready = bind("127.0.0.1", 0), asyncio.Event(), asyncio.Event()
        self.url = url_of(listening)
        path = "/{path:path}"
        app = Starlette(
            routes=[
                Route(path, self.answer, methods=["GET", "POST", "DELETE"]),
                WebSocketRoute(path, self.socket),
            ]
        )
        serving = asyncio.create_task(
            serve(app, listening, stop, on_ready=ready.set, grace_s=0, max_message_bytes=1 << 20)
        )
        await ready.wait()
        try:
            yield self
        finally:
            stop.set()
            await serving


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with Service().running() as made:
        yield made


@pytest.fixture
async def stack(tmp_path: Path, service: Service) -> AsyncIterator[Stack]:
    async with a_stack(tmp_path, agents_key=SECRET, agents_url=service.url) as made:
        yield made


def key_id(stack: Stack, role: str = "user") -> str:
    [found] = [key.id for key in KeyStore(stack.store).list(tenant="acme") if key.role == role]
    return found


def dial(stack: Stack, path: str = f"{RUN}/ws?after=3", key: str = KEY) -> connect:
    url = stack.url.replace("http", "ws") + path
    return connect(url, additional_headers={"Authorization": f"Bearer {key}"}, proxy=None)


async def head_of(stack: Stack, path: str) -> bytes:
    """All that comes to a HEAD."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stack.url.rpartition(":")[2]))
    said = f"HEAD {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\r\n"
    writer.write(said.encode())
    answer = await reader.read()
    writer.close()
    assert answer.endswith(b"\r\n\r\n")
    return answer


async def close_code(socket: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed):
        await socket.recv()
    return socket.close_code


# --- requests ---------------------------------------------------------------------------------------------------------


async def test_a_request_goes_there_with_a_word_of_who_calls_and_without_the_key(
    stack: Stack, service: Service
) -> None:
    http = await stack.http()
    passed = {"Accept": "a/b", "Content-Type": "c/d", "Idempotency-Key": "k", "Last-Event-ID": "5", "Prefer": "wait=1"}
    kept = {"X-Session-Id": "s", "Cookie": "a=b", CALLER_HEADER: "caller.forged.x"}
    answer = await http.request("POST", f"{RUN}/resu%6De?wait=1&a=%20b", body=b"[1]", headers={**passed, **kept})
    assert (answer.status, answer.json(), answer.headers["location"]) == (202, {"body": "[1]"}, RUN)
    [asked] = service.asked
    assert (asked["method"], asked["target"]) == ("POST", f"{RUN}/resu%6De?wait=1&a=%20b")
    expected = {name.lower(): value for name, value in passed.items()}
    assert asked["headers"] == {"host": service.url.removeprefix("http://"), "content-length": "3", **expected}
    claim: CallerClaim = asked["claim"]
    assert (claim.key_id, claim.tenant, claim.team, claim.role) == (key_id(stack), "acme", None, "user")
    assert (claim.run, claim.agent) == (None, None)
    assert claim.request_id == answer.headers["x-request-id"]
    assert 0 < claim.expires_at - stack.clock.now() <= 60


async def test_who_calls_with_a_grant_is_known_by_its_run(stack: Stack, service: Service) -> None:
    grant = Grant(key_id=key_id(stack, "admin"), run="run_x", agent="writer", expires_at=4e9).signed(SECRET)
    for bearer in (grant, ADMIN_KEY):
        assert (await (await stack.http(bearer)).request("GET", "/v1/agents")).status == 200
    by_run, by_holder = (asked["claim"] for asked in service.asked)
    assert (by_run.key_id, by_run.role, by_run.run, by_run.agent) == (by_holder.key_id, "user", "run_x", "writer")
    assert (by_holder.role, by_holder.run, by_holder.agent) == ("admin", None, None)


async def test_what_the_service_answers_comes_back_as_it_is(stack: Stack, service: Service) -> None:
    http = await stack.http()
    refused = await http.request("GET", f"{RUN}/refused")
    assert (refused.status, refused.json()["error"]["code"]) == (404, "run_not_found")
    assert refused.headers["retry-after"] == "7"
    gone = await http.request("DELETE", "/v1/agents/writer/threads/t")
    assert (gone.status, gone.body) == (204, b"")
    other = await http.request("GET", "/v1/agents/anything/else/at/all")
    assert (other.status, other.json()) == (200, {"body": ""})
    assert (await head_of(stack, "/v1/agents")).startswith(b"HTTP/1.1 200 OK\r\n")
    assert service.asked[-1]["method"] == "GET"
    assert b"content-type: text/event-stream" in await head_of(stack, f"{RUN}/events")
    await until(lambda: service.ended == ["events"])


async def test_a_stranger_and_too_large_a_body_do_not_get_there(stack: Stack, service: Service) -> None:
    nobody = await stack.http(key=None)
    assert (await nobody.request("GET", "/v1/agents")).status == 401
    large = await (await stack.http()).request("POST", "/v1/agents/writer/runs", body=b"x" * 4097)
    assert (large.status, large.json()["error"]["code"]) == (413, "too_large")
    with pytest.raises(InvalidStatus) as caught:
        await dial(stack, key="sk-stoker-nobody")
    assert caught.value.response.status_code == 401
    assert service.asked == []


async def test_a_service_that_is_away_is_503(tmp_path: Path) -> None:
    async with Service().running() as service:
        pass
    async with a_stack(tmp_path, agents_key=SECRET, agents_url=service.url) as stack:
        answer = await (await stack.http()).request("GET", "/v1/agents")
        error = answer.json()["error"]
        assert (answer.status, error["code"]) == (503, "agents_unavailable")
        assert error["message"] == "the agents' service does not answer (try again in a moment)"
        with pytest.raises(InvalidStatus) as caught:
            await dial(stack)
        assert caught.value.response.status_code == 503
        assert json.loads(caught.value.response.body or b"")["error"] == error


@pytest.mark.parametrize("given", [{}, {"agents_key": SECRET}, {"agents_url": "http://127.0.0.1:9"}])
async def test_without_a_service_there_are_no_agents(tmp_path: Path, given: dict[str, str]) -> None:
    async with a_stack(tmp_path, **given) as stack:
        answer = await (await stack.http()).request("GET", "/v1/agents/writer")
        error = answer.json()["error"]
        assert (answer.status, error["code"]) == (404, "agents_not_enabled")
        assert 'pip install "stoker[agents]", and set agents.enabled' in error["message"]
        with pytest.raises(InvalidStatus) as caught:
            await dial(stack)
        assert caught.value.response.status_code == 404


async def test_a_method_that_a_path_has_not_is_refused_here(stack: Stack, service: Service) -> None:
    http = await stack.http()
    for method, path, allowed in (
        ("DELETE", RUN, "GET, HEAD"),
        ("POST", "/v1/agents", "GET, HEAD"),
        ("PATCH", "/v1/agents/runs/run_x", "DELETE, GET, HEAD, POST"),
    ):
        answer = await http.request(method, path, body={})
        assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert service.asked == []


# --- events -----------------------------------------------------------------------------------------------------------


async def test_events_come_with_their_ids_and_both_sides_end_when_the_client_leaves(
    stack: Stack, service: Service
) -> None:
    http = await stack.http()
    opened = await http.open("GET", f"{RUN}/events", headers={"Last-Event-ID": "0"})
    seen = b""
    while not seen.endswith(b"data: b\n\n"):
        seen += await opened.read_bytes()
    assert seen == b': hello\nid: 1\nevent: run.started\ndata: {"a":1}\n\nid: 2\ndata: b\n\n'
    assert (opened.status, opened.headers["x-events"]) == (200, "yes")
    assert opened.headers["content-type"].startswith("text/event-stream")
    assert service.asked[0]["headers"]["last-event-id"] == "0"
    assert service.ended == []
    opened.close()
    await until(lambda: service.ended == ["events"])


# --- WebSockets -------------------------------------------------------------------------------------------------------


async def test_messages_go_both_ways_until_the_service_closes(stack: Stack, service: Service) -> None:
    async with dial(stack) as socket:
        for word in ("one", "two"):
            await socket.send(word)
            assert await socket.recv() == word.upper()
        await socket.send("bye")
        assert await socket.recv() == b"\x00\xff"
        assert await close_code(socket) == 4000
    [asked] = service.asked
    assert (asked["method"], asked["target"]) == ("WS", f"{RUN}/ws?after=3")
    assert asked["claim"].tenant == "acme"
    assert "authorization" not in asked["headers"]


async def test_a_client_that_leaves_ends_both_sides(stack: Stack, service: Service) -> None:
    async with dial(stack) as socket:
        await socket.send("one")
        await socket.recv()
        await socket.close(4001)
    await until(lambda: service.ended == [4001])


async def test_a_browser_may_send_its_key_as_a_subprotocol(stack: Stack) -> None:
    url = stack.url.replace("http", "ws") + f"{RUN}/ws"
    async with connect(url, subprotocols=["stoker", KEY], proxy=None) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "stoker"
        await socket.send("a")
        assert await socket.recv() == "A"


async def test_what_the_service_says_instead_of_a_websocket_comes_back(stack: Stack) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await dial(stack, "/v1/agents/nobody/runs/run_x/ws")
    assert caught.value.response.status_code == 404
    assert json.loads(caught.value.response.body or b"") == {"error": {"code": "agent_not_found"}}


async def test_a_key_that_is_revoked_says_nothing_more(
    stack: Stack, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = KeyStore(stack.store).create("acme", name="n")
    async with dial(stack, key=made.secret) as socket:
        await socket.send("one")
        assert await socket.recv() == "ONE"
        KeyStore(stack.store).revoke(made.key.id)
        monkeypatch.setattr("stoker.gateway.auth.REMEMBER_S", 0.0)  # which is else waited for
        monkeypatch.setattr("stoker.gateway.auth._LOOK_AFTER_S", 0.0)
        await socket.send("two")
        assert await close_code(socket) == 4401
    await until(lambda: service.ended == [4401])


async def test_a_gateway_that_stops_says_so_to_both(tmp_path: Path, service: Service) -> None:
    async with a_stack(tmp_path, agents_key=SECRET, agents_url=service.url) as stack, dial(stack) as socket:
        await socket.send("one")
        await socket.recv()
        await stack.shut()
        assert await close_code(socket) == 1012
    await until(lambda: service.ended == [1012])
