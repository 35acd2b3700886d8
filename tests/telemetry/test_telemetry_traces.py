"""Spans as a collector gets them: a real HTTP server that reads the protobuf."""

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "agents"))

from agents_stories import RUN, T0, Json, a_run, a_story
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from stoker.agents.spans import spans_of, trace_id_of, tree_spans
from stoker.base.errors import InvalidInput
from stoker.telemetry import otlp, traces
from stoker.telemetry.spans import Span as Ended
from stoker.telemetry.spans import Tracing, shape
from stoker.testing.receiver import Receiver
from stoker.testing.spans import Sink

OTEL = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED")


@pytest.fixture(autouse=True)
def no_environment_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*OTEL, "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(traces.DELAY, "20")


async def until(holds: Callable[[], object]) -> None:
    """For what the thread does, and tells nobody."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


async def sent(receiver: Receiver, spans: list[Json]) -> list[Span]:
    made = traces.traces_from()
    assert made is not None
    made.add(trace_id_of(RUN), spans)
    await asyncio.to_thread(made.close)
    assert {(got.path, got.headers["content-type"]) for got in receiver.got} == {
        ("/v1/traces", "application/x-protobuf")
    }
    found = []
    for got in receiver.got:
        for of_resource in ExportTraceServiceRequest.FromString(got.body).resource_spans:
            assert attributes(of_resource.resource)["service.name"] == "stoker"
            for scope in of_resource.scope_spans:
                assert scope.scope.name == "stoker"
                found.extend(scope.spans)
    return found


def attributes(of: object) -> Json:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}  # type: ignore[attr-defined]


async def test_a_run_arrives_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = tree_spans(a_story())
    async with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        got = await sent(receiver, spans)

    assert [(span.name, span.span_id.hex(), span.parent_span_id.hex()) for span in got] == [
        (span["name"], span["id"], span["parent"] or "") for span in spans
    ]
    assert {span.trace_id.hex() for span in got} == {trace_id_of(RUN)}
    assert {span.flags for span in got} == {1}, "sampled"
    model = got[2]
    assert (model.start_time_unix_nano, model.end_time_unix_nano) == (
        int(T0 + 1) * 10**9 + 500_000_000,
        int(T0 + 3) * 10**9,
    )
    assert {span.name for span in got if span.kind == Span.SPAN_KIND_CLIENT} == {"chat small", "chat large"}
    kept = attributes(model)
    assert kept["gen_ai.usage.input_tokens"] == 1000
    assert kept["stoker.cost_usd"] == 0.001
    assert [each.string_value for each in kept["gen_ai.response.finish_reasons"].values] == ["tool_calls"]
    assert attributes(got[0])["gen_ai.agent.name"] == "researcher"


async def test_what_was_said_is_sent_only_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    run, told = a_story()[0]
    failed = {**told[-1], "type": "run.failed", "data": {"error": {"code": "loop", "message": "SAID again and again"}}}
    text = json.dumps([*told[:-1], failed]).replace("42", "SAID").replace("6*7", "SAID").replace("ada@", "SAID@")
    events = json.loads(text.replace("send it?", "SAID").replace("no mails", "SAID"))
    spans = spans_of({**run, "input": "SAID"}, events)
    async with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        got = await sent(receiver, spans)
        assert "SAID" in repr(spans)
        assert b"SAID" not in receiver.got[0].body
        assert got[0].status.code == Status.STATUS_CODE_ERROR
        assert attributes(got[0])["error.type"] == "loop"
        assert attributes(got[4])["gen_ai.tool.name"] == "calculator"

    async with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        got = await sent(receiver, [{**span, "with_content": True} for span in spans])
        assert attributes(got[4])["gen_ai.tool.call.arguments"] == '{"expression":"SAID"}'
        assert attributes(got[0])["error.message"] == "SAID again and again"


async def test_a_collector_that_is_away_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer is no: they are sent again, once each."""
    monkeypatch.setattr(traces, "MOST_TRIES", 3)
    async with Receiver(400, 400) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/v1/traces")
        made = traces.Traces(pause_s=0.0)
        spans = spans_of(*a_story()[0])
        made.add(trace_id_of(RUN), spans)
        await until(lambda: len(receiver.got) == 3)
        await asyncio.to_thread(made.close)
    bodies = [got.body for got in receiver.got]
    last = ExportTraceServiceRequest.FromString(bodies[-1])
    assert made.dropped == 0
    assert [span.span_id.hex() for span in last.resource_spans[0].scope_spans[0].spans][-1] == spans[-1]["id"]


async def test_a_batch_that_is_always_refused_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MOST_TRIES", 2)
    async with Receiver(400, 400, 400) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        made = traces.Traces(pause_s=0.0)
        spans = spans_of(a_run(ended_at=None), [{**a_story()[0][1][-1], "id": 2}])
        made.add(trace_id_of(RUN), spans)
        await until(lambda: made.dropped)
        assert (made.dropped, len(receiver.got)) == (1, 2)
        await asyncio.to_thread(made.close)


async def test_what_waits_and_what_leaves_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "WRITTEN_AT_ONCE", 1)
    monkeypatch.setattr(traces, "MOST_WAITING", 5)
    monkeypatch.setattr(traces, "MOST_AT_ONCE", 2)
    async with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        made = traces.Traces()
        async with while_sending(made, told(1)):
            for number in range(2, 21):
                made.tell(told(number))
        await asyncio.to_thread(made.close)
    assert [ids_of(got.body) for got in receiver.got] == [[1], [16, 17], [18, 19], [20]]
    assert made.dropped == 14


def told(number: int, said: Json | None = None) -> Ended:
    tracing = Tracing(Sink(), lambda *_: True)
    span = Ended.of(b"a" * 16, number.to_bytes(8), None, shape("server", "x"), 1.0, None, tracing, True)
    span.attributes = said or {}
    span.end(2.0)
    return span


def ids_of(body: bytes) -> list[int]:
    said = ExportTraceServiceRequest.FromString(body)
    return [int(each.span_id.hex(), 16) for each in said.resource_spans[0].scope_spans[0].spans]


@asynccontextmanager
async def while_sending(made: traces.Traces, first: Ended) -> AsyncIterator[None]:
    """What is told meanwhile waits for `first`, which the thread has taken and has not sent."""
    sending, go = asyncio.Event(), threading.Event()
    loop, send = asyncio.get_running_loop(), made._send

    def held(batches: Sequence[traces._Batch]) -> None:
        loop.call_soon_threadsafe(sending.set)
        go.wait(20)
        send(batches)

    made._background._do = held
    made.tell(first)
    await asyncio.wait_for(sending.wait(), 20)
    try:
        yield
    finally:
        go.set()


async def test_whoever_fills_a_batch_writes_it_and_the_rest_is_written_when_it_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each span once, in the order of their ends, also those that came while others were on their way, or were
    refused."""
    monkeypatch.setattr(traces, "WRITTEN_AT_ONCE", 4)
    monkeypatch.setenv(traces.DELAY, "0")
    by: list[tuple[str, list[int]]] = []
    write = otlp.write

    def seen(spans: Sequence[Ended]) -> tuple[bytes, int, list[Exception]]:
        if spans:
            by.append((threading.current_thread().name, [int.from_bytes(each.id) for each in spans]))
        return write(spans)

    monkeypatch.setattr(otlp, "write", seen)
    async with Receiver(400) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        made = traces.Traces(pause_s=0.0)
        main = threading.main_thread().name
        async with while_sending(made, told(1)):
            for number in range(2, 8):
                made.tell(told(number))
            assert by == [(main, [1, 2, 3, 4])], "the first batch is full now, though it is on its way"
        await asyncio.to_thread(made.close)
    assert [(name == main, ids) for name, ids in by] == [(True, [1, 2, 3, 4]), (False, [5, 6, 7])]
    got = [ids_of(each.body) for each in receiver.got]
    assert (got[0], made.dropped) == ([5, 6, 7], 0), "refused, and sent again"
    assert sorted(id for ids in got[1:] for id in ids) == list(range(1, 8))


async def test_what_waits_leaves_after_a_delay_or_when_it_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "WRITTEN_AT_ONCE", 2)
    monkeypatch.setattr(traces, "MOST_AT_ONCE", 6)
    monkeypatch.setenv(traces.DELAY, "600000")
    async with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        made = traces.Traces()
        for number in range(1, 6):
            made.tell(told(number))
        # What says that the first one waits is one of the three that are enough.
        await until(lambda: receiver.got)
        assert ids_of(receiver.got[0].body) in ([1, 2, 3, 4], [1, 2, 3, 4, 5])
        await asyncio.to_thread(made.close)
    assert ([id for each in receiver.got for id in ids_of(each.body)], made.dropped) == ([1, 2, 3, 4, 5], 0)


async def test_each_span_leaves_though_no_batch_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        made = traces.Traces()
        for number in range(1, 4):
            made.tell(told(number))
            await until(lambda number=number: len(receiver.got) == number)
        await asyncio.to_thread(made.close)
    assert [ids_of(each.body) for each in receiver.got] == [[1], [2], [3]]


async def test_a_body_is_bounded_and_what_was_taken_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what leaves together the second part is refused."""
    monkeypatch.setattr(traces, "WRITTEN_AT_ONCE", 1)
    monkeypatch.setattr(traces, "MOST_BYTES", 2500)
    async with Receiver(200, 200, 400) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        made = traces.Traces(pause_s=0.0)
        async with while_sending(made, told(0)):
            for number, size in enumerate((1000, 1000, 1000, 9000, 10, 0), 1):
                made.tell(told(number, {"x": "y" * size}))
        await until(lambda: len(receiver.got) == 6)
        await asyncio.to_thread(made.close)
    assert [ids_of(each.body) for each in receiver.got] == [[0], [1, 2], [3], [3], [4], [5, 6]]
    assert made.dropped == 0


@pytest.mark.parametrize("said", ["soon", "-1", "1.5", "\u0663", "10000000"])
def test_a_delay_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(traces.DELAY, said)
    with pytest.raises(InvalidInput, match=r"OTEL_BSP_SCHEDULE_DELAY is .*; it must be a number of milliseconds"):
        traces.traces_from({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})


async def test_spans_that_cannot_be_written_cost_themselves_alone_and_are_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(traces, "WRITTEN_AT_ONCE", 3)
    monkeypatch.setenv(traces.DELAY, "600000")
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(traces._log, "error", lambda what, exc_info: said.append((what, type(exc_info).__name__)))
    async with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        made = traces.Traces()
        wrong: Json = {7: "a name that is none"}  # type: ignore[dict-item]
        for number, attributes_of in enumerate(({}, wrong, {"y": 2}, wrong), 1):
            made.tell(told(number, attributes_of))
        await asyncio.to_thread(made.close)
    [got] = [ExportTraceServiceRequest.FromString(each.body) for each in receiver.got]
    assert [int(each.span_id.hex(), 16) for each in got.resource_spans[0].scope_spans[0].spans] == [1, 3]
    assert made.dropped == 2
    assert said == [("spans_not_written", "AttributeError")]


async def test_threads_that_tell_at_once_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "WRITTEN_AT_ONCE", 5)
    monkeypatch.setenv(traces.DELAY, "0")
    async with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        made = traces.Traces()
        each_of = [range(first, first + 200) for first in range(0, 1600, 200)]
        await asyncio.gather(*(asyncio.to_thread(lambda n=n: [made.tell(told(one)) for one in n]) for n in each_of))
        await asyncio.to_thread(made.close)
    got = [ExportTraceServiceRequest.FromString(each.body) for each in receiver.got]
    ids = [int(each.span_id.hex(), 16) for one in got for each in one.resource_spans[0].scope_spans[0].spans]
    assert (sorted(ids), made.dropped) == (list(range(1600)), 0)


async def test_a_collector_that_redirects_has_taken_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenTelemetry's client follows no redirect, and calls one a success. A 401 says that it is the key."""
    monkeypatch.setattr(traces, "MOST_TRIES", 3)
    said: list[str | None] = []
    why = traces.why_not_taken

    def why_not_taken(result: object) -> str | None:
        said.append(why(result))
        return said[-1]

    monkeypatch.setattr(traces, "why_not_taken", why_not_taken)
    async with Receiver(301, 401) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        made = traces.Traces(pause_s=0.0)
        made.add(trace_id_of(RUN), spans_of(*a_story()[0]))
        await until(lambda: len(said) == 3)
        await asyncio.to_thread(made.close)
    assert said == ["it answered 301", "it answered 401", None]
    assert made.dropped == 0
    assert [each for each in caplog.records if each.name.startswith("opentelemetry")] == [], "our own log says it, once"


def test_a_header_that_is_none_is_told_of_without_the_key_in_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization: Bearer planted")
    traces.Traces().close()
    [record] = [each for each in caplog.records if "Header format invalid" in each.getMessage()]
    assert record.getMessage().endswith("name=value occurrences: (not shown: it may hold a key)")
    assert "planted" not in caplog.text


def test_without_an_endpoint_nothing_is_loaded_and_nothing_sent() -> None:
    assert traces.traces_from({}) is None
    assert traces.traces_from({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}) is None
    assert (
        traces.traces_from({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}) is None
    )
    only_metrics = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}
    assert traces.traces_from(only_metrics) is None


@pytest.mark.parametrize(("said", "is_told"), [("", False), ("http/protobuf", False), ("grpc", True)])
def test_a_protocol_that_is_not_spoken_is_told_of(monkeypatch: pytest.MonkeyPatch, said: str, is_told: bool) -> None:
    told: list[object] = []
    monkeypatch.setattr(traces._log, "warning", lambda *_, **fields: told.append(fields["said"]))
    there = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": said}
    made = traces.traces_from(there)
    assert made is not None
    made.close()
    assert told == ([said] if is_told else [])


def test_an_endpoint_without_opentelemetry_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(InvalidInput) as raised:
        traces.traces_from({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    assert raised.value.message == "OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry is not installed"
    assert raised.value.hint == "pip install 'stoker[otel]', or unset it"
