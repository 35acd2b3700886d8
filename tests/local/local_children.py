"""Small real processes that keep the contract of `base/process.py`, or break it in one way."""

import sys
from collections.abc import Mapping

from stoker.local.children import Command

# Says ready, then waits for SIGTERM or for the end of its leash; says on stderr which of the two it was.
GOOD = """
import os, signal, sys, threading
def leave(why):
    os.write(2, ('{"event": "leaving", "level": "info", "why": "%s"}\\n' % why).encode())
    os._exit(0)
signal.signal(signal.SIGTERM, lambda *_: leave("SIGTERM"))
os.write(1, ('{"ready": true, "url": "%s"}\\n' % sys.argv[1]).encode())
while os.read(0, 100): pass
leave("leash")
"""

DEAF = GOOD.replace('lambda *_: leave("SIGTERM")', "signal.SIG_IGN")

DIES = "import sys; sys.stderr.write('there is no such model\\n'); sys.exit(7)"


def python(code: str, *argv: str, env: Mapping[str, str] | None = None) -> Command:
    return Command([sys.executable, "-S", "-c", code, *argv], env or {})
