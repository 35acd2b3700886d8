"""The processes of a benchmark: started with their output in files, waited for, ended by the id they were given."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Process:
    """A child in a process group of its own, so that what it starts ends with it. `user`: run it as that one."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        logs: Path,
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        as_user: dict[str, Any] = {} if user is None else {"user": user, "group": "nogroup", "extra_groups": []}
        with self.log.open("wb") as output:
            self._popen = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                **as_user,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def check(self) -> None:
        if self._popen.poll() is not None:
            raise SystemExit(f"{self.name} ended with {self._popen.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._popen.poll() is None:
            self._popen.send_signal(how)
            try:
                self._popen.wait(15)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(method: str, url: str, *, key: str | None = None, body: Any = None, timeout_s: float = 30.0) -> Any:
    """A JSON answer. Raises urllib.error.HTTPError for a status that is an error."""
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        return json.loads(answer.read() or b"null")


def wait_for(process: Process, url: str, *, timeout_s: float = 180.0) -> None:
    """Until `url` answers without an error."""
    until = time.monotonic() + timeout_s
    while True:
        process.check()
        try:
            ask("GET", url, timeout_s=10.0)
        except (OSError, ValueError):
            if time.monotonic() > until:
                raise SystemExit(f"{process.name} does not answer at {url}:\n{process.tail()}") from None
            time.sleep(0.1)
        else:
            return


def said_ready(process: Process, *, timeout_s: float = 60.0) -> str:
    """Waits for the line in which a process of Stoker's says that it is ready; the URL in it, where there is one."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        process.check()
        for line in process.log.read_text().splitlines():
            if line.startswith('{"ready": true'):
                return str(json.loads(line).get("url", ""))
        time.sleep(0.05)
    raise SystemExit(f"{process.name} is not ready after {timeout_s:g} s:\n{process.tail()}")


@dataclass
class Place:
    """One process, and the next ones after it was killed."""

    name: str
    kind: str
    argv: list[str]
    logs: Path
    env: Mapping[str, str] = field(default_factory=dict)
    kills: int = 0
    process: Process | None = None
    _starts: int = 0

    def begin(self) -> None:
        self._starts += 1
        self.process = Process(f"{self.name}.{self._starts}", self.argv, self.logs, env=self.env)

    def wait(self) -> str:
        """Until it is ready; its URL, where it says one."""
        assert self.process is not None
        return said_ready(self.process)

    @property
    def is_up(self) -> bool:
        """It has said that it is ready."""
        return self.process is not None and '{"ready": true' in self.process.log.read_text(errors="replace")

    def kill_and_begin(self) -> None:
        assert self.process is not None
        self.process.end(signal.SIGKILL)
        self.kills += 1
        self.begin()

    def end(self) -> None:
        if self.process is not None:
            self.process.end()
