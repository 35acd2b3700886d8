"""docs/telemetry/metrics.md names each metric of each process with its labels, and no other."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.agents.metrics import ServiceMetrics, StepMetrics
from stoker.engine.metrics import EngineMetrics
from stoker.gateway import budget_levels, cold_starts, spending
from stoker.gateway.measures import Measures
from stoker.local.measures import SupervisorMetrics
from stoker.queue import MemoryQueue
from stoker.render import dashboards, monitoring_rules
from stoker.render.metric_names import COUNTERS, METRICS, names_in
from stoker.render.plan import Plan
from stoker.spec import loads
from stoker.telemetry.metrics import Made, Metrics
from stoker.train.metrics import TrainMetrics
from stoker.worker.metrics import WorkerMetrics

PAGE = Path(__file__).parents[2] / "docs" / "telemetry" / "metrics.md"
PARTS = {"counter": [""], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
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
        names = {each.name + part for each in made for part in PARTS[each.kind]}
        asked = {name for name, by in METRICS.items() if process in by}
        assert asked - names == set()
        assert asked


NOT_SHOWN = {
    # What a gateway says of requests and tokens is the same, whichever engine it is, and has the time on the way.
    **dict.fromkeys(
        (
            "vllm:prompt_tokens_total",
            "vllm:generation_tokens_total",
            "vllm:time_to_first_token_seconds",
            "vllm:request_time_per_output_token_seconds",
            "vllm:e2e_request_latency_seconds",
            "vllm:request_success_total",
        ),
        "the gateway's own",
    ),
    "DCGM_FI_DEV_MEM_COPY_UTIL": "DCGM_FI_PROF_DRAM_ACTIVE is the same, measured better",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": "of MIG instances, for the alert GpuSliceIdle; else GPU_UTIL",
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": "power over time is on the board",
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": "for whoever looks into one run; there is no usual value",
    # Whoever looks at these has been woken by an alert, which is on the board with what it means.
    **dict.fromkeys(
        (
            "DCGM_FI_DEV_MEMORY_TEMP",
            "DCGM_FI_DEV_POWER_MGMT_LIMIT",
            "DCGM_FI_DEV_SM_CLOCK",
            "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
            "DCGM_FI_DEV_POWER_VIOLATION",
            "DCGM_FI_DEV_THERMAL_VIOLATION",
            "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
            "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
            "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
            "DCGM_FI_DEV_ROW_REMAP_FAILURE",
        ),
        "evidence of a warning: `stoker gpus`",
    ),
}
"""Metric -> why no dashboard has it."""


def test_each_metric_is_on_a_dashboard_or_it_is_said_why_not() -> None:
    """Of one machine or of a cluster with all there is, by itself or by what a rule records of it."""
    text = 'global: {cluster: {account: "111122223333"}}\ntraining: {enabled: true}\nagents: {enabled: true}'
    plan, shown, records = Plan(loads(text), "karpenter"), set[str](), dict[str, set[str]]()
    for is_local in (False, True):
        boards = [json.loads(each) for each in dashboards.texts(plan, is_local=is_local).values()]
        asked = [target["expr"] for board in boards for panel in board["panels"] for target in panel["targets"]]
        shown |= {name for expr in asked for name in names_in(expr)}
        for _, rules in monitoring_rules.groups(plan, is_local=is_local):
            for rule in rules:
                if isinstance(rule, monitoring_rules.Record):
                    records.setdefault(rule.name, set()).update(names_in(rule.expr))
    while more := {name for known in shown & set(records) for name in records[known]} - shown:
        shown |= more
    of_ours = {
        each.name: {each.name + part for part in PARTS[each.kind]} for made in registries().values() for each in made
    }
    every = of_ours | {name: {name} for name in COUNTERS}
    assert {name for name, names in every.items() if not names & shown} == set(NOT_SHOWN)
