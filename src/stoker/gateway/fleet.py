"""Which replicas are up, how busy each is, and which one is next.

Reads the registry on a clock of its own, so that no request waits for Redis. The choice itself is `policy.balance`,
and whether a replica is tried at all `policy.breaker`; here are the numbers that they look at, and the probes.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import StokerError, TimedOut, Unavailable, Unreachable
from stoker.engine.client import EngineClient
from stoker.policy.balance import pick, place_of
from stoker.policy.breaker import CLEAN, Breaker
from stoker.queue import Registry, Replica

_log = logs.get(__name__)

REFRESH_S = 0.5
PROBE_EVERY_S = 0.5
# One that is not closed, or failed last, is asked for its health this long after the last news of it,
PROBE_FAILING_S = 1.0
# and one that serves and has nothing to do this long after: requests say more about those that have.
PROBE_IDLE_S = 15.0
PROBES_AT_ONCE = 8

ENGINE_FULL = "engine_full"
"""The code of an engine's refusal that says nothing about its health: it has no room now."""


@dataclass(slots=True)
class Member:
    """One replica as this gateway sees it. `heard_at` is the monotonic time of the last news of its health,
    `changed_at` that at which its breaker was opened or closed, and `why` says what opened it (None: it is closed)."""

    replica: Replica
    client: EngineClient
    heard_at: float
    in_flight: int = 0
    served: int = 0
    turn: int = 0
    """The number of the last request that it got, counted over all."""
    breaker: Breaker = CLEAN
    is_probed: bool = False
    why: str | None = None
    changed_at: float = field(init=False)
    id: str = field(init=False)
    place: int = field(init=False)

    def __post_init__(self) -> None:
        self.changed_at = self.heard_at
        self.id = self.replica.id
        self.place = place_of(self.id)

    @property
    def running(self) -> int:
        return self.in_flight

    @property
    def capacity(self) -> int:
        return self.replica.capacity


@dataclass(slots=True)
class Fleet:
    """`connect` makes the client for a replica; it knows the engine's own key and name of the model. Replicas of other
    models than `models` are passed over: a platform before this one may have left them in Redis."""

    registry: Registry
    models: Collection[str]
    connect: Callable[[Replica], EngineClient]
    clock: Clock
    members: dict[str, Member] = field(default_factory=dict)
    _taking: dict[str, list[Member]] = field(default_factory=dict)
    """By model, those that take requests: not draining."""
    _departed: list[Member] = field(default_factory=list)
    _down_since: dict[str, float] = field(default_factory=dict)
    """By model, when it was first found that none of its replicas is up."""
    _turns: int = 0
    _came_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced, whenever a replica joins or is up again."""

    async def refresh(self) -> None:
        """Take over who is live now. Raises QueueUnavailable, and InvalidInput for a replica whose URL is none, when
        all others are in."""
        live = {replica.id: replica for replica in await self.registry.live() if replica.model in self.models}
        for replica_id, member in list(self.members.items()):
            replica = live.get(replica_id)
            if replica is None or replica.url != member.replica.url:
                self._departed.append(self.members.pop(replica_id))
                _log.info("replica left", replica=replica_id)
            else:
                if replica.started_at != member.replica.started_at:
                    # Another process: what the one before it did says nothing.
                    member.breaker, member.why, member.changed_at = CLEAN, None, self.clock.monotonic()
                member.replica = replica
        await self._close_departed()
        wrong: StokerError | None = None
        for replica_id, replica in live.items():
            if replica_id not in self.members:
                try:
                    self.members[replica_id] = Member(replica, self.connect(replica), self.clock.monotonic())
                except StokerError as error:
                    wrong = error
                else:
                    _log.info("replica joined", replica=replica_id, model=replica.model, url=replica.url)
        self._index()
        if wrong is not None:
            raise wrong

    def models_served(self) -> set[str]:
        """Models that somebody serves, be it one that takes nothing new or fails."""
        return {member.replica.model for member in self.members.values()}

    def _index(self) -> None:
        before, self._taking = self._taking, {}
        for member in self.members.values():
            if not member.replica.draining:
                self._taking.setdefault(member.replica.model, []).append(member)
        for model, members in self._taking.items():
            if any(member not in before.get(model, ()) for member in members):
                self._announce_up(model)

    async def watch(self) -> None:
        """`refresh` for ever. While Redis is away the last known replicas stay."""
        while True:
            try:
                await self.refresh()
            except StokerError as error:
                _log.warning("cannot read the replicas", error=error.in_log)
            await self.clock.sleep(REFRESH_S)

    def models_up(self) -> set[str]:
        return {model for model in self._taking if self.is_up(model)}

    def is_up(self, model: str) -> bool:
        """Whether a replica of the model serves, as far as is known, with room or without."""
        now = self.clock.monotonic()
        return any(member.breaker.is_up(now) for member in self._taking.get(model, ()))

    def has_choice(self, model: str) -> bool:
        """Whether there is more than one replica of the model to choose from."""
        return len(self._taking.get(model, ())) > 1

    def serves(self, model: str) -> bool:
        """Whether a replica of the model answered last. One whose breaker is half-open may or may not."""
        return any(member.breaker.until is None for member in self._taking.get(model, ()))

    async def comes_up(self, model: str, *, within_s: float, was_tried: bool = False) -> bool:
        """Whether a replica of the model is up before it was seen for `within_s` that none is. `was_tried`: those that
        may be up were tried just now, in vain; so only one that serves counts."""
        is_there = self.serves if was_tried else self.is_up
        while not is_there(model):
            now = self.clock.monotonic()
            left_s = self._down_since.setdefault(model, now) + within_s - now
            if left_s <= 0:
                return False
            try:
                async with asyncio.timeout(left_s):
                    await self._came_up.wait()
            except TimeoutError:
                return is_there(model)
        return True

    def choose(self, model: str, *, exclude: Collection[str], key: int | None = None) -> Member | None:
        """The replica for the key, or else the least busy one; None when none is up and has room."""
        now = self.clock.monotonic()
        able = [member for member in self._taking.get(model, ()) if member.breaker.admits(now)]
        return pick(able, exclude=exclude, key=key)

    def busy(self, member: Member) -> "Busy":
        """It counts as busier by one inside the block. An error of the engine that leaves the block counts against it;
        `answered` says what counts for it."""
        return Busy(self, member)

    def began(self, member: Member, now: float) -> None:
        member.breaker = member.breaker.began(now)
        member.in_flight += 1
        self._turns += 1
        member.turn = self._turns

    def ended(self, member: Member, began_at: float, error: BaseException | None) -> None:
        if isinstance(error, Unavailable | TimedOut) and error.code != ENGINE_FULL:
            self._failed(member, error.in_log, nobody_listens=isinstance(error, Unreachable))
        member.in_flight -= 1
        member.served += 1
        member.breaker = member.breaker.gave_up(began_at)

    def answered(self, member: Member, status: int) -> None:
        """Its answer began with that status. 503 is an engine that is full, which says nothing. One that does not take
        the platform's own key (401), or its account (402), is of no use to anybody, as its probes say, too."""
        if (status >= 500 and status != 503) or status in (401, 402):
            self._failed(member, f"it answered with status {status}")
        elif status != 503:
            now = member.heard_at = self.clock.monotonic()
            self._heard(member, member.breaker.succeeded(now))

    def _failed(self, member: Member, why: str, *, nobody_listens: bool = False) -> None:
        now = member.heard_at = self.clock.monotonic()
        self._heard(member, member.breaker.failed(now, nobody_listens=nobody_listens), why)

    def _heard(self, member: Member, breaker: Breaker, why: str = "") -> None:
        before, member.breaker = member.breaker, breaker
        if breaker.until is not None and breaker.until != before.until:
            member.why, member.changed_at = why, self.clock.monotonic()
            for_s = breaker.until - member.changed_at
            _log.warning("replica is down", replica=member.id, why=why, for_s=round(for_s, 3))
        elif breaker.until is None and before.until is not None:
            member.why, member.changed_at = None, self.clock.monotonic()
            _log.info("replica is up again", replica=member.id)
            self._announce_up(member.replica.model)

    def _announce_up(self, model: str) -> None:
        self._down_since.pop(model, None)
        self._came_up.set()
        self._came_up = asyncio.Event()

    # --- probes -----------------------------------------------------------------------------------------------------

    async def probe_forever(self) -> None:
        """Ask replicas for their health: those that failed often, those that have nothing to do now and then. Some at
        once, each at most once; none is left when this is cancelled."""
        probing: set[asyncio.Task[None]] = set()
        try:
            while True:
                for member in self._due()[: PROBES_AT_ONCE - len(probing)]:
                    member.is_probed = True
                    task = asyncio.create_task(self._probe(member))
                    probing.add(task)
                    task.add_done_callback(probing.discard)
                await self.clock.sleep(PROBE_EVERY_S)
        finally:
            for task in probing:
                task.cancel()
            await asyncio.gather(*probing, return_exceptions=True)

    def _due(self) -> list[Member]:
        """Those to be probed now, the ones of which there is no news for longest first."""
        now = self.clock.monotonic()
        due = [member for member in self.members.values() if not member.is_probed and _is_due(member, now)]
        return sorted(due, key=lambda member: member.heard_at)

    async def _probe(self, member: Member) -> None:
        try:
            is_healthy = await member.client.is_healthy()
        finally:
            member.is_probed = False
        now = member.heard_at = self.clock.monotonic()
        self._heard(member, member.breaker.probed(now, is_healthy=is_healthy), "it says that it is not healthy")

    def snapshot(self) -> list[Mapping[str, object]]:
        now, wall = self.clock.monotonic(), self.clock.now()
        return [
            {
                "id": m.replica.id,
                "model": m.replica.model,
                "url": m.replica.url,
                "state": "draining" if m.replica.draining else "up" if m.breaker.is_up(now) else "down",
                "breaker": m.breaker.state(now),
                "breaker_since": round(wall - (now - _since(m, now)), 3),
                "breaker_why": m.why,
                "running": m.replica.running,
                "capacity": m.replica.capacity,
                "in_flight": m.in_flight,
                "served": m.served,
            }
            for m in sorted(self.members.values(), key=lambda m: m.replica.id)
        ]

    def breakers(self) -> Counter[tuple[str, str]]:
        """How many replicas of each model have a breaker in each state."""
        now = self.clock.monotonic()
        return Counter((m.replica.model, m.breaker.state(now)) for m in self.members.values())

    def in_flight(self) -> Counter[str]:
        """How many requests this gateway has on replicas of each model, those that have left the registry included."""
        found: Counter[str] = Counter()
        for member in (*self.members.values(), *self._departed):
            found[member.replica.model] += member.in_flight
        return found

    async def _close_departed(self) -> None:
        """The clients of replicas that left, once the answers that they were giving are over."""
        for member in [one for one in self._departed if not one.in_flight and not one.is_probed]:
            self._departed.remove(member)
            await member.client.close()

    async def aclose(self) -> None:
        for member in (*self.members.values(), *self._departed):
            await member.client.close()


class Busy:
    """One request on a replica, as a block. A class, since a generator's block costs three times as much."""

    __slots__ = ("_began_at", "_fleet", "_member")

    def __init__(self, fleet: Fleet, member: Member) -> None:
        self._fleet = fleet
        self._member = member

    def __enter__(self) -> None:
        self._began_at = self._fleet.clock.monotonic()
        self._fleet.began(self._member, self._began_at)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._fleet.ended(self._member, self._began_at, error)


def _since(member: Member, now: float) -> float:
    """When its breaker came into the state that it is in; half-open it is by time alone."""
    until = member.breaker.until
    return until if until is not None and now >= until else member.changed_at


def _is_due(member: Member, now: float) -> bool:
    silence_s = now - member.heard_at
    if member.breaker is not CLEAN:
        # One that is busy but never failed for good is judged by its requests: its health may wait behind them.
        is_idle = member.breaker.until is not None or not member.in_flight
        return is_idle and silence_s >= PROBE_FAILING_S
    return not member.in_flight and silence_s >= PROBE_IDLE_S
