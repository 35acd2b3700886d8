"""A gateway and bytes that nobody should send: the short form of `benchmarks/gateway/fuzz.py`."""

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "benchmarks" / "gateway" / "fuzz.py"

pytestmark = [pytest.mark.flow, pytest.mark.redis]


def test_a_gateway_stands_bytes_that_nobody_should_send() -> None:
    command = [sys.executable, str(FUZZ), "--seed", "7", "--requests", "400"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    first, answers = done.stdout.splitlines() or ("", "")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert first.startswith("seed 7: 400 connections in "), first
    assert first.endswith(" s, 0 findings"), first
    assert " x 200" in answers, answers
