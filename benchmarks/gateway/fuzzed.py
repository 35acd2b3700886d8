"""Stoker's gateway as `fuzz.py` starts it: it waits 1 s instead of 60 for bodies and heads, and says on SIGUSR1 what
tasks it has.

    python -P benchmarks/gateway/fuzzed.py FILE ARGUMENTS OF THE GATEWAY...
"""

import asyncio
import json
import signal
import sys
from collections import Counter
from pathlib import Path

from stoker.gateway.__main__ import main
from stoker.web import uploads

WAIT_S = 1.0


def write_tasks(to: Path) -> None:
    """How many tasks there are of each coroutine."""
    names = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())
    new = to.with_suffix(".new")
    new.write_text(json.dumps(names))
    new.replace(to)


class Runner(asyncio.Runner):
    """Knows the signal from the first moment on."""

    def get_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().get_loop()
        loop.add_signal_handler(signal.SIGUSR1, write_tasks, to)
        return loop

    def run(self, coro, *, context=None):  # type: ignore[no-untyped-def]
        self.get_loop()
        return super().run(coro, context=context)


if __name__ == "__main__":
    to = Path(sys.argv.pop(1))
    uploads.WAIT_S = uploads.HEAD_S = WAIT_S
    asyncio.Runner = Runner  # type: ignore[misc]
    main()
