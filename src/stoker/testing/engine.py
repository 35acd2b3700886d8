"""An engine for tests: OpenAI's API over real HTTP on loopback, whose every answer and every failure is scripted.

    async with EchoEngine("general") as engine:
        hold = engine.hold_at(2)                  # the next request stops before its third chunk ...
        ...                                       # (send it)
        request = await hold.reached()            # ... and this returns when it is there
        hold.open.set()                           # let it go on
        await request.ended.wait()
        assert request.state == "done"

It answers with the words of the last message, a token each, so that every count is known beforehand.
"""

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from stoker.base.clock import SystemClock
from stoker.base.errors import NotFound, StokerError
from stoker.telemetry.metrics import CONTENT_TYPE, Metrics
from stoker.testing.echo import Echo, EchoResponse, EchoVectors, Json, echo_of, response_of, vectors_of
from stoker.web import server, sse

AnyEcho = Echo | EchoResponse | EchoVectors
State = Literal["running", "done", "refused", "broken", "cancelled"]

# Long for a machine that is busy with other things; a test that works never waits for it.
DEADLINE_S = 20.0


@dataclass(slots=True)
class Seen:
    """One request that arrived. `sent` counts the chunks that were handed to its connection."""

    path: str
    headers: Mapping[str, str]
    body: Json
    state: State = "running"
    sent: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def end(self) -> State:
        """Waits for it; raises TimeoutError when it goes on for ever."""
        async with asyncio.timeout(DEADLINE_S):
            await self.ended.wait()
        return self.state


class Hold:
    """A place where a request stops until `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self._there: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()

    async def reached(self) -> Seen:
        """The request that stands here. Raises TimeoutError when none comes."""
        async with asyncio.timeout(DEADLINE_S):
            return await asyncio.shield(self._there)

    async def stop_here(self, request: Seen) -> None:
        if not self._there.done():
            self._there.set_result(request)
        await self.open.wait()


@dataclass(slots=True)
class _Plan:
    """What happens to one request; the next one that arrives takes it."""

    hold: tuple[int, Hold] | None = None
    refusal: Callable[[], Response] | None = None
    break_after: int | None = None
    error_after: tuple[int, Json] | None = None


class EchoEngine:
    """`reply`: what it says instead of repeating. `port`: where it listens; 0: on a free one.
    `cached_tokens`: what it says of its cache. `capacity`: to more
    requests than that it answers 503. `healthy`, `has_metrics`: whether /health and /metrics answer. `tells`: whether
    it says afterwards what it produced for a request (`/v1/requests/{id}`), as the embedded engine does and others do
    not; what it did before it was stopped it has forgotten. `ignores_length`: it says all it has to say, whatever
    `max_tokens` allows.
    `key`: what it wants to be sent, as hosted APIs do; another one it refuses, and repeats it.
    `lacks`: endpoints that it has not ("responses", "embeddings"). `pace_s`: how long it takes for each token, for
    load; 0: no time."""

    def __init__(self, model: str = "general", *, reply: str | None = None, port: int = 0) -> None:
        self.model = model
        self.reply = reply
        self.cached_tokens = 0
        self.capacity: int | None = None
        self.healthy = True
        self.has_metrics = True
        self.tells = True
        self.ignores_length = False
        self.key: str | None = None
        self.lacks: frozenset[str] = frozenset()
        self.pace_s = 0.0
        self.waiting = 0
        self.requests: list[Seen] = []
        self.looks: Counter[str] = Counter()  # at "/health" and "/metrics"
        self.url = ""
        self._plans: deque[_Plan] = deque()
        self._arrived = asyncio.Condition()
        self._stop = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._port = port
        self._since = 0.0
        self._forgotten = 0  # so many of the requests

    # --- its life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Serve; after `stop`, on the same port again."""
        listening = server.bind("127.0.0.1", self._port)
        self._port = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._since = SystemClock().now()
        self._forgotten = len(self.requests)
        self._stop = asyncio.Event()
        ready = asyncio.Event()
        self._serving = asyncio.create_task(
            server.serve(self._application(), listening, self._stop, on_ready=ready.set, grace_s=0)
        )
        await ready.wait()

    async def stop(self) -> None:
        """Go away as a crashed engine does: what runs is broken off, and nobody listens."""
        self._stop.set()
        if self._serving is not None:
            await self._serving
            self._serving = None

    async def __aenter__(self) -> "EchoEngine":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # --- what a test tells it ---------------------------------------------------------------------------------------

    def hold_at(self, chunk: int) -> Hold:
        """The next request stops before its chunk of this number, from 0; a JSON answer stops before it is sent."""
        hold = Hold()
        self._plans.append(_Plan(hold=(chunk, hold)))
        return hold

    def refuse(self, status: int, body: Json | str, *, times: int = 1, retry_after: str | None = None) -> None:
        """The next requests are answered with this. `body` as text is sent as it stands."""
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        text = body if isinstance(body, str) else json.dumps(body)
        for _ in range(times):
            self._plans.append(
                _Plan(refusal=lambda: Response(text, status, headers=headers, media_type="application/json"))
            )

    def break_off_after(self, chunks: int, *, times: int = 1) -> None:
        """The next requests lose their connection after so many chunks; a JSON answer, after its headers."""
        self._plans.extend(_Plan(break_after=chunks) for _ in range(times))

    def fail_after(self, chunks: int, error: Json) -> None:
        """The next stream says an error as an event after so many chunks, as vLLM does, and ends."""
        self._plans.append(_Plan(error_after=(chunks, error)))

    # --- what a test sees -------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[Seen]:
        return [each for each in self.requests if each.state == "running"]

    async def request(self, number: int) -> Seen:
        """The request that arrived as this one, from 0, as soon as it is there."""
        async with asyncio.timeout(DEADLINE_S), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) > number)
        return self.requests[number]

    # --- how it answers ---------------------------------------------------------------------------------------------

    def _application(self) -> Any:
        return server.application(
            [
                Route("/v1/chat/completions", self._generate, methods=["POST"]),
                Route("/v1/completions", self._generate, methods=["POST"]),
                *(
                    Route(f"/v1/{name}", self._generate, methods=["POST"])
                    for name in ("responses", "embeddings")
                    if name not in self.lacks
                ),
                Route("/v1/requests/{id}", self._produced),
                Route("/v1/models", self._models),
                Route("/health", self._health),
                Route("/metrics", self._metrics),
            ]
        )

    async def _models(self, request: Request) -> Response:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": {"message": "Incorrect API key provided."}}, 401)
        return JSONResponse({"object": "list", "data": [{"id": self.model, "object": "model"}]})

    async def _produced(self, request: Request) -> Response:
        if not self.tells:
            return Response("there is nothing here", 404)
        known = self.requests[self._forgotten :]
        named = [seen for seen in known if seen.headers.get("x-request-id") == request.path_params["id"]]
        seen = named[-1] if named else None
        usage = seen and {"prompt_tokens": seen.prompt_tokens, "completion_tokens": seen.completion_tokens}
        return JSONResponse(
            {
                "known": seen is not None,
                "since": self._since,
                "has_ended": seen and seen.state != "running",
                "usage": usage,
            }
        )

    async def _health(self, _: Request) -> Response:
        self.looks["/health"] += 1
        return Response(status_code=200 if self.healthy else 503)

    async def _metrics(self, _: Request) -> Response:
        self.looks["/metrics"] += 1
        if not self.has_metrics:
            return Response("there is nothing here", 404)
        metrics = Metrics()
        gauges = {"num_requests_running": len(self.running), "num_requests_waiting": self.waiting}
        for name, value in {**gauges, "kv_cache_usage_perc": 0.0}.items():
            metrics.gauge(f"vllm:{name}", "As vLLM names it.", ["model_name"]).labels(self.model).set(value)
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    async def _generate(self, request: Request) -> Response:
        body = await server.read_json(request, max_bytes=64 * 1024 * 1024)
        seen = Seen(request.url.path, dict(request.headers), body)
        said = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.key is not None and said != self.key:
            return JSONResponse({"error": {"message": f"Incorrect API key provided: {said}."}}, 401)
        is_full = self.capacity is not None and len(self.running) >= self.capacity
        plan = self._plans.popleft() if self._plans else _Plan()
        self.requests.append(seen)
        async with self._arrived:
            self._arrived.notify_all()
        with _ending(seen):
            if is_full:
                plan = _Plan(refusal=_full)
            if plan.refusal is not None:
                seen.state = "refused"
                return plan.refusal()
            echo = self._echo(request, body)
        seen.prompt_tokens = echo.prompt_tokens
        if body.get("stream") is True:
            return _Breakable(_Events(self._stream(seen, plan, echo), seen))
        return await self._whole(request, seen, plan, echo)

    def _echo(self, request: Request, body: Json) -> AnyEcho:
        if body.get("model") != self.model:
            raise NotFound(f"The model `{body.get('model')}` does not exist.", code="model_not_found")
        if request.url.path.endswith("/embeddings"):
            return vectors_of(body, model=self.model)
        given: Json = {
            "number": len(self.requests),
            "model": self.model,
            "cached_tokens": self.cached_tokens,
            "reply": self.reply,
            "ignores_length": self.ignores_length,
        }
        if request.url.path.endswith("/responses"):
            return response_of(body, **given)
        return echo_of(body, is_chat=request.url.path.endswith("/chat/completions"), **given)

    async def _whole(self, request: Request, seen: Seen, plan: _Plan, echo: AnyEcho) -> Response:
        with _ending(seen):
            if plan.hold is not None:
                await server.while_connected(request, plan.hold[1].stop_here(seen))
            if plan.break_after is not None:
                seen.state = "broken"
                return _BrokenOff()
            await server.while_connected(request, self._compute(seen, echo))
            seen.state = "done"
            return JSONResponse(echo.whole())

    async def _compute(self, seen: Seen, echo: AnyEcho) -> None:
        for _ in echo.texts:
            if self.pace_s:
                await asyncio.sleep(self.pace_s)
            seen.completion_tokens += echo.n

    async def _stream(self, seen: Seen, plan: _Plan, echo: AnyEcho) -> AsyncIterator[bytes]:
        for number, chunk in enumerate(echo.events(seen.body.get("stream_options") or {})):
            if plan.hold is not None and plan.hold[0] == number:
                await plan.hold[1].stop_here(seen)
            if self.pace_s:
                await asyncio.sleep(self.pace_s)
            if plan.break_after == number:
                seen.state = "broken"
                raise _Break
            if plan.error_after is not None and plan.error_after[0] == number:
                seen.state = "broken"
                yield sse.json_event({"error": plan.error_after[1]})
                yield sse.event(sse.DONE)
                return
            seen.sent += 1
            seen.completion_tokens = echo.produced(seen.sent)
            yield sse.json_event(chunk, name=chunk.get("type"))
        seen.state = "done"
        if not isinstance(echo, EchoResponse):
            yield sse.event(sse.DONE)


class _Events:
    """The events of one request, which ends when they are closed: also when they never began."""

    def __init__(self, events: AsyncIterator[bytes], seen: Seen) -> None:
        self._events = events
        self._seen = seen

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._events)

    async def aclose(self) -> None:
        await self._events.aclose()  # type: ignore[attr-defined]  # it is a generator
        _end(self._seen)


@contextmanager
def _ending(seen: Seen) -> Any:
    """A request that leaves the block with an error, or that was decided in it, has ended."""
    try:
        yield
    except StokerError:
        seen.state = "refused"
        raise
    except BaseException:
        _end(seen)
        raise
    finally:
        if seen.state != "running":
            seen.ended.set()


def _end(seen: Seen) -> None:
    if seen.state == "running":
        seen.state = "cancelled"
    seen.ended.set()


class _Break(Exception):
    """The connection is lost in the middle of an answer."""


class _Breakable(sse.EventStream):
    """Ends without its end, upon which the server closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(_Break):
            await super().__call__(scope, receive, send)


class _BrokenOff(Response):
    """Headers that promise a body, and then none: the server closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"1000"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


def _full() -> Response:
    error = {"message": "no room", "type": "server_error", "code": "unavailable", "param": None}
    return JSONResponse({"error": error}, 503, headers={"Retry-After": "1"})
