"""Between Redis' bytes and our values: a task's hash, bodies, results. Pure; the fields are those of `keys`."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from stoker.base import json_text
from stoker.base.errors import InvalidInput, writable
from stoker.base.ids import KeyId, ModelName, TaskId, TenantName
from stoker.queue import keys
from stoker.queue.tasks import Attempt, Delivery, Json, NewTask, Partial, State, Task, TokenBound

REASON_CHARS = 2_000  # of a failed attempt's reason that are kept, so that a traceback cannot fill Redis


# Made once: `json.dumps` with options makes an encoder for each call. Strict, where orjson writes null for a NaN.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode_json(value: Mapping[str, Any], *, what: str, max_bytes: int) -> bytes:
    """Raises InvalidInput when it is not JSON (`<what>_not_json`) or longer than `max_bytes` (`<what>_too_large`)."""
    try:
        data = _encode(value).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidInput(f"the {what} is not JSON: {exc}", param=what, code=f"{what}_not_json") from exc
    if len(data) > max_bytes:
        raise InvalidInput(
            f"the {what} has {len(data):,} bytes as JSON; at most {max_bytes:,} are taken",
            param=what,
            code=f"{what}_too_large",
        )
    return data


def decode_json(data: bytes) -> Json:
    return cast(Json, json_text.loads(data))


def head_of(new: NewTask) -> bytes:
    """What was submitted, without the body, as JSON."""
    head = {
        "model": new.model,
        "tenant": new.tenant,
        "key_id": new.key_id,
        "team": new.team,
        "endpoint": new.endpoint,
        "session": new.session,
        "run": new.run,
        "agent": new.agent,
        "route": new.route,
        "bound": new.bound and [*new.bound],
        "stream": new.stream,
        "timeout_s": new.timeout_s,
        "max_attempts": new.max_attempts,
        "priority": new.priority,
        "weight": new.weight,
        "callback": new.callback,
        "origin": new.origin,
        "trace": new.trace,
    }
    return json_text.dumps({name: value for name, value in head.items() if value is not None})


_SUBMITTED = tuple(each.name for each in dataclasses.fields(NewTask))


def task_of(new: NewTask, task_id: TaskId, body: bytes, submitted_at: float, deadline: float | None) -> Task:
    """What `task_from` makes of a task that has just been submitted, without reading it."""
    given = {name: getattr(new, name) for name in _SUBMITTED}
    given |= {"body": decode_json(body), "submitted_at": submitted_at, "deadline": deadline}
    return Task(id=task_id, state=State.QUEUED, **given)


def new_of(task: Task) -> NewTask:
    """What was submitted, of a task that it became."""
    return NewTask(**{name: getattr(task, name) for name in _SUBMITTED})


def failure(reason: str, error: Mapping[str, Any] | None) -> Json:
    """What the caller of a dead task sees: `error` if the worker gave one, else the reason."""
    return dict(error) if error is not None else {"message": reason, "type": "server_error", "code": "task_failed"}


def cut_reason(reason: str) -> str:
    reason = writable(reason)
    return reason if len(reason) <= REASON_CHARS else reason[: REASON_CHARS - 1] + "…"


def pairs(flat: Sequence[bytes]) -> dict[str, bytes]:
    """A hash as Redis' scripts answer it: field, value, field, value."""
    return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}


def task_from(task_id: TaskId, fields: Mapping[str, bytes]) -> Task:
    """The task in a hash; without body and result when the hash was read without them."""
    head = json_text.loads(fields[keys.HEAD])
    bound = json_text.loads(fields[keys.BOUND]) if keys.BOUND in fields else head.get("bound")
    return Task(
        id=task_id,
        model=ModelName(head["model"]),
        tenant=TenantName(head["tenant"]),
        key_id=KeyId(head["key_id"]),
        team=head.get("team"),
        endpoint=head["endpoint"],
        session=head.get("session"),
        run=head.get("run"),
        agent=head.get("agent"),
        route=head.get("route"),
        bound=TokenBound(*bound) if bound else None,
        stream=head["stream"],
        timeout_s=head.get("timeout_s"),
        max_attempts=head["max_attempts"],
        priority=head.get("priority", "normal"),
        weight=head.get("weight", 1),
        state=State(fields[keys.STATE].decode()),
        body=_json(fields, keys.BODY) or {},
        submitted_at=float(fields[keys.SUBMITTED]) / 1000,
        deadline=_seconds(fields, keys.DEADLINE),
        started_at=_seconds(fields, keys.STARTED),
        ended_at=_seconds(fields, keys.ENDED),
        due_at=_seconds(fields, keys.DUE),
        worker=fields[keys.WORKER].decode() if keys.WORKER in fields else None,
        attempts=_history(fields.get(keys.HISTORY)),
        replays=int(fields.get(keys.REPLAYS, b"0")),
        cancel_requested=keys.CANCEL in fields,
        result=_json(fields, keys.RESULT),
        error=_json(fields, keys.ERROR),
        callback=head.get("callback"),
        origin=head.get("origin"),
        trace=head.get("trace"),
        delivery=Delivery(**json.loads(fields[keys.DELIVERY])) if keys.DELIVERY in fields else None,
    )


def encode_partial(partial: Partial | None, *, max_bytes: int) -> bytes:
    """Empty for none, and for one that is larger than a result may be."""
    data = b"" if partial is None else json.dumps(dataclasses.asdict(partial), separators=(",", ":")).encode()
    return data if len(data) <= max_bytes else b""


def partial_from(fields: Mapping[str, bytes]) -> Partial | None:
    return Partial(**decode_json(fields[keys.PARTIAL])) if keys.PARTIAL in fields else None


def failed_attempts(fields: Mapping[str, bytes]) -> int:
    return int(fields.get(keys.FAILED, b"0"))


def _seconds(fields: Mapping[str, bytes], name: str) -> float | None:
    return float(fields[name]) / 1000 if name in fields else None


def _json(fields: Mapping[str, bytes], name: str) -> Json | None:
    return decode_json(fields[name]) if name in fields else None


def _history(lines: bytes | None) -> tuple[Attempt, ...]:
    if not lines:
        return ()
    found = [json.loads(line) for line in lines.split(b"\n")]
    return tuple(
        Attempt(
            number=int(each["number"]),
            worker=each["worker"],
            started_at=each["started"] / 1000,
            ended_at=each["ended"] / 1000,
            reason=each["reason"],
        )
        for each in found
    )
