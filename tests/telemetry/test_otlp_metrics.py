"""The registry of a process as a collector in a process of its own receives it."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.base.errors import InvalidInput, Unavailable
from stoker.telemetry.metrics import Metrics
from stoker.telemetry.otlp_metrics import _Sender, as_otlp, interval_of, sending
from stoker.telemetry.traces import resource_of
from stoker.testing import otlp
from stoker.testing.receiver import Receiver

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The URL of a collector in a process of its own, and the file that it writes."""
    path = tmp_path / "received.jsonl"
    argv = [sys.executable, "-m", "stoker.testing.otlp", str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), path
        process.terminate()


async def test_counters_gauges_and_histograms_reach_a_collector(
    collector: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (url, path), metrics = collector, Metrics()
    metrics.counter("stoker_requests_total", "Requests.", ["model", "status"]).labels("code", "done").inc(3)
    lag = metrics.gauge("stoker_queue_lag", "Tasks that wait.", ["model"])
    first = metrics.histogram("stoker_time_to_first_token_seconds", "First.", ["model"], buckets=(1.0, 2.0))
    for seconds in (0.5, 1.5, 9.0):
        first.labels("code").observe(seconds)
    monkeypatch.setenv(ENDPOINT, url)
    async with sending(metrics, "stoker-story", {ENDPOINT: url}):
        lag.labels("code").set(7)  # sent at the end, whatever the interval
    [line] = otlp.received(path, "metrics")
    [resource] = line["message"]["resourceMetrics"]
    service = {each["key"]: each["value"] for each in resource["resource"]["attributes"]}["service.name"]
    assert service == {"stringValue": "stoker-story"}
    sent: dict[str, Any] = {each["name"]: each for each in resource["scopeMetrics"][0]["metrics"]}
    [requests] = sent["stoker_requests_total"]["sum"]["dataPoints"]
    assert (requests["asDouble"], sent["stoker_requests_total"]["sum"]["isMonotonic"]) == (3.0, True)
    assert attributes(requests) == {"model": "code", "status": "done"}
    assert [each["asDouble"] for each in sent["stoker_queue_lag"]["gauge"]["dataPoints"]] == [7.0]
    [point] = sent["gen_ai.server.time_to_first_token"]["histogram"]["dataPoints"]
    assert (point["count"], point["sum"], point.get("min"), point.get("max")) == ("3", 11.0, None, None)
    assert (point["bucketCounts"], point["explicitBounds"]) == (["1", "1", "1"], [1.0, 2.0])
    assert attributes(point) == {"gen_ai.provider.name": "stoker", "gen_ai.request.model": "code"}
    assert sent["gen_ai.server.time_to_first_token"]["unit"] == "s"


def attributes(point: Any) -> dict[str, str]:
    return {each["key"]: each["value"]["stringValue"] for each in point["attributes"]}


async def test_a_collector_that_is_away_costs_points_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    async with sending(Metrics(), "stoker-story"):
        pass


def test_points_that_wait_for_a_collector_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is all that there is to tell, so the last ones are enough: those of a day would fill the memory."""
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    exporting = _Sender("stoker-story")
    begun, go = threading.Event(), threading.Event()

    def away(_: object) -> None:
        begun.set()
        go.wait(30)
        raise Unavailable("away")

    exporting._background._do = away
    exporting.add(Metrics())
    assert begun.wait(30)
    for _ in range(5):
        exporting.add(Metrics())
    assert (len(exporting._background._waiting), exporting._background.dropped) == (2, 3)
    exporting._background.close(0.0)
    go.set()
    exporting._background.close(30)


async def test_what_is_known_only_when_somebody_asks_is_asked_for_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, asked = Metrics(), asyncio.Semaphore(0)
    lag = metrics.gauge("stoker_queue_lag", "Tasks that wait.")

    async def refresh() -> None:
        lag.inc()
        asked.release()
        if lag._value.get() == 1:
            raise ValueError("nobody thought of it")  # it ends nothing

    async with Receiver() as receiver:
        monkeypatch.setenv(ENDPOINT, receiver.url)
        often = {ENDPOINT: receiver.url, "OTEL_METRIC_EXPORT_INTERVAL": "1"}
        async with sending(metrics, "stoker-story", often, refresh=refresh), asyncio.timeout(20):
            for _ in range(3):
                await asked.acquire()


async def test_a_number_that_cannot_be_told_costs_its_points_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, asked = Metrics(), list[int]()

    def tell() -> float:
        asked.append(1)
        return 1 / (len(asked) - 1)  # not the first time

    metrics.gauge("stoker_story", "What is asked for.").set_function(tell)
    async with Receiver() as receiver:
        monkeypatch.setenv(ENDPOINT, receiver.url)
        sender = _Sender("stoker-story")
        sender.add(metrics)
        sender.add(metrics)
        await asyncio.to_thread(sender.close, 20.0)
        assert len(receiver.got) == 1


async def test_points_that_were_redirected_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver(308) as receiver:
        monkeypatch.setenv(ENDPOINT, receiver.url)
        sender = _Sender("stoker-story")
        points = as_otlp(Metrics().registry.collect(), resource_of("stoker-story"), began_ns=0, now_ns=1)
        with pytest.raises(Unavailable, match="did not take the points: it answered 308"):
            await asyncio.to_thread(sender._send, [points])
        await asyncio.to_thread(sender._send, [points])
        assert [got.path for got in receiver.got] == ["/v1/metrics"] * 2
        sender.close(1.0)


def test_the_environment_says_whether_and_how_often() -> None:
    there = {ENDPOINT: "http://127.0.0.1:4318"}
    assert interval_of({}) is None
    assert interval_of(there) == 60.0
    assert interval_of({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:4318/v1/metrics"}) == 60.0
    assert interval_of({**there, "OTEL_METRIC_EXPORT_INTERVAL": "1500"}) == 1.5
    assert interval_of({**there, "OTEL_METRICS_EXPORTER": "none"}) is None
    assert interval_of({**there, "OTEL_SDK_DISABLED": "true"}) is None
    with pytest.raises(InvalidInput, match="'often'; it is a whole number of milliseconds above 0"):
        interval_of({**there, "OTEL_METRIC_EXPORT_INTERVAL": "often"})
