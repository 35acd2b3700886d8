"""What is written for a Prometheus and a Grafana beside `stoker up`."""

import json
import sys
from pathlib import Path

import pytest

from stoker.local import prometheus_rules


def test_rules_and_dashboards_lie_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, out = tmp_path / "platform.yaml", tmp_path / "rules.yml"
    spec.write_text("llm: {models: {code: {}}}")
    monkeypatch.setattr(sys, "argv", ["prometheus_rules", str(spec), str(out)])
    prometheus_rules.main()
    boards = {path.name: json.loads(path.read_text())["uid"] for path in tmp_path.glob("dashboard-*")}
    assert boards == {
        f"dashboard-{name}.json": f"stoker-{name}" for name in ("platform", "cost", "scaling", "training")
    }
    alerts = {rule.get("alert") for group in json.loads(out.read_text())["groups"] for rule in group["rules"]}
    assert {"BudgetNearlyUsedUp", "DeadLetters", "ProcessRestarts"} <= alerts
