"""Who is to be told of a task's end: owed from that step on, told once it is noted, as both queues promise it."""

from dataclasses import replace
from typing import Any

import pytest
from queue_builders import a_task, claim_one, usage_of

from stoker.base.ids import TaskId
from stoker.queue import Delivery, Queue, Task
from stoker.queue.letters import from_message, to_message
from stoker.testing import ManualClock

URL = "https://hooks.example.com/done"
DONE = Delivery(state="delivered", tries=1, at=5.0, status=200)
LATER = Delivery(state="waiting", tries=1, at=5.0, status=500, error="the receiver answered 500")


async def ended(queue: Queue, how: str = "done", **changes: Any) -> Task:
    task = await queue.submit(a_task(**{"callback": URL, **changes}))
    if how == "cancelled":
        return await queue.cancel(task.id)
    claim = await claim_one(queue)
    if how == "done":
        await queue.complete(claim, {"text": "hi"}, usage=usage_of(claim))
    else:
        await queue.fail(claim, "boom", retry_in_s=None, usage=usage_of(claim))
    return await queue.get(task.id)


async def due(queue: Queue, lease_s: float = 60.0) -> list[Task]:
    return list(await queue.callbacks_due(count=10, lease_s=lease_s, most_result_bytes=1000))


@pytest.mark.parametrize("how", ["done", "dead", "cancelled"])
async def test_each_end_is_told_of_with_all_there_is_to_tell(queue: Queue, how: str) -> None:
    task = await ended(queue, how)
    assert (task.callback, task.delivery) == (URL, None)
    assert await due(queue) == [replace(task, body={})]


async def test_a_result_that_is_too_large_is_left_out(queue: Queue) -> None:
    """{"text":"hi"} has 13 bytes."""
    await ended(queue)
    [small] = await queue.callbacks_due(count=1, lease_s=0, most_result_bytes=13)
    [large] = await queue.callbacks_due(count=1, lease_s=0, most_result_bytes=12)
    assert (small.result, large.result) == ({"text": "hi"}, None)


async def test_nothing_is_owed_before_the_end_or_where_nobody_asked(queue: Queue) -> None:
    await queue.submit(a_task(callback=URL))
    assert await due(queue) == []
    await queue.cancel((await queue.list())[0].id)
    assert len(await due(queue)) == 1
    await ended(queue, callback=None)
    await ended(queue, callback=None, session='"callback":')
    assert await due(queue) == []


async def test_who_takes_it_has_it_alone_until_its_lease_is_over(queue: Queue, clock: ManualClock) -> None:
    task = await ended(queue)
    assert [each.id for each in await due(queue, 10)] == [task.id]
    await clock.advance(9)
    assert await due(queue, 10) == []
    await clock.advance(1)
    assert [each.id for each in await due(queue, 10)] == [task.id]


async def test_once_it_is_noted_nobody_is_told_again(queue: Queue, clock: ManualClock) -> None:
    [task] = [await ended(queue)]
    await due(queue)
    assert await queue.called_back(task, DONE, again_in_s=None)
    await clock.advance(1000)
    assert await due(queue) == []
    assert (await queue.get(task.id)).delivery == DONE
    assert (await queue.list())[0].delivery == DONE
    assert await queue.called_back(task, LATER, again_in_s=None) is False
    assert (await queue.get(task.id)).delivery == DONE


async def test_a_try_that_failed_is_made_again_at_its_time(queue: Queue, clock: ManualClock) -> None:
    task = await ended(queue)
    await due(queue)
    assert await queue.called_back(task, LATER, again_in_s=7)
    await clock.advance(6)
    assert await due(queue) == []
    await clock.advance(1)
    [again] = await due(queue)
    assert again.delivery == LATER


async def test_only_as_many_are_taken_as_were_asked_for_the_longest_due_first(queue: Queue, clock: ManualClock) -> None:
    tasks = []
    for _ in range(3):
        tasks.append(await ended(queue))
        await clock.advance(1)
    assert [task.id for task in await queue.callbacks_due(count=2, lease_s=60, most_result_bytes=1000)] == [
        tasks[0].id,
        tasks[1].id,
    ]
    assert [task.id for task in await queue.callbacks_due(count=2, lease_s=60, most_result_bytes=1000)] == [tasks[2].id]


async def test_of_a_life_that_was_replayed_nobody_is_told_any_more_and_of_the_next_they_are(queue: Queue) -> None:
    first = await ended(queue, "dead")
    await due(queue, 0)
    await queue.retry(first.id)
    assert await queue.called_back(first, LATER, again_in_s=1) is False
    assert await due(queue) == []
    claim = await claim_one(queue)
    await queue.complete(claim, {"text": "hi"}, usage=usage_of(claim))
    [told] = await due(queue)
    assert (told.id, told.replays, told.result, told.delivery) == (first.id, 1, {"text": "hi"}, None)


async def test_a_letter_that_went_elsewhere_still_says_whom_to_tell(queue: Queue) -> None:
    letter = await ended(queue, "dead")
    message = to_message(letter, max_bytes=10_000)
    await queue.forwarded(letter, has_body=True)
    [told] = await due(queue)
    assert (told.id, told.state) == (letter.id, "forwarded")
    assert from_message(message.text).callback == URL
    assert (await queue.take_back(from_message(message.text))).callback == URL


async def test_of_a_task_that_is_forgotten_nobody_is_told(queue: Queue, clock: ManualClock, request: Any) -> None:
    task = await ended(queue)
    if "redis" in request.node.name:
        request.getfixturevalue("raw").delete(f"stoker:task:{task.id}")
    await clock.advance(86_400)
    assert await due(queue) == []
    assert await queue.called_back(task, DONE, again_in_s=None) is False
    assert TaskId(task.id) not in [each.id for each in await queue.list()]
