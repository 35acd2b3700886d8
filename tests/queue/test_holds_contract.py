"""What tasks hold of budgets, from their submission to their end: held against both queues and their books."""

from dataclasses import replace
from typing import Any

import pytest
from budget_builders import DAY, DOLLARS, REQUESTS, SLOTS, START, TOKENS, TTL_S, World, ask, hold, settlement
from queue_builders import MODEL, a_record, a_task, all_usage, claim_one, partial_of

from stoker.base.errors import Conflict
from stoker.base.ids import TaskId
from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import MOST, Part
from stoker.queue import Claim, Depth, MemoryQueue, State, Task, TokenBound
from stoker.queue.budgets import Hold
from stoker.testing import ManualClock

ALL = (TOKENS, DOLLARS, REQUESTS, SLOTS)
# What one attempt can cost at most.
ONE = ((TOKENS, 40), (DOLLARS, 9), (REQUESTS, 1), (SLOTS, 1))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


async def reserved(world: World, **limits: int) -> None:
    """gw_a holds of each counter what one attempt needs; the limits are 100 unless given."""
    await world.open("gw_a", limits=ALL)
    names = {"tokens": TOKENS, "dollars": DOLLARS, "requests": REQUESTS, "slots": SLOTS}
    limit = {counter: limits.get(name, 100) for name, counter in names.items()}
    assert await world.lease("gw_a", *(ask(c, n, limit=limit[c]) for c, n in ONE)) == (40, 9, 1, 1)


async def submitted(world: World, **task: Any) -> Task:
    return await world.queue.submit(a_task(**task), hold=hold(1, *ONE))


async def claimed(world: World, **task: Any) -> Claim:
    await submitted(world, **task)
    return await claim_one(world.queue)


def used(claim: Claim, prompt: int = 3, completion: int = 7, nano_usd: int = 2, **changes: Any) -> UsageRecord:
    record = replace(a_record(claim.task.usage_id), prompt_tokens=prompt, completion_tokens=completion)
    return replace(record, nano_usd=nano_usd, **changes)


async def sums(world: World) -> list[tuple[int, int, int]]:
    """Spent, leased and held of tokens, dollars, requests and slots."""
    return [await world.sums(counter) for counter in ALL]


HELD = [(0, 0, 40), (0, 0, 9), (0, 0, 1), (0, 0, 1)]
NOTHING_USED = [(0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 0, 0)]


# --- submit ---------------------------------------------------------------------------------------------------------


async def test_a_submitted_task_takes_the_reservation_over_in_the_same_step(world: World) -> None:
    await reserved(world)
    await world.lease("gw_a", ask(need=5))
    await submitted(world)
    assert await sums(world) == [(0, 5, 40), *HELD[1:]]
    # It counts as settled: what the gateway would settle by mistake changes nothing.
    assert await world.store.settle("gw_a", [settlement(1, (TOKENS, 40, 40), usage="req_1")]) == [False]
    assert await sums(world) == [(0, 5, 40), *HELD[1:]]
    assert await all_usage(world.queue) == []


async def test_what_tasks_hold_is_not_there_for_others(world: World) -> None:
    await reserved(world)
    await submitted(world)
    await world.store.enter("gw_b", ttl_s=TTL_S)
    short = await world.store.lease("gw_b", [ask(need=61)])
    assert (short.free, short.fits_later) == (60, False)  # type: ignore[union-attr]
    assert await world.lease("gw_b", ask(need=60)) == (60,)


async def refused(world: World, given: Hold, why: str) -> None:
    before = await sums(world)
    with pytest.raises(Conflict, match=rf"^the task's reservation is void: {why}$") as error:
        await world.queue.submit(a_task(), task_id=TaskId("task_1"), hold=given)
    assert error.value.code == "hold_void"
    assert await world.queue.depth(MODEL) == Depth(0, 0, 0, 0)
    assert await world.queue.list() == []
    assert await sums(world) == before


async def test_a_reservation_of_an_owner_that_is_not_known_is_void(world: World) -> None:
    await reserved(world)
    await refused(world, hold(1, *ONE, owner="gw_x"), "its owner is unknown")
    world.lose_everything()
    await world.open(limits=ALL)
    with pytest.raises(Conflict, match="its owner is unknown"):
        await world.queue.submit(a_task(), hold=hold(1, *ONE))


async def test_a_reservation_of_an_owner_that_left_is_void(world: World) -> None:
    await reserved(world)
    await world.store.leave("gw_a")
    await refused(world, hold(1, *ONE), "its owner is left")


@pytest.mark.parametrize(("end", "why"), [("none", "taken"), ("journal", "journal"), ("lost", "lost")])
async def test_a_reservation_of_an_owner_that_was_taken_over_is_void(world: World, end: str, why: str) -> None:
    await reserved(world)
    await world.store.take_over("gw_a", "gw_b", ttl_s=10, is_proved_dead=True)
    if end != "none":
        await world.store.forfeit("gw_a", "gw_b", [] if end == "journal" else None)
    await refused(world, hold(1, *ONE), f"its owner is {why}")


async def test_a_reservation_that_was_settled_is_void(world: World) -> None:
    await reserved(world)
    await world.store.settle("gw_a", [settlement(1, (TOKENS, 10, 0))])
    await refused(world, hold(1, *ONE), "it was settled before")
    await world.store.renew("gw_a", ttl_s=TTL_S, watermark=5)
    await refused(world, hold(4, *ONE), "it was settled before")
    await world.queue.submit(a_task(), hold=hold(5, *ONE))
    assert await sums(world) == HELD


async def test_a_reservation_of_more_than_its_owner_holds_is_void(world: World) -> None:
    await reserved(world)
    await refused(world, hold(1, (DOLLARS, 9), (TOKENS, 41)), f"its owner does not hold that much of {TOKENS}")
    await refused(world, hold(1, (TOKENS, 40), (DAY, 1)), f"its owner does not hold that much of {DAY}")
    await submitted(world)  # the reservation itself is as good as before
    assert await sums(world) == HELD


async def test_one_reservation_is_good_for_one_task(world: World) -> None:
    await reserved(world)
    await world.lease("gw_a", *(ask(c, n) for c, n in ONE))
    await submitted(world)
    with pytest.raises(Conflict, match="it was settled before"):
        await submitted(world)
    assert await world.queue.depth(MODEL) == Depth(1, 0, 0, 0)


async def test_submitting_again_with_the_same_reservation_holds_it_once(world: World) -> None:
    await reserved(world)
    await world.lease("gw_a", *(ask(c, n) for c, n in ONE))
    for _ in range(3):
        await world.queue.submit(a_task(), task_id=TaskId("task_1"), hold=hold(1, *ONE))
    assert await sums(world) == [(0, held, held) for _, _, held in HELD]


async def test_a_reservation_for_a_task_that_is_there_already_is_free(world: World) -> None:
    """The gateway hands it over when `submit` returns, so nobody would ever use it or give it back."""
    await reserved(world)
    await world.queue.submit(a_task(), task_id=TaskId("task_1"))
    for _ in range(2):
        await world.queue.submit(a_task(), task_id=TaskId("task_1"), hold=hold(1, *ONE))
    assert await sums(world) == [(0, 0, 0)] * 4
    assert await world.store.settle("gw_a", [settlement(1, (TOKENS, 40, 40))]) == [False]


async def test_a_task_without_a_reservation_holds_nothing_and_spends_what_it_came_to(world: World) -> None:
    """It came while there was no limit; now there is one."""
    await reserved(world)
    before = await sums(world)
    await world.queue.submit(a_task())
    claim = await claim_one(world.queue)
    await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim))
    again = await claim_one(world.queue)
    assert await sums(world) == before == [(0, 40, 0), (0, 9, 0), (0, 1, 0), (0, 1, 0)]
    for _ in range(2):  # the second time as if the answer had been lost
        await world.queue.complete(again, {}, usage=used(again))
        assert await sums(world) == [(20, 40, 0), (4, 9, 0), (1, 1, 0), (0, 1, 0)]


async def test_a_task_spends_also_of_what_it_did_not_hold(world: World) -> None:
    await world.open("gw_a", limits=(TOKENS, DOLLARS, REQUESTS))
    await world.lease("gw_a", ask(need=40))
    session = "session:acme/s1:tokens:total"
    await world.queue.submit(a_task(session="s1", team="red"), hold=hold(1, (TOKENS, 40)))
    claim = await claim_one(world.queue)
    opening = await world.store.open(session)  # its limit is set while it runs
    await world.queue.complete(claim, {}, usage=used(claim))
    await world.store.begin(session, 0, expires_at=None, since=opening)
    counters = (TOKENS, DOLLARS, REQUESTS, session)
    assert [await world.sums(each) for each in counters] == [(10, 0, 0), (2, 0, 0), (1, 0, 0), (10, 0, 0)]


async def test_each_life_of_a_task_is_spent_once(world: World) -> None:
    await world.open(limits=(TOKENS, REQUESTS))
    await world.queue.submit(a_task())
    claim = await claim_one(world.queue)
    await world.queue.fail(claim, "boom", retry_in_s=None, usage=used(claim))
    assert [await world.sums(each) for each in (TOKENS, REQUESTS)] == [(10, 0, 0), (1, 0, 0)]
    await world.queue.retry(claim.task.id)
    again = await claim_one(world.queue)
    await world.queue.complete(again, {}, usage=used(again, 1, 1))
    assert [await world.sums(each) for each in (TOKENS, REQUESTS)] == [(12, 0, 0), (2, 0, 0)]


# --- every end settles it -------------------------------------------------------------------------------------------


async def test_a_task_that_is_done_spends_what_it_used_and_frees_the_rest(world: World) -> None:
    await reserved(world)
    claim = await claimed(world)
    assert await sums(world) == HELD
    for _ in range(2):  # the second time as if the answer had been lost
        assert await world.queue.complete(claim, {}, usage=used(claim))
        assert await sums(world) == [(10, 0, 0), (2, 0, 0), (1, 0, 0), (0, 0, 0)]
    assert await all_usage(world.queue) == [used(claim)]


async def test_what_cost_more_than_was_held_counts_in_full(world: World) -> None:
    await reserved(world)
    claim = await claimed(world)
    await world.queue.complete(claim, {}, usage=used(claim, 100, 20, 300))
    assert await sums(world) == [(120, 0, 0), (300, 0, 0), (1, 0, 0), (0, 0, 0)]


async def test_a_task_that_fails_for_good_spends_what_it_used(world: World) -> None:
    await reserved(world)
    claim = await claimed(world)
    await world.queue.fail(claim, "boom", retry_in_s=None, usage=used(claim))
    assert await sums(world) == [(10, 0, 0), (2, 0, 0), (1, 0, 0), (0, 0, 0)]
    assert (await world.queue.get(claim.task.id)).state == State.DEAD


async def test_a_task_that_is_cancelled_before_it_ran_spends_one_request(world: World) -> None:
    await reserved(world)
    task = await submitted(world)
    for _ in range(2):
        await world.queue.cancel(task.id)
        assert await sums(world) == NOTHING_USED


async def test_a_task_that_is_cancelled_between_attempts_spends_what_they_used(world: World) -> None:
    await reserved(world)
    claim = await claimed(world)
    await world.queue.fail(claim, "boom", retry_in_s=5, usage=used(claim, cached_tokens=2))
    await world.queue.cancel(claim.task.id)
    assert await sums(world) == [(10, 0, 0), (2, 0, 0), (1, 0, 0), (0, 0, 0)]
    [record] = await all_usage(world.queue)
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens, record.nano_usd) == (3, 2, 7, 2)
    assert (record.status, record.attempts) == ("cancelled", 1)


@pytest.mark.parametrize("ending", ["complete", "fail", "fail for good", "release", "lease"])
async def test_a_task_that_is_cancelled_while_it_runs_spends_what_its_worker_says(world: World, ending: str) -> None:
    await reserved(world)
    claim = await claimed(world)
    await world.queue.cancel(claim.task.id)
    assert await sums(world) == HELD
    usage = used(claim, status="cancelled")
    if ending == "complete":
        await world.queue.complete(claim, {}, usage=usage)
    elif ending == "fail":
        await world.queue.fail(claim, "stopped", retry_in_s=1, usage=usage)
    elif ending == "fail for good":
        await world.queue.fail(claim, "stopped", retry_in_s=None, usage=usage)
    elif ending == "release":
        await world.queue.release(claim, usage=usage)
    else:  # and nobody says anything: a whole attempt
        await world.queue.extend(claim, lease_s=0)
        await world.queue.reclaim(MODEL)
    tokens, dollars = (40, 9) if ending == "lease" else (10, 2)
    assert await sums(world) == [(tokens, 0, 0), (dollars, 0, 0), (1, 0, 0), (0, 0, 0)]
    [record] = await all_usage(world.queue)
    assert (record.prompt_tokens + record.completion_tokens, record.nano_usd) == (tokens, dollars)


async def test_a_task_past_its_deadline_spends_one_request(world: World, clock: ManualClock) -> None:
    await reserved(world)
    task = await submitted(world, timeout_s=5)
    await clock.advance(5)
    assert await world.queue.claim(MODEL, "w1") == []
    assert (await world.queue.get(task.id)).state == State.DEAD
    assert await sums(world) == NOTHING_USED


async def test_an_attempt_that_ends_past_the_deadline_spends_what_it_used(world: World, clock: ManualClock) -> None:
    await reserved(world)
    claim = await claimed(world, timeout_s=5)
    await clock.advance(5)
    await world.queue.fail(claim, "boom", retry_in_s=1, usage=used(claim))
    assert await sums(world) == [(10, 0, 0), (2, 0, 0), (1, 0, 0), (0, 0, 0)]


# --- several attempts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry_in_s", [0.0, 4.0])
async def test_what_attempts_used_adds_up_and_a_whole_one_is_held_beside_it(
    world: World, clock: ManualClock, retry_in_s: float
) -> None:
    await reserved(world)
    first = await claimed(world)
    await world.queue.fail(first, "boom", retry_in_s=retry_in_s, usage=used(first, 3, 7, 2, cached_tokens=1))
    assert await sums(world) == [(0, 0, 50), (0, 0, 11), (0, 0, 1), (0, 0, 1)]
    await clock.advance(retry_in_s)
    await world.queue.reclaim(MODEL)
    second = await claim_one(world.queue)
    await world.queue.fail(second, "boom", retry_in_s=0, usage=used(second, 3, 0, 1, cached_tokens=3))
    assert await sums(world) == [(0, 0, 53), (0, 0, 12), (0, 0, 1), (0, 0, 1)]
    third = await claim_one(world.queue)
    assert await world.queue.complete(third, {}, usage=used(third, 3, 20, 5, cached_tokens=0, attempts=3))
    assert await sums(world) == [(36, 0, 0), (8, 0, 0), (1, 0, 0), (0, 0, 0)]
    [record] = await all_usage(world.queue)
    assert record == used(third, 9, 27, 8, cached_tokens=4, attempts=3)


# What is handed back to be gone on with.


@pytest.mark.parametrize("ending", ["release", "fail"])
async def test_who_goes_on_needs_no_more_than_one_attempt_may_use(world: World, ending: str) -> None:
    """The budget has room for one attempt and no token more: a worker that leaves does not end its task for that."""
    await reserved(world, tokens=40, dollars=9, requests=1, slots=1)
    first = await claimed(world, bound=TokenBound(10, 30, 9))
    usage = used(first, 10, 12, 4, cached_tokens=3)
    partial = partial_of(first, usage)
    for _ in range(2):  # the answer may be lost, and the call made again
        if ending == "release":
            assert await world.queue.release(first, usage=usage, partial=partial)
        else:
            assert await world.queue.fail(first, "broke off", retry_in_s=0, usage=usage, partial=partial)
    assert await sums(world) == HELD
    second = await claim_one(world.queue)
    assert (second.partial, second.answer_token) == (partial, first.token)
    assert await world.queue.complete(second, {}, usage=used(second, 0, 18, 5, cached_tokens=0))
    assert await sums(world) == [(40, 0, 0), (9, 0, 0), (1, 0, 0), (0, 0, 0)]
    [record] = await all_usage(world.queue)
    assert record == used(second, 10, 30, 9, cached_tokens=3)


@pytest.mark.parametrize("bound", [TokenBound(10, 30, 9), None])
async def test_who_vanishes_while_it_goes_on_has_used_one_attempt_with_what_was_before(
    world: World, bound: TokenBound | None
) -> None:
    await reserved(world, tokens=100)
    first = await claimed(world, bound=bound)
    usage = used(first, 10, 12, 4)
    await world.queue.release(first, usage=usage, partial=partial_of(first, usage))
    second = await claim_one(world.queue, lease_s=0)
    assert second.partial is not None
    assert await world.queue.reclaim(MODEL) == 1
    assert await sums(world) == [(0, 0, 80), (0, 0, 18), (0, 0, 1), (0, 0, 1)]  # one used whole, one to come
    third = await claim_one(world.queue)
    assert third.partial is None
    await world.queue.complete(third, {}, usage=used(third))
    assert (await sums(world))[:2] == [(50, 0, 0), (11, 0, 0)]


async def test_what_is_begun_anew_leaves_room_for_a_whole_attempt(world: World) -> None:
    await reserved(world, tokens=100)
    first = await claimed(world)
    usage = used(first, 10, 12, 4)
    await world.queue.release(first, usage=usage, partial=partial_of(first, usage))
    second = await claim_one(world.queue)
    await world.queue.release(second, usage=used(second, 0, 0, 0))
    assert await sums(world) == [(0, 0, 62), (0, 0, 13), (0, 0, 1), (0, 0, 1)]
    assert (await claim_one(world.queue)).partial is None


async def test_what_is_begun_anew_and_does_not_fit_dies_with_what_was_used(world: World) -> None:
    await reserved(world, tokens=61)
    first = await claimed(world)
    usage = used(first, 10, 12, 4)
    await world.queue.release(first, usage=usage, partial=partial_of(first, usage))
    second = await claim_one(world.queue)
    await world.queue.release(second, usage=used(second, 0, 0, 0))
    task = await world.queue.get(first.task.id)
    assert (task.state, (task.error or {})["code"]) == (State.DEAD, "budget_exhausted")
    assert (await sums(world))[:2] == [(22, 0, 0), (4, 0, 0)]


async def test_one_that_was_never_tried_stays_as_it_was(world: World) -> None:
    await reserved(world, tokens=40)
    first = await claimed(world)
    usage = used(first, 10, 12, 4)
    partial = partial_of(first, usage)
    await world.queue.release(first, usage=usage, partial=partial)
    for _ in range(2):  # an engine that takes no connection
        claim = await claim_one(world.queue)
        assert claim.partial == partial
        await world.queue.release(claim)
    assert await sums(world) == [(0, 0, 40), (0, 0, 9), (0, 0, 1), (0, 0, 1)]


@pytest.mark.parametrize("ending", ["cancel", "deadline", "fail for good", "replay"])
async def test_what_was_begun_ends_with_its_task(world: World, clock: ManualClock, ending: str) -> None:
    await reserved(world)
    first = await claimed(world, timeout_s=5, max_attempts=2)
    usage = used(first, 10, 12, 4)
    await world.queue.release(first, usage=usage, partial=partial_of(first, usage))
    if ending == "cancel":
        await world.queue.cancel(first.task.id)
    elif ending == "deadline":
        await clock.advance(5)
        assert await world.queue.claim(MODEL, "w1") == []
    else:
        second = await claim_one(world.queue)
        await world.queue.fail(second, "boom", retry_in_s=None, usage=used(second, 0, 0, 0))
    assert await sums(world) == [(22, 0, 0), (4, 0, 0), (1, 0, 0), (0, 0, 0)]
    if ending == "replay":
        await world.queue.retry(first.task.id)
        assert (await claim_one(world.queue)).partial is None


async def test_the_same_failure_again_adds_nothing(world: World) -> None:
    await reserved(world)
    claim = await claimed(world)
    for _ in range(2):
        assert await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim))
    assert await sums(world) == [(0, 0, 50), (0, 0, 11), (0, 0, 1), (0, 0, 1)]
    last = await claim_one(world.queue)
    await world.queue.complete(last, {}, usage=used(last))
    assert (await sums(world))[0] == (20, 0, 0)


async def test_an_attempt_that_used_nothing_costs_nothing(world: World) -> None:
    await reserved(world, tokens=40, dollars=9, requests=1, slots=1)
    claim = await claimed(world)
    await world.queue.fail(claim, "connection refused", retry_in_s=0)
    assert await sums(world) == HELD
    assert (await world.queue.get(claim.task.id)).state == State.QUEUED


async def test_a_task_for_which_another_attempt_does_not_fit_dies_with_what_it_used(world: World) -> None:
    await reserved(world, dollars=10)
    claim = await claimed(world)
    await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim, nano_usd=2, status="failed"))
    found = await world.queue.get(claim.task.id)
    assert found.state == State.DEAD
    assert found.error == {
        "message": "what its failed attempts have used and one more attempt do not fit the tenant's budget of dollars",
        "type": "insufficient_quota",
        "code": "budget_exhausted",
    }
    assert [attempt.reason for attempt in found.attempts] == ["boom"]
    assert await sums(world) == [(10, 0, 0), (2, 0, 0), (1, 0, 0), (0, 0, 0)]
    assert await world.queue.depth(MODEL) == Depth(0, 0, 0, 1)
    assert await all_usage(world.queue) == [used(claim, nano_usd=2, status="failed")]


async def test_another_attempt_fits_to_the_last_unit(world: World) -> None:
    await reserved(world, tokens=50, dollars=11)
    claim = await claimed(world)
    await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim))
    assert (await sums(world))[:2] == [(0, 0, 50), (0, 0, 11)]
    again = await claim_one(world.queue)
    await world.queue.fail(again, "boom", retry_in_s=0, usage=used(again, 0, 1, 0, status="failed"))
    assert (await world.queue.get(claim.task.id)).state == State.DEAD
    assert (await sums(world))[:2] == [(11, 0, 0), (2, 0, 0)]


async def test_another_attempt_goes_by_the_limit_of_now(world: World) -> None:
    await reserved(world)
    claim = await claimed(world)
    await world.lease("gw_a", ask(need=0, limit=49))
    await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim, status="failed"))
    assert (await world.queue.get(claim.task.id)).state == State.DEAD


async def test_what_is_spent_is_not_there_for_another_attempt(world: World) -> None:
    await reserved(world)
    claim = await claimed(world)
    await world.lease("gw_a", ask(need=51))
    await world.store.settle("gw_a", [settlement(2, (TOKENS, 51, 51))])
    await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim, status="failed"))
    assert (await world.queue.get(claim.task.id)).state == State.DEAD
    assert (await sums(world))[0] == (61, 0, 0)


async def test_a_worker_that_vanished_has_used_a_whole_attempt(world: World) -> None:
    await reserved(world)
    await submitted(world)
    await claim_one(world.queue, lease_s=0)
    await world.queue.reclaim(MODEL)
    assert await sums(world) == [(0, 0, 80), (0, 0, 18), (0, 0, 1), (0, 0, 1)]
    second = await claim_one(world.queue)
    await world.queue.complete(second, {}, usage=used(second, 3, 7, 2, attempts=2))
    assert await sums(world) == [(50, 0, 0), (11, 0, 0), (1, 0, 0), (0, 0, 0)]
    assert await all_usage(world.queue) == [used(second, 3, 47, 11, attempts=2)]


async def test_a_task_that_kills_its_workers_has_used_every_attempt(world: World) -> None:
    await reserved(world, tokens=120)
    await submitted(world, max_attempts=3)
    for _ in range(3):
        await claim_one(world.queue, lease_s=0)
        await world.queue.reclaim(MODEL)
    assert await sums(world) == [(120, 0, 0), (27, 0, 0), (1, 0, 0), (0, 0, 0)]
    [record] = await all_usage(world.queue)
    assert (record.status, record.attempts) == ("failed", 3)
    assert (record.prompt_tokens, record.completion_tokens, record.nano_usd) == (0, 120, 27)


async def test_after_a_vanished_worker_another_attempt_may_not_fit(world: World) -> None:
    await reserved(world, tokens=79)
    task = await submitted(world)
    await claim_one(world.queue, lease_s=0)
    await world.queue.reclaim(MODEL)
    found = await world.queue.get(task.id)
    assert found.error is not None
    assert (found.state, found.error["code"]) == (State.DEAD, "budget_exhausted")
    assert await sums(world) == [(40, 0, 0), (9, 0, 0), (1, 0, 0), (0, 0, 0)]
    [record] = await all_usage(world.queue)
    assert (record.status, record.attempts, record.completion_tokens, record.nano_usd) == ("failed", 1, 40, 9)


# What `ONE` was reserved for: tokens of prompt and of answer, nano-dollars.
BOUND = TokenBound(28, 12, 9)


@pytest.mark.parametrize("held", [(), (TOKENS,), (DOLLARS,), (REQUESTS,), ALL], ids=lambda held: f"{len(held)} {held}")
async def test_a_lost_attempt_counts_as_it_was_let_in_whatever_budgets_there_are(
    world: World, held: tuple[str, ...]
) -> None:
    await reserved(world, tokens=120)
    parts = [part for part in ONE if part[0] in held]
    await world.queue.submit(a_task(bound=BOUND), hold=hold(1, *parts) if parts else None)
    for _ in range(2):
        await claim_one(world.queue, lease_s=0)
        await world.queue.reclaim(MODEL)
    last = await claim_one(world.queue)
    await world.queue.complete(last, {}, usage=used(last, 3, 7, 2, cached_tokens=1, attempts=3))
    assert await all_usage(world.queue) == [used(last, 59, 31, 20, cached_tokens=1, attempts=3)]
    # Also in counters of its scopes that it held nothing of.
    assert [each[0] for each in await sums(world)] == [90, 20, 1, 0]


async def test_a_lost_attempt_of_a_task_that_is_not_tried_again_counts_as_it_was_let_in(world: World) -> None:
    await reserved(world)
    await submitted(world, bound=BOUND, max_attempts=1)
    await claim_one(world.queue, lease_s=0)
    await world.queue.reclaim(MODEL)
    assert await sums(world) == [(40, 0, 0), (9, 0, 0), (1, 0, 0), (0, 0, 0)]
    [record] = await all_usage(world.queue)
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens, record.nano_usd) == (28, 0, 12, 9)


async def test_a_bound_without_money_counts_as_what_was_reserved(world: World) -> None:
    """Tasks of before have one of tokens only."""
    await reserved(world)
    await submitted(world, bound=TokenBound(28, 12), max_attempts=1)
    await claim_one(world.queue, lease_s=0)
    await world.queue.reclaim(MODEL)
    [record] = await all_usage(world.queue)
    assert (record.prompt_tokens, record.completion_tokens, record.nano_usd) == (0, 40, 9)


async def test_a_lost_attempt_counts_at_most_what_a_counter_can_hold(world: World) -> None:
    await reserved(world)
    await submitted(world, bound=TokenBound(0, 0, MOST + 1), max_attempts=1)
    await claim_one(world.queue, lease_s=0)
    await world.queue.reclaim(MODEL)
    assert (await sums(world))[1] == (MOST, 0, 0)
    [record] = await all_usage(world.queue)
    assert record.nano_usd == MOST


async def test_a_whole_attempt_is_the_most_that_any_budget_reserved_for_it(world: World) -> None:
    tenant = "tenant:acme:tokens:total"
    await world.open("gw_a", limits=[TOKENS, tenant])
    await world.lease("gw_a", ask(need=30), ask(tenant, need=40))
    await world.queue.submit(a_task(max_attempts=1), hold=hold(1, (TOKENS, 30), (tenant, 40)))
    await claim_one(world.queue, lease_s=0)
    await world.queue.reclaim(MODEL)
    assert [await world.sums(TOKENS), await world.sums(tenant)] == [(40, 0, 0), (40, 0, 0)]


async def test_a_task_handed_back_adds_what_it_used(world: World) -> None:
    await reserved(world, tokens=50)
    first = await claimed(world, max_attempts=1)
    for _ in range(2):
        assert await world.queue.release(first, usage=used(first))
    assert await sums(world) == [(0, 0, 50), (0, 0, 11), (0, 0, 1), (0, 0, 1)]
    second = await claim_one(world.queue)
    assert second.attempt == 1
    await world.queue.release(second)
    assert (await sums(world))[0] == (0, 0, 50)
    third = await claim_one(world.queue)
    await world.queue.complete(third, {}, usage=used(third))
    assert await sums(world) == [(20, 0, 0), (4, 0, 0), (1, 0, 0), (0, 0, 0)]
    assert await all_usage(world.queue) == [used(third, 6, 14, 4)]


async def test_a_task_handed_back_for_which_another_attempt_does_not_fit_dies(world: World) -> None:
    await reserved(world, tokens=49)
    claim = await claimed(world)
    assert await world.queue.release(claim, usage=used(claim, status="cancelled"))
    found = await world.queue.get(claim.task.id)
    assert found.error is not None
    assert (found.state, found.error["code"], found.attempts) == (State.DEAD, "budget_exhausted", ())
    assert (await sums(world))[0] == (10, 0, 0)
    assert await all_usage(world.queue) == [used(claim, status="failed")]  # whatever its worker called it


async def test_failed_attempts_of_a_task_without_a_reservation_are_in_its_record_too(world: World) -> None:
    await world.queue.submit(a_task())
    for _ in range(2):
        claim = await claim_one(world.queue)
        await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim))
    last = await claim_one(world.queue)
    await world.queue.complete(last, {}, usage=used(last, attempts=3))
    assert await all_usage(world.queue) == [used(last, 9, 21, 6, attempts=3)]


# --- another attempt that would fit with what gateways hold -----------------------------------------------------------


async def wanted(world: World) -> tuple[str, ...]:
    return (await world.store.renew("gw_a", ttl_s=TTL_S, watermark=1)).wanted


async def give_back(world: World, amount: int, counter: str = TOKENS) -> None:
    await world.store.renew("gw_a", ttl_s=TTL_S, watermark=1, give_back=[Part(counter, amount)])


async def short_of_ten(world: World, **task: Any) -> Claim:
    """A task that runs; gw_a holds all other tokens. When it has used 10, as many are missing for another attempt."""
    await reserved(world)
    claim = await claimed(world, **task)
    await world.lease("gw_a", ask(need=60))
    return claim


async def waiting(world: World, *, retry_in_s: float = 0, **task: Any) -> Claim:
    claim = await short_of_ten(world, **task)
    await world.queue.fail(claim, "boom", retry_in_s=retry_in_s, usage=used(claim, cached_tokens=1, status="failed"))
    return claim


async def test_a_task_waits_for_what_gateways_give_back_at_their_next_renewal(world: World, clock: ManualClock) -> None:
    first = await waiting(world)
    found = await world.queue.get(first.task.id)
    assert (found.state, found.due_at, found.error) == (State.RETRYING, START + 1, None)
    assert [attempt.reason for attempt in found.attempts] == ["boom"]
    assert await world.queue.depth(MODEL) == Depth(0, 0, 1, 0)
    assert await sums(world) == [(0, 60, 40), (0, 0, 9), (0, 0, 1), (0, 0, 1)]
    assert await wanted(world) == (TOKENS,)
    await give_back(world, 10)

    assert await world.queue.reclaim(MODEL) == 0  # not yet
    await clock.advance(1)
    assert await world.queue.reclaim(MODEL) == 1
    assert (await world.queue.get(first.task.id)).state == State.QUEUED
    assert await sums(world) == [(0, 50, 50), (0, 0, 11), (0, 0, 1), (0, 0, 1)]
    second = await claim_one(world.queue)
    assert second.attempt == 2
    await world.queue.complete(second, {}, usage=used(second, attempts=2))
    assert await sums(world) == [(20, 50, 0), (4, 0, 0), (1, 0, 0), (0, 0, 0)]
    assert await all_usage(world.queue) == [used(second, 6, 14, 4, cached_tokens=1, attempts=2)]


async def test_nothing_beyond_their_needs_is_leased_to_others_meanwhile(world: World) -> None:
    await waiting(world)
    await give_back(world, 30)
    assert await world.lease("gw_a", ask(need=5, want=25)) == (5,)


async def test_a_task_that_waited_in_vain_dies_of_its_budget(world: World, clock: ManualClock) -> None:
    claim = await waiting(world)
    await give_back(world, 9)
    await clock.advance(1)
    assert await world.queue.reclaim(MODEL) == 1
    found = await world.queue.get(claim.task.id)
    assert found.error == {
        "message": "what its failed attempts have used and one more attempt do not fit the key's budget of tokens",
        "type": "insufficient_quota",
        "code": "budget_exhausted",
    }
    assert (found.state, found.due_at) == (State.DEAD, None)
    assert [attempt.reason for attempt in found.attempts] == ["boom"]
    assert await world.queue.depth(MODEL) == Depth(0, 0, 0, 1)
    assert await sums(world) == [(10, 51, 0), (2, 0, 0), (1, 0, 0), (0, 0, 0)]
    [record] = await all_usage(world.queue)
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens, record.nano_usd) == (3, 1, 7, 2)
    assert (record.status, record.attempts, record.reason) == ("failed", 1, found.error["message"])


async def test_who_waits_does_not_wait_again_for_the_same_attempt(world: World, clock: ManualClock) -> None:
    claim = await waiting(world)
    await clock.advance(1)
    await world.queue.reclaim(MODEL)
    assert (await world.queue.get(claim.task.id)).state == State.DEAD
    await clock.advance(5)
    assert await wanted(world) == ()  # nobody was asked a second time


async def test_each_attempt_may_wait_once(world: World, clock: ManualClock) -> None:
    await waiting(world)
    for _ in range(2):
        await give_back(world, 10)
        await clock.advance(1)
        await world.queue.reclaim(MODEL)
        claim = await claim_one(world.queue)
        if claim.attempt == 2:
            await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim))
            assert (await world.queue.get(claim.task.id)).state == State.RETRYING
    assert claim.attempt == 3
    assert (await sums(world))[:2] == [(0, 40, 60), (0, 0, 13)]


async def test_a_vanished_workers_task_waits_too(world: World, clock: ManualClock) -> None:
    await reserved(world)
    await submitted(world, bound=BOUND)
    claim = await claim_one(world.queue, lease_s=0)
    await world.lease("gw_a", ask(need=60))
    await world.queue.reclaim(MODEL)
    found = await world.queue.get(claim.task.id)
    assert found.state == State.RETRYING
    assert [attempt.reason for attempt in found.attempts] == [
        "lease expired: worker w1 did not renew it, so it is taken for dead"
    ]
    await give_back(world, 40)
    await clock.advance(1)
    await world.queue.reclaim(MODEL)
    assert await sums(world) == [(0, 20, 80), (0, 0, 18), (0, 0, 1), (0, 0, 1)]
    second = await claim_one(world.queue)
    await world.queue.complete(second, {}, usage=used(second, attempts=2))
    assert await all_usage(world.queue) == [used(second, 31, 19, 11, attempts=2)]


async def test_a_task_that_was_handed_back_waits_too(world: World, clock: ManualClock) -> None:
    claim = await short_of_ten(world, max_attempts=1)
    for _ in range(2):  # the second time as if the answer had been lost
        assert await world.queue.release(claim, usage=used(claim, status="cancelled"))
    found = await world.queue.get(claim.task.id)
    assert (found.state, found.attempts) == (State.RETRYING, ())
    await give_back(world, 10)
    await clock.advance(1)
    await world.queue.reclaim(MODEL)
    again = await claim_one(world.queue)
    assert again.attempt == 1
    await world.queue.complete(again, {}, usage=used(again))
    assert await all_usage(world.queue) == [used(again, 6, 14, 4)]
    assert (await sums(world))[0] == (20, 50, 0)


async def test_a_retry_with_a_longer_delay_is_paid_for_first_and_tried_in_its_time(
    world: World, clock: ManualClock
) -> None:
    claim = await waiting(world, retry_in_s=4)
    await give_back(world, 10)
    await clock.advance(1)
    assert await world.queue.reclaim(MODEL) == 1
    found = await world.queue.get(claim.task.id)
    assert (found.state, found.due_at) == (State.RETRYING, START + 4)
    assert (await sums(world))[0] == (0, 50, 50)
    await give_back(world, 50)
    await world.lease("gw_a", ask(need=50))
    await clock.advance(3)
    assert await world.queue.reclaim(MODEL) == 1
    assert (await claim_one(world.queue)).attempt == 2


def is_unpaid(world: World, claim: Claim) -> bool:
    """Whether the task is marked as one that waits for its budget."""
    if world.raw is not None:
        return bool(world.raw.hexists(f"stoker:task:{claim.task.id}", "unpaid"))
    assert isinstance(world.queue, MemoryQueue)
    return world.queue._kept[claim.task.id].unpaid is not None


@pytest.mark.parametrize("end", ["goes on", "dies", "is cancelled"])
async def test_no_mark_of_the_wait_outlives_it(world: World, clock: ManualClock, end: str) -> None:
    claim = await waiting(world)
    assert is_unpaid(world, claim)
    if end == "is cancelled":
        await world.queue.cancel(claim.task.id)
    if end == "goes on":
        await give_back(world, 10)
    await clock.advance(1)
    await world.queue.reclaim(MODEL)
    assert not is_unpaid(world, claim)


async def test_the_same_failure_again_while_it_waits_adds_nothing(world: World, clock: ManualClock) -> None:
    claim = await waiting(world)
    assert await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim))
    assert await world.queue.complete(claim, {}, usage=used(claim)) is False
    await clock.advance(1)
    await world.queue.reclaim(MODEL)
    assert (await sums(world))[:2] == [(10, 60, 0), (2, 0, 0)]
    assert len(await all_usage(world.queue)) == 1


async def test_a_task_that_is_cancelled_while_it_waits_spends_what_it_used(world: World, clock: ManualClock) -> None:
    claim = await waiting(world)
    assert (await world.queue.cancel(claim.task.id)).state == State.CANCELLED
    await give_back(world, 60)
    await clock.advance(1)
    assert await world.queue.reclaim(MODEL) == 0
    assert await sums(world) == [(10, 0, 0), (2, 0, 0), (1, 0, 0), (0, 0, 0)]
    [record] = await all_usage(world.queue)
    assert (record.prompt_tokens, record.completion_tokens, record.nano_usd, record.status) == (3, 7, 2, "cancelled")


async def dead_of_its_deadline(world: World, claim: Claim) -> None:
    found = await world.queue.get(claim.task.id)
    assert found.error is not None
    assert (found.state, found.error["code"]) == (State.DEAD, "deadline_exceeded")
    assert await sums(world) == [(10, 60, 0), (2, 0, 0), (1, 0, 0), (0, 0, 0)]
    [record] = await all_usage(world.queue)
    assert (record.prompt_tokens, record.completion_tokens, record.nano_usd, record.status) == (3, 7, 2, "failed")


async def test_nothing_is_waited_for_past_the_deadline(world: World) -> None:
    await dead_of_its_deadline(world, await waiting(world, timeout_s=1))
    assert await wanted(world) == ()


async def test_a_task_whose_deadline_passed_while_it_waited_is_dead(world: World, clock: ManualClock) -> None:
    claim = await waiting(world, timeout_s=2)
    assert (await world.queue.get(claim.task.id)).state == State.RETRYING
    await clock.advance(2)
    await world.queue.reclaim(MODEL)
    await dead_of_its_deadline(world, claim)


async def test_a_handed_back_task_past_its_deadline_does_not_wait(world: World) -> None:
    claim = await short_of_ten(world, timeout_s=1)
    await world.queue.release(claim, usage=used(claim, status="cancelled"))
    await dead_of_its_deadline(world, claim)


async def test_what_would_not_fit_with_all_that_gateways_hold_is_not_waited_for(world: World) -> None:
    claim = await short_of_ten(world)
    await world.store.settle("gw_a", [settlement(2, (TOKENS, 51, 51))])
    await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim, status="failed"))
    assert (await world.queue.get(claim.task.id)).state == State.DEAD
    assert await wanted(world) == ()


async def test_a_budget_that_is_used_up_decides_over_one_that_others_hold(world: World) -> None:
    await reserved(world, dollars=10)
    claim = await claimed(world)
    await world.lease("gw_a", ask(need=60))
    await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim))
    found = await world.queue.get(claim.task.id)
    assert found.error is not None
    assert "the tenant's budget of dollars" in found.error["message"]
    assert found.state == State.DEAD
    assert await wanted(world) == ()


async def test_every_budget_that_others_hold_is_asked_for_and_all_or_nothing_is_taken(
    world: World, clock: ManualClock
) -> None:
    claim = await short_of_ten(world)
    await world.lease("gw_a", ask(DOLLARS, 91))
    await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim))
    assert sorted(await wanted(world)) == [TOKENS, DOLLARS]
    await give_back(world, 10)
    await clock.advance(1)
    await world.queue.reclaim(MODEL)
    found = await world.queue.get(claim.task.id)
    assert found.error is not None
    assert "the tenant's budget of dollars" in found.error["message"]
    assert await sums(world) == [(10, 50, 0), (2, 91, 0), (1, 0, 0), (0, 0, 0)]


async def test_of_two_that_wait_for_the_same_the_one_that_is_due_first_gets_it(
    world: World, clock: ManualClock
) -> None:
    await reserved(world)
    await world.lease("gw_a", ask(need=40), ask(DOLLARS, 9), ask(REQUESTS, 1), ask(SLOTS, 1))
    tasks = [await world.queue.submit(a_task(), hold=hold(number, *ONE)) for number in (1, 2)]
    claims = {claim.task.id: claim for claim in await world.queue.claim(MODEL, "w1", count=2)}
    await world.lease("gw_a", ask(need=20))
    for task in reversed(tasks):
        claim = claims[task.id]
        await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim))
        await clock.advance(0.5)
    await give_back(world, 15)
    await clock.advance(1)
    assert await world.queue.reclaim(MODEL) == 2
    states = [(await world.queue.get(task.id)).state for task in tasks]
    assert states == [State.DEAD, State.QUEUED]
    assert (await sums(world))[0] == (10, 5, 50)


async def test_a_task_that_died_waiting_begins_its_next_life_anew(world: World, clock: ManualClock) -> None:
    claim = await waiting(world)
    await clock.advance(1)
    await world.queue.reclaim(MODEL)
    await give_back(world, 20)
    await world.lease("gw_a", *(ask(c, n) for c, n in ONE[1:]))
    await world.queue.retry(claim.task.id, hold=hold(2, *ONE))
    again = await claim_one(world.queue)
    await world.queue.fail(again, "boom", retry_in_s=4, usage=used(again))
    assert (await world.queue.get(claim.task.id)).due_at == clock.now() + 4
    await clock.advance(4)
    await world.queue.reclaim(MODEL)
    last = await claim_one(world.queue)
    await world.queue.complete(last, {}, usage=used(last))
    assert (await all_usage(world.queue))[1] == used(last, 6, 14, 4)


# --- who has no say -------------------------------------------------------------------------------------------------


async def test_a_worker_that_lost_its_lease_changes_no_budget(world: World) -> None:
    await reserved(world)
    await submitted(world)
    old = await claim_one(world.queue, lease_s=0)
    await world.queue.reclaim(MODEL)
    newer = await claim_one(world.queue, "w2")
    before = await sums(world)
    assert await world.queue.complete(old, {}, usage=used(old, 500)) is False
    assert await world.queue.fail(old, "late", retry_in_s=0, usage=used(old, 500)) is False
    assert await world.queue.fail(old, "late", retry_in_s=None, usage=used(old, 500)) is False
    assert await world.queue.release(old, usage=used(old, 500)) is False
    assert await sums(world) == before
    await world.queue.complete(newer, {}, usage=used(newer))
    after = await sums(world)
    assert await world.queue.complete(old, {}, usage=used(old, 500)) is False
    assert await sums(world) == after == [(50, 0, 0), (11, 0, 0), (1, 0, 0), (0, 0, 0)]


async def test_the_end_of_the_owner_is_not_the_end_of_its_tasks(world: World) -> None:
    await reserved(world)
    claim = await claimed(world)
    await world.store.take_over("gw_a", "gw_b", ttl_s=10, is_proved_dead=True)
    await world.store.forfeit("gw_a", "gw_b", None)
    assert await sums(world) == HELD
    await world.queue.complete(claim, {}, usage=used(claim))
    assert await sums(world) == [(10, 0, 0), (2, 0, 0), (1, 0, 0), (0, 0, 0)]


async def test_a_counter_that_was_forgotten_meanwhile_is_not_brought_back(world: World, clock: ManualClock) -> None:
    await reserved(world)
    await world.lease("gw_a", ask(DAY, 40, expires_at=START + 60, is_new=True))
    await world.queue.submit(a_task(), hold=hold(1, *ONE, (DAY, 40)))
    claim = await claim_one(world.queue)
    await clock.advance(61)
    if world.raw is not None:  # Redis forgets by its own clock
        world.raw.delete(f"stoker:budget:{DAY}")
    await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim))
    again = await claim_one(world.queue)
    await world.queue.complete(again, {}, usage=used(again))
    assert await world.store.state([DAY]) == [None]
    assert (await sums(world))[0] == (20, 0, 0)


# --- replay ---------------------------------------------------------------------------------------------------------


async def a_dead_task(world: World) -> Task:
    """Its 10 tokens are spent; gw_a holds what another attempt needs, as number 2."""
    await reserved(world)
    claim = await claimed(world)
    await world.queue.fail(claim, "boom", retry_in_s=None, usage=used(claim))
    await world.lease("gw_a", *(ask(c, n) for c, n in ONE))
    return await world.queue.get(claim.task.id)


async def test_a_replayed_task_holds_its_new_reservation(world: World) -> None:
    dead = await a_dead_task(world)
    replayed = await world.queue.retry(dead.id, hold=hold(2, *ONE))
    assert (replayed.state, replayed.replays) == (State.QUEUED, 1)
    assert await sums(world) == [(10, 0, 40), (2, 0, 9), (1, 0, 1), (0, 0, 1)]
    claim = await claim_one(world.queue)
    await world.queue.complete(claim, {}, usage=used(claim))
    assert await sums(world) == [(20, 0, 0), (4, 0, 0), (2, 0, 0), (0, 0, 0)]
    # What the life before had used is in its own record, and only there.
    assert await all_usage(world.queue) == [replace(used(claim), id=dead.id), used(claim)]


async def test_a_new_life_begins_with_nothing_used(world: World) -> None:
    await reserved(world)
    first = await claimed(world)
    await world.queue.fail(first, "boom", retry_in_s=0, usage=used(first, cached_tokens=1))
    second = await claim_one(world.queue)
    await world.queue.fail(second, "boom", retry_in_s=None, usage=used(second))
    await world.lease("gw_a", *(ask(c, n) for c, n in ONE))
    await world.queue.retry(first.task.id, hold=hold(2, *ONE))
    third = await claim_one(world.queue)
    await world.queue.complete(third, {}, usage=used(third))
    assert await sums(world) == [(30, 0, 0), (6, 0, 0), (2, 0, 0), (0, 0, 0)]
    assert (await all_usage(world.queue))[1] == used(third)


@pytest.mark.parametrize(
    ("void", "why"),
    [
        (hold(1, *ONE), "it was settled before"),
        (hold(2, (TOKENS, 41)), f"its owner does not hold that much of {TOKENS}"),
        (hold(2, *ONE, owner="gw_x"), "its owner is unknown"),
    ],
)
async def test_a_replay_with_a_void_reservation_leaves_the_task_dead(world: World, void: Hold, why: str) -> None:
    dead = await a_dead_task(world)
    before = await sums(world)
    with pytest.raises(Conflict, match=why) as error:
        await world.queue.retry(dead.id, hold=void)
    assert error.value.code == "hold_void"
    assert await world.queue.get(dead.id) == dead
    assert [task.id for task in await world.queue.dead(MODEL)] == [dead.id]
    assert await sums(world) == before


async def test_the_same_replay_again_changes_nothing_whatever_became_of_the_first(world: World) -> None:
    """Its answer may have been lost on the way. Refused, the gateway would take the reservation for its own again."""
    dead = await a_dead_task(world)
    again = {"hold": hold(2, *ONE)}
    first = await world.queue.retry(dead.id, **again)
    assert await world.queue.retry(dead.id, **again) == first
    claim = await claim_one(world.queue)
    assert (await world.queue.retry(dead.id, **again)).state == State.RUNNING
    await world.queue.fail(claim, "boom", retry_in_s=None, usage=used(claim))
    after = await sums(world)
    assert after == [(20, 0, 0), (4, 0, 0), (2, 0, 0), (0, 0, 0)]
    found = await world.queue.retry(dead.id, **again)
    assert (found.state, found.replays) == (State.DEAD, 1)
    assert await sums(world) == after
    await world.lease("gw_a", *(ask(c, n) for c, n in ONE))
    assert (await world.queue.retry(dead.id, hold=hold(3, *ONE))).replays == 2
    assert await sums(world) == [(20, 0, 40), (4, 0, 9), (2, 0, 1), (0, 0, 1)]


async def test_a_replay_is_let_in_with_a_bound_of_its_own(world: World) -> None:
    """Prices may have changed since it was submitted: what a lost attempt costs is what is reserved for it now."""
    await reserved(world)
    claim = await claimed(world, bound=TokenBound(28, 12, 99), max_attempts=1)
    await world.queue.fail(claim, "boom", retry_in_s=None, usage=used(claim))
    await world.lease("gw_a", *(ask(c, n) for c, n in ONE))
    replayed = await world.queue.retry(claim.task.id, hold=hold(2, *ONE), bound=BOUND)
    assert replayed.bound == BOUND
    assert [task.bound for task in await world.queue.list()] == [BOUND]
    assert (await claim_one(world.queue, lease_s=0)).task.bound == BOUND
    await world.queue.reclaim(MODEL)
    assert await sums(world) == [(50, 0, 0), (11, 0, 0), (2, 0, 0), (0, 0, 0)]
    record = (await all_usage(world.queue))[1]
    assert (record.prompt_tokens, record.completion_tokens, record.nano_usd) == (28, 12, 9)

    await world.queue.retry(claim.task.id)
    assert (await claim_one(world.queue)).task.bound == BOUND  # as before


async def test_a_replay_of_what_is_not_dead_takes_no_reservation(world: World) -> None:
    await reserved(world)
    task = await world.queue.submit(a_task())
    before = await sums(world)
    with pytest.raises(Conflict, match="only a dead task can be replayed"):
        await world.queue.retry(task.id, hold=hold(1, *ONE))
    assert await sums(world) == before


async def test_a_replay_without_a_reservation_holds_nothing_and_spends_what_it_came_to(world: World) -> None:
    dead = await a_dead_task(world)
    await world.queue.retry(dead.id)
    claim = await claim_one(world.queue)
    await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim))
    again = await claim_one(world.queue)
    assert await sums(world) == [(10, 40, 0), (2, 9, 0), (1, 1, 0), (0, 1, 0)]
    await world.queue.complete(again, {}, usage=used(claim))
    assert await sums(world) == [(30, 40, 0), (6, 9, 0), (2, 1, 0), (0, 1, 0)]


# --- numbers and texts ----------------------------------------------------------------------------------------------


async def test_amounts_of_a_task_are_exact_up_to_the_most_that_a_counter_holds(world: World) -> None:
    await world.open("gw_a", limits=[DOLLARS])
    await world.lease("gw_a", ask(DOLLARS, MOST - 10, limit=MOST))
    await world.queue.submit(a_task(), hold=hold(1, (DOLLARS, MOST - 10)))
    claim = await claim_one(world.queue)
    await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim, nano_usd=9))
    assert await world.sums(DOLLARS) == (0, 0, MOST - 1)
    last = await claim_one(world.queue)
    await world.queue.complete(last, {}, usage=used(last, nano_usd=MOST - 11))
    assert await world.sums(DOLLARS) == (MOST - 2, 0, 0)
    [record] = await all_usage(world.queue)
    assert record.nano_usd == MOST - 2


async def test_what_no_counter_can_hold_does_not_stop_a_task_from_ending(world: World) -> None:
    await reserved(world)
    claim = await claimed(world)
    assert await world.queue.complete(claim, {"ok": 1}, usage=used(claim, 10**30, 0, 10**25))
    assert (await world.queue.get(claim.task.id)).state == State.DONE
    assert await sums(world) == [(MOST, 0, 0), (MOST, 0, 0), (1, 0, 0), (0, 0, 0)]


WORDS = ['"nano_usd":999', '","completion_tokens":999,"x":"', "\\", '"status":"done"', "ü", "%1"]


@pytest.mark.parametrize("word", WORDS)
async def test_what_callers_write_is_not_taken_for_numbers(world: World, word: str) -> None:
    """The scripts read and change records as text."""
    await reserved(world, tokens=59)
    claim = await claimed(world)
    texts: dict[str, Any] = {"tenant": word, "session": word, "route": word, "id": word}
    await world.queue.fail(claim, "boom", retry_in_s=0, usage=used(claim, **texts))
    assert (await sums(world))[0] == (0, 0, 50)
    last = await claim_one(world.queue)
    await world.queue.fail(last, "boom", retry_in_s=0, usage=used(last, status="done", **texts))
    assert (await world.queue.get(claim.task.id)).state == State.DEAD
    assert await all_usage(world.queue) == [used(last, 6, 14, 4, status="failed", **texts)]
    assert (await sums(world))[0] == (20, 0, 0)


async def test_a_record_that_nobody_handed_in_says_whose_it_is(world: World, clock: ManualClock) -> None:
    """The ledger's sums of a team are what its budget begins from when Redis has lost it."""
    await reserved(world)
    task = await submitted(world, team="red", session="s1", run="r1", max_attempts=1)
    assert (await world.queue.get(task.id)).team == task.team == "red"
    claim = await claim_one(world.queue, lease_s=0)
    assert claim.task.team == "red"
    await clock.advance(1)
    await world.queue.reclaim(MODEL)
    assert await all_usage(world.queue) == [
        UsageRecord(
            id=task.id,
            kind="task",
            status="failed",
            tenant="acme",
            key_id="key_1",
            team="red",
            session="s1",
            run="r1",
            model=MODEL,
            prompt_tokens=0,
            completion_tokens=40,
            nano_usd=9,
            started_at=START,
            ended_at=START + 1,
            attempts=1,
            reason="lease expired: worker w1 did not renew it, so it is taken for dead",
        )
    ]
