"""A real `stoker up`: on a free port, in a directory of its own, ended by its pid, with a look at what is left."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import yaml

STOKER = Path(sys.executable).with_name("stoker")
READY_S = 60.0  # up to 15 s are promised on an idle machine; tests share theirs
STOP_S = 40.0  # 10 s are promised; tests/local/test_board.py holds that in virtual time, benchmarks/up measures it

# One small model: enough where the number of models does not matter, and quicker to start than three.
ONE_MODEL = "llm: {models: {general: {}}}\n"


@dataclass
class Running:
    """A platform that is up."""

    url: str
    key: str
    admin_key: str
    state: Path
    pid: int
    process: subprocess.Popen[bytes]
    groups: set[int] = field(default_factory=set)
    """Process groups of everything that was seen to run, so that what is left can be found."""

    def run_json(self) -> dict[str, object]:
        """What the supervisor says that runs."""
        run: dict[str, object] = json.loads((self.state / "run.json").read_text())
        self.groups |= {process["pid"] for process in run["processes"] if process["pid"]}  # type: ignore[attr-defined]
        return run

    def pid_of(self, name: str) -> int:
        """The pid of a process, such as `engine-general-1`."""
        return next(p["pid"] for p in self.run_json()["processes"] if p["name"] == name)  # type: ignore[attr-defined]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit code. Fails when it takes longer than promised."""
        if self.process.poll() is None:
            self.run_json()
            os.kill(self.pid, number)
        return self.process.wait(STOP_S)

    def left(self) -> list[str]:
        """Processes that `stoker up` started and that still run, Redis itself among them, by pid and command."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getpgid(process.pid) in self.groups and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {' '.join(process.cmdline())}")
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue  # it has left in the meantime
        return found

    def wait_until_nothing_is_left(self, seconds: float = STOP_S) -> None:
        wait_until(lambda: not self.left(), seconds, lambda: f"still there: {self.left()}")


def wait_until(holds: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
    """Return as soon as something holds that no event of ours announces; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(otherwise())
        time.sleep(0.05)


def begin(
    state: Path, *options: str, spec: str | None = None, environ: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `stoker up --json` without waiting for anything. A `spec` without agents runs none: a process less to wait
    for. `environ`: what it has beside ours."""
    state.parent.mkdir(parents=True, exist_ok=True)
    if spec is not None:
        file = state.with_suffix(".yaml")
        file.write_text(yaml.safe_dump({"agents": {"enabled": False}, **yaml.safe_load(spec)}, sort_keys=False))
        options = ("--file", str(file), *options)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    with state.with_suffix(".err").open("ab") as err:
        return subprocess.Popen(
            [str(STOKER), "up", "--json", "--port", "0", "--state", str(state), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=err,
            env={**ours, **(environ or {})},
            cwd=state.parent,  # where there is no platform.yaml
        )


def wait_ready(process: subprocess.Popen[bytes], state: Path) -> Running:
    """The platform, as soon as it says that it is up."""
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], READY_S)
    line = process.stdout.readline() if readable else b""
    if not line:
        pytest.fail(f"stoker up is not ready after {READY_S} s:\n{state.with_suffix('.err').read_text()[-4000:]}")
    said = json.loads(line)
    running = Running(said["url"], said["key"], said["admin_key"], Path(said["state"]), said["pid"], process)
    running.run_json()
    return running


Start = Callable[..., Running]
