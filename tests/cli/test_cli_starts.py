"""`stoker starts` on the ledger of a platform that does not run."""

import json
from pathlib import Path

import pytest

from stoker.cli.app import run
from stoker.local.state import Credentials, StateDirectory
from stoker.meter.lives import Lives, MachineLife, Phase, StayLife
from stoker.meter.store import Store


@pytest.fixture
def stopped(tmp_path: Path) -> StateDirectory:
    state = StateDirectory(tmp_path / "state")
    state.create()
    state.write_credentials(Credentials("http://127.0.0.1:1", "user-key", "admin-key", 7))
    state.write_spec("")
    store = Store(f"sqlite:///{state.ledger}")
    machine = MachineLife(
        id="i-1",
        pool="gpu",
        capacity="on-demand",
        type="g6.xlarge",
        zone="us-west-2a",
        nano_usd_per_hour=36 * 10**8,
        began_at=20.0,
        usable_at=60.0,
        seen_at=36000.0,
    )
    stay = StayLife(
        id="s",
        machine="i-1",
        workload="model-general",
        model="general",
        replica="general-1",
        share=1.0,
        began_at=60.0,
        ready_at=300.0,
        seen_at=36000.0,
    )
    spans = {"capacity": (0.0, 20.0), "boot": (20.0, 60.0), "image": (60.0, 100.0), "weights": (100.0, 300.0)}
    phases = [Phase(subject="s", phase=name, began_at=of[0], ended_at=of[1]) for name, of in spans.items()]
    Lives(store).write(machines_seen=[machine], stays_seen=[stay], phases_seen=phases)
    store.close()
    return state


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["starts", *arguments]) == 0
    return capsys.readouterr().out


def test_a_table_of_starts_and_what_dominates(stopped: StateDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "--state", str(stopped.path), "--since", "1970-01-01T00:00Z")
    row = out.splitlines()[1]
    assert row.startswith("1970-01-01 ")
    assert row.split()[2:5] == ["general-1", "general", "g6.xlarge"]
    assert row.split()[5:] == ["20.0", "s", "40.0", "s", "40.0", "s", "200", "s", "300", "s", "$0.28"]
    assert [line.rstrip() for line in out.splitlines()[3:]] == [
        "general: 1 started, 1 ready, $0.28",
        "phase     median     p95  dollars",
        "queue      0.0 s   0.0 s    $0.00",
        "capacity  20.0 s  20.0 s    $0.00",
        "boot      40.0 s  40.0 s    $0.04",
        "image     40.0 s  40.0 s    $0.04",
        "weights    200 s   200 s    $0.20",
        "warm-up    0.0 s   0.0 s    $0.00",
        "ready      300 s   300 s    $0.28",
        "weights is 67 % of 1 start; what would help: weights near by: llm.inference.cache.kind s3 (streamed) or fsx, "
        "a smaller or quantized model",
    ]


def test_the_same_as_json(stopped: StateDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--state", str(stopped.path), "--since", "1970-01-01T00:00Z", "--json")
    assert json.loads(said(capsys, *asked))["models"][0]["dominates"] == "weights"
    assert json.loads(said(capsys, *asked, "--model", "code"))["starts"] == []
