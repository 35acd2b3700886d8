"""The HTTP application of one embedded engine: OpenAI's endpoints on top of a `StepLoop`."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import EngineUnavailable, NotFound, StokerError, Unauthenticated
from stoker.base.ids import new_id
from stoker.engine import embeddings, parsing, responses, shapes
from stoker.engine.loop import StepLoop, Ticket
from stoker.engine.parsing import Asked, Served
from stoker.engine.recent import Recent
from stoker.engine.sequences import Progress, Running, Work
from stoker.engine.shapes import Json, Shape
from stoker.telemetry import spans
from stoker.telemetry.metrics import CONTENT_TYPE
from stoker.telemetry.spans import Tracing
from stoker.web import problems, server, sse

MAX_BODY_BYTES = 32 * 1024 * 1024
INLINE_VECTORS = 32
"""More of them are written in a thread, for the same reason."""
INLINE_BODY_BYTES = 64 * 1024
"""A larger body is parsed in a thread: tokens of a long prompt and images take longer than other requests may wait."""


T = TypeVar("T")
Parse = Callable[[Json, Served], T]
Whole = Callable[[Ticket, Asked, T], Coroutine[Any, Any, Response]]
Events = Callable[[Ticket, Asked, T], AsyncIterator[bytes]]


def build(
    loop: StepLoop, served: Served, clock: Clock, *, key: str | None = None, tracing: Tracing | None = None
) -> Starlette:
    """With `key`, everything under `/v1` wants it as a bearer token."""
    application = server.application(_Endpoints(loop, served, clock, tracing).routes())
    if key is not None:
        application.add_middleware(_WithKey, key=key)
    return application


class _WithKey:
    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._expected = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            said = dict(scope["headers"]).get(b"authorization", b"")
            if not secrets.compare_digest(said, self._expected):
                refused = Unauthenticated(
                    "this engine answers its own gateway and workers only", hint="send the request to the gateway"
                )
                await problems.response_of(refused)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Endpoints:
    def __init__(self, loop: StepLoop, served: Served, clock: Clock, tracing: Tracing | None) -> None:
        self._tracing = tracing
        self._loop, self._served, self._clock = loop, served, clock
        self._created = int(clock.now())
        self._recent = Recent(clock.now())

    def routes(self) -> list[Route]:
        return [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.completion, methods=["POST"]),
            Route("/v1/responses", self.responses, methods=["POST"]),
            Route("/v1/embeddings", self.embeddings, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/v1/requests/{id}", self.produced),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
        ]

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, parsing.chat, is_chat=True)

    async def completion(self, request: Request) -> Response:
        return await self._answer(request, parsing.completion, is_chat=False)

    async def responses(self, request: Request) -> Response:
        asked, body = await self._read(request, lambda body, served: (responses.parse(body, served), body))
        answer = responses.Answer(
            body=body,
            model=self._served.model,
            created=int(self._clock.now()),
            prompt_tokens=len(asked.generation.prompt),
            max_output_tokens=body.get("max_output_tokens"),
            continuous_usage=asked.continuous_usage,
        )
        return await self._generated(request, asked, answer.id, _whole_response, _response_events, answer)

    async def embeddings(self, request: Request) -> Response:
        wanted = await self._read(request, embeddings.parse)
        began = self._clock.now()
        ticket, embedding = self._loop.submit_texts(wanted.texts)
        request_id = request.headers.get("x-request-id", new_id("emb"))
        self._recent.begin(request_id, ticket, began)

        def written() -> bytes:
            return json.dumps(embeddings.answer(wanted, embedding.vectors, self._served.model)).encode()

        async def whole() -> Response:
            async for _ in ticket.progress():
                pass
            # Many vectors take longer to write than other requests may wait.
            body = written() if len(wanted.texts) <= INLINE_VECTORS else await asyncio.to_thread(written)
            return Response(body, media_type="application/json")

        try:
            return await server.while_connected(request, whole())
        finally:
            self._end(request, ticket, request_id, began)

    async def _read(self, request: Request, parse: Parse[T]) -> T:
        """What it asks for. From here on its logs bear the trace that it came with."""
        if self._tracing is not None:
            logs.bound.set(spans.parent_in(request.headers))
        body = await server.read_json(request, max_bytes=MAX_BODY_BYTES)
        if int(request.headers.get("content-length", INLINE_BODY_BYTES)) < INLINE_BODY_BYTES:
            return parse(body, self._served)
        return await asyncio.to_thread(parse, body, self._served)

    async def _answer(self, request: Request, parse: Parse[Asked], *, is_chat: bool) -> Response:
        asked = await self._read(request, parse)
        shape = Shape(
            id=new_id("chatcmpl" if is_chat else "cmpl"),
            model=self._served.model,
            created=int(self._clock.now()),
            is_chat=is_chat,
            include_usage=asked.include_usage,
            continuous_usage=asked.continuous_usage,
        )
        return await self._generated(request, asked, shape.id, _whole, _events, shape)

    async def _generated(
        self,
        request: Request,
        asked: Asked,
        answer_id: str,
        whole: Whole[T],
        events: Events[T],
        shape: T,
    ) -> Response:
        """The answer in its shape: as a whole, or by events."""
        began = self._clock.now()
        ticket = self._loop.submit(asked.generation, is_streamed=asked.stream)
        request_id = request.headers.get("x-request-id", answer_id)
        self._recent.begin(request_id, ticket, began)

        def end() -> None:
            self._end(request, ticket, request_id, began)

        if asked.stream:
            return _StreamedAnswer(end, events(ticket, asked, shape))
        try:
            return await server.while_connected(request, whole(ticket, asked, shape))
        finally:
            end()

    def _end(self, request: Request, ticket: Ticket, request_id: str, began: float) -> None:
        has_ended = ticket.has_ended
        ticket.cancel()
        self._recent.end(request_id)
        if self._tracing is not None:
            self._tell(self._tracing, request, ticket.work, began, has_ended=has_ended)

    def _tell(self, tracing: Tracing, request: Request, work: Work, began: float, *, has_ended: bool) -> None:
        """Of a request that is part of a trace. Of where its time went, under the names that vLLM's spans have."""
        parent = spans.parent_in(request.headers)
        if parent is None:
            return
        span = tracing.begin(parent, spans.call_of("server", request.url.path, self._served.model), began)
        if isinstance(work, Running) and work.generated:
            span.attributes = {
                "gen_ai.latency.time_in_queue": work.joined_at - work.arrived_at,
                "gen_ai.latency.time_in_model_prefill": work.first_token_at - work.joined_at,
                "gen_ai.latency.time_in_model_decode": work.last_token_at - work.first_token_at,
                "gen_ai.latency.time_to_first_token": work.first_token_at - work.arrived_at,
            }
        span.end(self._clock.now(), None if has_ended else "cancelled")

    async def produced(self, request: Request) -> Response:
        """What was computed for a request, for whoever accounts for one whose caller has died."""
        request_id = request.path_params["id"]
        found = self._recent.find(request_id)
        return JSONResponse(
            {
                "id": request_id,
                "object": "request",
                "known": found is not None,
                "since": self._recent.since,
                "has_ended": found.has_ended if found else None,
                "usage": shapes.usage(found.prompt_tokens, found.completion_tokens) if found else None,
            }
        )

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name != self._served.model:
            raise NotFound(f"this engine serves {self._served.model!r}, not {name!r}", code="model_not_found")
        return JSONResponse(self._model())

    async def health(self, request: Request) -> Response:
        if not self._loop.is_serving:
            raise EngineUnavailable("this engine is stopping", code="engine_stopping")
        return JSONResponse({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        return Response(self._loop.runner.metrics.text(), media_type=CONTENT_TYPE)

    def _model(self) -> Json:
        return shapes.model_object(self._served.model, self._created, self._served.context, self._served.digest)


async def _whole(ticket: Ticket, asked: Asked, shape: Shape) -> Response:
    parts: list[str] = []
    async for progress in ticket.progress():
        parts.append(progress.text)
    return JSONResponse(shape.whole("".join(parts), progress.finish_reason, _usage(asked, progress)))


async def _events(ticket: Ticket, asked: Asked, shape: Shape) -> AsyncIterator[bytes]:
    """The answer's events. A failure after the first one is an event too: the status has been sent by then."""
    begin = shape.first_chunk(shapes.usage(len(asked.generation.prompt), 0))
    try:
        async for progress in ticket.progress():
            chunks = begin + shape.chunks(progress.text, progress.finish_reason, _usage(asked, progress))
            begin = []
            if chunks:
                yield b"".join(sse.json_event(chunk) for chunk in chunks)
    except StokerError as error:
        yield sse.json_event(problems.body_of(error))
        return
    if asked.include_usage:
        yield sse.json_event(shape.usage_chunk(_usage(asked, progress)))
    yield sse.event(sse.DONE)


async def _whole_response(ticket: Ticket, asked: Asked, answer: responses.Answer) -> Response:
    parts: list[str] = []
    async for progress in ticket.progress():
        parts.append(progress.text)
    return JSONResponse(answer.whole("".join(parts), progress.finish_reason, progress.tokens))


async def _response_events(ticket: Ticket, asked: Asked, answer: responses.Answer) -> AsyncIterator[bytes]:
    events = answer.begin()
    try:
        async for progress in ticket.progress():
            events += answer.more(progress.text, progress.tokens)
            if progress.is_last:
                events += answer.end(progress.finish_reason, progress.tokens)
            if events:
                yield b"".join(sse.json_event(event, name=event["type"]) for event in events)
            events = []
    except StokerError as error:
        yield sse.json_event(answer.failed(problems.body_of(error)["error"]), name="error")


def _usage(asked: Asked, progress: Progress) -> Json:
    return shapes.usage(len(asked.generation.prompt), progress.tokens)


class _StreamedAnswer(sse.EventStream):
    """Ends the request in the engine however the stream ends, also when it never begins."""

    def __init__(self, end: Callable[[], None], events: AsyncIterator[bytes]) -> None:
        super().__init__(events)
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._end()
