"""Dead letters on their way to SQS and back, against moto's server: nothing is lost, nothing is done twice."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
from batch_parts import a_line, begun, counts, ended, errors, lines_of
from gateway_parts import ADMIN_KEY, HELLO, KEY, SPEC, Stack, a_stack, running_worker, until
from sqs_parts import REGION, Sqs, spec_with_sqs
from test_gateway_process import a_process, ready

from stoker.aws.sqs import Outgoing, SqsQueue
from stoker.base.errors import NotFound, Unavailable
from stoker.base.ids import KeyId, ModelName, TaskId, TenantName
from stoker.gateway.batch_lines import task_id
from stoker.gateway.forwarding import Forwarder, Parcel, Said, batches
from stoker.meter.keys import KeyStore
from stoker.meter.store import Store
from stoker.queue import MemoryQueue, NewTask, Queue, RedisQueue, State, Task
from stoker.queue.letters import Message, to_message
from stoker.spec import loads
from stoker.testing import ManualClock
from stoker.testing.aws import CREDENTIALS, Gate
from stoker.testing.engine import EchoEngine
from stoker.testing.redis import RedisServer
from stoker.web.client import HttpClient

GENERAL = ModelName("general")
MakeSqs = Callable[..., Sqs]


def spec_of(sqs: Sqs) -> str:
    return spec_with_sqs(SPEC.replace("TOTAL", "20").replace("CONNECT", "2"), sqs.name)


@pytest.fixture
def make_sqs(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sqs]]:
    """Makes a queue that the gateways of this test reach through a gate of their own."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as made, Gate(moto_url) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)

        def make(**options: Any) -> Sqs:
            sqs = Sqs(moto_url, gate, **options)
            made.callback(sqs.client.close)
            return sqs

        yield make


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.gateway.forwarding.LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("stoker.gateway.forwarding.BACK_OFF_BASE_S", 0.02)
    monkeypatch.setattr("stoker.gateway.forwarding.BACK_OFF_CAP_S", 0.1)
    monkeypatch.setattr("stoker.gateway.batch_driver.LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("stoker.aws.sqs.RECEIVE_WAIT_S", 0)  # moto's server finds everything without


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """A gateway that forwards to a queue; `changed` is its platform.yaml otherwise."""
    async with AsyncExitStack() as parts:

        async def begin(sqs: Sqs, changed: Callable[[str], str] = str) -> Stack:
            platform = loads(changed(spec_of(sqs)))
            return await parts.enter_async_context(a_stack(tmp_path, platform=platform))

        yield begin


async def a_letter(stack: Stack, *, words: str = "one two three four", why: str = "boom") -> str:
    body = {"model": "general", "messages": [{"role": "user", "content": words}]}
    answer = await (await stack.http()).post_json("/v1/tasks", body)
    await die(stack.queue, why)
    return str(answer["id"])


async def die(queue: Queue, why: str = "boom") -> Task:
    [claim] = await queue.claim(GENERAL, "w1", wait_s=20)
    await queue.fail(claim, f"the engine said {why[:10]}", retry_in_s=None, error={"message": why, "code": "boom"})
    return await queue.get(claim.task.id)


async def forwarded(stack: Stack, *task_ids: str) -> None:
    kept = stack.queue._kept  # type: ignore[attr-defined]
    await until(lambda: all(kept[TaskId(each)].task.state is State.FORWARDED for each in task_ids))


async def forwarding(stack: Stack) -> dict[str, Any]:
    said: dict[str, Any] = (await (await stack.http(ADMIN_KEY)).get_json("/admin/v1/dead"))["forwarding"]
    return said


async def from_sqs(stack: Stack, most: int = 100) -> dict[str, Any]:
    answer = await (await stack.http(ADMIN_KEY)).request("POST", "/admin/v1/dead/replay-from-sqs", body={"max": most})
    assert answer.status == 200, answer.body
    said: dict[str, Any] = answer.json()
    return said


# --- there ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fifo", [False, True])
async def test_a_letter_goes_to_sqs_with_all_that_it_takes_to_run_it_again(
    make_sqs: MakeSqs, start: Callable[..., Any], fifo: bool
) -> None:
    sqs = make_sqs(fifo=fifo)
    stack = await start(sqs)
    task_id = await a_letter(stack)
    await forwarded(stack, task_id)

    [message] = sqs.letters()
    assert message["attributes"] == {"model": "general", "tenant": "acme", "reason": "boom"}
    letter = message["letter"]
    assert (letter["id"], letter["tenant"], letter["replays"], letter["version"]) == (task_id, "acme", 0, 1)
    assert (letter["endpoint"], letter["body"]["messages"]) == ("/v1/chat/completions", HELLO)
    assert letter["error"] == {"message": "boom", "code": "boom"}
    assert [each["reason"] for each in letter["attempts"]] == ["the engine said boom"]
    said = await forwarding(stack)
    assert (said["queue"], said["waiting"], said["sent"], said["error"]) == (sqs.name, 0, 1, None)
    shown = await (await stack.http(ADMIN_KEY)).get_json(f"/admin/v1/dead/{task_id}", {"body": "true"})
    assert (shown["state"], shown["body"], len(shown["failures"])) == ("forwarded", None, 1)


async def test_more_than_one_call_takes_are_all_sent_once(make_sqs: MakeSqs, start: Callable[..., Any]) -> None:
    sqs = make_sqs()
    stack = await start(sqs)
    sqs.gate.shut = True  # so that they gather
    ids = [await a_letter(stack) for _ in range(23)]
    sqs.gate.shut = False
    await forwarded(stack, *ids)
    assert sqs.count() == (23, 0)
    assert (await forwarding(stack))["sent"] == 23


async def test_nothing_leaves_redis_before_sqs_has_confirmed_it(make_sqs: MakeSqs, start: Callable[..., Any]) -> None:
    sqs = make_sqs()
    stack = await start(sqs)
    sqs.gate.hold = "SendMessageBatch"
    task_id = await a_letter(stack)
    await asyncio.to_thread(sqs.gate.held.wait, 20)

    assert sqs.count() == (1, 0)  # SQS has it, and the gateway has not heard that
    assert (await stack.queue.get(TaskId(task_id))).state is State.DEAD
    assert (await forwarding(stack))["waiting"] == 1
    sqs.gate.let_go()
    await forwarded(stack, task_id)
    assert sqs.count() == (1, 0)


async def test_while_sqs_is_away_letters_wait_and_the_state_says_so(
    make_sqs: MakeSqs, start: Callable[..., Any]
) -> None:
    sqs = make_sqs()
    stack = await start(sqs)
    sqs.gate.shut = True
    task_id = await a_letter(stack)
    async with asyncio.timeout(20):
        while (said := await forwarding(stack)).get("failures", 0) < 3:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.01)
    assert (said["state"], said["waiting"], said["sent"]) == ("away", 1, 0)
    assert said["error"].startswith("cannot ")
    assert said["error"].endswith("ServiceUnavailable")
    assert "127.0.0.1" not in json.dumps(said)
    assert (await stack.queue.get(TaskId(task_id))).state is State.DEAD

    sqs.gate.shut = False
    await forwarded(stack, task_id)
    await until(lambda: stack.queue._forwarding["state"] == "idle")  # type: ignore[attr-defined]
    said = await forwarding(stack)
    assert (said["failures"], said["error"], said["sent"], said["waiting"]) == (0, None, 1, 0)


async def test_a_queue_that_is_not_there_is_said_and_the_gateway_serves(
    make_sqs: MakeSqs, start: Callable[..., Any]
) -> None:
    sqs = make_sqs()
    stack = await start(sqs, lambda spec: spec.replace(sqs.name, "nobody-made-it"))
    await until(lambda: (stack.queue._forwarding or {}).get("failures"))  # type: ignore[attr-defined]
    assert (await forwarding(stack))["error"] == "cannot find the SQS queue nobody-made-it: SQS said QueueDoesNotExist"
    assert (await (await stack.http(None)).request("GET", "/health")).status == 200


async def test_a_body_too_large_for_a_message_stays_in_redis(make_sqs: MakeSqs, start: Callable[..., Any]) -> None:
    sqs = make_sqs(room_bytes=3072)
    stack = await start(sqs)
    task_id = await a_letter(stack, words="x" * 3000)
    await forwarded(stack, task_id)
    [message] = sqs.letters()
    assert (message["letter"]["body"], message["letter"]["body_in"]) == (None, "redis")
    assert (await from_sqs(stack))["replayed"] == [task_id]
    [claim] = await stack.queue.claim(GENERAL, "w1", wait_s=20)
    assert claim.task.body["messages"] == [{"role": "user", "content": "x" * 3000}]


async def test_what_fits_no_message_at_all_stays_dead_is_said_and_stops_nobody(
    make_sqs: MakeSqs, start: Callable[..., Any]
) -> None:
    sqs = make_sqs(room_bytes=3072)
    stack = await start(sqs)
    huge = await a_letter(stack, why="y" * 5000)
    small = await a_letter(stack)
    await forwarded(stack, small)
    await until(lambda: (stack.queue._forwarding or {}).get("refused"))  # type: ignore[attr-defined]
    said = await forwarding(stack)
    assert said["waiting"] == 1
    assert list(said["refused"]) == [huge]
    assert "bytes without its body; at most 2,048 are taken" in said["refused"][huge]
    assert (await stack.queue.get(TaskId(huge))).state is State.DEAD


# --- and back ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fifo", [False, True])
async def test_a_letter_comes_back_is_run_and_is_gone_from_sqs(
    make_sqs: MakeSqs, start: Callable[..., Any], fifo: bool
) -> None:
    sqs = make_sqs(fifo=fifo)
    stack = await start(sqs)
    task_id = await a_letter(stack)
    await forwarded(stack, task_id)
    said = await from_sqs(stack)
    assert said == {"replayed": [task_id], "refused": [], "stopped": None, "more": False}
    assert sqs.count() == (0, 0)
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        done = await (await stack.http()).get_json(f"/v1/tasks/{task_id}", {"wait": "20"})
    assert done["state"] == "done"
    assert done["result"]["choices"][0]["message"]["content"] == "one two three four"
    records = await stack.records()
    assert [(record.id, record.status) for record in records] == [(task_id, "failed"), (f"{task_id}.1", "done")]


async def test_a_task_that_dies_again_has_another_letter(make_sqs: MakeSqs, start: Callable[..., Any]) -> None:
    sqs = make_sqs(fifo=True)
    stack = await start(sqs)
    task_id = await a_letter(stack)
    for life in (0, 1):
        await forwarded(stack, task_id)
        assert [message["letter"]["replays"] for message in sqs.letters()] == [life]
        assert (await from_sqs(stack))["replayed"] == [task_id]
        if life == 0:
            await die(stack.queue)
    assert (await stack.queue.get(TaskId(task_id))).replays == 2


async def test_only_as_many_come_back_as_were_asked_for(make_sqs: MakeSqs, start: Callable[..., Any]) -> None:
    sqs = make_sqs()
    stack = await start(sqs)
    ids = [await a_letter(stack) for _ in range(3)]
    await forwarded(stack, *ids)
    said = await from_sqs(stack, most=2)
    assert (len(said["replayed"]), said["more"], sqs.count()) == (2, True, (1, 0))


async def test_copies_of_a_letter_have_one_effect_and_all_leave(make_sqs: MakeSqs, start: Callable[..., Any]) -> None:
    sqs = make_sqs()
    stack = await start(sqs)
    task_id = await a_letter(stack)
    await forwarded(stack, task_id)
    [message] = sqs.letters()
    for _ in range(2):
        sqs.put(json.dumps(message["letter"]))
    assert sqs.count() == (3, 0)
    said = await from_sqs(stack)
    assert (said["replayed"], said["refused"], sqs.count()) == ([task_id], [], (0, 0))
    assert (await stack.queue.depth(GENERAL)).lag == 1


async def test_a_message_that_could_not_be_deleted_has_no_effect_when_it_comes_again(
    make_sqs: MakeSqs, start: Callable[..., Any]
) -> None:
    sqs = make_sqs()
    stack = await start(sqs)
    task_id = await a_letter(stack)
    await forwarded(stack, task_id)
    [message] = sqs.letters()
    sqs.gate.refuse = "DeleteMessage"
    said = await from_sqs(stack)
    assert said["replayed"] == [task_id]
    assert said["stopped"] == f"cannot delete from the SQS queue {sqs.name}: SQS said ServiceUnavailable"
    assert sqs.count() == (0, 1)

    sqs.gate.refuse = None
    sqs.put(json.dumps(message["letter"]))  # as it would be delivered again, two minutes later
    said = await from_sqs(stack)
    assert (said["replayed"], said["refused"], sqs.count()) == ([], [], (0, 1))
    assert (await stack.queue.depth(GENERAL)).lag == 1


async def test_what_its_budget_does_not_allow_stays_in_sqs(make_sqs: MakeSqs, start: Callable[..., Any]) -> None:
    """Each may take 132 tokens; 150 are left, so one fits."""
    sqs = make_sqs()
    stack = await start(sqs, lambda spec: spec.replace("acme: {}", "acme: {budgets: {tokensTotal: 150}}"))
    ids = [await a_letter(stack) for _ in range(2)]
    await forwarded(stack, *ids)
    said = await from_sqs(stack)
    assert len(said["replayed"]) == 1
    [refused] = said["refused"]
    assert ({refused["id"], *said["replayed"]}, refused["code"]) == (set(ids), "budget_exhausted")
    assert sqs.count() == (1, 0)
    assert (await stack.queue.get(TaskId(refused["id"]))).state is State.FORWARDED


async def test_what_came_back_is_in_the_audit_log_task_by_task(make_sqs: MakeSqs, start: Callable[..., Any]) -> None:
    sqs = make_sqs()
    stack = await start(sqs)
    ids = [await a_letter(stack) for _ in range(3)]
    await forwarded(stack, *ids)
    one = (await from_sqs(stack, most=1))["replayed"]
    many = (await from_sqs(stack))["replayed"]
    assert (len(one), len(many), set(one + many)) == (1, 2, set(ids))
    trail = (await (await stack.http(ADMIN_KEY)).get_json("/admin/v1/audit"))["records"]
    assert [(each["did"], each["object"], each["result"]) for each in trail] == [
        ("dead.replay-from-sqs", "dead", "done")
    ] * 2
    assert [each["before"] for each in trail] == [{name: {"state": "forwarded"} for name in ids} for ids in (many, one)]
    assert [each["after"] for each in trail] == [{name: {"state": "queued"} for name in ids} for ids in (many, one)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no letter", "letter_unreadable"),
        ("[]", "letter_unreadable"),
        ('{"version": 2}', "letter_unreadable"),
        ('{"version": 1, "id": "task_1"}', "letter_unreadable"),
    ],
)
async def test_what_is_no_letter_stays_in_sqs_and_is_said(
    make_sqs: MakeSqs, start: Callable[..., Any], text: str, code: str
) -> None:
    sqs = make_sqs()
    stack = await start(sqs)
    sqs.put(text)
    said = await from_sqs(stack)
    assert [(each["id"], each["code"]) for each in said["refused"]] == [(None, code)]
    assert (said["replayed"], sqs.count()) == ([], (1, 0))


async def test_a_letter_in_the_name_of_another_tenants_key_is_not_run(
    make_sqs: MakeSqs, start: Callable[..., Any]
) -> None:
    """Whoever can write to the queue cannot spend what is not theirs by naming a key of it."""
    sqs = make_sqs()
    stack = await start(sqs)
    key = KeyStore(stack.store).list(tenant="acme")[0]
    sqs.put(to_message(a_task(key.id, tenant="other"), max_bytes=10_000).text)
    [refused] = (await from_sqs(stack))["refused"]
    assert refused["code"] == "not_permitted"
    assert refused["message"] == f"key {key.id}, which submitted the task, is not one of tenant other"
    with pytest.raises(NotFound):
        await stack.queue.get(TaskId("task_1"))


async def test_a_letter_that_redis_has_never_seen_is_run(make_sqs: MakeSqs, start: Callable[..., Any]) -> None:
    sqs = make_sqs()
    stack = await start(sqs)
    key = KeyStore(stack.store).list(tenant="acme")[0]
    sqs.put(to_message(a_task(key.id), max_bytes=10_000).text)
    assert (await from_sqs(stack))["replayed"] == ["task_1"]
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        done = await (await stack.http()).get_json("/v1/tasks/task_1", {"wait": "20"})
    assert done["state"] == "done"


async def test_while_sqs_is_away_nothing_comes_back_and_that_is_an_error(
    make_sqs: MakeSqs, start: Callable[..., Any]
) -> None:
    sqs = make_sqs()
    stack = await start(sqs)
    sqs.gate.shut = True
    answer = await (await stack.http(ADMIN_KEY)).request("POST", "/admin/v1/dead/replay-from-sqs", body={})
    assert (answer.status, answer.json()["error"]["code"]) == (503, "sqs_unavailable")


def a_task(key_id: str, *, tenant: str = "acme") -> Task:
    return Task(
        id=TaskId("task_1"),
        model=GENERAL,
        tenant=TenantName(tenant),
        key_id=KeyId(key_id),
        endpoint="/v1/chat/completions",
        state=State.DEAD,
        submitted_at=1.5,
        ended_at=2.5,
        body={"model": "general", "messages": HELLO, "max_tokens": 10},
        error={"message": "boom", "code": "boom"},
    )


# --- one at a time, and what the forwarder does by itself -------------------------------------------------------------


class Two:
    """Two forwarders on one queue in memory, by a clock of the test's own."""

    def __init__(self, sqs: Sqs, *, read_timeout_s: float = 5.0) -> None:
        self.clock = ManualClock()
        self.queue = MemoryQueue(clock=self.clock)
        self.clients = [SqsQueue(sqs.name, region=REGION, read_timeout_s=read_timeout_s) for _ in range(2)]
        self.forwarders = [
            Forwarder(self.queue, client, [GENERAL], self.clock, Random(1), holder=name)
            for name, client in zip("ab", self.clients, strict=True)
        ]

    async def letter(self, task_id: str | None = None) -> Task:
        new = NewTask(
            model=GENERAL,
            tenant=TenantName("acme"),
            key_id=KeyId("key_1"),
            endpoint="/v1/chat/completions",
            body={"messages": HELLO},
        )
        await self.queue.submit(new, task_id=None if task_id is None else TaskId(task_id))
        return await die(self.queue)

    async def said(self) -> Said:
        return Said.of(await self.queue.forwarding())

    async def close(self) -> None:
        for client in self.clients:
            await client.aclose()


async def test_a_line_of_a_batch_is_not_sent_before_its_batch_has_what_came_of_it_and_not_after(
    make_sqs: MakeSqs,
) -> None:
    sqs = make_sqs()
    two = Two(sqs)
    line, plain = await two.letter(task_id("batch_1", 1)), await two.letter()
    await two.forwarders[0].look()
    assert [message["letter"]["id"] for message in sqs.letters()] == [plain.id]
    assert await two.queue.get(line.id) == line
    await two.queue.drop_answer(line.id)
    await two.forwarders[0].look()
    assert sqs.count() == (1, 0)
    assert (await two.queue.get(line.id)).state is State.CANCELLED
    await two.close()


async def test_a_batch_ends_as_it_should_where_dead_letters_go_to_sqs(
    make_sqs: MakeSqs, start: Callable[..., Any]
) -> None:
    sqs = make_sqs()
    stack = await start(sqs)
    engine = await stack.engine()
    refusal: dict[str, Any] = {"message": "no", "type": "invalid_request_error", "code": "bad", "param": None}
    engine.refuse(400, {"error": refusal})
    await stack.worker(engine)
    sdk = await stack.sdk()
    batch = await ended(sdk, (await begun(sdk, [a_line(1), a_line(2)])).id)
    engine.refuse(400, {"error": refusal})
    plain = (await (await stack.http()).post_json("/v1/tasks", {"model": "general", "messages": HELLO}))["id"]
    await forwarded(stack, plain)
    wrong = await lines_of(sdk, batch.error_file_id)
    assert (batch.status, counts(batch)) == ("completed", (2, 1, 1))
    assert list(errors(wrong).values()) == [(400, "bad")]
    assert [message["letter"]["id"] for message in sqs.letters()] == [plain]


async def test_one_forwards_at_a_time_and_another_goes_on_when_it_falls_silent(make_sqs: MakeSqs) -> None:
    sqs = make_sqs()
    two = Two(sqs)
    first, second = two.forwarders
    await first.look()
    letter = await two.letter()
    await second.look()
    assert (sqs.count(), (await two.queue.get(letter.id)).state) == ((0, 0), State.DEAD)
    await two.clock.advance(46)  # the lease of the first is over
    await second.look()
    assert (sqs.count(), (await two.queue.get(letter.id)).state) == ((1, 0), State.FORWARDED)
    await first.look()
    assert sqs.count() == (1, 0)
    await two.close()


async def test_who_was_overtaken_between_two_calls_sends_no_more(
    make_sqs: MakeSqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqs = make_sqs()
    two = Two(sqs)
    letters = [await two.letter() for _ in range(11)]
    client = two.clients[0]
    send = client.send

    async def slowly(messages: Any) -> dict[str, str]:
        refused = await send(messages)
        await two.clock.advance(46)
        assert await two.queue.lead("forwarder", "b", ttl_s=45)
        return refused

    monkeypatch.setattr(client, "send", slowly)
    await two.forwarders[0].look()
    assert sqs.count() == (10, 0)
    assert (await two.queue.get(letters[0].id)).state is State.DEAD
    await two.forwarders[1].look()
    assert sqs.count() == (11, 0)
    await two.close()


async def test_who_stops_makes_room_at_once(make_sqs: MakeSqs) -> None:
    sqs = make_sqs()
    two = Two(sqs)
    running = asyncio.create_task(two.forwarders[0].forward_forever())
    async with asyncio.timeout(20):
        while not two.queue._leaders:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.wait({running})
    assert await two.queue.lead("forwarder", "b", ttl_s=1)
    await two.close()


async def test_an_sqs_that_is_too_slow_counts_as_away_and_its_copy_does_no_harm(make_sqs: MakeSqs) -> None:
    sqs = make_sqs()
    two = Two(sqs, read_timeout_s=0.3)
    forwarder, letter = two.forwarders[0], await two.letter()
    sqs.gate.hold = "SendMessageBatch"
    await forwarder.look()
    said = await two.said()
    assert (said.state, said.sent, said.failures) == ("away", 0, 1)
    assert said.error == f"cannot send to the SQS queue {sqs.name}: ReadTimeoutError"
    assert (await two.queue.get(letter.id)).state is State.DEAD
    sqs.gate.let_go()

    calls = len(sqs.gate.calls)
    await forwarder.look()  # it is not time yet
    assert len(sqs.gate.calls) == calls
    await two.clock.advance(0.1)
    await forwarder.look()
    said = await two.said()
    assert (said.state, said.sent, said.failures, said.error) == ("idle", 1, 0, None)
    assert sqs.count() == (2, 0)
    await two.close()


async def test_another_process_waits_as_long_as_the_first_would_have(make_sqs: MakeSqs) -> None:
    sqs = make_sqs()
    two = Two(sqs)
    await two.letter()
    sqs.gate.shut = True
    await two.forwarders[0].look()
    next_try_at = (await two.said()).next_try_at
    assert next_try_at is not None
    assert 0 < next_try_at - two.clock.now() <= 0.02
    await two.queue.resign("forwarder", "a")
    calls = len(sqs.gate.calls)
    await two.forwarders[1].look()
    assert len(sqs.gate.calls) == calls
    await two.close()


async def test_without_boto3_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "botocore.exceptions", None)
    with pytest.raises(Unavailable) as error:
        await SqsQueue("any", region=REGION).room_bytes()
    assert error.value.message == "cannot find the SQS queue any: boto3 is not installed"
    assert error.value.hint == "pip install 'stoker[aws]'"


async def test_what_sqs_refuses_of_a_call_is_told_from_what_it_took(make_sqs: MakeSqs) -> None:
    sqs = make_sqs()
    client = SqsQueue(sqs.name, region=REGION)
    good = Outgoing(id="a", group="g", text="fine")
    assert await client.send([good]) == {}
    await client.aclose()
    assert sqs.count() == (1, 0)


def parcel(number: int, size: int) -> Parcel:
    task = a_task("key_1")
    text = "x" * size
    return Parcel(Task(**{**{n: getattr(task, n) for n in task.__slots__}, "replays": number}), Message(text, True))


def test_batches_hold_ten_and_no_more_bytes_than_one_call_takes() -> None:
    small = [parcel(number, 10) for number in range(23)]
    assert [[each.letter.replays for each in batch] for batch in batches(small, 10_000)] == [
        list(range(10)),
        list(range(10, 20)),
        [20, 21, 22],
    ]
    extras = parcel(0, 0).outgoing.size_bytes
    large = [parcel(number, 400) for number in range(3)]
    assert [len(batch) for batch in batches(large, 2 * (400 + extras))] == [2, 1]
    assert list(batches([], 100)) == []


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@pytest.mark.flow
@pytest.mark.redis
async def test_a_gateway_killed_between_sending_and_removing_makes_a_copy_and_no_loss(
    make_sqs: MakeSqs, tmp_path: Path
) -> None:
    sqs = make_sqs()
    spec = tmp_path / "platform.yaml"
    spec.write_text(spec_of(sqs))
    ledger = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    store = Store(ledger)
    KeyStore(store).ensure(KEY, tenant="acme", name="n", role="user")
    KeyStore(store).ensure(ADMIN_KEY, tenant="acme", name="a", role="admin")
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        queue = RedisQueue(redis.url)
        common = ("--spec", str(spec), "--redis", redis.url, "--ledger", ledger, "--port", "0")

        def gateway(name: str) -> Any:
            journals = ("--journals", str(tmp_path / "journals"))
            return stack.enter_context(a_process(tmp_path / f"{name}.log", "stoker.gateway", *common, *journals))

        first = gateway("first")
        sqs.gate.hold = "SendMessageBatch"
        async with HttpClient((await ready(first))["url"], key=KEY) as http:
            task_id = TaskId((await http.post_json("/v1/tasks", {"model": "general", "messages": HELLO}))["id"])
        await die(queue)
        assert await asyncio.to_thread(sqs.gate.held.wait, 30)
        first.send_signal(signal.SIGKILL)
        await asyncio.to_thread(first.wait, 20)
        assert sqs.count() == (1, 0)
        assert (await queue.get(task_id)).state is State.DEAD
        sqs.gate.let_go()
        # As if the lease had run out, which takes 45 s.
        await queue.resign("forwarder", (await holder_of(queue)) or "")

        async with HttpClient((await ready(gateway("second")))["url"], key=ADMIN_KEY) as admin:
            async with asyncio.timeout(30):
                while (await queue.get(task_id)).state is not State.FORWARDED:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.02)
            assert sqs.count() == (2, 0)  # a copy, and no loss
            said = await admin.post_json("/admin/v1/dead/replay-from-sqs", {"max": 10})
        assert (said["replayed"], said["refused"], sqs.count()) == ([task_id], [], (0, 0))
        assert (await queue.depth(GENERAL))[:2] == (1, 0)
        assert (await queue.get(task_id)).replays == 1
        await queue.aclose()
    store.close()


async def holder_of(queue: RedisQueue) -> str | None:
    found = await queue._redis.call("look", "HGET", "stoker:leader:forwarder", "holder")
    return None if found is None else str(found.decode())
