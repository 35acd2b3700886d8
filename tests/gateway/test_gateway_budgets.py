"""Budgets as clients meet them: every level and every field, over HTTP, on every way in, however a request ends."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import ADMIN_KEY, HELLO, SPEC, Stack, a_stack, events_of, running_worker, until
from openai import APIStatusError, RateLimitError
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import connect

from stoker.base.clock import SystemClock
from stoker.base.ids import ModelName, TaskId
from stoker.gateway import agents, app, ws
from stoker.meter.keys import KeyStore
from stoker.meter.usage import UsageRecord
from stoker.queue import MemoryBudgets, MemoryQueue, State, TokenBound
from stoker.queue.budgets import CounterState
from stoker.spec import Budgets, loads
from stoker.testing.engine import EchoEngine
from stoker.web.client import HttpClient

CHAT = "/v1/chat/completions"
NOON = 1_700_049_630.0  # 2023-11-15T12:00:30Z: the minute has half of it left

# One request: 4 tokens in and 4 out, $0.000012. At most 32 in (2 of the template, 8 of the message, 4 of its role, 18
# of its text) and what it asks for out: 42 tokens, $0.000052.
ASKED: dict[str, Any] = {"model": "general", "messages": HELLO, "max_tokens": 10}
HEADERS = {"X-Session-Id": "s", "X-Run-Id": "r"}
LEVELS = ("key", "team", "tenant", "session", "run")
SECRET = "sk-stoker-limited"
RESUMABLE = {"X-Stoker-Resumable": "true"}

# Each has room for one request and not for another one after it.
FIELDS = {
    "requests_per_minute": 1,
    "tokens_per_minute": 45,
    "tokens_per_day": 45,
    "usd_per_day": Decimal("0.00006"),
    "tokens_per_month": 45,
    "usd_per_month": Decimal("0.00006"),
    "tokens_total": 45,
    "usd_total": Decimal("0.00006"),
    "concurrent_requests": 1,
}


class Noon(SystemClock):
    """It is noon all day long, unless a test says otherwise."""

    later_s = 0.0

    def now(self) -> float:
        return NOON + self.later_s


@asynccontextmanager
async def limited(tmp_path: Path, level: str = "key", budgets: Budgets | None = None) -> AsyncIterator[Stack]:
    """A platform where a key, its team, its tenant, each of its sessions or runs has these budgets."""
    written = json.dumps({} if budgets is None else budgets.model_dump(mode="json", by_alias=True, exclude_none=True))
    given = re.sub(r'"([0-9.]+)"', r"\1", written)  # money is a number in YAML
    said = {"team": f"teams: {{red: {{budgets: {given}}}}}", "key": "teams: {red: {}}"}.get(level)
    if said is None:
        name = {"tenant": "budgets", "session": "sessionBudgets", "run": "runBudgets"}[level]
        said = f"{name}: {given}, teams: {{red: {{}}}}"
    platform = loads(SPEC.replace("TOTAL", "20").replace("CONNECT", "2").replace("acme: {}", f"acme: {{{said}}}"))
    clock = Noon()
    queue = MemoryQueue(clock=clock)
    books = MemoryBudgets(queue, clock=clock)
    async with a_stack(tmp_path, platform=platform, queue=queue, budgets=books, clock=clock) as stack:
        of_key = budgets if level == "key" and budgets is not None else Budgets()
        keys = KeyStore(stack.store)
        made = keys.create(tenant="acme", name="limited", team="red", budgets=of_key)
        stack.limited_key = made.secret  # type: ignore[attr-defined]
        stack.limited_id = made.key.id  # type: ignore[attr-defined]
        yield stack


async def a_client(stack: Stack) -> HttpClient:
    return await stack.http(stack.limited_key)  # type: ignore[attr-defined]


async def state(stack: Stack, unit: str, window: str = "total") -> CounterState:
    """The key's own counter."""
    [found] = await stack.budgets.state([f"key:{stack.limited_id}:{unit}:{window}"])  # type: ignore[attr-defined]
    assert found is not None
    return found


async def in_use(stack: Stack, unit: str = "concurrent") -> int:
    """What this gateway has set aside for requests that run."""
    name = f"key:{stack.limited_id}:{unit}:total"  # type: ignore[attr-defined]
    return (await state(stack, unit)).leased - stack.gateway.life.owner.slices.unused(name)


def refusal(level: str, field: str) -> tuple[int, str, str, str | None]:
    """Status, code, message and Retry-After of the second request."""
    whose = "run r's" if level == "run" else f"the {level}'s"
    what, window = (field.rsplit("_", 1)[0].removesuffix("_per"), field.rsplit("_", 1)[1])
    if field == "concurrent_requests":
        words = f"{whose} budget of 1 requests at once has 0 requests at once left; this request could take "
        hint = " (one of those that run has to end first)"
        return 429, "too_many_requests", words + "1 requests at once" + hint, "1"
    per = "" if window == "total" else f" per {window}"
    limit, left, need = {
        "requests": ("1 requests", "0 requests", "1 requests"),
        "tokens": ("45 tokens", "37 tokens", "42 tokens"),
        "usd": ("$0.00006", "$0.000048", "$0.000052"),
    }[what]
    words = f"{whose} budget of {limit}{per} has {left} left; this request could take {need}"
    if window == "total":
        return 402, "budget_exhausted", f"{words} (it does not renew by itself)", None
    renews = {"minute": "30", "day": "43170", "month": "1339170"}[window]
    return 429, f"{what}_budget_exceeded", f"{words} (it renews in {renews} s)", renews


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("level", LEVELS)
async def test_every_field_holds_on_every_level(tmp_path: Path, level: str, field: str) -> None:
    async with limited(tmp_path, level, Budgets(**{field: FIELDS[field]})) as stack:
        engine = await stack.engine()
        http = await a_client(stack)
        first = asyncio.create_task(http.request("POST", CHAT, body=ASKED, headers=HEADERS))
        if field == "concurrent_requests":
            hold = engine.hold_at(0)
            await hold.reached()
        else:
            assert (await first).status == 200
        answer = await http.request("POST", CHAT, body=ASKED, headers=HEADERS)
        status, code, message, retry_after = refusal(level, field)
        error = answer.json()["error"]
        assert (answer.status, error["code"], error["message"]) == (status, code, message)
        assert error["type"] == ("insufficient_quota" if status == 402 else "rate_limit_error")
        assert answer.headers.get("retry-after") == retry_after
        assert len(engine.requests) == 1
        if field == "concurrent_requests":
            hold.open.set()
            assert (await first).status == 200
        # Only what was let in is in the ledger, and others of the tenant that are not in this scope go on.
        assert (await stack.record()).status == "done"
        if level in ("session", "run"):
            assert (await http.request("POST", CHAT, body=ASKED)).status == 200
        if level in ("key", "team"):
            assert (await (await stack.http()).request("POST", CHAT, body=ASKED)).status == 200


@pytest.mark.parametrize(
    ("field", "kind", "limit", "left", "reset"),
    [
        ("requests_per_minute", "requests", "1", "0", "30s"),
        ("tokens_per_minute", "tokens", "45", "37", "30s"),
        ("tokens_per_day", "tokens", "45", "37", "11h59m30s"),
        ("tokens_total", "tokens", "45", "37", None),
    ],
)
async def test_answers_and_refusals_say_what_is_left_in_openais_headers(
    tmp_path: Path, field: str, kind: str, limit: str, left: str, reset: str | None
) -> None:
    async with limited(tmp_path, budgets=Budgets(**{field: FIELDS[field]})) as stack:
        await stack.engine()
        http = await a_client(stack)
        for status in (200, 402 if reset is None else 429):
            answer = await http.request("POST", CHAT, body=ASKED)
            assert answer.status == status
            assert answer.headers[f"x-ratelimit-limit-{kind}"] == limit
            assert answer.headers[f"x-ratelimit-remaining-{kind}"] == left
            assert answer.headers.get(f"x-ratelimit-reset-{kind}") == reset


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        (
            Budgets(request_tokens=41),
            "this request could take 42 tokens (32 of prompt and 10 of answer at most); one request may take 41",
        ),
        (
            Budgets(request_usd=Decimal("0.00005")),
            "this request could cost $0.000052; one request may cost $0.00005",
        ),
    ],
)
@pytest.mark.parametrize("level", LEVELS)
async def test_no_request_may_cost_more_than_one_may(
    tmp_path: Path, level: str, budgets: Budgets, message: str
) -> None:
    async with limited(tmp_path, level, budgets) as stack:
        engine = await stack.engine()
        http = await a_client(stack)
        answer = await http.request("POST", CHAT, body=ASKED, headers=HEADERS)
        error = answer.json()["error"]
        assert (answer.status, error["code"], error["param"]) == (400, "request_over_budget", "max_tokens")
        assert error["message"] == f"{message} (ask for a shorter answer, or send less)"
        assert (await http.request("POST", CHAT, body={**ASKED, "max_tokens": 9}, headers=HEADERS)).status == 200
        assert [request.body["max_tokens"] for request in engine.requests] == [9]


async def test_near_the_end_an_answer_of_no_stated_length_is_shorter(tmp_path: Path) -> None:
    async with limited(tmp_path, budgets=Budgets(tokens_total=52)) as stack:
        engine = await stack.engine()
        engine.reply = " ".join(["word"] * 60)
        sdk = await stack.sdk(key=stack.limited_key)  # type: ignore[attr-defined]
        answer = await sdk.chat.completions.create(model="general", messages=HELLO)  # type: ignore[arg-type]
        assert answer.choices[0].finish_reason == "length"
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 20)  # type: ignore[union-attr]
        assert engine.requests[0].body["max_completion_tokens"] == 20
        with pytest.raises(APIStatusError) as caught:
            await sdk.chat.completions.create(model="general", messages=HELLO)  # type: ignore[arg-type]
        assert (caught.value.status_code, caught.value.code) == (402, "budget_exhausted")
        assert "has 28 tokens left" in caught.value.message


async def test_sixty_four_at_once_on_a_budget_of_five(tmp_path: Path) -> None:
    async with limited(tmp_path, budgets=Budgets(requests_per_minute=5)) as stack:
        engine = await stack.engine(capacity=64)
        http = await a_client(stack)
        asking = [http.request("POST", CHAT, body=ASKED) for _ in range(64)]
        statuses = [answer.status for answer in await asyncio.gather(*asking)]
        assert (statuses.count(200), statuses.count(429)) == (5, 59)
        assert len(engine.requests) == 5
        assert len(await stack.records()) == 5


# --- however it ends --------------------------------------------------------------------------------------------------


async def test_a_slot_is_free_again_however_the_request_ends(tmp_path: Path) -> None:
    async with limited(tmp_path, budgets=Budgets(concurrent_requests=1, tokens_total=100_000)) as stack:
        engine = await stack.engine()
        http = await a_client(stack)

        async def is_free() -> None:
            async with asyncio.timeout(20):
                while await in_use(stack) or await in_use(stack, "tokens"):  # noqa: ASYNC110 - it ends elsewhere
                    await asyncio.sleep(0.002)

        for stream in (False, True):
            body = {**ASKED, "stream": stream}
            await http.request("POST", CHAT, body=body)
            await is_free()
            for status in (422, 500):
                engine.refuse(status, {"error": {"message": "no"}})
                assert (await http.request("POST", CHAT, body=body)).status == status
                await is_free()
            hold = engine.hold_at(0)
            leaving = asyncio.create_task(http.request("POST", CHAT, body=body))
            request = await hold.reached()
            assert (await http.request("POST", CHAT, body=body)).status == 429
            leaving.cancel()
            await request.end()
            await is_free()
        engine.break_off_after(2)
        async with http.stream("POST", CHAT, body={**ASKED, "stream": True}) as answer:
            await events_of(answer)
        await is_free()
        hold = engine.hold_at(2)
        async with http.stream("POST", CHAT, body={**ASKED, "stream": True}) as answer:
            await anext(answer.events)
            await hold.reached()
        await is_free()
        records = await stack.records()
        used = sum(record.prompt_tokens + record.completion_tokens for record in records)
        assert (await state(stack, "tokens")).spent == used
        assert {record.status for record in records} == {"done", "failed", "cancelled"}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_goes_through_the_queue_is_held_and_settled(tmp_path: Path, stream: bool) -> None:
    async with limited(tmp_path, budgets=Budgets(concurrent_requests=1, tokens_total=100)) as stack:
        http = await a_client(stack)
        asking = asyncio.create_task(http.request("POST", CHAT, body={**ASKED, "stream": stream}))
        await until(lambda: len(stack.queue._kept) == 1)  # type: ignore[attr-defined]
        assert ((await state(stack, "tokens")).held, (await state(stack, "concurrent")).held) == (42, 1)
        assert (await http.request("POST", CHAT, body=ASKED)).status == 429
        async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
            assert (await asking).status == 200
        for unit, spent in (("tokens", 8), ("concurrent", 0)):
            found = await state(stack, unit)
            assert (found.held, found.spent) == (0, spent)
        assert (await stack.record()).kind == "task"


async def test_a_task_holds_its_budget_until_it_ends(tmp_path: Path) -> None:
    async with limited(tmp_path, budgets=Budgets(tokens_total=100)) as stack:
        http = await a_client(stack)
        first = (await http.post_json("/v1/tasks", ASKED))["id"]
        second = (await http.post_json("/v1/tasks", ASKED))["id"]
        assert (await state(stack, "tokens")).held == 84
        answer = await http.request("POST", "/v1/tasks", body=ASKED)
        assert (answer.status, answer.json()["error"]["code"]) == (402, "budget_exhausted")
        assert answer.headers["x-ratelimit-remaining-tokens"] == "16"
        await http.request("DELETE", f"/v1/tasks/{first}")
        assert (await state(stack, "tokens")).held == 42
        async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
            assert (await http.get_json(f"/v1/tasks/{second}", {"wait": "20"}))["state"] == "done"
        found = await state(stack, "tokens")
        assert (found.held, found.spent) == (0, 8)
        statuses = {record.id: record.status for record in await stack.records()}
        assert statuses == {first: "cancelled", second: "done"}


async def test_a_task_whose_next_attempt_fits_only_with_what_a_gateway_does_not_use_gets_that(tmp_path: Path) -> None:
    async with limited(tmp_path, budgets=Budgets(tokens_total=90)) as stack:
        http = await a_client(stack)
        task_id = (await http.post_json("/v1/tasks", ASKED))["id"]
        [lost] = await stack.queue.claim(ModelName("general"), "w0", lease_s=0)
        # Two attempts are 84; the gateway has leased ahead of what is left of the 90.
        before = await state(stack, "tokens")
        assert (before.held, before.spent) == (42, 0)
        assert 90 - 42 - before.leased < 42
        await stack.queue.reclaim(ModelName("general"))
        shown = await http.get_json(f"/v1/tasks/{task_id}")
        assert (shown["state"], len(shown["failures"])) == ("retrying", 1)
        assert shown["failures"][0]["why"].startswith("lease expired: worker w0")
        assert (await state(stack, "tokens")).held == 42

        await stack.gateway.life.renew()  # as it does every half second
        assert (await state(stack, "tokens")).leased == 0
        stack.clock.later_s = 1.0  # type: ignore[attr-defined]
        await stack.queue.reclaim(ModelName("general"))
        assert (await state(stack, "tokens")).held == 84
        async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
            assert (await http.get_json(f"/v1/tasks/{task_id}", {"wait": "20"}))["state"] == "done"
        found = await state(stack, "tokens")
        assert (found.held, found.spent) == (0, 42 + 8)
        # The lost attempt as it was let in, and the other as it was.
        record = await stack.record()
        assert (record.prompt_tokens, record.completion_tokens, record.nano_usd) == (32 + 4, 10 + 4, 52_000 + 12_000)
        assert lost.task.bound == (32, 10, 52_000)


async def test_a_gateway_that_was_taken_for_dead_meanwhile_lets_the_task_in_with_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.gateway.admission.RENEW_S", 0.001)  # nobody is there to give anything back
    async with limited(tmp_path, budgets=Budgets(tokens_total=200)) as stack:
        http = await a_client(stack)
        real, former = stack.queue.submit, stack.gateway.life.owner.name

        async def late(*args: Any, **options: Any) -> Any:
            await stack.budgets.take_over(former, "another", ttl_s=30, is_proved_dead=True)
            return await real(*args, **options)

        monkeypatch.setattr(stack.queue, "submit", late)
        shown = await http.post_json("/v1/tasks", {"model": "general", "messages": HELLO})
        task = await stack.queue.get(TaskId(shown["id"]))
        # The dead one keeps 132 and a quarter of what was free beside it.
        assert task.body["max_completion_tokens"] == 200 - 149 - 32
        assert (await state(stack, "tokens")).held == 51
        assert stack.gateway.life.owner.name != former


@pytest.mark.parametrize("others", [1, 2])
async def test_a_dead_task_is_let_in_anew_if_its_budget_has_room(tmp_path: Path, others: int) -> None:
    async with limited(tmp_path, budgets=Budgets(tokens_total=50)) as stack:
        http, admin = await a_client(stack), await stack.http(ADMIN_KEY)
        task_id = (await http.post_json("/v1/tasks", ASKED))["id"]
        kept = stack.queue._kept[TaskId(task_id)]  # type: ignore[attr-defined]
        async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
            engine.refuse(422, {"error": {"message": "poison"}})
            await until(lambda: kept.task.state is State.DEAD)
            for _ in range(others):
                assert (await http.request("POST", CHAT, body=ASKED)).status == 200
            found = await state(stack, "tokens")
            assert (found.held, found.spent) == (0, 8 * others)
            kept.task = replace(kept.task, bound=TokenBound(1, 1, 1))  # as if it had cost less in those days

            answer = await admin.request("POST", f"/admin/v1/tasks/{task_id}/retry")
            if others == 1:
                assert answer.status == 200
                await until(lambda: kept.task.state is State.DONE)
                assert kept.task.bound == (32, 10, 52_000)
            else:
                assert (answer.status, kept.task.state) == (402, State.DEAD)
                assert answer.json()["error"]["message"].startswith(
                    "the key's budget of 50 tokens has 34 tokens left; this request could take 42 tokens"
                )
        found = await state(stack, "tokens")
        assert (found.held, found.spent) == (0, 16)
        records = {record.id: record.status for record in await stack.records()}
        assert records[task_id] == "failed"
        assert records.get(f"{task_id}.1") == ("done" if others == 1 else None)


# --- limits that come and go ------------------------------------------------------------------------------------------


@asynccontextmanager
async def unlimited(tmp_path: Path) -> AsyncIterator[Stack]:
    """A platform with a tenant and a key of it that are not written in its file."""
    async with limited(tmp_path) as stack:
        admin = await stack.http(ADMIN_KEY)
        await admin.post_json("/admin/v1/tenants", {"name": "beta"})
        made = await admin.post_json("/admin/v1/keys", {"tenant": "beta", "name": "of beta"})
        stack.limited_key, stack.limited_id = made["key"], made["id"]  # type: ignore[attr-defined]
        yield stack


async def set_limit(stack: Stack, tokens: int | None, level: str = "key") -> None:
    """As `stoker keys update` and `stoker tenants update` do; it holds when this returns."""
    path = f"keys/{stack.limited_id}" if level == "key" else "tenants/beta"  # type: ignore[attr-defined]
    field = "sessionBudgets" if level == "session" else "budgets"
    admin = await stack.http(ADMIN_KEY)
    changed = await admin.request("PATCH", f"/admin/v1/{path}", body={field: {"tokensTotal": tokens}})
    assert changed.status == 200, changed.json()
    await stack.gateway.services.auth._read_revision()


async def status_of(stack: Stack) -> int:
    return (await (await a_client(stack)).request("POST", CHAT, body=ASKED, headers=HEADERS)).status


@pytest.mark.parametrize("level", ["key", "tenant", "session"])
async def test_what_is_spent_while_a_limit_is_taken_away_counts_when_it_is_set_again(
    tmp_path: Path, level: str
) -> None:
    async with unlimited(tmp_path) as stack:
        await stack.engine()
        await set_limit(stack, 100, level)
        assert await status_of(stack) == 200  # 8 are spent
        await set_limit(stack, None, level)
        assert [await status_of(stack) for _ in range(8)] == [200] * 8  # 72
        await stack.gateway.services.settle_all()
        await stack.gateway.life.renew()  # what was set aside of it is spent now, and is given back
        await set_limit(stack, 100, level)
        answer = await (await a_client(stack)).request("POST", CHAT, body=ASKED, headers=HEADERS)
        assert (answer.status, answer.json()["error"]["code"]) == (402, "budget_exhausted")
        assert "has 28 tokens left" in answer.json()["error"]["message"]
        assert sum(record.prompt_tokens + record.completion_tokens for record in await stack.records()) == 72


@pytest.mark.parametrize("level", ["key", "tenant", "session"])
async def test_a_limit_that_is_set_while_requests_run_sees_what_they_come_to(tmp_path: Path, level: str) -> None:
    async with unlimited(tmp_path) as stack:
        engine = await stack.engine(capacity=8)
        http = await a_client(stack)
        holds = [engine.hold_at(0) for _ in range(5)]
        body = {**ASKED, "stream": True}
        running = [asyncio.create_task(http.request("POST", CHAT, body=body, headers=HEADERS)) for _ in range(5)]
        for hold in holds:
            await hold.reached()
        await set_limit(stack, 82, level)
        assert await status_of(stack) == 200  # it begins the counter, from a ledger that knows of nothing
        for hold in holds:
            hold.open.set()
        assert [answer.status for answer in await asyncio.gather(*running)] == [200] * 5
        await stack.gateway.services.settle_all()
        await stack.gateway.life.renew()
        answer = await http.request("POST", CHAT, body=ASKED, headers=HEADERS)
        assert answer.status == 402
        assert "has 34 tokens left" in answer.json()["error"]["message"]  # 82 - 6 * 8


async def test_a_limit_that_is_set_while_tasks_wait_sees_what_they_come_to(tmp_path: Path) -> None:
    async with unlimited(tmp_path) as stack:
        http = await a_client(stack)
        waiting = [(await http.post_json("/v1/tasks", ASKED))["id"] for _ in range(5)]
        await set_limit(stack, 82)
        last = (await http.post_json("/v1/tasks", ASKED))["id"]  # it begins the counter
        async with EchoEngine() as engine, running_worker(stack, engine, "w1"):
            for id in (*waiting, last):
                assert (await http.get_json(f"/v1/tasks/{id}", {"wait": "20"}))["state"] == "done"
        found = await state(stack, "tokens")
        assert (found.held, found.spent) == (0, 48)
        assert (await http.request("POST", "/v1/tasks", body=ASKED)).status == 402


# --- the receipt ------------------------------------------------------------------------------------------------------


async def test_the_sdk_reads_a_receipt_without_stumbling(tmp_path: Path) -> None:
    async with limited(tmp_path, budgets=Budgets(tokens_total=1000, usd_total=Decimal(1))) as stack:
        await stack.engine()
        sdk = await stack.sdk(key=stack.limited_key)  # type: ignore[attr-defined]
        whole = await sdk.chat.completions.with_raw_response.create(
            model="general",
            messages=HELLO,  # type: ignore[arg-type]
            extra_headers={"X-Session-Id": "s"},
        )
        told = {name: value for name, value in whole.headers.items() if name.startswith(("x-stoker", "x-ratelimit"))}
        assert told == {
            "x-stoker-model": "general",
            "x-stoker-route": "model",
            "x-stoker-replica": "general-0",
            "x-stoker-prompt-tokens": "4",
            "x-stoker-cached-tokens": "0",
            "x-stoker-completion-tokens": "4",
            "x-stoker-cost-usd": "0.000012000",
            "x-stoker-queue-wait-seconds": "0.000",
            "x-stoker-session-cost-usd": "0.000012000",
            "x-stoker-budget-left-usd": "0.999988000",
            "x-stoker-budget-left-tokens": "992",
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining-tokens": "992",
        }
        assert whole.parse().choices[0].message.content == "one two three four"

        for options in ({"include_usage": True}, {}):
            made: Any = await sdk.chat.completions.create(
                model="general",
                messages=HELLO,
                stream=True,
                stream_options=options,  # type: ignore[call-overload]
            )
            chunks = [chunk async for chunk in made]
            words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
            assert words == ["one", " two", " three", " four", None]
            if options:
                assert chunks[-1].usage.total_tokens == 8
                assert chunks[-1].stoker == {
                    "prompt_tokens": 4,
                    "cached_tokens": 0,
                    "completion_tokens": 4,
                    "cost_usd": 0.000012,
                    "queue_wait_s": 0.0,
                    "budget_left_tokens": 984,
                    "budget_left_usd": 0.999976,
                }


async def test_who_asked_for_no_usage_gets_the_receipt_as_a_comment(tmp_path: Path) -> None:
    async with limited(tmp_path, budgets=Budgets(tokens_total=1000)) as stack:
        await stack.engine()
        answer = await (await a_client(stack)).request("POST", CHAT, body={**ASKED, "stream": True})
        *_, receipt, done, end = answer.body.decode().split("\n\n")
        assert json.loads(receipt.removeprefix(": receipt "))["budget_left_tokens"] == 992
        assert (done, end) == ("data: [DONE]", "")


async def test_the_sdk_knows_a_refusal_for_what_it_is(tmp_path: Path) -> None:
    async with limited(tmp_path, budgets=Budgets(requests_per_minute=1)) as stack:
        await stack.engine()
        sdk = await stack.sdk(key=stack.limited_key)  # type: ignore[attr-defined]
        for stream in (False, True):
            if not stream:
                await sdk.chat.completions.create(model="general", messages=HELLO)  # type: ignore[arg-type]
            with pytest.raises(RateLimitError) as caught:
                await sdk.chat.completions.create(model="general", messages=HELLO, stream=stream)  # type: ignore[call-overload]
            assert caught.value.code == "requests_budget_exceeded"
            assert caught.value.response.headers["retry-after"] == "30"


# --- no way round -----------------------------------------------------------------------------------------------------

PREFIXES = ("", "/general", "/code", "/vision")
SPENDS = {
    "/v1/chat/completions": ASKED,
    "/v1/completions": {"model": "general", "prompt": "a b", "max_tokens": 10},
    "/v1/general/chat/completions": {**ASKED, "model": "auto"},
    "/v1/general/completions": {"prompt": "a b", "max_tokens": 10},
    "/v1/code/chat/completions": {**ASKED, "model": "auto"},
    "/v1/code/completions": {"prompt": "a b", "max_tokens": 10},
    "/v1/vision/chat/completions": {**ASKED, "model": "auto"},
    "/v1/vision/completions": {"prompt": "a b", "max_tokens": 10},
    "/v1/tasks": ASKED,
    **{f"/v1{prefix}/responses": {"input": "a b", "max_output_tokens": 10} for prefix in PREFIXES},
    **{f"/v1{prefix}/embeddings": {"input": "a b c d"} for prefix in PREFIXES},
}
BY_WEBSOCKET = {"/v1/ws": {action: SPENDS[path] for action, path in ws.GENERATES.items()}}
DOES_NOT_SPEND = {
    "/admin/v1/tasks/{id}/retry",  # admits anew, see test_a_dead_task_is_let_in_anew_if_its_budget_has_room
    "/admin/v1/dead/replay",  # so do these, see test_each_replay_has_a_reservation_of_its_own_... and
    "/admin/v1/dead/replay-from-sqs",  # test_what_its_budget_does_not_allow_stays_in_sqs
    "/admin/v1/dead/drop",
    "/admin/v1/usage/prune",
    "/admin/v1/cost",
    "/admin/v1/tenants",
    "/admin/v1/tenants/{tenant}",
    "/admin/v1/tenants/{tenant}/teams/{team}",
    "/admin/v1/keys",
    "/admin/v1/keys/{id}",
    "/admin/v1/keys/{id}/rotate",
    "/v1/tasks/{id}",
    "/v1/streams/{id}",
    "/v1/files",
    "/v1/files/{id}",
    "/v1/batches",  # its lines do, each let in as a task is: test_gateway_batches.py, tests/flow/test_batches.py
    "/v1/batches/{id}/cancel",
    # What their runs ask models for comes with a grant, as requests do: test_gateway_grants.py
    *(path for path, methods in agents.PATHS.items() if set(methods) != {"GET"}),
    agents.BELOW,
}


async def test_every_way_in_is_known(tmp_path: Path) -> None:
    async with limited(tmp_path) as stack:
        routes = app.create(stack.gateway.services).routes
    sockets = {route.path for route in routes if isinstance(route, WebSocketRoute)}
    changing = {route.path for route in routes if set(getattr(route, "methods", None) or ()) - {"GET", "HEAD"}}
    assert changing == SPENDS.keys() | DOES_NOT_SPEND
    assert sockets == BY_WEBSOCKET.keys() | {agents.SOCKET, agents.BELOW}
    assert set(ws.ACTIONS) == BY_WEBSOCKET["/v1/ws"].keys() | {"resume", "cancel", "ping"}


async def test_no_way_in_leads_round_a_budget_that_is_used_up(tmp_path: Path) -> None:
    async with limited(tmp_path, budgets=Budgets(tokens_total=1000)) as stack:
        before = already_spent(stack, 1000)
        engines = [await stack.engine(model) for model in ("general", "code", "vision")]
        http = await a_client(stack)
        for path, body in SPENDS.items():
            for stream in (False, True):
                if stream and path.endswith("/embeddings"):
                    continue  # they have none
                answer = await http.request("POST", path, body={**body, "stream": stream})
                assert (answer.status, answer.json()["error"]["code"]) == (402, "budget_exhausted"), path
            if path.endswith("/embeddings"):
                continue
            answer = await http.request("POST", path, body={**body, "stream": True}, headers=RESUMABLE)
            assert (answer.status, answer.json()["error"]["code"]) == (402, "budget_exhausted"), path
        for path, bodies in BY_WEBSOCKET.items():
            key = {"Authorization": f"Bearer {stack.limited_key}"}  # type: ignore[attr-defined]
            async with connect(stack.url.replace("http", "ws") + path, additional_headers=key, proxy=None) as socket:
                for action, body in bodies.items():
                    for stream, resumable in ((False, False), (True, False), (True, True)):
                        said = {"id": "a", "action": action, "resumable": resumable, "body": {**body, "stream": stream}}
                        await socket.send(json.dumps(said))
                        error = json.loads(await socket.recv())
                        assert (error["status"], error["error"]["code"]) == (402, "budget_exhausted"), action
        assert [engine.requests for engine in engines] == [[], [], []]
        assert stack.queue._kept == {}  # type: ignore[attr-defined]
        assert await stack.records() == [before]


def already_spent(stack: Stack, tokens: int) -> UsageRecord:
    """By the limited key, before anybody asked how much that is."""
    record = UsageRecord(
        id="req_before",
        kind="request",
        status="done",
        tenant="acme",
        team="red",
        key_id=stack.limited_id,  # type: ignore[attr-defined]
        model="general",
        prompt_tokens=tokens,
        completion_tokens=0,
        nano_usd=0,
        started_at=NOON - 1,
        ended_at=NOON - 1,
    )
    stack.gateway.services.ledger.append([record])
    return record


async def test_on_no_way_in_may_a_request_be_larger_than_a_whole_budget(tmp_path: Path) -> None:
    async with limited(tmp_path, budgets=Budgets(tokens_per_month=10)) as stack:
        engines = [await stack.engine(model) for model in ("general", "code", "vision")]
        http = await a_client(stack)
        for path, body in SPENDS.items():
            for stream in (False, True):
                if stream and path.endswith("/embeddings"):
                    continue
                answer = await http.request("POST", path, body={**body, "stream": stream})
                error = answer.json()["error"]
                assert (answer.status, error["code"], error["param"]) == (400, "request_over_budget", "max_tokens")
                said = "; the key's budget is 10 tokens per month (ask for a shorter answer, or send less)"
                assert error["message"].endswith(said), path
                assert "retry-after" not in answer.headers
        assert [engine.requests for engine in engines] == [[], [], []]
        assert await stack.records() == []


async def test_a_task_is_not_replayed_on_a_budget_that_is_too_small_for_it_now(tmp_path: Path) -> None:
    async with limited(tmp_path, budgets=Budgets(tokens_per_month=100)) as stack:
        task_id = (await (await a_client(stack)).post_json("/v1/tasks", ASKED))["id"]
        [claim] = await stack.queue.claim(ModelName("general"), "w1", wait_s=20)
        await stack.queue.fail(claim, "poison", retry_in_s=None)
        keys = KeyStore(stack.store)
        keys.change(stack.limited_id, lambda key: replace(key, budgets=Budgets(tokens_per_month=41)))  # type: ignore[attr-defined]
        answer = await (await stack.http(ADMIN_KEY)).request("POST", f"/admin/v1/tasks/{task_id}/retry")
        assert (answer.status, answer.json()["error"]["code"]) == (400, "request_over_budget")
        assert (await stack.queue.get(TaskId(task_id))).state is State.DEAD


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"n": "3"}, "n"),
        ({"n": 3.0}, "n"),
        ({"n": True}, "n"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"best_of": 10**30}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"chat_template": "{{ 'x' * 10**9 }}"}, "chat_template"),
        ({"prompt_embeds": "AAAA"}, "prompt_embeds"),
    ],
)
async def test_what_an_engine_might_read_as_more_is_refused(tmp_path: Path, changes: Any, param: str) -> None:
    async with limited(tmp_path) as stack:
        engine = await stack.engine()
        answer = await (await a_client(stack)).request("POST", CHAT, body={**ASKED, **changes})
        assert (answer.status, answer.json()["error"]["param"]) == (400, param)
        assert engine.requests == []


async def test_both_names_of_a_length_are_bounded_on_completions(tmp_path: Path) -> None:
    async with limited(tmp_path, budgets=Budgets(tokens_total=10_000)) as stack:
        engine = await stack.engine()
        http = await a_client(stack)
        path = "/v1/completions"
        for said, sent in (
            ({"max_completion_tokens": 10**6}, (100, 100)),
            ({"max_completion_tokens": 7}, (7, 7)),
            ({"max_completion_tokens": 10**6, "max_tokens": 5}, (5, 100)),
            ({}, (100, None)),
        ):
            assert (await http.request("POST", path, body={"prompt": "a b", "model": "general", **said})).status == 200
            body = engine.requests[-1].body
            assert (body["max_tokens"], body.get("max_completion_tokens")) == sent
        answer = await http.request("POST", path, body={"prompt": "a", "max_completion_tokens": "many"})
        assert (answer.status, answer.json()["error"]["param"]) == (400, "max_completion_tokens")


async def test_several_answers_are_reserved_together(tmp_path: Path) -> None:
    async with limited(tmp_path, budgets=Budgets(tokens_total=61)) as stack:
        engine = await stack.engine()
        http = await a_client(stack)
        answer = await http.request("POST", CHAT, body={**ASKED, "n": 3})
        assert "this request could take 62 tokens" in answer.json()["error"]["message"]
        assert (await http.request("POST", CHAT, body={**ASKED, "n": 2})).status == 200
        await stack.gateway.services.settle_all()
        assert (await state(stack, "tokens")).spent == 4 + 8
        assert len(engine.requests) == 1


async def test_the_first_key_with_a_budget_works_at_once_though_others_spent_before_it(tmp_path: Path) -> None:
    """The books are opened at the start, when nobody has spent: later it would look as if Redis had lost them."""
    async with a_stack(tmp_path) as stack:
        await stack.engine()
        await (await stack.http()).post_json("/v1/chat/completions", {"model": "general", "messages": HELLO})
        assert len(await stack.records()) == 1

        made = KeyStore(stack.store).create("acme", budgets=Budgets(tokens_total=1000))
        answer = await (await stack.http(made.secret)).request(
            "POST", "/v1/chat/completions", body={"model": "general", "messages": HELLO}
        )
        assert answer.status == 200


@pytest.mark.parametrize("room", [208, 207])
async def test_an_attempt_that_an_engine_elsewhere_took_and_lost_is_paid_for_and_the_next_one_let_in_anew(
    tmp_path: Path, room: int
) -> None:
    """Nobody can say what it produced, so all that was reserved counts: 104 tokens, twice if there is room for it."""
    said = SPEC.replace("TOTAL", "20").replace("CONNECT", "2")
    platform = loads(said.replace("aliases: [gpt-4o]", "engine: {url: 'http://127.0.0.1:1/v1', model: general}"))
    async with a_stack(tmp_path, platform=platform) as stack:
        engine = await stack.engine()
        await stack.announce(engine)
        engine.tells = False
        engine.break_off_after(0)
        made = KeyStore(stack.store).create("acme", budgets=Budgets(tokens_total=room))
        answer = await (await stack.http(made.secret)).request("POST", CHAT, body=ASKED)

        lost, *rest = sorted(await stack.records(), key=lambda record: record.started_at + record.ended_at)
        assert (lost.status, lost.prompt_tokens, lost.completion_tokens) == ("failed", 94, 10)
        broke_off = r"replica general-[01] closed the connection in the middle of the answer"
        assert re.fullmatch(f"{broke_off}: nobody can say what it produced", lost.reason or "")
        if room == 208:
            assert answer.status == 200
            assert [(record.status, record.prompt_tokens + record.completion_tokens) for record in rest] == [
                ("done", 8)
            ]
            assert len(engine.requests) == 2
        else:
            assert (answer.status, rest, len(engine.requests)) == (402, [], 1)
