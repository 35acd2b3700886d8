"""Who serves: a worker announces the engine beside it, and the gateway looks here for where to send a request."""

import json
from dataclasses import asdict, dataclass

from stoker.base.ids import ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One engine that can be reached at `url` (its origin, such as `http://127.0.0.1:9001`).

    `capacity` is how many requests it runs at once. `running` is how many it ran when it was announced last: a hint
    for routing, as old as the announcement. `started_at` is in seconds since the epoch. `draining`: it finishes what
    it has and is given nothing new.
    """

    id: str
    model: ModelName
    url: str
    capacity: int
    started_at: float
    running: int = 0
    draining: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Replica":
        """Raises TypeError or ValueError when `text` is not a replica."""
        return cls(**json.loads(text))
