"""What an answer says of its cost and of what is left: headers, and the last piece of a stream. Pure.

`x-ratelimit-*` are OpenAI's, which its clients read; `X-Stoker-*` are ours (docs/budgets.md lists them).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from stoker.policy.budgets import Counter, Unit

Json = dict[str, Any]
Left = list[tuple[Counter, int]]
"""What can still be reserved of each counter."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one answer came to. Money in nano-dollars; `session_nano_usd` is that of the whole session so far."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    nano_usd: int
    queue_wait_s: float
    left: Left
    session_nano_usd: int | None = None

    def headers(self, now: float) -> dict[str, str]:
        said = {
            "X-Stoker-Prompt-Tokens": str(self.prompt_tokens),
            "X-Stoker-Cached-Tokens": str(self.cached_tokens),
            "X-Stoker-Completion-Tokens": str(self.completion_tokens),
            "X-Stoker-Cost-Usd": dollars(self.nano_usd),
            "X-Stoker-Queue-Wait-Seconds": f"{self.queue_wait_s:.3f}",
            **rate_limits(self.left, now),
        }
        if self.session_nano_usd is not None:
            said["X-Stoker-Session-Cost-Usd"] = dollars(self.session_nano_usd)
        return said

    def as_json(self) -> Json:
        said: Json = {
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": self.nano_usd / 1e9,
            "queue_wait_s": round(self.queue_wait_s, 3),
        }
        least = tightest(self.left)
        for unit, name in ((Unit.TOKENS, "budget_left_tokens"), (Unit.NANO_USD, "budget_left_usd")):
            found = least.get(unit)
            if found is not None:
                said[name] = found[1] / 1e9 if unit is Unit.NANO_USD else found[1]
        if self.session_nano_usd is not None:
            said["session_cost_usd"] = self.session_nano_usd / 1e9
        return said


def rate_limits(left: Left, now: float) -> dict[str, str]:
    """For requests and tokens, OpenAI's headers of the counter with the least left; for budgets, ours."""
    said: dict[str, str] = {}
    least = tightest(left)
    for unit, name in ((Unit.REQUESTS, "requests"), (Unit.TOKENS, "tokens")):
        found = least.get(unit)
        if found is None:
            continue
        counter, remaining = found
        said[f"x-ratelimit-limit-{name}"] = str(counter.limit)
        said[f"x-ratelimit-remaining-{name}"] = str(remaining)
        if counter.renews_at is not None:
            said[f"x-ratelimit-reset-{name}"] = duration(counter.renews_at - now)
    money = least.get(Unit.NANO_USD)
    if money is not None:
        said["X-Stoker-Budget-Left-Usd"] = dollars(money[1])
    tokens = least.get(Unit.TOKENS)
    if tokens is not None:
        said["X-Stoker-Budget-Left-Tokens"] = str(tokens[1])
    return said


def tightest(left: Iterable[tuple[Counter, int]]) -> dict[Unit, tuple[Counter, int]]:
    """For each unit the counter with the least left."""
    least: dict[Unit, tuple[Counter, int]] = {}
    for each in left:
        unit = each[0].unit
        known = least.get(unit)
        if known is None or each[1] < known[1]:
            least[unit] = each
    return least


def dollars(nano_usd: int) -> str:
    return f"{nano_usd // 10**9}.{nano_usd % 10**9:09d}"


def money(nano_usd: int) -> str:
    """For people: cents, and what is smaller where there is any."""
    whole, _, parts = dollars(nano_usd).partition(".")
    return f"${whole}.{parts.rstrip('0'):0<2}"


def duration(seconds: float) -> str:
    """As OpenAI writes it: `6m0s`, `1h2m3s`, `250ms`."""
    if seconds < 1:
        return f"{max(0, math.ceil(seconds * 1000))}ms"
    whole = math.ceil(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"
