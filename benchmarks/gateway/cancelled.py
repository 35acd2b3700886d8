"""Streams whose clients go away at random moments: what is left of them in the ledger, and how soon the engine stops.

    python benchmarks/gateway/cancelled.py [--streams 1000] [--engine embedded|echo] [--clients 16] [--json FILE]

Real processes on loopback (Redis, gateway, worker, and the embedded engine; `echo` is an engine in this process, which
costs nothing and says to the token what it sent). More clients than the engine takes, so that a part goes through the
queue. A client waits for the head of its answer, which names the request, then leaves after a random time; `--early`
more leave before they have seen anything. Then, exactly:

- each stream has one record, and nothing else has one;
- each record has the tokens that the engine says it produced for that id, and at least those that the client saw;
- all records together have the tokens that the engine counts in all (the embedded one may count one more for each
  that it stopped, in the step that was under way: part of no answer);
- no generation is left running.

Exit 1 when any of that is not so. The time from closing the connection until the engine has stopped is told, not
judged: of `echo` as it happens, of `embedded` as asked every 2 ms.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stoker.meter.keys import KeyStore
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.meter.usage import UsageRecord
from stoker.telemetry import metrics
from stoker.testing.engine import EchoEngine
from stoker.web.client import HttpClient

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))
from processes import Process, free_port, said_ready

PYTHON = (sys.executable, "-P", "-m")
CAPACITY = 8
ASK_EVERY_S = 0.002
LINGER_S = 30.0
TOKENS = 3000  # more than any client stays for
BODY = {
    "model": "general",
    "messages": [{"role": "user", "content": "Tell me a long story."}],
    "stream": True,
    "max_tokens": TOKENS,
    "logit_bias": {"1": -100},  # the end, of the embedded engine: it goes on until it is stopped
}


class Engine(Protocol):
    url: str
    ahead: int
    """Tokens that it may count in all beyond those of its answers, for each that it stopped."""

    async def tokens(self, request_id: str) -> int | None:
        """Of the answer, as far as it was produced; None: it never came."""

    async def stopped_at(self, request_id: str) -> float | None:
        """When it was stopped, by time.perf_counter; None: it never came."""

    async def total(self) -> int:
        """Tokens of all answers."""

    async def running(self) -> int: ...


class Echo:
    """In this process: every end is seen when it happens."""

    ahead = 0

    def __init__(self, engine: EchoEngine) -> None:
        self._engine = engine
        self.url = engine.url

    def _find(self, request_id: str) -> Any:
        return next((seen for seen in self._engine.requests if seen.headers.get("x-request-id") == request_id), None)

    async def tokens(self, request_id: str) -> int | None:
        seen = self._find(request_id)
        return None if seen is None else seen.completion_tokens

    async def stopped_at(self, request_id: str) -> float | None:
        seen = self._find(request_id)
        if seen is None:
            return None
        await seen.ended.wait()
        return time.perf_counter()

    async def total(self) -> int:
        return sum(seen.completion_tokens for seen in self._engine.requests)

    async def running(self) -> int:
        return len(self._engine.running)


class Embedded:
    ahead = 1

    def __init__(self, url: str, http: HttpClient) -> None:
        self.url = url
        self._http = http

    async def _said(self, request_id: str) -> dict[str, Any]:
        said: dict[str, Any] = await self._http.get_json(f"/v1/requests/{request_id}")
        return said

    async def tokens(self, request_id: str) -> int | None:
        said = await self._said(request_id)
        return int(said["usage"]["completion_tokens"]) if said["known"] else None

    async def stopped_at(self, request_id: str) -> float | None:
        while (said := await self._said(request_id))["known"]:
            if said["has_ended"]:
                return time.perf_counter()
            await asyncio.sleep(ASK_EVERY_S)
        return None

    async def total(self) -> int:
        return await self._metric("vllm:generation_tokens_total")

    async def running(self) -> int:
        return await self._metric("vllm:num_requests_running")

    async def _metric(self, name: str) -> int:
        text = (await self._http.request("GET", "/metrics")).body.decode()
        return int(metrics.read(text, name).get(name, 0))


@dataclass
class Left:
    """A stream that its client left. `saw`: events that reached it."""

    id: str
    is_queued: bool
    saw: int
    stopped_s: float | None = None


@dataclass
class Result:
    streams: list[Left] = field(default_factory=list)
    early: int = 0
    records: list[UsageRecord] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


# --- clients ----------------------------------------------------------------------------------------------------------


async def leave(port: int, key: str, engine: Engine, stay_s: float) -> Left:
    """One stream, left so long after its head."""
    reader, writer = await _ask(port, key)
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = dict(line.split(": ", 1) for line in head.lower().split("\r\n")[1:] if line)
        if not head.startswith("HTTP/1.1 200"):
            raise SystemExit(f"the gateway said: {head}{(await reader.read(2000)).decode()}")
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(stay_s):
                while data := await reader.read(65536):
                    parts.append(data)
                raise SystemExit(f"a stream has ended by itself: {b''.join(parts)[-500:]!r}")
        except TimeoutError:
            pass
    finally:
        left_at = time.perf_counter()
        writer.transport.abort()
    is_queued = headers["x-stoker-replica"] == "queue"
    left = Left(headers["x-request-id"], is_queued, b"".join(parts).count(b"data: "))
    stopped_at = await engine.stopped_at(left.id + (".1" if is_queued else ""))
    if stopped_at is not None:
        left.stopped_s = max(0.0, stopped_at - left_at)
    return left


async def leave_early(port: int, key: str, stay_s: float) -> None:
    _, writer = await _ask(port, key)
    await asyncio.sleep(stay_s)
    writer.transport.abort()


async def _ask(port: int, key: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    data = json.dumps(BODY).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + data)
    await writer.drain()
    return reader, writer


async def _all(work: Sequence[Callable[[], Coroutine[Any, Any, None]]], clients: int) -> None:
    """So many at once, each as soon as another one is through."""
    waiting = iter(work)

    async def client() -> None:
        for each in waiting:
            await each()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())


# --- the run ----------------------------------------------------------------------------------------------------------


async def play(options: argparse.Namespace, port: int, key: str, engine: Engine, ledger: Ledger) -> Result:
    chance = random.Random(options.seed)
    result = Result(early=options.early)

    async def stay(seconds: float) -> None:
        result.streams.append(await leave(port, key, engine, seconds))

    stays = [chance.uniform(0.0, options.longest) for _ in range(options.streams)]
    work: list[Callable[[], Coroutine[Any, Any, None]]] = [lambda s=s: stay(s) for s in stays]
    glances = [chance.uniform(0.0, 0.02) for _ in range(options.early)]
    work += [lambda s=s: leave_early(port, key, s) for s in glances]
    chance.shuffle(work)
    await _all(work, options.clients)
    until = time.monotonic() + LINGER_S
    while True:
        result.records = await asyncio.to_thread(ledger.records)
        result.wrong = await faults(result, engine)
        if not result.wrong or time.monotonic() > until:  # records are on their way for a while
            return result
        await asyncio.sleep(0.5)


async def faults(result: Result, engine: Engine) -> list[str]:
    """What is not as it has to be."""
    found = []
    if running := await engine.running():
        found.append(f"{running} generations are left running")
    by_id = {record.id: record for record in result.records}
    asked = {left.id: left for left in result.streams}
    if missing := asked.keys() - by_id.keys():
        found.append(f"{len(missing)} streams without a record: {sorted(missing)[:3]}")
    if len(by_id) - len(asked) > result.early:
        found.append(f"{len(by_id)} records of {len(asked)} streams and {result.early} early ones")
    for record in result.records:
        names = [record.id] if record.kind == "request" else [f"{record.id}.{n + 1}" for n in range(record.attempts)]
        said = sum([await engine.tokens(name) or 0 for name in names])
        saw = asked[record.id].saw if record.id in asked else 0
        if record.completion_tokens != said:
            found.append(f"{record.id}: {record.completion_tokens} tokens in the ledger, {said} by the engine")
        if saw > record.completion_tokens + 1:  # the event that names the role, if there is one, is no token
            found.append(f"{record.id}: its client saw {saw} events, {record.completion_tokens} tokens in the ledger")
        if record.status != "cancelled":
            found.append(f"{record.id}: {record.status} ({record.reason})")
    total, booked = await engine.total(), sum(record.completion_tokens for record in result.records)
    if not booked <= total <= booked + engine.ahead * len(by_id):
        found.append(f"{booked} tokens in the ledger, {total} by the engine in all")
    return found


def report(result: Result) -> dict[str, Any]:
    kinds = Counter(record.kind for record in result.records)
    asked = {left.id for left in result.streams}
    return {
        "streams": len(result.streams),
        "records": sum(record.id in asked for record in result.records),
        "early": result.early,
        "early_records": sum(record.id not in asked for record in result.records),
        "through_the_queue": kinds["task"],
        "tokens": sum(record.completion_tokens for record in result.records),
        "stopped_ms": _times([left for left in result.streams if not left.is_queued]),
        "stopped_ms_through_the_queue": _times([left for left in result.streams if left.is_queued]),
        "wrong": result.wrong[:20],
    }


def _times(streams: Sequence[Left]) -> dict[str, float]:
    """Of those that had come to the engine."""
    times = sorted(1000 * left.stopped_s for left in streams if left.stopped_s is not None)
    if not times:
        return {"count": 0}
    p99 = times[min(len(times) - 1, int(0.99 * len(times)))]
    named = {"p50": statistics.median(times), "p99": p99, "max": times[-1]}
    return {"count": len(times), **{name: round(value, 1) for name, value in named.items()}}


async def run(options: argparse.Namespace, work: Path) -> Result:
    spec, ledger_url = work / "platform.yaml", f"sqlite:///{work / 'ledger.sqlite'}"
    limits = {"concurrency": CAPACITY, "maxOutputTokens": TOKENS, "contextTokens": 4096}
    spec.write_text(json.dumps({"llm": {"models": {"general": {"limits": limits}}}, "tenants": {"bench": {}}}))
    store = Store(ledger_url)
    key = KeyStore(store).create("bench", name="cancelled").secret
    started: list[Process] = []

    def start(name: str, *argv: str) -> Process:
        started.append(Process(name, [*PYTHON, *argv], work))
        return started[-1]

    try:
        async with AsyncExitStack() as stack:
            redis = said_ready(start("redis", "stoker.queue.server", "--dir", str(work / "redis")))
            if options.engine == "echo":
                echo = await stack.enter_async_context(EchoEngine("general", reply="word " * TOKENS))
                echo.pace_s = 0.002
                engine: Engine = Echo(echo)
            else:
                arguments = ("--model", "general", "--context", "4096", "--max-running", str(CAPACITY))
                url = said_ready(start("engine", "stoker.engine", *arguments))
                engine = Embedded(url, await stack.enter_async_context(HttpClient(url)))
            named = ("--spec", str(spec), "--redis", redis)
            replica = ("--model", "general", "--replica", "general-1", "--engine-url", engine.url)
            worker = start("worker", "stoker.worker", *named, *replica)
            await asyncio.to_thread(said_ready, worker)
            port = free_port()
            here = ("--port", str(port), "--ledger", ledger_url, "--journals", str(work / "journals"))
            gateway = start("gateway", "stoker.gateway", *named, *here)
            await asyncio.to_thread(said_ready, gateway)
            async with HttpClient(f"http://127.0.0.1:{port}") as front:
                while (await front.request("GET", "/ready")).status != 200:  # noqa: ASYNC110 - it is another process
                    await asyncio.sleep(0.05)
            return await play(options, port, key, engine, Ledger(store))
    finally:
        store.close()
        for process in reversed(started):
            process.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--early", type=int, default=100)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--longest", type=float, default=0.5, metavar="S", help="a client stays for at most so long")
    parser.add_argument("--engine", choices=("embedded", "echo"), default="embedded")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cancelled-") as directory:
        result = asyncio.run(run(options, Path(directory)))
    said = report(result)
    if options.json is not None:
        options.json.write_text(json.dumps(said, indent=1))
    print(json.dumps(said, indent=1))
    sys.exit(1 if result.wrong else 0)


if __name__ == "__main__":
    main()
