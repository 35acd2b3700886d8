"""Who serves, in memory: the twin of `redis_registry`."""

from collections.abc import Sequence

from stoker.base.clock import Clock, SystemClock
from stoker.base.ids import ModelName
from stoker.queue.replicas import Replica


class MemoryRegistry:
    """`interface.Registry` without a server."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._found: dict[str, tuple[float, Replica]] = {}

    async def announce(self, replica: Replica, *, ttl_s: float) -> None:
        self._found[replica.id] = (self._clock.now() + ttl_s, replica)

    async def withdraw(self, replica_id: str) -> None:
        self._found.pop(replica_id, None)

    async def live(self, model: ModelName | None = None) -> Sequence[Replica]:
        now = self._clock.now()
        self._found = {name: found for name, found in self._found.items() if found[0] > now}
        wanted = [replica for _, replica in self._found.values() if model is None or replica.model == model]
        return sorted(wanted, key=lambda replica: replica.id)

    async def aclose(self) -> None:
        pass  # nothing to give back
