"""What a worker gives up unfinished goes on elsewhere: no token is generated twice, none is paid twice, and who reads
along sees one answer."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from worker_parts import Bench, state_of, until

from stoker.base.ids import KeyId, TaskId, TenantName
from stoker.queue import MemoryQueue, NewTask, Partial, QueueSettings, State, Task, TokenBound
from stoker.testing.engine import EchoEngine
from stoker.worker.answer import StreamedAnswer
from stoker.worker.runner import Runner

TEXT = "one two three four five six"
CHAT = "/v1/chat/completions"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many events of its engine the latest attempt has taken."""
    taken = [0]
    init, add = StreamedAnswer.__init__, StreamedAnswer.add

    def begin(self: StreamedAnswer, *args: Any) -> None:
        taken[0] = 0
        init(self, *args)

    async def count(self: StreamedAnswer, event: bytes, chunk: Any) -> None:
        await add(self, event, chunk)
        taken[0] += 1

    monkeypatch.setattr(StreamedAnswer, "__init__", begin)
    monkeypatch.setattr(StreamedAnswer, "add", count)
    return lambda: taken[0]


def a_runner(bench: Bench, **changes: Any) -> Runner:
    return bench.runner(**{"goes_on": True, "retry_base_s": 0.0, "retry_cap_s": 0.0, **changes})


async def submit(
    bench: Bench, *, stream: bool = False, endpoint: str = CHAT, body: Any = None, more: Any = None
) -> TaskId:
    body = body or {"model": "general", "messages": [{"role": "user", "content": TEXT}], **(more or {})}
    new = NewTask(
        model="general",  # type: ignore[arg-type]
        tenant=TenantName("acme"),
        key_id=KeyId("key_1"),
        endpoint=endpoint,
        body=body,
        stream=stream,
        max_attempts=3,
        bound=TokenBound(20, 30, 100_000),
    )
    return (await bench.queue.submit(new)).id


async def hand_back_after(bench: Bench, events: int, seen: Callable[[], int], **changes: Any) -> None:
    """A worker takes the task, and leaves when its engine has said so much."""
    hold = bench.engine.hold_at(events)
    running = asyncio.create_task(a_runner(bench, **changes).run(await bench.claim(), give_back=bench.give_back))
    await hold.reached()
    await until(lambda: seen() == events)
    bench.give_back.set()
    await running
    hold.open.set()
    bench.give_back.clear()


async def to_the_end(bench: Bench, task_id: TaskId, **changes: Any) -> Task:
    await a_runner(bench, replica="w2", **changes).run(await bench.claim("w2"), give_back=bench.give_back)
    return await bench.queue.get(task_id)


def content_of(task: Task) -> str:
    assert task.result is not None
    return str(task.result["choices"][0]["message"]["content"])


def said_by(chunks: list[bytes]) -> str:
    parts = [json.loads(chunk) for chunk in chunks]
    return "".join(choice["delta"].get("content", "") for part in parts for choice in part["choices"])


@pytest.mark.parametrize("stream", [False, True])
async def test_the_next_worker_says_only_the_rest(bench: Bench, seen: Callable[[], int], stream: bool) -> None:
    task_id = await submit(bench, stream=stream)
    await hand_back_after(bench, 2, seen)
    assert state_of(bench, task_id) is State.QUEUED
    task = await to_the_end(bench, task_id)

    assert (task.state, task.attempts, content_of(task)) == (State.DONE, (), TEXT)
    assert task.result is not None
    assert task.result["id"] == "chatcmpl-1"  # it is the answer of the first
    assert task.result["usage"] == {
        "prompt_tokens": 6,
        "completion_tokens": 6,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    second = bench.engine.requests[1].body
    assert second["messages"][-1] == {"role": "assistant", "content": "one two"}
    assert (second["continue_final_message"], second["add_generation_prompt"]) == (True, False)
    assert [request.completion_tokens for request in bench.engine.requests] == [2, 4]
    [record] = await bench.records()
    assert (record.prompt_tokens, record.completion_tokens, record.nano_usd) == (6, 6, 6 * 1000 + 6 * 2000)
    assert (record.status, record.replica, record.attempts) == ("done", "w2", 1)


async def test_who_reads_along_sees_one_answer_without_a_seam(bench: Bench, seen: Callable[[], int]) -> None:
    task_id = await submit(bench, stream=True)
    reading = bench.queue.chunks(task_id)
    await hand_back_after(bench, 2, seen)
    before = [await anext(reading), await anext(reading)]
    await hand_back_after(bench, 3, seen)
    await to_the_end(bench, task_id)
    chunks = [*before, *[chunk async for chunk in reading]]

    assert [chunk.cursor for chunk in chunks] == [f"1-{number}" for number in range(8)]  # six words, end, usage
    assert {chunk.token for chunk in chunks} == {1}
    assert said_by([chunk.data for chunk in chunks]) == TEXT
    assert {json.loads(chunk.data)["id"] for chunk in chunks} == {"chatcmpl-1"}
    assert [json.loads(chunk.data)["usage"]["completion_tokens"] for chunk in chunks] == [1, 2, 3, 4, 5, 6, 6, 6]
    assert {json.loads(chunk.data)["usage"]["prompt_tokens"] for chunk in chunks} == {6}
    assert [request.completion_tokens for request in bench.engine.requests] == [2, 3, 1]


async def test_one_that_comes_to_nothing_in_between_changes_nothing(bench: Bench, seen: Callable[[], int]) -> None:
    """It left before its engine said a word."""
    task_id = await submit(bench, stream=True)
    await hand_back_after(bench, 2, seen)
    await hand_back_after(bench, 0, seen)
    task = await to_the_end(bench, task_id)
    assert content_of(task) == TEXT
    assert said_by([chunk.data async for chunk in bench.queue.chunks(task_id)]) == TEXT
    [record] = await bench.records()
    assert (record.prompt_tokens, record.completion_tokens) == (6, 6)


async def test_a_prompt_of_which_nothing_was_said_yet_is_paid_once(bench: Bench, seen: Callable[[], int]) -> None:
    task_id = await submit(bench)
    await hand_back_after(bench, 0, seen)
    assert content_of(await to_the_end(bench, task_id)) == TEXT
    [record] = await bench.records()
    assert (record.prompt_tokens, record.completion_tokens) == (6, 6)


async def test_what_an_engine_had_said_when_it_broke_off_is_not_said_again(bench: Bench) -> None:
    bench.engine.break_off_after(4)
    task_id = await submit(bench, stream=True)
    await a_runner(bench).run(await bench.claim(), give_back=bench.give_back)
    await bench.queue.reclaim("general")  # type: ignore[arg-type]
    task = await to_the_end(bench, task_id)
    assert (task.state, len(task.attempts), content_of(task)) == (State.DONE, 1, TEXT)
    assert bench.engine.requests[1].completion_tokens == 2
    [record] = await bench.records()
    assert (record.prompt_tokens, record.completion_tokens, record.attempts) == (6, 6, 2)


async def test_a_hosted_engine_is_paid_for_what_it_read(bench: Bench, seen: Callable[[], int]) -> None:
    """Its bill comes whether anything was generated or not, as of embeddings."""
    task_id = await submit(bench, endpoint="/v1/embeddings", body={"model": "general", "input": "one two three"})
    hosted = {"goes_on": False, "continuous_usage": False}
    await hand_back_after(bench, 0, seen, **hosted)
    await to_the_end(bench, task_id, **hosted)
    [record] = await bench.records()
    assert record.prompt_tokens == 20 + 3  # nobody knows how far the first came: all that it was let in with


async def test_an_end_without_a_token_is_said_and_not_forgotten(bench: Bench, seen: Callable[[], int]) -> None:
    """The second says only that it is over, and is gone: what readers have seen of that is not written over."""
    task_id = await submit(bench, stream=True)
    await hand_back_after(bench, 2, seen)
    claim = await bench.claim("w2")
    answer = StreamedAnswer(claim, bench.queue, bench.clock)
    runner = a_runner(bench)
    charge = runner._charge(claim)
    assert await answer.partial(charge) == claim.partial
    end = {"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None}
    said = answer.whole(b"", end)
    assert said is not None
    await answer.add(*said)
    assert await answer.partial(charge) is None
    answer.close()
    assert (await bench.queue.get(task_id)).state is State.RUNNING


async def test_how_long_the_rest_may_be_is_what_is_left(bench: Bench, seen: Callable[[], int]) -> None:
    task_id = await submit(bench, more={"max_tokens": 4})
    await hand_back_after(bench, 3, seen)
    task = await to_the_end(bench, task_id)
    assert bench.engine.requests[1].body["max_tokens"] == 1
    assert content_of(task) == "one two three four"
    assert task.result is not None
    assert task.result["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("more", "goes_on"),
    [
        ({"temperature": 0.7, "top_p": 0.9, "user": "u", "n": 1, "response_format": {"type": "text"}}, True),
        ({"temperature": 0, "seed": 7}, True),
        ({"stop": None, "presence_penalty": 0, "logprobs": False, "tools": []}, True),
        ({"seed": 7}, False),
        ({"stop": ["six"]}, False),
        ({"n": 2}, False),
        ({"presence_penalty": 0.5}, False),
        ({"response_format": {"type": "json_object"}}, False),
        ({"logprobs": True}, False),
        ({"guided_regex": "x+"}, False),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, False),
        ({"max_tokens": 2}, False),  # nothing is left
    ],
)
async def test_an_answer_whose_request_reaches_over_the_seam_begins_anew(
    bench: Bench, seen: Callable[[], int], more: Any, goes_on: bool
) -> None:
    task_id = await submit(bench, stream=True, more=more)
    await hand_back_after(bench, 2, seen)
    await to_the_end(bench, task_id)
    [_, second] = bench.engine.requests
    assert (second.body.get("continue_final_message") is True) == goes_on
    tokens = {chunk.token async for chunk in bench.queue.chunks(task_id)}
    assert tokens == {1 if goes_on else 2}  # a reader is told that it is another answer
    [record] = await bench.records()
    assert (record.prompt_tokens > 6) != goes_on  # a prompt is paid again only with the answer


async def test_an_engine_that_does_not_count_as_it_goes_begins_anew(bench: Bench, seen: Callable[[], int]) -> None:
    task_id = await submit(bench)
    await hand_back_after(bench, 2, seen, goes_on=False)
    await to_the_end(bench, task_id)
    assert "continue_final_message" not in bench.engine.requests[1].body


@pytest.mark.parametrize("more", [{"max_tokens": 6}, {}])
async def test_one_that_has_nothing_left_to_say_is_waited_for(
    bench: Bench, seen: Callable[[], int], monkeypatch: pytest.MonkeyPatch, more: Any
) -> None:
    """It would begin anew: there is no rest to go on with, or it has ended."""
    monkeypatch.setattr("stoker.worker.runner.LAST_WORD_S", 20.0)
    task_id = await submit(bench, more=more)
    events = 6 if more else 7  # all its words; or the word that it is over, and not what it has used
    hold = bench.engine.hold_at(events)
    running = asyncio.create_task(a_runner(bench).run(await bench.claim(), give_back=bench.give_back))
    await hold.reached()
    await until(lambda: seen() == events)
    bench.give_back.set()
    await asyncio.sleep(0)
    hold.open.set()
    await running
    task = await bench.queue.get(task_id)
    assert (task.state, content_of(task), len(bench.engine.requests)) == (State.DONE, TEXT, 1)


async def test_a_completion_goes_on_from_its_prompt(bench: Bench, seen: Callable[[], int]) -> None:
    bench.engine.reply = TEXT
    body = {"model": "general", "prompt": "say it:", "max_tokens": 10}
    task_id = await submit(bench, endpoint="/v1/completions", body=body)
    await hand_back_after(bench, 2, seen)
    bench.engine.reply = "three four five six"
    task = await to_the_end(bench, task_id)
    assert bench.engine.requests[1].body["prompt"] == "say it:one two"
    assert bench.engine.requests[1].body["max_tokens"] == 8
    assert task.result is not None
    assert task.result["choices"][0]["text"] == "one twothree four five six"
    assert task.result["usage"]["completion_tokens"] == 6


async def test_a_worker_whose_engine_cannot_go_on_gives_the_beginning_up(bench: Bench, seen: Callable[[], int]) -> None:
    """The engine may be another since, or refuse what this model's template cannot do: that fails no task."""
    for changes, refuse in (({"goes_on": False}, False), ({}, True)):
        task_id = await submit(bench, stream=True)
        await hand_back_after(bench, 2, seen)
        if refuse:
            bench.engine.refuse(400, {"error": {"message": "no such option"}})
        task = await to_the_end(bench, task_id, **changes)
        assert (task.state, task.attempts) == (State.QUEUED, ())
        task = await to_the_end(bench, task_id, **changes)
        assert (task.state, content_of(task)) == (State.DONE, TEXT)
        assert [chunk.token async for chunk in bench.queue.chunks(task_id)] == [3] * 8
        [record] = await bench.records()
        # The first attempt's two tokens were generated for nothing, and are counted.
        assert (record.prompt_tokens, record.completion_tokens) == (12, 8)
        await bench.queue.ack_usage([entry for entry, _ in await bench.queue.read_usage("x", redeliver_after_s=0)])


async def test_one_that_dies_after_all_used_no_more_than_one_attempt_may(bench: Bench, seen: Callable[[], int]) -> None:
    """The second vanished with an answer that the first began: what one attempt may use is counted once."""
    task_id = await submit(bench)
    await hand_back_after(bench, 2, seen)
    claim = await bench.claim("w2")
    assert claim.partial is not None
    await bench.queue.extend(claim, lease_s=0)
    await bench.queue.reclaim("general")  # type: ignore[arg-type]
    assert (await bench.claim("w3")).partial is None  # nobody knows how far that one came
    assert bench.queue._kept[task_id].money.used == {
        "prompt_tokens": 20,
        "cached_tokens": 0,
        "completion_tokens": 30,
        "nano_usd": 100_000,
    }


async def test_one_that_is_cancelled_between_two_workers_pays_what_it_got(
    bench: Bench, seen: Callable[[], int]
) -> None:
    task_id = await submit(bench)
    await hand_back_after(bench, 2, seen)
    await bench.queue.cancel(task_id)
    [record] = await bench.records()
    assert (record.status, record.prompt_tokens, record.completion_tokens) == ("cancelled", 6, 2)


async def test_a_beginning_that_is_too_large_to_keep_is_given_up(seen: Callable[[], int]) -> None:
    async with EchoEngine("general") as engine:
        bench = Bench(engine, MemoryQueue(settings=QueueSettings(max_result_bytes=400)))
        task_id = await submit(bench, body={"messages": [{"role": "user", "content": "w" * 300 + " " + TEXT}]})
        await hand_back_after(bench, 2, seen)
        assert state_of(bench, task_id) is State.QUEUED
        assert (await bench.claim()).partial is None
        await bench.close()


async def test_an_engine_that_says_more_than_it_was_let_is_stopped_where_the_whole_is_over(
    bench: Bench, seen: Callable[[], int]
) -> None:
    bench.engine.ignores_length = True
    bench.engine.reply = " ".join(["word"] * 60)
    task_id = await submit(bench, more={"max_tokens": 30}, stream=True)
    await hand_back_after(bench, 20, seen)
    await to_the_end(bench, task_id)
    [record] = await bench.records()
    # 20 of prompt and 30 of answer were let in; the one too many is how it is seen.
    assert (record.status, record.prompt_tokens, record.completion_tokens) == ("cut", 6, 31)


def test_what_is_kept_is_what_is_said() -> None:
    """The fields are JSON in Redis: another process reads them."""
    assert list(Partial.__dataclass_fields__) == [
        "answer",
        "chunks",
        "token",
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "nano_usd",
    ]
