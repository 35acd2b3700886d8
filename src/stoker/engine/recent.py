"""What became of the latest requests, by the id that their caller gave them (`X-Request-Id`).

For whoever has to account for a request whose caller has died: `GET /v1/requests/{id}`. Bounded; what an engine does
not know any more, or ran before its own last start, it cannot tell, and says since when it can.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

# At 100 requests a second the last 100 seconds: longer than it takes to notice that a caller is dead.
KEPT = 10_000


class Produced(Protocol):
    """A request that runs or has run."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def has_ended(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Ended:
    prompt_tokens: int
    completion_tokens: int
    has_ended: bool = True


class Recent:
    def __init__(self, now: float) -> None:
        self.since = now
        """A request that is not here and came after this time (seconds since the epoch) never reached the engine."""
        self._by_id: OrderedDict[str, Produced] = OrderedDict()

    def begin(self, request_id: str, produced: Produced, now: float) -> None:
        self._by_id[request_id] = produced
        self._by_id.move_to_end(request_id)
        while len(self._by_id) > KEPT:
            self._by_id.popitem(last=False)
            self.since = now

    def end(self, request_id: str) -> None:
        """Keep the numbers alone: what has run holds its text and its cache of words."""
        last = self._by_id.get(request_id)
        if last is not None:
            self._by_id[request_id] = Ended(last.prompt_tokens, last.completion_tokens)

    def find(self, request_id: str) -> Produced | None:
        return self._by_id.get(request_id)
