"""The short form of benchmarks/gateway/cancelled.py: real processes, and clients that leave at random moments."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.flow, pytest.mark.redis]

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gateway" / "cancelled.py"


def test_each_stream_that_is_left_has_one_record_right_to_the_chunk_and_none_goes_on(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--streams", "50", "--early", "10", "--engine", "echo", "--json", str(figures)]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False)
    assert figures.exists(), done.stdout + done.stderr
    said = json.loads(figures.read_text())
    assert (said["streams"], said["records"], said["wrong"]) == (50, 50, [])
    assert said["early_records"] <= 10
    assert said["through_the_queue"] > 0  # more clients than the engine takes
    assert said["stopped_ms"]["count"] > 0
    assert done.returncode == 0
