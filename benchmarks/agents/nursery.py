"""Agent workers that begin at once: forked from a process that has loaded their code.

    python benchmarks/agents/nursery.py < lines of {"argv": [...], "log": PATH}; prints the pid of each

To load LangGraph takes some two seconds of a core; where a worker is killed each second of two cores, nothing would be
left for its work. Each is a process of its own, and is killed as one. When stdin ends, those that live are.
"""

import contextlib
import json
import os
import signal
import sys
from typing import NoReturn

from stoker.agents import savers, steps, worker  # noqa: F401 - loaded for those to come


def become(argv: list[str], log: str) -> NoReturn:
    """The child: a worker, in a session of its own."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    nothing, said = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for source, target in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(source, target)
    sys.argv = ["stoker.agents.worker", *argv]
    code = 1
    try:
        worker.main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        os._exit(code)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    born: list[int] = []
    print('{"ready": true}', flush=True)
    try:
        while line := sys.stdin.readline():
            said = json.loads(line)
            pid = os.fork()
            if pid == 0:
                become(said["argv"], said["log"])
            born.append(pid)
            print(pid, flush=True)
    finally:
        for pid in born:
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(pid) == pid:  # and not another process that has the number now
                    os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
