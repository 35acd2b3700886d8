"""Hard budgets under a race: many requests at once, on gateway processes that know of each other only through Redis."""

import asyncio
import json
import re
from collections import Counter as Tally
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from budget_parts import CHAT, Cluster, a_cluster, bearer, chat, until

from stoker.gateway.receipts import money
from stoker.meter.cost import usd
from stoker.meter.keys import NewSecret
from stoker.policy.budgets import Counter
from stoker.testing.engine import EchoEngine, Hold
from stoker.web.client import Answer

pytestmark = [pytest.mark.flow, pytest.mark.redis, pytest.mark.asyncio(loop_scope="module")]

AT_ONCE = 64
# An answer of as many tokens as it may have: what a call costs is close to what it could.
REPLY = " ".join(["word"] * 100)
CALL = chat("one two three four", max_tokens=100)
CALL_TOKENS = 4 + 100
CALL_NANO_USD = 4 * 1000 + 100 * 2000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with a_cluster(tmp_path_factory.mktemp("one"), gateways=1) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with a_cluster(tmp_path_factory.mktemp("three"), gateways=3) as made:
        yield made


class Race:
    """Requests spread over the gateways, all at once, while the engine holds every answer."""

    def __init__(self, cluster: Cluster, engine: EchoEngine, key: NewSecret) -> None:
        self._engine = engine
        self._before = len(engine.requests)
        self._holds: list[Hold] = [engine.hold_at(0) for _ in range(AT_ONCE)]
        spread = range(len(cluster.gateways))
        self._asking = [
            asyncio.create_task(cluster.ask(spread[each % len(spread)], key, CALL)) for each in range(AT_ONCE)
        ]

    async def __aenter__(self) -> "Race":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.let_go()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def decided(self) -> list[Answer]:
        """Those that were refused, when each is either refused or at the engine."""
        await until(lambda: len(self._engine.requests) - self._before + len(self._refused()) >= AT_ONCE)
        return self._refused()

    def let_go(self) -> None:
        for hold in self._holds:
            hold.open.set()

    async def answers(self) -> list[Answer]:
        return await asyncio.gather(*self._asking)

    def _refused(self) -> list[Answer]:
        return [task.result() for task in self._asking if task.done()]


def error_in(answer: Answer) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    return error


async def test_a_budget_of_five_calls_lets_five_of_64_in(one: Cluster) -> None:
    await five_of_64(one)


async def test_a_budget_of_five_calls_lets_five_of_64_in_on_three_gateways(three: Cluster) -> None:
    await five_of_64(three)


async def five_of_64(cluster: Cluster) -> None:
    bound = cluster.bound(CALL).tokens
    key = cluster.key(tokens_total=5 * bound)
    (counter,) = cluster.counters(key)
    async with cluster.engine(reply=REPLY) as engine, Race(cluster, engine, key) as race:
        refused = await race.decided()

        assert len(engine.requests) == 5
        state = await cluster.state(counter)
        assert (state.spent, state.leased, state.held, state.limit) == (0, 5 * bound, 0, 5 * bound)
        assert Tally(answer.status for answer in refused) == {402: 59}
        for answer in refused:
            error = error_in(answer)
            assert (error["type"], error["code"]) == ("insufficient_quota", "budget_exhausted")
            said = re.fullmatch(
                rf"the key's budget of {5 * bound} tokens has (\d+) tokens left; "
                rf"this request could take {bound} tokens \(it does not renew by itself\)",
                error["message"],
            )
            assert said, error["message"]
            assert int(said[1]) < bound
            headers = answer.headers
            assert headers["x-ratelimit-limit-tokens"] == str(5 * bound)
            assert int(headers["x-ratelimit-remaining-tokens"]) < bound
            assert "x-ratelimit-reset-tokens" not in headers
            assert "retry-after" not in headers

        race.let_go()
        answers = await race.answers()
        assert Tally(answer.status for answer in answers) == {402: 59, 200: 5}
        await assert_written(cluster, key, counter, calls=5)
    assert len(engine.requests) == 5


async def test_a_budget_in_dollars_lets_five_of_64_in(three: Cluster) -> None:
    bound = three.bound(CALL).nano_usd
    key = three.key(usd_total=usd(5 * bound))
    (counter,) = three.counters(key)
    async with three.engine(reply=REPLY) as engine, Race(three, engine, key) as race:
        refused = await race.decided()

        assert len(engine.requests) == 5
        assert Tally(answer.status for answer in refused) == {402: 59}
        for answer in refused:
            said = re.match(
                rf"the key's budget of {re.escape(money(5 * bound))} has \$([\d.]+) left; "
                rf"this request could take {re.escape(money(bound))} ",
                error_in(answer)["message"],
            )
            assert said, error_in(answer)["message"]
            assert float(said[1]) * 1e9 < bound
            assert float(answer.headers["x-stoker-budget-left-usd"]) * 1e9 < bound

        race.let_go()
        assert Tally(answer.status for answer in await race.answers()) == {402: 59, 200: 5}
        await assert_written(three, key, counter, calls=5)


async def assert_written(cluster: Cluster, key: NewSecret, counter: Counter, *, calls: int) -> None:
    """The ledger has each call once, and Redis says the same is spent."""
    records = await cluster.records_when(key, calls)
    assert Tally(record.status for record in records) == {"done": calls}
    assert sum(record.prompt_tokens + record.completion_tokens for record in records) == calls * CALL_TOKENS
    assert sum(record.nano_usd for record in records) == calls * CALL_NANO_USD
    spent = (await cluster.state(counter)).spent
    assert spent == calls * (CALL_NANO_USD if counter.unit == "nano_usd" else CALL_TOKENS)
    assert spent <= counter.limit


# Redis goes away in the middle


async def test_a_race_while_redis_restarts_never_lets_more_in_and_leaves_nothing_behind(three: Cluster) -> None:
    bound = three.bound(CALL).tokens
    key = three.key(tokens_total=5 * bound)
    (counter,) = three.counters(key)
    async with three.engine(reply=REPLY) as engine, Race(three, engine, key) as race:
        await engine.request(0)
        three.redis.kill()
        await asyncio.to_thread(three.redis.start)
        refused = await race.decided()
        assert len(engine.requests) <= 5
        assert {answer.status for answer in refused} <= {402, 503}
        race.let_go()
        answers = await race.answers()
        let_in = len(engine.requests)
        assert let_in <= 5
        assert Tally(answer.status for answer in answers)[200] == let_in

        # What is left can be spent, to the last whole call, on whichever gateway: nothing is held for ever.
        calls = let_in
        for turn in range(AT_ONCE):
            answer = await asked_until_decided(three, turn % 3, key)
            calls += answer.status == 200
            if answer.status == 402:
                break
        assert answer.status == 402
        assert calls == whole_calls(5 * bound, bound, CALL_TOKENS)
        await assert_written(three, key, counter, calls=calls)


def whole_calls(limit: int, bound: int, cost: int) -> int:
    """How many calls fit one after the other, when each must fit at its bound and then costs less."""
    return (limit - bound) // cost + 1


async def asked_until_decided(cluster: Cluster, gateway: int, key: NewSecret) -> Answer:
    """The first answer that is not `later`."""
    answers: list[Answer] = []

    async def is_decided() -> bool:
        answers.append(await cluster.ask(gateway, key, CALL))
        return answers[-1].status != 503

    await until(is_decided)
    return answers[-1]


# Near the end


async def test_the_last_call_that_fits_is_let_in_though_others_hold_what_it_needs(three: Cluster) -> None:
    """Of four calls' worth three run, on two gateways, which have set aside more than that; the third gateway's call
    needs what these do not use."""
    bound = three.bound(CALL).tokens
    key = three.key(tokens_total=4 * bound)
    (counter,) = three.counters(key)
    async with three.engine(reply=REPLY) as engine:
        holds = [engine.hold_at(0) for _ in range(5)]
        asking = []
        for number, gateway in enumerate((0, 1, 0)):
            asking.append(asyncio.create_task(three.ask(gateway, key, CALL)))
            await engine.request(number)
        state = await three.state(counter)
        assert 4 * bound - state.leased < bound  # so the last call does not fit what is free
        assert sorted(each.get(counter.name, 0) > 0 for each in three.slices().values()) == [False, True, True]

        asking.append(asyncio.create_task(three.ask(2, key, CALL)))
        await engine.request(3)  # let in, and not refused first
        one_more = await three.ask(2, key, CALL)
        assert one_more.status == 402
        assert f"has 0 tokens left; this request could take {bound} tokens" in error_in(one_more)["message"]

        for hold in holds:
            hold.open.set()
        assert [answer.status for answer in await asyncio.gather(*asking)] == [200] * 4
        await assert_written(three, key, counter, calls=4)


# The budget changes, or ends, while its key is in use


async def test_a_lowered_limit_holds_against_what_gateways_have_set_aside(three: Cluster) -> None:
    bound = three.bound(CALL).tokens
    key = three.key(tokens_total=100 * bound)
    (counter,) = three.counters(key)
    async with three.engine(reply=REPLY) as engine:
        for gateway in range(3):
            assert (await three.ask(gateway, key, CALL)).status == 200
        lower = 3 * CALL_TOKENS + 2 * bound
        assert (await three.state(counter)).leased > lower
        await three.admin(0, "PATCH", f"keys/{key.key.id}", {"budgets": {"tokensTotal": lower}})
        (counter,) = three.counters(key)
        await seen_by_all(three)

        async with Race(three, engine, key) as race:
            refused = await race.decided()
            assert len(engine.requests) - 3 == 2
            assert Tally(answer.status for answer in refused) == {402: 62}
            race.let_go()
            await race.answers()
        await assert_written(three, key, counter, calls=5)


async def test_a_revoked_key_is_refused_everywhere_and_what_it_began_is_settled(three: Cluster) -> None:
    key = three.key(tokens_total=10_000)
    (counter,) = three.counters(key)
    async with three.engine(reply=REPLY) as engine:
        hold = engine.hold_at(0)
        running = asyncio.create_task(three.ask(0, key, CALL))
        await hold.reached()
        await three.admin(1, "DELETE", f"keys/{key.key.id}")
        await until(lambda: is_refused(three, key))
        refused = [await three.ask(each, key, CALL) for each in range(3)]
        assert [error_in(answer)["code"] for answer in refused] == ["invalid_api_key"] * 3
        assert len(engine.requests) == 1

        hold.open.set()
        assert (await running).status == 200
        await assert_written(three, key, counter, calls=1)


async def seen_by_all(cluster: Cluster) -> None:
    """Returns when every gateway knows of all changes so far: a later one, of another key, has reached them."""
    marker = cluster.key()
    answers = [await cluster.ask(each, marker, {"model": "nobody's"}) for each in range(len(cluster.gateways))]
    assert 401 not in {answer.status for answer in answers}
    cluster.keys.revoke(marker.key.id)
    await until(lambda: is_refused(cluster, marker))


async def is_refused(cluster: Cluster, key: NewSecret) -> bool:
    answers = [await cluster.ask(each, key, {"model": "nobody's"}) for each in range(len(cluster.gateways))]
    return all(answer.status == 401 for answer in answers)


# An engine that does not do as it is told


async def test_a_stream_that_runs_over_its_bound_is_cut_with_a_clean_end(one: Cluster) -> None:
    body = chat("one two three four", max_tokens=10, stream=True, stream_options={"include_usage": True})
    key = one.key(tokens_total=10_000)
    (counter,) = one.counters(key)
    async with one.engine(reply=REPLY) as engine:
        engine.ignores_length = True
        engine.hold_at(11)  # it has produced eleven tokens, and would produce more
        async with one.gateways[0].http.stream("POST", CHAT, body=body, headers=bearer(key)) as stream:
            *chunks, end = [event async for event in stream.events]
            request_id = stream.headers["x-request-id"]
        assert end == b"[DONE]"
        *said, last, usage = [json.loads(chunk) for chunk in chunks]
        assert [chunk["choices"][0]["delta"]["content"].strip() for chunk in said] == ["word"] * 10
        assert [chunk["choices"][0]["finish_reason"] for chunk in said] == [None] * 10
        assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]
        assert usage["choices"] == []
        assert (usage["usage"]["prompt_tokens"], usage["usage"]["completion_tokens"]) == (4, 11)
        assert await engine.requests[0].end() == "cancelled"

        (record,) = await one.records_when(key, 1)
        assert (record.id, record.status) == (request_id, "cut")
        assert record.reason == "it had produced all that it was let in with"
        assert (record.prompt_tokens, record.completion_tokens) == (4, 11)
        assert usage["stoker"]["completion_tokens"] == 11
        assert (await one.state(counter)).spent == 4 + 11 <= one.bound(body).tokens
