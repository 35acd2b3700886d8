"""Steps of agents' runs and requests of run trees in the books of budgets, on Redis and in memory."""

from dataclasses import replace

import pytest
from budget_builders import START, World, settlement
from queue_builders import a_record, a_task, all_usage

from stoker.base.ids import ModelName
from stoker.meter.usage import UsageRecord
from stoker.queue import State
from stoker.queue.budgets import scopes_of
from stoker.spec import AGENT_STEPS
from stoker.testing import ManualClock

STEPS = ModelName(AGENT_STEPS)
OF_RUN = {"run": "run_x.1", "agent": "writer", "session": "s"}
REQUESTS = "run:acme/run_x:requests:total"
TOKENS = "run:acme/run_x:tokens:total"
OF_KEY = "key:key_1:requests:total"
OF_AGENT = "agent:writer:tokens:total"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


def a_step_record(task_id: str, **changes: object) -> UsageRecord:
    record = UsageRecord(
        id=task_id,
        kind="step",
        status="done",
        tenant="acme",
        key_id="key_1",
        session="s",
        run="run_x.1",
        agent="writer",
        model="agents",
        prompt_tokens=0,
        completion_tokens=0,
        nano_usd=0,
        started_at=START,
        ended_at=START,
    )
    return replace(record, **changes)  # type: ignore[arg-type]


async def test_a_step_leaves_a_record_of_its_kind_and_is_no_request(world: World) -> None:
    await world.open(limits=(REQUESTS, OF_KEY))
    task = await world.queue.submit(a_task(model=STEPS, endpoint="/steps", **OF_RUN))
    [claim] = await world.queue.claim(STEPS, "w1")
    assert (claim.task.run, claim.task.agent) == ("run_x.1", "writer")
    assert await world.queue.complete(claim, {"ok": 1})
    assert await all_usage(world.queue) == [a_step_record(task.id)]
    assert await world.sums(REQUESTS) == await world.sums(OF_KEY) == (0, 0, 0)


async def test_a_step_whose_worker_is_gone_dies_as_a_step(world: World, clock: ManualClock) -> None:
    await world.open(limits=(REQUESTS, OF_KEY))
    task = await world.queue.submit(a_task(model=STEPS, endpoint="/steps", max_attempts=1, **OF_RUN))
    await world.queue.claim(STEPS, "w1", lease_s=0)
    await clock.advance(1)
    await world.queue.reclaim(STEPS)
    assert (await world.queue.get(task.id)).state is State.DEAD
    why = "lease expired: worker w1 did not renew it, so it is taken for dead"
    assert await all_usage(world.queue) == [a_step_record(task.id, status="failed", ended_at=START + 1, reason=why)]
    assert await world.sums(REQUESTS) == await world.sums(OF_KEY) == (0, 0, 0)


async def test_a_step_that_is_cancelled_is_one_too(world: World) -> None:
    await world.open(limits=(OF_KEY,))
    task = await world.queue.submit(a_task(model=STEPS, endpoint="/steps", **OF_RUN))
    await world.queue.cancel(task.id)
    assert [(each.kind, each.status) for each in await all_usage(world.queue)] == [("step", "cancelled")]
    assert await world.sums(OF_KEY) == (0, 0, 0)


async def test_a_step_that_is_handed_in_counts_nowhere(world: World) -> None:
    await world.open("gw_a", limits=(OF_KEY,))
    await world.queue.append_usage(a_step_record("step_1"))
    assert scopes_of(a_step_record("step_1")) == ()
    assert await world.sums(OF_KEY) == (0, 0, 0)


async def test_a_task_of_a_child_counts_for_every_run_above_it_and_for_its_agent(world: World) -> None:
    """They had no limit when it was submitted."""
    await world.open(
        limits=(REQUESTS, TOKENS, OF_AGENT, "run:acme/run_x.1:tokens:total", "run:acme/run_x.2:tokens:total")
    )
    await world.queue.submit(a_task(**OF_RUN))
    [claim] = await world.queue.claim(ModelName("general"), "w1")
    used = replace(a_record(claim.task.usage_id), run="run_x.1", agent="writer")
    assert await world.queue.complete(claim, {"ok": 1}, usage=used)
    assert await world.sums(REQUESTS) == (1, 0, 0)
    assert await world.sums(TOKENS) == await world.sums(OF_AGENT) == (10, 0, 0)
    assert await world.sums("run:acme/run_x.1:tokens:total") == (10, 0, 0)
    assert await world.sums("run:acme/run_x.2:tokens:total") == (0, 0, 0)


async def test_a_settlement_of_a_child_counts_above_it_where_it_had_reserved_nothing(world: World) -> None:
    child = "run:acme/run_x.1:tokens:total"
    await world.open("gw_a", limits=(TOKENS, child, OF_AGENT))
    used = replace(a_record("req_1"), run="run_x.1", agent="writer")
    item = settlement(1, (child, 40, 10))._replace(usage=used.to_json(), scopes=scopes_of(used))
    assert await world.store.settle("gw_a", [item]) == [True]
    assert [await world.sums(name) for name in (TOKENS, child, OF_AGENT)] == [(10, 0, 0)] * 3


async def test_a_run_that_is_no_agents_is_itself_alone(world: World) -> None:
    await world.open("gw_a", limits=(TOKENS, "run:acme/run_x.1:tokens:total"))
    used = replace(a_record("req_1"), run="run_x.1")
    await world.queue.append_usage(used)
    assert await world.sums(TOKENS) == (0, 0, 0)
    assert await world.sums("run:acme/run_x.1:tokens:total") == (10, 0, 0)
