"""`python -m stoker.worker`: what it refuses before it asks anybody."""

import json
import subprocess
import sys
from pathlib import Path


def test_a_key_that_is_not_set_is_refused_at_once(tmp_path: Path) -> None:
    spec = tmp_path / "platform.yaml"
    spec.write_text("llm: {models: {general: {engine: {url: 'http://127.0.0.1:1/v1', apiKeyEnv: NOT_SET_KEY}}}}")
    options = ("--spec", str(spec), "--model", "general", "--replica", "w1", "--engine-url", "http://127.0.0.1:1/v1")
    argv = [sys.executable, "-m", "stoker.worker", *options, "--redis", "redis://127.0.0.1:1"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env={})
    assert ended.returncode == 2
    assert json.loads(ended.stderr)["error"] == (
        "llm.models.general.engine.apiKeyEnv names the environment variable NOT_SET_KEY, which is not set"
    )
