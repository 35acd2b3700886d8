"""A run and its events as the spans of one trace. Pure: `GET .../trace` answers with them, and `telemetry.traces` sends
them to wherever an operator looks.

Names and attributes are those of OpenTelemetry's conventions for generative AI
(https://github.com/open-telemetry/semantic-conventions-genai); what they have no name for begins with `stoker.`.
Ids are digests of the run's id, so every process that makes the trace of a run makes the same one. Where a request
caused the run, its trace is that request's, and the run stands below the span that let it in.

    run                     invoke_agent NAME
      step                  step N             one superstep; its attempts are one span
        model               chat MODEL
        tool                execute_tool NAME
          run               of a sub-agent, below the call that began it
      wait                  wait KIND          for a person; a wait for a sub-agent is the span of its call
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from stoker.base import json_text
from stoker.telemetry.spans import Parent, Sampler, parent_of

Json = dict[str, Any]

MOST_CONTENT = 4000
"""Characters of a text (an input, arguments, a result) that a span holds at most."""
_ENDS = {"run.completed": "ok", "run.failed": "error", "run.cancelled": "error"}


def trace_id_of(run: str) -> str:
    """32 hexadecimal digits, the same for a run and all below it. Of one that no request caused."""
    return hashlib.sha256(f"trace {run.partition('.')[0]}".encode()).hexdigest()[:32]


def span_id_of(run: str, what: int | str) -> str:
    """16 hexadecimal digits. `what`: the id of the event that began the span, with a word where it began several; `run`
    is the span of the run itself."""
    return hashlib.sha256(f"span {run} {what}".encode()).hexdigest()[:16]


def parent_of_call(run: str, trace: str | None, span: str, is_sampled: Sampler) -> Parent:
    """Of what a call of the run causes, whose own span is `span`. `trace`: the run's own."""
    above = parent_of(trace)
    if above is None:
        trace_id = bytes.fromhex(trace_id_of(run))
        return Parent(trace_id, bytes.fromhex(span), is_sampled(None, trace_id))
    return above._replace(span_id=bytes.fromhex(span))


def spans_of(run: Json, events: Sequence[Json]) -> list[Json]:
    """Of this run alone, in the order in which they began; the first is the run, which has no parent. `events` are all
    of them, in their order; what is unknown in them is passed over."""
    building = _Building(run)
    for event in events:
        building.take(event)
    return building.spans


def tree_spans(runs: Sequence[tuple[Json, Sequence[Json]]]) -> list[Json]:
    """Of an outermost run and of all below it, each with its events: one trace. A sub-agent's run stands below the call
    that began it, or below its parent where nothing says which one that was."""
    found = [spans_of(run, events) for run, events in runs]
    known = {spans[0]["run"] for spans in found}
    calls = {
        span["attributes"]["stoker.child"]: span["id"]
        for spans in found
        for span in spans
        if "stoker.child" in span["attributes"]
    }
    for spans in found:
        own = spans[0]
        above = own["run"].rpartition(".")[0]
        if above in known:
            own["parent"] = calls.get(own["run"], span_id_of(above, "run"))
    return [span for spans in found for span in spans]


class _Building:
    def __init__(self, run: Json) -> None:
        self._id = str(run["id"])
        self._steps: dict[int | None, Json] = {}
        self._calls: dict[str, Json] = {}
        self._waits: dict[str, Json] = {}
        self.spans: list[Json] = []
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "stoker",
            "gen_ai.agent.name": run["agent"],
            "gen_ai.conversation.id": run.get("thread"),
            "gen_ai.input.messages": _message("user", run.get("input")),
        }
        self._run = self._begin("run", f"invoke_agent {run['agent']}", run["created_at"], "run", None, attributes)

    def take(self, event: Json) -> None:
        kind, data = event["type"], event.get("data") or {}
        if kind == "step.started":
            self._step_started(event, data)
        elif kind == "step.completed":
            self._step_completed(event, data)
        elif kind in ("model.completed", "model.failed"):
            self._model_completed(event, data)
        elif kind == "tool.started":
            self._tool_started(event, data)
        elif kind == "tool.completed":
            self._tool_completed(event, data)
        elif kind == "run.waiting":
            self._waiting(event, data)
        elif kind == "run.resumed":
            self._resumed(event, data)
        elif kind in _ENDS:
            self._ended(event, data, _ENDS[kind])

    def _step_started(self, event: Json, data: Json) -> None:
        step = self._steps.get(event["step"])
        if step is None:
            step = self._begin("step", f"step {event['step']}", event["at"], event["id"], self._run["id"], {})
            step["attributes"]["stoker.step"] = event["step"]
            self._steps[event["step"]] = step
        _again(step, data.get("worker"))

    def _step_completed(self, event: Json, data: Json) -> None:
        step = self._steps.get(event["step"])
        if step is not None:
            _set(step, {"stoker.nodes": list(data.get("nodes") or []) or None})
            _end(step, event["at"], "ok")

    def _model_completed(self, event: Json, data: Json) -> None:
        model, error = data.get("model"), data.get("error")
        reason = data.get("finish_reason")
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "stoker",
            "gen_ai.request.model": data.get("asked") or model,
            "gen_ai.response.model": None if error else model,
            "gen_ai.usage.input_tokens": data.get("prompt_tokens"),
            "gen_ai.usage.cache_read.input_tokens": data.get("cached_tokens") or None,
            "gen_ai.usage.output_tokens": data.get("completion_tokens"),
            "gen_ai.response.finish_reasons": [reason] if reason else None,
            "stoker.cost_usd": data.get("usd"),
            "stoker.node": data.get("node"),
        }
        began = _number(data.get("started_at"), event["at"])
        span = self._begin("model", f"chat {model}", began, event["id"], self._step_of(event), attributes)
        if isinstance(data.get("span"), str):  # known before it was told: what it caused in the gateway is below it
            span["id"] = data["span"]
        _end(span, event["at"], "error" if error else "ok", error)

    def _tool_started(self, event: Json, data: Json) -> None:
        """A call that is begun again before it has ended is one call, tried again."""
        open_call = self._calls.get(str(data.get("call")))
        if open_call is not None:
            _again(open_call)
        else:
            _again(self._call(event, data, event["at"]))

    def _tool_completed(self, event: Json, data: Json) -> None:
        call = self._calls.pop(str(data.get("call")), None)
        if call is None:  # it was refused before it began
            call = self._call(event, data, _number(data.get("started_at"), event["at"]))
            del self._calls[str(data.get("call"))]
        _set(call, {"gen_ai.tool.call.result": _text(data.get("result")), "stoker.child": data.get("child")})
        failed = bool(data.get("is_error"))
        _end(call, event["at"], "error" if failed else "ok", {"code": "tool_error"} if failed else None)

    def _call(self, event: Json, data: Json, began: float) -> Json:
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": data.get("tool"),
            "gen_ai.tool.call.id": data.get("id") or data.get("call"),
            "gen_ai.tool.call.arguments": _text(data.get("arguments")),
            "stoker.child": data.get("child"),
        }
        name = f"execute_tool {data.get('tool')}"
        call = self._begin("tool", name, began, event["id"], self._step_of(event), attributes)
        self._calls[str(data.get("call"))] = call
        return call

    def _waiting(self, event: Json, data: Json) -> None:
        for wait in data.get("waits") or []:
            if wait["kind"] == "child":
                self._began_child(wait)
            elif wait["id"] not in self._waits:
                attributes = {
                    "stoker.wait": wait["id"],
                    "stoker.wait.kind": wait["kind"],
                    "gen_ai.tool.name": wait.get("tool"),
                    "gen_ai.tool.call.arguments": _text(wait.get("arguments")),
                    "stoker.wait.message": _text(wait.get("message")),
                }
                what = f"{event['id']} {wait['id']}"
                name = f"wait {wait['kind']}"
                span = self._begin("wait", name, event["at"], what, self._run["id"], attributes)
                self._waits[wait["id"]] = span

    def _began_child(self, wait: Mapping[str, Any]) -> None:
        """The id of such a wait is `CALL:child`; else it is the first call of this tool that has no run."""
        child = wait.get("child")
        if any(call["attributes"].get("stoker.child") == child for call in self._calls.values()):
            return
        call = self._calls.get(str(wait["id"]).removesuffix(":child"))
        if call is None:
            waiting = [each["attributes"] for each in self._calls.values() if "stoker.child" not in each["attributes"]]
            named = [each for each in waiting if each.get("gen_ai.tool.name") == wait.get("tool")]
            call = {"attributes": named[0]} if named else None
        if call is not None:
            _set(call, {"stoker.child": child})

    def _resumed(self, event: Json, data: Json) -> None:
        """A run goes on when all that it waits for is there."""
        answers = data.get("answers")
        for wait, span in self._waits.items():
            if span["ended_at"] is None:
                answer = answers.get(wait) if isinstance(answers, dict) else None
                decision = answer.get("decision") if isinstance(answer, dict) else None
                _set(span, {"stoker.wait.decision": decision, "stoker.wait.answer": _text(answer)})
                _end(span, event["at"], "ok")

    def _ended(self, event: Json, data: Json, status: str) -> None:
        error = data.get("error") or ({"code": "cancelled"} if event["type"] == "run.cancelled" else None)
        if "output" in data:
            _set(self._run, {"gen_ai.output.messages": _message("assistant", data["output"])})
        for span in self.spans:
            if span["ended_at"] is None:
                _end(span, event["at"], status, error)

    def _step_of(self, event: Json) -> str:
        return str(self._steps.get(event["step"], self._run)["id"])

    def _begin(
        self, kind: str, name: str, at: float, what: int | str, parent: str | None, attributes: Mapping[str, Any]
    ) -> Json:
        span: Json = {
            "id": span_id_of(self._id, what),
            "parent": parent,
            "run": self._id,
            "kind": kind,
            "name": name,
            "started_at": at,
            "ended_at": None,
            "status": "open",
            "attributes": {"stoker.run": self._id},
        }
        _set(span, attributes)
        self.spans.append(span)
        return span


def _set(span: Json, attributes: Mapping[str, Any]) -> None:
    """What is None is not there."""
    span["attributes"].update({name: value for name, value in attributes.items() if value is not None})


def _again(span: Json, worker: str | None = None) -> None:
    _set(span, {"stoker.attempts": span["attributes"].get("stoker.attempts", 0) + 1, "stoker.worker": worker})


def _end(span: Json, at: float, status: str, error: Mapping[str, Any] | None = None) -> None:
    """Clocks of two machines differ: nothing ends before it began."""
    span["ended_at"] = max(at, span["started_at"])
    span["status"] = status
    if error:
        _set(span, {"error.type": str(error.get("code") or error.get("type") or "error")})
        _set(span, {"error.message": _text(error.get("message"))})


def _message(role: str, value: object) -> str | None:
    """One message as the conventions write it: JSON, in a text."""
    text = _text(value)
    return None if text is None else json_text.dumps([{"role": role, "parts": [_part(text)]}]).decode()


def _part(text: str) -> Json:
    return {"type": "text", "content": text}


def _text(value: object) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json_text.dumps(value).decode()
    return text if len(text) <= MOST_CONTENT else text[: MOST_CONTENT - 1] + "…"


def _number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) else otherwise
