"""A platform and all that its OpenAPI document allows: the short form of `benchmarks/gateway/schema.py`."""

import subprocess
import sys
from pathlib import Path

import pytest

SCHEMA = Path(__file__).parents[2] / "benchmarks" / "gateway" / "schema.py"

pytestmark = [pytest.mark.flow, pytest.mark.redis]


def test_the_document_is_true() -> None:
    done = subprocess.run(
        [sys.executable, str(SCHEMA), "--short"], capture_output=True, text=True, timeout=400, check=False
    )
    last = (done.stdout.splitlines() or [""])[-1]
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert last == "exit codes of schemathesis: {'user': 0, 'admin': 0}; 0 tracebacks in the gateway's log"
    assert done.stdout.count("No issues found") == 2
