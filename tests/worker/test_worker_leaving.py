"""A worker whose machine is taken away: its clock is virtual, and the metadata that it reads is told what to say."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs
from worker_parts import GENERAL, Bench, state_of, until

from stoker.base.errors import QueueUnavailable
from stoker.base.ids import TaskId
from stoker.instance.notices import watcher
from stoker.queue import Claim, MemoryQueue, MemoryRegistry, Replica, State, Task
from stoker.spec import Spot
from stoker.testing import ManualClock
from stoker.testing.engine import EchoEngine, Seen
from stoker.testing.imds import FakeImds
from stoker.worker.loop import Worker

POLL_S = 5.0


class WrittenQueue(MemoryQueue):
    """Writes down who claimed what, and what was handed back."""

    def __init__(self, diary: list[str]) -> None:
        super().__init__()
        self._diary = diary

    async def claim(self, *of: Any, **options: Any) -> Any:
        claims = await super().claim(*of, **options)
        self._diary += [f"claim by {of[1]}" for _ in claims]
        return claims

    async def release(self, claim: Claim, **options: Any) -> Any:
        self._diary.append("release")
        return await super().release(claim, **options)


class WrittenRegistry(MemoryRegistry):
    """`away`: as while Redis does not answer. `slow_s`: how long it takes for a withdrawal."""

    def __init__(self, diary: list[str], clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self._diary = diary
        self.away = False
        self.slow_s = 0.0

    async def announce(self, replica: Replica, *, ttl_s: float) -> None:
        if replica.id not in self._found:
            self._diary.append("announce")
        await super().announce(replica, ttl_s=ttl_s)

    async def withdraw(self, replica_id: str) -> None:
        self._diary.append("withdraw")
        await self._clock.sleep(self.slow_s)
        if self.away:
            raise QueueUnavailable("cannot withdraw: Redis said nothing")
        await super().withdraw(replica_id)


class SpotBench(Bench):
    """A worker on a spot instance. Time is virtual for it, and real for the queue, so that leases last. It has room for
    one task, so that no claim is under way while that runs."""

    clock: Any  # a ManualClock

    def __init__(self, engine: EchoEngine, imds: FakeImds, clock: ManualClock) -> None:
        self.diary: list[str] = []
        super().__init__(engine, WrittenQueue(self.diary))
        self.imds = imds
        self.clock = clock
        self.registry = self.written = WrittenRegistry(self.diary, clock)

    def worker(self, name: str = "w1", **changes: Any) -> Worker:
        spot = Spot(poll_seconds=POLL_S, **changes.pop("spot", {}))
        looking = watcher(spot, None, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.url}, self.clock)
        assert looking is not None
        self._looking = looking
        return super().worker(name, watcher=looking, **{"capacity": 1, **changes})

    async def close(self) -> None:
        self.stop.set()
        if self._working is not None:
            await self.pass_until(self._working.done)
        await super().close()
        self._looking.close()

    async def end_of(self, task_id: TaskId) -> Task:
        ending = asyncio.create_task(super().end_of(task_id))
        await self.pass_until(ending.done)
        return ending.result()

    async def pass_to(self, at: float) -> None:
        """Let time pass to a moment, with a little of real time for what is asked of others on the way."""
        while self.clock.now() < at:
            await self.clock.advance(min(0.25, at - self.clock.now()))
            await asyncio.sleep(0.001)

    async def pass_until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                await self.pass_to(self.clock.now() + 0.25)

    async def pass_looks(self, count: int) -> None:
        """Until so many looks at the metadata are over."""
        seen = self.imds.asked("spot/instance-action")
        await self.pass_until(lambda: self.imds.asked("spot/instance-action") > seen + count)

    @property
    def is_announced(self) -> bool:
        return "w1" in self.registry._found

    async def held_task(self) -> tuple[TaskId, asyncio.Event, Seen]:
        """A task that stands in the engine until the event is set."""
        hold = self.engine.hold_at(1)
        task_id = await self.submit()
        reached = asyncio.create_task(hold.reached())
        await self.pass_until(reached.done)
        return task_id, hold.open, reached.result()

    async def other_worker(self) -> None:
        """Somebody on another machine takes one task and does it."""
        claim = await self.claim("w2")
        await self.runner(replica="w2").run(claim, give_back=asyncio.Event())


def written(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).isoformat()


@pytest.fixture
def imds(clock: ManualClock) -> Iterator[FakeImds]:
    with FakeImds(clock=clock) as made:
        yield made


@pytest.fixture
async def spot(engine: EchoEngine, imds: FakeImds, clock: ManualClock) -> AsyncIterator[SpotBench]:
    made = SpotBench(engine, imds, clock)
    yield made
    await made.close()


async def test_on_a_notice_it_withdraws_first_takes_nothing_more_and_lets_run_what_can_end_in_time(
    spot: SpotBench, imds: FakeImds, clock: ManualClock
) -> None:
    working = spot.start()
    task_id, go_on, _ = await spot.held_task()
    given_at = clock.now()
    imds.notice("terminate", in_s=120)
    looks = imds.asked("spot/instance-action")
    with capture_logs() as events:
        await spot.pass_until(lambda: not spot.is_announced)
    assert imds.asked("spot/instance-action") - looks <= 2  # the first that could know of it
    late = await spot.submit()
    await spot.pass_to(given_at + 100)
    assert spot.diary == ["announce", "claim by w1", "withdraw"]
    assert [event for event in events if event["event"] == "spot notice"] == [
        {
            "event": "spot notice",
            "action": "terminate",
            "at": written(given_at + 120),
            "finish_by": written(given_at + 110),
            "running": 1,
            "source": "stoker.worker.loop",
            "log_level": "warning",
        }
    ]
    go_on.set()
    assert (await spot.end_of(task_id)).attempts == ()
    await spot.pass_to(given_at + 200)
    assert state_of(spot, task_id) is State.DONE
    assert state_of(spot, late) is State.QUEUED
    assert spot.diary == ["announce", "claim by w1", "withdraw"]  # nothing handed back, nothing claimed
    assert not working.done()  # idle, for as long as the machine lives
    await spot.other_worker()
    assert state_of(spot, late) is State.DONE


async def test_what_does_not_end_in_time_is_handed_back_before_the_machine_goes(
    spot: SpotBench, imds: FakeImds, clock: ManualClock
) -> None:
    spot.start(spot={"reserve_seconds": 10.0})
    task_id, _, request = await spot.held_task()
    ends_at = float(int(clock.now()) + 120)  # AWS counts whole seconds
    imds.notice("terminate", in_s=ends_at - clock.now())
    await spot.pass_until(lambda: not spot.is_announced)
    await spot.pass_to(ends_at - 10.1)
    assert state_of(spot, task_id) is State.RUNNING
    assert request.state == "running"
    with capture_logs() as events:
        await spot.pass_to(ends_at - 9.9)
        assert await request.end() == "cancelled"
        await spot.pass_until(lambda: [event for event in events if event["event"] == "handed back"])
    [told] = [event for event in events if event["event"] == "handed back"]
    assert told["count"] == 1
    assert spot.diary == ["announce", "claim by w1", "withdraw", "release"]
    assert state_of(spot, task_id) is State.QUEUED
    await spot.other_worker()
    task = await spot.queue.get(task_id)
    assert (task.state, task.attempts, task.worker) == (State.DONE, (), "w2")
    [record] = await spot.records()
    assert record.status == "done"


@pytest.mark.parametrize(
    "said",
    [
        '{"action": "hibernate", "time": "2023-11-14T23:00:00Z"}',
        '{"action": "terminate", "time": "2023-11-14T22:00:00Z"}',
        '{"action": "stop", "time": "soon"}',
    ],
)
async def test_what_leaves_no_time_hands_back_at_once_after_the_withdrawal(
    spot: SpotBench, imds: FakeImds, said: str
) -> None:
    spot.start()
    task_id, _, request = await spot.held_task()
    imds.say("spot/instance-action", said)
    await spot.pass_looks(1)
    assert await request.end() == "cancelled"
    await spot.pass_until(lambda: state_of(spot, task_id) is State.QUEUED)
    assert spot.diary == ["announce", "claim by w1", "withdraw", "release"]


async def test_a_notice_that_is_withdrawn_puts_it_back_into_service(
    spot: SpotBench, imds: FakeImds, clock: ManualClock
) -> None:
    spot.start()
    first, _, request = await spot.held_task()
    imds.notice("hibernate")
    await spot.pass_looks(1)
    assert await request.end() == "cancelled"
    await spot.pass_until(lambda: state_of(spot, first) is State.QUEUED)

    imds.fail(404, path="/latest/meta-data/spot", times=1)  # a glitch
    await spot.pass_looks(3)
    assert spot.diary == ["announce", "claim by w1", "withdraw", "release"]

    imds.withdraw()
    with capture_logs() as events:
        await spot.pass_until(lambda: state_of(spot, first) is State.DONE)
    assert [event["event"] for event in events if event["event"] == "notice withdrawn"] == ["notice withdrawn"]
    await spot.pass_until(lambda: spot.is_announced)
    second, go_on, _ = await spot.held_task()
    await spot.pass_to(clock.now() + 200)
    assert state_of(spot, second) is State.RUNNING  # nothing of the old notice is left
    go_on.set()
    assert (await spot.end_of(second)).worker == "w1"
    assert spot.diary.count("release") == 1


async def test_a_notice_that_is_withdrawn_in_time_hands_nothing_back(
    spot: SpotBench, imds: FakeImds, clock: ManualClock
) -> None:
    spot.start()
    task_id, go_on, _ = await spot.held_task()
    given_at = clock.now()
    imds.notice("terminate", in_s=120)
    await spot.pass_until(lambda: not spot.is_announced)
    imds.withdraw()
    await spot.pass_until(lambda: spot.is_announced)
    await spot.pass_to(given_at + 200)
    go_on.set()
    assert (await spot.end_of(task_id)).worker == "w1"
    assert "release" not in spot.diary


async def test_a_notice_that_changes_is_followed(spot: SpotBench, imds: FakeImds, clock: ManualClock) -> None:
    spot.start()
    task_id, _, request = await spot.held_task()
    imds.notice("terminate", in_s=120)
    await spot.pass_until(lambda: not spot.is_announced)
    assert state_of(spot, task_id) is State.RUNNING
    imds.notice("hibernate", in_s=0)
    await spot.pass_looks(1)
    assert await request.end() == "cancelled"
    assert spot.diary == ["announce", "claim by w1", "withdraw", "release"]


async def test_one_that_starts_under_a_notice_is_never_announced_and_takes_nothing(
    spot: SpotBench, imds: FakeImds
) -> None:
    """As kubelet starts it again on a node that goes. It is up all the same: nobody has to kill it for that."""
    imds.notice("terminate", in_s=60)
    task_id = await spot.submit()
    spot.start()
    await spot.pass_until(spot.ready.is_set)
    await spot.pass_looks(20)
    assert set(spot.diary) == {"withdraw"}
    assert state_of(spot, task_id) is State.QUEUED
    assert spot.engine.requests == []
    imds.withdraw()
    await spot.pass_until(lambda: state_of(spot, task_id) is State.DONE)


@pytest.mark.parametrize("status", [500, 403, 429])
async def test_metadata_that_fails_stops_no_work(spot: SpotBench, imds: FakeImds, status: int) -> None:
    spot.start()
    task_id, go_on, _ = await spot.held_task()
    imds.fail(status)
    seen = len(imds.requests)
    await spot.pass_until(lambda: len(imds.requests) >= seen + 10)
    assert spot.is_announced
    assert spot.diary == ["announce", "claim by w1"]
    go_on.set()
    assert (await spot.end_of(task_id)).state is State.DONE
    assert (await spot.end_of(await spot.submit())).state is State.DONE


async def test_a_claim_that_is_under_way_when_the_notice_comes_is_handed_back_untouched(
    engine: EchoEngine, imds: FakeImds, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis has given the task away, and says so only after the withdrawal."""
    go_on = asyncio.Event()

    class Slow(WrittenQueue):
        async def claim(self, *of: Any, **options: Any) -> Any:
            claims = await super().claim(*of, **options)
            if claims and of[1] == "w1":
                await go_on.wait()
            return claims

    spot = SpotBench(engine, imds, clock)
    spot.queue = Slow(spot.diary)
    task_id = await spot.submit()
    spot.start()
    await spot.pass_until(lambda: "claim by w1" in spot.diary)
    imds.notice("terminate", in_s=120)
    await spot.pass_until(lambda: "withdraw" in spot.diary)
    go_on.set()
    await spot.pass_until(lambda: state_of(spot, task_id) is State.QUEUED)
    assert engine.requests == []
    assert spot.diary[-2:] == ["withdraw", "release"]
    await spot.close()


async def test_a_notice_while_redis_is_away_hands_back_all_the_same_and_is_never_announced_again(
    spot: SpotBench, imds: FakeImds
) -> None:
    spot.start()
    task_id, _, request = await spot.held_task()
    spot.written.away = True
    imds.notice("hibernate")
    await spot.pass_looks(1)
    assert await request.end() == "cancelled"
    await spot.pass_until(lambda: state_of(spot, task_id) is State.QUEUED)
    await spot.pass_to(spot.clock.now() + 5)
    assert await spot.registry.live(GENERAL) == []  # it ran out
    assert "announce" not in spot.diary[2:]


# --- together with a stop ---------------------------------------------------------------------------------------------


async def test_a_stop_under_a_notice_does_not_wait_longer_than_the_machine_lives(
    spot: SpotBench, imds: FakeImds, clock: ManualClock
) -> None:
    working = spot.start(grace_s=3600.0)
    task_id, _, request = await spot.held_task()
    ends_at = float(int(clock.now()) + 120)
    imds.notice("terminate", in_s=ends_at - clock.now())
    await spot.pass_until(lambda: not spot.is_announced)
    spot.stop.set()
    await spot.pass_to(ends_at - 10.1)
    assert not working.done()
    await spot.pass_to(ends_at - 9.9)
    assert await request.end() == "cancelled"
    await spot.pass_until(working.done)
    assert state_of(spot, task_id) is State.QUEUED


async def test_a_notice_during_a_stop_shortens_it(spot: SpotBench, imds: FakeImds) -> None:
    working = spot.start(grace_s=3600.0)
    task_id, _, request = await spot.held_task()
    spot.stop.set()
    await until(lambda: spot.is_stopping)
    imds.notice("hibernate")
    await spot.pass_until(working.done)
    assert request.state == "cancelled"
    assert state_of(spot, task_id) is State.QUEUED


async def test_a_stop_under_a_notice_keeps_to_a_grace_that_is_shorter(
    spot: SpotBench, imds: FakeImds, clock: ManualClock
) -> None:
    working = spot.start(grace_s=0.0)
    task_id, _, _ = await spot.held_task()
    finish_by = clock.now() + 3600 - 10
    imds.notice("terminate", in_s=3600)
    await spot.pass_until(lambda: not spot.is_announced)
    spot.stop.set()
    await spot.pass_until(working.done)
    assert clock.now() < finish_by
    assert state_of(spot, task_id) is State.QUEUED


async def test_the_grace_of_a_stop_counts_from_the_stop(spot: SpotBench) -> None:
    """However long Redis takes over the withdrawal: a cluster kills what has not left when the pod's grace is over."""
    working = spot.start(grace_s=3600.0)
    task_id, _, _ = await spot.held_task()
    spot.written.slow_s = 3600.0
    spot.stop.set()
    await until(lambda: spot.diary[-1] == "withdraw")
    await spot.clock.advance(3600.0)
    await spot.pass_until(working.done)
    assert state_of(spot, task_id) is State.QUEUED


# --- rebalancing ------------------------------------------------------------------------------------------------------


async def test_a_recommendation_is_no_notice_by_default(spot: SpotBench, imds: FakeImds) -> None:
    spot.start()
    await spot.pass_until(lambda: spot.is_announced)
    imds.rebalance()
    await spot.pass_looks(3)
    assert spot.is_announced
    assert spot.diary == ["announce"]


async def test_where_it_is_followed_what_runs_may_run_as_long_as_it_takes_and_nothing_new_comes(
    spot: SpotBench, imds: FakeImds, clock: ManualClock
) -> None:
    spot.start(spot={"on_rebalance": "leave"})
    task_id, go_on, _ = await spot.held_task()
    imds.rebalance()
    await spot.pass_until(lambda: not spot.is_announced)
    late = await spot.submit()
    await spot.pass_to(clock.now() + 200)
    assert state_of(spot, task_id) is State.RUNNING
    go_on.set()
    assert (await spot.end_of(task_id)).attempts == ()
    assert state_of(spot, late) is State.QUEUED
    assert spot.diary == ["announce", "claim by w1", "withdraw"]


async def test_without_metadata_a_worker_is_what_it_was(spot: SpotBench, imds: FakeImds) -> None:
    imds.say("instance-life-cycle", "on-demand")
    imds.notice()
    spot.start()
    assert (await spot.end_of(await spot.submit())).state is State.DONE
    await spot.pass_until(lambda: spot.is_announced)
    await spot.pass_to(spot.clock.now() + 60)
    assert imds.asked("spot/instance-action") == 0
