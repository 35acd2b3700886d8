"""docs/telemetry/metrics.md names each metric of each process with its labels, and no other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.agents.metrics import ServiceMetrics, StepMetrics
from stoker.engine.metrics import EngineMetrics
from stoker.gateway import budget_levels, cold_starts, spending
from stoker.gateway.measures import Measures
from stoker.local.measures import SupervisorMetrics
from stoker.queue import MemoryQueue
from stoker.render.metric_names import METRICS
from stoker.telemetry.metrics import Made, Metrics
from stoker.train.metrics import TrainMetrics
from stoker.worker.metrics import WorkerMetrics

PAGE = Path(__file__).parents[2] / "docs" / "telemetry" / "metrics.md"
FREE = {"tenant", "key", "key_id", "session", "run", "user", "team", "replica", "task", "request"}


def registries() -> dict[str, list[Made]]:
    """What each process makes at its start."""
    made = {
        name: Metrics() for name in ("gateway", "engine", "worker", "agents", "agent-worker", "supervisor", "trainer")
    }
    Measures(made["gateway"])
    spending.Gauges(made["gateway"])
    cold_starts.Gauges(made["gateway"])
    budget_levels.Gauges(made["gateway"])
    EngineMetrics(made["engine"], "m", lambda: (0, 0, 0.0))
    WorkerMetrics(made["worker"], "m")
    ServiceMetrics(made["agents"], MemoryQueue())
    StepMetrics(made["agent-worker"])
    SupervisorMetrics(made["supervisor"])
    TrainMetrics(made["trainer"], nodes=1)
    return {name: metrics.made for name, metrics in made.items()}


def rows(process: str) -> Iterator[list[str]]:
    """Those of the table below the heading of a process."""
    section = PAGE.read_text().partition(f"\n## {process}\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("process", registries())
def test_the_table_of_a_process_is_its_registry(process: str) -> None:
    made = registries()[process]
    expected = [
        [f"`{each.name}`", each.kind, ", ".join(f"`{label}`" for label in each.labels), each.help_text.rstrip(".")]
        for each in made
    ]
    assert [[*row[:3], row[3].rstrip(".")] for row in rows(process)] == expected


def test_no_metric_has_a_label_that_people_choose_freely() -> None:
    assert {label for made in registries().values() for each in made for label in each.labels} & FREE == set()


def test_what_rules_and_dashboards_know_is_in_the_registries() -> None:
    """By who is said to publish it."""
    for process, made in registries().items():
        names = {each.name + ("_bucket" if each.kind == "histogram" else "") for each in made}
        asked = {name for name, by in METRICS.items() if process in by}
        assert asked - names == set()
