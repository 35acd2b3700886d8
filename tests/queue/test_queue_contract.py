"""What `interface.Queue` promises, held against both implementations."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from queue_builders import MODEL, a_record, a_task, all_usage, claim_one, partial_of, usage_of

from stoker.base.errors import Conflict, InvalidInput, NotFound
from stoker.base.ids import ModelName, TaskId
from stoker.queue import Chunk, Claim, Depth, LeaseState, Queue, QueueSettings, State
from stoker.queue.tasks import CHUNKS_KEPT_S
from stoker.testing import ManualClock

SOON_S = 5.0  # a deadline for what happens at once, never a time that is waited for

# --- submit, get ----------------------------------------------------------------------------------------------------


async def test_a_submitted_task_waits_and_keeps_what_it_was_given(queue: Queue, clock: ManualClock) -> None:
    given = {
        "team": "red",
        "route": "auto",
        "priority": "batch",
        "weight": 3,
        "origin": "o",
        "callback": "https://h.example",
    }
    submitted = await queue.submit(a_task(session="s1", run="r1", stream=True, timeout_s=60, max_attempts=2, **given))
    found = await queue.get(submitted.id)
    assert {name: getattr(submitted, name) for name in given} == given
    assert found == submitted
    assert found.state == State.QUEUED
    assert found.body == {"messages": [{"role": "user", "content": "héllo"}]}
    assert (found.tenant, found.key_id, found.session, found.run) == ("acme", "key_1", "s1", "r1")
    assert (found.stream, found.timeout_s, found.max_attempts) == (True, 60, 2)
    assert (found.submitted_at, found.deadline) == (clock.now(), clock.now() + 60)
    assert (found.attempts, found.result, found.error, found.usage_id) == ((), None, None, found.id)


async def test_submitting_the_same_id_again_changes_nothing(queue: Queue) -> None:
    first = await queue.submit(a_task(), task_id=TaskId("task_mine"))
    again = await queue.submit(a_task(body={"other": True}), task_id=TaskId("task_mine"))
    assert again == first
    assert await queue.depth(MODEL) == Depth(lag=1, pending=0, delayed=0, dead=0)


async def test_an_unknown_task_is_not_found(queue: Queue) -> None:
    missing = TaskId("task_none")
    with pytest.raises(NotFound, match="task_none"):
        await queue.get(missing)
    with pytest.raises(NotFound):
        await queue.cancel(missing)
    with pytest.raises(NotFound):
        await queue.retry(missing)
    with pytest.raises(NotFound):
        await queue.wait(missing, timeout_s=0)
    with pytest.raises(NotFound):
        await anext(aiter(queue.chunks(missing)))


async def test_a_body_that_is_too_large_or_no_json_is_refused(queue: Queue) -> None:
    with pytest.raises(InvalidInput, match=r"the body has 8,388,\d\d\d bytes as JSON; at most 8,388,608") as too_large:
        await queue.submit(a_task(body={"a": "x" * (8 * 1024 * 1024)}))
    assert too_large.value.code == "body_too_large"
    with pytest.raises(InvalidInput) as no_json:
        await queue.submit(a_task(body={"a": float("nan")}))
    assert no_json.value.code == "body_not_json"
    assert await queue.depth(MODEL) == Depth(0, 0, 0, 0)


# --- claim ----------------------------------------------------------------------------------------------------------


async def test_tasks_are_claimed_oldest_first_and_by_one_worker_each(queue: Queue) -> None:
    ids = [(await queue.submit(a_task(body={"n": n}))).id for n in range(5)]
    first = await queue.claim(MODEL, "w1", count=2)
    second = await queue.claim(MODEL, "w2", count=10)
    assert [claim.task.id for claim in first] == ids[:2]
    assert [claim.task.id for claim in second] == ids[2:]
    assert await queue.claim(MODEL, "w1", count=1) == []


async def test_a_claim_says_all_that_a_worker_needs(queue: Queue, clock: ManualClock) -> None:
    submitted = await queue.submit(a_task(timeout_s=60))
    await clock.advance(10)
    claim = await claim_one(queue, "w1", lease_s=30)
    assert (claim.worker, claim.attempt, claim.token) == ("w1", 1, 1)
    assert claim.lease_expires_at == clock.now() + 30
    assert claim.time_left_s == pytest.approx(50)
    assert claim.task.id == submitted.id
    assert claim.task.body == submitted.body
    assert (claim.task.state, claim.task.worker, claim.task.started_at) == (State.RUNNING, "w1", clock.now())


async def test_a_claim_waits_for_a_task_and_returns_at_once_when_it_comes(queue: Queue) -> None:
    waiting = asyncio.create_task(queue.claim(MODEL, "w1", wait_s=30))
    assert (await asyncio.wait({waiting}, timeout=0.05))[1]  # nothing there: it waits
    submitted = await queue.submit(a_task())
    claims = await asyncio.wait_for(waiting, SOON_S)
    assert [claim.task.id for claim in claims] == [submitted.id]


async def test_a_claim_ends_empty_when_its_wait_is_over(queue: Queue) -> None:
    assert await asyncio.wait_for(queue.claim(MODEL, "w1", wait_s=0.02), SOON_S) == []


async def test_each_of_several_waiting_workers_gets_one_of_several_tasks(queue: Queue) -> None:
    waiting = [asyncio.create_task(queue.claim(MODEL, f"w{n}", count=1, wait_s=30)) for n in range(4)]
    await asyncio.wait(waiting, timeout=0.05)
    ids = {(await queue.submit(a_task())).id for _ in range(4)}
    claimed = [claim for claims in await asyncio.wait_for(asyncio.gather(*waiting), SOON_S) for claim in claims]
    assert {claim.task.id for claim in claimed} == ids
    assert {claim.worker for claim in claimed} == {"w0", "w1", "w2", "w3"}


async def test_models_do_not_see_each_others_tasks(queue: Queue) -> None:
    await queue.submit(a_task(model=ModelName("code")))
    assert await queue.claim(MODEL, "w1") == []
    assert await queue.depth(ModelName("code")) == Depth(1, 0, 0, 0)


async def test_a_task_past_its_deadline_is_not_started(queue: Queue, clock: ManualClock) -> None:
    late = await queue.submit(a_task(timeout_s=5))
    in_time = await queue.submit(a_task(timeout_s=50))
    await clock.advance(5)
    assert [claim.task.id for claim in await queue.claim(MODEL, "w1", count=1)] == [in_time.id]
    found = await queue.get(late.id)
    assert found.state == State.DEAD
    assert found.error is not None
    assert found.error["code"] == "deadline_exceeded"
    assert [(record.id, record.status) for record in await all_usage(queue)] == [(late.id, "failed")]


# --- complete -------------------------------------------------------------------------------------------------------


async def test_complete_stores_result_end_and_usage_in_one_step(queue: Queue, clock: ManualClock) -> None:
    submitted = await queue.submit(a_task())
    claim = await claim_one(queue)
    await clock.advance(3)
    assert await queue.complete(claim, {"answer": "ü"}, usage=usage_of(claim))
    found = await queue.get(submitted.id)
    assert (found.state, found.result, found.ended_at) == (State.DONE, {"answer": "ü"}, clock.now())
    assert await all_usage(queue) == [usage_of(claim)]
    assert await queue.depth(MODEL) == Depth(0, 0, 0, 0)


async def test_completing_again_with_the_same_claim_has_no_second_effect(queue: Queue) -> None:
    """The first answer may have been lost on the way: the caller makes the call again and is told that it is done."""
    await queue.submit(a_task())
    claim = await claim_one(queue)
    assert await queue.complete(claim, {"n": 1}, usage=usage_of(claim))
    assert await queue.complete(claim, {"n": 2}, usage=usage_of(claim))
    assert (await queue.get(claim.task.id)).result == {"n": 1}
    assert len(await all_usage(queue)) == 1


async def test_without_a_record_from_the_worker_an_empty_one_is_written(queue: Queue, clock: ManualClock) -> None:
    submitted = await queue.submit(a_task(session="s1"))
    claim = await claim_one(queue)
    await queue.complete(claim, {})
    [record] = await all_usage(queue)
    assert (record.id, record.kind, record.status, record.session) == (submitted.id, "task", "done", "s1")
    assert (record.prompt_tokens, record.completion_tokens, record.attempts) == (0, 0, 1)
    assert (record.started_at, record.ended_at) == (clock.now(), clock.now())


async def test_a_result_that_is_too_large_is_refused_and_the_task_stays_claimed(queue: Queue) -> None:
    await queue.submit(a_task())
    claim = await claim_one(queue)
    with pytest.raises(InvalidInput) as refused:
        await queue.complete(claim, {"a": "x" * (16 * 1024 * 1024)})
    assert refused.value.code == "result_too_large"
    assert await queue.extend(claim, lease_s=1) == LeaseState.HELD


async def test_a_result_is_kept_for_its_time_and_then_forgotten(queue: Queue, clock: ManualClock) -> None:
    """In Redis this time is Redis' own, so there the test is that a time is set (test_redis_queue.py)."""
    await queue.submit(a_task())
    claim = await claim_one(queue)
    await queue.complete(claim, {})
    await clock.advance(86_399)
    assert (await queue.get(claim.task.id)).state == State.DONE


# --- leases and fencing ---------------------------------------------------------------------------------------------


async def test_those_whose_leases_expired_first_go_back_first(queue: Queue, clock: ManualClock) -> None:
    for n in (1, 2):
        await queue.submit(a_task(), task_id=TaskId(f"task_{n}"))
    await queue.claim(MODEL, "w1", lease_s=3.0)
    await queue.claim(MODEL, "w1", lease_s=2.0)
    await clock.advance(5)
    assert await queue.reclaim(MODEL) == 2
    assert [claim.task.id for claim in await queue.claim(MODEL, "w2", count=2)] == ["task_2", "task_1"]


async def test_an_expired_lease_goes_back_as_a_failed_attempt(queue: Queue, clock: ManualClock) -> None:
    submitted = await queue.submit(a_task())
    await claim_one(queue, "w1", lease_s=30)
    await clock.advance(29.5)
    assert await queue.reclaim(MODEL) == 0
    await clock.advance(0.5)
    assert await queue.reclaim(MODEL) == 1
    assert await queue.reclaim(MODEL) == 0
    assert await queue.depth(MODEL) == Depth(lag=1, pending=0, delayed=0, dead=0)
    second = await claim_one(queue, "w2")
    assert (second.task.id, second.attempt, second.token) == (submitted.id, 2, 2)
    [attempt] = second.task.attempts
    assert (attempt.number, attempt.worker, attempt.ended_at - attempt.started_at) == (1, "w1", 30)
    assert attempt.reason == "lease expired: worker w1 did not renew it, so it is taken for dead"


async def assert_powerless(queue: Queue, old: Claim) -> None:
    before = await queue.get(old.task.id)
    assert await queue.extend(old, lease_s=10) == LeaseState.LOST
    assert await queue.publish(old, [b"late"], first=0) is False
    assert await queue.complete(old, {"late": True}, usage=usage_of(old)) is False
    assert await queue.fail(old, "late", retry_in_s=None) is False
    assert await queue.fail(old, "late", retry_in_s=1) is False
    assert await queue.release(old) is False
    assert await queue.get(old.task.id) == before


async def test_a_worker_that_lost_its_lease_can_change_nothing(queue: Queue) -> None:
    await queue.submit(a_task(stream=True))
    old = await claim_one(queue, "w1", lease_s=0)
    await queue.reclaim(MODEL)
    await assert_powerless(queue, old)  # nobody has it
    newer = await claim_one(queue, "w2")
    await assert_powerless(queue, old)  # somebody else has it
    assert await queue.complete(newer, {"good": True}, usage=usage_of(newer, 5))
    await assert_powerless(queue, old)  # it has ended
    assert (await queue.get(old.task.id)).result == {"good": True}
    assert await all_usage(queue) == [usage_of(newer, 5)]


async def test_extending_a_lease_holds_it(queue: Queue, clock: ManualClock) -> None:
    await queue.submit(a_task())
    claim = await claim_one(queue, lease_s=30)
    await clock.advance(20)
    assert await queue.extend(claim, lease_s=30) == LeaseState.HELD
    await clock.advance(20)
    assert await queue.reclaim(MODEL) == 0
    await clock.advance(10)
    assert await queue.reclaim(MODEL) == 1


async def test_a_task_that_kills_its_workers_ends_dead_with_every_reason(queue: Queue) -> None:
    submitted = await queue.submit(a_task(max_attempts=3))
    for n in range(3):
        await claim_one(queue, f"w{n}", lease_s=0)
        assert await queue.reclaim(MODEL) == 1
    found = await queue.get(submitted.id)
    assert found.state == State.DEAD
    assert [(a.number, a.worker) for a in found.attempts] == [(1, "w0"), (2, "w1"), (3, "w2")]
    assert found.error is not None
    assert found.error["code"] == "lease_expired"
    assert await queue.depth(MODEL) == Depth(lag=0, pending=0, delayed=0, dead=1)
    [record] = await all_usage(queue)
    assert (record.id, record.status, record.attempts) == (submitted.id, "failed", 3)


async def test_who_caused_a_task_is_known_until_it_is_dead_and_when_it_is_replayed(queue: Queue) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01 vendor=1"
    submitted = await queue.submit(a_task(max_attempts=2, trace=trace))
    first = await claim_one(queue, "w1", lease_s=0)
    assert await queue.reclaim(MODEL) == 1
    second = await claim_one(queue, "w2")
    assert await queue.fail(second, "boom", retry_in_s=None)
    [letter] = await queue.dead(MODEL)
    replayed = await queue.retry(submitted.id)
    third = await claim_one(queue, "w3")
    seen = (submitted, first.task, second.task, letter, await queue.get(submitted.id), replayed, third.task)
    assert [task.trace for task in seen] == [trace] * 7
    assert [claim.attempt for claim in (first, second, third)] == [1, 2, 1]

    await queue.submit(a_task())
    assert (await claim_one(queue)).task.trace is None


# --- fail, release --------------------------------------------------------------------------------------------------


async def test_a_failed_attempt_waits_for_its_delay_then_runs_again(queue: Queue, clock: ManualClock) -> None:
    submitted = await queue.submit(a_task())
    claim = await claim_one(queue)
    assert await queue.fail(claim, "engine said 503", retry_in_s=4, usage=usage_of(claim))
    waiting = await queue.get(submitted.id)
    assert (waiting.state, waiting.due_at) == (State.RETRYING, clock.now() + 4)
    assert await queue.depth(MODEL) == Depth(lag=0, pending=0, delayed=1, dead=0)
    await clock.advance(3.9)
    assert await queue.reclaim(MODEL) == 0
    await clock.advance(0.1)
    assert await queue.reclaim(MODEL) == 1
    assert await queue.reclaim(MODEL) == 0
    assert await queue.depth(MODEL) == Depth(lag=1, pending=0, delayed=0, dead=0)
    assert (await queue.get(submitted.id)).due_at is None
    again = await claim_one(queue)
    assert again.attempt == 2
    assert [attempt.reason for attempt in again.task.attempts] == ["engine said 503"]
    assert await all_usage(queue) == []  # a task leaves one record, when it ends


async def test_an_attempt_may_be_repeated_at_once(queue: Queue) -> None:
    await queue.submit(a_task())
    assert await queue.fail(await claim_one(queue), "boom", retry_in_s=0)
    assert (await claim_one(queue)).attempt == 2


async def test_failing_again_with_the_same_claim_has_no_second_effect(queue: Queue) -> None:
    await queue.submit(a_task())
    claim = await claim_one(queue)
    assert await queue.fail(claim, "boom", retry_in_s=5)
    assert await queue.fail(claim, "boom", retry_in_s=5)
    assert await queue.complete(claim, {}) is False
    assert len((await queue.get(claim.task.id)).attempts) == 1
    assert await queue.depth(MODEL) == Depth(0, 0, 1, 0)


async def test_failing_for_good_goes_to_the_dead_letters_with_cause_and_usage(queue: Queue) -> None:
    submitted = await queue.submit(a_task())
    claim = await claim_one(queue)
    error = {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}
    assert await queue.fail(claim, "engine said 404", retry_in_s=None, error=error, usage=usage_of(claim, 0))
    found = await queue.get(submitted.id)
    assert (found.state, found.error, found.result) == (State.DEAD, error, None)
    [letter] = await queue.dead(MODEL)
    assert (letter.id, letter.attempts[0].reason, letter.body) == (submitted.id, "engine said 404", {})
    assert await all_usage(queue) == [usage_of(claim, 0)]


async def test_the_last_attempt_fails_for_good_whatever_was_asked(queue: Queue) -> None:
    await queue.submit(a_task(max_attempts=1))
    claim = await claim_one(queue)
    assert await queue.fail(claim, "boom", retry_in_s=5)
    found = await queue.get(claim.task.id)
    assert found.state == State.DEAD
    assert found.error == {"message": "boom", "type": "server_error", "code": "task_failed"}


async def test_no_retry_is_planned_past_the_deadline(queue: Queue) -> None:
    await queue.submit(a_task(timeout_s=10))
    claim = await claim_one(queue)
    assert await queue.fail(claim, "boom", retry_in_s=10)
    found = await queue.get(claim.task.id)
    assert found.state == State.DEAD
    assert found.error is not None
    assert found.error["code"] == "deadline_exceeded"
    assert [attempt.reason for attempt in found.attempts] == ["boom"]


async def test_a_very_long_reason_is_cut(queue: Queue) -> None:
    await queue.submit(a_task())
    claim = await claim_one(queue)
    await queue.fail(claim, "line\n" * 10_000, retry_in_s=0)
    [attempt] = (await queue.get(claim.task.id)).attempts
    assert len(attempt.reason) == 2_000
    assert attempt.reason.startswith("line\nline\n")


async def test_a_task_handed_back_is_no_failed_attempt(queue: Queue) -> None:
    await queue.submit(a_task(max_attempts=1))
    first = await claim_one(queue, "w1")
    assert await queue.release(first)
    second = await claim_one(queue, "w2")
    assert (second.attempt, second.token, second.task.attempts) == (1, 2, ())
    assert await queue.complete(second, {})
    assert (await queue.get(first.task.id)).state == State.DONE


# --- dead letters ---------------------------------------------------------------------------------------------------


async def test_a_dead_task_can_be_replayed_with_all_its_attempts(queue: Queue, clock: ManualClock) -> None:
    submitted = await queue.submit(a_task(max_attempts=2, timeout_s=60))
    claim = await claim_one(queue)
    await queue.fail(claim, "boom", retry_in_s=None)
    await clock.advance(100)
    replayed = await queue.retry(submitted.id)
    assert (replayed.state, replayed.attempts, replayed.error, replayed.replays) == (State.QUEUED, (), None, 1)
    assert replayed.deadline == clock.now() + 60
    assert await queue.depth(MODEL) == Depth(lag=1, pending=0, delayed=0, dead=0)
    again = await claim_one(queue)
    assert (again.attempt, again.token) == (1, 2)
    assert again.task.usage_id == f"{submitted.id}.1"
    await queue.complete(again, {"ok": 1}, usage=usage_of(again))
    assert (await queue.get(submitted.id)).state == State.DONE
    assert [record.id for record in await all_usage(queue)] == [submitted.id, f"{submitted.id}.1"]


async def test_only_a_dead_task_can_be_replayed(queue: Queue) -> None:
    submitted = await queue.submit(a_task())
    with pytest.raises(Conflict, match=f"task {submitted.id} is queued; only a dead task can be replayed"):
        await queue.retry(submitted.id)


# --- cancel ---------------------------------------------------------------------------------------------------------


async def test_a_waiting_task_is_cancelled_at_once(queue: Queue) -> None:
    ids = [(await queue.submit(a_task())).id for _ in range(3)]
    cancelled = await queue.cancel(ids[1])
    assert cancelled.state == State.CANCELLED
    assert await queue.depth(MODEL) == Depth(lag=2, pending=0, delayed=0, dead=0)
    assert [claim.task.id for claim in await queue.claim(MODEL, "w1", count=5)] == [ids[0], ids[2]]
    [record] = await all_usage(queue)
    assert (record.id, record.status, record.attempts) == (ids[1], "cancelled", 0)


async def test_a_task_that_waits_for_a_retry_is_cancelled_at_once(queue: Queue, clock: ManualClock) -> None:
    await queue.submit(a_task())
    claim = await claim_one(queue)
    await queue.fail(claim, "boom", retry_in_s=5)
    assert (await queue.cancel(claim.task.id)).state == State.CANCELLED
    await clock.advance(10)
    assert await queue.reclaim(MODEL) == 0
    assert await queue.depth(MODEL) == Depth(0, 0, 0, 0)


@pytest.mark.parametrize("ending", ["complete", "fail", "fail for good", "release", "lease"])
async def test_a_running_task_ends_as_cancelled_however_its_worker_ends_it(queue: Queue, ending: str) -> None:
    submitted = await queue.submit(a_task())
    claim = await claim_one(queue)
    asked = await queue.cancel(submitted.id)
    assert (asked.state, asked.cancel_requested) == (State.RUNNING, True)
    assert await queue.extend(claim, lease_s=0) == LeaseState.CANCELLED
    usage = usage_of(claim, 4)
    if ending == "complete":
        assert await queue.complete(claim, {"half": 1}, usage=usage)
    elif ending == "fail":
        assert await queue.fail(claim, "stopped", retry_in_s=1, usage=usage)
    elif ending == "fail for good":
        assert await queue.fail(claim, "stopped", retry_in_s=None, usage=usage)
    elif ending == "release":
        assert await queue.release(claim, usage=usage)
    else:
        assert await queue.reclaim(MODEL) == 1
    found = await queue.get(submitted.id)
    assert (found.state, found.result, found.error) == (State.CANCELLED, None, None)
    [record] = await all_usage(queue)
    assert (record.id, record.completion_tokens) == (submitted.id, 0 if ending == "lease" else 4)
    assert await queue.depth(MODEL) == Depth(0, 0, 0, 0)


async def test_the_worker_is_told_of_a_cancellation_at_once(queue: Queue) -> None:
    await queue.submit(a_task())
    claim = await claim_one(queue)
    told = asyncio.create_task(queue.cancelled(claim))
    assert (await asyncio.wait({told}, timeout=0.05))[1]  # nobody asked: it waits
    await queue.cancel(claim.task.id)
    await asyncio.wait_for(told, SOON_S)


async def test_the_worker_is_told_when_it_lost_its_lease(queue: Queue) -> None:
    await queue.submit(a_task())
    claim = await claim_one(queue, lease_s=0)
    told = asyncio.create_task(queue.cancelled(claim))
    assert (await asyncio.wait({told}, timeout=0.05))[1]
    await queue.reclaim(MODEL)
    await asyncio.wait_for(told, SOON_S)


async def test_cancelling_what_has_ended_changes_nothing(queue: Queue) -> None:
    await queue.submit(a_task())
    claim = await claim_one(queue)
    await queue.complete(claim, {"ok": 1})
    assert await queue.cancel(claim.task.id) == await queue.get(claim.task.id)
    assert (await queue.get(claim.task.id)).state == State.DONE


# --- an answer that is kept elsewhere -------------------------------------------------------------------------------


async def test_what_its_caller_has_kept_goes_and_is_not_begun_anew(queue: Queue, clock: ManualClock) -> None:
    await queue.submit(a_task(stream=True), task_id=TaskId("task_mine"))
    claim = await claim_one(queue)
    await queue.publish(claim, [b"one"], first=0)
    await queue.complete(claim, {"ok": 1})
    before = await queue.get(claim.task.id)
    for _ in range(2):
        await queue.drop_answer(claim.task.id)
        left = await queue.get(claim.task.id)
        assert left == replace(before, body={}, result=None)
        assert await queue.newest_chunk(claim.task.id) is None
    assert (await queue.submit(a_task(), task_id=TaskId("task_mine"))).state == State.DONE
    assert await queue.depth(MODEL) == Depth(0, 0, 0, 0)
    assert len(await all_usage(queue)) == 1


async def test_a_dead_letter_that_its_caller_has_read_is_none_any_more(queue: Queue) -> None:
    await queue.submit(a_task())
    claim = await claim_one(queue)
    await queue.fail(claim, "no", retry_in_s=None)
    await queue.drop_answer(claim.task.id)
    assert await queue.dead(MODEL) == []
    assert await queue.depth(MODEL) == Depth(0, 0, 0, 0)
    left = await queue.get(claim.task.id)
    assert (left.state, left.error, left.body) == (State.CANCELLED, None, {})
    assert [task.id for task in await queue.list(state=State.CANCELLED)] == [left.id]
    with pytest.raises(Conflict):
        await queue.retry(left.id)


async def test_what_has_not_ended_is_left_alone(queue: Queue) -> None:
    await queue.drop_answer(TaskId("task_nobody"))
    submitted = await queue.submit(a_task())
    await queue.drop_answer(submitted.id)
    assert await queue.get(submitted.id) == submitted
    claim = await claim_one(queue)
    await queue.drop_answer(submitted.id)
    assert (await queue.get(submitted.id)).body == submitted.body
    assert await queue.complete(claim, {"ok": 1})
    assert (await queue.get(submitted.id)).result == {"ok": 1}


# --- wait -----------------------------------------------------------------------------------------------------------


async def test_all_waiters_have_the_result_when_it_is_stored(queue: Queue) -> None:
    await queue.submit(a_task())
    claim = await claim_one(queue)
    waiters = [asyncio.create_task(queue.wait(claim.task.id, timeout_s=30)) for _ in range(50)]
    assert len((await asyncio.wait(waiters, timeout=0.05))[1]) == 50
    await queue.complete(claim, {"ok": 1})
    ended = await asyncio.wait_for(asyncio.gather(*waiters), SOON_S)
    assert {(task.state, str(task.result)) for task in ended} == {(State.DONE, "{'ok': 1}")}


async def test_waiting_for_what_has_ended_returns_at_once(queue: Queue) -> None:
    submitted = await queue.submit(a_task())
    await queue.cancel(submitted.id)
    assert (await asyncio.wait_for(queue.wait(submitted.id, timeout_s=30), SOON_S)).state == State.CANCELLED


async def test_a_wait_that_is_over_returns_the_task_as_it_is(queue: Queue) -> None:
    submitted = await queue.submit(a_task())
    assert (await queue.wait(submitted.id, timeout_s=0.02)).state == State.QUEUED


async def test_a_wait_ends_for_the_dead_too(queue: Queue) -> None:
    await queue.submit(a_task())
    claim = await claim_one(queue)
    waiting = asyncio.create_task(queue.wait(claim.task.id, timeout_s=30))
    await asyncio.wait({waiting}, timeout=0.02)
    await queue.fail(claim, "boom", retry_in_s=None)
    assert (await asyncio.wait_for(waiting, SOON_S)).state == State.DEAD


# --- chunks ---------------------------------------------------------------------------------------------------------


async def read_all(queue: Queue, task_id: TaskId, after: str | None = None) -> Sequence[Chunk]:
    return [chunk async for chunk in queue.chunks(task_id, after=after)]


async def test_a_reader_sees_every_chunk_once_whenever_it_comes(queue: Queue) -> None:
    await queue.submit(a_task(stream=True))
    claim = await claim_one(queue)
    early = asyncio.create_task(read_all(queue, claim.task.id))
    readers = [early]
    for n in range(20):
        await queue.publish(claim, [f"{n}a".encode(), f"{n}b".encode()], first=2 * n)
        readers.append(asyncio.create_task(read_all(queue, claim.task.id)))
    await queue.complete(claim, {})
    readers.append(asyncio.create_task(read_all(queue, claim.task.id)))
    expected = [f"{n}{letter}".encode() for n in range(20) for letter in "ab"]
    for chunks in await asyncio.wait_for(asyncio.gather(*readers), SOON_S):
        assert [chunk.data for chunk in chunks] == expected
        assert {chunk.token for chunk in chunks} == {1}


async def test_a_reader_gets_a_chunk_while_the_task_runs(queue: Queue) -> None:
    await queue.submit(a_task(stream=True))
    claim = await claim_one(queue)
    reader = aiter(queue.chunks(claim.task.id))
    next_chunk = asyncio.ensure_future(anext(reader))
    await asyncio.wait({next_chunk}, timeout=0.05)
    await queue.publish(claim, [b"one"], first=0)
    assert (await asyncio.wait_for(next_chunk, SOON_S)).data == b"one"
    await queue.complete(claim, {})
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(reader), SOON_S)


async def test_a_reader_goes_on_after_the_cursor_it_has_seen(queue: Queue) -> None:
    await queue.submit(a_task(stream=True))
    claim = await claim_one(queue)
    await queue.publish(claim, [b"0", b"1", b"2", b"3"], first=0)
    await queue.complete(claim, {})
    everything = await read_all(queue, claim.task.id)
    assert [chunk.data for chunk in await read_all(queue, claim.task.id, everything[1].cursor)] == [b"2", b"3"]
    assert await read_all(queue, claim.task.id, everything[3].cursor) == []


async def test_publishing_again_doubles_nothing(queue: Queue) -> None:
    await queue.submit(a_task(stream=True))
    claim = await claim_one(queue)
    assert await queue.publish(claim, [b"0", b"1"], first=0)
    assert await queue.publish(claim, [b"0", b"1"], first=0)
    assert await queue.publish(claim, [b"1", b"2"], first=1)
    await queue.complete(claim, {})
    assert [chunk.data for chunk in await read_all(queue, claim.task.id)] == [b"0", b"1", b"2"]


async def test_a_new_attempt_shows_in_the_token_and_voids_what_came_before(queue: Queue) -> None:
    await queue.submit(a_task(stream=True))
    first = await claim_one(queue, "w1", lease_s=0)
    await queue.publish(first, [b"half"], first=0)
    reader = aiter(queue.chunks(first.task.id))
    assert (await anext(reader)).data == b"half"
    await queue.reclaim(MODEL)
    second = await claim_one(queue, "w2")
    await queue.publish(second, [b"anew"], first=0)
    chunk = await asyncio.wait_for(anext(reader), SOON_S)
    assert (chunk.data, chunk.token) == (b"anew", 2)
    await queue.complete(second, {})
    assert [(each.data, each.token) for each in await read_all(queue, first.task.id)] == [(b"anew", 2)]
    await reader.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_the_newest_chunk_is_that_of_the_current_attempt(queue: Queue, clock: ManualClock) -> None:
    submitted = await queue.submit(a_task(stream=True))
    assert await queue.newest_chunk(submitted.id) is None
    first = await claim_one(queue, "w1", lease_s=0)
    await queue.publish(first, [b"0", b"1"], first=0)
    assert await queue.newest_chunk(submitted.id) == "1-1"
    await queue.reclaim(MODEL)
    second = await claim_one(queue, "w2")
    assert await queue.newest_chunk(submitted.id) is None
    await queue.publish(second, [b"0"], first=0)
    await queue.complete(second, {})
    assert await queue.newest_chunk(submitted.id) == "2-0"
    assert await queue.newest_chunk(TaskId("task_unknown")) is None


async def test_what_is_kept_for_an_hour_is_there_until_then(queue: Queue, clock: ManualClock) -> None:
    submitted = await queue.submit(a_task(stream=True))
    claim = await claim_one(queue)
    await queue.publish(claim, [b"0"], first=0)
    await clock.advance(CHUNKS_KEPT_S)  # the hour begins with the end
    await queue.complete(claim, {"r": 1})
    assert [chunk.data for chunk in await read_all(queue, submitted.id)] == [b"0"]


@pytest.mark.parametrize("cursor", ["", "abc", "1", "1-", "-1-2", "1-2-3", "+", "1" * 20 + "-1"])
async def test_a_cursor_that_is_none_is_refused(queue: Queue, cursor: str) -> None:
    submitted = await queue.submit(a_task())
    with pytest.raises(InvalidInput, match="no cursor"):
        await anext(aiter(queue.chunks(submitted.id, after=cursor)))


async def test_an_answer_that_is_gone_on_with_is_one_stream(queue: Queue) -> None:
    """Handed back after two chunks, gone on with twice; who reads along is not told to begin anew."""
    await queue.submit(a_task(stream=True))
    claim = await claim_one(queue)
    reader = aiter(queue.chunks(claim.task.id))
    assert await queue.publish(claim, [b"a", b"b"], first=0)
    usage = usage_of(claim, 2)
    partial = partial_of(claim, usage, chunks=2)
    assert await queue.release(claim, usage=usage, partial=partial)
    assert not await queue.publish(claim, [b"x"], first=2)  # it is not its answer any more

    second = await claim_one(queue, "w2")
    assert (second.token, second.answer_token, second.partial) == (2, 1, partial)
    for _ in range(2):  # the same call again
        assert await queue.publish(second, [b"c"], first=2)
    used = usage_of(second, 1)
    assert await queue.fail(second, "broke off", retry_in_s=0, usage=used, partial=partial_of(second, used, chunks=3))
    third = await claim_one(queue, "w3")
    assert (third.token, third.answer_token, third.attempt) == (3, 1, 2)
    assert await queue.publish(third, [b"d"], first=3)
    assert await queue.complete(third, {})
    chunks = [chunk async for chunk in reader]
    assert chunks == [Chunk(f"1-{number}", data, 1) for number, data in enumerate([b"a", b"b", b"c", b"d"])]


@pytest.mark.parametrize("ending", ["lease", "fail", "anew"])
async def test_an_answer_that_is_not_gone_on_with_begins_another_stream(queue: Queue, ending: str) -> None:
    await queue.submit(a_task(stream=True))
    claim = await claim_one(queue)
    await queue.publish(claim, [b"a", b"b"], first=0)
    await queue.release(claim, usage=usage_of(claim), partial=partial_of(claim, usage_of(claim), chunks=2))
    second = await claim_one(queue, "w2", lease_s=0)
    await queue.publish(second, [b"c"], first=2)
    if ending == "lease":
        await queue.reclaim(MODEL)
    elif ending == "fail":
        await queue.fail(second, "boom", retry_in_s=0)
    else:
        await queue.release(second, usage=usage_of(second))
    third = await claim_one(queue, "w3")
    assert (third.partial, third.answer_token) == (None, 3)
    await queue.publish(third, [b"A"], first=0)
    await queue.complete(third, {})
    assert await read_all(queue, claim.task.id) == [Chunk("3-0", b"A", 3)]


async def test_what_an_answer_has_come_to_is_kept_up_to_the_size_of_a_result(queue: Queue) -> None:
    submitted = await queue.submit(a_task())
    for said_so_far, is_kept in (("x" * 1000, True), ("x" * QueueSettings().max_result_bytes, False)):
        claim = await claim_one(queue)
        usage = usage_of(claim, 1)
        await queue.release(claim, usage=usage, partial=partial_of(claim, usage, said=said_so_far))
        next_one = await claim_one(queue)
        assert (next_one.partial is not None) == is_kept
        await queue.release(next_one)
    assert (await queue.get(submitted.id)).state == State.QUEUED


# --- list -----------------------------------------------------------------------------------------------------------


async def test_list_finds_tasks_in_every_state(queue: Queue, clock: ManualClock) -> None:
    ids = []
    for n in range(6):
        ids.append((await queue.submit(a_task(body={"n": n}))).id)
        await clock.advance(1)
    done, dead, retrying, running = await queue.claim(MODEL, "w1", count=4)
    await queue.complete(done, {"r": 1})
    await queue.fail(dead, "boom", retry_in_s=None)
    await queue.fail(retrying, "boom", retry_in_s=5)
    await queue.cancel(ids[4])
    states = [State.DONE, State.DEAD, State.RETRYING, State.RUNNING, State.CANCELLED, State.QUEUED]
    found = await queue.list()
    assert [(task.id, task.state) for task in found] == list(zip(ids, states, strict=True))[::-1]
    assert {(str(task.body), task.result) for task in found} == {("{}", None)}
    for task_id, state in zip(ids, states, strict=True):
        assert [task.id for task in await queue.list(model=MODEL, state=state)] == [task_id]
    assert [task.id for task in await queue.list(limit=2)] == [ids[5], ids[4]]
    assert await queue.list(model=ModelName("code")) == []
    assert running.task.id == ids[3]


async def test_list_goes_over_all_models(queue: Queue) -> None:
    a = await queue.submit(a_task())
    b = await queue.submit(a_task(model=ModelName("code")))
    assert {task.id for task in await queue.list()} == {a.id, b.id}
    assert [task.id for task in await queue.list(model=ModelName("code"))] == [b.id]


# --- usage ----------------------------------------------------------------------------------------------------------


async def test_usage_is_read_once_and_gone_when_acknowledged(queue: Queue) -> None:
    for n in range(3):
        await queue.append_usage(a_record(f"req_{n}"))
    first = await queue.read_usage("ledger-1", count=2)
    assert [record.id for _, record in first] == ["req_0", "req_1"]
    assert first[0][1] == a_record("req_0")
    await queue.ack_usage([entry_id for entry_id, _ in first])
    second = await queue.read_usage("ledger-1", count=2)
    assert [record.id for _, record in second] == ["req_2"]
    await queue.ack_usage([entry_id for entry_id, _ in second])
    assert await queue.read_usage("ledger-1", redeliver_after_s=0) == []


async def test_what_a_dead_reader_did_not_acknowledge_comes_again(queue: Queue) -> None:
    await queue.append_usage(a_record("req_1"))
    await queue.append_usage(a_record("req_2"))
    assert len(await queue.read_usage("died", count=1)) == 1
    assert [r.id for _, r in await queue.read_usage("heir", redeliver_after_s=3600)] == ["req_2"]
    assert [r.id for _, r in await queue.read_usage("heir", redeliver_after_s=0)] == ["req_1", "req_2"]


async def test_reading_usage_waits_for_the_first_record(queue: Queue) -> None:
    reading = asyncio.create_task(queue.read_usage("ledger-1", wait_s=30))
    assert (await asyncio.wait({reading}, timeout=0.05))[1]
    await queue.append_usage(a_record("req_1"))
    assert [record.id for _, record in await asyncio.wait_for(reading, SOON_S)] == ["req_1"]


async def test_reading_usage_ends_empty_when_its_wait_is_over(queue: Queue) -> None:
    assert await asyncio.wait_for(queue.read_usage("ledger-1", wait_s=0.02), SOON_S) == []


async def test_acknowledging_nothing_is_no_error(queue: Queue) -> None:
    await queue.ack_usage([])


# --- what may have ended its worker -----------------------------------------------------------------------------------


async def lost(queue: Queue, times: int = 2, count: int = 1) -> None:
    """A worker takes `count` tasks and is never heard of again, so often."""
    for _ in range(times):
        assert len(await queue.claim(MODEL, "gone", count=count, lease_s=0)) == count
        assert await queue.reclaim(MODEL) == count


async def test_the_last_attempt_of_what_was_lost_runs_alone(queue: Queue) -> None:
    suspect = await queue.submit(a_task(max_attempts=3))
    await lost(queue)
    other = await queue.submit(a_task())
    assert await queue.claim(MODEL, "busy", count=4, beside=1) == []
    [claim] = await queue.claim(MODEL, "idle", count=4)
    assert (claim.task.id, claim.alone, claim.attempt) == (suspect.id, True, 3)
    [beside] = await queue.claim(MODEL, "busy", count=4, beside=1)  # what comes behind it waits no longer
    assert (beside.task.id, beside.alone) == (other.id, False)
    assert await queue.depth(MODEL) == Depth(lag=0, pending=2, delayed=0, dead=0)
    assert await queue.complete(claim, {})


async def test_nothing_is_taken_along_with_it(queue: Queue) -> None:
    first = await queue.submit(a_task(max_attempts=1))
    suspects = [await queue.submit(a_task(max_attempts=2)) for _ in range(2)]
    for claim in await queue.claim(MODEL, "gone", count=3, lease_s=0):
        if claim.task.id == first.id:
            await queue.release(claim)  # behind none of them yet: they come back later
    assert await queue.reclaim(MODEL) == 2
    taken = await queue.claim(MODEL, "w1", count=5)
    assert [claim.task.id for claim in taken] == [first.id]
    assert await queue.depth(MODEL) == Depth(lag=2, pending=1, delayed=0, dead=0)
    alone = [claim for _ in suspects for claim in await queue.claim(MODEL, "w2", count=5)]
    assert {(claim.task.id, claim.alone) for claim in alone} == {(suspect.id, True) for suspect in suspects}
    assert await queue.claim(MODEL, "w3", count=5) == []


async def test_a_single_loss_with_attempts_left_costs_no_company(queue: Queue) -> None:
    for _ in range(3):
        await queue.submit(a_task(max_attempts=3))
    await lost(queue, times=1, count=3)
    assert [claim.alone for claim in await queue.claim(MODEL, "w1", count=3)] == [False] * 3


async def test_an_engine_that_went_away_counts_as_a_loss_and_an_error_does_not(queue: Queue) -> None:
    for is_lost in (True, False):
        await queue.submit(a_task(max_attempts=2))
        assert await queue.fail(await claim_one(queue), "boom", retry_in_s=0, is_lost=is_lost)
        again = await claim_one(queue)
        assert again.alone is is_lost
        assert await queue.complete(again, {})


async def test_a_replay_begins_in_company_again(queue: Queue) -> None:
    submitted = await queue.submit(a_task(max_attempts=2))
    await lost(queue)
    assert (await queue.get(submitted.id)).state == State.DEAD
    await queue.retry(submitted.id)
    assert await queue.fail(await claim_one(queue), "boom", retry_in_s=0)
    assert (await claim_one(queue)).alone is False


async def test_a_worker_that_waits_with_nothing_is_woken_for_what_a_busy_one_may_not_take(
    queue: Queue, clock: ManualClock
) -> None:
    submitted = await queue.submit(a_task(max_attempts=2))
    assert await queue.fail(await claim_one(queue), "boom", retry_in_s=5, is_lost=True)
    busy = asyncio.create_task(queue.claim(MODEL, "busy", count=4, wait_s=20, beside=1))
    await asyncio.wait({busy}, timeout=0.1)
    idle = asyncio.create_task(queue.claim(MODEL, "idle", count=4, wait_s=20))
    await asyncio.wait({idle}, timeout=0.1)
    await clock.advance(5)
    assert await queue.reclaim(MODEL) == 1
    assert await asyncio.wait_for(busy, 10) == []  # it was rung first
    [claim] = await asyncio.wait_for(idle, 10)
    assert (claim.task.id, claim.alone) == (submitted.id, True)


async def test_news_of_other_things_reach_whoever_listens_to_them(queue: Queue) -> None:
    async with queue.listening("run_1") as rung:
        for _ in range(2):  # the first may be that of its subscription
            rung.clear()
            await queue.ring("run_1")
            await asyncio.wait_for(rung.wait(), 10)
