"""Budgets on Redis. Each step is one Lua script (`lua/budget_*.lua`, `lua/money.lua`); this module hands them their
arguments, and keeps track of calls whose answer was lost. `docs/budgets.md` has the picture.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stoker.base import json_text
from stoker.base.clock import Clock
from stoker.policy.budgets import Ask, Part
from stoker.queue.budgets import (
    CounterState,
    Gone,
    InFlightPart,
    Leased,
    NotBegun,
    NotOpen,
    Opening,
    Renewed,
    Settlement,
    Short,
    Standing,
)
from stoker.queue.connection import Connection


@dataclass(slots=True)
class _Calls:
    """The calls of one owner that change its slices by an amount, numbered, so that Redis does each once."""

    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    on_their_way: set[int] = field(default_factory=set)
    # Leases without an answer: the next renewal takes back what they may have been granted.
    given_up: set[int] = field(default_factory=set)
    # What is to be given back, until a renewal was answered.
    given_back: dict[int, list[Part]] = field(default_factory=dict)

    def lowest(self) -> int:
        """No call with a lower number will be made again."""
        return min([next(self.numbers), *self.on_their_way, *self.given_up, *self.given_back])


class RedisBudgets:
    """`budgets.BudgetStore` on the Redis at `url`. Connects when first used. All calls of one owner are made through
    one object, and no two renewals of it at once."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        """`clock` replaces Redis' own time, for tests. Raises InvalidInput for a bad URL."""
        self._redis = Connection(url, clock=clock)
        self._calls: dict[str, _Calls] = {}

    # --- a life -----------------------------------------------------------------------------------------------------

    async def establish(self, *, wait_s: float) -> None:
        await self._redis.run("budget_establish", [], _ms(wait_s))

    async def enter(
        self,
        owner: str,
        *,
        ttl_s: float,
        watermark: int = 1,
        holding: Sequence[Part] = (),
        settled: Sequence[int] = (),
    ) -> NotBegun | Gone | None:
        # Numbered as the calls that change slices: if Redis has forgotten this owner, what it called before is void.
        call = next(self._of(owner).numbers)
        word, *rest = _words(
            await self._redis.run(
                "budget_enter", [], owner, _ms(ttl_s), watermark, _json(holding), call, _json(sorted(settled))
            )
        )
        if word == "not begun":
            return NotBegun(tuple(rest))
        if word == "alive":
            return None
        self._calls.pop(owner, None)
        return Gone("gone")

    async def renew(self, owner: str, *, ttl_s: float, watermark: int, give_back: Sequence[Part] = ()) -> Renewed:
        calls = self._of(owner)
        if give_back:
            calls.given_back[next(calls.numbers)] = list(give_back)
        given_up, given_back = sorted(calls.given_up), dict(calls.given_back)
        state, *wanted = _words(
            await self._redis.run(
                "budget_renew",
                [],
                owner,
                _ms(ttl_s),
                watermark,
                _json(given_up),
                calls.lowest(),
                _json(list(given_back.items())),
            )
        )
        if state == "alive":
            calls.given_up.difference_update(given_up)
            for call in given_back:
                del calls.given_back[call]
            return Renewed("alive", tuple(wanted))
        if state == "unknown":  # it will enter again; what is to be given back or taken back is settled by that
            return Renewed("unknown", ())
        self._calls.pop(owner, None)
        return Renewed("gone", ())

    async def leave(self, owner: str) -> bool:
        left = await self._redis.run("budget_leave", [], owner)
        self._calls.pop(owner, None)
        return bool(left)

    # --- money ------------------------------------------------------------------------------------------------------

    async def lease(self, owner: str, asks: Sequence[Ask]) -> Leased | Short | NotBegun | NotOpen | Gone:
        while True:
            answer = await self._lease(owner, asks)
            if _word(answer[0]) != "void":  # else the owner entered anew while this was on its way
                return _leased(answer)

    async def _lease(self, owner: str, asks: Sequence[Ask]) -> Sequence[Any]:
        calls = self._of(owner)
        call = next(calls.numbers)
        calls.on_their_way.add(call)
        try:
            answer: Sequence[Any] = await self._redis.run(
                "budget_lease", [], owner, call, _json([_ask(each) for each in asks])
            )
        except BaseException:  # also when the caller was cancelled: whatever is granted, nobody knows of it
            calls.given_up.add(call)
            raise
        finally:
            calls.on_their_way.discard(call)
        return answer

    async def open(self, counter: str) -> Opening | None:
        found = await self._redis.run("budget_open", [], counter)
        return Opening(*map(int, found)) if found else None

    async def begin(
        self, counter: str, spent: int, *, expires_at: float | None, since: Opening | None = None
    ) -> int | None:
        opening = ("", 0) if since is None else since
        answer = int(await self._redis.run("budget_begin", [], counter, spent, _expiry(expires_at), *opening))
        return None if answer < 0 else answer

    async def settle(self, owner: str, items: Sequence[Settlement]) -> list[bool] | Gone:
        if not items:
            return []
        told = [
            # Lists, since the fast writer takes named tuples for objects.
            (item.number, item.usage or False, [list(each) for each in item.spent], " ".join(item.scopes))
            for item in items
        ]
        word, *done = await self._redis.run("budget_settle", [], owner, _json(told))
        return Gone("unknown") if _word(word) == "unknown" else [bool(each) for each in done]

    async def state(self, counters: Sequence[str]) -> list[CounterState | None]:
        if not counters:
            return []
        found = await self._redis.run("budget_state", [], _json(list(counters)))
        return [_state(*each) if each else None for each in found]

    async def standings(self, scopes: Sequence[str]) -> list[Standing]:
        if not scopes:
            return []
        flat = await self._redis.run("budget_standing", [], " ".join(scopes))
        return [Standing(_word(flat[i]), int(flat[i + 1]), int(flat[i + 2])) for i in range(0, len(flat), 3)]

    # --- the dead ---------------------------------------------------------------------------------------------------

    async def dead_owners(self) -> list[str]:
        return _words(await self._redis.run("budget_dead_owners", []))

    async def take_over(self, owner: str, by: str, *, ttl_s: float, is_proved_dead: bool = False) -> list[Part] | None:
        taken, *flat = await self._redis.run("budget_take_over", [], owner, by, _ms(ttl_s), int(is_proved_dead))
        if not taken:
            return None
        return [Part(_word(flat[i]), int(flat[i + 1])) for i in range(0, len(flat), 2)]

    async def forfeit(
        self, owner: str, by: str, open: Sequence[InFlightPart] | None, *, usage: Sequence[str] = ()
    ) -> bool:
        in_flight = "" if open is None else _json([(each.number, list(each.parts)) for each in open])
        return bool(await self._redis.run("budget_forfeit", [], owner, by, in_flight, _json(list(usage))))

    async def aclose(self) -> None:
        await self._redis.aclose()

    def _of(self, owner: str) -> _Calls:
        return self._calls.setdefault(owner, _Calls())


def _state(spent: int, leased: int, held: int, limit: int) -> CounterState:
    return CounterState(spent, leased, held, None if limit < 0 else limit)


def _leased(answer: Sequence[Any]) -> Leased | Short | NotBegun | NotOpen | Gone:
    word, rest = _word(answer[0]), answer[1:]
    if word == "leased":
        return Leased(tuple(int(each) for each in rest))
    if word == "short":
        return Short(_word(rest[0]), int(rest[1]), bool(rest[2]))
    if word == "not begun":
        return NotBegun(tuple(_words(rest)))
    if word == "not open":
        return NotOpen(None if rest[0] < 0 else rest[0] / 1000)
    return Gone("unknown" if word == "unknown" else "gone")


def _ask(ask: Ask) -> tuple[Any, ...]:
    return (ask.counter, ask.limit, ask.need, ask.want, _expiry(ask.expires_at), ask.is_new)


def _json(value: Sequence[Any]) -> str:
    return json_text.dumps(value).decode()


def _ms(seconds: float) -> int:
    return max(0, math.ceil(seconds * 1000))


def _expiry(at: float | None) -> int:
    return -1 if at is None else _ms(at)


def _word(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _words(values: Iterable[bytes | str]) -> list[str]:
    return [_word(each) for each in values]
