"""Whatever becomes of a request, its span is told once, with what is true of it, and its logs bear its own trace."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gateway_parts import HELLO, KEY, Stack, a_stack, said_of, until

import stoker.gateway
from stoker.base import logs
from stoker.gateway import auth, commitments, spans
from stoker.gateway.running import Gateway
from stoker.gateway.services import Services
from stoker.meter.charge import Charge
from stoker.queue import doorbells
from stoker.queue.redis_queue import RedisQueue
from stoker.telemetry.spans import Parent, Span, Tracing, shape
from stoker.testing.redis import RedisServer
from stoker.testing.spans import Sink, Told, told_of

CHAT, ASKED = "/v1/chat/completions", {"model": "general", "messages": HELLO}


def watched(stack: Stack, sink: Any) -> None:
    object.__setattr__(stack.gateway.services, "tracing", Tracing(sink, lambda *_: True))


def trace_id() -> str | None:
    said = logs.current()
    return None if said is None else said.in_logs["trace_id"]


def servers(sink: Sink) -> list[Told]:
    return [each for each in sink.told if each.shape.kind == "server"]


async def broken(*_: object, **__: object) -> None:
    raise RuntimeError("a mistake of ours")


# --- what is told ---------------------------------------------------------------------------------------------------


async def test_a_request_that_goes_wrong_before_its_model_is_known_has_a_span(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink()
    monkeypatch.setattr(Services, "ask", broken)
    async with a_stack(tmp_path) as stack:
        watched(stack, sink)
        http = await stack.http()
        for path in (CHAT, "/v1/tasks"):
            assert (await http.request("POST", path, body=ASKED)).status == 500
    said = [(each.shape.name, each.is_wrong, said_of(each)["error.type"]) for each in sink.told]
    assert said == [(f"POST {CHAT}", True, "500"), ("POST /v1/tasks", True, "500")]
    assert {said_of(each)["stoker.tenant"] for each in sink.told} == {"acme"}


async def test_a_client_that_leaves_before_it_is_let_in_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, is_there = Sink(), asyncio.Event()

    async def waits(*_: object, **__: object) -> None:
        is_there.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Services, "ask", waits)
    async with a_stack(tmp_path) as stack:
        watched(stack, sink)
        asking = asyncio.create_task((await stack.http()).request("POST", CHAT, body=ASKED))
        await is_there.wait()
        asking.cancel()
        await until(lambda: bool(sink.told))
    [told] = sink.told
    said = said_of(told)
    assert (said["http.response.status_code"], told.is_wrong, said.get("error.type")) == (499, False, None)


async def test_a_stream_that_waits_in_the_queue_ends_when_its_client_does(tmp_path: Path) -> None:
    sink = Sink()
    async with a_stack(tmp_path) as stack:
        watched(stack, sink)
        opened = await (await stack.http()).open("POST", CHAT, body={**ASKED, "stream": True})
        assert [each.shape.kind for each in sink.told] == ["producer"]
        opened.close()
        await until(lambda: len(servers(sink)) == 1)
    assert said_of(servers(sink)[0])["http.response.status_code"] == 200


async def test_a_stream_that_is_gone_on_with_has_a_span(tmp_path: Path) -> None:
    sink = Sink()
    async with a_stack(tmp_path) as stack:
        watched(stack, sink)
        await stack.worker(await stack.engine())
        http = await stack.http()
        headers = {"X-Stoker-Resumable": "true"}
        first = await http.request("POST", CHAT, body={**ASKED, "stream": True}, headers=headers)
        [seen, *_] = re.findall(rb"^id: (\S+)$", first.body, re.MULTILINE)
        again = await http.request("POST", CHAT, body=ASKED, headers={"Last-Event-ID": seen.decode()})
        assert again.status == 200
    begun, resumed = servers(sink)
    assert resumed.shape.name == f"POST {CHAT}"
    assert (said_of(resumed)["http.response.status_code"], said_of(resumed)["stoker.tenant"]) == (200, "acme")
    assert said_of(begun)["stoker.model"] == "general"


class Later(Sink):
    """Says what spans were when they were told, and after everything, as those that are written later."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Span] = []

    def tell(self, span: Span) -> None:
        super().tell(span)
        self.spans.append(span)


async def test_what_a_call_used_is_the_ledgers_count_and_does_not_change_once_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an engine that does not say what it counted."""
    sink = Later()
    monkeypatch.setattr(Charge, "saw_usage", lambda self, usage: None)
    async with a_stack(tmp_path) as stack:
        watched(stack, sink)
        await stack.engine()
        http = await stack.http()
        for is_stream in (True, False):
            body = {**ASKED, "stream": is_stream, "max_tokens": 50}
            assert (await http.request("POST", CHAT, body=body)).status == 200
        records = await stack.records()

    def used(told: list[Told]) -> list[tuple[int, int]]:
        calls = [each.attributes for each in told if each.shape.kind == "client"]
        return [(each["gen_ai.usage.input_tokens"], each["gen_ai.usage.output_tokens"]) for each in calls]

    assert used(sink.told) == used([each for span in sink.spans for each in told_of(span)])
    assert sorted(used(sink.told)) == sorted((each.prompt_tokens, each.completion_tokens) for each in records)


def test_an_answer_is_told_once() -> None:
    sink = Sink()
    span = Tracing(sink, lambda *_: True).begin(None, shape("server", "x"), 1.0)
    for status in (200, 500, 200):
        spans.answered_with(span, status, 2.0)
    [told] = sink.told
    assert said_of(told)["http.response.status_code"] == 200


# --- whose trace is logged ------------------------------------------------------------------------------------------


async def test_what_is_logged_of_a_step_that_failed_bears_the_request_that_began_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, logged, go_on = list[str | None](), list[str | None](), asyncio.Event()
    user = auth.Authenticator.user

    async def fails() -> None:
        await go_on.wait()
        raise RuntimeError("it failed")

    async def looked(self: auth.Authenticator, request: Any) -> Any:
        if not began:
            stack.gateway.services.inference.commitments.begin(fails())
        began.append(trace_id())
        return await user(self, request)

    monkeypatch.setattr(auth.Authenticator, "user", looked)
    monkeypatch.setattr(commitments, "_log", SimpleNamespace(warning=lambda *_, **__: logged.append(trace_id())))
    async with a_stack(tmp_path) as stack:
        watched(stack, Sink())
        await stack.engine()
        http = await stack.http()
        for _ in range(2):
            assert (await http.request("POST", CHAT, body=ASKED)).status == 200
        go_on.set()
        await until(lambda: bool(logged))
    assert logged == began[:1]
    assert began[0] != began[1]


async def test_what_follows_on_a_connection_does_not_bear_the_trace_of_what_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    user = auth.Authenticator.user

    async def looked(self: auth.Authenticator, request: Any) -> Any:
        seen.append(trace_id())
        return await user(self, request)

    monkeypatch.setattr(auth.Authenticator, "user", looked)
    async with a_stack(tmp_path) as stack:
        watched(stack, Sink())
        await stack.engine()
        host, port = stack.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head, body = f"host: x\r\nauthorization: Bearer {KEY}\r\n", json.dumps(ASKED)
        post = f"POST {CHAT} HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n{body}"
        writer.write(f"{post}GET /v1/models HTTP/1.1\r\n{head}\r\n".encode())
        await until(lambda: len(seen) == 2)
        writer.close()
    assert (seen[0] is None, seen[1]) == (False, None)


async def test_a_run_of_an_agent_is_logged_with_its_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    user = auth.Authenticator.user_and_body

    async def looked(self: auth.Authenticator, request: Any, read: Callable[[Any], Awaitable[Any]]) -> Any:
        seen.append(trace_id())
        return await user(self, request, read)

    monkeypatch.setattr(auth.Authenticator, "user_and_body", looked)
    monkeypatch.setattr(Gateway, "of", partial(Gateway.of, tracing=Tracing(Sink(), lambda *_: True)))
    async with a_stack(tmp_path, agents_key="k", agents_url="http://127.0.0.1:9") as stack:
        headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        await (await stack.http()).request("POST", "/v1/agents/x/runs", body={"input": "x"}, headers=headers)
    assert seen == ["a" * 32]


@pytest.mark.redis
async def test_what_a_process_has_once_bears_nobodys_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though a request began it."""
    logged: list[str | None] = []
    warning = SimpleNamespace(warning=lambda *_, **__: logged.append(trace_id()))
    monkeypatch.setattr(doorbells, "log", warning)
    server = RedisServer()
    server.start()
    try:
        queue = RedisQueue(server.url)
        logs.bound.set(Parent(b"t" * 16, b"s" * 8, True))
        async with queue._bells.at("task_1"):
            server.stop()
            await until(lambda: bool(logged))
        await queue.aclose()
    finally:
        server.stop()
    assert logged[0] is None


def test_what_is_begun_beside_a_request_keeps_its_trace() -> None:
    """By `logs.beside`, but for these: what they begin is no request's, or has ended before its request."""
    folder = Path(stoker.gateway.__file__).parent
    found = {path.stem for path in folder.glob("*.py") if "asyncio.create_task(" in path.read_text()}
    assert found == {"agents", "batch_driver", "fleet", "running", "ws"}
