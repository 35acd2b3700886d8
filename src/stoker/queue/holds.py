"""What a task in memory holds of budgets, and what its attempts have used: the twin of the second half of
`lua/money.lua`. Used by `memory_queue`; the books themselves are in `books`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import MOST, Part, Unit
from stoker.queue.books import Books, Unpaid, unit_of
from stoker.queue.tasks import Partial, TokenBound

_COUNTED = ("prompt_tokens", "cached_tokens", "completion_tokens", "nano_usd")


@dataclass(slots=True)
class TaskMoney:
    """`one` is what one attempt can cost at most, `held` what is held now. `used_*` are the sums of failed attempts.
    `scopes` are those of its records."""

    books: Books
    one: tuple[Part, ...] = ()
    held: tuple[Part, ...] = ()
    used: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0))
    scopes: tuple[str, ...] = ()

    def total(self, record: UsageRecord) -> UsageRecord:
        """The record of the life: its last attempt's with what failed attempts have used added to it."""
        return replace(record, **{name: getattr(record, name) + amount for name, amount in self.used.items()})

    def settle(self, now: float, total: UsageRecord) -> None:
        """The end of a life."""
        tokens = total.prompt_tokens + total.completion_tokens
        self.books.settle_hold(now, self.held, tokens, total.nano_usd, self.scopes)
        self.one, self.held, self.used = (), (), dict.fromkeys(_COUNTED, 0)

    def hold_for_another(self, now: float, record: UsageRecord | None) -> Unpaid | None:
        """An attempt that is not the last ended: hold what another may cost beside what was used. None: done. Else
        nothing has changed."""
        used = self._used_with(record)
        tokens = used["prompt_tokens"] + used["completion_tokens"]
        held = self.books.hold_for_another(now, self.one, self.held, tokens, used["nano_usd"])
        if isinstance(held, Unpaid):
            return held
        self.held, self.used = held, used
        return None

    def wait_for_another(self, now: float, record: UsageRecord | None, wanted: Sequence[str]) -> None:
        """Another attempt would fit with what others could give back of these: ask them, and remember what was used
        meanwhile."""
        self.books.want(now, wanted)
        self.used = self._used_with(record)

    def remember(self, record: UsageRecord | None) -> None:
        """Another attempt goes on where this one ended, with the rest of what is held."""
        self.used = self._used_with(record)

    def count_whole_attempt(self, bound: TokenBound | None, partial: Partial | None) -> None:
        """The worker vanished in the middle, and nobody knows what the engine produced. `bound`: of the task;
        `partial`: what it went on with, which is used already and was part of the same bound."""
        if bound is None or bound.nano_usd is None:
            bound = TokenBound(0, _most(self.one, Unit.TOKENS), _most(self.one, Unit.NANO_USD))
            had = (0, partial.prompt_tokens + partial.completion_tokens, partial.nano_usd) if partial else (0, 0, 0)
        else:
            had = (partial.prompt_tokens, partial.completion_tokens, partial.nano_usd) if partial else (0, 0, 0)
        for (name, amount), already in zip(bound._asdict().items(), had, strict=True):
            self.used[name] += max(0, min(MOST, amount - already))

    def _used_with(self, record: UsageRecord | None) -> dict[str, int]:
        return {name: amount + (getattr(record, name) if record else 0) for name, amount in self.used.items()}


def _most(parts: Sequence[Part], unit: Unit) -> int:
    return max((amount for counter, amount in parts if unit_of(counter) == unit), default=0)
