"""Processes of a run, forked from one that has imported torch already: a launch takes a fraction of a second.

Started by `training_parts.Gang` as a process of its own; reads one JSON request a line, answers with one line.
A request: {"run", "state", "world", "signals": [{"rank", "moment", "nth", "signal"}], "fault": word | null, "environ"}.
The answer: {"codes": [...]}; a process that was killed has a code below 0, as subprocess has it. `moment` is a word of
`registry.runs.MOMENTS` or of `train.loop.MOMENTS`; right before its nth one the process gets the signal. Faults:
`FAULTS`.
"""

import errno
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from stoker import spec
from stoker.base import logs
from stoker.base.clock import SystemClock
from stoker.base.errors import StokerError
from stoker.registry.folders import FolderStore
from stoker.registry.runs import RunStore
from stoker.registry.s3 import S3Store
from stoker.train import exits, state
from stoker.train.starting import Process
from stoker.train.world import Gone, World


class Signals:
    """Counts moments, and sends itself what was asked for."""

    def __init__(self, asked: list[dict[str, Any]]) -> None:
        self._asked = asked
        self._seen: Counter[str] = Counter()

    def __call__(self, moment: str) -> None:
        self._seen[moment] += 1
        for each in self._asked:
            if each["moment"] == moment and each["nth"] == self._seen[moment]:
                os.kill(os.getpid(), each["signal"])


class Twin:
    """At the second manifest, another writer claims the run."""

    def __init__(self, state: str) -> None:
        self._state, self._seen = state, 0

    def __call__(self, moment: str) -> None:
        self._seen += moment == "manifest"
        if moment == "manifest" and self._seen == 2:
            RunStore(FolderStore(Path(self._state) / "runs" / "tiny"), "tiny").claim()


def once(error: OSError, function: Any, wanted: Callable[..., bool]) -> Any:
    """The function, but the first call that is wanted fails."""
    left = [1]

    def failing(*arguments: Any, **named: Any) -> Any:
        if left and wanted(*arguments):
            left.pop()
            raise error
        return function(*arguments, **named)

    return failing


def is_of_a_shard(descriptor: int, *_: Any) -> bool:
    return "/checkpoints/" in os.readlink(f"/proc/self/fd/{descriptor}")


def inject(word: str) -> None:
    if word == "no space":
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.write = once(error, os.write, is_of_a_shard)
    elif word == "no fsync":
        os.fsync = once(OSError(errno.EIO, os.strerror(errno.EIO)), os.fsync, is_of_a_shard)
    elif word == "read-only":
        error = OSError(errno.EROFS, os.strerror(errno.EROFS))
        os.open = once(error, os.open, lambda path, *_: "/checkpoints/" in str(path))
    elif word == "no memory":
        state.Staging.__init__ = no_memory
    elif word == "the others are gone":
        World.sum = gone_at_the_third(World.sum)
    elif word == "small parts":
        S3Store.__init__.__kwdefaults__["part_bytes"] = 1024


def gone_at_the_third(function: Any) -> Any:
    """From the third exchange of losses on, which is of float64."""
    seen = [0]

    def failing(world: World, values: torch.Tensor) -> None:
        seen[0] += values.dtype == torch.float64
        if seen[0] > 2:
            raise Gone("another process of the run has gone")
        function(world, values)

    return failing


def no_memory(*_: Any) -> None:
    raise MemoryError


def one(asked: dict[str, Any], rank: int, port: int) -> int:
    """In the child."""
    size = asked["world"]
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **asked.get("environ", {})}
    fault = asked.get("fault")
    mine = [each for each in asked["signals"] if each["rank"] == rank]
    crash = Twin(asked["state"]) if fault == "a twin" else Signals(mine)
    inject(fault)

    def tell(text: str) -> None:
        sys.stderr.write(f"[{rank}] {text}\n")
        sys.stderr.flush()

    try:
        run = spec.load_run(Path(asked["run"]))
        process = Process(
            run,
            Path(asked["run"]),
            Path(asked["state"]),
            environ=os.environ,
            clock=SystemClock(),
            crash=crash,
        )
        code, why = process.go()
        tell(f"{code}: {why}")
    except StokerError as error:
        tell(f"error: {error.message}")
        return exits.ASKED_WRONGLY if error.exit_code == 2 else exits.FAILED
    except BaseException:
        traceback.print_exc()
        return exits.FAILED
    return code


def launch(asked: dict[str, Any]) -> list[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if '"shard"' in Path(asked["run"]).read_text():
        importlib.import_module("stoker.train.sharding")  # seconds of each process
    children = []
    for rank in range(asked["world"]):
        pid = os.fork()
        if pid == 0:
            code = exits.FAILED
            try:
                code = one(asked, rank, port)
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(pid)
    codes: dict[int, int] = {}
    while len(codes) < len(children):
        pid, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        codes[pid] = code
        if code < 0:  # as a launcher does: one that died takes the others along
            for other in children:
                if other not in codes:
                    os.kill(other, signal.SIGKILL)
    return [codes[pid] for pid in children]


def main() -> None:
    logs.configure("train", level="error")
    torch.set_num_threads(1)
    if "AWS_ENDPOINT_URL" in os.environ:
        importlib.import_module("boto3")  # seconds of each launch
    sys.stdout.write(json.dumps({"ready": True}) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps({"codes": launch(json.loads(line))}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
