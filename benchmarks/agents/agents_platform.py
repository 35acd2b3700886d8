"""The platform of these benchmarks: a Redis, a gateway, a model that is a stub with its worker, the agents' service, and
agent workers that can be killed. Each is a process of its own, and is ended by its id."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from redis import Redis
from sqlalchemy import text

from stoker.agents.store import Store as RunStore
from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.meter.usage import UsageRecord
from stoker.queue import RedisQueue, keys
from stoker.testing.redis import RedisServer
from stoker.web.client import HttpClient, Timeouts

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))
from processes import Place, ask, free_port, wait_for

Json = dict[str, Any]
T = TypeVar("T")
TENANT = "acme"
MODEL = "general"
PYTHON = (sys.executable, "-P", "-m")


class Nursery:
    """`nursery.py`: workers that begin at once."""

    def __init__(self, logs: Path, env: Mapping[str, str]) -> None:
        argv = [sys.executable, "-P", str(Path(__file__).parent / "nursery.py")]
        with (logs / "nursery.log").open("wb") as errors:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **env}
            )
        self._talking = threading.Lock()
        self._said()  # that it is ready

    def fork(self, argv: Sequence[str], log: Path) -> int:
        """The pid of a worker with these arguments."""
        assert self._process.stdin is not None
        with self._talking:
            self._process.stdin.write(json.dumps({"argv": list(argv), "log": str(log)}).encode() + b"\n")
            self._process.stdin.flush()
            return int(self._said())

    def end(self) -> None:
        """It, and all that it began."""
        self._process.communicate(timeout=30)

    def _said(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the nursery has ended; see nursery.log")
        return line


@dataclass
class ForkedWorker:
    """An agent worker of a nursery, and the next ones after it was killed."""

    name: str
    argv: Sequence[str]
    logs: Path
    nursery: Nursery
    kills: int = 0
    _pid: int = 0
    _starts: int = 0

    def begin(self) -> None:
        self._starts += 1
        self._log().touch()
        self._pid = self.nursery.fork([*self.argv, "--name", self.name], self._log())

    def _log(self) -> Path:
        return self.logs / f"{self.name}.{self._starts}.log"

    @property
    def is_up(self) -> bool:
        return '{"ready": true' in self._log().read_text(errors="replace")

    def wait(self) -> None:
        until_s = time.monotonic() + 60
        while not self.is_up:
            if time.monotonic() > until_s:
                raise SystemExit(f"{self.name} is not ready:\n{self._log().read_text()[-3000:]}")
            time.sleep(0.02)

    def kill_and_begin(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        self.kills += 1
        self.begin()

    def end(self) -> None:
        """Its nursery ends it."""


@dataclass
class AgentsPlatform:
    """`http` is a client of the gateway, with a key of an ordinary tenant. `agents` may be none: they are begun by
    whoever wants them."""

    directory: Path
    redis: RedisServer
    model_url: str
    parts: dict[str, Place]
    agents: list[Place | ForkedWorker]
    http: HttpClient
    bearer: Mapping[str, str]
    ledger: Ledger
    runs: RunStore
    queue: RedisQueue

    async def start(self, agent: str, asked: Any, **more: Any) -> str:
        answer = await self.http.request(
            "POST", f"/v1/agents/{agent}/runs", body={"input": asked, **more}, headers=self.bearer
        )
        return str(answer.raise_for_error().json()["id"])

    async def shown(self, run: str, *, wait_s: float = 0) -> Json:
        """As it is, or as soon as it has ended or waits for somebody."""
        answer = await self.http.request("GET", f"/v1/agents/runs/{run}?wait={wait_s:g}", headers=self.bearer)
        found: Json = answer.raise_for_error().json()
        return found

    async def ended(self, run: str) -> Json:
        while True:
            found = await self.shown(run, wait_s=30)
            if found["status"] not in ("queued", "running"):
                return found

    async def resume(self, run: str, **answer: Any) -> None:
        said = await self.http.request("POST", f"/v1/agents/runs/{run}/resume", body=answer, headers=self.bearer)
        said.raise_for_error()

    def events(self, kind: str) -> dict[str, list[tuple[int, str]]]:
        """By run: step and key of each of this type."""
        found: dict[str, list[tuple[int, str]]] = {}
        query = text("SELECT run, step, key FROM agent_events WHERE type = :kind ORDER BY run, id")
        with self.runs.engine.connect() as connection:
            for run, step, key in connection.execute(query, {"kind": kind}):
                found.setdefault(run, []).append((step, key))
        return found

    def paid(self) -> dict[str, list[UsageRecord]]:
        """What the ledger has of calls of the model, by run."""
        found: dict[str, list[UsageRecord]] = {}
        for record in self.ledger.records():
            if record.model == MODEL and record.run is not None:
                found.setdefault(record.run, []).append(record)
        return found

    async def settled(self) -> None:
        """Until the ledger has all that was written down of requests."""
        with Redis.from_url(self.redis.url, protocol=2) as raw:
            await until(lambda: raw.xlen(keys.USAGE) == 0)

    def asked(self) -> Json:
        """What the model says of who asked it."""
        found: Json = ask("GET", f"{self.model_url}/stats")
        return found


@asynccontextmanager
async def a_platform(
    directory: Path,
    *,
    graphs: str,
    agents: Mapping[str, Json],
    workers: int,
    tools: Mapping[str, Json] | None = None,
    more: Mapping[str, Any] | None = None,
    model_delay_s: float = 0.0,
    lease_s: float = 10.0,
    usd_per_million: float = 1.0,
    forked: bool = False,
) -> AsyncIterator[AgentsPlatform]:
    """Ready, with `graphs` as the file `graphs.py` beside the platform's. `more` goes into the platform's file.
    `forked`: agent workers begin without loading their code, see `nursery.py`."""
    logs, spec = directory / "logs", directory / "platform.yaml"
    await asyncio.to_thread(logs.mkdir, parents=True)
    (directory / "graphs.py").write_text(graphs)
    model_port, gateway_port, service_port = free_port(), free_port(), free_port()
    said = _spec(f"http://127.0.0.1:{model_port}", agents, tools or {}, lease_s, usd_per_million)
    spec.write_text(json.dumps({**said, **(more or {})}))
    ledger_url, runs_url = f"sqlite:///{directory}/ledger.sqlite", f"sqlite:///{directory}/agents.sqlite"
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        store = Store(ledger_url)
        stack.callback(store.close)
        key = KeyStore(store).create(TENANT).secret
        env = {
            "STOKER_AGENTS_KEY": secrets.token_hex(32),
            "STOKER_AGENTS_URL": f"http://127.0.0.1:{service_port}",
            "STOKER_GATEWAY_URL": f"http://127.0.0.1:{gateway_port}",
            "STOKER_REDIS_URL": redis.url,
            "STOKER_AGENTS_DB": runs_url,
        }
        stub = str(Path(__file__).parent / "model_stub.py")
        named = ["--spec", str(spec), "--redis", redis.url]
        argv: dict[str, Sequence[str]] = {
            "model": [sys.executable, stub, str(model_port), "--delay", str(model_delay_s)],
            "worker": [
                *(*PYTHON, "stoker.worker", *named, "--model", MODEL, "--replica", f"{MODEL}-1"),
                *("--engine-url", f"http://127.0.0.1:{model_port}"),
            ],
            "service": [*PYTHON, "stoker.agents", "--spec", str(spec), "--port", str(service_port)],
            "gateway": [
                *(*PYTHON, "stoker.gateway", *named, "--port", str(gateway_port), "--ledger", ledger_url),
                *("--journals", str(directory / "journals")),
            ],
        }
        parts = {name: Place(name, name, list(each), logs, env) for name, each in argv.items()}
        options = ["--spec", str(spec), "--folder", str(directory / "agents")]
        places: list[Place | ForkedWorker] = []
        names = [f"agents-{number}" for number in range(1, workers + 1)]
        if forked:
            nursery = await asyncio.to_thread(Nursery, logs, env)
            stack.callback(nursery.end)
            places += [ForkedWorker(name, options, logs, nursery) for name in names]
        else:
            worker = [*PYTHON, "stoker.agents.worker", *options]
            places += [Place(name, "agents", [*worker, "--name", name], logs, env) for name in names]
        for place in (*parts.values(), *places):
            stack.callback(place.end)
        parts["model"].begin()
        assert parts["model"].process is not None
        await asyncio.to_thread(wait_for, parts["model"].process, f"http://127.0.0.1:{model_port}/health")
        begun: list[Place | ForkedWorker] = [parts["worker"], parts["service"], parts["gateway"], *places]
        for place in begun:
            place.begin()
        for place in begun:
            await asyncio.to_thread(place.wait)
        http = HttpClient(f"http://127.0.0.1:{gateway_port}", timeouts=Timeouts(connect_s=10.0, read_s=120.0))
        runs, queue = RunStore(runs_url), RedisQueue(redis.url)
        stack.callback(runs.close)
        try:
            yield AgentsPlatform(
                directory,
                redis,
                f"http://127.0.0.1:{model_port}",
                parts,
                places,
                http,
                {"Authorization": f"Bearer {key}"},
                Ledger(store),
                runs,
                queue,
            )
        finally:
            await http.close()
            await queue.aclose()


def _spec(
    model_url: str, agents: Mapping[str, Json], tools: Mapping[str, Json], lease_s: float, usd_per_million: float
) -> Json:
    prices = {
        "inputUsdPerMillionTokens": 0,
        "cachedInputUsdPerMillionTokens": 0,
        "outputUsdPerMillionTokens": usd_per_million,
    }
    model = {"engine": {"url": f"{model_url}/v1"}, "prices": prices, "limits": {"concurrency": 256}}
    return {
        "gateway": {"maxWaiting": {"perTenant": 100_000, "perModel": 100_000}},
        "llm": {"models": {MODEL: model}},
        "tenants": {TENANT: {}},
        "agents": {
            "definitions": {name: {"model": MODEL, **said} for name, said in agents.items()},
            "tools": dict(tools),
            "workers": {"leaseSeconds": lease_s},
        },
    }


async def until(holds: Callable[[], Any], *, every_s: float = 0.1, most_s: float = 120.0) -> None:
    async with asyncio.timeout(most_s):
        while True:
            answer = holds()
            if await answer if isinstance(answer, Awaitable) else answer:
                return
            await asyncio.sleep(every_s)


async def each_of(count: int, at_once: int, work: Callable[[int], Awaitable[Any]]) -> list[Any]:
    """What `work` comes to for 0 to `count` - 1, so many at once."""
    slots = asyncio.Semaphore(at_once)

    async def one(number: int) -> Any:
        async with slots:
            return await work(number)

    return await asyncio.gather(*(one(number) for number in range(count)))


def bounded(work: Coroutine[Any, Any, T], most_s: float) -> T:
    """What `work` comes to. It is given up after `most_s`, and when this process is told to end; what it started is
    ended first."""

    async def run() -> T:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with asyncio.timeout(most_s):
            return await task

    return uvloop.run(run())
