"""Bodies that take their time: who was let in when they began may not be by their end."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from gateway_parts import HELLO, KEY, Stack, a_stack

from stoker.meter.accounts import Role
from stoker.meter.keys import KeyStore
from stoker.testing import ManualClock
from stoker.web import uploads

CHAT = {"model": "general", "messages": HELLO}
LONG = {"text": "x" * 4000}


class Upload:
    """A request of whose body one half is sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str, body: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._head = f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self._body = body
        self.sent = len(body) // 2
        self._begin()

    def _begin(self) -> None:
        self._writer.write(self._head + self._body[: self.sent])

    async def is_read(self) -> None:
        """Returns when somebody has begun to read the body."""
        assert await self._reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

    async def finish(self) -> tuple[int, Any]:
        self._writer.write(self._body[self.sent :])
        head, answer = await self.answer()
        return int(head.split(" ")[1]), answer

    async def trickle(self) -> None:
        """A byte whenever the other side has had time for one; far fewer than were announced."""
        with contextlib.suppress(ConnectionError):
            for at in range(self.sent, len(self._body) - 1):
                self._writer.write(self._body[at : at + 1])
                await asyncio.sleep(0.005)

    async def again(self) -> None:
        """The rest of this one, and half of another on the same connection."""
        self._writer.write(self._body[self.sent :])
        self._begin()

    async def answer(self) -> tuple[str, Any]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length: "))
        body = await self._reader.readexactly(int(length.removeprefix("content-length: ")))
        return head, json.loads(body)

    async def rest(self) -> bytes:
        """What comes before the connection is closed."""
        try:
            return await self._reader.read()
        except ConnectionResetError:  # something was still on its way there
            return b""


@asynccontextmanager
async def opened(stack: Stack, method: str, path: str, key: str, body: object) -> AsyncIterator[Upload]:
    where = urlsplit(stack.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nExpect: 100-continue"
        async with asyncio.timeout(20):
            yield Upload(reader, writer, head, json.dumps(body).encode())
    finally:
        writer.close()


@asynccontextmanager
async def begun(stack: Stack, method: str, path: str, key: str, body: object) -> AsyncIterator[Upload]:
    """One that was let in so far that its body is waited for."""
    async with opened(stack, method, path, key, body) as upload:
        await upload.is_read()
        yield upload


@pytest.mark.parametrize(
    ("method", "path", "role", "body", "status"),
    [
        ("POST", "/v1/chat/completions", "user", CHAT, 200),
        ("POST", "/v1/tasks", "user", CHAT, 202),
        ("POST", "/admin/v1/usage/prune", "admin", {"before": "2020-01-01"}, 200),
        ("POST", "/admin/v1/tenants", "admin", {"name": "late"}, 201),
        ("PATCH", "/admin/v1/tenants/made", "admin", {"description": "late"}, 200),
        ("PUT", "/admin/v1/tenants/made/teams/late", "admin", {"description": "late"}, 201),
        ("POST", "/admin/v1/keys", "admin", {"tenant": "made", "name": "late"}, 201),
        ("PATCH", "/admin/v1/keys/ID", "admin", {"name": "late"}, 200),
        ("POST", "/admin/v1/keys/ID/rotate", "admin", {"grace_seconds": 1}, 200),
    ],
)
async def test_a_key_that_is_revoked_while_its_body_is_on_its_way_is_refused(
    tmp_path: Path, method: str, path: str, role: Role, body: object, status: int
) -> None:
    clock = ManualClock()
    async with a_stack(tmp_path, clock=clock) as stack:
        engine = await stack.engine()
        keys = KeyStore(stack.store)
        of_another = keys.create("made")
        path = path.replace("ID", of_another.key.id)
        late, in_time = (keys.create("acme", role=role) for _ in range(2))

        async with begun(stack, method, path, late.secret, body) as upload:
            keys.revoke(late.key.id)
            await clock.advance(1.0)
            refused, answer = await upload.finish()
        assert (refused, answer["error"]["code"]) == (401, "invalid_api_key")
        assert (engine.requests, stack.queue._kept) == ([], {})  # type: ignore[attr-defined]
        assert keys.get(of_another.key.id) == of_another.key
        assert len(keys.list(tenant="made")) == 1
        assert "late" not in [tenant.name for tenant in stack.gateway.services.tenants.list()]
        made = stack.gateway.services.tenants.get("made")
        assert (made.terms.description, made.teams) == ("", {})

        async with begun(stack, method, path, in_time.secret, body) as upload:
            assert (await upload.finish())[0] == status


# --- a body that never ends -------------------------------------------------------------------------------------------

WAYS = ["/v1/chat/completions", "/v1/tasks"]  # past the framework, and through it


@pytest.mark.parametrize("path", WAYS)
async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("stoker.web.uploads.WAIT_S", 0.02)
    async with begun(stack, "POST", path, KEY, CHAT) as upload:
        head, answer = await upload.answer()
        assert (head.split(" ")[1], answer["error"]["code"]) == ("408", "request_timeout")
        assert answer["error"]["message"] == (
            f"the body was not whole after 0 s; {upload.sent} bytes of it had come (send it faster)"
        )
        assert head.lower().count("connection: close") == 1
        assert await upload.rest() == b""  # closed


@pytest.mark.parametrize("path", WAYS)
async def test_what_has_come_gives_the_rest_more_time(stack: Stack, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    await stack.engine()
    monkeypatch.setattr("stoker.web.uploads.WAIT_S", 0.0)
    monkeypatch.setattr("stoker.web.uploads.STEADY_BYTES_PER_S", 1.0)
    async with begun(stack, "POST", path, KEY, CHAT) as upload:
        assert (await upload.finish())[0] in (200, 202)


@pytest.mark.parametrize("path", WAYS)
async def test_bytes_that_trickle_in_do_not_keep_a_body_alive(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("stoker.web.uploads.WAIT_S", 0.1)
    async with begun(stack, "POST", path, KEY, LONG) as upload:
        trickle = asyncio.create_task(upload.trickle())
        assert (await upload.answer())[0].split(" ")[1] == "408"
        assert not trickle.done()
        trickle.cancel()


def test_the_largest_body_that_is_taken_may_come_over_a_slow_line() -> None:
    assert uploads.time_for(0) == 60.0
    assert uploads.time_for(16 * 1024 * 1024) == 60.0 + 256.0


async def test_what_was_refused_before_its_body_came_does_not_hold_its_connection(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.web.uploads.WAIT_S", 0.02)
    async with opened(stack, "POST", "/v1/tasks", "sk-wrong", LONG) as upload:
        head, _ = await upload.answer()
        assert head.split(" ")[1] == "401"
        trickle = asyncio.create_task(upload.trickle())
        assert await upload.rest() == b""
        trickle.cancel()


async def test_after_a_refusal_the_rest_of_the_body_is_dropped_and_the_connection_goes_on(stack: Stack) -> None:
    async with opened(stack, "POST", "/v1/tasks", "sk-wrong", CHAT) as upload:
        for _ in range(2):
            assert (await upload.answer())[0].split(" ")[1] == "401"
            await upload.again()
