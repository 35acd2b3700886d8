"""Who caused what, which traces are kept, and what a span says: without a collector."""

from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from stoker.base.errors import InvalidInput
from stoker.telemetry import otlp
from stoker.telemetry.spans import (
    Parent,
    Shape,
    Span,
    Tracing,
    finish_reasons,
    finish_reasons_in,
    parent_in,
    parent_of,
    sampler_of,
    shape,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
T, S = bytes.fromhex(TRACE), bytes.fromhex(SPAN)


@pytest.mark.parametrize(
    ("said", "parent"),
    [
        (f"00-{TRACE}-{SPAN}-01", Parent(T, S, True)),
        (f"00-{TRACE}-{SPAN}-00", Parent(T, S, False)),
        (f"cc-{TRACE}-{SPAN}-03-more", Parent(T, S, True)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        ("nonsense", None),
    ],
)
def test_a_traceparent_is_read_as_w3c_has_it(said: str, parent: Parent | None) -> None:
    assert parent_in({"traceparent": said}) == parent


def test_the_state_goes_on_as_it_came_unless_it_is_too_long() -> None:
    with_state = Parent(T, S, True, "vendor=a b,other=2")
    assert parent_of(with_state.text) == with_state
    assert parent_in(with_state.headers) == with_state
    assert parent_in({**with_state.headers, "tracestate": "x=" + "y" * 511}) == Parent(T, S, True)


def test_the_sampler_is_the_environments() -> None:
    low, high = bytes.fromhex("f" * 16 + "3" + "f" * 15), bytes.fromhex("0" * 16 + "4" + "0" * 15)
    assert sampler_of({})(None, high)
    assert not sampler_of({})(Parent(T, S, False), high)
    assert sampler_of({"OTEL_TRACES_SAMPLER": "always_on"})(Parent(T, S, False), high)
    assert not sampler_of({"OTEL_TRACES_SAMPLER": "always_off"})(Parent(T, S, True), low)
    quarter = sampler_of({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"})
    assert (quarter(None, low), quarter(None, high), quarter(Parent(T, S, True), high)) == (True, False, True)
    with pytest.raises(InvalidInput, match="'sometimes'"):
        sampler_of({"OTEL_TRACES_SAMPLER": "sometimes"})
    with pytest.raises(InvalidInput, match="'2'"):
        sampler_of({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"})


class Ended(list[Span]):
    def tell(self, span: Span) -> None:
        self.append(span)


def written_of(span: Span) -> bytes:
    written, _, wrong = otlp.write([span])
    assert wrong == []
    return written


def one(attributes: dict[str, object] | None = None, *, with_content: bool = False) -> Span:
    span = Span.of(T, S, None, shape("server", "x"), 1.0, None, Tracing(Ended(), sampler_of({})), True)
    span.attributes, span.with_content = attributes or {}, with_content
    span.end(2.0)
    return span


def test_a_span_is_told_once_and_protobuf_reads_what_was_written() -> None:
    told = Ended()
    tracing = Tracing(told, sampler_of({}), Random(1).randbytes)
    above = tracing.begin(Parent(T, S, True, "a=1"), shape("server", "POST /x"), 1.0)
    below = above.child(Shape("client", "chat m", {"m": "m", "t": 1}), 2.0)
    below.attributes = {
        "s": "é" * 100,
        "long": "x" * 20_000,
        "i": -3,
        "f": 0.5,
        "b": True,
        "l": ["x"],
        "k": ("y",),
        "one": 1,
        "none": None,
    }
    below.end(1.5, "timeout")
    below.end(9.0)
    above.end(3.0)
    tracing.begin(Parent(T, S, False), shape("server", "unseen"), 1.0).end(2.0)
    written = [written_of(each) for each in told]
    [of_resource] = ExportTraceServiceRequest.FromString(
        otlp.request({"service.name": "g"}, "stoker", written)
    ).resource_spans
    first, second = of_resource.scope_spans[0].spans
    assert (first.trace_id, first.parent_span_id, first.trace_state) == (T, above.id, "a=1")
    assert (second.parent_span_id, second.name, second.kind) == (S, "POST /x", 2)
    assert (first.kind, first.status.code, first.start_time_unix_nano, first.end_time_unix_nano) == (
        3,
        2,
        2 * 10**9,
        2 * 10**9,
    )
    values = {each.key: each.value for each in first.attributes}
    assert (values["s"].string_value, values["i"].int_value, values["f"].double_value) == ("é" * 100, -3, 0.5)
    assert (values["b"].bool_value, values["one"].int_value, values["t"].int_value) == (True, 1, 1)
    assert [values[name].array_value.values[0].string_value for name in "lk"] == ["x", "y"]
    assert (values["m"].string_value, len(values["long"].string_value)) == ("m", 20_000)
    assert (values["error.type"].string_value, "none" in values) == ("timeout", False)


def test_why_an_answer_ended_is_found_in_names_alone() -> None:
    said = b'{"text": "\\"finish_reason\\": \\"stop\\"", "finish_reason": "length"}'
    assert finish_reasons_in(said) == ("length",)
    assert finish_reasons_in(b"") is None


def test_each_choice_says_why_it_ended() -> None:
    stop, cut = {"finish_reason": "stop"}, {"finish_reason": "length"}
    assert finish_reasons({"choices": [stop, cut, {"finish_reason": None}, "x", {}]}) == ("stop", "length")
    assert finish_reasons({"choices": [cut]}) == ("length",)
    wrong: list[Any] = [
        None,
        3,
        "x",
        [],
        {},
        {"a": 1},
        {"a": 1, "b": 2},
        ["x"],
        [{}],
        [{"finish_reason": 3}],
        [["x"], 3],
    ]
    for none in (None, [], {}, "choices", *({"choices": each} for each in wrong)):
        assert finish_reasons(none) is None


def read(attributes: dict[str, object]) -> list[KeyValue]:
    """What protobuf reads of a span that says these."""
    written = written_of(one(attributes))
    [of_resource] = ExportTraceServiceRequest.FromString(otlp.request({}, "s", [written])).resource_spans
    return list(of_resource.scope_spans[0].spans[0].attributes)


def test_what_callers_choose_is_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of attributes are kept, for those that come again; sessions and runs are people's own words."""
    monkeypatch.setattr(otlp, "_KNOWN", known := {})
    most = 0
    for number in range(10_000):
        read({"session": f"session-{number}"}) if number % 1000 == 0 else otlp._new("session", f"{number}", False)
        most = max(most, len(known["session"]))
    assert most == 4096
    assert [each.value.string_value for each in read({"session": "9999", "long": "y" * 4000})] == ["9999", "y" * 4000]
    for number in range(300):
        read({f"name{number}": "x"})
    assert (len(known), "long" in known) == (256, False)
    assert [each.value.string_value for each in read({"name299": "x"})] == ["x"]


def test_what_people_wrote_stays_here_unless_the_span_says_so() -> None:
    """Also a word that is as short as those that are kept, and where another span's went out."""
    for with_content in (False, True, False, True):
        told = one({"gen_ai.input.messages": "hi"}, with_content=with_content)
        assert (b"hi" in written_of(told)) is with_content


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, "int_value"),
        (True, "bool_value"),
        (1.0, "double_value"),
        (0, "int_value"),
        (False, "bool_value"),
        (2.5, "double_value"),
        (7, "int_value"),
        (("a",), "array_value"),
        (((1, 2),), "array_value"),
        (["a"], "array_value"),
        ({"a": 1}, "string_value"),
    ],
)
def test_what_is_remembered_keeps_its_kind(value: object, kind: str) -> None:
    for other in (1, 0, True, False, 7, ("a",)):
        read({"alike": other})
    for _ in range(2):
        [said] = read({"alike": value})
        assert said.value.WhichOneof("value") == kind


def test_traces_are_made_many_at_once_and_no_id_twice() -> None:
    """By threads, too, which take the last of those that were made at the same moment."""
    tracing = Tracing(Ended(), sampler_of({}), Random(1).randbytes)
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda number: tracing.begin(None, shape("server", "x"), number), range(4000)))
    assert {(len(each.trace_id), len(each.id)) for each in made} == {(16, 8)}
    assert [each.started_at for each in made] == list(range(4000))
    assert len({each.trace_id for each in made}) == 4000
    below = [each.below()[0] for each in made for _ in range(2)]
    assert len({each.id for each in made} | set(below)) == 12_000


@pytest.mark.parametrize("parent", [None, Parent(T, S, True, "a=1")])
def test_who_is_called_is_told_of_a_span_below(parent: Parent | None) -> None:
    """Each call of its own: another engine is asked where the first does not answer."""
    span = Tracing(Ended(), sampler_of({})).begin(parent, shape("server", "x"), 1.0)
    (first, said), (second, also) = span.below(), span.below()
    assert first != second
    for below, lines in ((first, said), (second, also)):
        headers = dict(line.split(": ", 1) for line in lines.splitlines())
        assert lines == "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        assert parent_in(headers) == Parent(span.trace_id, below, True, None if parent is None else "a=1")


def test_which_traces_are_kept_is_asked_of_each() -> None:
    quarter = sampler_of({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"})
    tracing = Tracing(told := Ended(), quarter, Random(1).randbytes)
    for _ in range(400):
        span = tracing.begin(None, shape("server", "x"), 1.0)
        assert span.below()[1].endswith("-01\r\n" if quarter(None, span.trace_id) else "-00\r\n")
        span.end(2.0)
    assert 60 < len(told) < 140
    assert all(quarter(None, each.trace_id) for each in told)


def test_what_a_call_was_is_said_when_it_is_written() -> None:
    """With the span that made it, or alone where that has ended before."""
    ended = Ended()
    span = Tracing(ended, sampler_of({})).begin(None, shape("server", "x"), 5.0)
    asked: list[tuple[int, str]] = []

    def described(values: tuple[int, str]) -> tuple[Shape, dict[str, object]]:
        asked.append(values)
        return shape("client", "chat m"), {"n": values[0], "t": values[1]}

    first, second, late = (span.below()[0] for _ in range(3))
    span.calls = (None, first, 6.0, 5.5, described, (7, "é"), True)
    span.calls = (span.calls, second, 7.0, 8.0, described, (8, "e"), False)
    span.end(9.0)
    assert (len(ended), asked) == (1, [])
    span.tell_late((None, late, 7.5, 9.5, described, (9, "e"), True))
    assert [each.name for each in spans_in(ended)] == ["x", "chat m", "chat m", "chat m"]
    assert asked == [(9, "e"), (8, "e"), (7, "é")]
    own, later, call, alone = spans_in(ended)
    assert (call.name, call.kind, call.span_id, call.parent_span_id) == ("chat m", 3, first, span.id)
    assert (call.start_time_unix_nano, call.end_time_unix_nano, call.status.code) == (6 * 10**9, 6 * 10**9, 2)
    assert [(each.key, each.value.int_value or each.value.string_value) for each in call.attributes] == [
        ("n", 7),
        ("t", "é"),
    ]
    assert (later.span_id, later.status.code, own.status.code) == (second, 0, 0)
    assert (alone.span_id, alone.parent_span_id, alone.status.code) == (late, span.id, 2)
    assert {each.trace_id for each in (own, later, call, alone)} == {span.trace_id}


def spans_in(ended: list[Span]) -> list[Any]:
    written, count, wrong = otlp.write(ended)
    [of_resource] = ExportTraceServiceRequest.FromString(otlp.request({}, "s", [written])).resource_spans
    [of_scope] = of_resource.scope_spans
    assert (len(of_scope.spans), wrong) == (count, [])
    return list(of_scope.spans)


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 16_000, 70_000])
def test_bodies_of_every_size_are_read_by_protobuf(size: int) -> None:
    """The lengths in front of a body are written for all spans at once."""
    span = written_of(one())
    many = [span * (size // 2), span * (size - size // 2)]
    [of_resource] = ExportTraceServiceRequest.FromString(otlp.request({"service.name": "g"}, "s", many)).resource_spans
    [of_scope] = of_resource.scope_spans
    assert (of_resource.resource.attributes[0].value.string_value, of_scope.scope.name) == ("g", "s")
    assert len(of_scope.spans) == size
    assert {(each.trace_id, each.name) for each in of_scope.spans} <= {(T, "x")}
