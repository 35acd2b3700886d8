"""Metrics that Prometheus reads, and that we read of engines."""

import pytest

from stoker.telemetry.metrics import Metrics, read, read_by


def test_what_is_counted_is_exposed_and_read_back() -> None:
    metrics = Metrics()
    requests = metrics.counter("stoker_requests_total", "Requests.", ["model"])
    requests.labels("a").inc(2)
    requests.labels("b").inc(3)
    metrics.gauge("vllm:num_requests_running", "Running.").set(4)
    metrics.histogram("stoker_seconds", "Seconds.", buckets=(1.0, 2.0)).observe(1.5)
    text = metrics.text().decode()

    assert 'stoker_requests_total{model="a"} 2.0' in text
    names = ("stoker_requests_total", "vllm:num_requests_running", "stoker_seconds_count", "not_there")
    assert read(text, *names) == {
        "stoker_requests_total": 5.0,
        "vllm:num_requests_running": 4.0,
        "stoker_seconds_count": 1.0,
    }


def test_two_processes_in_one_do_not_share_their_metrics() -> None:
    first, second = Metrics(), Metrics()
    first.counter("stoker_x_total", "X.").inc()
    second.counter("stoker_x_total", "X.")
    assert read(second.text().decode(), "stoker_x_total") == {"stoker_x_total": 0.0}


@pytest.mark.parametrize("text", ["<html>nothing here</html>", "a b c d\n", 'x{y="z} 1\n', "x\n", "{} {} {}"])
def test_what_is_no_exposition_is_told(text: str) -> None:
    with pytest.raises(ValueError):
        read(text, "x")


def test_samples_are_read_by_one_of_their_labels() -> None:
    metrics = Metrics()
    gauge = metrics.gauge("stoker_running", "Requests.", ["model", "kind"])
    gauge.labels("general", "a").set(2)
    gauge.labels("general", "b").set(3)
    gauge.labels("code", "a").set(0)
    metrics.gauge("stoker_plain", "No label.").set(7)

    assert read_by(metrics.text().decode(), "model", "stoker_running", "stoker_plain", "stoker_none") == {
        "stoker_running": {"general": 5.0, "code": 0.0},
        "stoker_plain": {},
        "stoker_none": {},
    }
