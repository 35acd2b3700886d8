"""Processes of a run, forked from one that has imported torch already: a launch takes a fraction of a second.

Started by `training_parts.Gang` as a process of its own; reads one JSON request a line, answers with one line.
A request: {"run", "state", "world", "threads", "kill": {"rank", "moment", "nth"} | null, "environ": {...}}. The answer: {"codes": [...]}; a process
that was killed has a code below 0, as subprocess has it. `moment` is a word of `registry.runs.MOMENTS` or of
`train.loop.MOMENTS`; the process dies by SIGKILL right before its nth one.
"""

import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

import torch

from stoker import spec
from stoker.base.clock import SystemClock
from stoker.base.errors import StokerError
from stoker.train import exits
from stoker.train.starting import Process


class Killer:
    """Counts moments, and dies at the one that was asked for."""

    def __init__(self, kill: dict[str, Any] | None) -> None:
        self._kill, self._seen = kill, 0

    def __call__(self, moment: str) -> None:
        if self._kill is None or moment != self._kill["moment"]:
            return
        self._seen += 1
        if self._seen == self._kill["nth"]:
            os.kill(os.getpid(), signal.SIGKILL)


def one(asked: dict[str, Any], rank: int, port: int) -> int:
    """In the child."""
    size = asked["world"]
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **asked.get("environ", {})}
    kill = asked.get("kill")
    crash = Killer(kill if kill is not None and kill["rank"] == rank else None)

    def tell(text: str) -> None:
        print(f"[{rank}] {text}", file=sys.stderr, flush=True)

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
        return code
    except StokerError as error:
        tell(f"error: {error.message}")
        return exits.ASKED_WRONGLY if error.exit_code == 2 else exits.FAILED
    except BaseException:
        traceback.print_exc()
        return exits.FAILED


def launch(asked: dict[str, Any]) -> list[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
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
    torch.set_num_threads(1)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"codes": launch(json.loads(line))}), flush=True)


if __name__ == "__main__":
    main()
