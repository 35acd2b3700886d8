"""The model of budgets says of Redis what is true: random walks through it, each call made on the real scripts too."""

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from budget_model import LARGER, SMALL
from budget_world import World
from redis import Redis as Client
from world_parts import NOW, TTL_S, WAIT_S, Call, Mine, Process, Scenario

from stoker.policy.budgets import Ask
from stoker.queue import keys
from stoker.queue.budgets import Gone, NotBegun, Opening, Renewed
from stoker.queue.connection import Connection
from stoker.queue.redis_budgets import _ask, _leased
from stoker.testing import ManualClock

TTL_MS = int(TTL_S * 1000)
WALKS = 40
WALKED = (*(each for each in SMALL if f"{each.name}, larger" not in {one.name for one in LARGER}), *LARGER)
STEPS = 70


class Scripts:
    """The scripts on a real Redis, called as `RedisBudgets` does, at the time of the model."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.connection = Connection(url, clock=ManualClock(NOW))
        self.raw = Client.from_url(url, protocol=2, decode_responses=True)

    def close(self) -> None:
        self.loop.run_until_complete(self.connection.aclose())
        self.loop.close()
        self.raw.close()

    def run(self, script: str, *args: str | int) -> Any:
        answer = self.loop.run_until_complete(self.connection.run(script, [], *args))
        return [_text(each) for each in answer] if isinstance(answer, list) else answer

    def do(self, call: Call) -> Any:
        owner, args = call.owner, call.args
        if call.kind == "lease":
            return _leased(self.run("budget_lease", owner, call.number, json.dumps([_ask(ask) for ask in args])))
        if call.kind == "renew":
            watermark, given_up, calls_from, given_back = args
            told = (watermark, json.dumps(given_up), calls_from, json.dumps(given_back))
            state, *wanted = self.run("budget_renew", owner, TTL_MS, *told)
            return Renewed(state, tuple(wanted))
        if call.kind == "enter":
            watermark, holding, number, settled = args
            told = (watermark, json.dumps(holding), number, json.dumps(settled))
            word, *rest = self.run("budget_enter", owner, TTL_MS, *told)
            return {"alive": None, "gone": Gone("gone"), "not begun": NotBegun(tuple(rest))}[word]
        if call.kind == "settle":
            items = [(item.number, item.usage or False, item.spent, " ".join(item.scopes)) for item in args]
            word, *done = self.run("budget_settle", owner, json.dumps(items))
            return Gone("unknown") if word == "unknown" else [bool(each) for each in done]
        if call.kind == "leave":
            return bool(self.run("budget_leave", owner))
        if call.kind == "take over":
            by, is_proved_dead = args
            taken, *flat = self.run("budget_take_over", owner, by, TTL_MS, int(is_proved_dead))
            return dict(zip(flat[::2], flat[1::2], strict=True)) if taken else None
        by, open_, usage = args
        assert call.kind == "forfeit"
        in_flight = "" if open_ is None else json.dumps(open_)
        return bool(self.run("budget_forfeit", owner, by, in_flight, json.dumps(usage)))


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


@dataclass(slots=True)
class Doubled(World):
    """Whatever happens to the books of the model happens to Redis."""

    def _do(self, call: Call) -> Any:
        answer = World._do(self, call)
        expected = dict(answer) if call.kind == "take over" and answer is not None else answer
        assert scripts().do(call) == expected, call
        return answer

    def _open(self, name: str) -> Opening | None:
        opening = World._open(self, name)
        # Time stands still, but for what tells a loss: the model's Redis says when it was opened.
        found = scripts().run("budget_open", name)
        assert (opening is None) == (not found), name
        if opening is not None:
            assert opening.late == found[1], name
            scripts().raw.hset(keys.BUDGET_PREFIX + name, "opened_at", opening.opened_at_ms)
        return opening

    def _begin_with(self, name: str, total: int, opening: Opening | None) -> int | None:
        answer = World._begin_with(self, name, total, opening)
        assert scripts().run("budget_begin", name, total, -1, *(opening or ("", 0))) == (
            -1 if answer is None else answer
        )
        return answer

    def _lease_answered(self, mine: Mine, asks: Sequence[Ask], answer: Any, process: Process | None = None) -> None:
        World._lease_answered(self, mine, asks, answer, process)
        scripts().run("budget_establish", int(WAIT_S * 1000))

    def expire(self, owner: str) -> None:
        World.expire(self, owner)
        scripts().raw.zadd(keys.OWNERS, {owner: NOW * 1000})

    def expire_take_over(self, owner: str) -> None:
        World.expire_take_over(self, owner)
        scripts().raw.hset(keys.OWNER_PREFIX + owner, "by_until", int(NOW * 1000))

    def forget_wanted(self) -> None:
        World.forget_wanted(self)
        scripts().raw.delete(keys.WANTED)

    def open_books(self) -> None:
        World.open_books(self)
        scripts().raw.hset(keys.BOOKS, "opens_at", int(NOW * 1000))

    def wipe(self) -> None:
        World.wipe(self)
        scripts().raw.flushall()

    def agrees(self) -> None:
        raw = scripts().raw
        for name, sums in self.redis.books.counters.items():
            found = raw.hmget(keys.BUDGET_PREFIX + name, "spent", "leased")
            assert [int(each or 0) for each in found] == [sums.spent, sums.leased], name
        for name, opened in self.redis.books.opened.items():
            assert int(raw.hget(keys.BUDGET_PREFIX + name, "late") or 0) == opened.late, name
        for name, owner in self.redis.books.owners.items():
            slices = raw.hgetall(f"{keys.OWNER_PREFIX}{name}:slices")
            assert {counter: int(amount) for counter, amount in slices.items()} == dict(owner.slices), name


_scripts: list[Scripts] = []


def scripts() -> Scripts:
    return _scripts[-1]


@pytest.fixture
def real(redis_url: str) -> Iterator[Scripts]:
    _scripts.append(Scripts(redis_url))
    yield _scripts[-1]
    _scripts.pop().close()


def at_the_start(scenario: Scenario) -> Doubled:
    """The same on Redis as `World.of` makes in the model."""
    scripts().raw.flushall()
    scripts().run("budget_establish", 0)
    world = Doubled.of(scenario)
    for name, owner in world.redis.books.owners.items():
        for counter in owner.slices:
            scripts().run("budget_begin", counter, 0, -1, "", 0)
        holding = json.dumps(list(owner.slices.items()))
        scripts().run("budget_enter", name, TTL_MS, 1, holding, 0, "[]")
    for counter, sums in world.redis.books.counters.items():
        scripts().raw.hset(keys.BUDGET_PREFIX + counter, "limit", sums.limit or 0)
    return world


@pytest.mark.redis
@pytest.mark.parametrize(
    "scenario", [each for each in WALKED if not any(job.is_task for job in each.jobs)], ids=lambda each: each.name
)
def test_redis_does_what_the_model_says(scenario: Scenario, real: Scripts) -> None:
    for seed in range(WALKS):
        chance = random.Random(seed)
        world = at_the_start(scenario)
        for _ in range(STEPS):
            moves = list(world.moves())
            if not moves:
                break
            # Whoever leaves does nothing interesting any more.
            staying = [move for move in moves if move.name != "leave"]
            move = chance.choice(staying or moves)
            getattr(world, move.name)(*move.args)
            world.agrees()
