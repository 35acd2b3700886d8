"""Dead letters: found, dropped, sent elsewhere and taken back, as `interface.Queue` promises it, on both queues."""

from dataclasses import replace
from typing import Any

import pytest
from queue_builders import MODEL, a_task, all_usage, claim_one, usage_of
from redis import Redis

from stoker.base.errors import Conflict, InvalidInput, NotFound
from stoker.base.ids import ModelName, TaskId, TenantName
from stoker.queue import Depth, MemoryQueue, Queue, RedisQueue, State, Task, TokenBound, Which
from stoker.queue.letters import from_message, to_message
from stoker.testing import ManualClock

ROOM = 256 * 1024


async def a_letter(queue: Queue, code: str = "boom", **changes: Any) -> Task:
    task = await queue.submit(a_task(**changes))
    claim = await claim_one(queue)
    await queue.fail(
        claim, f"the engine said {code}", retry_in_s=None, error={"message": code, "code": code}, usage=usage_of(claim)
    )
    return await queue.get(task.id)


async def sent(queue: Queue, letter: Task, *, room: int = ROOM) -> Task:
    """What the forwarder does, and what comes out of the other queue later."""
    message = to_message(letter, max_bytes=room)
    assert await queue.forwarded(letter, has_body=message.has_body)
    return from_message(message.text)


# --- found ----------------------------------------------------------------------------------------------------------


async def test_letters_come_in_pages_those_that_died_last_first(queue: Queue, clock: ManualClock) -> None:
    letters = []
    for _ in range(5):
        letters.append((await a_letter(queue)).id)
        await clock.advance(1)
    pages, after = [], None
    while True:
        page = await queue.letters(MODEL, after=after, limit=2)
        pages.append([task.id for task in page.tasks])
        after = page.next
        if after is None:
            break
    assert pages == [[letters[4], letters[3]], [letters[2], letters[1]], [letters[0]]]
    assert [task.body for task in page.tasks] == [{}]


async def test_a_page_that_holds_the_last_of_them_has_no_next_one(queue: Queue) -> None:
    await a_letter(queue)
    await a_letter(queue)
    assert (await queue.letters(MODEL, limit=2)).next is None


async def test_letters_are_found_by_tenant_reason_and_time(queue: Queue, clock: ManualClock) -> None:
    await a_letter(queue, "early", tenant=TenantName("acme"))
    await clock.advance(10)
    middle = clock.now()
    await a_letter(queue, "late", tenant=TenantName("acme"))
    await a_letter(queue, "late", tenant=TenantName("beta"))

    async def found(**which: Any) -> list[tuple[str, str]]:
        page = await queue.letters(MODEL, which=Which(**which))
        return [(task.tenant, str((task.error or {})["code"])) for task in page.tasks]

    assert await found() == [("beta", "late"), ("acme", "late"), ("acme", "early")]
    assert await found(tenant="acme") == [("acme", "late"), ("acme", "early")]
    assert await found(code="late") == [("beta", "late"), ("acme", "late")]
    assert await found(died_before=middle) == [("acme", "early")]
    assert await found(died_after=middle) == [("beta", "late"), ("acme", "late")]
    assert await found(tenant="beta", code="early") == []
    assert (await queue.letters(ModelName("other"))).tasks == []


async def test_a_cursor_that_is_none_is_refused(queue: Queue) -> None:
    with pytest.raises(InvalidInput, match="is no cursor"):
        await queue.letters(MODEL, after="yesterday")


# --- dropped --------------------------------------------------------------------------------------------------------


async def test_a_dropped_letter_is_gone_and_the_log_says_who_and_why(queue: Queue, clock: ManualClock) -> None:
    first, letter = await a_letter(queue, "kept"), await a_letter(queue, "bad_prompt")
    before = await all_usage(queue)
    await clock.advance(5)
    dropped = await queue.drop(letter.id, by="key_admin", why="a test of ours")

    assert (dropped.state, dropped.error, len(dropped.attempts)) == (State.DROPPED, letter.error, 1)
    assert [task.id for task in (await queue.letters(MODEL)).tasks] == [first.id]
    assert await queue.depth(MODEL) == Depth(lag=0, pending=0, delayed=0, dead=1)
    [entry] = await queue.dropped()
    assert (entry.id, entry.model, entry.tenant, entry.code) == (letter.id, "general", "acme", "bad_prompt")
    assert (entry.by, entry.why) == ("key_admin", "a test of ours")
    assert (entry.died_at, entry.dropped_at) == (letter.ended_at, clock.now())
    assert [task.id for task in await queue.list(state=State.DROPPED)] == [letter.id]
    assert await all_usage(queue) == before


async def test_dropping_it_again_changes_nothing_and_another_reason_is_too_late(queue: Queue) -> None:
    letter = await a_letter(queue)
    dropped = await queue.drop(letter.id, by="a", why="b")
    assert await queue.drop(letter.id, by="a", why="b") == dropped
    with pytest.raises(Conflict, match="is dropped; only a dead task can be dropped"):
        await queue.drop(letter.id, by="a", why="other")
    with pytest.raises(Conflict, match="is dropped; only a dead task can be replayed"):
        await queue.retry(letter.id)
    assert len(await queue.dropped()) == 1


async def test_only_what_is_dead_is_dropped(queue: Queue) -> None:
    waiting = await queue.submit(a_task())
    with pytest.raises(Conflict, match="is queued; only a dead task can be dropped"):
        await queue.drop(waiting.id, by="a", why="b")
    with pytest.raises(NotFound):
        await queue.drop(TaskId("task_none"), by="a", why="b")
    assert await queue.dropped() == []


async def test_the_log_has_the_latest_first(queue: Queue) -> None:
    ids = [(await a_letter(queue)).id for _ in range(3)]
    for task_id in ids:
        await queue.drop(task_id, by="a", why="b")
    assert [entry.id for entry in await queue.dropped(limit=2)] == [ids[2], ids[1]]


# --- sent elsewhere, and taken back ---------------------------------------------------------------------------------


async def test_a_forwarded_letter_is_no_letter_here_and_keeps_its_history(queue: Queue) -> None:
    letter = await a_letter(queue)
    assert await queue.forwarded(letter, has_body=True)
    found = await queue.get(letter.id)
    assert (found.state, found.body, found.attempts, found.error) == (
        State.FORWARDED,
        {},
        letter.attempts,
        letter.error,
    )
    assert await queue.depth(MODEL) == Depth(lag=0, pending=0, delayed=0, dead=0)
    assert [task.id for task in await queue.list(state=State.FORWARDED)] == [letter.id]
    assert await queue.forwarded(letter, has_body=True) is False
    with pytest.raises(Conflict, match="is forwarded; only a dead task can be replayed") as error:
        await queue.retry(letter.id)
    assert error.value.hint == "its letter is in SQS: `stoker tasks replay --from-sqs`"


async def test_a_letter_that_comes_back_is_run_as_it_was_submitted(queue: Queue, clock: ManualClock) -> None:
    letter = await a_letter(
        queue,
        session="s",
        run="r",
        route="model",
        stream=True,
        timeout_s=60,
        priority="batch",
        weight=3,
        max_attempts=2,
    )
    came_back = await sent(queue, letter)
    replayed = await queue.take_back(came_back, bound=TokenBound(5, 6, 7))

    expected = replace(letter, state=State.QUEUED, replays=1, attempts=(), error=None, ended_at=None, started_at=None)
    expected = replace(expected, worker=None, bound=TokenBound(5, 6, 7), deadline=clock.now() + 60)
    assert replayed == expected == await queue.get(letter.id)
    claim = await claim_one(queue)
    assert claim.task.body == {"messages": [{"role": "user", "content": "héllo"}]}
    assert await queue.complete(claim, {"text": "at last"}, usage=usage_of(claim))
    assert [record.id for record in await all_usage(queue)] == [letter.id, f"{letter.id}.1"]


async def test_a_second_copy_of_a_letter_has_no_second_effect(queue: Queue) -> None:
    came_back = await sent(queue, await a_letter(queue))
    await queue.take_back(came_back)
    for _ in range(2):  # while it waits, and when it is done
        with pytest.raises(Conflict, match="was replayed or dropped since this letter was sent") as error:
            await queue.take_back(came_back)
        assert error.value.code == "already_replayed"
        for claim in await queue.claim(MODEL, "w1"):
            await queue.complete(claim, {}, usage=usage_of(claim))
    assert await queue.depth(MODEL) == Depth(0, 0, 0, 0)
    assert (await queue.get(came_back.id)).replays == 1


async def test_a_letter_sent_and_not_removed_is_taken_back_and_then_not_removed(queue: Queue) -> None:
    """The forwarder died between the two, or is about to do the second."""
    letter = await a_letter(queue)
    copy = from_message(to_message(letter, max_bytes=ROOM).text)
    await queue.take_back(copy)
    assert await queue.forwarded(letter, has_body=True) is False
    assert await queue.depth(MODEL) == Depth(lag=1, pending=0, delayed=0, dead=0)


@pytest.mark.parametrize("became", ["replayed", "dropped"])
async def test_a_copy_of_what_became_something_else_here_is_of_no_use(queue: Queue, became: str) -> None:
    letter = await a_letter(queue)
    copy = from_message(to_message(letter, max_bytes=ROOM).text)
    if became == "replayed":
        await queue.retry(letter.id)
    else:
        await queue.drop(letter.id, by="a", why="b")
    with pytest.raises(Conflict) as error:
        await queue.take_back(copy)
    assert error.value.code == "already_replayed"


async def test_each_life_has_a_letter_of_its_own(queue: Queue) -> None:
    first = await sent(queue, await a_letter(queue))
    await queue.take_back(first)
    claim = await claim_one(queue)
    await queue.fail(claim, "again", retry_in_s=None, usage=usage_of(claim))
    second = await sent(queue, await queue.get(first.id))
    assert second.replays == 1
    with pytest.raises(Conflict):
        await queue.take_back(first)
    assert (await queue.take_back(second)).replays == 2


async def test_a_letter_that_redis_knows_nothing_of_is_run_all_the_same(queue: Queue, redis_of: Any) -> None:
    letter = await a_letter(queue, team="blue", run="r", agent="writer")
    copy = from_message(to_message(letter, max_bytes=ROOM).text)
    empty = redis_of(queue)
    replayed = await empty.take_back(copy)
    assert (replayed.id, replayed.state, replayed.replays) == (letter.id, State.QUEUED, 1)
    assert (replayed.team, replayed.run, replayed.agent) == ("blue", "r", "writer")
    assert replayed.submitted_at == letter.submitted_at
    assert replayed.body == letter.body
    assert await empty.depth(MODEL) == Depth(lag=1, pending=0, delayed=0, dead=0)
    with pytest.raises(Conflict):
        await empty.take_back(copy)


async def test_a_copy_is_known_when_its_task_is_long_forgotten(queue: Queue, forget: Any) -> None:
    copy = await sent(queue, await a_letter(queue))
    await queue.take_back(copy)
    claim = await claim_one(queue)
    await queue.complete(claim, {}, usage=usage_of(claim))
    await forget(queue, copy.id)
    with pytest.raises(NotFound):
        await queue.get(copy.id)
    with pytest.raises(Conflict) as error:
        await queue.take_back(copy)
    assert error.value.code == "already_replayed"


async def test_a_copy_of_what_was_dropped_is_known_when_that_is_long_forgotten(queue: Queue, forget: Any) -> None:
    letter = await a_letter(queue)
    copy = from_message(to_message(letter, max_bytes=ROOM).text)
    await queue.drop(letter.id, by="a", why="b")
    await forget(queue, copy.id)
    with pytest.raises(Conflict) as error:
        await queue.take_back(copy)
    assert error.value.code == "already_replayed"


async def test_a_copy_of_what_its_caller_has_read_is_of_no_use_for_as_long_as_one_may_come(
    queue: Queue, forget: Any
) -> None:
    """A line of a batch whose letter was sent all the same."""
    letter = await a_letter(queue)
    copy = await sent(queue, letter)
    await queue.drop_answer(letter.id)
    left = await queue.get(letter.id)
    assert (left.state, left.error, left.body) == (State.CANCELLED, None, {})
    assert [task.id for task in await queue.list(state=State.CANCELLED)] == [letter.id]
    with pytest.raises(Conflict) as caught:
        await queue.take_back(copy)
    assert caught.value.code == "already_replayed"
    await forget(queue, letter.id)
    with pytest.raises(Conflict) as caught:
        await queue.take_back(copy)
    assert caught.value.code == "already_replayed"


async def test_a_dropped_one_that_its_caller_has_read_stays_dropped_and_loses_its_body(queue: Queue) -> None:
    letter = await a_letter(queue)
    dropped = await queue.drop(letter.id, by="key_1", why="x")
    await queue.drop_answer(letter.id)
    assert await queue.get(letter.id) == replace(dropped, body={})


async def test_a_forwarder_that_is_late_does_not_remove_the_next_life(queue: Queue) -> None:
    letter = await a_letter(queue)
    await queue.retry(letter.id)
    claim = await claim_one(queue)
    await queue.fail(claim, "again", retry_in_s=None, usage=usage_of(claim))
    assert await queue.forwarded(letter, has_body=True) is False
    assert [task.replays for task in (await queue.letters(MODEL)).tasks] == [1]


@pytest.mark.redis
async def test_what_came_back_is_kept_for_as_long_as_it_waits(redis_queue: RedisQueue, raw: Redis) -> None:
    copy = await sent(redis_queue, await a_letter(redis_queue))
    assert raw.pttl(f"stoker:task:{copy.id}") > 0  # type: ignore[operator]
    await redis_queue.take_back(copy)
    assert raw.pttl(f"stoker:task:{copy.id}") == -1


async def test_a_body_too_large_for_a_message_stays_here(queue: Queue, forget: Any) -> None:
    letter = await a_letter(queue, body={"prompt": "x" * 4000})
    copy = await sent(queue, letter, room=2000)
    assert copy.body == {}
    assert (await queue.get(letter.id)).body == letter.body
    replayed = await queue.take_back(copy)
    assert replayed.body == letter.body


async def test_a_letter_whose_body_nobody_has_is_not_replayed(queue: Queue, forget: Any) -> None:
    copy = await sent(queue, await a_letter(queue, body={"prompt": "x" * 4000}), room=2000)
    await forget(queue, copy.id)
    with pytest.raises(Conflict) as error:
        await queue.take_back(copy)
    assert error.value.code == "body_lost"


# --- one at a time --------------------------------------------------------------------------------------------------


async def test_one_leads_until_it_says_nothing_more(queue: Queue, clock: ManualClock) -> None:
    assert await queue.lead("forwarder", "a", ttl_s=10)
    assert not await queue.lead("forwarder", "b", ttl_s=10)
    assert await queue.lead("another", "b", ttl_s=10)
    await clock.advance(9)
    assert await queue.lead("forwarder", "a", ttl_s=10)
    await clock.advance(9)
    assert not await queue.lead("forwarder", "b", ttl_s=10)
    await clock.advance(1)
    assert await queue.lead("forwarder", "b", ttl_s=10)
    assert not await queue.lead("forwarder", "a", ttl_s=10)


async def test_who_resigns_makes_room_and_a_stranger_cannot(queue: Queue) -> None:
    await queue.lead("forwarder", "a", ttl_s=10)
    await queue.resign("forwarder", "b")
    assert not await queue.lead("forwarder", "b", ttl_s=10)
    await queue.resign("forwarder", "a")
    assert await queue.lead("forwarder", "b", ttl_s=10)


async def test_the_forwarder_says_what_it_does(queue: Queue) -> None:
    assert await queue.forwarding() is None
    await queue.say_forwarding({"state": "sending", "sent": 3})
    assert await queue.forwarding() == {"state": "sending", "sent": 3}


# --- both worlds ----------------------------------------------------------------------------------------------------


@pytest.fixture
def redis_of(clock: ManualClock, request: pytest.FixtureRequest) -> Any:
    """The same platform on a Redis that has lost everything."""

    def lost(queue: Queue) -> Queue:
        if isinstance(queue, MemoryQueue):
            return MemoryQueue(clock=clock)
        request.getfixturevalue("raw").flushall()
        return queue

    return lost


@pytest.fixture
def forget(clock: ManualClock, request: pytest.FixtureRequest) -> Any:
    """The time of an ended task is over. Redis goes by its own clock there, so it is told."""

    async def over(queue: Queue, task_id: str) -> None:
        if isinstance(queue, RedisQueue):
            raw: Redis = request.getfixturevalue("raw")
            assert 0 < raw.pttl(f"stoker:task:{task_id}") <= 15 * 86_400_000  # type: ignore[operator]
            raw.delete(f"stoker:task:{task_id}")
        else:
            task = await queue.get(TaskId(task_id))
            await clock.advance(86_400 if task.state in (State.DONE, State.DROPPED, State.CANCELLED) else 15 * 86_400)

    return over
