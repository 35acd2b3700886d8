"""Tools of MCP servers: programs that are started, and servers that speak streamable HTTP.

A session lives in a task of its own, since the scopes of anyio have to be left where they were entered; calls come from
any task. It is opened with the first call and again when the server has died. A call during which it died raises
Unavailable, since nobody knows how it ended.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import httpx2
import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from stoker.agents.tools import schemas
from stoker.agents.tools.interface import Json, Result
from stoker.agents.tools.secrets import Secrets
from stoker.base import logs
from stoker.base.errors import InvalidInput, StokerError, Unavailable
from stoker.spec import agents as spec
from stoker.spec.agents import Effect

MOST_TOOLS = 500
MOST_DESCRIPTION = 4000
MOST_IMAGES = 8
MOST_IMAGE = 5_000_000
"""Characters of one image's data URL."""
_MOST_PAGES = 50
_MOST_SAID = 2000
_NAME = 64

_log = logs.get("agents")
# It logs what a server wrote, which may be anything.
logging.getLogger("mcp").setLevel(logging.CRITICAL)


class Server:
    """One MCP server of agents.tools."""

    def __init__(self, listed_as: str, said: spec.Mcp, secrets: Secrets, *, base: Path, timeout_s: float) -> None:
        self._name = listed_as
        self._said = said
        self._secrets = secrets
        self._base = base
        self._timeout_s = timeout_s
        self._opening = asyncio.Lock()
        self._session: _Session | None = None
        self._is_closed = False

    async def tools(self) -> Sequence[types.Tool]:
        """Those that may be used, each with a schema that can be given to a model. Raises Unavailable, InvalidInput."""
        return (await self._opened()).tools

    async def call(self, name: str, arguments: Json) -> Result:
        """Raises Unavailable when the server was away, or went away meanwhile."""
        session = await self._opened()
        try:
            with session.in_use():
                return _result(await session.client.call_tool(name, arguments))
        except MCPError as exc:
            if self._is_answer(exc):
                return Result(text=f"the server refused the call: {exc.message}", is_error=True)
            session.retire()
            raise self._away("went away during the call, and nobody knows how it ended", exc.message) from exc
        except (RuntimeError, ValueError) as exc:
            # It answered, but not as it has declared; a ValidationError is a ValueError.
            return Result(text=f"the server's answer is not what it declares: {str(exc)[:500]}", is_error=True)

    def _is_answer(self, error: MCPError) -> bool:
        """Whether the server itself said no. Over HTTP other codes may stand for an answer that never came."""
        if self._said.url is not None:
            return error.code in (types.INVALID_PARAMS, types.METHOD_NOT_FOUND)
        return error.code != types.CONNECTION_CLOSED

    async def aclose(self) -> None:
        """Returns when its program is gone. Nothing starts it again."""
        self._is_closed = True
        async with self._opening:
            if self._session is not None:
                await self._session.close()

    async def _opened(self) -> "_Session":
        async with self._opening:
            if self._is_closed:
                raise self._away("was closed", "the toolbox is")
            if self._session is not None and self._session.is_over:
                await self._session.close()
                self._session = None
            if self._session is None or self._session.is_retired:
                opened = _Session(self._connected, self._listed)
                try:
                    await opened.open(self._timeout_s)
                except StokerError:
                    raise
                except TimeoutError as exc:
                    raise self._away(f"was not ready within {self._timeout_s:g} s", opened.said) from exc
                except Exception as exc:
                    raise self._away("cannot be started or reached", f"{_reason(exc)}. {opened.said}") from exc
                self._session = opened
            return self._session

    def _away(self, what: str, detail: str) -> Unavailable:
        error = Unavailable(f"the MCP server {self._name} {what}", hint=f"look at agents.tools.{self._name}.mcp")
        error.detail = detail[:_MOST_SAID]
        return error

    @asynccontextmanager
    async def _connected(self, session: "_Session") -> AsyncIterator[Any]:
        """The streams of a new connection."""
        if self._said.url is None:
            program, *arguments = self._said.command
            env = {name: self._secrets.value(variable) for name, variable in self._said.env.items()}
            server = StdioServerParameters(command=program, args=arguments, env=env, cwd=self._base)
            with _tail() as (errors, said):
                session.on_say = said
                async with stdio_client(server, errlog=errors) as (reading, writing):
                    errors.close()  # the program has its own
                    yield _Watched(reading, session.end), writing
            return
        headers = {name: self._secrets.header(variable) for name, variable in self._said.headers.items()}
        limits = httpx2.Timeout(30.0, read=None)  # how long a call may take is a matter of its tool
        async with (
            httpx2.AsyncClient(headers=headers, timeout=limits) as client,
            streamable_http_client(self._said.url, http_client=client) as (reading, writing),
        ):
            yield _Watched(reading, session.end), writing

    async def _listed(self, client: Client) -> Sequence[types.Tool]:
        found: dict[str, types.Tool] = {}
        cursor = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            for each in page.tools:
                found.setdefault(each.name, each)
            cursor = page.next_cursor
            if not cursor or len(found) > MOST_TOOLS:
                break
        wanted = self._said.only
        if missing := [name for name in wanted or () if name not in found]:
            known = ", ".join(found)[:500] or "none"
            raise InvalidInput(f"the MCP server {self._name} has no tool {', '.join(missing)}; it has: {known}")
        return [each for each in list(found.values())[:MOST_TOOLS] if self._is_fit(each)]

    def _is_fit(self, tool: types.Tool) -> bool:
        if self._said.only is not None and tool.name not in self._said.only:
            return False
        fault = schemas.fault_of(tool.input_schema)
        if fault is not None:
            _log.warning("mcp_tool_left_out", server=self._name, tool=tool.name[:100], why=fault)
        return fault is None


class _Session:
    """One connection, from its first message to its end."""

    def __init__(
        self,
        connected: "Callable[[_Session], contextlib.AbstractAsyncContextManager[Any]]",
        listed: Callable[[Client], Any],
    ) -> None:
        self._connected = connected
        self._listed = listed
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._calls = 0
        self.is_retired = False
        self.client: Client
        self.tools: Sequence[types.Tool] = ()
        self.on_say: Callable[[], str] = str

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    @property
    def said(self) -> str:
        """The last of what its program wrote to standard error."""
        return self.on_say()

    def end(self) -> None:
        self._over.set()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            self._end_if_unused()

    def retire(self) -> None:
        """It gets no new calls, and ends with the last of those that it has."""
        self.is_retired = True
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        if self.is_retired and not self._calls:
            self.end()

    async def open(self, within_s: float) -> None:
        """Raises whatever went wrong; TimeoutError when it took too long."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(ready, within_s), name="mcp")
        try:
            await asyncio.shield(ready)
        except asyncio.CancelledError:
            ready.cancel()
            self._task.cancel()
            await self.close()
            raise

    async def close(self) -> None:
        """Returns when the program is gone."""
        self._over.set()
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _run(self, ready: "asyncio.Future[None]", within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s) as limit, Client(self._connected(self), cache=None) as self.client:
                self.tools = await self._listed(self.client)
                limit.reschedule(None)
                if not ready.done():
                    ready.set_result(None)
                await self._over.wait()
        except Exception as error:
            if not ready.done():
                ready.set_exception(_first(error))
        finally:
            self._over.set()
            if not ready.done():
                ready.cancel()


class _Watched:
    """A stream that says when its reader has left it, which is when the server has ended it."""

    def __init__(self, stream: Any, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end

    async def receive(self) -> Any:
        return await self._stream.receive()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> "_Watched":
        return self

    async def __anext__(self) -> Any:
        return await self._stream.__anext__()

    async def __aenter__(self) -> "_Watched":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on_end()
        await self._stream.aclose()


@contextlib.contextmanager
def _tail() -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """A file to write to, and what gives the last of what was written."""
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    held = bytearray()

    def read() -> None:
        try:
            data = os.read(reading, 65536)
        except BlockingIOError:
            return
        held.extend(data)
        del held[:-_MOST_SAID]
        if not data:
            loop.remove_reader(reading)

    loop.add_reader(reading, read)
    with os.fdopen(writing, "w") as file:
        try:
            yield file, lambda: held.decode(errors="replace").strip()
        finally:
            loop.remove_reader(reading)
            os.close(reading)


def _first(error: BaseException) -> BaseException:
    """The first one of a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


# --- what a server says of its tools ------------------------------------------------------------------------------


def names_of(listed_as: str, tools: Sequence[str]) -> Mapping[str, str]:
    """Name for the model -> the server's own. What no model's API takes is replaced; a name that was changed and is
    taken, or is too long, ends with a digest of the whole, so that it is the same each time."""
    found: dict[str, str] = {}
    for tool in tools:
        name = re.sub("[^a-zA-Z0-9_-]", "_", f"{listed_as}_{tool}")
        if len(name) > _NAME or name in found:
            name = f"{name[: _NAME - 9]}_{hashlib.sha256(tool.encode()).hexdigest()[:8]}"
        found[name] = tool
    return found


def effect_of(tool: types.Tool) -> Effect:
    """What it says; write where it says nothing."""
    return "read" if tool.annotations is not None and tool.annotations.read_only_hint else "write"


def is_repeatable(tool: types.Tool) -> bool:
    said = tool.annotations
    return said is not None and bool(said.read_only_hint or said.idempotent_hint)


# --- what a call came to ------------------------------------------------------------------------------------------


def _result(answer: types.CallToolResult) -> Result:
    texts: list[str] = []
    images: list[str] = []
    citations: list[Json] = []
    for each in answer.content:
        if isinstance(each, types.TextContent):
            texts.append(each.text)
        elif isinstance(each, types.ImageContent):
            image = _image(each)
            if image is None or len(images) == MOST_IMAGES:
                texts.append(
                    f"[an image ({each.mime_type[:50]}) was left out: too large, too many, or of no known kind]"
                )
            else:
                images.append(image)
        elif isinstance(each, types.ResourceLink):
            texts.append(f"{each.title or each.name}: {each.uri}")
            citations.append({"source": str(each.uri), "title": each.title or each.name})
        elif isinstance(each, types.EmbeddedResource):
            texts.append(_resource(each.resource))
            citations.append({"source": str(each.resource.uri)})
        else:
            texts.append(f"[{each.type} was left out: only text and images can be read]")
    if not texts and not images and answer.structured_content is not None:
        texts.append(json.dumps(answer.structured_content, ensure_ascii=False))
    return Result(text="\n".join(texts), is_error=answer.is_error, images=images, citations=citations)


def _image(content: types.ImageContent) -> str | None:
    if content.mime_type not in ("image/png", "image/jpeg", "image/webp", "image/gif"):
        return None
    if len(content.data) > MOST_IMAGE or not re.fullmatch("[A-Za-z0-9+/]+={0,2}", content.data):
        return None
    return f"data:{content.mime_type};base64,{content.data}"


def _resource(resource: types.TextResourceContents | types.BlobResourceContents) -> str:
    if isinstance(resource, types.TextResourceContents):
        return f"{resource.uri}\n{resource.text}"
    return f"[{resource.uri} was left out: it is {resource.mime_type or 'binary'}]"
