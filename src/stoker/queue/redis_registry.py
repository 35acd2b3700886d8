"""Who serves, kept in Redis: one hash of replicas and one sorted set of when each of them expires."""

from collections.abc import Sequence

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.ids import ModelName
from stoker.queue import keys
from stoker.queue.connection import Connection
from stoker.queue.replicas import Replica

log = logs.get("stoker.queue")

REGISTRY_KEYS = (keys.REPLICAS, keys.REPLICAS_EXPIRY)


class RedisRegistry:
    """`interface.Registry` on the Redis at `url`. Connects when first used."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        """`clock` replaces Redis' own time: for tests. Raises InvalidInput for a bad URL."""
        self._redis = Connection(url, clock=clock)

    async def announce(self, replica: Replica, *, ttl_s: float) -> None:
        await self._redis.run("replica_announce", REGISTRY_KEYS, replica.id, replica.to_json(), int(ttl_s * 1000))

    async def withdraw(self, replica_id: str) -> None:
        async with self._redis.pipeline("withdraw a replica", transaction=True) as pipe:
            pipe.hdel(keys.REPLICAS, replica_id)
            pipe.zrem(keys.REPLICAS_EXPIRY, replica_id)
            await pipe.execute()

    async def live(self, model: ModelName | None = None) -> Sequence[Replica]:
        found: list[Replica] = []
        for text in await self._redis.run("replica_live", REGISTRY_KEYS):
            try:
                found.append(Replica.from_json(text))
            except (TypeError, ValueError) as exc:  # of another version of Stoker, perhaps
                log.warning("replica_unreadable", error=str(exc)[:200])
        wanted = [each for each in found if model is None or each.model == model]
        return sorted(wanted, key=lambda each: each.id)

    async def aclose(self) -> None:
        await self._redis.aclose()
