"""`stoker up` with weights of one's own: it serves them, shows which they are, and refuses them when they changed."""

import json
import subprocess
from pathlib import Path

import pytest
from flow_parts import READY_S, STOKER, Start, begin

from stoker.nn.bundle import default_folder
from stoker.registry.models import Models
from stoker.registry.stores import open_store

pytestmark = [pytest.mark.flow, pytest.mark.redis]


def test_they_are_served_until_somebody_changes_them(start: Start, tmp_path: Path) -> None:
    models = Models(open_store(str(tmp_path / "state" / "models")))
    version = models.publish("mine", default_folder(), {"run": "r"}, now=1.0)
    models.promote(version)
    folder, digest = tmp_path / "state" / "models" / models.place(version), version.digest
    spec = "llm: {models: {tuned: {weights: 'models:mine'}}}\n"
    running = start(spec=spec, state=tmp_path / "state")
    said = subprocess.run(
        [str(STOKER), "chat", "What is 7 times 8?", "--no-stream", "--state", str(running.state)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "56" in said.stdout
    shown = subprocess.run(
        [str(STOKER), "ps", "--json", "--state", str(running.state)], capture_output=True, check=True, timeout=60
    )
    processes = {process["name"]: process for process in json.loads(shown.stdout)["processes"]}
    assert processes["engine-tuned-1"]["weights"] == digest
    assert running.stop() == 0

    projector = folder / "image_projector.safetensors"
    projector.write_bytes(projector.read_bytes()[:-1] + b"\x7f")
    refused = begin(running.state, spec=spec)
    out, _ = refused.communicate(timeout=READY_S)
    assert (refused.returncode, out) == (1, b"")
    err = running.state.with_suffix(".err").read_text()
    assert f"error: the weights in {folder} are not those that were asked for: their digest is" in err
    assert "(image_projector.safetensors changed)" in err
