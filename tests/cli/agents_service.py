"""A stand-in for the agents' API: real HTTP, and answers that a test has written down."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.base.errors import NotFound
from stoker.cli.app import run
from stoker.web import sse
from stoker.web.server import JSONResponse, application, bind, serve, url_of

sys.path.append(str(Path(__file__).parents[1] / "agents"))
from agents_stories import Json

KEY = "sk-test"


@dataclass
class Service:
    """`runs` by id, `events` by run, `answers` by "METHOD path"; `asked` is what came. A stream is cut after as many
    events as `cuts` says, for each stream in its turn; the last ones are whole."""

    runs: dict[str, Json] = field(default_factory=dict)
    events: dict[str, list[Json]] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    last_event_ids: list[str | None] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: Request) -> Response:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        path, query = request.url.path, request.url.query
        body = await request.body()
        self.asked.append((request.method, f"{path}?{query}" if query else path, json.loads(body) if body else None))
        said = self.answers.get(f"{request.method} {path}")
        if said is not None:
            return JSONResponse(said)
        _, _, _, runs, *rest = path.split("/")
        if runs != "runs" or not rest or rest[0] not in self.runs:
            raise NotFound(f"there is no {path}")
        if rest[1:] == ["events"]:
            return self._stream(request, rest[0])
        return JSONResponse(self.runs[rest[0]])

    def _stream(self, request: Request, run: str) -> Response:
        after = request.headers.get("last-event-id")
        self.last_event_ids.append(after)
        new = [event for event in self.events[run] if event["id"] > int(after or 0)]
        many = self.cuts.pop(0) if self.cuts else len(new)

        async def told() -> AsyncIterator[bytes]:
            for event in new[:many]:
                yield b"id: %d\n" % event["id"] + sse.json_event(event, name=event["type"])

        return sse.EventStream(told())


@dataclass(frozen=True)
class Typed:
    code: int
    out: str
    err: str


@dataclass
class Agents:
    service: Service
    _capsys: pytest.CaptureFixture[str]

    async def says(self, *arguments: str) -> Typed:
        self._capsys.readouterr()
        code = await asyncio.to_thread(run, ["agents", *arguments])
        said = self._capsys.readouterr()
        return Typed(code, said.out, said.err)

    async def sent(self, *arguments: str) -> tuple[str, str, Any]:
        """The last request of a command that worked."""
        said = await self.says(*arguments)
        assert said.code == 0, said.err
        return self.service.asked[-1]


@asynccontextmanager
async def a_service() -> AsyncIterator[Service]:
    service = Service()
    routes = [Route("/v1/agents/{rest:path}", service.answer, methods=["GET", "POST", "DELETE"])]
    routes.append(Route("/v1/agents", service.answer))
    listening, stop = bind("127.0.0.1", 0), asyncio.Event()
    service.url = url_of(listening)
    running = asyncio.create_task(serve(application(routes), listening, stop, grace_s=0.1))
    try:
        yield service
    finally:
        stop.set()
        await running
