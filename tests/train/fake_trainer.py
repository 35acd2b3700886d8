"""Stands in for `python -m stoker.train`: the same environment, the same exit codes, and nothing learned.

What it does is in PLAN of its environment: a word for each launch, or a list with one for each rank.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

asked = argparse.ArgumentParser()
asked.add_argument("run")
asked.add_argument("--state", required=True, type=Path)
options = asked.parse_args()
rank = int(os.environ["RANK"])


def note(name: str, text: str) -> None:
    part = options.state / f".{name}.{rank}"
    part.write_text(text)
    part.replace(options.state / name)


launch = 1
while (options.state / f"launch-{launch}-{rank}").exists():
    launch += 1
note(f"launch-{launch}-{rank}", json.dumps({**os.environ, "argv": sys.argv[1:], "pid": os.getpid()}))

plan = json.loads(os.environ["PLAN"])
todo = plan[min(launch, len(plan)) - 1]
word = todo if isinstance(todo, str) else todo[rank]


def stopped(number: int, frame: object) -> None:
    sys.stderr.write(f"{signal.Signals(number).name}: saved\n")
    sys.exit(75)


sys.stdout.write(f"launch {launch}\n")
sys.stdout.flush()
if word == "wait":
    signal.signal(signal.SIGTERM, stopped)
elif word in ("ignore", "ignore-late"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
elif word == "learn":
    note("newest", f"checkpoint-{launch}")
    os.kill(os.getpid(), signal.SIGKILL)
elif word == "kill":
    while not (options.state / f"ready-{launch}-{1 - rank}").exists():
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)
elif word == "leash":
    note(f"ready-{launch}-{rank}", "")
    sys.stdin.read()
    note("leash-ended", "")
    sys.exit(75)
elif word == "port":
    sys.exit("RuntimeError: The server socket has failed to listen: EADDRINUSE, address already in use")
elif word != "done":
    sys.stderr.write(f"a trace\nof {word}")
    sys.exit(int(word))
note(f"ready-{launch}-{rank}", "")
while word != "done":
    time.sleep(60)
