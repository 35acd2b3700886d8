"""`Idempotency-Key`: the same request sent again is the same task, paid once, whoever is asked and whoever has died."""

import asyncio
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import HELLO, KEY, OTHER_KEY, SPEC, SlowQueue, Stack, a_stack, events_of, running_worker, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from test_gateway_process import a_process, ready

from stoker.base.ids import KeyId, ModelName, TaskId
from stoker.gateway.idempotency import PATTERN, once_of
from stoker.meter.accounts import Account, TenantTerms
from stoker.meter.keys import KeyStore
from stoker.meter.store import Store
from stoker.queue import MemoryBudgets, MemoryQueue, NewTask, QueueSettings, RedisBudgets, RedisQueue, Task
from stoker.queue.budgets import Hold
from stoker.queue.connection import source, step_source
from stoker.spec import Budgets, loads
from stoker.testing import ManualClock
from stoker.testing.engine import EchoEngine
from stoker.testing.proxy import Proxy
from stoker.testing.redis import RedisServer
from stoker.web.client import Answer, HttpClient

GENERAL = ModelName("general")
CHAT = "/v1/chat/completions"
# At most 42 tokens, and 8 when it is done, see test_gateway_budgets.py.
ASKED: dict[str, Any] = {"model": "general", "messages": HELLO, "max_tokens": 10}
ONCE = {"Idempotency-Key": "order 66"}


async def post(http: HttpClient, path: str = "/v1/tasks", body: dict[str, Any] = ASKED, **headers: str) -> Answer:
    return await http.request("POST", path, body=body, headers={**ONCE, **headers})


def replayed(answer: Answer) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


# --- tasks ------------------------------------------------------------------------------------------------------------


async def test_the_same_submission_again_is_the_same_task_and_paid_once(stack: Stack) -> None:
    http = await stack.http()
    first = await post(http)
    again = await post(http, body=dict(reversed(ASKED.items())))  # the order of names says nothing
    assert (first.status, again.status, replayed(first), replayed(again)) == (202, 202, False, True)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"] == f"/v1/tasks/{first.json()['id']}"
    for name in ("x-request-id", "x-stoker-model", "x-stoker-route"):
        assert again.headers[name] == first.headers[name]
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        await http.get_json(first.headers["location"], {"wait": "20"})
        ended = await post(http)
        assert len(engine.requests) == 1
    assert (ended.json()["state"], ended.json()["id"], replayed(ended)) == ("done", first.json()["id"], True)
    assert (await stack.record()).id == first.json()["id"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/tasks", {**ASKED, "max_tokens": 11}),
        ("/v1/tasks", {**ASKED, "priority": "batch"}),
        (CHAT, ASKED),
        ("/v1/completions", {"model": "general", "prompt": "one"}),
    ],
)
async def test_the_same_key_with_another_request_is_refused(stack: Stack, path: str, body: dict[str, Any]) -> None:
    http = await stack.http()
    await post(http)
    answer = await post(http, path, body)
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"]) == (422, "idempotency_key_reused", "Idempotency-Key")
    assert (await stack.queue.depth(GENERAL)).lag == 1


async def test_another_api_key_may_use_the_same_word(stack: Stack) -> None:
    mine, theirs = await post(await stack.http()), await post(await stack.http(OTHER_KEY))
    assert (mine.status, theirs.status) == (202, 202)
    assert mine.json()["id"] != theirs.json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "gr\xfc\xdfe", "a\tb"])
async def test_a_key_that_is_none_is_refused(stack: Stack, key: str) -> None:
    account = Account(id="key_1", name="", role="user", tenant_terms=TenantTerms("acme"))
    with pytest.raises(Exception, match="it has to have 1 to 255 printable characters of ASCII"):
        await once_of({"idempotency-key": key}, account, CHAT, ASKED)
    answer = await (await stack.http()).request("POST", CHAT, body=ASKED, headers={"Idempotency-Key": "x" * 256})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "Idempotency-Key")


async def test_a_replay_is_free_where_the_budget_has_no_room_for_another_one(tmp_path: Path) -> None:
    queue = MemoryQueue()
    async with a_stack(tmp_path, queue=queue) as stack:
        made = KeyStore(stack.store).create(tenant="acme", name="n", budgets=Budgets(tokens_total=45))
        http = await stack.http(made.secret)
        first, again = await post(http), await post(http)
        other = await http.request("POST", "/v1/tasks", body=ASKED, headers={"Idempotency-Key": "another"})
        assert (first.status, again.status, other.status) == (202, 202, 402)
        async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
            await http.get_json(first.headers["location"], {"wait": "20"})
        await stack.gateway.services.settle_all()
        [counter] = await stack.budgets.state([f"key:{made.key.id}:tokens:total"])
        assert counter is not None
        assert counter.spent == 8
        # What was refused left nothing behind: with room for it, it is a new request.
        refused = await http.request("POST", "/v1/tasks", body=ASKED, headers={"Idempotency-Key": "another"})
        assert (refused.status, replayed(refused)) == (402, False)


async def test_it_is_known_until_its_time_is_over_and_then_new(tmp_path: Path) -> None:
    clock = ManualClock(1_700_000_000.0)
    queue = MemoryQueue(clock=clock, settings=QueueSettings(result_ttl_s=60))
    async with a_stack(tmp_path, queue=queue) as stack:
        http = await stack.http()
        first = await post(http)
        [claim] = await queue.claim(GENERAL, "w1")
        await queue.complete(claim, {"choices": []})
        await clock.advance(59)
        assert (await post(http)).json()["state"] == "done"
        await clock.advance(1)
        anew = await post(http)
        assert (anew.json()["id"], anew.json()["state"], replayed(anew)) == (first.json()["id"], "queued", False)


async def test_one_that_died_stays_dead_for_its_key(stack: Stack) -> None:
    http = await stack.http()
    first = await post(http, CHAT, Prefer="respond-async")
    [claim] = await stack.queue.claim(GENERAL, "w1")
    error = {"message": "too odd", "type": "invalid_request_error", "code": "odd", "status": 400}
    await stack.queue.fail(claim, "too odd", retry_in_s=None, error=error)
    again = await post(http, CHAT)
    assert (first.status, again.status, again.json()["error"]["code"]) == (202, 400, "odd")
    assert (replayed(again), again.headers["x-request-id"]) == (True, first.json()["id"])


# --- requests ---------------------------------------------------------------------------------------------------------


async def test_a_request_goes_through_the_queue_and_its_answer_is_kept(stack: Stack) -> None:
    http = await stack.http()
    engine = await stack.engine()
    await stack.worker(engine)
    first = await post(http, CHAT)
    again = await post(http, CHAT)
    assert (first.status, again.status, replayed(first), replayed(again)) == (200, 200, False, True)
    assert again.json() == first.json()
    for name in ("x-request-id", "x-stoker-cost-usd", "x-stoker-completion-tokens", "x-stoker-replica"):
        assert again.headers[name] == first.headers[name]
    assert (first.headers["x-stoker-replica"], first.headers["x-stoker-cost-usd"]) == ("queue", "0.000012000")
    assert len(engine.requests) == 1
    assert (await stack.record()).id == first.headers["x-request-id"]


async def test_two_at_once_wait_for_the_same_answer(stack: Stack) -> None:
    http, other = await stack.http(), await stack.http()
    both = asyncio.gather(post(http, CHAT), post(other, CHAT))
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        first, second = await both
        assert len(engine.requests) == 1
    assert first.json() == second.json()
    assert sorted([replayed(first), replayed(second)]) == [False, True]


async def test_many_at_once_need_room_for_one(tmp_path: Path) -> None:
    """The budget has room for one such request: those that come together are one."""
    queue = MemoryQueue()
    async with a_stack(tmp_path, queue=queue) as stack:
        made = KeyStore(stack.store).create(tenant="acme", name="n", budgets=Budgets(tokens_total=45))
        http = await stack.http(made.secret)
        answers = await asyncio.gather(*(post(http) for _ in range(12)))
        assert [answer.status for answer in answers] == [202] * 12
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sorted(map(replayed, answers)) == [False, *[True] * 11]


async def test_a_client_that_goes_away_does_not_take_it_along(stack: Stack) -> None:
    http = await stack.http()
    going = asyncio.create_task(post(http, CHAT))
    [claim] = await stack.queue.claim(GENERAL, "w1", wait_s=20)
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    coming_back = asyncio.create_task(post(await stack.http(), CHAT))
    assert await stack.queue.complete(claim, {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 4}})
    answer = await coming_back
    assert (answer.status, replayed(answer), answer.json()["choices"]) == (200, True, [])


async def test_who_prefers_a_task_gets_the_same_one(stack: Stack) -> None:
    http = await stack.http()
    first, again = await post(http, CHAT, Prefer="respond-async"), await post(http, CHAT, Prefer="respond-async")
    assert (first.status, again.status, replayed(first), replayed(again)) == (202, 202, False, True)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["preference-applied"] == "respond-async"
    assert again.headers["location"] == f"/v1/tasks/{first.json()['id']}"


async def test_a_stream_is_said_again_from_its_beginning(stack: Stack) -> None:
    http = await stack.http()
    heard = []
    async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
        for _ in range(2):
            async with http.stream("POST", CHAT, body={**ASKED, "stream": True}, headers=ONCE) as answer:
                heard.append((await events_of(answer), answer.headers.get("idempotent-replayed")))
        assert len(engine.requests) == 1
    (first, is_new), (again, is_old) = heard
    assert (first, is_new, is_old) == (again, None, "true")
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in first[:-1]) == "one two three four"


# --- two gateways, and one that dies ----------------------------------------------------------------------------------


class Counting(SlowQueue):
    submissions = 0

    async def submit(self, new: NewTask, *, task_id: TaskId | None = None, hold: Hold | None = None) -> Task:
        self.submissions += 1
        return await super().submit(new, task_id=task_id, hold=hold)


async def test_two_gateways_at_once_make_one_task_and_the_losers_reservation_is_given_back(tmp_path: Path) -> None:
    queue = Counting()
    books = MemoryBudgets(queue)
    platform = loads(
        SPEC.replace("TOTAL", "20").replace("CONNECT", "2").replace("acme: {}", "acme: {budgets: {tokensTotal: 1000}}")
    )
    async with (
        a_stack(tmp_path, queue=queue, budgets=books, platform=platform) as one,
        a_stack(tmp_path, queue=queue, budgets=books, platform=platform) as two,
    ):
        # Both have looked, found nothing, and reserved, before either submits.
        sent = [asyncio.create_task(post(await stack.http())) for stack in (one, two)]
        await until(lambda: queue.submissions == 2)
        queue.go_on.set()
        first, second = await asyncio.gather(*sent)
        assert first.json()["id"] == second.json()["id"]
        assert sorted([replayed(first), replayed(second)]) == [False, True]
        assert (await queue.depth(GENERAL)).lag == 1
        async with EchoEngine() as engine, running_worker(one, engine, "w1"):
            await (await one.http()).get_json(first.headers["location"], {"wait": "20"})
            assert len(engine.requests) == 1
        for stack in (one, two):
            await stack.shut()
        [counter] = await books.state(["tenant:acme:tokens:total"])
        assert counter is not None
        assert (counter.spent, counter.held, counter.leased) == (8, 0, 0)


@pytest.mark.flow
@pytest.mark.redis
@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_gateway_killed_between_reservation_and_answer_leaves_one_task(tmp_path: Path, is_stored: bool) -> None:
    """Killed with its task in Redis and nobody told, or with its reservation alone: the other gateway, asked the same,
    answers with one task, and the budget has it once."""
    spec = tmp_path / "platform.yaml"
    budget = SPEC.replace("acme: {}", "acme: {budgets: {tokensTotal: 1000}}")
    spec.write_text(budget.replace("TOTAL", "20").replace("CONNECT", "2"))
    ledger_url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    store = Store(ledger_url)
    KeyStore(store).ensure(KEY, tenant="acme", name="n", role="user")
    script = (step_source("submit") if is_stored else source("budget_lease")).sha.encode()

    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        async with Proxy(redis.url) as proxy:
            shared = ("--spec", str(spec), "--port", "0", "--ledger", ledger_url, "--journals", str(tmp_path / "j"))
            urls, gateways = [], []
            for name, url in (("one", proxy.redis_url), ("two", redis.url)):
                argv = ("stoker.gateway", *shared, "--redis", url)
                gateways.append(stack.enter_context(a_process(tmp_path / f"{name}.log", *argv)))
                urls.append((await ready(gateways[-1]))["url"])
            async with HttpClient(urls[0], key=KEY) as doomed, HttpClient(urls[1], key=KEY) as other:
                warm = await other.request("POST", "/v1/tasks", body=ASKED)  # Redis knows the scripts
                held = asyncio.create_task(proxy.hold_answer_to(script))
                asked = asyncio.create_task(post(doomed))
                await held
                gateways[0].kill()
                assert isinstance((await asyncio.gather(asked, return_exceptions=True))[0], Exception)
                proxy.cut()
                answer = await post(other)
                assert (answer.status, replayed(answer)) == (202, is_stored)
                again = await post(other)
                assert (again.json()["id"], replayed(again)) == (answer.json()["id"], True)
                async with aclosing(RedisQueue(redis.url)) as queue, aclosing(RedisBudgets(redis.url)) as budgets:
                    assert [task.id for task in await queue.list()] == [answer.json()["id"], warm.json()["id"]]
                    assert (await money(budgets))[:2] == (0, 2 * 42)
                    for task in await queue.list():
                        await queue.cancel(task.id)
                    with Redis.from_url(redis.url, protocol=2) as raw:  # the other one winds up the dead one's books
                        await until(lambda: raw.zcard("stoker:owners") == 1)
                    gateways[1].terminate()
                    assert await asyncio.to_thread(gateways[1].wait, 20) == 0
                    assert await money(budgets) == (0, 0, 0)
    store.close()


async def money(budgets: RedisBudgets) -> tuple[int, int, int]:
    """Spent, held, leased."""
    [counter] = await budgets.state(["tenant:acme:tokens:total"])
    assert counter is not None
    return counter.spent, counter.held, counter.leased


# --- the name of the task ---------------------------------------------------------------------------------------------

words = st.from_regex(PATTERN, fullmatch=True, alphabet=st.characters(min_codepoint=32, max_codepoint=126))


@given(
    first=st.tuples(st.text("ab", min_size=1, max_size=3), words),
    second=st.tuples(st.text("ab", min_size=1, max_size=3), words),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tasks_have_one_name_exactly_if_key_and_word_are_the_same(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    names = [asyncio.run(task_id_of(KeyId(f"key_{key}"), word)) for key, word in (first, second)]
    assert (names[0] == names[1]) == (first == second)
    assert names[0] == asyncio.run(task_id_of(KeyId(f"key_{first[0]}"), first[1]))


async def task_id_of(key_id: KeyId, word: str) -> TaskId:
    account = Account(id=key_id, name="", role="user", tenant_terms=TenantTerms("acme"))
    once = await once_of({"idempotency-key": word}, account, CHAT, ASKED)
    assert once is not None
    return once.task_id
