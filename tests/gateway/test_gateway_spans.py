"""What a gateway tells of requests that were refused, or whose answer nobody got; how spans hang together is in
tests/flow/test_one_trace.py."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gateway_parts import HELLO, KEY, a_stack, said_of, until

from stoker.base import logs
from stoker.gateway import auth, batch_spans, spans
from stoker.meter.keys import KeyStore
from stoker.spec import loads
from stoker.telemetry.spans import Tracing, sampler_of, shape
from stoker.testing.spans import Sink


class Servers(Sink):
    def refused(self) -> list[tuple[str, bool, int, str]]:
        """Name, whether it went wrong here, and what is said of the error."""
        return [
            (
                span.shape.name,
                span.is_wrong,
                said_of(span)["http.response.status_code"],
                span.attributes["error.type"],
            )
            for span in self.told
            if "error.type" in span.attributes and span.shape.kind == "server"
        ]

    def server(self) -> list[tuple[bool, int]]:
        return [
            (span.is_wrong, said_of(span)["http.response.status_code"])
            for span in self.told
            if span.shape.kind == "server"
        ]


async def test_a_client_that_goes_away_leaves_a_span(tmp_path: Path) -> None:
    sink = Servers()
    async with a_stack(tmp_path) as stack:
        object.__setattr__(stack.gateway.services, "tracing", Tracing(sink, lambda *_: True))
        engine = await stack.engine()
        hold = engine.hold_at(0)
        http = await stack.http(KEY)
        asking = asyncio.create_task(http.post_json("/v1/chat/completions", {"model": "general", "messages": HELLO}))
        await hold.reached()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(sink.server)
        hold.open.set()
    assert sink.server() == [(False, 499)]


async def test_a_span_begins_when_its_request_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anybody is asked whose key it is."""
    sink = Servers()
    async with a_stack(tmp_path) as stack:
        services = stack.gateway.services
        object.__setattr__(services, "tracing", Tracing(sink, lambda *_: True))
        await stack.engine()
        known_at: list[float] = []
        user = auth.Authenticator.user

        async def slow(self: auth.Authenticator, request: Any) -> Any:
            found = await user(self, request)
            known_at.append(services.clock.now())
            return found

        monkeypatch.setattr(auth.Authenticator, "user", slow)
        http = await stack.http(KEY)
        came_at: list[float] = []
        for _ in range(2):  # the span of the second was made beforehand
            came_at.append(services.clock.now())
            await http.post_json("/v1/chat/completions", {"model": "general", "messages": HELLO})
    for server, came, known in zip(servers := sink.told[1::2], came_at, known_at, strict=True):
        assert came < server.started_at < known < server.ended_at
    assert {each.shape.kind for each in servers} == {"server"}


REFUSING = """
gateway: {maxBodyBytes: 4096}
llm:
  models:
    general:
      prices: {inputUsdPerMillionTokens: 0, cachedInputUsdPerMillionTokens: 0, outputUsdPerMillionTokens: 1000}
    code: {}
tenants: {acme: {}, poor: {budgets: {usdTotal: 0.006}}, quick: {budgets: {requestsPerMinute: 1}}}
"""
FORCED = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}


async def test_a_request_that_is_refused_leaves_a_span_with_its_code(tmp_path: Path) -> None:
    sink = Servers()
    body = {"model": "general", "messages": HELLO, "max_tokens": 5}
    async with a_stack(tmp_path, platform=loads(REFUSING)) as stack:
        object.__setattr__(stack.gateway.services, "tracing", Tracing(sink, lambda *_: True))
        keys = KeyStore(stack.store)
        poor, quick = (keys.create(tenant=name, name=name).secret for name in ("poor", "quick"))
        bound = keys.create(tenant="acme", name="bound", models=["code"]).secret
        await stack.engine()

        async def told_of(path: str, said: Any, key: str | None = KEY) -> tuple[str, bool, int, str] | None:
            before = len(sink.refused())
            answer = await (await stack.http(key)).request("POST", path, body=said, headers=FORCED)
            assert answer.status >= 400
            new = sink.refused()[before:]
            assert len(new) <= 1
            return new[0] if new else None

        for key in (poor, quick):  # what they may have, so that there is none left
            await (await stack.http(key)).post_json("/v1/chat/completions", body, FORCED)
        stranger, unknown, large = "sk-stoker-nobody", {**body, "model": "secret-words"}, {**body, "x": "y" * 5000}
        direct, tasks = "/v1/chat/completions", "/v1/tasks"
        assert [
            await told_of(direct, unknown),
            await told_of(direct, {**body, "model": 7}),
            await told_of(direct, body, bound),
            await told_of(direct, body, poor),
            await told_of(direct, body, quick),
        ] == [
            ("POST /v1/chat/completions", False, 404, "model_not_found"),
            ("POST /v1/chat/completions", False, 400, "invalid_value"),
            ("POST /v1/chat/completions", False, 403, "not_permitted"),
            ("POST /v1/chat/completions", False, 402, "budget_exhausted"),
            ("POST /v1/chat/completions", False, 429, "requests_budget_exceeded"),
        ]
        assert [
            await told_of(tasks, unknown),
            await told_of(tasks, {"endpoint": 1}),
            await told_of(tasks, large),
            await told_of(tasks, body, quick),
        ] == [
            ("POST /v1/tasks", False, 404, "model_not_found"),
            ("POST /v1/tasks", False, 400, "invalid_value"),
            ("POST /v1/tasks", False, 413, "too_large"),
            ("POST /v1/tasks", False, 429, "requests_budget_exceeded"),
        ]
        # A stranger has no span, whatever they ask for, nor has what was refused before the key was looked at.
        assert await told_of(direct, body, stranger) is None
        assert await told_of(tasks, body, None) is None
        assert await told_of(direct, large) is None
        page = (await (await stack.http()).request("GET", "/metrics")).body.decode()
    assert 'stoker_refused_total{code="invalid_api_key"} 2.0' in page
    assert 'stoker_refused_total{code="too_large"} 2.0' in page
    assert "secret-words" not in str(sink.told)
    servers = [span for span in sink.told if span.shape.kind == "server"]
    assert {span.parent for span in servers} == {bytes.fromhex("b" * 16)}
    assert {span.shape.attributes["stoker.tenant"] for span in servers} == {"acme", "poor", "quick"}


async def test_an_engines_refusal_is_counted_and_told_by_its_code_where_that_is_a_word(tmp_path: Path) -> None:
    """Else an engine that refuses everything, such as one that knows the model by another name, is seen nowhere."""
    sink = Servers()
    async with a_stack(tmp_path) as stack:
        object.__setattr__(stack.gateway.services, "tracing", Tracing(sink, lambda *_: True))
        engine = await stack.engine()
        http = await stack.http()
        for status, code in ((400, "context_length_exceeded"), (422, "secret words"), (404, None), (422, 7)):
            for is_stream in (False, True):
                engine.refuse(status, {"error": {"message": "secret words", "type": "t", "code": code, "param": None}})
                body = {"model": "general", "messages": HELLO, "stream": is_stream}
                assert (await http.request("POST", "/v1/chat/completions", body=body)).status == status
        page = (await http.request("GET", "/metrics")).body.decode()
    name = "POST /v1/chat/completions"
    expected = [(400, "context_length_exceeded"), (422, "422"), (404, "404"), (422, "422")]
    assert sink.refused() == [(name, False, status, code) for status, code in expected for _ in range(2)]
    for code, count in (("context_length_exceeded", 2), ("404", 2), ("422", 4)):
        assert f'stoker_refused_total{{code="{code}"}} {count}.0' in page
    assert "secret words" not in page + str(sink.told)


async def test_what_is_logged_of_a_request_bears_its_own_trace_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests of a connection are answered by one task, one after the other; what one of them left behind is its
    own, though it goes on when there is another."""
    sink, bound, tasks, is_over = Sink(), list[str](), set(), asyncio.Event()
    left: list[asyncio.Task[str]] = []
    user = auth.Authenticator.user

    def trace_id() -> str:
        said = logs.current()
        assert said is not None
        return said.in_logs["trace_id"]

    async def left_behind() -> str:
        await is_over.wait()
        return trace_id()

    async def looked(self: auth.Authenticator, request: Any) -> Any:
        bound.append(trace_id())
        tasks.add(asyncio.current_task())
        left.append(stack.gateway.services.inference.commitments.begin(left_behind()))
        return await user(self, request)

    monkeypatch.setattr(auth.Authenticator, "user", looked)
    async with a_stack(tmp_path) as stack:
        object.__setattr__(stack.gateway.services, "tracing", Tracing(sink, lambda *_: True))
        await stack.engine()
        http = await stack.http()
        for is_stream in (False, True, False):
            body = {"model": "general", "messages": HELLO, "stream": is_stream}
            assert (await http.request("POST", "/v1/chat/completions", body=body)).status == 200
        is_over.set()
        assert await asyncio.gather(*left) == bound
    assert len(tasks) == 1
    assert bound == [span.trace_id.hex() for span in sink.told if span.shape.kind == "server"]
    assert len(set(bound)) == 3


@pytest.mark.parametrize("is_sampled", [True, False])
def test_a_call_is_told_once_whoever_ends_it_and_not_where_its_trace_is_not_sampled(is_sampled: bool) -> None:
    sink = Sink()
    span = Tracing(sink, lambda *_: is_sampled).begin(None, shape("server", "x"), 1.0)
    charge: Any = SimpleNamespace(model="general", replica="general-0", attempts=2, first_token_at=4.5, started_at=1.5)
    charge.prompt_tokens, charge.cached_tokens, charge.completion_tokens = 5, 2, 3
    ask: Any = SimpleNamespace(span=span, endpoint=SimpleNamespace(path="/v1/completions"))
    running: Any = SimpleNamespace(ask=ask, charge=charge, reasons=("stop",), call_id=None, call_lines=None)
    spans.ended(running, 2.0)  # there was none
    spans.calls(running, 2.0)
    lines = running.call_lines
    spans.ended(running, 3.0, "upstream_error")
    spans.ended(running, 9.0)
    spans.calls(running, 9.1)
    span.end(9.5)
    spans.ended(running, 9.7)
    if not is_sampled:
        assert (sink.told, lines[-5:]) == ([], "-00\r\n")
        return
    told, above, late = sink.told
    assert (late.parent, late.started_at, late.ended_at, late.is_wrong) == (above.id, 9.1, 9.7, False)
    assert running.call_lines == f"traceparent: 00-{span.trace_id.hex()}-{late.id.hex()}-01\r\n"
    assert lines == f"traceparent: 00-{span.trace_id.hex()}-{told.id.hex()}-01\r\n"
    assert (told.trace_id, told.parent, told.started_at, told.ended_at) == (span.trace_id, span.id, 2.0, 3.0)
    assert (told.shape.kind, told.shape.name, told.is_wrong) == ("client", "text_completion general", True)
    assert said_of(told) == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "stoker",
        "gen_ai.request.model": "general",
        "gen_ai.response.model": "general",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 3.0,
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "stoker.replica": "general-0",
        "stoker.attempt": 2,
        "error.type": "upstream_error",
    }


async def test_each_call_says_which_engine_it_was_and_how_it_ended_though_another_was_asked_after(
    tmp_path: Path,
) -> None:
    sink = Sink()
    async with a_stack(tmp_path) as stack:
        object.__setattr__(stack.gateway.services, "tracing", Tracing(sink, lambda *_: True))
        first, second = await stack.engine(), await stack.engine()
        first.break_off_after(0)
        http = await stack.http()
        body = {"model": "general", "messages": HELLO}
        assert (await http.request("POST", "/v1/chat/completions", body=body)).status == 200
    broke, answered, request = sink.told
    for each, said in ((broke, ("general-0", 1, True)), (answered, ("general-1", 2, False))):
        assert (said_of(each)["stoker.replica"], said_of(each)["stoker.attempt"], each.is_wrong) == said
    assert [each.attributes.get("error.type") for each in sink.told] == ["unavailable", None, None]
    assert {each.parent for each in (broke, answered)} == {request.id}
    assert len({each.id for each in sink.told}) == 3
    sent = [dict(asked.headers)["traceparent"] for engine in (first, second) for asked in engine.requests]
    assert sent == [f"00-{request.trace_id.hex()}-{each.id.hex()}-01" for each in (broke, answered)]


async def test_a_request_says_of_which_session_and_run_it_is(tmp_path: Path) -> None:
    sink = Sink()
    async with a_stack(tmp_path) as stack:
        object.__setattr__(stack.gateway.services, "tracing", Tracing(sink, lambda *_: True))
        await stack.engine()
        http = await stack.http()
        for headers in ({"X-Session-Id": "s-1", "X-Run-Id": "r-1"}, {"X-Session-Id": "s-2"}, {}):
            body = {"model": "general", "messages": HELLO}
            await http.request("POST", "/v1/chat/completions", body=body, headers=headers)
    names = ("gen_ai.conversation.id", "stoker.run")
    said = [[said_of(each).get(name) for name in names] for each in sink.told if each.shape.kind == "server"]
    assert said == [["s-1", "r-1"], ["s-2", None], [None, None]]


def test_a_batch_is_sampled_or_not_as_a_whole() -> None:
    """By its id, so that each gateway decides alike."""
    quarter = sampler_of({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"})
    decided = [batch_spans.caused_by(Tracing(Sink(), quarter), f"batch_{number}").is_sampled for number in range(400)]
    assert 60 < sum(decided) < 140
    assert decided == [
        batch_spans.caused_by(Tracing(Sink(), quarter), f"batch_{number}").is_sampled for number in range(400)
    ]
