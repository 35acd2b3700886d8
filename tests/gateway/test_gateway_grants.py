"""Runs of agents at the gateway: whose money their grants spend, and how much of it. One request is let in with 42
tokens and $0.000052 at most, and comes to 8 tokens and $0.000012."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gateway_parts import ADMIN_KEY, HELLO, SPEC, Stack, a_stack

from stoker.base.errors import Unauthenticated
from stoker.gateway.auth import REMEMBER_S, Authenticator
from stoker.meter.accounts import Account
from stoker.meter.grants import Grant, RunLimit
from stoker.meter.keys import KeyStore
from stoker.meter.store import Store
from stoker.meter.usage import UsageRecord
from stoker.spec import Platform, loads
from stoker.testing import ManualClock
from stoker.web.client import Answer, HttpClient

CHAT = "/v1/chat/completions"
ASKED: dict[str, Any] = {"model": "general", "messages": HELLO, "max_tokens": 10}
SECRET = "of-the-agents-" + "s" * 32
FAR = 4e9  # the year 2096


def a_grant(key_id: str = "key_1", run: str = "run_x", *limits: RunLimit, secret: str = SECRET, **more: Any) -> str:
    given: dict[str, Any] = {"agent": "writer", "expires_at": FAR, "limits": limits}
    return Grant(key_id=key_id, run=run, **{**given, **more}).signed(secret)


def limited(run: str, tokens: int | None = None, nano_usd: int | None = None) -> RunLimit:
    return RunLimit(run=run, tokens=tokens, nano_usd=nano_usd)


# --- whose they are ---------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield made
    made.close()


class Door:
    """An authenticator that knows the secret, on a store of its own. Time is the test's."""

    def __init__(self, store: Store) -> None:
        self.clock = ManualClock(1000.0)
        self.keys = KeyStore(store, self.clock)
        self.auth = Authenticator(self.keys, self.clock, agents_key=SECRET)

    async def refusal(self, bearer: str) -> tuple[int, str]:
        with pytest.raises(Unauthenticated) as caught:
            await self.auth.account(bearer)
        return caught.value.status, caught.value.code


async def test_a_grant_is_its_key_as_a_user(store: Store) -> None:
    door = Door(store)
    made = door.keys.create("acme", name="boss", role="admin", team="red")
    [held] = [await door.auth.account(a_grant(made.key.id, "run_x.1", session="s"))]
    itself = await door.auth.account(made.secret)
    assert (itself.role, itself.grant) == ("admin", None)
    grant = Grant(key_id=made.key.id, run="run_x.1", agent="writer", expires_at=FAR, session="s")
    assert held == replace(itself, role="user", grant=grant)


async def test_a_grant_that_is_none_is_refused(store: Store) -> None:
    door = Door(store)
    key_id = door.keys.create("acme", name="n").key.id
    assert await door.refusal(a_grant(key_id, secret="somebody-else-" + "s" * 32)) == (401, "invalid_grant")
    assert await door.refusal(a_grant(key_id)[:-1]) == (401, "invalid_grant")
    assert await door.refusal(a_grant(key_id, expires_at=1000.0)) == (401, "expired_grant")
    assert await door.refusal(a_grant("key_nobody")) == (401, "invalid_api_key")
    without = Authenticator(door.keys, door.clock)
    with pytest.raises(Unauthenticated, match="this API key is not known here"):
        await without.account(a_grant(key_id))


async def test_a_revoked_key_ends_its_runs_within_a_second(store: Store) -> None:
    door = Door(store)
    key_id = door.keys.create("acme", name="n").key.id
    grant = a_grant(key_id)
    assert (await door.auth.account(grant)).id == key_id
    door.keys.revoke(key_id)
    await door.clock.advance(REMEMBER_S)
    assert await door.refusal(grant) == (401, "invalid_api_key")


async def test_a_key_that_expires_ends_its_runs_and_one_that_is_rotated_does_not(store: Store) -> None:
    door = Door(store)
    key_id = door.keys.create("acme", name="n", expires_at=1010.0).key.id
    await door.auth.account(a_grant(key_id))
    door.keys.rotate(key_id)
    await door.clock.advance(REMEMBER_S)
    assert (await door.auth.account(a_grant(key_id))).id == key_id
    await door.clock.advance(9.0)
    assert await door.refusal(a_grant(key_id)) == (401, "invalid_api_key")


async def test_what_is_known_of_a_key_is_not_asked_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door(store)
    key_id = door.keys.create("acme", name="n").key.id
    asked: list[str] = []
    find = KeyStore.account_of

    def noting(keys: KeyStore, name: str) -> Account:
        asked.append(name)
        return find(keys, name)

    monkeypatch.setattr(KeyStore, "account_of", noting)
    for number in range(3):
        assert (await door.auth.account(a_grant(key_id, f"run_{number}"))).id == key_id
    assert asked == [key_id]


# --- at the gateway ---------------------------------------------------------------------------------------------------


def a_platform(acme: str = "", more: str = "") -> Platform:
    text = SPEC.replace("TOTAL", "20").replace("CONNECT", "2").replace("acme: {}", f"acme: {{{acme}}}")
    return loads(text + more)


@asynccontextmanager
async def running(tmp_path: Path, platform: Platform | None = None) -> AsyncIterator["Runs"]:
    async with a_stack(tmp_path, platform=platform or a_platform(), agents_key=SECRET) as stack:
        keys = {key.tenant: key.id for key in KeyStore(stack.store).list() if key.role == "user"}
        yield Runs(stack, keys)


class Runs:
    def __init__(self, stack: Stack, keys: dict[str, str]) -> None:
        self.stack = stack
        self.keys = keys

    async def client(self, run: str, *limits: RunLimit, tenant: str = "acme", **more: Any) -> HttpClient:
        return await self.stack.http(a_grant(self.keys[tenant], run, *limits, **more))

    async def ask(self, run: str, *limits: RunLimit, headers: Any = None, **more: Any) -> Answer:
        client = await self.client(run, *limits, **more)
        return await client.request("POST", CHAT, body=ASKED, headers=headers)

    async def spent(self, counter: str) -> int:
        await self.stack.gateway.services.settle_all()
        [state] = await self.stack.budgets.state([counter])
        assert state is not None
        return state.spent

    def already_spent(self, number: int, run: str, tokens: int, **changes: Any) -> None:
        """Before anybody asked how much that is."""
        record = UsageRecord(
            id=f"req_{number}",
            kind="request",
            status="done",
            tenant="acme",
            key_id="key_of_others",
            run=run,
            agent="writer",
            model="general",
            prompt_tokens=tokens,
            completion_tokens=0,
            nano_usd=0,
            started_at=1.0,
            ended_at=2.0,
        )
        self.stack.gateway.services.ledger.append([replace(record, **changes)])


def refusal(answer: Answer) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status, error["code"], error["message"]


def exhausted(whose: str, budget: str, left: str, could: str) -> tuple[int, str, str]:
    said = f"{whose} budget of {budget} has {left} left; this request could take {could} (it does not renew by itself)"
    return 402, "budget_exhausted", said


async def test_a_request_with_a_grant_is_of_its_run_whatever_it_says(tmp_path: Path) -> None:
    async with running(tmp_path) as runs:
        await runs.stack.engine()
        said = {"X-Run-Id": "other", "X-Session-Id": "other"}
        assert (await runs.ask("run_x.1", headers=said, session="mine")).status == 200
        record = await runs.stack.record()
        assert (record.key_id, record.tenant, record.kind) == (runs.keys["acme"], "acme", "request")
        assert (record.run, record.agent, record.session) == ("run_x.1", "writer", "mine")


async def test_a_grant_is_no_admins_and_begins_no_batches(tmp_path: Path) -> None:
    async with running(tmp_path) as runs:
        [boss] = [key.id for key in KeyStore(runs.stack.store).list() if key.role == "admin"]
        http = await runs.stack.http(a_grant(boss))
        assert (await http.request("GET", "/v1/models")).status == 200
        assert (await http.request("GET", "/admin/v1/usage")).status == 403
        made = await http.request("POST", "/v1/batches", body={})
        assert refusal(made)[:2] == (403, "not_permitted")
        assert "a run's grant may not begin batches" in refusal(made)[2]


async def test_without_the_secret_a_grant_is_a_key_that_nobody_issued(tmp_path: Path) -> None:
    async with a_stack(tmp_path) as stack:
        limits = [limited(f"run_x{'.1' * depth}", 10**6) for depth in range(9)]
        answer = await (await stack.http(a_grant("key_1", "run_x", *limits))).request("GET", "/v1/models")
        assert refusal(answer)[:2] == (401, "invalid_api_key")
        assert "is not known here" in refusal(answer)[2]


async def test_what_a_child_spends_is_of_its_parents_limit(tmp_path: Path) -> None:
    """Its own has room: 60 of the parent are 52, 44 and 36 after one, two and three requests."""
    async with running(tmp_path) as runs:
        await runs.stack.engine()
        parent = limited("run_x", tokens=60)
        for child in ("run_x.1", "run_x.2.1", "run_x.1"):
            assert (await runs.ask(child, parent, limited(child, tokens=1000))).status == 200
            await runs.stack.records()
        over = exhausted("run run_x's", "60 tokens", "36 tokens", "42 tokens")
        assert refusal(await runs.ask("run_x.1", parent, limited("run_x.1", tokens=1000))) == over
        assert refusal(await runs.ask("run_x", parent)) == over
        assert (await runs.ask("run_y.1", limited("run_y", tokens=60))).status == 200
        assert await runs.spent("run:acme/run_x:tokens:total") == 24
        assert await runs.spent("run:acme/run_x.1:tokens:total") == 16


async def test_a_run_is_held_to_its_own_limit_beside_its_parents(tmp_path: Path) -> None:
    async with running(tmp_path) as runs:
        await runs.stack.engine()
        limits = (limited("run_x", tokens=1000), limited("run_x.1", nano_usd=60_000))
        assert (await runs.ask("run_x.1", *limits)).status == 200
        await runs.stack.records()
        over = exhausted("run run_x.1's", "$0.00006", "$0.000048", "$0.000052")
        assert refusal(await runs.ask("run_x.1", *limits)) == over
        assert (await runs.ask("run_x.2", limits[0])).status == 200


async def test_a_request_that_its_run_could_never_pay_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as runs:
        answer = refusal(await runs.ask("run_x.1", limited("run_x", tokens=41)))
        assert answer[:2] == (400, "request_over_budget")
        assert "; run run_x's budget is 41 tokens (" in answer[2]


async def test_what_a_tenant_allows_each_run_is_for_all_below_it(tmp_path: Path) -> None:
    async with running(tmp_path, a_platform("runBudgets: {usdTotal: 0.00006}")) as runs:
        await runs.stack.engine()
        assert (await runs.ask("run_x.1", limited("run_x", nano_usd=10**9))).status == 200
        await runs.stack.records()
        over = exhausted("run run_x's", "$0.00006", "$0.000048", "$0.000052")
        assert refusal(await runs.ask("run_x.2")) == over
        # Who names runs by itself may have dots in their names: each is one alone.
        mine = await runs.stack.http()
        for run in ("run_x", "v1.1", "v1.2"):
            answer = await mine.request("POST", CHAT, body=ASKED, headers={"X-Run-Id": run})
            assert answer.status == (402 if run == "run_x" else 200)


async def test_many_children_at_once_never_pass_their_parents_limit(tmp_path: Path) -> None:
    """$0.000500 are enough for 9 at once, each let in with $0.000052."""
    async with running(tmp_path) as runs:
        engine = await runs.stack.engine(capacity=64)
        clients = [await runs.client(f"run_x.{n}", limited("run_x", nano_usd=500_000)) for n in range(32)]
        engine.pace_s = 0.05
        answers = await asyncio.gather(*(client.request("POST", CHAT, body=ASKED) for client in clients))
        done = [answer for answer in answers if answer.status == 200]
        assert {answer.status for answer in answers} == {200, 402}
        records = await runs.stack.records()
        assert len(records) == len(done) == len(engine.requests)
        assert sum(record.nano_usd for record in records) == 12_000 * len(done) <= 500_000
        assert len(done) >= 9
        assert await runs.spent("run:acme/run_x:nano_usd:total") == 12_000 * len(done)


async def test_a_counter_begins_with_what_the_tree_has_spent(tmp_path: Path) -> None:
    """So it is when Redis has lost it. What only looks like a run below, or is another's, is none of it."""
    async with running(tmp_path) as runs:
        for number, (run, tokens) in enumerate((("run_x", 10), ("run_x.1", 20), ("run_x.1.7", 12))):
            runs.already_spent(number, run, tokens)
        runs.already_spent(10, "run_xy", 1000)
        runs.already_spent(11, "RUN_X.1", 1000)
        runs.already_spent(12, "run_x.1", 1000, tenant="other")
        runs.already_spent(13, "run_x.3", 1000, agent=None)
        over = exhausted("run run_x's", "60 tokens", "18 tokens", "42 tokens")
        assert refusal(await runs.ask("run_x.2", limited("run_x", tokens=60))) == over
        assert await runs.spent("run:acme/run_x:tokens:total") == 42


async def test_what_had_no_limit_above_it_counts_there_all_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as runs:
        await runs.stack.engine()
        assert (await runs.ask("run_x", limited("run_x", tokens=1000))).status == 200
        assert (await runs.ask("run_x.1.1")).status == 200
        assert await runs.spent("run:acme/run_x:tokens:total") == 16


async def test_all_runs_of_an_agent_share_its_budget(tmp_path: Path) -> None:
    agents = "agents: {definitions: {writer: {budgets: {tokensTotal: 60}}, other: {}}}\n"
    async with running(tmp_path, a_platform(more=agents)) as runs:
        await runs.stack.engine()
        runs.already_spent(1, "run_before", 8)
        runs.already_spent(2, "run_before", 100, agent="other")
        assert (await runs.ask("run_x")).status == 200
        await runs.stack.records()
        assert (await runs.ask("run_y.1", tenant="other")).status == 200
        await runs.stack.records()
        over = exhausted("agent writer's", "60 tokens", "36 tokens", "42 tokens")
        assert refusal(await runs.ask("run_z")) == over
        assert (await runs.ask("run_z", agent="other")).status == 200
        mine = await runs.stack.http()
        assert (await mine.request("POST", CHAT, body=ASKED)).status == 200
        admin = await runs.stack.http(ADMIN_KEY)
        rows = (await admin.get_json("/admin/v1/budgets"))["budgets"]
        [row] = [row for row in rows if row["scope"] == "agent"]
        assert (row["id"], row["tenant"], row["limit"], row["spent"], row["left"]) == ("writer", None, 60, 24, 36)


async def test_the_same_request_with_an_idempotency_key_is_paid_once(tmp_path: Path) -> None:
    async with running(tmp_path) as runs:
        engine = await runs.stack.engine()
        await runs.stack.worker(engine)
        once, limit = {"Idempotency-Key": "run_x.1/1/0"}, limited("run_x", tokens=60)
        first = await runs.ask("run_x.1", limit, headers=once)
        again = await runs.ask("run_x.1", limit, headers=once, expires_at=FAR + 1)  # the next step's grant
        assert (first.status, again.status) == (200, 200)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json()["choices"] == first.json()["choices"]
        record = await runs.stack.record()
        assert (record.kind, record.run, record.agent) == ("task", "run_x.1", "writer")
        assert await runs.spent("run:acme/run_x:tokens:total") == 8


async def test_usage_is_shown_by_agent_and_of_a_run_with_all_below_it(tmp_path: Path) -> None:
    async with running(tmp_path) as runs:
        await runs.stack.engine()
        for run, agent in (("run_x", "writer"), ("run_x.1", "reader"), ("run_y", "writer")):
            assert (await runs.ask(run, agent=agent)).status == 200
        assert (await (await runs.stack.http()).request("POST", CHAT, body=ASKED)).status == 200
        runs.already_spent(1, "run_x", 0, kind="step", model="agents")
        admin = await runs.stack.http(ADMIN_KEY)

        async def rows(**which: str) -> list[tuple[Any, ...]]:
            said = (await admin.get_json("/admin/v1/usage", which))["rows"]
            return [tuple(row[name] for name in ("agent", "model", "requests", "steps", "nano_usd")) for row in said]

        steps = ("writer", "agents", 0, 1, 0)
        assert await rows(run="run_x") == [
            steps,
            ("reader", "general", 1, 0, 12_000),
            ("writer", "general", 1, 0, 12_000),
        ]
        assert await rows(agent="writer") == [steps, ("writer", "general", 2, 0, 24_000)]
        assert (None, "general", 1, 0, 12_000) in await rows()
