"""Gateways as on one machine: real processes on one real Redis, one ledger and one folder of journals. The engine is an
echo in the test's own loop, so that the test says when it answers and knows all that it produced."""

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from redis import Redis

from stoker.base.clock import SystemClock
from stoker.base.ids import ModelName
from stoker.gateway.bounds import Bound, bound_of
from stoker.meter.accounts import Account
from stoker.meter.keys import KeyStore, NewSecret
from stoker.meter.ledger import Ledger
from stoker.meter.limits import limits_of_account
from stoker.meter.store import Store
from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import Counter, counters
from stoker.queue import CounterState, QueueSettings, RedisBudgets, RedisQueue, RedisRegistry, Replica, keys
from stoker.spec import Budgets, Platform, loads
from stoker.testing.engine import EchoEngine
from stoker.testing.redis import RedisServer
from stoker.web.client import Answer, HttpClient, Timeouts

Json = dict[str, Any]

ADMIN_KEY = "sk-stoker-admin"
CHAT = "/v1/chat/completions"
# Long for a machine that is busy with other things; what works never waits for it.
DEADLINE_S = 60.0

SPEC = """
gateway: {timeouts: {connectSeconds: 10, firstTokenSeconds: 120, totalSeconds: 120}}
queue: {maxAttempts: 3, retryBaseSeconds: 0.05, retryCapSeconds: 0.2, leaseSeconds: 10}
llm:
  models:
    general:
      limits: {maxOutputTokens: 200, concurrency: 64}
      prices: {inputUsdPerMillionTokens: 1, cachedInputUsdPerMillionTokens: 0.5, outputUsdPerMillionTokens: 2}
"""


class GatewayProcess:
    """`python -m stoker.gateway`, which can be killed and started again; its clients find it at `http`."""

    def __init__(self, log: Path, argv: Sequence[str]) -> None:
        self.log = log
        self._argv = argv
        self._process: asyncio.subprocess.Process | None = None
        self.http = HttpClient("http://127.0.0.1:1")

    @property
    def is_up(self) -> bool:
        return self._process is not None

    async def start(self) -> None:
        command = [sys.executable, "-m", "stoker.gateway", *self._argv, "--port", "0", "--leash"]
        pipe = asyncio.subprocess.PIPE
        with self.log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=errors)
        assert process.stdout is not None
        line = await process.stdout.readline()
        assert line, self.log.read_text()[-4000:]
        self.http = HttpClient(json.loads(line)["url"], timeouts=Timeouts(connect_s=10.0, read_s=120.0))
        self._process = process

    async def kill(self) -> None:
        """As a crash does. What its clients wait for breaks off."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            await process.communicate()
            await self.http.close()

    async def stop(self) -> int:
        """As a platform does; the exit code."""
        assert self._process is not None
        process, self._process = self._process, None
        process.terminate()
        await process.communicate()
        await self.http.close()
        assert process.returncode is not None
        return process.returncode


class Cluster:
    """`keys` and `ledger` are on the gateways' own database, `budgets` and `queue` on their Redis."""

    def __init__(self, directory: Path, redis: RedisServer, spec: str, gateways: int) -> None:
        self.redis = redis
        self.platform: Platform = loads(spec)
        self.journals = directory / "journals"
        (directory / "platform.yaml").write_text(spec)
        url = f"sqlite:///{directory / 'ledger.sqlite'}"
        self.store = Store(url)
        self.keys, self.ledger = KeyStore(self.store), Ledger(self.store)
        self.keys.ensure(ADMIN_KEY, tenant="admins", name="admin", role="admin")
        self.budgets, self.registry = RedisBudgets(redis.url), RedisRegistry(redis.url)
        self.queue = RedisQueue(redis.url, settings=QueueSettings.of(self.platform.queue))
        options = {"spec": directory / "platform.yaml", "redis": redis.url, "ledger": url, "journals": self.journals}
        argv = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.gateways = [GatewayProcess(directory / f"gateway-{each}.log", argv) for each in range(gateways)]
        self._names = itertools.count(1)

    async def start(self) -> None:
        await asyncio.gather(*(gateway.start() for gateway in self.gateways))

    async def close(self) -> None:
        await asyncio.gather(*(gateway.kill() for gateway in self.gateways))
        for part in (self.queue, self.registry, self.budgets):
            await part.aclose()
        self.store.close()

    # --- who asks, and what -----------------------------------------------------------------------------------------

    def key(self, tenant: str = "acme", **budgets: Any) -> NewSecret:
        return self.keys.create(tenant, budgets=Budgets(**budgets))

    def account(self, key: NewSecret) -> Account:
        return self.keys.account_of(key.key.id)

    def counters(self, key: NewSecret, session: str | None = None) -> tuple[Counter, ...]:
        """Those that a request of this key falls under now."""
        limits = [named.limit for named in limits_of_account(self.account(key), session, None)]
        return counters(limits, SystemClock().now())

    def bound(self, body: Json) -> Bound:
        """The most that the gateway thinks it could cost."""
        return bound_of(body, self.platform.llm.models["general"], output_tokens=body["max_tokens"])

    async def ask(self, gateway: int, key: NewSecret | str, body: Json, path: str = CHAT) -> Answer:
        return await self.gateways[gateway].http.request("POST", path, body=body, headers=bearer(key))

    async def admin(self, gateway: int, method: str, path: str, body: object = None) -> Any:
        http = self.gateways[gateway].http
        answer = await http.request(method, f"/admin/v1/{path}", body=body, headers=bearer(ADMIN_KEY))
        return answer.raise_for_error().json()

    # --- the engine -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def engine(self, *, reply: str | None = None) -> AsyncIterator[EchoEngine]:
        """The only engine there is, known to every gateway."""
        name = f"general-{next(self._names)}"
        async with EchoEngine("general", reply=reply) as engine:
            model = ModelName("general")
            replica = Replica(id=name, model=model, url=engine.url, capacity=1000, started_at=1.0)
            await self.registry.announce(replica, ttl_s=3600)
            await until(lambda: self._sees_only(name))
            try:
                yield engine
            finally:
                await self.registry.withdraw(name)

    async def _sees_only(self, name: str) -> bool:
        seen = [await self.admin(each, "GET", "replicas") for each in range(len(self.gateways))]
        return all([replica["id"] for replica in each["replicas"]] == [name] for each in seen)

    # --- what is written down ---------------------------------------------------------------------------------------

    async def state(self, counter: Counter) -> CounterState:
        (found,) = await self.budgets.state([counter.name])
        assert found is not None, counter.name
        return found

    def records(self, key: NewSecret) -> list[UsageRecord]:
        return [record for record in self.ledger.records() if record.key_id == key.key.id]

    async def records_when(self, key: NewSecret, count: int) -> list[UsageRecord]:
        """All of this key, as soon as there are so many."""
        await until(lambda: len(self.records(key)) >= count)
        found = self.records(key)
        assert len(found) == count
        return found

    def slices(self) -> dict[str, dict[str, int]]:
        """What Redis says each owner holds, of owners that hold anything or live."""
        with Redis.from_url(self.redis.url, protocol=2, decode_responses=True) as raw:
            owners = {str(name) for name in raw.zrange(keys.OWNERS, 0, -1)}
            for key in raw.scan_iter(match=f"{keys.OWNER_PREFIX}*:slices"):
                owners.add(str(key).removeprefix(keys.OWNER_PREFIX).removesuffix(":slices"))
            found = {name: raw.hgetall(f"{keys.OWNER_PREFIX}{name}:slices") for name in owners}
        return {name: {counter: int(amount) for counter, amount in each.items()} for name, each in found.items()}


@asynccontextmanager
async def a_cluster(directory: Path, *, gateways: int, spec: str = SPEC) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        made = Cluster(directory, redis, spec, gateways)
        stack.push_async_callback(made.close)
        await made.start()
        yield made


def bearer(key: NewSecret | str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key if isinstance(key, str) else key.secret}"}


def chat(words: str, *, max_tokens: int, **options: Any) -> Json:
    return {
        "model": "general",
        "messages": [{"role": "user", "content": words}],
        "max_tokens": max_tokens,
        **options,
    }


async def until(holds: Callable[[], Any], timeout_s: float = DEADLINE_S) -> None:
    """Returns when `holds` does; for what happens in another process, which tells nobody."""
    async with asyncio.timeout(timeout_s):
        while True:
            answer = holds()
            if await answer if asyncio.iscoroutine(answer) else answer:
                return
            await asyncio.sleep(0.02)
