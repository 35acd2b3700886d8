"""One process of the platform: started on a leash in a process group of its own, its lines handed on, its end told.

What a process owes in return is in `base/process.py`. This module knows the contract and no more: not which processes
there are, nor what to do when one ends.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

MOMENTS = ("listening_at", "loaded_at")
"""Of its start, that a process may say with being ready: seconds since the epoch."""
MAX_LINE_BYTES = 64 * 1024  # a longer line is cut into several: a process may not fill the supervisor's memory
_LINGER_S = 1.0  # how long pipes are read after the end of a process that left them open to somebody else
_STDOUT = 1


@dataclass(frozen=True)
class Command:
    """What to run. Secrets (a Redis URL may hold a password) belong into `env`, which `ps` does not show to others."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


class Listener(Protocol):
    """Who is told what happens to a child: first that it runs, last that it ended, always in the loop that started
    it."""

    def on_start(self, process: "Process") -> None: ...

    def on_line(self, name: str, line: bytes) -> None: ...

    def on_ready(self, name: str, url: str | None, moments: Mapping[str, float]) -> None: ...

    def on_exit(self, name: str, returncode: int) -> None:
        """Called once, after the last line, when nothing of its process group is left."""


class Process(asyncio.SubprocessProtocol):
    """A child. Its stdin is a pipe that stays open as long as the supervisor lives: that is the leash."""

    def __init__(self, name: str, listener: Listener) -> None:
        self.name = name
        self._listener = listener
        self._lines = {1: Lines(), 2: Lines()}

    @property
    def pid(self) -> int:
        return self._transport.get_pid()

    def terminate(self) -> None:
        """Ask it to drain and leave. Only the process itself is asked: it looks after what it started."""
        with contextlib.suppress(ProcessLookupError):
            self._transport.terminate()

    def retire(self) -> None:
        """Tell it that nobody needs it any more: it finishes all that it has, and leaves."""
        with contextlib.suppress(ProcessLookupError):
            self._transport.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        """End it and everything that it started, at once."""
        _kill_group(self.pid)

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Told here and not by the caller of `start`, who would learn of a process that ends at once after its end.
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._listener.on_start(self)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        for line in self._lines[fd].feed(data):
            self._handle(fd, line)

    def process_exited(self) -> None:
        # What it started and left behind (a Redis server whose keeper was killed) would hold ports and files that its
        # successor needs. The group's number cannot have come round again: the system hands numbers out in turn.
        _kill_group(self.pid)
        self._lingering = asyncio.get_running_loop().call_later(_LINGER_S, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The process has ended and its pipes are at their end."""
        self._lingering.cancel()
        self._transport.close()
        for fd, lines in self._lines.items():
            for line in lines.rest():
                self._handle(fd, line)
        self._listener.on_exit(self.name, self._transport.get_returncode() or 0)

    def _handle(self, fd: int, line: bytes) -> None:
        said = parse_ready(line) if fd == _STDOUT else None
        if said is None:
            self._listener.on_line(self.name, line)
        else:
            url = said.get("url")
            moments = {key: at for key in MOMENTS if isinstance(at := said.get(key), float)}
            self._listener.on_ready(self.name, url if isinstance(url, str) else None, moments)


async def start(name: str, command: Command, listener: Listener, *, inherit: Sequence[int] = ()) -> None:
    """Start `command`. `inherit` are file descriptors that it holds open as long as it lives. OSError when the system
    refuses."""
    loop = asyncio.get_running_loop()
    await loop.subprocess_exec(
        lambda: Process(name, listener),
        *command.argv,
        env={**os.environ, **command.env},
        process_group=0,  # Ctrl-C in the terminal reaches the supervisor alone, which stops things in order
        pass_fds=tuple(inherit),
    )


class Lines:
    """Bytes that come in pieces, as lines without their ends; empty ones are dropped."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) >= MAX_LINE_BYTES:
            lines.append(rest)
            rest = b""
        self._rest = rest
        return [line for line in lines if line]

    def rest(self) -> list[bytes]:
        """What stands after the last line's end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def parse_ready(line: bytes) -> dict[str, object] | None:
    """The fields of the line by which a process says that it is ready; None for any other line."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) and said.get("ready") is True else None


def describe_exit(returncode: int) -> str:
    """`exit code 3`, `signal SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"


def _kill_group(pid: int) -> None:
    # PermissionError is what macOS says of a group that has only zombies left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
