"""One usage record for each request or task that was let in, whatever became of it.

Written by whoever finishes the request (the gateway, or the worker's `complete`), carried by the Redis stream
`stoker:usage`, kept by the ledger. `id` is the request's or task's own id, so a record that is delivered twice is
stored once.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

from stoker.base import json_text

Status = Literal["done", "cancelled", "failed", "cut", "lost"]
"""How it ended: with its answer; because nobody wanted it any more; with an error; stopped in the middle because a
budget was used up; or with the death of its process, after which nobody could say what it had produced, so that all
that was reserved for it counts."""
Kind = Literal["request", "task", "step"]
"""A step of an agent's run is a task of its own, that asks no model: it is no request, in no budget and in no sum."""
REASON_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """Times are seconds since the epoch; money is in nano-dollars (1e-9 USD), so that sums are exact in any database.

    `prompt_tokens` includes `cached_tokens`. `first_token_at` is None when nothing was produced, and when nobody saw
    it, as in a whole answer from a replica. `route` is the word that says why this model was chosen. `replica` is None
    when no replica was reached. `agent` is the one whose run it belongs to, and then `run` is a path
    (`policy.budgets.run_path`). `reason` says in a few words why it ended otherwise than done; the ledger keeps
    `REASON_CHARS` of them.
    """

    id: str
    kind: Kind
    status: Status
    tenant: str
    key_id: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    nano_usd: int
    started_at: float
    ended_at: float
    first_token_at: float | None = None
    team: str | None = None
    session: str | None = None
    run: str | None = None
    agent: str | None = None
    replica: str | None = None
    route: str | None = None
    attempts: int = 1
    reason: str | None = None

    def to_json(self) -> str:
        # Not `asdict`, which copies each value: a record is made for every request.
        return json_text.dumps({name: getattr(self, name) for name in _NAMES}).decode("utf-8", "replace")

    @classmethod
    def from_json(cls, text: str) -> "UsageRecord":
        """Raises TypeError or ValueError when `text` is not a record."""
        return cls.from_dict(json_text.loads(text))

    @classmethod
    def from_dict(cls, said: Any) -> "UsageRecord":
        """Raises TypeError when it is not a record. One of an earlier version lacks what came later, and of a later one
        this version leaves out what it does not know: while a platform is upgraded, both run."""
        if not isinstance(said, dict):
            raise TypeError(f"a usage record is an object, not a {type(said).__name__}")
        if not said.keys() <= _KNOWN:
            said = {name: value for name, value in said.items() if name in _KNOWN}
        return cls(**said)


_NAMES = tuple(field.name for field in fields(UsageRecord))
_KNOWN = frozenset(_NAMES)
