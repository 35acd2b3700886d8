"""What a process owes its supervisor."""

import json
import signal
import subprocess
import sys

import pytest

SCRIPT = """
import asyncio
from stoker.base import process
async def main():
    stop = process.stop_event(leash=LEASH)
    process.say_ready(url='http://here', pid=1)
    await stop.wait()
asyncio.run(main())
"""


def started(*, leash: bool) -> "subprocess.Popen[str]":
    script = SCRIPT.replace("LEASH", str(leash))
    made = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert made.stdout is not None
    assert json.loads(made.stdout.readline()) == {"ready": True, "url": "http://here", "pid": 1}
    return made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    with started(leash=False) as process:
        process.send_signal(number)
        assert process.wait(timeout=20) == 0


def test_the_end_of_the_supervisor_ends_it() -> None:
    with started(leash=True) as process:
        assert process.stdin is not None
        process.stdin.write("lines are read and mean nothing\n")
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
        process.stdin.close()
        assert process.wait(timeout=20) == 0
