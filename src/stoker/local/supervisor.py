"""Does what the board decides, and tells the board what happened. The loop of `stoker up` while the platform runs."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stoker.base.clock import Clock
from stoker.base.logs import Logger
from stoker.local.board import Action, Board, Child, Kill, Retire, Start, Status, Terminate
from stoker.local.children import Command, Process, describe_exit, start


@dataclass(frozen=True)
class Launch:
    """One process of the plan: what the board has to know of it, and its command line for given URLs."""

    child: Child
    command: Callable[[Mapping[str, str]], Command]


class Supervisor:
    """Use `run` once. `on_change` is called after each change of the board, `on_line` with each line of a child, and
    `relocate` before each start, with a process and its URL: another URL from it is where the process will listen
    instead. `inherit` are file descriptors that each child holds open."""

    def __init__(
        self,
        launches: Sequence[Launch],
        board: Board,
        *,
        clock: Clock,
        log: Logger,
        on_line: Callable[[str, bytes], None],
        on_change: Callable[[Board], None] = lambda board: None,
        relocate: Callable[[Child], str | None] = lambda child: None,
        inherit: Sequence[int] = (),
    ) -> None:
        self.board = board
        self.on_line = on_line
        self._commands = {launch.child.name: launch.command for launch in launches}
        self._processes: dict[str, Process] = {}
        self._urls: dict[str, Mapping[str, str]] = {}
        self._clock, self._log = clock, log
        self._on_change, self._relocate, self._inherit = on_change, relocate, inherit
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Keep the processes running until `stop`; returns when none is left."""
        while not self.board.is_finished(self._clock.monotonic()):
            self._changed.clear()
            # One at a time: while a process is started, others end, and somebody may press Ctrl-C.
            while actions := self.board.decide(self._clock.monotonic()):
                await self._do(actions[0])
            self.board.forget()
            self._on_change(self.board)
            wake_at = self.board.wake_at()
            timeout_s = None if wake_at is None else max(0.0, wake_at - self._clock.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout_s)
        self._on_change(self.board)
        for name, process in self._processes.items():
            self._log.error("process does not end, even by SIGKILL", name=name, pid=process.pid)

    def up(self) -> None:
        """The platform answers: from now on nothing that dies is given up."""
        self.board.up()
        self._changed.set()

    def stop(self, *, hurry: bool = False) -> None:
        """Let everything leave in order, or with `hurry` at once. `run` returns when it has."""
        self.board.stop(self._clock.monotonic(), hurry=hurry)
        self._changed.set()

    def add(self, launches: Sequence[Launch]) -> None:
        """More processes, from now on."""
        for launch in launches:
            self._commands[launch.child.name] = launch.command
            self.board.add(launch.child, self._clock.monotonic())
        self._changed.set()

    def retire(self, names: Sequence[str]) -> None:
        """These are not needed any more: they leave in order, and are forgotten."""
        for name in names:
            self.board.retire(name)
        self._changed.set()

    async def until(self, holds: Callable[[Board], bool]) -> None:
        """Return when something is true of the board. `holds` is asked whenever the board has changed, and at least
        each 50 ms, because some of what it asks depends on the time alone."""
        while not holds(self.board):
            await self._clock.sleep(0.05)

    async def _do(self, action: Action) -> None:
        name, now = action.name, self._clock.monotonic()
        match action:
            case Start():
                await self._start(name)
            case Terminate():
                self._log.info("process is asked to leave", name=name)
                self.board.told(name, now)
                self._processes[name].terminate()
            case Retire():
                self._log.info("process is not needed any more", name=name)
                self.board.retired(name, now)
                self._processes[name].retire()
            case Kill():
                self._log.warning("process is killed", name=name, status=str(self.board.children[name].status))
                self.board.killed(name)
                self._processes[name].kill()

    async def _start(self, name: str) -> None:
        child = self.board.children[name]
        other_url = self._relocate(child)
        if other_url is not None:
            self._log.warning("port is taken, moving on", name=name, was=child.url, url=other_url)
            self.board.moved(name, other_url)
        urls = self.board.urls_for(name) or {}
        self._urls[name] = urls
        try:
            await start(name, self._commands[name](urls), self, inherit=self._inherit)
        except OSError as error:
            self._note_end(name, f"cannot be started: {error}")

    # What a child tells us

    def on_start(self, process: Process) -> None:
        name = process.name
        self._processes[name] = process
        self.board.started(name, process.pid, self._urls[name], self._clock.monotonic())
        self._log.info("process is started", name=name, pid=process.pid, restarts=self.board.children[name].restarts)

    def on_ready(self, name: str, url: str | None, moments: Mapping[str, float]) -> None:
        now = self._clock.monotonic()
        seconds = round(now - self.board.children[name].since, 3)
        self.board.ready(name, url, now, moments)
        self._log.info("process is ready", name=name, seconds=seconds)
        self._changed.set()

    def on_exit(self, name: str, returncode: int) -> None:
        self._processes.pop(name, None)
        self._note_end(name, describe_exit(returncode))

    def _note_end(self, name: str, how: str) -> None:
        child = self.board.children[name]
        was_asked = child.status is Status.STOPPING
        wait_s = self.board.exited(name, how, self._clock.monotonic())
        if was_asked or wait_s is None:
            self._log.info("process has left", name=name, how=child.last_exit)
        else:
            self._log.error(
                "process died", name=name, how=child.last_exit, attempt=child.attempt, back_in_s=round(wait_s, 2)
            )
        self._changed.set()
