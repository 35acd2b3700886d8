"""Stoker's gateway under a profiler that is switched on and off from outside: SIGUSR1 begins, SIGUSR2 ends and writes.

    python -P benchmarks/gateway/profiled.py sample|calls|memory FILE ARGUMENTS OF THE GATEWAY...

`sample` looks at the stack each millisecond of CPU time (or as often as the system's clock lets it), which costs next
to nothing, so the shares are right. `calls` is cProfile: every call is counted, and small functions look dearer than
they are. `memory`: what was allocated in between and is still there, by line.
"""

import cProfile
import gc
import json
import signal
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

from stoker.gateway.__main__ import main

EVERY_S = 0.001


class Samples:
    def __init__(self, to: Path) -> None:
        self._to = to
        self._stacks: Counter[tuple[CodeType, ...]] = Counter()

    def begin(self, *_: object) -> None:
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)

    def end(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        stacks = [[[_name(code) for code in stack], count] for stack, count in self._stacks.items()]
        _write(self._to, json.dumps(stacks))

    def _look(self, _: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            stack.append(frame.f_code)
            frame = frame.f_back
        self._stacks[tuple(stack)] += 1


class Calls:
    def __init__(self, to: Path) -> None:
        self._to = to
        self._profile = cProfile.Profile()

    def begin(self, *_: object) -> None:
        self._profile.enable()

    def end(self, *_: object) -> None:
        self._profile.disable()
        self._profile.create_stats()
        rows = [
            {"name": f"{_short(file)}:{line} {name}", "calls": calls, "self_s": own, "under_s": under}
            for (file, line, name), (_, calls, own, under, _) in self._profile.stats.items()
        ]
        _write(self._to, json.dumps(rows))


class Memory:
    def __init__(self, to: Path) -> None:
        self._to = to

    def begin(self, *_: object) -> None:
        tracemalloc.start(1)

    def end(self, *_: object) -> None:
        gc.collect()
        lines = tracemalloc.take_snapshot().statistics("lineno")
        tracemalloc.stop()
        rows = [
            {"name": f"{_short(each.traceback[0].filename)}:{each.traceback[0].lineno}", "bytes": each.size}
            for each in lines
        ]
        _write(self._to, json.dumps(rows))


def _name(code: CodeType) -> str:
    return f"{_short(code.co_filename)}:{code.co_firstlineno} {code.co_qualname}"


def _short(file: str) -> str:
    for root in ("/site-packages/", "/src/"):
        if root in file:
            return file.rpartition(root)[2]
    _, is_there, rest = file.rpartition("/lib/python")
    return f"python/{rest.partition('/')[2]}" if is_there else file


def _write(to: Path, text: str) -> None:
    """Whoever waits for the file sees it whole."""
    half = to.with_suffix(".half")
    half.write_text(text)
    half.rename(to)


if __name__ == "__main__":
    kind, file, *arguments = sys.argv[1:]
    profiler = {"sample": Samples, "calls": Calls, "memory": Memory}[kind](Path(file))
    signal.signal(signal.SIGUSR1, profiler.begin)
    signal.signal(signal.SIGUSR2, profiler.end)
    sys.argv = ["stoker.gateway", *arguments]
    main()
