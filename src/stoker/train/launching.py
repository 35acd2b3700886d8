"""The processes of one node, started together and begun again together. No torch here.

`stoker train` on one machine; in a pod torchrun does the same. Each process is `python -m stoker.train FILE` with
RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT, and STOKER_LAUNCH (a nonce).
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from stoker.base.errors import InvalidInput, StokerError
from stoker.policy.retry import delay_s
from stoker.registry.runs import RunStore
from stoker.registry.stores import Store
from stoker.spec.run import Run
from stoker.train import budget, exits, record, runs, sigterm
from stoker.train.gang import End, Gang, decisive
from stoker.train.interruption import LEASH

TRAINER = ("-m", "stoker.train")
"""What Python runs."""
TERMINAL = "STOKER_TERMINAL"
"""Columns of the terminal that reads what a process says through the launcher; not set where none does."""

ONE_PRESS_S = 1.0

_BACKOFF_S = 1.0
_BACKOFF_AT_MOST_S = 60.0
# Between the choice of a port and its use, somebody else may take it. That is nobody's fault, and soon over.
_PORTS_AT_MOST = 5
_TOLD_LINES = 5


@dataclass(frozen=True)
class Ended:
    """`code` is of `exits`. `launches`: how many there were."""

    code: int
    launches: int
    why: str


def launch(run: Run, run_file: Path, *, state: Path, tell: Callable[[str], None], grace_s: float = 100.0) -> Ended:
    """Run to its end. When one process dies, the others are ended (SIGTERM, then SIGKILL) and all begin again, up to
    `run.relaunches` times in a row without a new checkpoint, with backoff. SIGTERM and Ctrl-C are passed on to all,
    which have `grace_s` to save, and it ends with exits.PREEMPTED; so it does after a spot notice. A second Ctrl-C ends
    all at once, and a second SIGTERM changes nothing. Ports are free ones, loopback only, when nodes is 1; with more
    nodes PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR, PET_MASTER_PORT say where the others are. No process is left. Call
    it in the main thread. A run that is over is not launched again, nor one whose budget is spent (exits.BUDGET_SPENT).

    Raises Conflict as `runs.begin` does, InvalidInput when the environment says nothing of the other nodes."""
    with sigterm.held() as held:
        _, store = runs.begin(run, run_file, state, os.environ)
        if runs.is_over(store, run):
            return Ended(exits.COMPLETED, 0, "it was completed before")
        # Of several nodes, all have to come to the same; there the processes ask, and are told by the first.
        if run.nodes == 1 and (why := budget.cannot_begin(run, record.follow(store), now=time.time())):
            return Ended(exits.BUDGET_SPENT, 0, f"the budget is spent: {why}")
        launcher = Launcher(
            run, run_file, state=state, environ=os.environ, tell=tell, grace_s=grace_s, newest=newest(store, run)
        )
        return asyncio.run(_with_signals(launcher, held))


async def _with_signals(launcher: "Launcher", held: sigterm.Held) -> Ended:
    loop = asyncio.get_running_loop()
    # While the loop has a handler of its own, it wakes for signals that others handle, too.
    loop.add_signal_handler(signal.SIGINT, launcher.stop, "SIGINT")
    # Where hundreds come at once, what wakes the loop is full. Python 3.11 says so with a lock, inside the handler:
    # whoever it interrupts may hold that lock, and then all stands still.
    signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)
    try:
        with held.told_to(lambda: loop.call_soon_threadsafe(launcher.stop, "SIGTERM")):
            return await launcher.run()
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def newest(store: Store, run: Run) -> Callable[[], str | None]:
    """Asks which checkpoint is the newest; None: none, or nobody can say."""

    def ask() -> str | None:
        try:
            found = RunStore(store, run.name).head()
        except StokerError:
            return None
        return found[0].entries[-1].name if found is not None and found[0].entries else None

    return ask


class Launcher:
    """Use `run` once, in an event loop, and call the rest from there. `newest` names the newest checkpoint: by it a
    launch that came further is told from one that did not. `write` takes what the processes say."""

    def __init__(
        self,
        run: Run,
        run_file: Path,
        *,
        state: Path,
        environ: Mapping[str, str],
        tell: Callable[[str], None],
        grace_s: float,
        newest: Callable[[], str | None],
        write: Callable[[bytes], None] | None = None,
        random: Random | None = None,
        backoff_s: float = _BACKOFF_S,
    ) -> None:
        """Raises InvalidInput, see `launch`."""
        self._run = run
        self._nodes = nodes_of(run, environ)
        self._argv = (sys.executable, *TRAINER, str(run_file.absolute()), "--state", str(state.absolute()))
        self._environ = {**environ, **_terminal()} if write is None else dict(environ)
        self._tell = tell
        self._grace_s = grace_s
        self._newest = newest
        self._write = write or _to_stderr
        self._random = random or Random()
        self._backoff_s = backoff_s
        self._stopped_by: str | None = None
        self._stopped_at = 0.0
        self._stopping = asyncio.Event()
        self._gang: Gang | None = None
        self.launches = 0

    @property
    def pids(self) -> dict[int, int]:
        """Rank -> pid of the processes of this node, as far as they were started."""
        return {} if self._gang is None else self._gang.pids

    def stop(self, why: str) -> None:
        """Save and end; the second time: end at once. Ctrl-C that arrives twice in a moment was pressed once: a wrapper
        that passes it on, and the terminal, have both said it."""
        now = asyncio.get_running_loop().time()
        if self._stopped_by is not None:
            if self._gang is not None and why == "SIGINT" and now - self._stopped_at >= ONE_PRESS_S:
                self._gang.kill()
            return
        self._stopped_by, self._stopped_at = why, now
        again = "; a second Ctrl-C ends it at once" if why == "SIGINT" else ""
        grace = f"ending after a checkpoint; for that there are {self._grace_s:g} s{again}"
        self._tell(f"{why}: {grace if self.launches else 'ending before anything has begun'}")
        self._stopping.set()
        if self._gang is not None:
            self._gang.stop()

    async def run(self) -> Ended:
        in_a_row = ports = 0
        before = await asyncio.to_thread(self._newest)
        while True:
            if self._stopped_by is not None:
                return Ended(exits.PREEMPTED, self.launches, self._stopped_by)
            self.launches += 1
            ends = await self._once()
            end = decisive(ends)
            if self._stopped_by is not None:
                return self._stopped(ends, end)
            if end.code in _WORDS:
                return Ended(end.code, self.launches, _WORDS[end.code])
            if _lost_its_port(ends) and ports < _PORTS_AT_MOST:
                ports += 1
                continue
            now = await asyncio.to_thread(self._newest)
            in_a_row = 1 if now is not None and now != before else in_a_row + 1
            before = now or before
            if in_a_row > self._run.relaunches:
                return Ended(exits.FAILED, self.launches, self._story(end, self._given_up()))
            wait_s = delay_s(in_a_row, base_s=self._backoff_s, cap_s=_BACKOFF_AT_MOST_S, random=self._random)
            whence = "the beginning" if before is None else f"checkpoint {before}"
            self._tell(self._story(end, f"all begin again from {whence} in {wait_s:.1f} s"))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)

    async def _once(self) -> list[End]:
        self._gang = Gang(grace_s=self._grace_s, write=self._write)
        return await self._gang.run(self._argv, environs(self._run, self._nodes, self._environ))

    def _stopped(self, ends: list[End], end: End) -> Ended:
        """What was over already stays so. Whoever could not save in time goes on from the last checkpoint."""
        if end.code in _WORDS and end.code != exits.PREEMPTED:
            return Ended(end.code, self.launches, _WORDS[end.code])
        killed = [str(each.rank) for each in ends if each.code == -signal.SIGKILL]
        late = f"; killed: process {', '.join(killed)}, which did not end by itself" if killed else ""
        return Ended(exits.PREEMPTED, self.launches, f"{self._stopped_by}{late}")

    def _story(self, end: End, then: str) -> str:
        """With the last that the process said, unless that is what stands above already."""
        is_above = self._write is _to_stderr and self._run.processes_per_node == 1
        said = "" if is_above else "".join(f"\n    {line[:500]}" for line in end.tail[-_TOLD_LINES:])
        return f"{end.words}, {then}" + (f"; the last that it said:{said}" if said else "")

    def _given_up(self) -> str:
        if not self._run.relaunches:
            return "and relaunches is 0"
        return f"and so it was {self._run.relaunches + 1} times without a new checkpoint"


_WORDS = {
    exits.COMPLETED: "completed",
    exits.PREEMPTED: "preempted",
    exits.BUDGET_SPENT: "the budget is spent",
    exits.FENCED: "another launch of this run has taken over",
    exits.ASKED_WRONGLY: "it cannot run as it is asked for",
    exits.DIVERGED: "the loss is not a number any more",
}
"""Ends after which nothing is begun again."""


def _lost_its_port(ends: list[End]) -> bool:
    return any("EADDRINUSE" in line or "ddress already in use" in line for end in ends for line in end.tail)


# --- the environment of each process ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nodes:
    """All nodes of the run, and which of them this is. `port` None: any that is free."""

    count: int
    rank: int
    address: str
    port: int | None


def nodes_of(run: Run, environ: Mapping[str, str]) -> Nodes:
    """Raises InvalidInput."""
    if "TORCHELASTIC_RUN_ID" in environ:
        raise InvalidInput(
            "torchrun runs `stoker train`, which starts processes itself",
            hint="`torchrun -m stoker.train FILE`, or `stoker train FILE` alone",
        )
    if run.nodes == 1:
        return Nodes(1, 0, "127.0.0.1", None)
    names = ("PET_NNODES", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT")
    missing = [name for name in names if not environ.get(name)]
    if missing:
        raise InvalidInput(
            f"nodes is {run.nodes}, and {', '.join(missing)} does not say where the others are",
            param="nodes",
            hint="TrainJob and PyTorchJob set it; on machines of your own set it on each, or write nodes: 1",
        )
    count, rank, port = (_whole(name, environ[name]) for name in ("PET_NNODES", "PET_NODE_RANK", "PET_MASTER_PORT"))
    if count != run.nodes or rank >= count:
        raise InvalidInput(
            f"nodes is {run.nodes}, PET_NNODES {count} and PET_NODE_RANK {rank}; the first two have to be the same, "
            "and the third below them",
            param="nodes",
        )
    return Nodes(count, rank, environ["PET_MASTER_ADDR"], port)


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInput(f"{name} is {text[:40]!r}; it must be a whole number", param=name)
    return int(text)


def environs(run: Run, nodes: Nodes, environ: Mapping[str, str]) -> dict[int, dict[str, str]]:
    """Rank -> environment, for the processes of this node."""
    each_node = run.processes_per_node
    common = {
        "WORLD_SIZE": str(nodes.count * each_node),
        "LOCAL_WORLD_SIZE": str(each_node),
        "MASTER_ADDR": nodes.address,
        "MASTER_PORT": str(nodes.port or _free_port()),
        "STOKER_LAUNCH": secrets.token_hex(8),
        LEASH: "stdin",
    }
    if not run.gpus:
        common["OMP_NUM_THREADS"] = str(run.threads)
    if nodes.count == 1:
        # Nobody outside of this machine has a part in it. Without this Gloo takes the address of the host's name.
        loopback = "lo" if sys.platform == "linux" else "lo0"
        common |= {name: environ.get(name, loopback) for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
    return {
        nodes.rank * each_node + local: {
            **environ,
            **common,
            "RANK": str(nodes.rank * each_node + local),
            "LOCAL_RANK": str(local),
        }
        for local in range(each_node)
    }


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _terminal() -> dict[str, str]:
    return {TERMINAL: str(shutil.get_terminal_size().columns)} if sys.stderr.isatty() else {}


def _to_stderr(data: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody reads it any more, and training goes on
        while data:
            data = data[os.write(2, data) :]
