"""Which process is killed, and that it is still that one in the moment of the signal.

Who started a drill hands in how to look at the platform's processes; nothing that is not among them is ever signalled.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from stoker.base.errors import Conflict, InvalidInput
from stoker.drill.observed import TARGETS, Target


@dataclass(frozen=True)
class Process:
    """One of the platform's. `pid` is None while it does not run."""

    name: str
    role: str
    state: str
    pid: int | None = None
    model: str | None = None
    url: str | None = None

    @property
    def is_ready(self) -> bool:
        return self.state == "ready" and self.pid is not None

    @property
    def replica(self) -> str | None:
        """What the gateway calls a worker, and a worker's tasks say; of an engine, its worker's."""
        return self.name.partition("-")[2] if self.role in ("worker", "engine") else None


Look = Callable[[], Sequence[Process]]
"""The platform's processes, now."""

# How the command line of each role begins after the interpreter; held to it by tests/flow/test_drill.py.
_MODULES = {
    "worker": "stoker.worker",
    "engine": "stoker.engine",
    "gateway": "stoker.gateway",
    "redis": "stoker.queue.server",
}


def candidates(found: Sequence[Process], target: Target, model: str | None) -> list[Process]:
    """Those that the drill may kill, of one model if one is named. Raises InvalidInput, Conflict, saying what is
    there."""
    role = "worker" if target == "spot" else target
    of_role = [process for process in found if process.role == role]
    if not of_role:
        raise InvalidInput(_nobody(role, found), param="target", hint=_who_can(found))
    chosen = [process for process in of_role if model is None or process.model in (None, model)]
    if not chosen:
        models = ", ".join(sorted({str(process.model) for process in of_role}))
        raise InvalidInput(f"no {role} of model {model!r} runs here", param="model", hint=f"there is one of: {models}")
    ready = [process for process in chosen if process.is_ready]
    if not ready:
        states = ", ".join(f"{process.name} is {process.state}" for process in chosen)
        raise Conflict(f"no {role} is ready: {states}", hint="`stoker ps` shows when it is; then try again")
    return ready


def choose(ready: Sequence[Process], random: Random) -> Process:
    return random.choice(sorted(ready, key=lambda process: process.name))


def _nobody(role: str, found: Sequence[Process]) -> str:
    if role == "redis":
        return "this platform's Redis is another's (redis.url), so a drill cannot kill it"
    if role == "engine" and any(process.role == "worker" for process in found):
        return "no engine runs here: the models are on other servers (engine.url), or at zero"
    return f"no {role} runs here: its model may be at zero until a request comes"


def _who_can(found: Sequence[Process]) -> str:
    there = {process.role for process in found if process.is_ready}
    return f"what runs and can be killed: {', '.join(role for role in TARGETS if role in there) or 'nothing'}"


def kill(process: Process, supervisor: int) -> int:
    """SIGKILL, to it alone. Returns the pid. Raises Conflict when that pid is not (any more) the process that the
    supervisor started under this name."""
    pid = process.pid
    if pid is None:
        raise Conflict(f"{process.name} does not run now, so it cannot be killed")
    with _held(pid) as send:
        if not _is_it(process, pid, supervisor):
            raise Conflict(
                f"pid {pid} is not {process.name} (any more), so it was not killed",
                hint="`stoker ps` shows what runs; try again",
            )
        send()
    return pid


class _held:  # noqa: N801 - used like a function
    """The process with a number, which cannot become another's within the block, where the system can promise that
    (Linux)."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._fd: int | None = None

    def __enter__(self) -> Callable[[], None]:
        with contextlib.suppress(AttributeError, OSError):  # macOS has none; ESRCH is found out by looking
            self._fd = os.pidfd_open(self._pid)
        return self._send

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)

    def _send(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself, in the same moment
            if self._fd is None:
                os.kill(self._pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(self._fd, signal.SIGKILL)


def _is_it(process: Process, pid: int, supervisor: int) -> bool:
    """A child of the supervisor that runs that module, for that replica."""
    parent, arguments = _parent_and_arguments(pid)
    module = _MODULES[process.role]
    if parent != supervisor or module not in arguments:
        return False
    if process.role == "worker":
        return process.replica in arguments
    return process.role != "engine" or process.url is None or process.url.rpartition(":")[2] in arguments


def _parent_and_arguments(pid: int) -> tuple[int | None, list[str]]:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        # PID (NAME) STATE PPID ...; a name may hold anything, a parenthesis too
        parent = int(stat.rpartition(")")[2].split()[1])
        return parent, Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (OSError, ValueError, IndexError):
        return _by_ps(pid)


def _by_ps(pid: int) -> tuple[int | None, list[str]]:
    """Where there is no /proc."""
    try:
        said = subprocess.run(  # noqa: S603 - a program of the system, and a number
            ["/bin/ps", "-ww", "-o", "ppid=,args=", "-p", str(pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        return int(said[0]), said[1:]
    except (OSError, ValueError, IndexError, subprocess.CalledProcessError):
        return None, []
