"""Runs as the API tells them, for tests of what is made from them."""

from typing import Any

Json = dict[str, Any]
T0 = 1_764_000_000.0
RUN = "run_01"
CHILD = "run_01.1"


def a_run(**changes: Any) -> Json:
    run = {
        "id": RUN,
        "object": "agent.run",
        "agent": "researcher",
        "status": "completed",
        "reason": None,
        "input": "how many?",
        "output": "42",
        "error": None,
        "thread": "thread_1",
        "parent": None,
        "tenant": "acme",
        "session": None,
        "created_at": T0,
        "started_at": T0 + 1,
        "ended_at": T0 + 20,
        "limits": {"usd": 1.0, "steps": 50},
        "grants": [],
        "metadata": {},
        "usage": {
            "steps": 3,
            "tool_calls": 3,
            "model_calls": 2,
            "prompt_tokens": 1210,
            "completion_tokens": 45,
            "usd": 0.00125,
        },
        "waiting_for": [],
    }
    return {**run, **changes}


class Events:
    """`events.add(seconds since the run was made, type, step, **data)`."""

    def __init__(self, run: str = RUN) -> None:
        self.run = run
        self.all: list[Json] = []

    def add(self, after_s: float, kind: str, step: int | None = None, **data: Any) -> Json:
        event = {"id": len(self.all) + 1, "run": self.run, "type": kind, "at": T0 + after_s, "step": step, "data": data}
        self.all.append(event)
        return event


def a_story() -> list[tuple[Json, list[Json]]]:
    """A model asks for a tool and for another agent; a person agrees to a mail; the answer."""
    told = Events()
    told.add(0, "run.created", input="how many?")
    told.add(1, "run.started")
    told.add(1, "step.started", 1, worker="w-1")
    asked = [{"id": "call_a", "name": "calculator"}, {"id": "call_b", "name": "helper"}]
    told.add(
        3,
        "model.completed",
        1,
        model="small",
        node="model",
        started_at=T0 + 1.5,
        prompt_tokens=1000,
        cached_tokens=400,
        completion_tokens=40,
        usd=0.001,
        finish_reason="tool_calls",
        tool_calls=asked,
    )
    told.add(3, "step.completed", 1, nodes=["model"])
    told.add(3, "step.started", 2, worker="w-1")
    told.add(3, "tool.started", 2, call="call_a", tool="calculator", arguments={"expression": "6*7"})
    told.add(3.5, "tool.completed", 2, call="call_a", tool="calculator", started_at=T0 + 3, result="42", is_error=False)
    told.add(4, "tool.started", 2, call="call_b", tool="helper", arguments={"input": "check 42"})
    told.add(4, "step.completed", 2, nodes=["tools"])
    told.add(4, "run.waiting", waits=[{"id": "w1", "kind": "child", "tool": "helper", "child": CHILD}])
    told.add(8, "run.resumed", answers={"w1": {}})
    told.add(8, "step.started", 3, worker="w-1")
    told.add(
        8.0,
        "tool.completed",
        3,
        call="call_b",
        tool="helper",
        started_at=T0 + 4,
        result="yes",
        is_error=False,
        child=CHILD,
    )
    told.add(8.5, "step.completed", 3, nodes=["tools"])
    arguments = {"to": "ada@example.com"}
    wait = {
        "id": "w2",
        "kind": "approval",
        "tool": "mail",
        "arguments": arguments,
        "message": "send it?",
        "child": None,
    }
    told.add(9, "run.waiting", waits=[wait])
    told.add(19, "run.resumed", answers={"w2": {"decision": "reject", "message": "no mails"}})
    told.add(20, "run.completed", output="42")
    helped = Events(CHILD)
    helped.add(4, "run.created", input="check 42")
    helped.add(5, "run.started")
    helped.add(5, "step.started", 1, worker="w-2")
    helped.add(
        7,
        "model.completed",
        1,
        model="large",
        node="model",
        started_at=T0 + 6,
        prompt_tokens=210,
        cached_tokens=0,
        completion_tokens=5,
        usd=0.00025,
        finish_reason="stop",
        tool_calls=[],
    )
    helped.add(7, "step.completed", 1, nodes=["model"])
    helped.add(7, "run.completed", output="yes")
    child = a_run(id=CHILD, agent="helper", parent=RUN, input="check 42", output="yes", created_at=T0 + 4, thread=None)
    return [(a_run(), told.all), (child, helped.all)]
