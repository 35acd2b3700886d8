"""Requests for which no replica has room: a gateway over HTTP, a real Redis, and a worker that comes when told to."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import HELLO, KEY, OTHER_KEY, Stack, a_stack, a_worker, events_of, until
from redis import Redis
from websockets.asyncio.client import connect

from stoker.base.errors import InvalidInput, NotPermitted
from stoker.base.ids import ModelName, TaskId
from stoker.engine.client import EngineClient
from stoker.gateway.busy import Wish, preferences, priority_of, wish_of
from stoker.gateway.tasks import wanted
from stoker.meter.accounts import TenantTerms
from stoker.queue import Depth, QueueSettings, RedisBudgets, RedisQueue, RedisRegistry, State, Task
from stoker.spec import Platform, loads
from stoker.testing.engine import EchoEngine
from stoker.testing.redis import RedisServer

pytestmark = pytest.mark.redis

GENERAL = ModelName("general")
CHAT = "/v1/chat/completions"
LATER = {"Prefer": "respond-async"}

SPEC = """
gateway:
  maxWaiting: {perTenant: 100, perModel: 200}
  timeouts: {connectSeconds: 2, firstTokenSeconds: 20, totalSeconds: 20}
queue: {maxAttempts: 2, retryBaseSeconds: 0.01, retryCapSeconds: 0.02}
llm: {models: {general: {limits: {maxOutputTokens: 100, concurrency: 4}}, code: {}, vision: {}}}
"""


def a_spec(acme: str = "{}", other: str = "{}", **changes: str) -> Platform:
    text = SPEC
    for name, value in changes.items():
        assert f"{name}: " in text
        text = text.replace(f"{name}: 100", f"{name}: {value}")
    return loads(f"{text}tenants: {{acme: {acme}, other: {other}}}\n")


class Watched(RedisQueue):
    """`waits`: how long its callers wanted to wait. With `is_late`, no answer comes in time, at once."""

    def __init__(self, url: str, settings: QueueSettings) -> None:
        super().__init__(url, settings=settings)
        self.waits: list[float] = []
        self.is_late = False

    async def wait(self, task_id: TaskId, *, timeout_s: float) -> Task:
        self.waits.append(timeout_s)
        return await super().wait(task_id, timeout_s=0.0 if self.is_late else timeout_s)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@dataclass
class Stacks:
    """Platforms on one Redis, one for each test."""

    directory: Path
    url: str

    @asynccontextmanager
    async def of(self, platform: Platform) -> AsyncIterator[Stack]:
        queue = Watched(self.url, QueueSettings.of(platform.queue, platform.gateway.max_waiting))
        budgets, registry = RedisBudgets(self.url), RedisRegistry(self.url)
        try:
            async with a_stack(
                self.directory, platform=platform, queue=queue, registry=registry, budgets=budgets
            ) as stack:
                yield stack
        finally:
            for part in (queue, budgets, registry):
                await part.aclose()


@pytest.fixture
def stacks(tmp_path: Path, redis_server: RedisServer) -> Stacks:
    with Redis.from_url(redis_server.url, protocol=2) as client:
        client.flushall()
    return Stacks(tmp_path, redis_server.url)


@pytest.fixture
async def stack(stacks: Stacks) -> AsyncIterator[Stack]:
    async with stacks.of(a_spec()) as made:
        yield made


@asynccontextmanager
async def working(stack: Stack, capacity: int = 1) -> AsyncIterator[EchoEngine]:
    """A worker beside an engine, that runs so many tasks at once."""
    async with EchoEngine() as engine:
        client, stop = EngineClient(engine.url, model=engine.model), asyncio.Event()
        running = asyncio.create_task(a_worker(stack, engine, client, "w1", capacity=capacity).run(stop))
        try:
            yield engine
        finally:
            stop.set()
            await running
            await client.close()


def chat(text: str | None = None, **changes: Any) -> dict[str, Any]:
    messages = HELLO if text is None else [{"role": "user", "content": text}]
    return {"model": "general", "messages": messages, **changes}


def queue_of(stack: Stack) -> Watched:
    assert isinstance(stack.queue, Watched)
    return stack.queue


# --- 202 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat()),
        ("/v1/general/chat/completions", {"messages": HELLO}),
        ("/v1/completions", {"model": "general", "prompt": "one two"}),
        ("/v1/responses", {"model": "general", "input": "one two"}),
        ("/v1/embeddings", {"model": "general", "input": "one two"}),
    ],
)
async def test_a_request_that_would_have_to_wait_becomes_a_task(stack: Stack, path: str, body: dict[str, Any]) -> None:
    http = await stack.http()
    answer = await http.request("POST", path, body=body, headers={**LATER, "X-Run-Id": "r"})
    task = answer.json()

    assert (answer.status, answer.headers["preference-applied"]) == (202, "respond-async")
    assert answer.headers["location"] == f"/v1/tasks/{task['id']}"
    assert (answer.headers["x-request-id"], answer.headers["x-stoker-replica"]) == (task["id"], "queue")
    assert (task["object"], task["state"], task["priority"], task["run"]) == ("task", "queued", "normal", "r")
    assert task["endpoint"] == "/v1/" + path.removeprefix("/v1/general/").removeprefix("/v1/")
    assert await stack.records() == []

    async with working(stack):
        done = await http.get_json(answer.headers["location"], {"wait": "20"})
    assert (done["state"], done["position"], done["estimated_wait_s"]) == ("done", None, None)
    assert done["result"]["object"] in ("chat.completion", "text_completion", "response", "list")
    record = await stack.record()
    assert (record.id, record.kind, record.status) == (task["id"], "task", "done")


async def test_with_room_it_is_answered_and_what_was_preferred_is_not_even_read(stack: Stack) -> None:
    await stack.engine()
    headers = {**LATER, "X-Stoker-Priority": "nonsense"}
    answer = await (await stack.http()).request("POST", CHAT, body=chat(), headers=headers)
    assert (answer.status, answer.headers["x-stoker-replica"]) == (200, "general-0")
    assert "preference-applied" not in answer.headers


async def test_a_full_replica_is_no_room(stack: Stack) -> None:
    engine = await stack.engine(capacity=1)
    hold = engine.hold_at(0)
    http = await stack.http()
    first = asyncio.create_task(http.request("POST", CHAT, body=chat()))
    await hold.reached()
    assert (await http.request("POST", CHAT, body=chat(), headers=LATER)).status == 202
    hold.open.set()
    assert (await first).status == 200
    assert await stack.queue.depth(GENERAL) == Depth(1, 0, 0, 0)


async def test_an_answer_that_comes_while_it_is_waited_for_is_an_answer(stack: Stack) -> None:
    async with working(stack):
        headers = {"Prefer": "respond-async, wait=15", "X-Session-Id": "s"}
        answer = await (await stack.http()).request("POST", CHAT, body=chat(), headers=headers)
    assert (answer.status, answer.headers["x-stoker-replica"]) == (200, "queue")
    assert answer.json()["choices"][0]["message"]["content"] == "one two three four"
    assert answer.headers["x-stoker-completion-tokens"] == "4"
    assert answer.headers["x-stoker-session-cost-usd"] == answer.headers["x-stoker-cost-usd"]
    [waited_s] = queue_of(stack).waits
    assert waited_s == 15.0
    assert len(await stack.records()) == 1


async def test_an_answer_that_does_not_come_in_time_is_a_task_that_goes_on(stack: Stack) -> None:
    queue_of(stack).is_late = True
    http = await stack.http()
    answer = await http.request("POST", CHAT, body=chat(), headers={"Prefer": 'respond-async; x=y, wait="5"'})
    assert (answer.status, answer.headers["preference-applied"]) == (202, "respond-async, wait=5")
    assert queue_of(stack).waits == [5.0]
    queue_of(stack).is_late = False
    async with working(stack):
        done = await http.get_json(answer.headers["location"], {"wait": "20"})
    assert done["state"] == "done"


async def test_no_answer_is_waited_for_longer_than_any_may_take(stack: Stack) -> None:
    queue_of(stack).is_late = True
    await (await stack.http()).request("POST", CHAT, body=chat(), headers={"Prefer": "respond-async, wait=9999999999"})
    [waited_s] = queue_of(stack).waits
    assert 0 < waited_s <= 20.0


async def test_who_leaves_while_it_waits_takes_the_task_along_since_nobody_knows_its_id(stack: Stack) -> None:
    http = await stack.http()
    asking = asyncio.create_task(http.request("POST", CHAT, body=chat(), headers={"Prefer": "respond-async, wait=15"}))
    await until(lambda: queue_of(stack).waits)
    asking.cancel()
    await asyncio.wait({asking})
    record = await stack.record()
    assert (record.status, record.completion_tokens) == ("cancelled", 0)


async def test_an_attempt_that_fails_while_it_is_waited_for_is_its_error(stack: Stack) -> None:
    async with working(stack) as engine:
        engine.refuse(400, {"error": {"message": "poison", "type": "t", "code": "c", "param": None}})
        answer = await (await stack.http()).request(
            "POST", CHAT, body=chat(), headers={"Prefer": "respond-async, wait=15"}
        )
    assert (answer.status, answer.json()["error"]["message"]) == (400, "poison")


async def test_a_stream_that_would_have_to_wait_is_read_later(stack: Stack) -> None:
    http = await stack.http()
    headers = {"Prefer": "respond-async, wait=5"}
    answer = await http.request("POST", CHAT, body=chat(stream=True), headers=headers)
    assert (answer.status, queue_of(stack).waits) == (202, [])
    async with working(stack), http.stream("GET", answer.headers["location"] + "/events") as events:
        *chunks, done = await events_of(events)
    words = [chunk["choices"][0]["delta"].get("content") for chunk in chunks]
    assert words == ["one", " two", " three", " four", None]
    assert done == "[DONE]"
    assert len(await stack.records()) == 1


async def test_a_message_over_a_websocket_is_answered_with_the_task(stacks: Stacks) -> None:
    async with stacks.of(a_spec(acme="{whenBusy: async}")) as stack:
        url = stack.url.replace("http://", "ws://") + "/v1/ws"
        async with connect(url, additional_headers={"Authorization": f"Bearer {KEY}"}, proxy=None) as socket:
            await socket.send(json.dumps({"action": "chat", "id": "a", "body": chat(stream=True)}))
            frame = json.loads(await socket.recv())
    assert (frame["type"], frame["status"], frame["data"]["state"]) == ("done", 202, "queued")


# --- its reservation --------------------------------------------------------------------------------------------------


async def test_the_task_goes_on_with_the_reservation_that_the_request_had(stacks: Stacks) -> None:
    """One request at once: were it reserved twice it would be refused, were it given back the second would run."""
    async with stacks.of(a_spec(acme="{budgets: {concurrentRequests: 1, tokensTotal: 1000}}")) as stack:
        http = await stack.http()
        slots, tokens = "tenant:acme:concurrent:total", "tenant:acme:tokens:total"
        first = await http.request("POST", CHAT, body=chat(max_tokens=9), headers=LATER)
        assert first.status == 202
        held = [state and state.held for state in await stack.budgets.state([slots, tokens])]
        assert held == [1, 22 + 8 + 2 + 9]  # bytes of text and role, message, template, answer

        second = await http.request("POST", CHAT, body=chat(), headers=LATER)
        assert (second.status, second.json()["error"]["code"]) == (429, "too_many_requests")

        async with working(stack):
            await http.get_json(first.headers["location"], {"wait": "20"})
        [state] = await stack.budgets.state([tokens])
        assert state is not None
        assert (state.spent, state.held) == (8, 0)
        assert (await http.request("POST", CHAT, body=chat(), headers=LATER)).status == 202


# --- what the tenant says ---------------------------------------------------------------------------------------------


async def test_a_tenant_may_have_it_so_for_all_its_requests(stacks: Stacks) -> None:
    async with stacks.of(a_spec(acme="{whenBusy: async}")) as stack:
        answer = await (await stack.http()).request("POST", CHAT, body=chat())
        assert (answer.status, answer.json()["state"]) == (202, "queued")
        assert "preference-applied" not in answer.headers
        waiting = asyncio.create_task((await stack.http(OTHER_KEY)).request("POST", CHAT, body=chat()))
        async with working(stack):
            assert (await waiting).status == 200  # another tenant keeps the line


async def test_a_tenant_may_have_it_refused_unless_its_client_can_wait(stacks: Stacks) -> None:
    spec = a_spec(acme="{whenBusy: refuse, budgets: {concurrentRequests: 1}}")
    async with stacks.of(spec) as stack:
        http = await stack.http()
        for stream in (False, True):
            answer = await http.request("POST", CHAT, body=chat(stream=stream))
            error = answer.json()["error"]
            assert (answer.status, error["code"], error["type"]) == (429, "no_room", "rate_limit_error")
            hint = "send `Prefer: respond-async` to be answered with a task"
            assert error["message"] == f"no replica of general has room now ({hint})"
            assert answer.headers["retry-after"] == "1"
        assert await stack.queue.depth(GENERAL) == Depth(0, 0, 0, 0)
        assert await stack.records() == []
        assert (await http.request("POST", CHAT, body=chat(), headers=LATER)).status == 202  # its slot was given back
        assert (await http.request("POST", "/v1/tasks", body=chat())).status == 429  # and is taken now


# --- priorities -------------------------------------------------------------------------------------------------------


async def test_who_holds_the_line_goes_before_tasks_and_tasks_before_batches(stack: Stack) -> None:
    http = await stack.http()
    for priority in ("batch", "normal"):
        await http.post_json("/v1/tasks", {"body": chat(priority), "priority": priority})
    await http.request("POST", CHAT, body=chat("later"), headers=LATER)
    asking = [asyncio.create_task(http.request("POST", CHAT, body=chat("line")))]
    await until_waiting(stack, 4)
    headers = {"X-Stoker-Priority": "batch"}
    asking.append(asyncio.create_task(http.request("POST", CHAT, body=chat("patient"), headers=headers)))
    await until_waiting(stack, 5)
    async with working(stack) as engine:
        assert [(await answer).status for answer in asking] == [200, 200]
    said = [request.body["messages"][0]["content"] for request in engine.requests]
    assert said == ["line", "normal", "later", "batch", "patient"]


async def until_waiting(stack: Stack, count: int) -> None:
    async with asyncio.timeout(20):
        while (await stack.queue.depth(GENERAL)).lag < count:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.002)


@pytest.mark.parametrize(
    ("headers", "sent", "priority"),
    [
        ({}, chat(), "normal"),
        ({}, {"body": chat(), "priority": "interactive"}, "interactive"),
        ({}, chat(priority="batch"), "batch"),
        ({"X-Stoker-Priority": "batch"}, {"body": chat(), "priority": "normal"}, "batch"),
        ({}, chat(priority=-3), "normal"),  # the engine's own, as vLLM's
    ],
)
async def test_a_task_has_the_priority_that_was_said(
    stack: Stack, headers: dict[str, str], sent: dict[str, Any], priority: str
) -> None:
    http = await stack.http()
    answer = await http.request("POST", "/v1/tasks", body=sent, headers=headers)
    assert (answer.status, answer.json()["priority"]) == (202, priority)
    body = (await stack.queue.get(answer.json()["id"])).body
    assert body.get("priority") == (-3 if sent.get("priority") == -3 else None)


async def test_a_tenants_highest_priority_holds_for_all_that_waits(stacks: Stacks) -> None:
    async with stacks.of(a_spec(acme="{maxPriority: normal, whenBusy: async}", other="{maxPriority: batch}")) as stack:
        http, other = await stack.http(), await stack.http(OTHER_KEY)
        for path, body, headers in (
            ("/v1/tasks", {"body": chat(), "priority": "interactive"}, {}),
            (CHAT, chat(), {"X-Stoker-Priority": "interactive"}),
            (CHAT, chat(stream=True), {"X-Stoker-Priority": "interactive", "X-Stoker-Resumable": "true"}),
        ):
            answer = await http.request("POST", path, body=body, headers=headers)
            error = answer.json()["error"]
            assert (answer.status, error["code"]) == (403, "priority_not_permitted")
            words = "priority interactive is more than tenant acme may have, which is normal"
            assert error["message"] == f"{words} (for who runs the platform: tenants.acme.maxPriority)"
        wrong = await http.request("POST", "/v1/tasks", body={"body": chat(), "priority": ["x"]})
        assert (wrong.status, wrong.json()["error"]["param"]) == (400, "priority")
        # Also where the header goes before it.
        wrong = await http.request(
            "POST", "/v1/tasks", body={"body": chat(), "priority": "high"}, headers={"X-Stoker-Priority": "batch"}
        )
        assert (wrong.status, wrong.json()["error"]["param"]) == (400, "priority")
        assert (await other.post_json("/v1/tasks", chat()))["priority"] == "batch"
        asking = asyncio.create_task(other.request("POST", CHAT, body=chat()))
        await until_waiting(stack, 2)
        [waiting, _] = await stack.queue.list(state=State.QUEUED)
        assert waiting.priority == "batch"
        async with working(stack):
            assert (await asking).status == 200


# --- as many wait as may ----------------------------------------------------------------------------------------------


async def test_no_more_than_may_wait_are_taken_and_the_rest_is_told_when_to_come_back(stacks: Stacks) -> None:
    spec = a_spec(acme="{budgets: {concurrentRequests: 3}}", perTenant="2")
    async with stacks.of(spec) as stack:
        http = await stack.http()
        ids = [(await http.post_json("/v1/tasks", chat()))["id"] for _ in range(2)]
        for path, headers, stream in (
            ("/v1/tasks", {}, False),
            (CHAT, {}, False),
            (CHAT, {}, True),
            (CHAT, LATER, False),
            (CHAT, {"X-Stoker-Resumable": "true"}, True),
        ):
            answer = await http.request("POST", path, body=chat(stream=stream), headers=headers)
            error = answer.json()["error"]
            assert (answer.status, error["code"], answer.headers["retry-after"]) == (429, "queue_full", "1")
            assert error["message"] == "2 requests and tasks of tenant acme wait for general, and no more may"
            assert (error["position"], error["estimated_wait_s"]) == (2, None)
        await (await stack.http(OTHER_KEY)).post_json("/v1/tasks", chat())
        await http.request("DELETE", f"/v1/tasks/{ids[0]}")
        assert (await http.request("POST", CHAT, body=chat(), headers=LATER)).status == 202  # nothing was kept of it
        assert len(await stack.records()) == 1  # of the one that was cancelled


# --- where it is ------------------------------------------------------------------------------------------------------


async def test_a_task_that_waits_says_how_many_are_before_it(stack: Stack) -> None:
    http, other = await stack.http(), await stack.http(OTHER_KEY)
    ids = [(await http.post_json("/v1/tasks", chat()))["id"] for _ in range(5)]
    mine = (await other.post_json("/v1/tasks", chat()))["id"]
    last, first = await http.get_json(f"/v1/tasks/{ids[4]}"), await other.get_json(f"/v1/tasks/{mine}")
    assert (last["position"], last["estimated_wait_s"]) == (5, None)
    assert (first["position"], first["estimated_wait_s"]) == (1, None)


# --- fair shares ------------------------------------------------------------------------------------------------------


async def drained(stack: Stack, count: int) -> list[str]:
    """What the engine was sent, in order, until so many tasks have ended."""
    async with working(stack) as engine:
        while len(await stack.records()) < count:  # noqa: ASYNC110 - it ends on the other side of a connection
            await asyncio.sleep(0.01)
    return [request.body["messages"][0]["content"] for request in engine.requests]


async def test_who_floods_the_queue_does_not_keep_others_from_their_turn(stack: Stack) -> None:
    http, other = await stack.http(), await stack.http(OTHER_KEY)
    for number in range(60):
        await http.post_json("/v1/tasks", chat(f"a {number}"))
    for number in range(3):
        await other.post_json("/v1/tasks", chat(f"b {number}"))
    order = await drained(stack, 63)
    assert order[:7] == ["a 0", "b 0", "a 1", "b 1", "a 2", "b 2", "a 3"]
    assert order[7:] == [f"a {number}" for number in range(4, 60)]


async def test_turns_are_by_weight_to_the_task(stacks: Stacks) -> None:
    async with stacks.of(a_spec(acme="{weight: 3}")) as stack:
        http, other = await stack.http(), await stack.http(OTHER_KEY)
        for number in range(3):
            await other.post_json("/v1/tasks", chat(f"b {number}"))
        for number in range(12):
            await http.post_json("/v1/tasks", chat(f"a {number}"))
        order = await drained(stack, 15)
    assert "".join(word[0] for word in order) == "abaaabaaabaaaaa"


# --- what is read of headers ------------------------------------------------------------------------------------------

ACME = TenantTerms("acme")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("", {}),
        ("respond-async", {"respond-async": ""}),
        ("Respond-Async , WAIT = 5", {"respond-async": "", "wait": "5"}),
        ('wait="7";foo, return=minimal, wait=9', {"wait": "7", "return": "minimal"}),
        (",,;=,", {}),
    ],
)
def test_preferences_are_those_of_rfc_7240(said: str, found: dict[str, str]) -> None:
    assert preferences(said) == found


@pytest.mark.parametrize(
    ("said", "tenant", "wish"),
    [
        ({}, ACME, Wish("wait", "interactive")),
        ({"prefer": "wait=5"}, ACME, Wish("wait", "interactive")),
        ({"prefer": "respond-async"}, ACME, Wish("async", "normal", 0.0, "respond-async")),
        ({"prefer": "respond-async, wait=5"}, ACME, Wish("async", "normal", 5.0, "respond-async, wait=5")),
        ({"prefer": "respond-async, wait=-5"}, ACME, Wish("async", "normal", 0.0, "respond-async")),
        ({"prefer": "respond-async, wait=0.5"}, ACME, Wish("async", "normal", 0.0, "respond-async")),
        ({"prefer": "respond-async, wait=٣"}, ACME, Wish("async", "normal", 0.0, "respond-async")),
        (
            {"prefer": "respond-async", "x-stoker-priority": "interactive"},
            ACME,
            Wish("async", "interactive", 0.0, "respond-async"),
        ),
        ({}, TenantTerms("a", when_busy="async"), Wish("async", "normal")),
        ({}, TenantTerms("a", when_busy="refuse", max_priority="batch"), Wish("refuse", "batch")),
        (
            {"prefer": "respond-async"},
            TenantTerms("a", when_busy="refuse"),
            Wish("async", "normal", 0.0, "respond-async"),
        ),
    ],
)
def test_what_a_client_wishes(said: dict[str, str], tenant: TenantTerms, wish: Wish) -> None:
    assert wish_of(said, tenant) == wish


def test_a_priority_is_one_of_three_and_no_more_than_the_tenants() -> None:
    assert priority_of("batch", ACME, usual="interactive") == "batch"
    with pytest.raises(InvalidInput, match="priority is 'urgent'; it has to be one of interactive, normal, batch"):
        priority_of("urgent", ACME, usual="normal")
    with pytest.raises(NotPermitted):
        priority_of("interactive", TenantTerms("a", max_priority="normal"), usual="batch")


def test_our_priority_is_no_part_of_the_body_that_stands_as_it_is() -> None:
    assert wanted({"messages": [], "priority": "batch"}) == (CHAT, {"messages": []})
