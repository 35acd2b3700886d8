"""The processes of one node that train together: started at once, ended at once. If one dies, the others are of no use.

`launching` begins them, and begins them again. What a process ends with is in `exits`; what it says goes to stderr, and
its last lines are kept for whoever asks why it died.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.train import exits

LINGER_S = 2.0
"""One process has ended as preempted; the others had the same word and are about to end. Then they are told."""
FAILED_S = 5.0
"""After SIGTERM to processes that have lost one of them: what is being written behind training may come to its end."""

_TAIL_BYTES = 8192
_CHUNK_BYTES = 65536
# Where several ended before anybody was told to: what caused the rest of them, first.
_WEIGHT = (exits.PREEMPTED, exits.FENCED, exits.ASKED_WRONGLY, exits.DIVERGED, exits.BUDGET_SPENT)


@dataclass(frozen=True)
class End:
    """Of one process. `code` below 0: the signal that ended it. `was_told`: a signal was sent to it before."""

    rank: int
    code: int
    was_told: bool
    tail: tuple[str, ...] = ()
    """The last lines that it said."""

    @property
    def words(self) -> str:
        if self.code >= 0:
            return f"process {self.rank} ended with exit code {self.code}"
        try:
            name = signal.Signals(-self.code).name
        except ValueError:
            name = str(-self.code)
        why = ", which the system also sends when there is no memory left" if name == "SIGKILL" else ""
        return f"process {self.rank} was ended by {name}{why}"


def decisive(ends: Sequence[End]) -> End:
    """The one of a gang's ends that says how it was: whatever was no success, and of that the cause rather than its
    effects on others. `ends` in the order in which they came."""
    own = [end for end in ends if not end.was_told] or list(ends)
    for code in _WEIGHT:
        found = next((end for end in own if end.code == code), None)
        if found is not None:
            return found
    killed = [end for end in own if end.code < 0]
    failed = [end for end in own if end.code > 0]
    return next(iter((*killed, *failed, *own)))


@dataclass(frozen=True)
class Patience:
    """With those that are left when one has ended: seconds until SIGTERM, and then until SIGKILL. None: no limit."""

    term_s: float | None
    kill_s: float


def patience(code: int, *, grace_s: float) -> Patience:
    """After the end of one process with this code.

    1. Success, or the budget: all end like that, in their own time; the last one writes the last checkpoint.
    2. Preempted: the others were told, too, or are told soon; they may save until the grace is over.
    3. All else: nobody can go on without it.
    """
    if code in (exits.COMPLETED, exits.BUDGET_SPENT):
        return Patience(None, grace_s)
    if code == exits.PREEMPTED:
        return Patience(LINGER_S, grace_s)
    return Patience(0.0, FAILED_S)


class Process:
    """One of them, in a process group of its own: Ctrl-C in the terminal reaches the launcher alone, and what it starts
    (compilers) is ended with it. Its stdin is its leash: it ends with this process."""

    def __init__(self, rank: int, child: asyncio.subprocess.Process, say: Callable[[bytes], None]) -> None:
        self.rank = rank
        self.was_told = False
        self._child = child
        self._say = say
        self._tail = b""

    @property
    def pid(self) -> int:
        return self._child.pid

    async def end(self) -> End:
        """Waits for it, and hands on what it says meanwhile."""
        reader = asyncio.ensure_future(self._read())
        code = await self._child.wait()
        was_told = self.was_told
        self._signal_group(signal.SIGKILL)  # what it left behind would hold its stderr open, and ports
        await reader
        lines = [line.rstrip() for line in self._tail.decode(errors="replace").replace("\r", "\n").split("\n")]
        return End(self.rank, code, was_told, tuple(line for line in lines if line))

    def terminate(self) -> None:
        self.was_told = True
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.was_told = True
        self._signal_group(signal.SIGKILL)

    async def gone(self) -> None:
        """It is, after this."""
        if self._child.returncode is None:
            self.kill()
            await self._child.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        # PermissionError is what macOS says of a group that has only zombies left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, number)

    async def _read(self) -> None:
        assert self._child.stdout is not None  # noqa: S101 - it was asked for
        while data := await self._child.stdout.read(_CHUNK_BYTES):
            self._tail = (self._tail + data)[-_TAIL_BYTES:]
            self._say(data)


class Gang:
    """Use `run` once. Call everything in one event loop."""

    def __init__(self, *, grace_s: float, write: Callable[[bytes], None]) -> None:
        """`write` takes what the processes say, for stderr."""
        self._grace_s = grace_s
        self._write = write
        self._processes: list[Process] = []
        self._news = asyncio.Event()
        self._term_at: float | None = None
        self._kill_at: float | None = None

    @property
    def pids(self) -> dict[int, int]:
        """Rank -> pid, of those that were started."""
        return {process.rank: process.pid for process in self._processes}

    def stop(self) -> None:
        """SIGTERM to all; SIGKILL after the grace."""
        self._limit(Patience(0.0, self._grace_s))

    def kill(self) -> None:
        """At once."""
        self._term_at = self._kill_at = self._now()
        self._news.set()

    async def run(self, argv: Sequence[str], environs: Mapping[int, Mapping[str, str]]) -> list[End]:
        """Start one process for each rank, and come back when none is left. In the order in which they ended. Raises
        OSError when one cannot be started; then none is left, either."""
        try:
            for rank, environ in environs.items():
                self._processes.append(await self._start(rank, argv, environ))
            return await self._watch()
        finally:
            for process in self._processes:
                await process.gone()

    async def _start(self, rank: int, argv: Sequence[str], environ: Mapping[str, str]) -> Process:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(environ),
            process_group=0,
        )
        return Process(
            rank, child, self._write if rank == min(self.pids, default=rank) else _Prefixed(rank, self._write)
        )

    async def _watch(self) -> list[End]:
        left = {asyncio.ensure_future(process.end()): process for process in self._processes}
        ends: list[End] = []
        while left:
            news: asyncio.Future[Any] = asyncio.ensure_future(self._news.wait())
            done, _ = await asyncio.wait({*left, news}, timeout=self._next_s(), return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            self._news.clear()
            for task in [task for task in left if task in done]:
                del left[task]
                end = task.result()
                ends.append(end)
                self._limit(patience(end.code, grace_s=self._grace_s))
            self._act(list(left.values()))
        return ends

    def _act(self, left: Sequence[Process]) -> None:
        now = self._now()
        if self._term_at is not None and now >= self._term_at:
            for process in left:
                if not process.was_told:
                    process.terminate()
        if self._kill_at is not None and now >= self._kill_at:
            for process in left:
                process.kill()

    def _limit(self, patience: Patience) -> None:
        """The sooner counts."""
        if patience.term_s is None:
            return
        term_at = self._now() + patience.term_s
        kill_at = term_at + patience.kill_s
        self._term_at = term_at if self._term_at is None else min(self._term_at, term_at)
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)
        self._news.set()

    def _next_s(self) -> float | None:
        """Until something is to be done; a little later, so that it is due then."""
        now = self._now()
        due = [at - now + 0.001 for at in (self._term_at, self._kill_at) if at is not None and at > now]
        return min(due, default=None)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


class _Prefixed:
    """Whole lines, each with the number of the process that said it."""

    def __init__(self, rank: int, write: Callable[[bytes], None]) -> None:
        self._prefix = f"[{rank}] ".encode()
        self._write = write
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _CHUNK_BYTES:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._write(self._prefix + line + b"\n")
