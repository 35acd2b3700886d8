"""Budgets while everything dies: gateways, Redis, the engine, clients. Longer: `make chaos SEEDS="1 2 3" SECONDS=60`.

At every instant spent + leased + held <= limit, of every counter. And afterwards, when all is settled: each request
that was let in has one record, what a counter says is spent is the ledger's sum, and that is what the engine says.
"""

import asyncio
import contextlib
import itertools
import os
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from budget_parts import CHAT, Cluster, GatewayProcess, a_cluster, bearer, chat, until

from stoker.base.clock import SystemClock
from stoker.base.errors import StokerError
from stoker.base.ids import ModelName, TaskId
from stoker.engine.client import EngineClient
from stoker.meter.cost import cost_nano_usd
from stoker.meter.keys import NewSecret
from stoker.meter.limits import Named, limits_of_account
from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import Unit, counters
from stoker.queue import TokenBound
from stoker.spec import Budgets
from stoker.testing.engine import EchoEngine, Seen
from stoker.worker.loop import Worker
from stoker.worker.runner import Runner, Settings

pytestmark = [
    pytest.mark.flow,
    pytest.mark.redis,
    # asyncio forgets to close what it accepts in the instant in which the engine goes away.
    pytest.mark.filterwarnings(r"ignore:Exception ignored in. <socket\.socket:pytest.PytestUnraisableExceptionWarning"),
]

SEEDS = [int(seed) for seed in os.environ.get("CHAOS_SEEDS", "1").split()]
SECONDS = float(os.environ.get("CHAOS_SECONDS", "8"))
GATEWAYS = 2
CLIENTS = 10
SESSIONS = 3

SPEC = """
gateway: {timeouts: {connectSeconds: 10, firstTokenSeconds: 120, totalSeconds: 120}}
queue: {maxAttempts: 4, retryBaseSeconds: 0.05, retryCapSeconds: 0.2, leaseSeconds: 10}
llm:
  models:
    general:
      limits: {maxOutputTokens: 200, concurrency: 8}
      prices: {inputUsdPerMillionTokens: 1, cachedInputUsdPerMillionTokens: 0.5, outputUsdPerMillionTokens: 2}
tenants:
  acme:
    budgets: {usdTotal: USD, concurrentRequests: 12}
    sessionBudgets: {tokensTotal: SESSION, concurrentRequests: 3}
    teams: {red: {budgets: {tokensTotal: TEAM, concurrentRequests: 7}}}
  other:
    whenRedisIsAway: open
    budgets: {tokensTotal: 1000000, usdTotal: 1}
"""


@dataclass
class Sent:
    """What one client saw of one request. `tag` is a word of its prompt, by which the engine's side is found. `id` is
    None when the client was never told."""

    tag: str
    kind: str
    id: str | None = None
    status: int | None = None
    is_whole: bool = False
    tokens: int | None = None


@dataclass
class Chaos:
    """One run. `sent` is all that was asked, `broken` what ran in the engine when it went away."""

    cluster: Cluster
    engine: EchoEngine
    random: Random
    callers: Sequence[tuple[NewSecret, str | None]]
    limits: dict[str, tuple[Named, str, str]]
    """By the counter's name: the limit, its tenant and the name in the ledger."""
    sent: list[Sent] = field(default_factory=list)
    broken: list[Seen] = field(default_factory=list)
    away: list[tuple[float, float]] = field(default_factory=list)
    """From when to when the engine was away (seconds since the epoch)."""
    kills: int = 0
    samples: int = 0
    over: bool = False
    tags: "itertools.count[int]" = field(default_factory=itertools.count)

    # --- clients ----------------------------------------------------------------------------------------------------

    async def client(self) -> None:
        random = Random(self.random.random())
        while not self.over:
            kind = random.choices(("json", "stream", "task"), (4, 4, 2))[0]
            tag = f"t{next(self.tags)}"
            words = " ".join([tag, *["word"] * random.randrange(1, 40)])
            body = chat(words, max_tokens=random.choice((5, 20, 60)), stream=kind == "stream")
            key, session = random.choice(self.callers)
            patience_s = random.choice((None, None, None, random.uniform(0.0, 0.15)))
            twice = random.random() < 0.1
            asking = [self.ask(kind, tag, key, session, body, patience_s) for _ in range(1 + twice)]
            await asyncio.gather(*asking)
            await asyncio.sleep(random.uniform(0.0, 0.1))

    async def ask(
        self, kind: str, tag: str, key: NewSecret, session: str | None, body: dict[str, Any], patience_s: float | None
    ) -> None:
        """One request by a client that goes away after `patience_s`. Its gateway may die meanwhile."""
        gateway = self.random.choice(self.cluster.gateways)
        if not gateway.is_up:
            return
        sent = Sent(tag, kind)
        self.sent.append(sent)
        headers = bearer(key) | ({} if session is None else {"X-Session-Id": session})
        step = self._stream if kind == "stream" else self._whole
        with contextlib.suppress(StokerError, TimeoutError):
            async with asyncio.timeout(patience_s):
                await step(gateway, sent, body, headers)

    async def _whole(self, gateway: GatewayProcess, sent: Sent, body: dict[str, Any], headers: dict[str, str]) -> None:
        path = "/v1/tasks" if sent.kind == "task" else CHAT
        answer = await gateway.http.request("POST", path, body=body, headers=headers)
        sent.id, sent.status = answer.headers.get("x-request-id"), answer.status
        if answer.status == 200:
            sent.is_whole, sent.tokens = True, answer.json()["usage"]["total_tokens"]

    async def _stream(self, gateway: GatewayProcess, sent: Sent, body: dict[str, Any], headers: dict[str, str]) -> None:
        async with gateway.http.stream("POST", CHAT, body=body, headers=headers) as stream:
            sent.id, sent.status = stream.headers.get("x-request-id"), stream.status
            last = b""
            async for event in stream.events:
                last = event
            sent.is_whole = last == b"[DONE]"

    # --- what dies --------------------------------------------------------------------------------------------------

    async def restarting(self, gateway: GatewayProcess, seconds: float) -> None:
        """Killed most of the time, sometimes told to stop."""
        random = Random(self.random.random())
        until_s = SystemClock().monotonic() + seconds
        while SystemClock().monotonic() < until_s:
            await asyncio.sleep(random.uniform(0.5, 4.0))
            if random.random() < 0.2:
                assert await gateway.stop() == 0
            else:
                await gateway.kill()
                self.kills += 1
            await gateway.start()

    async def restarting_redis(self, seconds: float) -> None:
        for _ in range(rounds(seconds)):
            await asyncio.sleep(self.random.uniform(0.3, 0.7) * seconds / rounds(seconds))
            self.cluster.redis.kill()
            await asyncio.sleep(self.random.uniform(0.0, 1.0))
            await asyncio.to_thread(self.cluster.redis.start)

    async def restarting_engine(self, seconds: float) -> None:
        for _ in range(rounds(seconds)):
            await asyncio.sleep(self.random.uniform(0.2, 0.8) * seconds / rounds(seconds))
            await self.restart_engine()

    async def restart_engine(self) -> None:
        went_at = SystemClock().now()
        before, running = len(self.engine.requests), self.engine.running
        await self.engine.stop()
        self.broken += [*running, *self.engine.requests[before:]]
        await asyncio.sleep(0.3)
        await self.engine.start()
        self.away.append((went_at, SystemClock().now()))

    async def losing_workers(self, seconds: float) -> None:
        """Now and then a worker takes a task, and nobody hears of it again."""
        random = Random(self.random.random())
        until_s = SystemClock().monotonic() + seconds
        while SystemClock().monotonic() < until_s:
            await asyncio.sleep(random.uniform(0.1, 1.0))
            with contextlib.suppress(StokerError):  # Redis is away
                await self.cluster.queue.claim(ModelName("general"), "lost", wait_s=0.5, lease_s=random.random())

    def engine_could_not_say(self, record: UsageRecord) -> bool:
        """It ran while the engine was away, or before, and was asked about afterwards."""
        return any(record.ended_at >= went_at and record.started_at <= back_at for went_at, back_at in self.away)

    # --- what is looked at all along ----------------------------------------------------------------------------------

    async def sampling(self) -> None:
        """Raises AssertionError at the first instant at which a counter is over its limit."""
        names = list(self.limits)
        while True:
            with contextlib.suppress(StokerError):  # Redis is away
                for name, state in zip(names, await self.cluster.budgets.state(names), strict=True):
                    if state is not None:
                        used = state.spent + state.leased + state.held
                        assert used <= self.limits[name][0].limit.amount, (name, state)
                        assert min(state.spent, state.leased, state.held) >= 0, (name, state)
                self.samples += 1
            await asyncio.sleep(0.01)

    async def beside(self, load: Awaitable[object]) -> None:
        """`load`, with the sampler beside it: whatever ends first ends both."""
        sampling = asyncio.create_task(self.sampling())
        loading = asyncio.ensure_future(load)
        try:
            await asyncio.wait({sampling, loading}, return_when=asyncio.FIRST_COMPLETED)
            if sampling.done():
                sampling.result()
            await loading
        finally:
            self.over = True
            for task in (sampling, loading):
                task.cancel()
            await asyncio.gather(sampling, loading, return_exceptions=True)


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_is_overspent_lost_or_held_for_ever_whatever_dies(seed: int, tmp_path: Path) -> None:
    await run(seed, SECONDS, tmp_path)


async def run(seed: int, seconds: float, directory: Path) -> None:
    random = Random(seed)
    spec = SPEC.replace("USD", f"{0.0008 * seconds:.6f}").replace("SESSION", str(int(120 * seconds)))
    spec = spec.replace("TEAM", str(int(250 * seconds)))
    async with a_cluster(directory, gateways=GATEWAYS, spec=spec) as cluster, EchoEngine("general") as engine:
        engine.pace_s = 0.01  # so that whatever dies, requests are in the middle
        async with a_worker(cluster, engine, random):
            keys = [
                cluster.keys.create("acme", team="red", budgets=Budgets(tokens_total=int(150 * seconds))),
                cluster.keys.create("acme", team="red", budgets=Budgets(concurrent_requests=3)),
                cluster.keys.create("acme"),
                cluster.keys.create("other", budgets=Budgets(tokens_total=1_000_000, tokens_per_day=1_000_000)),
            ]
            sessions = [None, *(f"s{number}" for number in range(SESSIONS))]
            callers = [(key, session) for key in keys for session in sessions]
            chaos = Chaos(cluster, engine, random, callers, limits_of(cluster, callers))
            await chaos.beside(load(chaos, seconds))
            await settled(chaos)
            await assert_books_are_right(chaos)
            print(summary(chaos))  # noqa: T201 - for `make chaos`
        await assert_nothing_is_held(chaos)


async def load(chaos: Chaos, seconds: float) -> None:
    clients = [asyncio.create_task(chaos.client()) for _ in range(CLIENTS)]
    try:
        await asyncio.gather(
            *(chaos.restarting(gateway, seconds) for gateway in chaos.cluster.gateways),
            chaos.restarting_redis(seconds),
            chaos.restarting_engine(seconds),
            chaos.losing_workers(seconds),
        )
        chaos.over = True
        await asyncio.wait_for(asyncio.gather(*clients), 120)
    finally:
        for client in clients:
            client.cancel()


def rounds(seconds: float) -> int:
    """How often Redis goes away, and how often the engine."""
    return max(1, int(seconds // 15))


def limits_of(cluster: Cluster, callers: Sequence[tuple[NewSecret, str | None]]) -> dict[str, tuple[Named, str, str]]:
    found = {}
    for key, session in callers:
        account = cluster.account(key)
        names = {"key": account.id, "team": account.team, "tenant": account.tenant, "session": session}
        for named in limits_of_account(account, session, None):
            (counter,) = counters([named.limit], SystemClock().now())
            found[counter.name] = (named, account.tenant, str(names[named.limit.scope.kind]))
    return found


@contextlib.asynccontextmanager
async def a_worker(cluster: Cluster, engine: EchoEngine, random: Random) -> AsyncIterator[None]:
    """The worker beside the engine, in this process: tasks, and requests that found no room, go through it."""
    model, queue = cluster.platform.llm.models["general"], cluster.platform.queue
    clock, client, stop = SystemClock(), EngineClient(engine.url, model="general"), asyncio.Event()
    settings = Settings(
        model="general",
        replica="general-1",
        prices=model.prices,
        lease_s=queue.lease_seconds,
        retry_base_s=queue.retry_base_seconds,
        retry_cap_s=queue.retry_cap_seconds,
        timeout_s=model.limits.timeout_seconds,
        continuous_usage=True,
    )
    worker = Worker(
        name="general-1",
        model=ModelName("general"),
        capacity=model.limits.concurrency,
        url=engine.url,
        engine=client,
        queue=cluster.queue,
        registry=cluster.registry,
        runner=Runner(settings, client, cluster.queue, clock, Random(random.random()), started_at=clock.now()),
        clock=clock,
        lease_s=queue.lease_seconds,
        grace_s=5.0,
    )
    running = asyncio.create_task(worker.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running
        await client.close()


# --- afterwards -----------------------------------------------------------------------------------------------------


def summary(chaos: Chaos) -> str:
    answers = Tally(str(sent.status or "no answer") for sent in chaos.sent)
    records = Tally((record.status, record.reason) for record in chaos.cluster.ledger.records())
    lines = [f"asked {len(chaos.sent)} times: {dict(answers)}; {chaos.kills} kills; {chaos.samples} looks at the books"]
    return "\n".join([*lines, *(f"{count:6} {status}: {reason or ''}" for (status, reason), count in records.items())])


async def settled(chaos: Chaos) -> None:
    """Returns when all gateways are up and nothing is on its way: no task, no journal of the dead, no usage."""
    cluster = chaos.cluster
    for gateway in cluster.gateways:
        if not gateway.is_up:
            await gateway.start()

    async def is_settled() -> bool:
        depth = await cluster.queue.depth(ModelName("general"))
        if depth.lag or depth.pending or depth.delayed or chaos.engine.running:
            return False
        if len(list(cluster.journals.glob("*.journal"))) > GATEWAYS or len(cluster.slices()) > GATEWAYS:
            return False
        for each in range(GATEWAYS):
            await cluster.admin(each, "GET", "usage")  # moves what is in Redis to the ledger
        return await leased_is_what_the_living_hold(chaos)

    try:
        await until(is_settled)
    except TimeoutError:
        journals = [path.name for path in cluster.journals.iterdir()]
        states = dict(zip(chaos.limits, await cluster.budgets.state(list(chaos.limits)), strict=True))
        depth = await cluster.queue.depth(ModelName("general"))
        pytest.fail(f"not settled: {depth} {cluster.slices()} {journals} {states} {chaos.engine.running}")


async def leased_is_what_the_living_hold(chaos: Chaos) -> bool:
    holding: dict[str, int] = defaultdict(int)
    for slices in chaos.cluster.slices().values():
        for name, amount in slices.items():
            holding[name] += amount
    states = zip(chaos.limits, await chaos.cluster.budgets.state(list(chaos.limits)), strict=True)
    return all(state is None or (state.leased, state.held) == (holding[name], 0) for name, state in states)


async def assert_books_are_right(chaos: Chaos) -> None:
    cluster = chaos.cluster
    records = {record.id: record for record in cluster.ledger.records()}
    tag_of = {id_in(each): tag_in(each.body) for each in chaos.engine.requests}

    # Each request that was let in has its record: what the engine saw, and what a client was told.
    assert {id_in(each) for each in chaos.engine.requests if each.state != "refused"} <= set(records)
    for sent in chaos.sent:
        if sent.status in (200, 202) and sent.id is not None:
            assert sent.id in records, sent
        if sent.status in (402, 429):
            assert sent.id not in records, sent
        if sent.is_whole and sent.id is not None:
            assert records[sent.id].status == "done", (sent, records[sent.id])
        if sent.tokens is not None and sent.id is not None:
            lost = sum(sum(bound.tokens) for bound in await lost_attempts(chaos, records[sent.id]))
            assert tokens_of(records[sent.id]) == sent.tokens + lost
    assert {record.status for record in records.values()} <= {"done", "cancelled", "failed", "lost"}

    # The ledger is what the engine says; more only where it could not say.
    said: dict[str, int] = defaultdict(int)
    for each in chaos.engine.requests:
        if each.state != "refused" and each not in chaos.broken:
            said[tag_in(each.body)] += each.prompt_tokens + each.completion_tokens
    written: dict[str, int] = defaultdict(int)
    unsaid = {tag_in(each.body) for each in chaos.broken}
    for record in records.values():
        lost = await lost_attempts(chaos, record)
        assert record.nano_usd >= max(cost_of(chaos, record), sum(bound.nano_usd or 0 for bound in lost)), record
        assert record.prompt_tokens >= sum(bound.prompt_tokens for bound in lost), record
        assert record.completion_tokens >= sum(bound.completion_tokens for bound in lost), record
        tag = tag_of.get(record.id, unknown(record))
        written[tag] += tokens_of(record)
        if lost or chaos.engine_could_not_say(record):
            unsaid.add(tag)
    for tag in {*said, *written}:
        is_right = written[tag] >= said[tag] if tag in unsaid else written[tag] == said[tag]
        assert is_right, told(
            chaos, tag, [record for record in records.values() if tag == tag_of.get(record.id, unknown(record))]
        )

    # What is spent is the ledger's sum.
    states = await cluster.budgets.state(list(chaos.limits))
    for (name, (named, tenant, id)), state in zip(chaos.limits.items(), states, strict=True):
        if state is None:
            continue
        ledger = cluster.ledger.spent(named.limit.scope.kind, tenant, id)
        sums = {Unit.TOKENS: ledger.tokens, Unit.NANO_USD: ledger.nano_usd, Unit.CONCURRENT: 0}
        assert (name, state.spent) == (name, sums[named.limit.unit])
        assert state.held == 0
    assert len([state for state in states if state is not None]) > len(states) / 2
    assert chaos.samples > 10


async def assert_nothing_is_held(chaos: Chaos) -> None:
    """After a clean end of every gateway all that was set aside is free."""
    codes = await asyncio.gather(*(gateway.stop() for gateway in chaos.cluster.gateways))
    assert codes == [0] * GATEWAYS
    for name, state in zip(chaos.limits, await chaos.cluster.budgets.state(list(chaos.limits)), strict=True):
        assert state is None or (name, state.leased, state.held) == (name, 0, 0)
    assert list(chaos.cluster.journals.glob("*.journal")) == []


def unknown(record: UsageRecord) -> str:
    return f"unknown to the engine: {record.id}"


async def lost_attempts(chaos: Chaos, record: UsageRecord) -> list[TokenBound]:
    """What its attempts were let in with of which no worker could tell Redis how they ended: all of that counts."""
    if record.kind != "task":
        return []
    task = await chaos.cluster.queue.get(TaskId(record.id))
    count = sum("lease expired" in attempt.reason for attempt in task.attempts)
    # The last attempt of one that was cancelled is not among those that failed.
    count += record.status == "cancelled" and (record.reason or "").startswith("lease expired")
    assert task.bound is not None
    return [task.bound] * count


def told(chaos: Chaos, tag: str, records: list[UsageRecord]) -> str:
    """All that is known of one request, for whoever has to find out what went wrong."""
    lines = [f"{tag}: clients {[sent for sent in chaos.sent if sent.tag == tag]}"]
    lines += [f"ledger {record}" for record in records]
    for each in chaos.engine.requests:
        if tag_in(each.body) == tag:
            counts = f"{each.prompt_tokens}+{each.completion_tokens}"
            lines.append(
                f"engine {each.headers.get('x-request-id')} {each.state} {counts} broken={each in chaos.broken}"
            )
    return "\n".join(lines)


def id_in(seen: Seen) -> str:
    """The id of the request, or of the task whose attempt this is (`<task>.<token>`)."""
    return str(seen.headers["x-request-id"]).partition(".")[0]


def tag_in(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"].split()[0])


def tokens_of(record: UsageRecord) -> int:
    return record.prompt_tokens + record.completion_tokens


def cost_of(chaos: Chaos, record: UsageRecord) -> int:
    return cost_nano_usd(
        chaos.cluster.platform.llm.models["general"].prices,
        prompt_tokens=record.prompt_tokens,
        cached_tokens=record.cached_tokens,
        completion_tokens=record.completion_tokens,
    )
