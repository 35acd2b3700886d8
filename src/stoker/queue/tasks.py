"""What a task is, in each moment of its life. Values only: nothing here talks to Redis.

The gateway makes a `NewTask`; the queue gives back `Task`s; a worker holds a `Claim` on one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from stoker.base.errors import Conflict, InvalidInput, Refused
from stoker.base.ids import KeyId, ModelName, TaskId, TenantName
from stoker.meter.usage import Kind
from stoker.policy import fairness
from stoker.policy.budgets import scope_names
from stoker.spec import AGENT_STEPS, MaxWaiting, Priority
from stoker.spec import Queue as QueueSpec

Json = dict[str, Any]


class State(StrEnum):
    """Where a task is. It is in exactly one of these; the first three go on, and `dead` and `forwarded` may."""

    QUEUED = "queued"  # waits in the model's stream
    RUNNING = "running"  # a worker holds a lease on it
    RETRYING = "retrying"  # an attempt ended; it goes back to the stream when its delay is over and its budget has room
    DONE = "done"  # has a result
    DEAD = "dead"  # failed for good; lies in the dead letters with its cause until it is replayed
    CANCELLED = "cancelled"  # somebody did not want it any more
    FORWARDED = "forwarded"  # failed for good; its dead letter has left Redis for another queue (SQS)
    DROPPED = "dropped"  # failed for good, and somebody gave up its dead letter

    @property
    def has_ended(self) -> bool:
        return self not in (State.QUEUED, State.RUNNING, State.RETRYING)

    @property
    def has_failed(self) -> bool:
        """Whatever has become of its dead letter since."""
        return self in (State.DEAD, State.FORWARDED, State.DROPPED)


class LeaseState(StrEnum):
    """What `extend` found. Compare it: every member is truthy."""

    HELD = "held"  # the lease is longer now; go on
    CANCELLED = "cancelled"  # still yours, and nobody wants it: stop the engine, then `complete`, `fail` or `release`
    LOST = "lost"  # not yours any more: stop, and report nothing


def usage_kind(stream: str) -> Kind:
    """Of the record that a task on this stream leaves. The steps of agents are told by their stream, in Lua too."""
    return "step" if stream == AGENT_STEPS else "task"


class TokenBound(NamedTuple):
    """What one attempt was let in with: at most so many tokens of prompt and of answer, and so many nano-dollars (None:
    nobody said). Who runs it stops beyond the tokens. An attempt of which nobody knows what it used counts as this."""

    prompt_tokens: int
    completion_tokens: int
    nano_usd: int | None = None

    @property
    def tokens(self) -> tuple[int, int]:
        return self.prompt_tokens, self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """What a caller asks for.

    `endpoint` is the path that the worker calls on its engine and `body` what it sends there. `stream` makes the
    worker publish chunks while it runs. `timeout_s` counts from the submission; a task that has not ended by then is
    not started any more and ends dead (None: no limit). `max_attempts` counts attempts that failed or whose worker
    vanished; one that was handed back (`release`) does not count. `priority`, and the `weight` of its tenant, decide
    whose turn it is while it waits (`policy/fairness.py`); it counts there as its `bound`, and as 1 token without one.
    `callback` is the URL that is told of each end. `origin` is kept as it is: who submits by an id sees by it whether
    the task with that id is of this submission. `trace`, too: who caused it
    (`telemetry.spans.Parent`).

    Raises InvalidInput when a number makes no sense.
    """

    model: ModelName
    tenant: TenantName
    key_id: KeyId
    endpoint: str
    body: Mapping[str, Any]
    team: str | None = None
    session: str | None = None
    run: str | None = None
    agent: str | None = None
    route: str | None = None
    bound: TokenBound | None = None
    stream: bool = False
    timeout_s: float | None = None
    max_attempts: int = 3
    priority: Priority = "normal"
    weight: int = 1
    callback: str | None = None
    origin: str | None = None
    trace: str | None = None

    @property
    def scopes(self) -> tuple[str, ...]:
        """Those whose counters what it comes to counts in; none for a step, see `scopes_of`."""
        if usage_kind(self.model) == "step":
            return ()
        return scope_names(
            key=self.key_id,
            tenant=self.tenant,
            team=self.team,
            session=self.session,
            run=self.run,
            agent=self.agent,
        )

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise InvalidInput(f"max_attempts is {self.max_attempts}; it must be at least 1", param="max_attempts")
        if self.timeout_s is not None and not (self.timeout_s > 0 and math.isfinite(self.timeout_s)):
            raise InvalidInput(
                f"timeout_s is {self.timeout_s}; it must be a number of seconds above 0, or absent", param="timeout_s"
            )
        if self.weight < 1:
            raise InvalidInput(f"weight is {self.weight}; it must be at least 1", param="weight")
        if self.priority not in fairness.PRIORITIES:
            allowed = ", ".join(fairness.PRIORITIES)
            raise InvalidInput(f"priority is {self.priority!r}; it must be one of {allowed}", param="priority")
        if not self.model or any(c.isspace() for c in self.model):
            raise InvalidInput(f"model is {self.model!r}; it must be a name without spaces", param="model")


_LEASE_EXPIRED = "lease expired:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt that failed, and why. Times are seconds since the epoch by the queue's clock."""

    number: int
    worker: str
    started_at: float
    ended_at: float
    reason: str

    @property
    def is_lost(self) -> bool:
        """Its worker is taken for dead, and said nothing."""
        return self.reason.startswith(_LEASE_EXPIRED)


DeliveryState = Literal["waiting", "delivered", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How it stands with telling somebody of a task's end: after so many `tries`, the last of them `at` (seconds since
    the epoch), which was answered with `status` (None: not at all). `error`: why the last one did not do."""

    state: DeliveryState
    tries: int
    at: float
    status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as the queue knows it. Times are seconds since the epoch by the queue's clock (Redis' own).

    `attempts` are the failed ones. `started_at` is the begin of the latest attempt. `result` is there when it is done,
    `error` (`message`, `type`, `code` as in OpenAI's shape) when it is dead. `deadline` is when `timeout_s` is over.
    `due_at` is when a `retrying` task goes back to the stream, or when it is seen whether its budget has room for that
    by now. `replays` counts how often it was brought back from the
    dead letters. `callback` is the URL that is told of its end, `delivery` how that stands (None: not
    tried yet). `list` and `dead` leave `body` and `result` out, since they may be large.
    """

    id: TaskId
    model: ModelName
    tenant: TenantName
    key_id: KeyId
    endpoint: str
    state: State
    submitted_at: float
    body: Json = field(default_factory=dict)
    team: str | None = None
    session: str | None = None
    run: str | None = None
    agent: str | None = None
    route: str | None = None
    bound: TokenBound | None = None
    stream: bool = False
    timeout_s: float | None = None
    max_attempts: int = 3
    priority: Priority = "normal"
    weight: int = 1
    attempts: tuple[Attempt, ...] = ()
    replays: int = 0
    worker: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    due_at: float | None = None
    deadline: float | None = None
    cancel_requested: bool = False
    result: Json | None = None
    error: Json | None = None
    callback: str | None = None
    origin: str | None = None
    trace: str | None = None
    delivery: Delivery | None = None

    @property
    def share(self) -> fairness.Share:
        """What decides about its turn while it waits."""
        tokens = 1 if self.bound is None else max(1, sum(self.bound.tokens))
        return fairness.Share(self.priority, self.tenant, self.weight, tokens)

    @property
    def usage_id(self) -> str:
        """The id of its usage record: its own, and another for each replay, since each life is counted once."""
        return self.id if self.replays == 0 else f"{self.id}.{self.replays}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """What an answer had come to when its worker gave it up, for the next one to go on with: what was generated is not
    generated again, and not paid twice.

    `answer` is what the worker makes of it; the queue only keeps it. `chunks`: how many were published. `token`: of the
    claim under which the answer began, and under which its chunks are known. The counts are those of the whole answer
    so far; what the attempts handed in as usage comes to the same.
    """

    answer: Json
    chunks: int
    token: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A worker's hold on a task. It is good until `lease_expires_at` (queue's clock) unless it is extended.

    `token` is the fencing token: it rises with each claim of this task, and only the newest one can change the task.
    `attempt` is the number of this attempt, from 1. `time_left_s` is what remained until the task's deadline when it
    was claimed, so that a worker need not compare clocks; None without a deadline. `partial`: what the answer had come
    to, to go on with; None to begin. `alone`: its worker takes nothing beside it, see `Queue.claim`.
    """

    task: Task
    token: int
    worker: str
    attempt: int
    lease_expires_at: float
    time_left_s: float | None = None
    partial: Partial | None = None
    alone: bool = False

    @property
    def answer_token(self) -> int:
        """The token of the claim under which its answer began."""
        return self.token if self.partial is None else self.partial.token


class Chunk(NamedTuple):
    """A piece of a streamed answer: one `data:` payload of the event stream, without the framing.

    `cursor` resumes after it. `token` is that of the claim under which its answer began: when it rises within one
    stream, that answer was given up and another starts.
    """

    cursor: str
    data: bytes
    token: int


class Depth(NamedTuple):
    """How much there is for one model. `lag` is what KEDA reads: tasks that wait and that no worker was given."""

    lag: int
    pending: int
    delayed: int
    dead: int


class Place(NamedTuple):
    """Where a waiting task is. `ahead`: how many are likely to be taken before it, by the order as it is now, as if all
    cost alike; what comes later with a higher priority, or of tenants that were served less, is not in it. `wait_s`:
    how long that may last; None while no task has ended by which to judge."""

    ahead: int
    wait_s: float | None


def queue_full(
    of: str, model: str, tenant: str, waiting: int, *, tenants: int, run_ms: int | None, running: int
) -> Refused:
    """No more may wait. `of`: "tenant" or "model", whose number is reached; `tenants` that wait: there is room for
    each of them when each has had a turn. Beside that it says how many would have been before it (`position`, as of a
    task that waits), and for how long it would have waited."""
    whose = f"of tenant {tenant} " if of == "tenant" else ""
    wait_s = fairness.wait_s(max(1, tenants), run_ms, running)
    all_s = fairness.wait_s(waiting + 1, run_ms, running)
    return Refused(
        f"{waiting} requests and tasks {whose}wait for {model}, and no more may",
        retry_after_s=max(1.0, wait_s or 1.0),
        code="queue_full",
        more={"position": waiting, "estimated_wait_s": None if all_s is None else round(all_s, 3)},
    )


def not_dead(task_id: str, found: str, done: str) -> Conflict:
    """`found`: the state in which it is, or '' for none. `done`: what was to be done with it."""
    is_forwarded = found == State.FORWARDED
    return Conflict(
        f"task {task_id} is {found or 'unknown'}; only a dead task can be {done}",
        code="not_dead",
        hint="its letter is in SQS: `stoker tasks replay --from-sqs`" if is_forwarded else None,
    )


def not_taken_back(letter: Task, found: str) -> Conflict:
    """`found`: `over` or `bodiless`, as `lua/retry.lua` says it."""
    if found == "bodiless":
        return Conflict(
            f"the body of task {letter.id} was too large for the message, and Redis does not have it any more",
            code="body_lost",
        )
    return Conflict(f"task {letter.id} was replayed or dropped since this letter was sent", code="already_replayed")


def deadline_error() -> Json:
    """What the caller sees of a task whose deadline passed; the same words stand in `lua/prelude.lua`."""
    message = "the deadline of the task passed before it was done"
    return {"message": message, "type": "timeout_error", "code": "deadline_exceeded"}


def unpaid_error(counter: str) -> Json:
    """What the caller sees of a task whose budget is used up by failed attempts; as in `lua/prelude.lua`. `counter`:
    the name of the one that has too little left."""
    kind, _, unit, window = counter.split(":")[:4]
    words = {"nano_usd": "dollars", "concurrent": "requests at once"}.get(unit, unit)
    per = "" if window == "total" else f" per {window}"
    message = f"what its failed attempts have used and one more attempt do not fit the {kind}'s budget of {words}{per}"
    return {"message": message, "type": "insufficient_quota", "code": "budget_exhausted"}


def lease_expired_reason(worker: str) -> str:
    """Why an attempt failed whose worker said nothing more; the same words stand in `lua/reclaim.lua`."""
    return f"{_LEASE_EXPIRED} worker {worker} did not renew it, so it is taken for dead"


HELD_BACK_S = 0.05
"""Before a worker asks again that may take nothing until it runs nothing: what is next has to run alone."""

CHUNKS_KEPT_S = 3600.0
"""How long what a streamed task has said is kept after its end, if its result is kept as long. Said piece by piece an
answer takes many times the memory of the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """The queue's numbers, the same for every process of a platform."""

    result_ttl_s: float = 86_400.0
    """How long a done or cancelled task and its result are kept. Dead letters stay until replayed."""

    max_body_bytes: int = 8 * 1024 * 1024
    """The largest body of a task as JSON; a larger one is refused with `body_too_large`. Room for a few images."""

    max_result_bytes: int = 16 * 1024 * 1024
    """The largest result as JSON; the attempt with a larger one fails for good."""

    ended_kept: int = 10_000
    """How many ended tasks of each model `list` can still find. `get` finds every one until `result_ttl_s` is over."""

    max_waiting_of_tenant: int | None = None
    """How many of one tenant may wait for one model; one more is refused with `queue_full`. None: any number."""

    max_waiting_of_model: int | None = None
    """How many may wait for one model, as above."""

    usage_redelivery_s: float = 30.0
    """A usage record that was read and not acknowledged for this long is given to whoever reads next."""

    @classmethod
    def of(cls, spec: QueueSpec, waiting: MaxWaiting | None = None) -> "QueueSettings":
        """Those of `platform.yaml`; `waiting` is for those who submit."""
        return cls(
            result_ttl_s=spec.result_ttl_seconds,
            max_body_bytes=spec.max_body_bytes,
            max_waiting_of_tenant=None if waiting is None else waiting.per_tenant,
            max_waiting_of_model=None if waiting is None else waiting.per_model,
        )

    def __post_init__(self) -> None:
        for name in ("result_ttl_s", "max_body_bytes", "max_result_bytes", "ended_kept"):
            if getattr(self, name) <= 0:
                raise InvalidInput(f"{name} is {getattr(self, name)}; it must be above 0", param=name)
        if self.usage_redelivery_s < 0:
            raise InvalidInput(
                f"usage_redelivery_s is {self.usage_redelivery_s}; it must not be negative", param="usage_redelivery_s"
            )
