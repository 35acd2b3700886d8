"""`/v1/files`: OpenAI's files, in the store's blocks. A file belongs to a tenant, and a stranger's is as unknown as one
that never was.

An upload goes into the store as it comes, and is seen only when it is whole.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stoker.base.errors import InvalidInput, NotFound, TooLarge
from stoker.gateway.services import Services
from stoker.meter.accounts import Account
from stoker.meter.files import BLOCK_BYTES, File, FileStore, unknown
from stoker.web import multipart
from stoker.web.multipart import PartBegins
from stoker.web.parameters import Choice, Text, whole, whole_of
from stoker.web.server import JSONResponse

Json = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]

BATCH = "batch"
PURPOSES = ("assistants", BATCH, "evals", "fine-tune", "user_data", "vision")
# How long OpenAI keeps what belongs to a batch, unless it is told otherwise.
BATCH_KEPT_S = 30 * 86400
# What a client may ask for, as at OpenAI.
LEAST_KEPT_S, MOST_KEPT_S = 3600, 30 * 86400
MOST_LISTED = 10_000
LONGEST_NAME = 255
PURPOSE = Text("purpose", "Only those with this purpose.")
LIMIT = whole("limit", 1, MOST_LISTED, MOST_LISTED, "How many at most.")
AFTER = Text("after", "Go on after the one with this id.")
ORDER = Choice("order", ("asc", "desc"), "The oldest first, or the newest; it is `desc` when not said.")
_LONGEST_FIELD = 256
_FIELDS = ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def routes(services: Services) -> list[Route]:
    return [
        Route("/v1/files", _upload(services), methods=["POST"]),
        Route("/v1/files", _list(services), methods=["GET"]),
        Route("/v1/files/{id}", _show(services), methods=["GET"]),
        Route("/v1/files/{id}", _delete(services), methods=["DELETE"]),
        Route("/v1/files/{id}/content", _content(services), methods=["GET"]),
    ]


def shown(file: File) -> Json:
    """As OpenAI's SDKs read it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "expires_at": None if file.expires_at is None else int(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def _upload(services: Services) -> Handler:
    async def upload(request: Request) -> Response:
        key = await services.auth.user(request)
        limits = services.platform.gateway.files
        _refuse_length(request, limits.max_file_bytes)
        file_id = await asyncio.to_thread(services.files.begin, key.tenant)
        writer = _Writer(services, file_id)
        try:
            said = await _read_form(request, writer, limits.max_file_bytes)
            purpose, filename, kept_s = _wishes(said)
            # Again: the client says how long its upload takes.
            await services.auth.user(request)
            finish = partial(services.files.finish, purpose=purpose, filename=filename, expires_after_s=kept_s)
            return JSONResponse(shown(await asyncio.to_thread(finish, file_id)))
        except BaseException:
            giving_up = asyncio.to_thread(services.files.give_up, file_id)
            await services.inference.commitments.keep(giving_up)
            raise

    return upload


@dataclass(slots=True)
class _Form:
    """What a form has said so far."""

    fields: dict[str, bytes] = field(default_factory=dict)
    filename: str | None = None

    def text(self, name: str) -> str | None:
        value = self.fields.get(name)
        return None if value is None else value.decode("utf-8", "replace")


class _Writer:
    """A file on its way into the store: a block as soon as there is one."""

    def __init__(self, services: Services, file_id: str) -> None:
        self._files = services.files
        self._limits = services.platform.gateway.files
        self._file_id = file_id
        self._parts: list[bytes] = []
        self._waiting = 0
        self._size = 0
        self._blocks = 0

    async def write(self, data: bytes) -> None:
        """Raises TooLarge."""
        self._size += len(data)
        if self._size > self._limits.max_file_bytes:
            raise TooLarge(
                f"the file has more than {self._limits.max_file_bytes} bytes",
                hint="upload it in parts, or raise gateway.files.maxFileBytes",
            )
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting >= BLOCK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        if self._waiting:
            data, self._parts, self._waiting = b"".join(self._parts), [], 0
            most = self._limits.max_tenant_bytes
            await asyncio.to_thread(self._files.append, self._file_id, self._blocks, data, most_of_tenant=most)
            self._blocks += 1


def _refuse_length(request: Request, max_bytes: int) -> None:
    """What says itself that it is too large is not read."""
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > max_bytes + multipart.BESIDE_BYTES:
        raise TooLarge(
            f"the body has {length} bytes; a file may have {max_bytes}",
            hint="upload it in parts, or raise gateway.files.maxFileBytes",
        )


async def _read_form(request: Request, writer: _Writer, max_bytes: int) -> _Form:
    said = _Form()
    current: str | None = None
    async with aclosing(multipart.form(request, max_bytes=max_bytes + multipart.BESIDE_BYTES)) as events:
        async for event in events:
            if isinstance(event, PartBegins):
                current = _field(event, said)
                said.fields[current] = b""
                if current == "file":
                    said.filename = event.filename or "file"
            elif current == "file":
                await writer.write(event)
            elif current is not None:
                said.fields[current] += event
                if len(said.fields[current]) > _LONGEST_FIELD:
                    raise InvalidInput(f"{current} is longer than {_LONGEST_FIELD} bytes", param=current)
    await writer.flush()
    return said


def _field(begins: PartBegins, said: _Form) -> str:
    name = begins.name
    if name not in _FIELDS:
        raise InvalidInput(f"there is no field {name[:40]!r}; the fields are: {', '.join(_FIELDS)}", param=name[:40])
    if name in said.fields:
        raise InvalidInput(f"{name} is there twice", param=name)
    return name


def _wishes(said: _Form) -> tuple[str, str, float | None]:
    """The purpose, the name, and how long it is kept. Raises InvalidInput."""
    if said.filename is None:
        raise InvalidInput("there is no file in the form; it has to be in a field called file", param="file")
    purpose = said.text("purpose")
    if purpose not in PURPOSES:
        what = "is missing" if purpose is None else f"is {purpose[:40]!r}"
        raise InvalidInput(f"purpose {what}; it has to be one of {', '.join(PURPOSES)}", param="purpose")
    return purpose, _name(said.filename), _kept_s(said, BATCH_KEPT_S if purpose == BATCH else None)


def _name(filename: str) -> str:
    """Of a path, its last part; without what no list could show."""
    last = re.split(r"[/\\]", filename)[-1]
    return _UNPRINTABLE.sub("_", last)[-LONGEST_NAME:] or "file"


def _kept_s(said: _Form, default: float | None) -> float | None:
    anchor, seconds = said.text("expires_after[anchor]"), said.text("expires_after[seconds]")
    if anchor is None and seconds is None:
        return default
    number = float(seconds) if seconds is not None and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", seconds) else seconds
    return checked_kept_s({"anchor": anchor, "seconds": number}, "expires_after")


def checked_kept_s(wish: object, param: str) -> int:
    """Of `expires_after` and the like: after how many seconds. Raises InvalidInput."""
    if not isinstance(wish, dict) or wish.get("anchor") != "created_at":
        raise InvalidInput(
            f'{param} has to be {{"anchor": "created_at", "seconds": SECONDS}}; there is no other anchor', param=param
        )
    seconds = wish.get("seconds")
    if isinstance(seconds, float) and seconds.is_integer():  # 3600.0 is as whole as 3600
        seconds = int(seconds)
    if type(seconds) is not int or not LEAST_KEPT_S <= seconds <= MOST_KEPT_S:
        raise InvalidInput(
            f"{param}.seconds is {json.dumps(seconds)[:40]}; it has to be a whole number from {LEAST_KEPT_S} (an hour) "
            f"to {MOST_KEPT_S} (30 days)",
            param=f"{param}.seconds",
        )
    return seconds


def _list(services: Services) -> Handler:
    async def list_files(request: Request) -> Response:
        key = await services.auth.user(request)
        limit = whole_of(LIMIT, request)
        find = partial(
            services.files.list,
            key.tenant,
            purpose=PURPOSE.of(request),
            limit=limit + 1,
            after=AFTER.of(request),
            newest_first=ORDER.of(request) != "asc",
        )
        found = await asyncio.to_thread(find)
        return JSONResponse(page([shown(file) for file in found], limit))

    return list_files


def page(found: list[Json], limit: int) -> Json:
    """OpenAI's page of a list. `found` has one more than `limit` where there are more."""
    data = found[:limit]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": len(found) > limit}


def _show(services: Services) -> Handler:
    async def show(request: Request) -> Response:
        return JSONResponse(shown(await own(services, await services.auth.user(request), request.path_params["id"])))

    return show


def _delete(services: Services) -> Handler:
    async def delete(request: Request) -> Response:
        file = await own(services, await services.auth.user(request), request.path_params["id"])
        await asyncio.to_thread(services.files.delete, file.id, tenant=file.tenant)
        return JSONResponse({"id": file.id, "object": "file", "deleted": True})

    return delete


def _content(services: Services) -> Handler:
    async def content(request: Request) -> Response:
        file = await own(services, await services.auth.user(request), request.path_params["id"])
        headers = {
            "Content-Length": str(file.bytes),
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.filename)}",
            "X-Content-Type-Options": "nosniff",
        }
        return StreamingResponse(_sent(services.files, file), media_type="application/octet-stream", headers=headers)

    return content


async def _sent(files: FileStore, file: File) -> AsyncIterator[bytes]:
    blocks = files.blocks(file.id)
    while (block := await asyncio.to_thread(_next, blocks)) is not None:
        yield block


def _next(blocks: Iterator[bytes]) -> bytes | None:
    return next(blocks, None)


async def own(services: Services, key: Account, file_id: str) -> File:
    """A stranger's is as unknown as one that never was; an admin sees all."""
    tenant = None if key.role == "admin" else key.tenant
    try:
        return await asyncio.to_thread(services.files.get, file_id, tenant=tenant)
    except NotFound:
        raise unknown(file_id[:80]) from None
