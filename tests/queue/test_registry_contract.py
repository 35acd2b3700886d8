"""What `interface.Registry` promises, held against both implementations."""

from typing import Any

from stoker.base.ids import ModelName
from stoker.queue import Registry, Replica
from stoker.testing import ManualClock


def a_replica(replica_id: str, **changes: Any) -> Replica:
    given = {"model": "general", "url": "http://127.0.0.1:9001", "capacity": 8, "started_at": 1.5}
    return Replica(id=replica_id, **{**given, **changes})


async def test_who_announces_itself_is_found_by_model_in_order_of_ids(registry: Registry) -> None:
    general, other, code = a_replica("r2"), a_replica("r1", running=3), a_replica("r3", model="code")
    for replica in (general, other, code):
        await registry.announce(replica, ttl_s=10)
    assert await registry.live() == [other, general, code]
    assert await registry.live(ModelName("general")) == [other, general]
    assert await registry.live(ModelName("vision")) == []


async def test_who_stops_announcing_itself_is_gone_when_its_time_is_over(
    registry: Registry, clock: ManualClock
) -> None:
    await registry.announce(a_replica("silent"), ttl_s=10)
    await registry.announce(a_replica("alive"), ttl_s=10)
    await clock.advance(9)
    assert len(await registry.live()) == 2
    await registry.announce(a_replica("alive"), ttl_s=10)
    await clock.advance(1)
    assert [replica.id for replica in await registry.live()] == ["alive"]


async def test_the_newest_announcement_counts(registry: Registry) -> None:
    await registry.announce(a_replica("r1"), ttl_s=10)
    await registry.announce(a_replica("r1", running=5, draining=True), ttl_s=10)
    [found] = await registry.live()
    assert (found.running, found.draining) == (5, True)


async def test_who_withdraws_is_gone_at_once(registry: Registry) -> None:
    await registry.announce(a_replica("r1"), ttl_s=10)
    await registry.withdraw("r1")
    await registry.withdraw("never-there")
    assert await registry.live() == []
