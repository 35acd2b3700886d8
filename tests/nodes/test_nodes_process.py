"""`python -m stoker.nodes` as its pod runs it, against a cluster's stand-in."""

import json
import subprocess
import sys
from pathlib import Path

from nodes_parts import claim, node, pod

from stoker.meter.lives import Lives
from stoker.meter.store import Store
from stoker.testing.kubernetes import api_server


def test_it_looks_once_it_is_ready_and_leaves_when_told(tmp_path: Path) -> None:
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    store = Store(ledger)
    with api_server() as api:
        api.put(
            claim("gpu-1", 0, instance="i-0a", node="ip-1", Launched=20, Registered=50, Initialized=60),
            node("ip-1", 50, "i-0a", ready=60),
            pod("general-a", 0, on="ip-1", bound=61, started=70, ready=100),
        )
        command = [
            *(sys.executable, "-m", "stoker.nodes", "--namespace", "stoker", "--ledger", ledger, "--no-prices"),
            *("--kubeconfig", str(api.kubeconfig(tmp_path / "config")), "--context", "stand-in", "--leash"),
        ]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["ready"] is True
            # It is told to leave while it looks for the first time, and ends that look.
            _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    machines, stays = Lives(store).open()
    store.close()
    assert [each.id for each in machines] == ["i-0a"]
    assert [(each.machine, each.replica) for each in stays] == [("i-0a", "general-a")]
