"""`/v1/batches` by OpenAI's SDK: over a gateway with a worker and an engine that echoes."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from batch_parts import CHAT, a_line, answers, begun, counts, ended, errors, jsonl, lines_of, uploaded, when
from gateway_parts import ADMIN_KEY, KEY, OTHER_KEY, SPEC, SlowQueue, Stack, a_stack, until
from openai import APIStatusError

from stoker.base import logs
from stoker.base.clock import SystemClock
from stoker.base.errors import QueueUnavailable, Unavailable
from stoker.base.ids import ModelName, TaskId
from stoker.gateway.batch_driver import DEAD_AFTER_S, Drivers, Run, spent_up
from stoker.gateway.batch_lines import task_id
from stoker.gateway.bounds import bound_of
from stoker.gateway.services import Services
from stoker.meter.batches import BatchStore, Lease, Line, Lost, NewBatch
from stoker.meter.keys import KeyStore
from stoker.meter.limits import limits_of_account
from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import Counter, Unit, counters
from stoker.queue import Hold, MemoryQueue, NewTask, State, Task
from stoker.queue.budgets import CounterState
from stoker.spec import Budgets, Platform, loads
from stoker.telemetry.spans import Tracing
from stoker.testing import ManualClock
from stoker.testing.spans import Sink

GENERAL = ModelName("general")
THREE = [a_line(1), a_line(2), a_line(3)]


def the_platform(**batches: int) -> Platform:
    """With some of `gateway.batches` set."""
    said = ", ".join(f"{name}: {value}" for name, value in batches.items())
    spec = SPEC.replace("TOTAL", "20").replace("CONNECT", "2")
    return loads(spec.replace("gateway: {", f"gateway: {{batches: {{{said}}}, "))


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers look often: what is seen at a look is soon seen."""
    monkeypatch.setattr("stoker.gateway.batch_driver.LOOK_EVERY_S", 0.02)


@asynccontextmanager
async def a_stack_at(directory: Path, clock: ManualClock, **batches: int) -> AsyncIterator[Stack]:
    """Whose gateway has this clock; its workers have the system's, as they are another process' business."""
    async with a_stack(directory, platform=the_platform(**batches), clock=clock) as stack:
        stack.clock = SystemClock()
        yield stack


def key_of(stack: Stack, **budgets: Any) -> tuple[str, str]:
    """The secret and the id of a new key of tenant acme."""
    made = KeyStore(stack.store).create("acme", budgets=Budgets(**budgets))
    return made.secret, made.key.id


async def refusal(asked: Any) -> tuple[int, str | None, str | None]:
    """Status, code and param of what is refused."""
    with pytest.raises(APIStatusError) as caught:
        await asked
    return caught.value.status_code, caught.value.code, caught.value.param


# --- what it is for ---------------------------------------------------------------------------------------------------


async def test_a_batch_is_one_trace_with_its_lines(stack: Stack) -> None:
    sink = Sink()
    object.__setattr__(stack.gateway.services, "tracing", Tracing(sink, lambda *_: True))
    await stack.worker(await stack.engine())
    sdk = await stack.sdk()
    batch = await ended(sdk, (await begun(sdk, [a_line(1), a_line(2)])).id)
    await until(lambda: any(span.shape.name == "batch" for span in sink.told))
    trace = hashlib.sha256(f"trace {batch.id}".encode()).digest()[:16]
    assert {span.trace_id for span in sink.told} == {trace}
    [root] = [span for span in sink.told if span.shape.name == "batch"]
    lines = [span for span in sink.told if span.shape.kind == "server"]
    tasks = [span for span in sink.told if span.shape.kind == "producer"]
    assert (root.parent, root.attributes["stoker.batch"], root.attributes["stoker.batch.lines"]) == (
        None,
        batch.id,
        2,
    )
    assert [(span.parent, span.attributes["stoker.batch.line"]) for span in lines] == [
        (root.id, 1),
        (root.id, 2),
    ]
    assert {span.attributes["stoker.batch"] for span in lines} == {batch.id}
    assert [span.parent for span in tasks] == [span.id for span in lines]
    for number, span in enumerate(tasks, 1):
        task = await stack.queue.get(TaskId(task_id(batch.id, number)))
        assert task.trace == f"00-{trace.hex()}-{span.id.hex()}-01"


async def test_what_is_logged_of_a_line_bears_its_span(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    sink, logged = Sink(), list[Any]()
    object.__setattr__(stack.gateway.services, "tracing", Tracing(sink, lambda *_: True))
    ask = Services.ask

    async def asked(self: Services, *args: Any) -> Any:
        said = logs.current()
        logged.append(said and said.in_logs["span_id"])
        return await ask(self, *args)

    monkeypatch.setattr(Services, "ask", asked)
    await stack.worker(await stack.engine())
    sdk = await stack.sdk()
    await ended(sdk, (await begun(sdk, [a_line(1), a_line(2)])).id)
    assert sorted(logged) == sorted(span.id.hex() for span in sink.told if span.shape.kind == "server")


async def test_each_line_is_a_request_with_an_answer_and_a_record(stack: Stack) -> None:
    await stack.worker(await stack.engine())
    sdk = await stack.sdk()
    made = await begun(sdk, [a_line(1, "one two"), a_line(2, "three four five")], metadata={"job": "nightly"})
    assert (made.status, counts(made), made.in_progress_at) == ("validating", (0, 0, 0), None)
    assert (made.object, made.endpoint, made.completion_window) == ("batch", CHAT, "24h")
    assert made.expires_at == made.created_at + 86400

    batch = await ended(sdk, made.id)
    assert (batch.status, counts(batch), batch.errors, batch.error_file_id) == ("completed", (2, 2, 0), None, None)
    assert batch.metadata == {"job": "nightly"}
    assert batch.in_progress_at is not None
    assert batch.finalizing_at is not None
    assert batch.completed_at is not None
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    assert batch.usage is not None
    assert (batch.usage.input_tokens, batch.usage.output_tokens, batch.usage.total_tokens) == (5, 5, 10)

    output = await lines_of(sdk, batch.output_file_id)
    names = [f"batch_req_{batch.id.removeprefix('batch_')}_{number}" for number in (1, 2)]
    assert [line["id"] for line in output] == [line["response"]["request_id"] for line in output] == names
    assert [line["custom_id"] for line in output] == ["line-1", "line-2"]
    assert [(line["error"], line["response"]["status_code"]) for line in output] == [(None, 200)] * 2
    assert answers(output) == {"line-1": "one two", "line-2": "three four five"}
    assert output[0]["response"]["body"]["usage"]["total_tokens"] == 4

    records = {record.id: record for record in await stack.records()}
    assert list(records) == names
    assert [(record.kind, record.status) for record in records.values()] == [("task", "done")] * 2
    assert [(each.prompt_tokens, each.completion_tokens) for each in records.values()] == [(2, 2), (3, 3)]

    for name in names:  # the queue knows that they were there, and no more
        task = await stack.queue.get(TaskId(name))
        assert (task.state, task.body, task.result) == (State.DONE, {}, None)

    file = await sdk.files.retrieve(batch.output_file_id or "")
    assert (file.filename, file.purpose, file.status) == (f"{batch.id}_output.jsonl", "batch_output", "processed")
    assert file.expires_at == file.created_at + 30 * 86400


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/completions", {"model": "general", "prompt": "one two"}),
        ("/v1/embeddings", {"model": "general", "input": "one two"}),
        ("/v1/responses", {"model": "general", "input": "one two"}),
    ],
)
async def test_every_endpoint_has_batches(stack: Stack, endpoint: str, body: dict[str, object]) -> None:
    await stack.worker(await stack.engine())
    sdk = await stack.sdk()
    line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": body}
    batch = await ended(sdk, (await begun(sdk, [line], endpoint=endpoint)).id)
    assert (batch.status, counts(batch)) == ("completed", (1, 1, 0))
    (output,) = await lines_of(sdk, batch.output_file_id)
    (record,) = await stack.records()
    assert output["response"]["request_id"] == record.id
    assert batch.usage is not None
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (record.prompt_tokens, record.completion_tokens)
    assert record.prompt_tokens == 2


async def test_lines_that_cannot_be_answered_are_errors_and_the_others_are_not(stack: Stack) -> None:
    engine = await stack.engine()
    engine.refuse(400, {"error": {"message": "no", "type": "invalid_request_error", "code": "bad", "param": None}})
    await stack.worker(engine)
    sdk = await stack.sdk()
    lines = [a_line(1), a_line(2, model="nothing"), a_line(3, max_tokens="many"), a_line(4)]
    batch = await ended(sdk, (await begun(sdk, lines)).id)
    assert (batch.status, counts(batch)) == ("completed", (4, 1, 3))
    done, wrong = await lines_of(sdk, batch.output_file_id), await lines_of(sdk, batch.error_file_id)
    assert {line["custom_id"] for line in [*done, *wrong]} == {f"line-{number}" for number in (1, 2, 3, 4)}
    assert set(errors(wrong).values()) == {(404, "model_not_found"), (400, "invalid_value"), (400, "bad")}
    assert errors(wrong)["line-2"] == (404, "model_not_found")
    assert errors(wrong)["line-3"] == (400, "invalid_value")
    assert [line["error"] for line in wrong] == [None] * 3
    assert await stack.queue.dead(GENERAL) == []
    file = await sdk.files.retrieve(batch.error_file_id or "")
    assert file.filename == f"{batch.id}_error.jsonl"


@pytest.mark.parametrize("became", ["forwarded", "dropped"])
async def test_a_line_whose_letter_somebody_took_before_its_batch_ends_as_dead(stack: Stack, became: str) -> None:
    sdk = await stack.sdk()
    made = await begun(sdk, [a_line(1)])
    [claim] = await stack.queue.claim(GENERAL, "w1", wait_s=20)
    assert claim.task.callback is None
    # The queue in memory never gives way, so the batch sees what it is after both steps.
    await stack.queue.fail(claim, "no", retry_in_s=None, error={"message": "no", "code": "boom"})
    if became == "forwarded":
        assert await stack.queue.forwarded(await stack.queue.get(claim.task.id), has_body=True)
    else:
        await stack.queue.drop(claim.task.id, by="key_1", why="of no use")
    batch = await ended(sdk, made.id)
    assert (batch.status, counts(batch)) == ("completed", (1, 0, 1))
    assert errors(await lines_of(sdk, batch.error_file_id)) == {"line-1": (502, "boom")}
    left = await stack.queue.get(claim.task.id)
    assert (left.state, left.body) == (State.CANCELLED if became == "forwarded" else State.DROPPED, {})


async def test_the_session_and_run_of_a_batch_are_those_of_its_lines(stack: Stack) -> None:
    await stack.worker(await stack.engine())
    sdk = await stack.sdk()
    headers = {"X-Session-Id": "s-1", "X-Run-Id": "r-1"}
    await ended(sdk, (await begun(sdk, THREE, extra_headers=headers)).id)
    assert [(record.session, record.run) for record in await stack.records()] == [("s-1", "r-1")] * 3


async def test_no_more_lines_are_in_the_queue_than_may_be(tmp_path: Path) -> None:
    async with a_stack(tmp_path, platform=the_platform(linesAtOnce=2)) as stack:
        engine = await stack.engine()
        holds = [engine.hold_at(0) for _ in range(5)]
        await stack.worker(engine)
        sdk = await stack.sdk()
        made = await begun(sdk, [a_line(number) for number in range(5)])
        for number, hold in enumerate(holds):
            await hold.reached()
            tasks = await stack.queue.list(model=GENERAL)
            assert sum(not task.state.has_ended for task in tasks) <= 2
            assert number <= len(tasks) <= number + 2
            hold.open.set()
        batch = await ended(sdk, made.id)
        assert counts(batch) == (5, 5, 0)
        assert len(engine.requests) == 5


# --- what no batch is -------------------------------------------------------------------------------------------------

WRONG_LINES = {
    "no JSON": (b"{nonsense", "invalid_json_line", None),
    "no object": (b"[1]", "invalid_json_line", None),
    "no UTF-8": (b'{"custom_id": "\xff"}', "invalid_json_line", None),
    "no id": ({**a_line(2), "custom_id": None}, "missing_required_parameter", "custom_id"),
    "an id that is none": ({**a_line(2), "custom_id": 7}, "invalid_value", "custom_id"),
    "the same id": (a_line(1), "duplicate_custom_id", "custom_id"),
    "no method": ({**a_line(2), "method": None}, "missing_required_parameter", "method"),
    "another method": ({**a_line(2), "method": "GET"}, "invalid_method", "method"),
    "another url": (a_line(2, url="/v1/embeddings"), "url_mismatch", "url"),
    "no body": ({**a_line(2), "body": None}, "missing_required_parameter", "body"),
    "a body that is none": ({**a_line(2), "body": "x"}, "invalid_value", "body"),
    "a stream": (a_line(2, stream=True), "invalid_value", "body.stream"),
    "too long": (a_line(2, "x" * 5000), "line_too_long", None),
}


@pytest.mark.parametrize(("line", "code", "param"), WRONG_LINES.values(), ids=WRONG_LINES.keys())
async def test_a_file_with_a_line_that_is_none_fails(stack: Stack, line: object, code: str, param: str | None) -> None:
    sdk = await stack.sdk()
    batch = await ended(sdk, (await begun(sdk, [a_line(1), b"", line])).id)
    assert (batch.status, counts(batch), batch.in_progress_at) == ("failed", (0, 0, 0), None)
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert batch.errors.data is not None
    (error,) = batch.errors.data
    assert (error.line, error.code, error.param) == (3, code, param)
    assert error.message
    assert await stack.queue.list() == []
    assert await stack.records() == []


async def test_each_wrong_line_is_named_up_to_a_hundred(stack: Stack) -> None:
    sdk = await stack.sdk()
    batch = await ended(sdk, (await begun(sdk, [b"x"] * 150)).id)
    assert batch.errors is not None
    assert [error.line for error in batch.errors.data or []] == list(range(1, 101))


@pytest.mark.parametrize(
    ("lines", "code"), [([], "empty_batch"), ([b"", b" "], "empty_batch"), (THREE, "too_many_tasks")]
)
async def test_a_file_with_too_few_or_too_many_lines_fails(tmp_path: Path, lines: list[object], code: str) -> None:
    async with a_stack(tmp_path, platform=the_platform(maxLines=2)) as stack:
        sdk = await stack.sdk()
        batch = await ended(sdk, (await begun(sdk, lines)).id)
        assert batch.status == "failed"
        assert batch.errors is not None
        assert [(error.code, error.line) for error in batch.errors.data or []] == [(code, None)]


WRONG_WISHES: dict[str, tuple[dict[str, object], str]] = {
    "another endpoint": ({"endpoint": "/v1/images/generations"}, "endpoint"),
    "no window": ({"completion_window": None}, "completion_window"),
    "a window that is none": ({"completion_window": "soon"}, "completion_window"),
    "a window of nothing": ({"completion_window": "0h"}, "completion_window"),
    "too long a window": ({"completion_window": "8d"}, "completion_window"),
    "a minute too long a window": ({"completion_window": "10081m"}, "completion_window"),
    "an hour too long a window": ({"completion_window": "169h"}, "completion_window"),
    "metadata that are none": ({"metadata": ["x"]}, "metadata"),
    "metadata of numbers": ({"metadata": {"a": 1}}, "metadata"),
    "too many metadata": ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
    "files for ever": (
        {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
        "output_expires_after.seconds",
    ),
    "what nobody knows": ({"extra_body": {"priority": 1}}, "priority"),
    "no id": ({"input_file_id": 7}, "input_file_id"),
    "no file of ours": ({"input_file_id": "file-nobody"}, "input_file_id"),
}


@pytest.mark.parametrize(("wishes", "param"), WRONG_WISHES.values(), ids=WRONG_WISHES.keys())
async def test_wrong_wishes_are_refused(stack: Stack, wishes: dict[str, Any], param: str) -> None:
    sdk = await stack.sdk()
    given: dict[str, Any] = {
        "input_file_id": await uploaded(sdk, THREE),
        "endpoint": CHAT,
        "completion_window": "24h",
        **wishes,
    }
    status, _, at_fault = await refusal(sdk.batches.create(**given))
    assert (status, at_fault) == (400, param)
    assert (await sdk.batches.list()).data == []


@pytest.mark.parametrize(
    ("window", "seconds"), [("1m", 60), ("10080m", 604_800), ("168h", 604_800), ("7d", 604_800), ("99h", 356_400)]
)
async def test_a_window_is_a_minute_to_a_week(stack: Stack, window: str, seconds: int) -> None:
    sdk = await stack.sdk()
    made = await sdk.batches.create(
        input_file_id=await uploaded(sdk, THREE),
        endpoint=CHAT,
        completion_window=window,  # type: ignore[arg-type]
    )
    assert (made.completion_window, (made.expires_at or 0) - made.created_at) == (window, seconds)


async def test_a_file_for_something_else_is_no_input(stack: Stack) -> None:
    sdk = await stack.sdk()
    file = await sdk.files.create(file=b"{}", purpose="user_data")
    asked = sdk.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    assert await refusal(asked) == (400, "invalid_value", "input_file_id")


async def test_a_tenant_has_no_more_open_batches_than_it_may(tmp_path: Path) -> None:
    async with a_stack(tmp_path, platform=the_platform(perTenant=2)) as stack:
        sdk, other = await stack.sdk(), await stack.sdk(key=OTHER_KEY)
        first, _ = [await begun(sdk, THREE) for _ in range(2)]
        assert await refusal(begun(sdk, THREE)) == (429, "too_many_batches", None)
        await begun(other, THREE)
        await sdk.batches.cancel(first.id)
        await ended(sdk, first.id)
        await begun(sdk, THREE)


# --- whose it is ------------------------------------------------------------------------------------------------------


async def test_a_strangers_batch_is_as_unknown_as_one_that_never_was(stack: Stack) -> None:
    sdk, other, admin = [await stack.sdk(key=key) for key in (KEY, OTHER_KEY, ADMIN_KEY)]
    made = await begun(sdk, THREE)
    for batch_id in (made.id, "batch_nobody"):
        assert await refusal(other.batches.retrieve(batch_id)) == (404, "batch_not_found", None)
        assert await refusal(other.batches.cancel(batch_id)) == (404, "batch_not_found", None)
    asked = other.batches.create(input_file_id=made.input_file_id, endpoint=CHAT, completion_window="24h")
    assert await refusal(asked) == (400, "file_not_found", "input_file_id")
    assert (await other.batches.list()).data == []
    assert (await sdk.batches.retrieve(made.id)).status in ("validating", "in_progress")
    assert (await admin.batches.retrieve(made.id)).id == made.id


async def test_batches_are_listed_newest_first_page_by_page(stack: Stack) -> None:
    sdk = await stack.sdk()
    made = [(await begun(sdk, THREE)).id for _ in range(3)]
    first = await sdk.batches.list(limit=2)
    assert ([batch.id for batch in first.data], first.has_more) == ([made[2], made[1]], True)
    assert [batch.id async for batch in sdk.batches.list(limit=2)] == made[::-1]
    assert await refusal(sdk.batches.list(limit=0)) == (400, "invalid_value", "limit")


# --- budgets ----------------------------------------------------------------------------------------------------------

LIMITED = {"max_tokens": 10}
USED = 6  # what such a line takes: three words, there and back


def the_bound(stack: Stack) -> int:
    """The tokens that such a line could take."""
    model = stack.platform.llm.models["general"]
    return bound_of(a_line(1, **LIMITED)["body"], model, output_tokens=10).tokens


async def test_a_budget_that_is_spent_in_the_middle_ends_the_other_lines(stack: Stack) -> None:
    await stack.worker(await stack.engine())
    bound = the_bound(stack)
    secret, key_id = key_of(stack, tokens_total=4 * USED + bound)  # the fifth line just fits
    sdk = await stack.sdk(key=secret)
    lines = [a_line(number, **LIMITED) for number in range(1, 9)]
    batch = await ended(sdk, (await begun(sdk, lines)).id)
    assert (batch.status, counts(batch)) == ("completed", (8, 5, 3))
    wrong = await lines_of(sdk, batch.error_file_id)
    assert errors(wrong) == {f"line-{number}": (402, "budget_exhausted") for number in (6, 7, 8)}
    assert wrong[0]["response"]["body"]["error"]["message"] == (
        f"the key's budget of {24 + bound} tokens has {bound - 6} tokens left; this request could take {bound} tokens "
        "(it does not renew by itself)"
    )
    mine = [record for record in await stack.records() if record.key_id == key_id]
    assert [(each.prompt_tokens, each.completion_tokens) for each in mine] == [(3, 3)] * 5
    assert batch.usage is not None
    assert batch.usage.total_tokens == 5 * USED


async def test_a_line_waits_for_money_that_others_have_only_reserved(stack: Stack) -> None:
    engine = await stack.engine()
    hold = engine.hold_at(0)
    bound = the_bound(stack)
    secret, _ = key_of(stack, tokens_total=bound + USED)
    sdk = await stack.sdk(key=secret)
    other = asyncio.create_task(sdk.chat.completions.create(**a_line(0, **LIMITED)["body"]))
    await hold.reached()
    await stack.worker(engine)
    made = await begun(sdk, [a_line(1, **LIMITED)])
    await when(sdk, made.id, lambda batch: batch.status == "in_progress")
    assert await stack.queue.list() == []
    hold.open.set()
    await other
    batch = await ended(sdk, made.id)
    assert (batch.status, counts(batch)) == ("completed", (1, 1, 0))


async def test_an_answer_is_not_cut_short_for_what_other_lines_have_reserved(stack: Stack) -> None:
    """Without a length of its own a line takes as much as the model may answer, or what a budget has left: but what the
    lines beside it will not use is left, too."""
    engine = await stack.engine()
    holds = [engine.hold_at(0) for _ in range(2)]
    await stack.worker(engine)
    model = stack.platform.llm.models["general"]
    whole = bound_of(a_line(1)["body"], model, output_tokens=100).tokens
    secret, _ = key_of(stack, tokens_total=whole + 50)  # one line, and half of another
    sdk = await stack.sdk(key=secret)
    made = await begun(sdk, [a_line(1), a_line(2)])
    await holds[0].reached()
    holds[0].open.set()
    second = await holds[1].reached()
    assert second.body["max_completion_tokens"] == 100
    assert len(engine.requests) == 2
    holds[1].open.set()
    assert counts(await ended(sdk, made.id)) == (2, 2, 0)


async def test_near_the_end_of_a_budget_an_answer_is_as_long_as_fits(stack: Stack) -> None:
    engine = await stack.engine()
    await stack.worker(engine)
    model = stack.platform.llm.models["general"]
    prompt = bound_of(a_line(1)["body"], model, output_tokens=0).tokens
    secret, _ = key_of(stack, tokens_total=prompt + 20 + USED)
    sdk = await stack.sdk(key=secret)
    batch = await ended(sdk, (await begun(sdk, THREE)).id)
    assert [request.body["max_completion_tokens"] for request in engine.requests] == [26, 20]
    assert errors(await lines_of(sdk, batch.error_file_id)) == {"line-3": (402, "budget_exhausted")}


async def test_slots_are_waited_for(stack: Stack) -> None:
    await stack.worker(await stack.engine())
    secret, _ = key_of(stack, concurrent_requests=1)
    sdk = await stack.sdk(key=secret)
    assert counts(await ended(sdk, (await begun(sdk, THREE)).id)) == (3, 3, 0)


async def test_a_line_that_never_fits_is_an_error_at_once(stack: Stack) -> None:
    secret, _ = key_of(stack, tokens_total=5)
    sdk = await stack.sdk(key=secret)
    batch = await ended(sdk, (await begun(sdk, [a_line(1, **LIMITED)])).id)
    assert errors(await lines_of(sdk, batch.error_file_id)) == {"line-1": (400, "request_over_budget")}


def a_counter(window: str, limit: int, renews_at: float | None, unit: Unit = Unit.TOKENS) -> Counter:
    return Counter(f"key:key_1:{unit}:{window}", unit, limit, renews_at, 1)


def test_what_is_spent_up_does_not_fit_whatever_others_give_back() -> None:
    total, day = a_counter("total", 100, None), a_counter("day:2026-11-25", 50, 1000.0)
    slots = a_counter("total", 1, None, Unit.CONCURRENT)
    needs = [(total, 40), (day, 40), (slots, 1)]

    def state(spent: int, leased: int = 0) -> CounterState:
        return CounterState(spent, leased, 0, None)

    assert spent_up(needs, [None, None, None]) == []
    assert spent_up(needs, [state(60), state(10, leased=40), state(0, leased=1)]) == []
    assert spent_up(needs, [state(61), state(11), state(5)]) == [(total, 39, 40), (day, 39, 40)]
    assert spent_up(needs, [state(130), None, None]) == [(total, 0, 40)]


# --- who may not any more ---------------------------------------------------------------------------------------------


async def test_what_is_left_of_a_batch_ends_when_its_key_is_revoked(tmp_path: Path) -> None:
    async with a_stack(tmp_path, platform=the_platform(linesAtOnce=1)) as stack:
        engine = await stack.engine()
        hold = engine.hold_at(0)
        await stack.worker(engine)
        secret, key_id = key_of(stack)
        sdk, colleague = await stack.sdk(key=secret), await stack.sdk()
        made = await begun(sdk, THREE)
        await hold.reached()
        KeyStore(stack.store).revoke(key_id)
        hold.open.set()
        batch = await ended(colleague, made.id)
        assert (batch.status, counts(batch)) == ("completed", (3, 1, 2))
        wrong = await lines_of(colleague, batch.error_file_id)
        assert errors(wrong) == {f"line-{number}": (409, "key_not_in_use") for number in (2, 3)}


# --- cancelled, expired -----------------------------------------------------------------------------------------------


async def test_cancelling_stops_what_runs_and_begins_nothing(tmp_path: Path) -> None:
    async with a_stack(tmp_path, platform=the_platform(linesAtOnce=2)) as stack:
        engine = await stack.engine()
        quick, *stuck = [engine.hold_at(0) for _ in range(3)]
        quick.open.set()
        await stack.worker(engine)
        sdk = await stack.sdk()
        made = await begun(sdk, [a_line(number) for number in range(1, 6)])
        held = [await hold.reached() for hold in stuck]
        await when(sdk, made.id, lambda batch: counts(batch) == (5, 1, 0))
        cancelling = await sdk.batches.cancel(made.id)
        assert (cancelling.status, cancelling.cancelled_at) == ("cancelling", None)
        assert cancelling.cancelling_at is not None

        batch = await ended(sdk, made.id)
        assert (batch.status, counts(batch), batch.expired_at) == ("cancelled", (5, 1, 4), None)
        assert batch.cancelled_at is not None
        assert [await seen.end() for seen in held] == ["cancelled", "cancelled"]
        assert len(engine.requests) == 3
        output, wrong = await lines_of(sdk, batch.output_file_id), await lines_of(sdk, batch.error_file_id)
        done = list(answers(output))
        assert len(done) == 1
        others = {f"line-{number}" for number in range(1, 6)} - set(done)
        assert errors(wrong) == dict.fromkeys(sorted(others), (0, "batch_cancelled"))
        assert wrong[-1]["response"] is None
        assert sorted(record.status for record in await stack.records()) == ["cancelled", "cancelled", "done"]
        assert (await sdk.batches.cancel(batch.id)).status == "cancelled"


async def test_what_waits_for_money_is_cancelled_too(stack: Stack) -> None:
    engine = await stack.engine()
    hold = engine.hold_at(0)
    secret, _ = key_of(stack, concurrent_requests=1)
    sdk = await stack.sdk(key=secret)
    other = asyncio.create_task(sdk.chat.completions.create(**a_line(0)["body"]))
    await hold.reached()
    made = await begun(sdk, THREE)
    await when(sdk, made.id, lambda batch: batch.status == "in_progress")
    await sdk.batches.cancel(made.id)
    batch = await ended(sdk, made.id)
    assert (batch.status, counts(batch), len(engine.requests)) == ("cancelled", (3, 0, 3), 1)
    hold.open.set()
    await other


async def test_a_line_that_is_on_its_way_into_the_queue_is_cancelled_when_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = Drivers.look

    async def counted(drivers: Drivers) -> None:
        nonlocal looks
        await look(drivers)
        looks += 1

    monkeypatch.setattr(Drivers, "look", counted)
    queue = SlowQueue()
    async with a_stack(tmp_path, queue=queue) as stack:
        sdk = await stack.sdk()
        made = await begun(sdk, [a_line(1)])
        await queue.submitting.wait()
        await sdk.batches.cancel(made.id)
        before = looks
        await until(lambda: looks >= before + 3)  # it has been seen
        assert (await sdk.batches.retrieve(made.id)).status == "cancelling"
        queue.go_on.set()
        batch = await ended(sdk, made.id)
        assert (batch.status, counts(batch)) == ("cancelled", (1, 0, 1))
        assert [task.state for task in await queue.list()] == [State.CANCELLED]


async def test_one_that_is_cancelled_before_it_was_looked_at_to_its_end_has_no_lines(tmp_path: Path) -> None:
    async with a_stack_at(tmp_path, ManualClock()) as stack:
        batches, sdk = stack.gateway.services.batches, await stack.sdk()
        made = batches.create(NewBatch("acme", "key_1", CHAT, "file-1", "24h", 86400.0), most_open=1)
        dead = taken_over(batches)
        batches.add_lines(dead, [Line(1, jsonl([a_line(1)]).strip())])
        batches.let_go(dead)
        await sdk.batches.cancel(made.id)  # its driver hears of it
        batch = await ended(sdk, made.id)
        assert (batch.status, counts(batch)) == ("cancelled", (0, 0, 0))
        assert (batch.output_file_id, batch.error_file_id) == (None, None)


async def test_what_has_ended_cannot_be_cancelled(stack: Stack) -> None:
    await stack.worker(await stack.engine())
    sdk = await stack.sdk()
    batch = await ended(sdk, (await begun(sdk, THREE)).id)
    assert await refusal(sdk.batches.cancel(batch.id)) == (409, "conflict", None)
    assert (await sdk.batches.retrieve(batch.id)).status == "completed"


async def test_what_is_not_done_when_the_window_ends_has_expired(tmp_path: Path) -> None:
    clock = ManualClock()
    async with a_stack_at(tmp_path, clock, linesAtOnce=2) as stack:
        engine = await stack.engine()
        quick, *stuck = [engine.hold_at(0) for _ in range(3)]
        quick.open.set()
        await stack.worker(engine)
        sdk = await stack.sdk()
        made = await begun(sdk, [a_line(number) for number in range(1, 6)], completion_window="2m")
        assert made.expires_at == made.created_at + 120
        held = [await hold.reached() for hold in stuck]
        await when(sdk, made.id, lambda batch: counts(batch) == (5, 1, 0))
        await clock.advance(119)
        assert (await sdk.batches.retrieve(made.id)).status == "in_progress"
        await clock.advance(1)
        batch = await ended(sdk, made.id)
        assert (batch.status, counts(batch), batch.completed_at) == ("expired", (5, 1, 4), None)
        assert batch.expired_at == made.expires_at
        assert [await seen.end() for seen in held] == ["cancelled", "cancelled"]
        wrong = await lines_of(sdk, batch.error_file_id)
        assert len(wrong) == 4
        assert set(errors(wrong).values()) == {(0, "batch_expired")}
        assert len(await lines_of(sdk, batch.output_file_id)) == 1


async def test_a_budget_that_renews_within_the_window_is_waited_for(tmp_path: Path) -> None:
    clock = ManualClock(1_700_006_400.0)  # the begin of a minute
    async with a_stack_at(tmp_path, clock) as stack:
        await stack.worker(await stack.engine())
        secret, _ = key_of(stack, requests_per_minute=2)
        sdk = await stack.sdk(key=secret)
        made = await begun(sdk, THREE, completion_window="1h")
        await when(sdk, made.id, lambda batch: counts(batch) == (3, 2, 0))
        await clock.advance(59)
        assert counts(await sdk.batches.retrieve(made.id)) == (3, 2, 0)
        await clock.advance(2)
        batch = await ended(sdk, made.id)
        assert (batch.status, counts(batch)) == ("completed", (3, 3, 0))


async def test_a_budget_that_renews_only_after_the_window_is_spent(tmp_path: Path) -> None:
    clock = ManualClock(1_700_006_400.0)  # 00:00 of 2023-11-15, UTC
    async with a_stack_at(tmp_path, clock) as stack:
        await stack.worker(await stack.engine())
        bound = the_bound(stack)
        secret, _ = key_of(stack, tokens_per_day=USED + bound)
        sdk = await stack.sdk(key=secret)
        lines = [a_line(number, **LIMITED) for number in (1, 2, 3)]
        batch = await ended(sdk, (await begun(sdk, lines, completion_window="23h")).id)
        assert counts(batch) == (3, 2, 1)
        (wrong,) = await lines_of(sdk, batch.error_file_id)
        error = wrong["response"]["body"]["error"]
        assert (wrong["response"]["status_code"], error["code"]) == (429, "budget_exhausted")
        assert error["message"] == (
            f"the key's budget of {6 + bound} tokens per day has {bound - 6} tokens left; this request could take "
            f"{bound} tokens (it does not renew before the batch expires)"
        )


# --- who drives, and what is lost -------------------------------------------------------------------------------------


async def test_a_gateway_that_leaves_hands_its_batches_on_at_once(tmp_path: Path) -> None:
    """The lines that were in the queue are not asked again, and each is paid for once."""
    queue = MemoryQueue()
    async with a_stack(tmp_path, platform=the_platform(linesAtOnce=2), queue=queue) as first:
        engine = await first.engine()
        hold = engine.hold_at(0)
        hold_2 = engine.hold_at(0)
        sdk = await first.sdk()
        made = await begun(sdk, THREE)
        await first.worker(engine)
        await hold.reached()
        await hold_2.reached()
        await first.shut()
        async with a_stack(tmp_path, platform=the_platform(), queue=queue, budgets=first.budgets) as second:
            sdk = await second.sdk()
            for each in (hold, hold_2):
                each.open.set()
            batch = await ended(sdk, made.id)
            assert (batch.status, counts(batch)) == ("completed", (3, 3, 0))
            assert len(engine.requests) == 3
            assert len(await second.records()) == 3


async def test_a_driver_whose_beat_stands_still_is_replaced(tmp_path: Path) -> None:
    clock = ManualClock()
    async with a_stack_at(tmp_path, ManualClock()) as stack:  # its own driver looks when there is news
        batches, sdk = stack.gateway.services.batches, await stack.sdk()
        file_id = await uploaded(sdk, THREE)
        made = batches.create(NewBatch("acme", "key_1", CHAT, file_id, "24h", 86400.0), most_open=1)
        dead = batches.take_over(batches.open()[0], "dead")
        assert dead is not None
        drivers = Drivers(replace(stack.gateway.services, clock=clock), "another")
        for _ in range(5):
            await drivers.look()
            batches.renew([dead])
            await clock.advance(DEAD_AFTER_S - 1)
        await drivers.look()
        await clock.advance(DEAD_AFTER_S - 1)
        await drivers.look()
        assert [(beat.driver, beat.fence) for beat in batches.open()] == [("dead", 1)]
        await clock.advance(1)
        await drivers.look()
        assert [(beat.driver, beat.fence) for beat in batches.open()] == [("another", 2)]
        with pytest.raises(Lost):
            batches.begin_lines(dead)
        await drivers.aclose()
        assert [(beat.driver, beat.fence) for beat in batches.open()] == [(None, 2)]
        assert batches.get(made.id, tenant="acme").expires_at == made.expires_at


async def test_who_was_replaced_without_noticing_stops(tmp_path: Path) -> None:
    async with a_stack_at(tmp_path, ManualClock()) as stack:
        batches, sdk = stack.gateway.services.batches, await stack.sdk()
        made = await begun(sdk, THREE)  # no worker: its lines wait in the queue
        await when(sdk, made.id, lambda batch: batch.status == "in_progress")
        (beat,) = batches.open()
        assert batches.take_over(beat, "another") == Lease(made.id, 2)
        with structlog.testing.capture_logs() as events:
            stack.gateway.services.batch_news.set()
            async with asyncio.timeout(20):
                while not any(each["event"] == "batch: it is another's" for each in events):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        assert [(beat.driver, beat.fence) for beat in batches.open()] == [("another", 2)]


async def test_a_line_that_was_paid_for_is_not_asked_again_when_its_answer_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.gateway.batch_driver.PAUSE_S", 0.0)
    async with a_stack_at(tmp_path, ManualClock()) as stack:
        batches, sdk = stack.gateway.services.batches, await stack.sdk()
        _, key_id = key_of(stack)
        made = batches.create(NewBatch("acme", key_id, CHAT, "file-1", "24h", 86400.0), most_open=1)
        dead = batches.take_over(batches.open()[0], "dead")
        assert dead is not None
        batches.add_lines(dead, [Line(number, jsonl([a_line(number)]).strip()) for number in (1, 2)])
        batches.begin_work(dead, 2)
        assert [line.number for line in batches.turn(dead, [], take=2)] == [1, 2]
        stack.gateway.services.ledger.append([a_record(task_id(made.id, 1))])
        batches.let_go(dead)
        ledger, away = stack.gateway.services.ledger, [Unavailable("the ledger is away"), Unavailable("it still is")]
        records = ledger.records

        def records_later(ids: Any = None) -> list[UsageRecord]:
            if away:
                raise away.pop()
            return records(ids)

        monkeypatch.setattr(ledger, "records", records_later)
        engine = await stack.engine()
        await stack.worker(engine)
        stack.gateway.services.batch_news.set()
        batch = await ended(sdk, made.id)
        assert counts(batch) == (2, 1, 1)
        assert errors(await lines_of(sdk, batch.error_file_id)) == {"line-1": (500, "result_lost")}
        assert len(engine.requests) == 1


def a_record(name: str) -> UsageRecord:
    return UsageRecord(
        id=name,
        kind="task",
        status="done",
        tenant="acme",
        key_id="key_1",
        model="general",
        prompt_tokens=3,
        completion_tokens=3,
        nano_usd=9,
        started_at=1.0,
        ended_at=2.0,
    )


class Died(Exception):
    """The process is no more."""


class Mortal:
    """A store whose user dies at a step: `steps` of them are done; the one after that is, or is not (`is_done`)."""

    def __init__(self, store: Any, life: "Life") -> None:
        self._store = store
        self._life = life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def step(*args: Any, **options: Any) -> Any:
            self._life.left -= 1
            if self._life.left < 0 and not self._life.is_done:
                raise Died(name)
            answer = method(*args, **options)
            if self._life.left < 0:
                raise Died(name)
            return answer

        return step


class Life:
    def __init__(self, steps: int, *, is_done: bool) -> None:
        self.left = steps
        self.is_done = is_done


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
async def test_whoever_dies_at_whatever_step_no_line_is_lost_and_none_is_done_twice(
    tmp_path: Path, is_done: bool
) -> None:
    async with a_stack_at(tmp_path, ManualClock(), linesAtOnce=2) as stack:
        services = stack.gateway.services
        engine = await stack.engine()
        await stack.worker(engine)
        sdk = await stack.sdk()
        file_id = await uploaded(sdk, [a_line(1), a_line(2, model="nothing"), a_line(3), a_line(4)])
        _, key_id = key_of(stack, tokens_total=100_000)
        steps, has_died = 0, True
        while has_died:
            asked, paid = len(engine.requests), len(await stack.records())
            batch = services.batches.create(NewBatch("acme", key_id, CHAT, file_id, "24h", 86400.0), most_open=1)
            life = Life(steps, is_done=is_done)
            mortal = replace(services, batches=Mortal(services.batches, life), files=Mortal(services.files, life))
            has_died = await dies(Run(mortal, taken_over(services.batches)))
            if has_died and services.batches.open():
                await Run(services, taken_over(services.batches)).drive()
            done = await sdk.batches.retrieve(batch.id)
            assert (done.status, counts(done)) == ("completed", (4, 3, 1)), steps
            output, wrong = await lines_of(sdk, done.output_file_id), await lines_of(sdk, done.error_file_id)
            assert [line["custom_id"] for line in output] == ["line-1", "line-3", "line-4"], steps
            assert errors(wrong) == {"line-2": (404, "model_not_found")}, steps
            assert len(engine.requests) - asked == 3, steps
            assert len(await stack.records()) - paid == 3, steps
            steps += 1
        assert steps > 15


def taken_over(batches: BatchStore) -> Lease:
    (beat,) = batches.open()
    lease = batches.take_over(beat, "somebody")
    assert lease is not None
    return lease


async def dies(run: Run) -> bool:
    try:
        await run.drive()
    except Died:
        return True
    return False


class LosingQueue(MemoryQueue):
    """Of each step that a driver takes for a line, the first answer is lost: the step is done, and nobody hears it."""

    def __init__(self) -> None:
        super().__init__()
        self._heard: set[tuple[str, TaskId | None]] = set()

    def _lose(self, step: str, task_id: TaskId | None) -> None:
        if (step, task_id) not in self._heard:
            self._heard.add((step, task_id))
            raise QueueUnavailable("Redis does not answer")

    async def submit(self, new: NewTask, *, task_id: TaskId | None = None, hold: Hold | None = None) -> Task:
        task = await super().submit(new, task_id=task_id, hold=hold)
        self._lose("submit", task_id)
        return task

    async def wait(self, task_id: TaskId, *, timeout_s: float) -> Task:
        task = await super().wait(task_id, timeout_s=timeout_s)
        self._lose("wait", task_id)
        return task

    async def drop_answer(self, task_id: TaskId) -> None:
        await super().drop_answer(task_id)
        self._lose("drop_answer", task_id)


@pytest.mark.parametrize("budgets", [{}, {"tokens_total": 10_000}], ids=["without a budget", "with one"])
async def test_steps_whose_answer_is_lost_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budgets: dict[str, int]
) -> None:
    monkeypatch.setattr("stoker.gateway.batch_driver.PAUSE_S", 0.01)
    async with a_stack(tmp_path, queue=LosingQueue()) as stack:
        engine = await stack.engine()
        await stack.worker(engine)
        secret, key_id = key_of(stack, **budgets)
        sdk = await stack.sdk(key=secret)
        batch = await ended(sdk, (await begun(sdk, THREE)).id)
        assert (batch.status, counts(batch), len(engine.requests)) == ("completed", (3, 3, 0), 3)
        assert [(each.status, each.completion_tokens) for each in await stack.records()] == [("done", 3)] * 3
        limits = [named.limit for named in limits_of_account(KeyStore(stack.store).account_of(key_id), None, None)]
        names = [counter.name for counter in counters(limits, SystemClock().now())]
        states = await stack.budgets.state(names)
        assert [(state.spent, state.held) for state in states if state is not None] == [(3 * USED, 0)] * len(budgets)


async def test_an_input_that_is_deleted_before_it_was_looked_at(tmp_path: Path) -> None:
    async with a_stack_at(tmp_path, ManualClock()) as stack:
        batches, sdk = stack.gateway.services.batches, await stack.sdk()
        file_id = await uploaded(sdk, THREE)
        made = batches.create(NewBatch("acme", "key_1", CHAT, file_id, "24h", 86400.0), most_open=1)
        await sdk.files.delete(file_id)
        stack.gateway.services.batch_news.set()
        batch = await ended(sdk, made.id)
        assert batch.status == "failed"
        assert batch.errors is not None
        assert [(each.code, each.param) for each in batch.errors.data or []] == [("file_not_found", "input_file_id")]


async def test_an_input_that_is_deleted_later_is_not_missed(tmp_path: Path) -> None:
    async with a_stack(tmp_path, platform=the_platform(linesAtOnce=1)) as stack:
        engine = await stack.engine()
        hold = engine.hold_at(0)
        await stack.worker(engine)
        sdk = await stack.sdk()
        made = await begun(sdk, THREE)
        await hold.reached()
        await sdk.files.delete(made.input_file_id)
        hold.open.set()
        assert counts(await ended(sdk, made.id)) == (3, 3, 0)
