"""Dead letters as values: which of them are meant, what of a dropped one is remembered, and the message that one
becomes when it leaves Redis. Nothing here talks to Redis or to another queue.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, cast

from stoker.base.errors import InvalidInput
from stoker.base.ids import KeyId, ModelName, TaskId, TenantName
from stoker.queue.tasks import Attempt, Json, State, Task, TokenBound

GONE_S = 15 * 86_400.0
"""How long it is remembered which life of a task was replayed or dropped, and how long a forwarded task is kept: a day
longer than SQS keeps a message at most, so that no copy of it can outlive the memory of what became of it."""

DROPPED_KEPT = 10_000
"""How many dropped letters the log holds, about: the oldest leave first."""

VERSION = 1
_IN_REDIS = "redis"


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which dead letters are meant. None: any. Times are seconds since the epoch by the queue's clock."""

    tenant: str | None = None
    code: str | None = None
    died_after: float | None = None
    died_before: float | None = None

    def takes(self, task: Task) -> bool:
        died_at = task.ended_at or 0.0
        return (
            (self.tenant is None or task.tenant == self.tenant)
            and (self.code is None or code_of(task) == self.code)
            and (self.died_after is None or died_at >= self.died_after)
            and (self.died_before is None or died_at < self.died_before)
        )


ANY = Which()


class Letters(NamedTuple):
    """A page of dead letters, those that died last first. `next` goes on after it; None: there are no more. A page may
    be empty and have a next one: only so many are looked at in one step."""

    tasks: list[Task]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A letter that somebody gave up: who, why and when, and what it was."""

    id: str
    model: str
    tenant: str
    code: str
    by: str
    why: str
    died_at: float | None
    dropped_at: float


def code_of(task: Task) -> str:
    """The reason for which it died, as one word."""
    code = None if task.error is None else task.error.get("code")
    return code if isinstance(code, str) and code else "task_failed"


# Of a task, what one is made of again elsewhere; what belongs to one attempt or to Redis stays out.
_PLAIN = (
    *("id", "model", "tenant", "key_id", "team", "endpoint", "session", "run", "route", "stream", "timeout_s"),
    *("max_attempts", "priority", "weight", "replays", "submitted_at", "ended_at", "error", "callback"),
)
# What letters of before do not have.
_LATER = ("origin", "agent", "trace")


class Message(NamedTuple):
    """`has_body` is False for a task that is too large for the message: then Redis has its body."""

    text: str
    has_body: bool


def to_message(task: Task, *, max_bytes: int) -> Message:
    """All that is needed to run the task again, in at most `max_bytes` of ASCII. Raises InvalidInput
    (`letter_too_large`) when it does not even fit without its body."""
    said: Json = {"version": VERSION} | {name: getattr(task, name) for name in _PLAIN}
    said |= {name: value for name in _LATER if (value := getattr(task, name)) is not None}
    said |= {"bound": task.bound, "attempts": [asdict(attempt) for attempt in task.attempts]}
    whole = json.dumps({**said, "body": task.body}, separators=(",", ":"))
    if len(whole) <= max_bytes:
        return Message(whole, True)
    short = json.dumps({**said, "body": None, "body_in": _IN_REDIS}, separators=(",", ":"))
    if len(short) > max_bytes:
        raise InvalidInput(
            f"the letter of task {task.id} has {len(short):,} bytes without its body; at most {max_bytes:,} are taken",
            code="letter_too_large",
        )
    return Message(short, False)


def from_message(text: str) -> Task:
    """The dead task of a message; its body is empty when Redis has it. Raises InvalidInput (`letter_unreadable`)."""
    try:
        said = json.loads(text)
        if said["version"] != VERSION:
            raise InvalidInput(
                f"its version is {said['version']}; only {VERSION} can be read", code="letter_unreadable"
            )
        return _task_of(said)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as exc:
        raise InvalidInput(f"this is no dead letter: {type(exc).__name__}", code="letter_unreadable") from exc


def _task_of(said: dict[str, Any]) -> Task:
    given = {name: said[name] for name in _PLAIN}
    texts = ("id", "model", "tenant", "key_id", "endpoint")
    if not all(isinstance(given[name], str) and given[name] for name in texts) or not isinstance(
        said["body"], dict | None
    ):
        raise TypeError("a name or the body is of another kind")
    bound = said["bound"]
    return Task(
        **{
            **given,
            "id": TaskId(given["id"]),
            "model": ModelName(given["model"]),
            "tenant": TenantName(given["tenant"]),
            "key_id": KeyId(given["key_id"]),
            "replays": int(given["replays"]),
            "submitted_at": float(given["submitted_at"]),
            "state": State.FORWARDED,
            "body": cast(Json, said["body"] or {}),
            **{name: said.get(name) for name in _LATER},
            "bound": None if bound is None else TokenBound(*bound),
            "attempts": tuple(Attempt(**each) for each in said["attempts"]),
        }
    )
