"""`stoker gpus` and the alerts say the same of the same GPUs: recorded pages of DCGM exporters, as Prometheus would
have them after hours, through promtool; beside it what the rules make of the same looks."""

import json
import math
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from seeing_parts import one

from stoker.policy.gpu_health import RULES, Look, warnings
from stoker.render import monitoring
from stoker.render.metric_names import COUNTERS, names_in
from stoker.render.plan import Plan
from stoker.spec import loads
from stoker.telemetry import dcgm, gpu_exporter

RECORDED = Path(__file__).parents[1] / "telemetry" / "recorded"
MINUTES = 150
NODES = {
    "ip-10-0-1-23.ec2.internal": "g5.12xlarge",
    "ip-10-0-7-91.us-west-2.compute.internal": "p5.48xlarge",
    "ip-10-0-9-4.ec2.internal": "p4d.24xlarge",
}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(name: str) -> Samples:
    """As the PodMonitor's relabelings leave them. The page of version 3.3 has the older name of why clocks are low."""
    found: Samples = {}
    for family in text_string_to_metric_families((RECORDED / f"{name}.prom").read_text()):
        for sample in family.samples:
            labels = dict(sample.labels)
            if "Hostname" in labels:
                labels["node"] = labels["Hostname"]
                labels["instance_type"] = NODES[labels["Hostname"]]
            metric = sample.name.removesuffix("_total").replace("CLOCK_THROTTLE_REASONS", "CLOCKS_EVENT_REASONS")
            if math.isfinite(sample.value):
                found[metric, tuple(labels.items())] = float(sample.value)
    return found


Past = Callable[[int], Samples]
"""What a scrape of a minute gives."""


def changed(base: Samples, gpu: str, **values: float) -> Samples:
    made = dict(base)
    for key in base:
        if key[0].startswith("DCGM") and ("gpu", gpu) in key[1] and key[0].removeprefix("DCGM_FI_DEV_") in values:
            made[key] = values[key[0].removeprefix("DCGM_FI_DEV_")]
    return made


def still(name: str) -> Past:
    page = samples(name)
    return lambda minute: page


def lost() -> Past:
    """A GPU of three works, reports XID 79 from minute 110 on, and is gone from minute 130 on."""
    pages = [samples(f"dcgm-4.8-{each}") for each in ("before", "lost", "vanished")]
    return lambda minute: pages[(minute >= 110) + (minute >= 130)]


def growing(mib_each_minute: float) -> Past:
    """GPU 0 of four has less memory free each minute; 1,910 MiB at the end, but for what comes after."""
    page = samples("dcgm-3.3-hot-idle-failing")
    at_end = 1910.0
    return lambda minute: changed(page, "0", FB_FREE=at_end + mib_each_minute * (MINUTES - minute))


def new_xid() -> Past:
    """GPU 0 reports an XID ten minutes before the end, as the exporter does: with other labels."""
    page = samples("dcgm-3.3-hot-idle-failing")
    after: Samples = {}
    for (name, labels), value in page.items():
        if name == "DCGM_FI_DEV_XID_ERRORS" and ("gpu", "0") in labels:
            told = {**dict(labels), "err_code": "31", "err_msg": "GPU memory page fault"}
            after[name, tuple(told.items())] = 31.0
        else:
            after[name, labels] = value
    return lambda minute: after if minute >= MINUTES - 10 else page


def slowed() -> Past:
    """Time slowed down by heat grows on GPU 3, of which nothing else says that it is hot."""
    page = samples("dcgm-3.3-hot-idle-failing")
    return lambda minute: changed(page, "3", THERMAL_VIOLATION=1000.0 * minute)


Named = dict[str, set[tuple[str, str]]]


def by_command(past: Past) -> Named:
    looks = []
    for minute in range(MINUTES - 60, MINUTES + 1):  # idle is what was idle in the hour that the alert looks at
        found = dcgm.gpus((name, dict(labels), value) for (name, labels), value in past(minute).items())
        looks.append(Look(minute * 60.0, found, frozenset(gpu.node for gpu in found)))
    named: Named = defaultdict(set)
    for each in warnings(looks):
        named[each.rule].add((each.gpu.node, each.gpu.index))
    return named


@cache
def the_rules() -> tuple[str, frozenset[str]]:
    """The rendered group of GPUs, and the metrics that it asks for."""
    rendered = one(monitoring.render(Plan(loads(""), "karpenter")), "PrometheusRule", "stoker")["spec"]
    rules = {"groups": [group for group in rendered["groups"] if group["name"] == "stoker.gpus"]}
    names = [names_in(rule["expr"]) for rule in rules["groups"][0]["rules"]]
    return json.dumps(rules), frozenset().union(*names)


def by_alerts(past: Past, folder: Path, expected: Named) -> None:
    """promtool compares: each rule names those GPUs, and no others."""
    minutes = [past(minute) for minute in range(MINUTES + 1)]
    text, asked_for = the_rules()
    # JSON is YAML, and quicker to write.
    every = {key for minute in minutes for key in minute if key[0] in asked_for}
    series = [_series(name, labels, [minute.get((name, labels)) for minute in minutes]) for name, labels in every]
    series += [
        {"series": f'up{{node="{node}",job="monitoring/dcgm-exporter"}}', "values": f"1x{MINUTES}"} for node in NODES
    ]
    looks = [
        {
            "expr": f'count by (node, gpu) (ALERTS{{alertname="{rule}",alertstate="firing"}}) > bool 0',
            "eval_time": f"{MINUTES}m",
            "exp_samples": [
                {"labels": f'{{node="{node}", gpu="{gpu}"}}', "value": 1}
                for node, gpu in sorted(expected.get(rule, ()))
            ],
        }
        for rule in RULES
    ]
    (folder / "rules.yaml").write_text(text)
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": looks}]
    cases = {"rule_files": ["rules.yaml"], "evaluation_interval": "5m", "tests": tests}
    (folder / "tests.yaml").write_text(json.dumps(cases))
    asked = ["promtool", "test", "rules", str(folder / "tests.yaml")]
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def _series(name: str, labels: tuple[tuple[str, str], ...], values: list[float | None]) -> dict[str, Any]:
    inside = ",".join(f'{key}="{value}"' for key, value in labels)
    # What a target does not say any more is stale at its next scrape.
    texts = ["_" if value is None else f"{value:g}" for value in values]
    for minute in range(1, len(values)):
        if values[minute] is None and values[minute - 1] is not None:
            texts[minute] = "stale"
    return {"series": f"{name}{{{inside}}}", "values": " ".join(texts)}


A10G, H100, A100 = NODES
IDLE_2 = {"GpuIdle": {(A10G, "2")}}
AS_RECORDED: Named = {
    "GpuBroken": {(A10G, "3")},
    "GpuMemoryErrors": {(A10G, "3")},
    "GpuHot": {(A10G, "1")},
    "GpuThrottled": {(A10G, "1")},
    **IDLE_2,
}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool (Debian package prometheus)")
@pytest.mark.parametrize(
    ("past", "named"),
    [
        pytest.param(still("dcgm-3.3-hot-idle-failing"), AS_RECORDED, id="hot, idle and failing"),
        pytest.param(
            lost(),
            {
                "GpuMissing": {(H100, "0")},
                "GpuMemoryErrors": {(H100, "1")},
                "GpuMemoryFull": {(H100, "1")},
                "GpuPowerBrake": {(H100, "1")},
                "GpuIdle": {(H100, "2")},
            },
            id="lost",
        ),
        pytest.param(still("dcgm-4.8-mig"), {"GpuSliceIdle": {(A100, "0")}}, id="an idle MIG instance"),
        pytest.param(growing(100.0), {**AS_RECORDED, "GpuMemoryAhead": {(A10G, "0")}}, id="memory runs out"),
        pytest.param(growing(60.0), AS_RECORDED, id="memory runs out later"),
        pytest.param(new_xid(), {**AS_RECORDED, "GpuXid": {(A10G, "0")}}, id="an XID of a program"),
        pytest.param(
            slowed(), {**AS_RECORDED, "GpuThrottled": {(A10G, "1"), (A10G, "3")}}, id="slowed down without a word"
        ),
    ],
)
def test_the_command_and_the_alerts_name_the_same_gpus(tmp_path: Path, past: Past, named: Named) -> None:
    assert by_command(past) == named
    by_alerts(past, tmp_path, named)


def test_nothing_is_named_of_gpus_that_work() -> None:
    page = samples("dcgm-4.8-before")
    found = dcgm.gpus((name, dict(labels), value) for (name, labels), value in page.items())
    well = [replace(gpu, index="9") for gpu in found if gpu.index == "0"]
    assert warnings([Look(0.0, well, frozenset())]) == []


def test_what_is_read_and_exported_are_counters_of_the_exporter_that_is_rendered() -> None:
    """Under its names and types; `stoker gpus` asks Prometheus for all that it reads."""
    old_name = "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS"
    read = {*dcgm.FIELDS, dcgm.ENGINE}
    assert read - {old_name} <= set(COUNTERS)
    assert all(re.search(rf"\b{name.removeprefix('DCGM_FI_DEV_')}\b", dcgm.QUERY) for name in read)
    assert {name: kind for name, (kind, _, _) in gpu_exporter.METRICS.items()} == {
        name: COUNTERS[name][0] for name in gpu_exporter.METRICS
    }
