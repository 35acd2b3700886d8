"""What the two spans of a request take, in the processor's instructions: ours beside OpenTelemetry's SDK.

    .venv/bin/python benchmarks/telemetry/instructions.py    (needs valgrind, a package of Debian)

Instructions are the same on a busy machine, where microseconds are not: with these a change of a percent can be seen,
which `overhead.py` cannot. They are no time: what is run once in a request, among much else, finds nothing of its own
in the processor's caches, and takes about twice as long as its share of instructions. Both sides make the span of the
request and that of the call of an engine with the same attributes, make the header for the engine, end both, and write
them as OTLP's protobuf, many together; nothing is sent. A request of the gateway without spans takes about a million,
as was counted once with a whole gateway under callgrind, by a script that is not kept.
"""

import gc
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

TIMES = 2048
MODES = ("nothing", "ours", "sdk")


def main() -> None:
    if len(sys.argv) > 1:
        run(sys.argv[1])
        return
    if shutil.which("valgrind") is None:
        raise SystemExit("no valgrind on this machine: install the system's package")
    took = {mode: instructions(mode) for mode in MODES}
    print("| the two spans of a request | thousands of instructions |\n|---|---|")
    for mode in ("ours", "sdk"):
        print(f"| {mode} | {(took[mode] - took['nothing']) / TIMES / 1e3:.0f} |")


def instructions(mode: str) -> int:
    argv = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, __file__, mode]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "0"})
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1])


def run(mode: str) -> None:
    """Both are loaded in each, and begin once, so that the difference is what the loop does."""
    gc.disable()  # a gateway has it run seldom
    once, written = {"ours": ours(), "sdk": sdk(), "nothing": (lambda _: None, lambda: 0)}[mode]
    for number in range(TIMES):
        once(number)
    assert mode == "nothing" or written() > 100 * TIMES, "it was written"
    os._exit(0)  # what is freed at the end is no part of it


PATH = "/v1/chat/completions"
Both = tuple[Callable[[int], None], Callable[[], int]]


def ours() -> Both:
    from stoker.base import logs
    from stoker.gateway import spans
    from stoker.meter.charge import Caller
    from stoker.telemetry.spans import Tracing, sampler_of
    from stoker.telemetry.traces import Traces

    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
    traces, batches = Traces(), list[Any]()
    traces._background.add = batches.append  # type: ignore[method-assign, assignment]
    tracing, headers, turns = Tracing(traces, sampler_of({})), {"host": "x"}, logs.Turns()
    caller = Caller("acme", "key_1", session=None, run=None)
    # What a gateway has of a request anyway.
    charge: Any = SimpleNamespace(model="general", replica="general-0", attempts=1, cached_tokens=0)
    charge.completion_tokens, charge.started_at, charge.first_token_at = 20, 1.8e9, None
    ask: Any = SimpleNamespace(model="general", endpoint=SimpleNamespace(path=PATH))
    running: Any = SimpleNamespace(ask=ask, charge=charge, reasons=("stop",), call_id=None)
    head = ["POST / HTTP/1.1\r\n"]

    def once(number: int) -> None:
        at = 1.8e9 + number
        span = ask.span = spans.begun(tracing, headers, at, turns)
        assert span is not None
        span.about = (PATH, "general", caller)
        spans.calls(running, at)
        "".join([*head, f"{running.call_lines}\r\n"])
        charge.prompt_tokens = number % 500
        spans.ended(running, at + 1)
        spans.answered_with(span, 200, at + 1)

    once(0)
    return once, lambda: sum(len(batch.written) for batch in batches)


def sdk() -> Both:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.trace import SpanKind, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    waiting: list[ReadableSpan] = []
    sizes: list[int] = []

    class Keep(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            waiting.append(span)

    provider = TracerProvider()
    provider.add_span_processor(Keep())
    tracer, propagator = provider.get_tracer("x"), TraceContextTextMapPropagator()
    of_request = {"http.request.method": "POST", "http.route": PATH, "stoker.model": "general", "stoker.tenant": "acme"}

    def once(number: int) -> None:
        at = (1_800_000_000 + number) * 10**9
        above = propagator.extract({"host": "x"})
        span = tracer.start_span(f"POST {PATH}", above, SpanKind.SERVER, of_request, start_time=at)
        within = set_span_in_context(span)
        asked = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "stoker", "gen_ai.request.model": "general"}
        call = tracer.start_span("chat general", within, SpanKind.CLIENT, asked, start_time=at)
        headers: dict[str, str] = {}
        propagator.inject(headers, set_span_in_context(call))
        call.set_attributes(
            {
                "gen_ai.usage.input_tokens": number % 500,
                "gen_ai.usage.output_tokens": 20,
                "gen_ai.response.model": "general",
                "gen_ai.response.finish_reasons": ("stop",),
                "stoker.replica": "general-0",
                "stoker.attempt": 1,
            }
        )
        call.end(at + 10**9)
        span.set_attribute("http.response.status_code", 200)
        span.end(at + 10**9)
        if len(waiting) >= 64:
            sizes.append(written(waiting))
            waiting.clear()

    def written(spans: Iterable[ReadableSpan]) -> int:
        return len(encode_spans(list(spans)).SerializeToString())

    once(0)
    return once, lambda: sum(sizes)


if __name__ == "__main__":
    main()
