"""The loop, with small real processes in place of the platform's."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from local_children import DEAF, DIES, GOOD, python

from stoker.base import logs
from stoker.base.clock import SystemClock
from stoker.local.board import Board, Child, Limits, Role, Status, Trouble
from stoker.local.children import Command
from stoker.local.supervisor import Launch, Supervisor

QUICK = Limits(grace_s=dict.fromkeys(Role, 0.3), stop_s=2.0)


def launch(name: str, role: Role, code: str = GOOD, *, uses: tuple[str, ...] = (), url: str | None = None) -> Launch:
    """A process that is told the URLs that it was started with as its last argument."""

    def command(urls: object) -> Command:
        return python(code, f"http://{name}", repr(urls))

    return Launch(Child(name, role, uses=uses, url=url), command)


def four(engine: str = GOOD) -> list[Launch]:
    return [
        launch("redis", Role.REDIS),
        launch("engine", Role.ENGINE, engine, url="http://engine"),
        launch("worker", Role.WORKER, uses=("redis", "engine")),
        launch("gateway", Role.GATEWAY, uses=("redis",), url="http://gateway"),
    ]


@asynccontextmanager
async def supervising(
    launches: list[Launch], limits: Limits = QUICK, relocate: Callable[[Child], str | None] = lambda child: None
) -> AsyncIterator[tuple[Supervisor, list[tuple[str, bytes]]]]:
    """A supervisor whose loop runs; whatever the test does, nothing is left of it."""
    said: list[tuple[str, bytes]] = []
    clock = SystemClock()
    board = Board([one.child for one in launches], now=clock.monotonic(), backoff_s=lambda _: 0.01, limits=limits)
    supervisor = Supervisor(
        launches,
        board,
        clock=clock,
        log=logs.get("test").bind(),
        on_line=lambda name, line: said.append((name, line)),
        relocate=relocate,
    )
    running = asyncio.create_task(supervisor.run())
    try:
        async with asyncio.timeout(30):
            yield supervisor, said
            supervisor.stop()
            await running
    finally:
        supervisor.stop(hurry=True)
        await running


async def test_everything_comes_up_and_leaves_in_order() -> None:
    async with supervising(four()) as (supervisor, said):
        await supervisor.until(lambda board: board.all_ready)

    leaving = [name for name, line in said if b'"why": "SIGTERM"' in line]
    assert set(leaving[:2]) == {"gateway", "worker"}
    assert leaving[2:] == ["engine", "redis"]
    assert {child.status for child in supervisor.board.children.values()} == {Status.STOPPED}
    assert {child.last_exit for child in supervisor.board.children.values()} == {"exit code 0"}


async def test_an_engine_that_is_killed_comes_back_and_nobody_else_is_disturbed() -> None:
    async with supervising(four()) as (supervisor, _):
        children = supervisor.board.children
        await supervisor.until(lambda board: board.all_ready)
        before = {name: child.pid for name, child in children.items()}
        first = before.pop("engine")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await supervisor.until(lambda board: board.children["engine"].restarts == 1 and board.all_ready)

        assert {name: child.pid for name, child in children.items() if name != "engine"} == before
        assert children["engine"].pid != first
        assert children["engine"].last_exit == "signal SIGKILL"


async def test_an_engine_whose_port_is_taken_moves_and_its_worker_follows() -> None:
    taken = False

    def relocate(child: Child) -> str | None:
        return "http://elsewhere" if taken and child.role is Role.ENGINE else None

    async with supervising(four(), relocate=relocate) as (supervisor, _):
        children = supervisor.board.children
        await supervisor.until(lambda board: board.all_ready)
        gateway, engine = children["gateway"].pid, children["engine"].pid
        taken = True
        assert engine is not None
        os.kill(engine, signal.SIGKILL)
        await supervisor.until(lambda board: board.children["worker"].restarts == 1 and board.all_ready)

        assert children["worker"].started_with["engine"] == "http://elsewhere"
        assert children["gateway"].pid == gateway


async def test_a_process_that_cannot_start_is_trouble_and_its_words_are_kept() -> None:
    async with supervising(four(engine=DIES)) as (supervisor, said):
        await supervisor.until(lambda board: board.trouble(SystemClock().monotonic()) is not None)

        assert supervisor.board.trouble(SystemClock().monotonic()) == Trouble(
            "engine does not start: exit code 7, 3 times in a row", "engine"
        )
    assert ("engine", b"there is no such model") in said


async def test_a_program_that_does_not_exist_is_trouble_too() -> None:
    nowhere = Launch(Child("engine", Role.ENGINE, url="http://engine"), lambda urls: Command(["/no/such/program"]))

    async with supervising([nowhere]) as (supervisor, _):
        await supervisor.until(lambda board: board.trouble(SystemClock().monotonic()) is not None)

        assert "cannot be started: [Errno 2] No such file or directory" in str(
            supervisor.board.children["engine"].last_exit
        )


async def test_who_ignores_sigterm_is_killed_at_its_deadline() -> None:
    async with supervising(four(engine=DEAF)) as (supervisor, _):
        await supervisor.until(lambda board: board.all_ready)

    assert supervisor.board.children["engine"].last_exit == "signal SIGKILL"
    assert supervisor.board.children["redis"].last_exit == "exit code 0"


async def test_hurry_kills_at_once() -> None:
    patient = Limits()
    async with supervising(four(engine=DEAF), patient) as (supervisor, _):
        await supervisor.until(lambda board: board.all_ready)
        supervisor.stop()
        supervisor.stop(hurry=True)
        began = asyncio.get_running_loop().time()
        await supervisor.until(lambda board: board.is_finished(0.0))

        assert asyncio.get_running_loop().time() - began < 1.0
    assert supervisor.board.children["engine"].last_exit == "signal SIGKILL"
