"""What a gateway tells of a request in a trace: what came in, each call of an engine, the task that it became."""

from collections.abc import Mapping
from copy import copy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from stoker.base import json_text, logs
from stoker.meter.charge import Caller, Charge
from stoker.telemetry import spans
from stoker.telemetry.spans import NOTHING, Shape, Span, Tracing

Json = dict[str, Any]
CLIENT_CLOSED = 499
"""The status of a request whose client went away before its answer, as nginx logs it."""
MOST_CONTENT = 4000
"""Characters of a prompt, or of an answer."""
MOST_ANSWER_BYTES = 4 * MOST_CONTENT

if TYPE_CHECKING:
    from stoker.gateway.ask import Ask, Running


def begun(
    tracing: Tracing | None, headers: Mapping[str, str], at: float, turns: logs.Turns | None = None
) -> Span | None:
    """Of a request that came, `about` what `asked` says; the client's span is its parent, where it names one. What its
    task logs bears its ids, up to the next request of that task. `turns`: of a task that answers many."""
    if tracing is None:
        return None
    if "traceparent" in headers:
        span = tracing.begin(spans.parent_in(headers), asked, at)
    else:
        try:  # as `begin` does: in line, as a request pays for it
            span = tracing.ahead.pop()
            span.shape, span.started_at = asked, at
        except IndexError:
            span = tracing.begin(None, asked, at)
    if turns is None:
        logs.bound.set(span)
    else:
        turns.now = span
    return span


def asked(about: tuple[str, str | None, Caller]) -> tuple[Shape, Mapping[str, Any]]:
    """The path, of our routes; its model, where that is known; and who asks."""
    path, model, by = about
    shape = request(path, model, by.tenant)
    if by.session is None and by.run is None:
        return shape, NOTHING
    return shape, {"gen_ai.conversation.id": by.session, "stoker.run": by.run}


@lru_cache(maxsize=4096)
def request(path: str, model: str | None = None, tenant: str | None = None) -> Shape:
    """`path`: of our routes. What is not known is not there."""
    said = {"http.request.method": "POST", "http.route": path, "stoker.model": model, "stoker.tenant": tenant}
    return Shape("server", f"POST {path}", said)


@lru_cache(maxsize=4096)
def _call(path: str, model: str, replica: str | None, attempt: int, reasons: tuple[str, ...] | None) -> Shape:
    said = {
        "gen_ai.response.model": model,
        "gen_ai.response.finish_reasons": reasons,
        "stoker.replica": replica,
        "stoker.attempt": attempt,
    }
    return spans.call_of("client", path, model).saying(said)


@lru_cache(maxsize=1024)
def _task(model: str) -> Shape:
    said = {
        "messaging.system": "stoker",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": model,
    }
    return Shape("producer", f"send {model}", said)


def asked_for(span: Span, body: Json) -> None:
    """The tenant wants it to be recorded."""
    span.with_content = True
    said = next((body[name] for name in ("messages", "input", "prompt") if name in body), None)
    if span.is_sampled and said is not None:
        span.say("gen_ai.input.messages", _cut(json_text.dumps(said).decode()))


def answered_by(span: Span | None, answer: bytes) -> None:
    """A whole answer, where it is to be recorded. Those of streams are not: nobody here has them whole."""
    if span is not None and span.with_content and span.is_sampled:
        span.say("gen_ai.output.messages", _cut(answer[:MOST_ANSWER_BYTES].decode(errors="replace")))


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CONTENT else f"{text[:MOST_CONTENT]}..."


def came_by(span: Span | None, path: str) -> None:
    """Where the request is not to the path of its endpoint."""
    if span is not None:
        _, model, by = span.about
        span.about = (path, model, by)


def calls(running: "Running", at: float) -> None:
    """An engine, for a request that did not go through the queue."""
    span = running.ask.span
    if span is not None:
        below = span.first_below
        if below is None:
            below = span.below()
        else:
            span.first_below = None
        (running.call_id, running.call_lines), running.call_at = below, at


def task(ask: "Ask", at: float) -> Span | None:
    if ask.span is None:
        return None
    span = ask.span.child(_task(ask.model), at)
    span.say("messaging.message.id", ask.id)
    return span


def ended(running: "Running", at: float, error: str | None = None) -> None:
    """The call of an engine has ended."""
    call_id = running.call_id
    if call_id is None:
        return
    running.call_id = None
    ask, charge = running.ask, running.charge
    if error is not None:
        charge = copy(charge)  # another attempt may go on with it
    span = ask.span
    assert span is not None  # noqa: S101 - whose call it is
    about = (ask.endpoint.path, charge, running.reasons, error)
    call = (span.calls, call_id, running.call_at, at, _called, about, error is not None)
    if span.ended_at is None:
        span.calls = call
    else:
        span.tell_late(call)


def _called(about: tuple[str, Charge, tuple[str, ...] | None, str | None]) -> tuple[Shape, Json]:
    path, charge, reasons, error = about
    said = spans.used(charge.prompt_tokens, charge.cached_tokens, charge.completion_tokens)
    if charge.first_token_at is not None:
        said["gen_ai.response.time_to_first_chunk"] = charge.first_token_at - charge.started_at
    if error is not None:
        said["error.type"] = error
    return _call(path, charge.model, charge.replica, charge.attempts, reasons), said


def answered_with(span: Span | None, status: int, at: float, error: str | None = None) -> None:
    """The client has its answer. `error`: the code of one that is an error. Only what went wrong here is the span's
    status; what the client did wrong is not, as the conventions for HTTP have it of servers."""
    if span is None or span.ended_at is not None:  # what it says is on its way
        return
    span.status = status
    if status < 400:  # as `end` does: in line, as a request pays for it
        span.ended_at = at
        if span.is_sampled:
            span.tracing.sink.tell(span)
        return
    if status >= 500:
        span.end(at, error or str(status))
        return
    if status != CLIENT_CLOSED:
        span.say("error.type", error or str(status))
    span.end(at)
