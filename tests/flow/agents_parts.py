"""A platform with agents whose model follows a script: both are real processes, one of each for all tests of a file."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow_parts import STOKER, Running

Json = dict[str, Any]
WAIT_S = 60


@contextmanager
def scripted(script: Path) -> Iterator[str]:
    """The address of `python -m stoker.testing.scripted`, while it runs."""
    argv = [sys.executable, "-m", "stoker.testing.scripted", str(script), "--port", "0", "--leash"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


@dataclass(frozen=True)
class Client:
    """The API of agents with one key."""

    running: Running
    key: str

    def call(self, method: str, path: str, body: Json | None = None) -> Json:
        """Raises urllib.error.HTTPError."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.running.url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=WAIT_S + 20) as answer:
            said: Json = json.load(answer)
            return said

    def status(self, method: str, path: str, body: Json | None = None) -> int:
        try:
            self.call(method, path, body)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        return 200

    def start(self, agent: str, asked: Any, **more: Any) -> str:
        return str(self.call("POST", f"/v1/agents/{agent}/runs", {"input": asked, **more})["id"])

    def ended(self, run: str) -> Json:
        """As soon as it has ended, or waits for somebody."""
        return self.call("GET", f"/v1/agents/runs/{run}?wait={WAIT_S}")

    def run(self, agent: str, asked: Any, **more: Any) -> Json:
        return self.ended(self.start(agent, asked, **more))

    def events(self, run: str) -> list[Json]:
        page: list[Json] = self.call("GET", f"/v1/agents/runs/{run}/events?format=json&limit=1000")["data"]
        return page

    def types(self, run: str) -> list[str]:
        return [event["type"] for event in self.events(run)]

    @contextmanager
    def stream(self, run: str, after: int | None = None) -> Iterator[Iterator[Json]]:
        """Its events as they come, until the run has ended. Leaving the block cuts the connection."""
        headers = {"Authorization": f"Bearer {self.key}"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        request = urllib.request.Request(f"{self.running.url}/v1/agents/runs/{run}/events", headers=headers)
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            lines = (line.strip() for line in answer)
            data = (line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: "))
            yield (json.loads(each) for each in data if each != b"[DONE]")


def cli(running: Running, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    return subprocess.run(
        [str(STOKER), *arguments, "--state", str(running.state)],
        capture_output=True, text=True, check=False, timeout=WAIT_S + 20, env=environ, cwd=cwd or running.state,
    )  # fmt: skip


def usage_of(running: Running, run: str, model: str = "general") -> Json:
    """What `stoker usage --run` says of its calls of a model: `requests`, tokens, `usd`."""
    done = cli(running, "usage", "--run", run, "--json")
    assert done.returncode == 0, done.stderr
    rows = [row for row in json.loads(done.stdout)["rows"] if row["model"] == model]
    return {name: sum(row[name] for row in rows) for name in ("requests", "prompt_tokens", "completion_tokens")} | {
        "usd": sum(float(row["usd"]) for row in rows)
    }
