"""Bodies that take their time: who was let in when they began may not be by their end."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from gateway_parts import HELLO, Stack, a_stack

from stoker.meter.accounts import Role
from stoker.meter.keys import KeyStore
from stoker.testing import ManualClock

CHAT = {"model": "general", "messages": HELLO}


class Upload:
    """A request whose body comes in two halves. The server has begun to wait for the first one when this is made."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._rest = body

    async def finish(self) -> tuple[int, Any]:
        self._writer.write(self._rest)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length: "))
        body = await self._reader.readexactly(int(length.removeprefix("content-length: ")))
        return int(head.split(" ")[1]), json.loads(body)


@asynccontextmanager
async def begun(stack: Stack, method: str, path: str, key: str, body: object) -> AsyncIterator[Upload]:
    where = urlsplit(stack.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        content = json.dumps(body).encode()
        half = len(content) // 2
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nExpect: 100-continue\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content[:half])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"  # somebody reads the body
        yield Upload(reader, writer, content[half:])
    finally:
        writer.close()


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
