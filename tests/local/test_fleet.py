"""Replicas on a supervisor, with small real processes in place of engines and workers."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from local_children import GOOD, python

from stoker.base import logs
from stoker.base.clock import SystemClock
from stoker.local.board import Board, Child, Limits, Role, Status
from stoker.local.fleet import LocalFleet, free_number
from stoker.local.supervisor import Launch, Supervisor
from stoker.policy import hpa
from stoker.spec import AGENT_STEPS

QUICK = Limits(grace_s=dict.fromkeys(Role, 0.3), stop_s=2.0)
# Finishes and leaves when it is told that it is not needed.
WORKER = GOOD.replace(
    "signal.signal(signal.SIGTERM",
    'signal.signal(signal.SIGUSR1, lambda *_: leave("SIGUSR1"))\nsignal.signal(signal.SIGTERM',
)


def pair(model: str, number: int) -> list[Launch]:
    engine, worker = f"engine-{model}-{number}", f"worker-{model}-{number}"
    child = Child(worker, Role.WORKER, uses=("redis", engine), model=model, finish_s=20.0)
    return [
        Launch(Child(engine, Role.ENGINE, url=f"http://{engine}", model=model), lambda urls: python(GOOD, "x")),
        Launch(child, lambda urls: python(WORKER, "x")),
    ]


@asynccontextmanager
async def a_fleet(
    launches: Callable[[str, int], list[Launch]] = pair,
) -> AsyncIterator[tuple[LocalFleet, Supervisor, list[tuple[str, bytes]]]]:
    said: list[tuple[str, bytes]] = []
    clock = SystemClock()
    redis = Launch(Child("redis", Role.REDIS), lambda urls: python(GOOD, "unix:///r"))
    board = Board([redis.child], now=clock.monotonic(), backoff_s=lambda _: 0.01, limits=QUICK)
    supervisor = Supervisor(
        [redis], board, clock=clock, log=logs.get("test").bind(), on_line=lambda name, line: said.append((name, line))
    )
    running = asyncio.create_task(supervisor.run())
    try:
        async with asyncio.timeout(30):
            await supervisor.until(lambda board: board.all_ready)
            supervisor.up()
            yield LocalFleet(supervisor, launches), supervisor, said
    finally:
        supervisor.stop(hurry=True)
        await running


def names(supervisor: Supervisor) -> list[str]:
    return sorted(supervisor.board.children)


async def test_replicas_are_started_counted_and_stopped_the_worker_first() -> None:
    async with a_fleet() as (fleet, supervisor, said):
        assert fleet.replicas("small") == hpa.Replicas(0, 0, 0)
        fleet.scale("small", 2)
        assert fleet.replicas("small") == hpa.Replicas(2, 2, 0)
        await supervisor.until(lambda board: board.all_ready)
        assert fleet.replicas("small") == hpa.Replicas(2, 2, 2)
        assert fleet.replicas("other") == hpa.Replicas(0, 0, 0)
        assert names(supervisor)[:2] == ["engine-small-1", "engine-small-2"]

        fleet.scale("small", 0)
        assert fleet.replicas("small") == hpa.Replicas(0, 0, 0)  # at once: who leaves does not count
        await supervisor.until(lambda board: list(board.children) == ["redis"])

    leaving = [(name, line.split(b'"why": ')[1]) for name, line in said if b'"why": ' in line and name != "redis"]
    for number in "12":
        of_one = [(name[:6], why) for name, why in leaving if name.endswith(number)]
        assert of_one == [("worker", b'"SIGUSR1"}'), ("engine", b'"SIGTERM"}')]


async def test_a_worker_of_agents_is_a_replica_by_itself() -> None:
    def worker(model: str, number: int) -> list[Launch]:
        child = Child(f"worker-{model}-{number}", Role.AGENT_WORKER, uses=("redis",), model=model, finish_s=20.0)
        return [Launch(child, lambda urls: python(WORKER, "x"))]

    async with a_fleet(worker) as (fleet, supervisor, said):
        fleet.scale(AGENT_STEPS, 1)
        await supervisor.until(lambda board: board.all_ready)
        assert fleet.replicas(AGENT_STEPS) == hpa.Replicas(1, 1, 1)
        assert free_number(supervisor.board, AGENT_STEPS) == 2
        fleet.scale(AGENT_STEPS, 0)
        await supervisor.until(lambda board: list(board.children) == ["redis"])

    assert [line for name, line in said if name == "worker-agents-1"][-1].endswith(b'"why": "SIGUSR1"}')


async def test_one_that_is_killed_comes_back_and_still_counts() -> None:
    async with a_fleet() as (fleet, supervisor, _):
        fleet.scale("small", 1)
        await supervisor.until(lambda board: board.all_ready)
        pid = supervisor.board.children["worker-small-1"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await supervisor.until(lambda board: board.children["worker-small-1"].restarts == 1)
        assert fleet.replicas("small").wanted == 1


async def test_the_one_that_became_ready_last_leaves_first_and_its_number_is_free_once_it_is_gone() -> None:
    async with a_fleet() as (fleet, supervisor, _):
        fleet.scale("small", 1)
        await supervisor.until(lambda board: board.all_ready)
        fleet.scale("small", 2)
        await supervisor.until(lambda board: board.all_ready)
        fleet.scale("small", 1)
        assert free_number(supervisor.board, "small") == 3
        await supervisor.until(lambda board: "engine-small-2" not in board.children)
        assert free_number(supervisor.board, "small") == 2
        assert supervisor.board.children["worker-small-1"].status is Status.READY
