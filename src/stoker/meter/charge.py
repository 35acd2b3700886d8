"""What is known of one request while it runs, and the one usage record that it becomes. Pure: times are handed in.

Kept by the gateway for requests and by the worker for tasks.
"""

from dataclasses import dataclass
from typing import Any

from stoker.meter.cost import Prices, cost_nano_usd
from stoker.meter.usage import REASON_CHARS, Kind, Status, UsageRecord


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asked, in whose name, under which session, run and team (None: outside any). `agent`: whose run it is."""

    tenant: str
    key_id: str
    session: str | None
    run: str | None
    team: str | None = None
    agent: str | None = None


@dataclass(slots=True)
class Charge:
    """One request or task that is running; `record` is what it comes to. `started_at`: seconds since the epoch."""

    id: str
    kind: Kind
    caller: Caller
    model: str
    route: str | None
    prices: Prices
    started_at: float
    replica: str | None = None
    attempts: int = 1
    first_token_at: float | None = None
    is_counted: bool = False
    """The engine itself has said what it counted; otherwise the numbers are the platform's own."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    most: tuple[int, int] | None = None
    """Tokens of prompt and of answer that it was let in with; None: nobody said."""
    has_begun: bool = False
    """The engine has taken it, so it may have produced something."""
    text_bytes: int = 0
    """Of the answer's text, as far as it was seen."""

    @property
    def is_over(self) -> bool:
        """The engine has produced more than the request was let in with, so it has to be stopped."""
        if self.most is None:
            return False
        prompt, completion = self.most
        return self.completion_tokens > completion or self.prompt_tokens + self.completion_tokens > prompt + completion

    def count_the_most(self, *, was_streamed: bool) -> None:
        """The engine did not say what it counted, so what it can have been at most counts: of the prompt all that was
        reserved; of an answer that was seen as it came, a token for each byte of it."""
        if self.is_counted or self.most is None:
            return
        prompt, completion = self.most
        self.prompt_tokens, self.cached_tokens = prompt, 0
        seen = max(self.completion_tokens, min(self.text_bytes, completion))
        self.completion_tokens = seen if was_streamed else completion

    def saw_usage(self, usage: Any) -> None:
        """Take over the engine's own count, as OpenAI's `usage` object gives it; anything else is left alone. One that
        lacks a number is not the count of an answer, though what it says is better than nothing."""
        if not isinstance(usage, dict):
            return
        prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        if prompt is not None:
            self.prompt_tokens = prompt
        if completion is not None:
            self.completion_tokens = completion
        if prompt is not None and completion is not None:
            self.is_counted = True
        details = usage.get("prompt_tokens_details")
        cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
        self.cached_tokens = min(self.cached_tokens if cached is None else cached, self.prompt_tokens)

    def saw_refusal(self) -> None:
        """The engine says itself that it computed nothing, or nothing more than what was seen."""
        self.is_counted = True

    def nano_usd(self) -> int:
        """What it has cost so far."""
        return cost_nano_usd(
            self.prices,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
        )

    def record(self, status: Status, now: float, reason: str | None = None) -> UsageRecord:
        """`reason`: why it ended otherwise than done, in a few words."""
        return UsageRecord(
            id=self.id,
            kind=self.kind,
            status=status,
            tenant=self.caller.tenant,
            key_id=self.caller.key_id,
            team=self.caller.team,
            session=self.caller.session,
            run=self.caller.run,
            agent=self.caller.agent,
            model=self.model,
            replica=self.replica,
            route=self.route,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
            nano_usd=self.nano_usd(),
            started_at=self.started_at,
            first_token_at=self.first_token_at,
            ended_at=now,
            attempts=self.attempts,
            reason=None if reason is None else reason[:REASON_CHARS],
        )


# The ledger's columns hold no more; an engine that says more says nothing of use.
_MOST_TOKENS = 2**31 - 1


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None
