"""The fleet by itself: replicas that fail and come back, probes, and waiting for one, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from stoker.base.errors import EngineUnavailable, TimedOut, Unreachable
from stoker.base.ids import ModelName
from stoker.engine.client import EngineClient
from stoker.gateway.fleet import ENGINE_FULL, PROBE_IDLE_S, PROBES_AT_ONCE, Fleet, Member
from stoker.policy.balance import place_of
from stoker.policy.breaker import FIRST_S
from stoker.queue import MemoryRegistry, Replica
from stoker.testing import ManualClock


class Health:
    """Stands for the client of an engine: what /health says, and when it was asked."""

    def __init__(self, replica: Replica, clock: ManualClock) -> None:
        self.name = replica.id
        self.is_up = True
        self.asked_at: list[float] = []
        self.asking = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.is_closed = False
        self._clock, self._began = clock, clock.monotonic()

    async def is_healthy(self) -> bool:
        assert not self.is_closed
        self.asked_at.append(round(self._clock.monotonic() - self._began, 3))
        self.asking += 1
        try:
            await self.go_on.wait()
        finally:
            self.asking -= 1
        return self.is_up

    async def close(self) -> None:
        self.is_closed = True


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.registry = MemoryRegistry()
        self.engines: dict[str, Health] = {}
        self.fleet = Fleet(self.registry, frozenset({"general", "code"}), self._connect, self.clock)

    def _connect(self, replica: Replica) -> EngineClient:
        self.engines[replica.id] = Health(replica, self.clock)
        return cast(EngineClient, self.engines[replica.id])

    async def add(self, *names: str, model: str = "general", started_at: float = 1.0, draining: bool = False) -> None:
        for name in names:
            replica = Replica(
                id=name,
                model=ModelName(model),
                url="http://127.0.0.1:1",
                capacity=4,
                started_at=started_at,
                draining=draining,
            )
            await self.registry.announce(replica, ttl_s=1e6)
        await self.fleet.refresh()

    def member(self, name: str = "a") -> Member:
        return self.fleet.members[name]

    def fails(self, error: Exception, name: str = "a") -> None:
        with pytest.raises(type(error)), self.fleet.busy(self.member(name)):
            raise error

    def breaker(self, name: str = "a") -> str:
        return next(str(one["breaker"]) for one in self.fleet.snapshot() if one["id"] == name)

    def chosen(self, key: str | None = None) -> str | None:
        member = self.fleet.choose("general", exclude=(), key=None if key is None else place_of(key))
        return None if member is None else member.id


@pytest.fixture
async def world() -> World:
    return World()


@pytest.fixture
async def probing(world: World) -> AsyncIterator[World]:
    task = asyncio.create_task(world.fleet.probe_forever())
    yield world
    task.cancel()
    await asyncio.wait({task})
    assert all(not engine.asking for engine in world.engines.values())
    assert not any(member.is_probed for member in world.fleet.members.values())


async def test_since_when_and_why_a_breaker_is_as_it_is(world: World) -> None:
    start = world.clock.now()
    await world.add("a")

    def told() -> tuple[object, object, object]:
        [one] = world.fleet.snapshot()
        return one["breaker"], one["breaker_since"], one["breaker_why"]

    assert told() == ("closed", start, None)
    await world.clock.advance(10)
    for _ in range(3):
        assert told() == ("closed", start, None)
        world.fails(EngineUnavailable("it broke off"))
    assert told() == ("open", start + 10, "it broke off")
    await world.clock.advance(FIRST_S + 1)
    assert told() == ("half-open", start + 10 + FIRST_S, "it broke off")
    world.fails(TimedOut("it fell silent"))
    assert told() == ("open", start + 11 + FIRST_S, "it fell silent")
    await world.clock.advance(2 * FIRST_S)
    with world.fleet.busy(world.member()):
        world.fleet.answered(world.member(), 200)
    assert told() == ("closed", start + 11 + 3 * FIRST_S, None)
    world.fails(Unreachable("nobody"))
    await world.clock.advance(1)
    await world.add("a", started_at=2.0)  # another process
    assert told() == ("closed", start + 12 + 3 * FIRST_S, None)


# --- what requests tell -----------------------------------------------------------------------------------------------


async def test_where_nobody_listens_nothing_is_sent_until_its_time_has_come(world: World) -> None:
    await world.add("a", "b")
    world.fails(Unreachable("nobody"))
    assert (world.breaker("a"), world.breaker("b"), world.fleet.models_up()) == ("open", "closed", {"general"})
    assert {world.chosen() for _ in range(4)} == {world.chosen(str(key)) for key in range(8)} == {"b"}
    await world.clock.advance(FIRST_S)
    assert world.breaker("a") == "half-open"
    assert world.chosen() == "b"  # it had no turn yet, the other one a request that failed
    world.fails(Unreachable("nobody"), "b")
    assert world.chosen() == "a"


async def test_what_failed_thrice_is_left_alone_and_one_request_tries_it_again(world: World) -> None:
    await world.add("a")
    for error in (EngineUnavailable("broke off"), TimedOut("silent")):
        world.fails(error)
        assert world.chosen() == "a"
    with world.fleet.busy(world.member()):
        world.fleet.answered(world.member(), 500)
    assert (world.breaker(), world.chosen(), world.fleet.models_up()) == ("open", None, set())

    await world.clock.advance(FIRST_S)
    assert world.chosen() == "a"
    with world.fleet.busy(world.member()):
        assert world.chosen() is None  # the trial is under way
    assert world.chosen() == "a"  # it ended without a verdict: its client went away
    with world.fleet.busy(world.member()):
        world.fleet.answered(world.member(), 200)
        assert (world.breaker(), world.chosen()) == ("closed", "a")


async def test_an_engine_that_is_full_or_refuses_a_request_is_not_broken(world: World) -> None:
    await world.add("a")
    for _ in range(5):
        world.fails(EngineUnavailable("full", code=ENGINE_FULL))
        world.fleet.answered(world.member(), 503)
        world.fleet.answered(world.member(), 422)
    assert world.breaker() == "closed"


async def test_another_process_in_its_place_begins_with_a_clean_slate(world: World) -> None:
    await world.add("a")
    world.fails(Unreachable("nobody"))
    await world.add("a", started_at=2.0)
    assert (world.breaker(), world.chosen()) == ("closed", "a")


async def test_one_that_drains_gets_nothing_and_does_not_count_as_up(world: World) -> None:
    await world.add("a")
    assert world.chosen() == "a"
    await world.add("a", draining=True)
    assert (world.chosen(), world.fleet.models_up()) == (None, set())


async def test_a_replica_of_another_model_is_never_chosen(world: World) -> None:
    await world.add("c", model="code")
    assert world.chosen() is None


async def test_breakers_are_counted_by_model_and_state(world: World) -> None:
    await world.add("a", "b")
    await world.add("c", model="code")
    world.fails(Unreachable("nobody"))
    assert world.fleet.breakers() == {("general", "open"): 1, ("general", "closed"): 1, ("code", "closed"): 1}


# --- probes -----------------------------------------------------------------------------------------------------------


async def test_one_that_nobody_needs_is_asked_now_and_then(probing: World) -> None:
    await probing.add("a")
    await probing.clock.advance(3 * PROBE_IDLE_S)
    assert probing.engines["a"].asked_at == [15.0, 30.0, 45.0]


async def test_one_that_answers_or_is_busy_is_not_asked(probing: World) -> None:
    await probing.add("a", "b")
    with probing.fleet.busy(probing.member("b")):
        for _ in range(6):
            await probing.clock.advance(10.0)
            probing.fleet.answered(probing.member("a"), 200)
        assert (probing.engines["a"].asked_at, probing.engines["b"].asked_at) == ([], [])


async def test_an_idle_one_that_is_not_healthy_is_found_out_before_a_request_is(probing: World) -> None:
    await probing.add("a", "b")
    probing.engines["a"].is_up = False
    await probing.clock.advance(PROBE_IDLE_S + 2.5)
    assert probing.engines["a"].asked_at == [15.0, 16.0, 17.0]
    assert (probing.breaker("a"), probing.chosen()) == ("open", "b")


async def test_one_that_was_gone_is_back_as_soon_as_it_says_so(probing: World) -> None:
    await probing.add("a")
    probing.engines["a"].is_up = False
    probing.fails(Unreachable("nobody"))
    await probing.clock.advance(1.0)
    assert probing.breaker() == "open"
    probing.engines["a"].is_up = True
    await probing.clock.advance(1.0)
    assert (probing.breaker(), probing.chosen()) == ("closed", "a")


async def test_while_it_is_gone_probes_meet_that_and_not_requests(probing: World) -> None:
    await probing.add("a")
    probing.engines["a"].is_up = False
    probing.fails(Unreachable("nobody"))
    for _ in range(120):
        await probing.clock.advance(0.5)
        assert probing.breaker() == "open"  # at each end of its time a probe finds it still gone
    assert probing.engines["a"].asked_at[:3] == [1.0, 2.0, 3.0]


async def test_only_so_many_are_asked_at_once_and_none_twice(probing: World) -> None:
    names = [f"r{number}" for number in range(2 * PROBES_AT_ONCE)]
    await probing.add(*names)
    for engine in probing.engines.values():
        engine.go_on.clear()
    await probing.clock.advance(PROBE_IDLE_S + 5)
    assert sum(engine.asking for engine in probing.engines.values()) == PROBES_AT_ONCE
    for engine in probing.engines.values():
        engine.go_on.set()
    await probing.clock.advance(1.0)
    assert [len(engine.asked_at) for engine in probing.engines.values()] == [1] * len(names)


async def test_one_that_leaves_while_it_is_asked_is_closed_afterwards(probing: World) -> None:
    await probing.add("a")
    engine = probing.engines["a"]
    engine.go_on.clear()
    await probing.clock.advance(PROBE_IDLE_S)
    assert engine.asking == 1
    await probing.registry.withdraw("a")
    await probing.fleet.refresh()
    assert not engine.is_closed
    engine.go_on.set()
    await probing.clock.advance(0.5)
    await probing.fleet.refresh()
    assert engine.is_closed


# --- waiting for one --------------------------------------------------------------------------------------------------


async def test_waiting_ends_when_a_replica_joins_or_is_up_again(world: World) -> None:
    waiting = asyncio.create_task(world.fleet.comes_up("general", within_s=1000.0))
    await asyncio.sleep(0)
    await world.add("c", model="code")
    await asyncio.sleep(0)
    assert not waiting.done()
    await world.add("a")
    assert await waiting is True

    world.fails(Unreachable("nobody"))
    waiting = asyncio.create_task(world.fleet.comes_up("general", within_s=1000.0))
    await asyncio.sleep(0)
    await world.clock.advance(FIRST_S)
    world.fleet.answered(world.member(), 200)
    assert await waiting is True


async def test_who_comes_when_none_has_been_up_for_long_does_not_wait(world: World) -> None:
    assert await world.fleet.comes_up("general", within_s=0.001) is False
    await world.clock.advance(1.0)
    assert await world.fleet.comes_up("general", within_s=1.0) is False
    await world.add("a")
    assert await world.fleet.comes_up("general", within_s=0.0) is True
