"""`stoker cost --bill` of what `stoker simulate --json` wrote: rows sum to the bill, whatever cluster and traffic."""

import json
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import strategies8
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from strategies8 import Case

from stoker.cli import bill_cost, target
from stoker.meter.bill import PARTS
from stoker.meter.sources import OF_SIMULATOR
from stoker.simulate import bill, report
from stoker.simulate.options import Options
from stoker.simulate.result import SERVED, Result
from stoker.simulate.run import UNNAMED, simulate

TENANTS = ("acme", "globex", "silent")
BYS = (
    *OF_SIMULATOR,
    "tenant,model",
    "capacity,tenant",
    "part,capacity,item",
    "nodepool,type,tenant",
)
OWN = {"tenant": "by_tenant", "model": "by_model", "capacity": "by_capacity", "type": "by_node_type"}


@st.composite
def cases(draw: st.DrawFn, folder: Path) -> Case:
    """As `strategies8` has them, with tenants, of whom some send nothing, and requests of several sizes."""
    case = draw(strategies8.cases(folder))
    n, seed = len(case.trace), draw(st.integers(0, 99))
    chance = np.random.default_rng(seed)
    trace = replace(
        case.trace,
        tenants=TENANTS,
        tenant=chance.integers(draw(st.sampled_from([-1, 0])), draw(st.integers(1, 2)), n).astype(np.int32),
        prompt_tokens=(case.trace.prompt_tokens * chance.integers(1, 4, n)).astype(np.int32),
        completion_tokens=(case.trace.completion_tokens * chance.integers(1, 4, n)).astype(np.int32),
    )
    return replace(case, trace=trace, text=f"{case.text}\ntenants by {seed}")


def cost(file: Path, by: str) -> dict[str, Any]:
    """What `stoker cost --bill FILE --by BY --json` prints where no platform is."""
    which = bill_cost.Which(file, "unblended", None, False, None, None, 0.0)
    return bill_cost.report(which, target.Asked(None, None, None), by, 1000)


def some_node_started(result: Result) -> bool:
    """Some node is paid for in a time in which no pod could run on it."""
    spans = [(life, bill.billed(life, result.ended_at_s)) for life in result.nodes]
    return any(ended > began and (life.ready_at is None or life.ready_at > began) for life, (began, ended) in spans)


def check(result: Result, file: Path) -> Counter[str]:
    """What rows there were."""
    said = json.loads(file.read_text())["cost_usd"]
    for by in BYS:
        found = cost(file, by)
        rows = {row["key"]: row for row in found["rows"]}
        assert len(rows) == len(found["rows"])
        assert sum(row["nano_usd"] for row in rows.values()) == found["bill_nano_usd"] == result.costs.total
        shown = sum(Decimal(repr(row["usd"])) for row in rows.values())
        assert shown == Decimal(repr(found["bill_usd"])) == Decimal(repr(said["total"]))
        own = {name: usd for name, usd in said.get(OWN.get(by, ""), {}).items() if usd}
        assert by not in OWN or own == {key: row["usd"] for key, row in rows.items() if row["usd"]}
    names = np.array([*TENANTS, UNNAMED])[result.trace.tenant]
    served = set(names[result.outcomes.state == SERVED].tolist())
    began = set(names[result.outcomes.replica >= 0].tolist())
    tenants = {row["key"]: row["nano_usd"] for row in cost(file, "tenant")["rows"]}
    parts = {row["key"]: row["nano_usd"] for row in cost(file, "part")["rows"]}
    whose = {name for name in tenants if name.strip("()") not in PARTS}
    assert served <= whose <= began
    assert sum(tenants[name] for name in whose) == parts.get("work", 0)
    for part in ("idle", "start-up", "platform"):
        assert tenants.get(f"({part})", 0) == parts.get(part, 0)
    models = {row["key"]: row["nano_usd"] for row in cost(file, "model")["rows"]}
    assert some_node_started(result) == (models.get("(start-up)", 0) > 0)
    return Counter([*parts, *whose, *said["by_capacity"]])


def test_rows_sum_to_the_bill_whatever_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("STOKER_URL", "STOKER_STATE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "report.json"
    seen: Counter[str] = Counter()

    @given(case=cases(tmp_path))
    @settings(
        max_examples=30,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def one(case: Case) -> None:
        result = simulate(case.scenario, case.trace, Options(**case.options))
        file.write_text(json.dumps(report.as_json(result)))
        try:
            seen.update(check(result, file))
        except Exception as error:
            raise AssertionError(case.text) from error

    one()
    expected = {"work", "idle", "start-up", "platform", "spot", "on-demand", "acme", "globex", UNNAMED}
    assert set(seen) == expected, f"rows of all runs: {seen}"
