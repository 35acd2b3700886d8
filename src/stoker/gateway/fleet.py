"""Which replicas are up, how busy each is, and which one is next.

Reads the registry on a clock of its own, so that no request waits for Redis. The choice itself is
`policy.balance.pick`; here are the numbers that it looks at.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import StokerError
from stoker.engine.client import EngineClient
from stoker.policy.balance import ReplicaLoad, pick
from stoker.queue import Registry, Replica

_log = logs.get(__name__)

REFRESH_S = 0.5
# A replica that could not be reached is left alone for this long; its worker stops announcing it if it is really gone.
DOWN_S = 2.0


@dataclass(slots=True)
class Member:
    """One replica as this gateway sees it."""

    replica: Replica
    client: EngineClient
    in_flight: int = 0
    down_until: float | None = None
    served: int = 0

    def load(self) -> ReplicaLoad:
        return ReplicaLoad(
            id=self.replica.id, running=self.in_flight, capacity=self.replica.capacity, down_until=self.down_until
        )


@dataclass(slots=True)
class Fleet:
    """`connect` makes the client for a replica; it knows the engine's own key and name of the model. Replicas of other
    models than `models` are passed over: a platform before this one may have left them in Redis."""

    registry: Registry
    models: Collection[str]
    connect: Callable[[Replica], EngineClient]
    clock: Clock
    members: dict[str, Member] = field(default_factory=dict)
    _departed: list[Member] = field(default_factory=list)

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
                member.replica = replica
        await self._close_departed()
        wrong: StokerError | None = None
        for replica_id, replica in live.items():
            if replica_id not in self.members:
                try:
                    self.members[replica_id] = Member(replica, self.connect(replica))
                except StokerError as error:
                    wrong = error
                else:
                    _log.info("replica joined", replica=replica_id, model=replica.model, url=replica.url)
        if wrong is not None:
            raise wrong

    async def watch(self) -> None:
        """`refresh` for ever. While Redis is away the last known replicas stay."""
        while True:
            try:
                await self.refresh()
            except StokerError as error:
                _log.warning("cannot read the replicas", error=error.message)
            await self.clock.sleep(REFRESH_S)

    def models_up(self) -> set[str]:
        now = self.clock.monotonic()
        return {m.replica.model for m in self.members.values() if m.load().is_up(now) and not m.replica.draining}

    def choose(self, model: str, *, exclude: Collection[str], prefer: str | None = None) -> Member | None:
        """The preferred replica or else the least busy one that has room; None when there is none."""
        able = {m.replica.id: m for m in self.members.values() if m.replica.model == model and not m.replica.draining}
        # Of equally busy ones `pick` takes the first: the one that has served least.
        in_turn = sorted(able.values(), key=lambda m: m.served)
        chosen = pick([m.load() for m in in_turn], now=self.clock.monotonic(), exclude=exclude, prefer=prefer)
        return None if chosen is None else able[chosen.id]

    @contextmanager
    def busy(self, member: Member) -> Iterator[None]:
        """It counts as busier by one inside the block."""
        member.in_flight += 1
        try:
            yield
        finally:
            member.in_flight -= 1
            member.served += 1

    def mark_down(self, member: Member, why: str) -> None:
        """It could not be reached: nothing is sent there for DOWN_S."""
        member.down_until = self.clock.monotonic() + DOWN_S
        _log.warning("replica is down", replica=member.replica.id, why=why, for_s=DOWN_S)

    def snapshot(self) -> list[Mapping[str, object]]:
        now = self.clock.monotonic()
        return [
            {
                "id": m.replica.id,
                "model": m.replica.model,
                "url": m.replica.url,
                "state": "draining" if m.replica.draining else "up" if m.load().is_up(now) else "down",
                "running": m.replica.running,
                "capacity": m.replica.capacity,
                "in_flight": m.in_flight,
                "served": m.served,
            }
            for m in sorted(self.members.values(), key=lambda m: m.replica.id)
        ]

    async def _close_departed(self) -> None:
        """The clients of replicas that left, once the answers that they were giving are over."""
        for member in [member for member in self._departed if not member.in_flight]:
            self._departed.remove(member)
            await member.client.close()

    async def aclose(self) -> None:
        for member in (*self.members.values(), *self._departed):
            await member.client.close()
