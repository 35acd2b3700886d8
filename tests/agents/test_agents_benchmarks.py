"""The benchmarks of agents run, in a short form, and what they count is exact. How fast it was is not looked at."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.redis

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "agents"


def run(script: str, *options: str) -> Any:
    """What it found. Fails when it does: each ends with an error when a count is not what it has to be."""
    argv = [sys.executable, str(BENCHMARKS / script), "--quick", "--json", *options]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_nothing_is_lost_or_done_twice_while_workers_are_killed() -> None:
    """Real processes; `make chaos-agents` is the long form."""
    found = run("chaos.py")
    assert (found["passed"], found["runs"], found["kills"], found["calls"]) == (True, 20, 3, 100)
    assert set(found["verdict"].values()) == {0}
