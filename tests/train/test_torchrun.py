"""Processes that torchrun starts are those that our own launcher starts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from training_parts import Gang, come_to, outcome, write_data, write_run

pytestmark = pytest.mark.torch

PATIENCE_S = 120.0
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2")


@contextmanager
def torchrun(run_file: Path, state: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, *TORCHRUN, "-m", "stoker.train", str(run_file), "--state", str(state)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONWARNINGS": "ignore"}
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out, env=environ) as running:
        try:
            yield running
        finally:
            running.kill()


def until_a_step_is_done(record: Path, running: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not (record.exists() and b'"kind":"step"' in record.read_bytes()):
        assert running.poll() is None, "it ended before its first step"
        assert time.monotonic() < deadline
        time.sleep(0.01)  # another process is waited for


def test_told_to_stop_it_saves_and_begun_again_it_comes_to_what_our_launcher_comes_to(tmp_path: Path) -> None:
    write_data(tmp_path)
    run_file = write_run(tmp_path, epochs=10, checkpointing={"everySteps": 100})
    state, log = tmp_path / "by-torchrun", tmp_path / "log"

    with torchrun(run_file, state, log) as running:
        until_a_step_is_done(state / "runs" / "tiny" / "record" / "e0001.jsonl", running)
        running.send_signal(signal.SIGTERM)
        code = running.wait(PATIENCE_S)
    assert code not in (0, 75), log.read_text()  # torchrun's own, whatever its processes end with
    said = come_to(state)
    assert said.state == "preempted"
    assert said.lost_steps == 0

    with torchrun(run_file, state, log) as running:
        assert running.wait(PATIENCE_S) == 0, log.read_text()
    assert come_to(state).state == "completed"
    with Gang(tmp_path / "gang.log") as gang:
        assert gang.launch(run_file, tmp_path / "by-us", world=2) == [0, 0]
    assert outcome(state) == outcome(tmp_path / "by-us")
