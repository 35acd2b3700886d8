"""KEDA and the HPA within a run: sources that fail, formulas, pauses, and what pods use."""

from typing import Any

import numpy as np
import pytest
from worlds import Object, model, pool, run, said, scaler, scenario, trace

from stoker.simulate.result import Result

BUSY = trace(*np.arange(400) * 0.05, answer=2000)
STRANGE: Object = {"type": "prometheus", "name": "strange", "metadata": {"query": "a_metric_of_mars", "threshold": "1"}}


def scales(result: Result) -> list[tuple[float, str]]:
    return [(at, text) for at, text in said(result, "scale") if "->" in text]


def autoscaler(*, least: int = 1, most: int = 9, metrics: list[Object] | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "general", "namespace": "ai"},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "general"},
            "minReplicas": least,
            "maxReplicas": most,
            **({} if metrics is None else {"metrics": metrics}),
            **spec,
        },
    }


def cpu(share: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": share}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def test_a_source_that_fails_often_enough_puts_the_fallback_in_force() -> None:
    """Polls and syncs both count: at 30 and 15 s, more than three failures are there within a minute and a half."""
    result = run(
        pool(),
        model(replicas=1),
        scaler(trigger=STRANGE, minReplicaCount=1, maxReplicaCount=5, fallback={"failureThreshold": 3, "replicas": 4}),
        requests=trace(0.0),
        cold=True,
        hours=0.5,
    )
    ((at, why),) = scales(result)
    assert 0 < at <= 90
    assert why.startswith("1 -> 4: strange 4 at 1 each: 4")
    assert "strange cannot be read" in [text.partition(": ")[2] for _, text in said(result, "scale")]


def test_from_zero_a_fallback_wakes_what_sources_that_fail_would_leave_asleep() -> None:
    story = [pool(), model(replicas=0)]
    asked: dict[str, Any] = {"requests": trace(0.0), "cold": True, "hours": 0.5}
    spec: dict[str, Any] = {"trigger": STRANGE, "minReplicaCount": 0, "maxReplicaCount": 5}
    woken = run(*story, scaler(**spec, fallback={"failureThreshold": 3, "replicas": 2}), **asked)
    assert scales(woken)[0][1] == "0 -> 1: fallback, since strange cannot be read"
    asleep = run(*story, scaler(**spec), **asked)
    assert scales(asleep) == []
    assert "stays at 0: strange cannot be read" in [text for _, text in said(asleep, "scale")]


@pytest.mark.parametrize(
    ("annotations", "replicas", "there"),
    [({"paused-replicas": "3"}, 1, 3), ({"paused": "true"}, 2, 2), ({"paused-replicas": "0"}, 1, 0)],
)
def test_a_scaler_that_is_paused_holds_its_number_whatever_waits(
    annotations: dict[str, str], replicas: int, there: int
) -> None:
    paused = scaler(minReplicaCount=1, maxReplicaCount=9)
    paused["metadata"]["annotations"] = {f"autoscaling.keda.sh/{key}": value for key, value in annotations.items()}
    result = run(pool(), model(replicas=replicas), paused, requests=BUSY, hours=0.5)
    assert scales(result) == []
    assert set(result.timeline.wanted["general"].tolist()) == {there}


def test_a_formula_stands_for_its_triggers() -> None:
    """Half of what waits, at four each: of 400 at once that is 50 replicas, and not 100."""
    modifiers = {"formula": "waiting / 2", "target": "4", "activationTarget": "1"}
    spec: dict[str, Any] = {"minReplicaCount": 1, "maxReplicaCount": 200}
    plain = run(pool(), model(replicas=1), scaler(**spec), requests=trace(*[30.0] * 408, answer=2000), hours=0.1)
    halved = run(
        pool(),
        model(replicas=1),
        scaler(**spec, advanced={"scalingModifiers": modifiers}),
        requests=trace(*[30.0] * 408, answer=2000),
        hours=0.1,
    )
    assert ": waiting 400 at 4 each: 100" in scales(plain)[0][1]
    assert ": composite-metric 200 at 4 each: 50" in scales(halved)[0][1]


def test_an_hpa_alone_goes_by_what_each_pod_uses_of_its_cpu() -> None:
    """An engine that computes uses one core of the two that its pod requests: 50 % at a target of 20 makes three of
    one. The two that come up count as if they used nothing, so that nothing more is asked for until they are ready."""
    result = run(pool(), model(replicas=1), autoscaler(metrics=[cpu(20)]), requests=BUSY, hours=0.5, timeout_s=3600)
    first, *later = scales(result)
    assert first[1].startswith("1 -> 3: cpu 4")  # busy for most of the fifteen seconds
    ready = max(each.ready_at or 0.0 for each in result.replicas[:3])
    assert all(at > ready for at, _ in later)
    assert any(text == "stays at 3: cpu 50 is near enough to 20 each: 3" for _, text in said(result, "scale"))


def test_an_hpa_without_metrics_holds_its_pods_below_four_fifths_of_what_they_request() -> None:
    result = run(pool(), model(replicas=1), autoscaler(), requests=BUSY, hours=0.5, timeout_s=3600)
    assert scales(result) == []  # 50 % at most
    assert any(text.startswith("stays at 1: cpu 50 at 80 each: 1") for _, text in said(result, "scale"))


def test_a_trigger_of_keda_on_cpu_is_measured_pod_by_pod_too() -> None:
    of_cpu: Object = {"type": "cpu", "name": "cpu", "metricType": "Utilization", "metadata": {"value": "20"}}
    result = run(
        pool(),
        model(replicas=1),
        scaler(trigger=of_cpu, minReplicaCount=1, maxReplicaCount=9),
        requests=BUSY,
        hours=0.3,
        timeout_s=3600,
    )
    assert scales(result)[0][1].endswith(" at 20 each: 3")


def test_a_scaled_job_is_passed_over_and_said() -> None:
    job: Object = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledJob",
        "metadata": {"name": "batch", "namespace": "ai"},
        "spec": {"jobTargetRef": {"template": {"spec": {"containers": []}}}, "triggers": [STRANGE]},
    }
    assert any("it makes Jobs, and these serve nobody" in each for each in scenario(pool(), model(), job).notes)


def test_while_a_queue_grows_at_the_maximum_a_line_a_minute_is_enough() -> None:
    result = run(
        pool(),
        model(replicas=1),
        scaler(minReplicaCount=1, maxReplicaCount=1),
        requests=trace(*np.arange(1200) * 0.5, answer=500),
        hours=0.2,
        timeout_s=3600,
    )
    lines = said(result, "scale")
    assert 5 < len(lines) < 20  # of some 48 syncs
    assert all("at most 1" in text for _, text in lines[2:-2])
