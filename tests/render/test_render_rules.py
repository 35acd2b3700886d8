"""Alerts and recorded series: which there are, and, by Prometheus' own promtool, what they make of numbers."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from seeing_parts import one

from stoker.render import dashboards, monitoring
from stoker.render.monitoring_rules import Alert, capacities, groups, local
from stoker.render.plan import Plan
from stoker.spec import Mode, loads

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool (Debian package prometheus)")


def plan(text: str = "", mode: Mode = "karpenter") -> Plan:
    return Plan(loads(text), mode)


def alerts(made: Plan) -> dict[str, Alert]:
    return {rule.name: rule for _, group in groups(made) for rule in group if isinstance(rule, Alert)}


def test_each_alert_says_how_bad_it_is_and_what_to_do() -> None:
    found = alerts(plan())
    assert len(found) == sum(isinstance(rule, Alert) for _, group in groups(plan()) for rule in group), (
        "names are unique"
    )
    for alert in found.values():
        assert alert.severity in ("critical", "warning", "info")
        assert alert.summary.endswith(".")
        assert alert.runbook.endswith(".")


def test_what_cannot_be_known_is_not_alerted_on() -> None:
    usual = set(alerts(plan()))
    assert usual - set(alerts(plan(mode="auto"))) == {"SpotInterruptions", "NodePoolNearLimit", "NodesNotCreated"}
    assert usual - set(alerts(plan("redis: {elasticache: {enabled: true}}"))) == {
        "RedisDown",
        "RedisMemory",
        "RedisEvicts",
    }
    assert usual - set(alerts(plan("global: {observability: {cloudwatch: true}}"))) == {
        "GpuBroken",
        "GpuXid",
        "GpuMemoryErrors",
        "GpuThrottled",
        "GpuPowerBrake",
        "GpuSliceIdle",
    }
    assert usual - set(alerts(plan("keda: {enabled: false}"))) == {"ScalerErrors"}


def test_a_model_that_may_be_at_zero_may_have_no_replica() -> None:
    made = plan("llm: {models: {code: {replicas: {min: 0, max: 2}}, chat: {replicas: {min: 1, max: 2}}}}")
    assert alerts(made)["NoReplica"].expr == 'stoker:replicas_up:max{model=~"chat"} == 0'
    assert "NoReplica" not in alerts(plan("llm: {models: {code: {replicas: {min: 0, max: 2}}}}"))


def test_a_queue_is_long_by_what_the_replicas_can_run() -> None:
    text = "llm: {models: {code: {replicas: {min: 1, max: 3}, limits: {concurrency: 7}}, chat: {}}}"
    assert capacities(plan(text + "\nkeda: {maxReplicaCount: 2}")) == {"code": 21, "chat": 16}


def test_prices_of_tokens_are_those_of_the_spec() -> None:
    text = """
    llm:
      models:
        code:
          prices:
            inputUsdPerMillionTokens: 1.50
            cachedInputUsdPerMillionTokens: 0.5
            outputUsdPerMillionTokens: 6
    """
    found = {
        tuple(rule.labels): rule.expr
        for _, group in groups(plan(text))
        for rule in group
        if rule.name == "stoker:price_usd_per_million_tokens" and not isinstance(rule, Alert)
    }
    assert found == {
        (("model", "code"), ("type", "input")): "vector(1.5)",
        (("model", "code"), ("type", "output")): "vector(6)",
    }


def written(made: Plan) -> dict[str, Any]:
    return dict(one(monitoring.render(made), "PrometheusRule", "stoker")["spec"])


def promtool(
    folder: Path, made: Plan, tests: list[dict[str, Any]] | None = None, *, rules: dict[str, Any] | None = None
) -> str:
    """What it says, after checking that it is content. `rules`: others than those of the cluster."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules or written(made)))
    asked = ["promtool", "check", "rules", str(folder / "rules.yaml")]
    if tests is not None:
        cases = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}
        (folder / "tests.yaml").write_text(yaml.safe_dump(cases))
        asked = ["promtool", "test", "rules", str(folder / "tests.yaml")]
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@needs_promtool
@pytest.mark.parametrize("mode", ["karpenter", "auto", "hybrid"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "global: {observability: {cloudwatch: true}}",
        "karpenter: {enabled: false}",
        "llm: {inference: {gpu: {count: 0}}}",
    ],
)
def test_prometheus_can_read_all_of_them(tmp_path: Path, text: str, mode: Mode) -> None:
    assert "SUCCESS" in promtool(tmp_path, plan(text, mode))


@needs_promtool
@pytest.mark.parametrize("is_local", [False, True])
def test_prometheus_can_read_what_panels_ask_for(tmp_path: Path, is_local: bool) -> None:
    made = plan('global: {cluster: {account: "111122223333"}}\ntraining: {enabled: true}\nagents: {enabled: true}')
    boards = [json.loads(text) for text in dashboards.texts(made, is_local=is_local).values()]
    asked = [target["expr"] for board in boards for panel in board["panels"] for target in panel["targets"]]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(asked)]
    assert "SUCCESS" in promtool(tmp_path, made, rules={"groups": [{"name": "panels", "rules": rules}]})


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    inside = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{inside}}}", "values": values}


def firing(alert: str, at: str, *labels: str, by: str = "model") -> dict[str, Any]:
    """At that minute the alert fires for those, and for no others."""
    return {
        "expr": f'count by ({by}) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
        "eval_time": at,
        "exp_samples": [{"labels": f'{{{by}="{each}"}}' if each else "{}", "value": 1} for each in labels],
    }


def is_about(expr: str, at: str, value: float) -> dict[str, Any]:
    """To a thousandth."""
    return {
        "expr": f"round(sum({expr}), 0.001)",
        "eval_time": at,
        "exp_samples": [{"labels": "{}", "value": value}],
    }


GPU = {"node": "n1", "instance_type": "g5.xlarge", "capacity_type": "spot", "zone": "us-west-2a", "gpu": "0"}
IDLE = {**GPU, "node": "n2", "capacity_type": "on-demand"}
NOW = "karpenter_cloudprovider_instance_type_offering_price_estimate"


@needs_promtool
def test_dollars_of_gpus_idle_ones_too_over_tokens(tmp_path: Path) -> None:
    """Two GPUs: code has one on spot, at Karpenter's price of now; nobody has the other, on demand at the catalogue's
    1.006 USD. Two gateways count 1.2 million tokens of input an hour, and 0.3 of output, at 0.10 and 0.40 USD."""
    numbers = [
        series("DCGM_FI_DEV_FB_USED", "20000x130", **GPU, model="code", pod="model-code-1"),
        series("DCGM_FI_DEV_FB_USED", "0x130", **IDLE),
        series(NOW, "0.4x130", instance_type="g5.xlarge", capacity_type="spot", zone="us-west-2a"),
        series("stoker_tokens_total", "0+10000x130", model="code", type="input", pod="a"),
        series("stoker_tokens_total", "0+10000x130", model="code", type="input", pod="b"),
        series("stoker_tokens_total", "0+5000x130", model="code", type="output", pod="a"),
    ]
    looks = [
        is_about('stoker:gpu_usd_per_hour{model="code"}', "2h", 0.4),
        is_about("stoker:gpu_usd_per_hour", "2h", 1.406),
        is_about("stoker:gpu_usd_per_million_tokens", "2h", 0.937),
        is_about('stoker:gpu_usd_per_million_tokens:model{model="code"}', "2h", 0.267),
        is_about('stoker:billed_usd_per_hour{model="code"}', "2h", 0.24),
    ]
    made = plan("global: {cluster: {region: us-east-1}}")
    promtool(tmp_path, made, [{"interval": "1m", "input_series": numbers, "promql_expr_test": looks}])


@needs_promtool
def test_in_auto_mode_each_gpu_is_at_the_price_of_the_catalogue(tmp_path: Path) -> None:
    numbers = [series("DCGM_FI_DEV_FB_USED", "20000x10", **GPU, model="code", pod="model-code-1")]
    looks = [is_about("stoker:gpu_usd_per_hour", "5m", 1.006)]
    made = plan("global: {cluster: {region: us-east-1}}", "auto")
    promtool(tmp_path, made, [{"interval": "1m", "input_series": numbers, "promql_expr_test": looks}])


@needs_promtool
def test_a_queue_that_is_long_or_stuck_and_a_model_without_a_replica(tmp_path: Path) -> None:
    """code may run 16 at once; both gateways tell of the same queue. chat has tasks and nobody to take them."""
    text = "llm: {models: {code: {replicas: {min: 1, max: 2}}, chat: {replicas: {min: 0, max: 2}}, still: {}}}"
    numbers = [
        *(series("stoker_queue_lag", "17x30", model="code", pod=pod) for pod in ("a", "b")),
        *(series("stoker_queue_pending", "16x30", model="code", pod=pod) for pod in ("a", "b")),
        series("stoker_replicas", "2x30", model="code", breaker="closed", pod="a"),
        series("stoker_replicas", "1x30", model="code", breaker="closed", pod="b"),
        series("stoker_queue_lag", "1x30", model="chat", pod="a"),
        series("stoker_queue_pending", "0x30", model="chat", pod="a"),
        series("stoker_replicas", "3x30", model="chat", breaker="open", pod="a"),
        series("stoker_replicas", "0x30", model="chat", breaker="closed", pod="a"),
        series("stoker_queue_lag", "0x30", model="still", pod="a"),
        series("stoker_queue_pending", "0x30", model="still", pod="a"),
        series("stoker_replicas", "0x30", model="still", breaker="closed", pod="a"),
    ]
    looks = [
        is_about('stoker:replicas_up:max{model="code"}', "9m", 2),
        firing("QueueLong", "9m"),
        firing("QueueLong", "11m", "code"),
        firing("QueueStuck", "11m", "chat"),
        firing("NoReplica", "6m", "still"),
        firing("NoReplicaForTasks", "16m", "chat"),
        firing("QueueUnknown", "6m"),
    ]
    promtool(tmp_path, plan(text), [{"interval": "1m", "input_series": numbers, "promql_expr_test": looks}])


@needs_promtool
def test_tasks_that_are_old_tried_again_given_up_or_without_a_worker(tmp_path: Path) -> None:
    """Each alert for code, none for chat; on one machine, where they wait less, also what only runs there."""
    numbers = [
        series("stoker_queue_oldest_seconds", "0+60x40", model="code", pod="a"),
        series("stoker_queue_oldest_seconds", "60x40", model="chat", pod="a"),
        *(series("stoker_worker_claims_total", "0+10x40", model=model, pod="w") for model in ("code", "chat")),
        series("stoker_worker_retries_total", "0+3x40", model="code", pod="w"),
        series("stoker_worker_retries_total", "0+1x40", model="chat", pod="w"),
        series("stoker_worker_in_service", "0x40", model="code", pod="w"),
        *(
            series("stoker_worker_in_service", value, model="chat", pod=pod)
            for value, pod in (("0x40", "w"), ("1x40", "v"))
        ),
        series("stoker_queue_dead", "0x4 1x40", model="code", pod="a"),
        series("stoker_queue_dead", "0x40", model="chat", pod="a"),
        series("stoker_refused_total", "0x5 1x40", code="budget_exhausted", pod="a"),
        series("stoker_refused_total", "0+5x40", code="invalid_value", pod="a"),
        *(series("stoker_budgets", "0x5 2x40", scope="tenant", used="0.95-1", pod=pod) for pod in ("a", "b")),
        series("stoker_budgets", "2x40", scope="key", used="all", pod="a"),
        series("stoker_reserved_tokens", "100x40", pod="a"),
        series("stoker_requests_in_flight", "1x5 0x40", model="code", pod="a"),
    ]
    looks = [
        firing("TaskTooOld", "15m"),
        firing("TaskTooOld", "18m", "code"),
        firing("ManyRetries", "20m", "code"),
        firing("NoWorkerInService", "4m"),
        firing("NoWorkerInService", "6m", "code"),
        firing("DeadLetters", "4m"),
        firing("DeadLetters", "6m", "code"),
        firing("BudgetUsedUp", "4m", by="code"),
        firing("BudgetUsedUp", "8m", "budget_exhausted", by="code"),
        firing("BudgetNearlyUsedUp", "4m", by="scope"),
        firing("BudgetNearlyUsedUp", "6m", "tenant", by="scope"),
        firing("ReservationsStuck", "19m", by="none"),
        firing("ReservationsStuck", "23m", "", by="none"),
    ]
    promtool(tmp_path, plan(), [{"interval": "1m", "input_series": numbers, "promql_expr_test": looks}])
    run = [
        series("stoker_train_checkpoint_age_seconds", "3000+60x40", instance="run"),
        series("stoker_train_goodput_ratio", "0.9x5 0.7x40", instance="run"),
        series("stoker_train_save_failures_total", "0x5 1x40", instance="run"),
        series("stoker_train_save_failures_total", "0x50", instance="other"),
        series("stoker_process_restarts_total", "0x5 1 2 3 4x40", role="engine"),
        series("stoker_process_restarts_total", "0x5 1x40", role="worker"),
    ]
    here = [
        firing("CheckpointOld", "9m", by="instance"),
        firing("CheckpointOld", "12m", "run", by="instance"),
        firing("CheckpointFailed", "4m", by="instance"),
        firing("CheckpointFailed", "8m", "run", by="instance"),
        firing("GoodputLow", "5m", by="instance"),
        firing("GoodputLow", "8m", "run", by="instance"),
        firing("ProcessRestarts", "12m", "engine", by="role"),
        firing("NoWorkerInService", "1m", "code"),
    ]
    tests = [{"interval": "1m", "input_series": [*numbers, *run], "promql_expr_test": here}]
    promtool(tmp_path, plan(), tests, rules=local(plan()))


@needs_promtool
def test_gateways_that_do_not_answer_or_do_not_reach_redis(tmp_path: Path) -> None:
    silent = [series("up", "0x10", job="gateway", pod="a"), series("up", "1x10", job="redis", pod="b")]
    looks = [firing("GatewayDown", "3m", "", by="none"), firing("QueueUnknown", "6m", "", by="none")]
    well = [*silent, series("up", "1x10", job="gateway", pod="c"), series("stoker_queue_lag", "0x10", model="code")]
    tests = [
        {"interval": "1m", "input_series": silent, "promql_expr_test": looks},
        {
            "interval": "1m",
            "input_series": well,
            "promql_expr_test": [firing("GatewayDown", "6m"), firing("QueueUnknown", "6m")],
        },
    ]
    promtool(tmp_path, plan(), tests)


@needs_promtool
def test_errors_and_slow_first_tokens(tmp_path: Path) -> None:
    """One in ten of code fails; cancelled ones and those whose budget was used up are nobody's fault."""
    numbers = [
        series("stoker_requests_total", "0+90x30", model="code", status="done"),
        series("stoker_requests_total", "0+10x30", model="code", status="failed"),
        series("stoker_requests_total", "0+50x30", model="chat", status="done"),
        series("stoker_requests_total", "0+50x30", model="chat", status="cancelled"),
        *(
            series("stoker_time_to_first_token_seconds_bucket", f"0+{count}x30", model=model, le=le)
            for model, counts in {"code": (90, 100, 100), "chat": (100, 100, 100)}.items()
            for le, count in zip(("1.0", "30.0", "+Inf"), counts, strict=True)
        ),
    ]
    looks = [
        is_about('stoker:errors:ratio5m{model="code"}', "10m", 0.1),
        firing("ManyErrors", "16m", "code"),
        firing("SlowFirstToken", "16m", "code"),
    ]
    promtool(tmp_path, plan(), [{"interval": "1m", "input_series": numbers, "promql_expr_test": looks}])


@needs_promtool
def test_a_broken_gpu_is_told_from_a_program_that_failed(tmp_path: Path) -> None:
    """XID 79 is a GPU that fell off the bus; 31 is mostly the program's. vLLM's nine tenths are not full memory."""
    numbers = [
        series("DCGM_FI_DEV_XID_ERRORS", "0x5 79x30", **GPU),
        series("DCGM_FI_DEV_XID_ERRORS", "0x5 31x30", **{**GPU, "node": "n3"}),
        series("DCGM_FI_DEV_FB_USED", "22000x30", **GPU),
        series("DCGM_FI_DEV_FB_FREE", "2000x30", **GPU),
        series("DCGM_FI_DEV_FB_USED", "23900x30", **{**GPU, "node": "n3"}),
        series("DCGM_FI_DEV_FB_FREE", "100x30", **{**GPU, "node": "n3"}),
        series("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "0x5 1x30", **GPU),
    ]
    looks = [
        firing("GpuBroken", "4m", by="node"),
        firing("GpuBroken", "7m", "n1", by="node"),
        firing("GpuXid", "7m", "n1", "n3", by="node"),
        firing("GpuXid", "25m", by="node"),
        firing("GpuMemoryErrors", "7m", "n1", by="node"),
        firing("GpuMemoryFull", "16m", "n3", by="node"),
    ]
    promtool(tmp_path, plan(), [{"interval": "1m", "input_series": numbers, "promql_expr_test": looks}])


@needs_promtool
def test_a_gpu_that_is_paid_for_and_does_nothing(tmp_path: Path) -> None:
    """n1 works, n2 has been idle for two hours, n3 came a quarter of an hour ago."""
    numbers = [
        series("DCGM_FI_DEV_GPU_UTIL", "40x150", **GPU),
        series("DCGM_FI_DEV_GPU_UTIL", "0x150", **IDLE),
        series("DCGM_FI_DEV_GPU_UTIL", "_x135 0x15", **{**GPU, "node": "n3"}),
    ]
    looks = [firing("GpuIdle", "1h50m", by="node"), firing("GpuIdle", "2h5m", "n2", by="node")]
    looks.append(firing("GpuIdle", "2h28m", "n2", by="node"))
    promtool(tmp_path, plan(), [{"interval": "1m", "input_series": numbers, "promql_expr_test": looks}])


@needs_promtool
def test_pods_nodes_and_pools(tmp_path: Path) -> None:
    pod = {"namespace": "agentic-ai", "pod": "p1"}
    other = {"namespace": "agentic-ai", "pod": "cpu-only"}
    hpa = {"namespace": "agentic-ai", "horizontalpodautoscaler": "h"}
    fixed = {"namespace": "agentic-ai", "horizontalpodautoscaler": "always-one"}
    numbers = [
        series("kube_pod_status_phase", "1x30", **pod, phase="Pending"),
        series("kube_pod_container_resource_requests", "1x30", **pod, resource="nvidia_com_gpu"),
        series("kube_pod_status_phase", "1x30", **other, phase="Pending"),
        series("kube_node_status_allocatable", "1x30", node="n1", resource="nvidia_com_gpu"),
        series("kube_node_status_allocatable", "1x30", node="dark", resource="nvidia_com_gpu"),
        series("DCGM_FI_DEV_FB_USED", "1x30", **GPU),
        series("kube_node_status_condition", "1x30", node="n1", condition="AcceleratedHardwareReady", status="false"),
        series("kube_horizontalpodautoscaler_status_desired_replicas", "5x30", **hpa),
        series("kube_horizontalpodautoscaler_spec_max_replicas", "5x30", **hpa),
        series("kube_horizontalpodautoscaler_spec_min_replicas", "1x30", **hpa),
        series("kube_horizontalpodautoscaler_status_desired_replicas", "1x30", **fixed),
        series("kube_horizontalpodautoscaler_spec_max_replicas", "1x30", **fixed),
        series("kube_horizontalpodautoscaler_spec_min_replicas", "1x30", **fixed),
        series("karpenter_interruption_received_messages_total", "0+1x30", message_type="spot_interrupted"),
        series("karpenter_nodepools_usage", "95x30", nodepool="gpu", resource_type="cpu"),
        series("karpenter_nodepools_limit", "100x30", nodepool="gpu", resource_type="cpu"),
        series("karpenter_nodepools_usage", "0x30", nodepool="none", resource_type="cpu"),
        series("karpenter_nodepools_limit", "0x30", nodepool="none", resource_type="cpu"),
        series("redis_up", "0x30", pod="redis-0"),
        series("redis_memory_used_bytes", "90x30", pod="redis-0"),
        series("redis_memory_max_bytes", "100x30", pod="redis-0"),
        series("redis_memory_used_bytes", "90x30", pod="unbound"),
        series("redis_memory_max_bytes", "0x30", pod="unbound"),
    ]
    looks = [
        firing("PodsWaitForGpu", "16m", "p1", by="pod"),
        firing("GpuNodeNotMeasured", "16m", "dark", by="node"),
        firing("GpuNodeUnhealthy", "2m", "n1", by="node"),
        firing("ReplicasAtMaximum", "16m", "h", by="horizontalpodautoscaler"),
        firing("SpotInterruptions", "20m", "", by="none"),
        firing("NodePoolNearLimit", "16m", "gpu", by="nodepool"),
        firing("RedisDown", "2m", "redis-0", by="pod"),
        firing("RedisMemory", "11m", "redis-0", by="pod"),
    ]
    promtool(tmp_path, plan(), [{"interval": "1m", "input_series": numbers, "promql_expr_test": looks}])
