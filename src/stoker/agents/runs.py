"""What a run is, in each moment of its life. Values only: nothing here talks to a database or a queue.

A run's id is a path: `run_x.1.2` is the second child of the first child of `run_x`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stoker.base.errors import InvalidInput
from stoker.meter.grants import Grant, RunLimit
from stoker.spec import Agent, RunLimits

Json = dict[str, Any]
Status = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]
STATUSES: tuple[Status, ...] = ("queued", "running", "waiting", "completed", "failed", "cancelled")
ENDED: frozenset[str] = frozenset(("completed", "failed", "cancelled"))
ACTIVE: frozenset[str] = frozenset(("queued", "running"))
WaitKind = Literal["approval", "child", "uncertain", "question"]

MOST_INPUT_BYTES = 256 * 1024
MOST_METADATA = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may use; money in nano-dollars. See `spec.RunLimits`."""

    nano_usd: int | None
    tokens: int | None
    steps: int
    wall_s: float
    tool_calls: int
    depth: int
    repeats: int

    @classmethod
    def of(cls, spec: RunLimits) -> "Limits":
        return cls(
            nano_usd=None if spec.usd is None else int(spec.usd.scaleb(9)),
            tokens=spec.tokens,
            steps=spec.steps,
            wall_s=spec.wall_seconds,
            tool_calls=spec.tool_calls,
            depth=spec.depth,
            repeats=spec.repeats,
        )

    def lowered(self, asked: object) -> "Limits":
        """With what a caller asked for. Raises InvalidInput for a limit that is none, or is above the agent's."""
        if asked is None:
            return self
        if not isinstance(asked, dict):
            raise InvalidInput('limits has to be an object, such as {"usd": 0.5}', param="limits")
        changed: dict[str, Any] = {}
        for name, value in asked.items():
            if name not in _LIMITS:
                known = ", ".join(_LIMITS)
                raise InvalidInput(f"limits.{name} is no limit; those are: {known}", param=f"limits.{name}")
            kinds: tuple[type, ...] = (int, float) if name in ("usd", "wall_seconds") else (int,)
            least = 0 if name in ("depth", "tool_calls") else 2 if name == "repeats" else 0
            if isinstance(value, bool) or not isinstance(value, kinds) or not least <= _number(value) <= 10**15:
                wrong = f"limits.{name} is {value!r}; it has to be a number of at least {least}"
                raise InvalidInput(wrong, param=f"limits.{name}")
            field_, amount = _LIMITS[name], round(_number(value) * 1e9) if name == "usd" else value
            most = getattr(self, field_)
            if most is not None and amount > most:
                shown = most / 1e9 if name == "usd" else most
                raise InvalidInput(
                    f"limits.{name} is {value}; this agent's runs may have {shown:g} at most", param=f"limits.{name}"
                )
            changed[field_] = amount
        return Limits(**{**self.as_row(), **changed})

    def as_row(self) -> Json:
        return {name: getattr(self, name) for name in self.__slots__}

    def shown(self) -> Json:
        return {
            "usd": None if self.nano_usd is None else self.nano_usd / 1e9,
            **{name: getattr(self, field_) for name, field_ in _LIMITS.items() if name != "usd"},
        }


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else -1.0


_LIMITS = {
    "usd": "nano_usd",
    "tokens": "tokens",
    "steps": "steps",
    "wall_seconds": "wall_s",
    "tool_calls": "tool_calls",
    "depth": "depth",
    "repeats": "repeats",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One row. `base` is the checkpoint of its thread at which it begins, with its input. `step` is the number of the
    step that is next or runs now, and `head` the checkpoint that it starts from (None: from the input). `graph_thread`
    is LangGraph's name of the conversation. `waited_s`: seconds that it has waited for people and children;
    `waiting_since` while it does. `failures` counts how often it failed and was gone on with. `parent_call` is the call
    of the parent's tool that began it."""

    id: str
    agent: str
    tenant: str
    key_id: str
    graph_thread: str
    limits: Limits
    created_at: float
    updated_at: float
    team: str | None = None
    session: str | None = None
    thread: str | None = None
    parent: str | None = None
    parent_call: str | None = None
    status: Status = "queued"
    reason: str | None = None
    input: Any = None
    output: Any = None
    error: Json | None = None
    grants: tuple[str, ...] = ()
    metadata: Json = field(default_factory=dict)
    step: int = 1
    head: str | None = None
    base: str | None = None
    tool_calls: int = 0
    children: int = 0
    failures: int = 0
    is_tainted: bool = False
    started_at: float | None = None
    ended_at: float | None = None
    waiting_since: float | None = None
    waited_s: float = 0.0
    trace: str | None = None
    """Of the span that caused it, as a task has it (`telemetry.spans.Parent.text`). None: nobody said which one."""
    above: tuple[RunLimit, ...] = ()
    """Limits of the runs above it, the outermost first."""

    @property
    def depth(self) -> int:
        return self.id.count(".")

    @property
    def task_id(self) -> str:
        return step_id(self.id, self.step)

    def wall_left_s(self, now: float) -> float:
        began = self.started_at if self.started_at is not None else now
        waiting = 0.0 if self.waiting_since is None else now - self.waiting_since
        return self.limits.wall_s - (now - began - self.waited_s - waiting)

    def limit(self) -> RunLimit:
        return RunLimit(run=self.id, nano_usd=self.limits.nano_usd, tokens=self.limits.tokens)

    def grant(self, expires_at: float) -> Grant:
        """With which its model calls are made."""
        return Grant(
            key_id=self.key_id,
            run=self.id,
            agent=self.agent,
            expires_at=expires_at,
            limits=(*self.above, self.limit()),
            session=self.session,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a run waits for. `answer`: None until somebody has said it."""

    id: str
    kind: WaitKind
    tool: str | None = None
    call: str | None = None
    arguments: Json | None = None
    message: str | None = None
    child: str | None = None
    interrupt: str | None = None
    """LangGraph's id of a question that the graph itself asked."""
    answer: Any = None
    is_answered: bool = False

    def shown(self) -> Json:
        return {
            "id": self.id,
            "kind": self.kind,
            "tool": self.tool,
            "arguments": self.arguments,
            "message": self.message,
            "child": self.child,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a run. `key` makes it one, however often it is said. `id` counts those of a run from
    1; 0 before it is stored."""

    run: str
    type: str
    key: str
    at: float
    step: int | None = None
    data: Json = field(default_factory=dict)
    id: int = 0

    def shown(self) -> Json:
        return {"id": self.id, "run": self.run, "type": self.type, "at": self.at, "step": self.step, "data": self.data}


def step_id(run: str, step: int) -> str:
    """Of the task that a step is."""
    return f"{run}.s{step}"


def shown(run: Run, usage: Json, waits: Sequence[Wait]) -> Json:
    """A run as clients see it."""
    return {
        "id": run.id,
        "object": "agent.run",
        "agent": run.agent,
        "status": run.status,
        "reason": run.reason,
        "input": run.input,
        "output": run.output,
        "error": run.error,
        "thread": run.thread,
        "parent": run.parent,
        "tenant": run.tenant,
        "session": run.session,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "limits": run.limits.shown(),
        "grants": list(run.grants),
        "metadata": run.metadata,
        "usage": {**usage, "tool_calls": run.tool_calls},
        "waiting_for": [wait.shown() for wait in waits if not wait.is_answered],
    }


def granted(agent: Agent, asked: object) -> tuple[str, ...]:
    """The tools that a run may use to write or spend: those that the agent has, and those that the caller asks for.
    Raises InvalidInput for one that nobody may have."""
    if asked is None:
        return tuple(agent.grants)
    if not isinstance(asked, list) or not all(isinstance(name, str) for name in asked):
        raise InvalidInput("grants has to be a list of names of tools", param="grants")
    allowed = {*agent.grants, *agent.grantable}
    for name in asked:
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise InvalidInput(
                f"{name[:64]!r} cannot be granted to a run of this agent; what can is: {known}",
                param="grants",
                hint="agents.definitions.<name>.grantable lists what callers may ask for",
            )
    return tuple(dict.fromkeys((*agent.grants, *asked)))


def child_of(parent: Run, agent: Agent, *, id: str, name: str, asked: Any, call: str, now: float) -> Run:
    """The run that a call of a sub-agent is. It may do what both it and the run that began it may: nothing grows on the
    way down. What its parent has read may be in what it is asked, so it is tainted as its parent is."""
    own = Limits.of(agent.limits)
    return Run(
        id=id,
        agent=name,
        tenant=parent.tenant,
        key_id=parent.key_id,
        team=parent.team,
        session=parent.session,
        graph_thread=id,
        parent=parent.id,
        parent_call=call,
        input=asked,
        limits=Limits(
            **{
                **own.as_row(),
                "depth": min(own.depth, parent.limits.depth - 1),
                "wall_s": max(0.0, min(own.wall_s, parent.wall_left_s(now))),
            }
        ),
        grants=tuple(each for each in dict.fromkeys((*agent.grants, *agent.grantable)) if each in parent.grants),
        is_tainted=parent.is_tainted,
        above=(*parent.above, parent.limit()),
        trace=parent.trace,
        created_at=now,
        updated_at=now,
    )


def metadata_in(asked: object) -> Json:
    """Raises InvalidInput."""
    if asked is None:
        return {}
    if not isinstance(asked, dict) or len(asked) > MOST_METADATA:
        raise InvalidInput(f"metadata has to be an object of at most {MOST_METADATA} texts", param="metadata")
    for name, value in asked.items():
        if not isinstance(value, str) or len(value) > 512 or len(name) > 64:
            raise InvalidInput(f"metadata.{name[:64]} has to be a text of at most 512 characters", param="metadata")
    return asked


def answers_in(body: Mapping[str, Any], open_waits: Sequence[Wait]) -> dict[str, Any]:
    """What a `resume` says, by wait. Raises InvalidInput when it answers nothing, or something that is not asked."""
    known = {wait.id: wait for wait in open_waits if wait.kind != "child"}
    said = body.get("answers")
    if said is None:
        whole = {name: value for name, value in body.items() if name != "answers"}
        if not whole:
            raise InvalidInput(
                "there is no answer in the body",
                hint='send {"decision": "approve"} {"decision": "reject"}, {"answer": ...}, or '
                '{"answers": {wait: ...}}',
            )
        answer = whole["answer"] if set(whole) == {"answer"} else whole
        said = dict.fromkeys(known, answer)
    if not isinstance(said, dict):
        raise InvalidInput("answers has to be an object: wait to answer", param="answers")
    if not said:
        raise InvalidInput("this run waits for nobody's answer", code="nothing_to_answer")
    for wait, answer in said.items():
        if wait not in known:
            open_ones = ", ".join(known) or "nobody"
            wrong = f"{wait[:64]!r} is nothing that this run waits for; it waits for: {open_ones}"
            raise InvalidInput(wrong, param="answers")
        _check_answer(known[wait], answer)
    return said


def _check_answer(wait: Wait, answer: object) -> None:
    wanted = {"approval": ("approve", "reject"), "uncertain": ("retry", "done", "fail")}.get(wait.kind)
    if wanted is None:
        return
    decision = answer.get("decision") if isinstance(answer, dict) else None
    if decision not in wanted:
        wrong = f"the answer to {wait.id} has the decision {decision!r}; it has to be one of {', '.join(wanted)}"
        raise InvalidInput(wrong, param="answers")
    arguments = answer.get("arguments") if isinstance(answer, dict) else None
    if arguments is not None and not isinstance(arguments, dict):
        raise InvalidInput("arguments has to be an object", param="answers")
