"""`stoker simulate --json > report.json`, then `stoker cost --bill report.json`: what an hour costs, and whom."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.cli.app import run

SERVER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: chat, namespace: ai}
spec:
  selector: {matchLabels: {app: chat}}
  template:
    metadata: {labels: {app: chat}}
    spec:
      containers:
      - name: engine
        image: vllm/vllm-openai:v0.11.2
        args: [--model, Qwen/Qwen3-8B, --served-model-name, general]
        resources: {requests: {cpu: "2", memory: 10Gi}, limits: {nvidia.com/gpu: 1}}
"""
TRACE = """at_s,prompt_tokens,completion_tokens,tenant
1800,100,50,acme
2400,100,50,globex
3000,100,50,acme
"""
# A node is there 2 s after it was asked for, at 0, and ready 90 s later.
CERTAIN = {"fleet_s": 2, "boot_s": 50, "boot_gpu_more_s": 0, "devices_s": 40}
CERTAIN |= {f"{name}_spread": 0 for name in ("fleet", "boot", "devices")}
PAID_S, STARTING_S = 3598, 90
# A g6.12xlarge in us-east-1 has four GPUs and is $4.6016 an hour; 100 GiB of gp3 are $8 a month of 730 hours.
INSTANCE_NANO, VOLUME_NANO = 4_599_043_556, 10_952_816


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.enable()


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """Of an hour from nothing: a node, a replica on one of its GPUs, three requests of two tenants."""
    monkeypatch.chdir(tmp_path)
    for name in ("STOKER_URL", "STOKER_STATE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "server.yaml").write_text(SERVER)
    (tmp_path / "trace.csv").write_text(TRACE)
    words = ["--trace", "trace.csv", "--hours", "1", "--node-group", "g6.12xlarge,min=1,max=1", "--region", "us-east-1"]
    priors = [word for name, value in CERTAIN.items() for word in ("--prior", f"{name}={value}")]
    assert run(["simulate", "server.yaml", *words, *priors, "--cold", "--json"]) == 0
    (tmp_path / "report.json").write_text(capsys.readouterr().out)
    return tmp_path / "report.json"


def test_an_hour_by_each_key(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def by(keys: str) -> dict[str, int]:
        assert run(["cost", "--bill", str(report), "--by", keys, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert found["bill_nano_usd"] == sum(row["nano_usd"] for row in found["rows"]) == total
        assert found["bill_usd"] == found["total_usd"] == 4.609996
        return {row["key"]: row["nano_usd"] for row in found["rows"]}

    total = INSTANCE_NANO + VOLUME_NANO
    assert by("item") == {"instances": INSTANCE_NANO, "volumes": VOLUME_NANO}
    assert by("capacity,type,zone") == {"on-demand, g6.12xlarge, us-east-1a": total}
    of = by("tenant,model")
    [ready_s] = [each["total_s"] for each in json.loads(report.read_text())["scale_ups"]]
    per_s = total / PAID_S
    idle, work = of.pop("(idle), general"), [of.pop(f"{tenant}, general") for tenant in ("acme", "globex")]
    assert of == {
        "(start-up), (start-up)": round(STARTING_S * per_s),
        "(start-up), general": round((ready_s - 2 - STARTING_S) * per_s / 4),
        "(idle), (idle)": int((PAID_S - STARTING_S) * per_s * 3 / 4),  # instance and volume are rounded by themselves
    }
    assert work[0] == 2 * work[1] > 0  # two requests and one, all alike
    assert sum(work) + idle == pytest.approx((PAID_S + 2 - ready_s) * per_s / 4, abs=2)
    assert by("part") == {
        "work": sum(work),
        "idle": idle + of["(idle), (idle)"],
        "start-up": total - sum(work) - idle - of["(idle), (idle)"],
    }


def test_it_is_shown_and_what_it_does_not_say_is_refused(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", "--bill", str(report), "--by", "capacity"]) == 0
    last = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()][-2:]
    assert last == [["on-demand", "$4.61", "$0.0032", "$4.35", "$0.25"], ["total", "$4.61"]]
    assert run(["cost", "--bill", str(report), "--by", "session"]) == 2
    assert "the simulator's report has no session; it has tenant, model," in capsys.readouterr().err
