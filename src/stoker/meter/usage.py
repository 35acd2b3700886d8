"""One usage record for each request or task that was let in, whatever became of it.

Written by whoever finishes the request (the gateway, or the worker's `complete`), carried by the Redis stream
`stoker:usage`, kept by the ledger. `id` is the request's or task's own id, so a record that is delivered twice is
stored once.
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["done", "cancelled", "failed"]
Kind = Literal["request", "task"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """Times are seconds since the epoch; money is in nano-dollars (1e-9 USD), so that sums are exact in any database.

    `prompt_tokens` includes `cached_tokens`. `first_token_at` is None when nothing was produced, and when nobody saw
    it, as in a whole answer from a replica. `route` is the word that says why this model was chosen. `replica` is None
    when no replica was reached.
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
    replica: str | None = None
    route: str | None = None
    attempts: int = 1

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "UsageRecord":
        """Raises TypeError or ValueError when `text` is not a record."""
        return cls(**json.loads(text))
