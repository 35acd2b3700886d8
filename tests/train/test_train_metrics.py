"""A run's numbers as Prometheus reads them, and as a collector receives them."""

import math
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from training_parts import write_data, write_run

from stoker.base.errors import InvalidInput
from stoker.telemetry.metrics import Metrics, read
from stoker.testing import otlp
from stoker.train.live import Seen
from stoker.train.metrics import WHERE, TrainMetrics, exposition

SEEN = Seen(
    step=3,
    steps=10,
    loss=2.5,
    rate=0.1,
    norm=1.0,
    tokens_per_s=100.0,
    goodput=0.75,
    lost_work_s=12.0,
    checkpoint_age_s=40.0,
    usd=None,
    hours=1.0,
    left_s=5.0,
    at=0.0,
)


def test_they_are_those_of_the_last_step() -> None:
    shown = exposition({WHERE: "127.0.0.1:0"}, run="story", nodes=2)
    assert shown is not None
    shown.step(SEEN)
    with urllib.request.urlopen(f"{shown.url}/metrics", timeout=10) as said:
        text = said.read().decode()
    shown.close("completed")
    names = [
        line.split()[2] for line in text.splitlines() if line.startswith("# TYPE stoker_") and line.endswith("gauge")
    ]
    found = {name: value for name, value in read(text, *names).items() if not name.endswith("_created")}
    for unknown in ("usd", "save_bytes", "restore_seconds"):
        assert math.isnan(found.pop(f"stoker_train_{unknown}"))
    assert found == {
        "stoker_train_step": 3,
        "stoker_train_steps": 10,
        "stoker_train_loss": 2.5,
        "stoker_train_tokens_per_second": 100,
        "stoker_train_goodput_ratio": 0.75,
        "stoker_train_lost_work_seconds": 12,
        "stoker_train_checkpoint_age_seconds": 40,
        "stoker_train_nodes": 2,
    }


def test_it_is_off_unless_a_place_is_said() -> None:
    assert exposition({}, run="story", nodes=1) is None
    with pytest.raises(InvalidInput, match="'9102'; it is HOST:PORT"):
        exposition({WHERE: "9102"}, run="story", nodes=1)


@dataclass(frozen=True)
class Ended:
    """Of a save, as `saving.Saved`."""

    stall_s: float = 0.25
    seconds: float = 4.0
    size_bytes: int = 10
    error: str | None = None


def test_a_save_is_how_long_training_waited_and_how_long_it_took_and_one_that_failed_is_neither() -> None:
    shown: Any = TrainMetrics(Metrics(), nodes=1)
    shown.restored(7.5)
    for each in (Ended(), Ended(stall_s=0.5, seconds=40.0, size_bytes=20), Ended(error="the disk is full")):
        shown.saved(each)
    text = shown.metrics.text().decode()
    assert 'stoker_train_save_seconds_sum{part="wait"} 0.75' in text
    assert 'stoker_train_save_seconds_sum{part="whole"} 44.0' in text
    assert 'stoker_train_save_seconds_bucket{le="10.0",part="whole"} 1.0' in text
    assert 'stoker_train_save_seconds_count{part="wait"} 2.0' in text
    assert read(
        text, "stoker_train_save_bytes", "stoker_train_save_failures_total", "stoker_train_restore_seconds"
    ) == {
        "stoker_train_save_bytes": 20,
        "stoker_train_save_failures_total": 1,
        "stoker_train_restore_seconds": 7.5,
    }


TWICE = """
import os, sys
from pathlib import Path
from stoker import spec
from stoker.base.clock import SystemClock
from stoker.train.starting import Process

file, state = map(Path, sys.argv[1:3])
environ = {"AWS_EC2_METADATA_DISABLED": "true"}
for _ in range(2):
    code, why = Process(spec.load_run(file), file, state, environ=environ, clock=SystemClock()).go()
    assert code == 0, why
"""


@pytest.mark.torch
def test_a_collector_receives_what_a_run_came_to(tmp_path: Path) -> None:
    """Two launches: the first trains and saves, the second goes on from the end."""
    write_data(tmp_path, lines=24)
    run_file = write_run(tmp_path)
    with otlp.Collector(tmp_path / "received.jsonl") as collector:
        environ = {
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_RESOURCE_ATTRIBUTES": "team=search",
        }
        argv = [sys.executable, "-W", "ignore", "-c", TWICE, str(run_file), str(tmp_path / "state")]
        subprocess.run(argv, env=environ, timeout=120, check=True)
    first, second = (line["message"]["resourceMetrics"][0] for line in otlp.received(collector.path, "metrics"))
    about = {each["key"]: each["value"].get("stringValue") for each in first["resource"]["attributes"]}
    assert (about["service.name"], about["stoker.run"], about["team"]) == ("stoker-train", "tiny", "search")
    saved, again = (points(each) for each in (first, second))
    [step], [whole] = saved["stoker_train_step"], saved["stoker_train_save_seconds"][1:]
    assert (step["asDouble"], whole["count"]) == (6.0, "2"), "saved each three steps"
    assert saved["stoker_train_save_bytes"][0]["asDouble"] > 10_000
    assert math.isnan(float(saved["stoker_train_restore_seconds"][0]["asDouble"]))
    assert float(again["stoker_train_restore_seconds"][0]["asDouble"]) > 0


def points(received: Any) -> dict[str, Any]:
    """By the name of a metric; of those with labels, in the order of these."""
    found = {}
    for each in received["scopeMetrics"][0]["metrics"]:
        [data] = (each[kind] for kind in ("gauge", "sum", "histogram") if kind in each)
        found[each["name"]] = sorted(data["dataPoints"], key=lambda point: str(point.get("attributes")))
    return found
