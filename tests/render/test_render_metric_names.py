"""Every metric that is asked for is one that somebody publishes."""

import json
import re
from typing import Any

import pytest
from seeing_parts import objects, only, terraform_text

from stoker.agents.metrics import ServiceMetrics, StepMetrics
from stoker.aws.cloudwatch_names import PUT
from stoker.engine.metrics import EngineMetrics
from stoker.gateway import budget_levels, cold_starts, spending
from stoker.gateway.measures import Measures
from stoker.local.board import Board, Child, Role
from stoker.local.measures import SupervisorMetrics
from stoker.meter import UsageRecord
from stoker.meter.rates import Rates
from stoker.queue import Depth, MemoryQueue
from stoker.render import cloudwatch, dashboards, monitoring_rules, scaling
from stoker.render.cloudwatch_alarms import alarms
from stoker.render.cloudwatch_dashboard import body
from stoker.render.components import COMPONENTS
from stoker.render.metric_names import CLOUDWATCH, COUNTERS, METRICS, SOURCES, names_in, published, publishers
from stoker.render.plan import Plan
from stoker.spec import loads
from stoker.telemetry.metrics import Metrics, read
from stoker.train.metrics import TrainMetrics
from stoker.worker.metrics import WorkerMetrics

BOTH = "global: {observability: {cloudwatch: true}}\nkeda: {scalers: {sqs: true, cloudwatch: true}}"
PLANS = [
    Plan(loads(text), mode)
    for mode in ("karpenter", "auto", "hybrid")
    for text in (
        "",
        BOTH,
        "redis: {elasticache: {enabled: true}}",
        "karpenter: {enabled: false}",
        "composition: {canary: true}",
        'global: {cluster: {account: "111122223333"}}\ntraining: {enabled: true}\nagents: {enabled: true}',
    )
]


def expressions(plan: Plan) -> list[str]:
    rules = [rule.expr for _, group in monitoring_rules.groups(plan) for rule in group]
    return rules + shown(plan) + queries(plan)


def shown(plan: Plan, *, is_local: bool = False) -> list[str]:
    """What panels ask for."""
    boards = [json.loads(text) for text in dashboards.texts(plan, is_local=is_local).values()]
    return [target["expr"] for board in boards for panel in board["panels"] for target in panel["targets"]]


def triggers(plan: Plan, kind: str) -> list[dict[str, str]]:
    scaled = only(scaling.render(plan), "ScaledObject")
    found = [trigger for each in scaled for trigger in each["spec"]["triggers"]]
    return [trigger["metadata"] for trigger in found if trigger["type"] == kind]


def queries(plan: Plan) -> list[str]:
    """What ScaledObjects and the canary's analysis ask Prometheus for."""
    analysed = [each for made in COMPONENTS.values() for each in only(made(plan), "AnalysisTemplate")]
    measured = [metric["provider"] for each in analysed for metric in each["spec"]["metrics"]]
    return [
        *(metadata["query"] for metadata in triggers(plan, "prometheus")),
        *(provider["prometheus"]["query"] for provider in measured if "prometheus" in provider),
    ]


@pytest.mark.parametrize("plan", PLANS)
def test_what_rules_panels_and_scalers_ask_for_is_published(plan: Plan) -> None:
    known = published(plan, monitoring_rules.recorded(plan))
    assert {name for expr in expressions(plan) for name in names_in(expr)} - known == set()
    assert len(expressions(plan)) > 60


def test_no_metric_is_in_the_table_for_nothing() -> None:
    asked = {name for plan in PLANS for expr in expressions(plan) for name in names_in(expr)}
    # What only the rules and panels of one machine ask for.
    here = [rule.expr for _, group in monitoring_rules.groups(PLANS[0], is_local=True) for rule in group]
    asked |= {name for expr in [*here, *shown(PLANS[0], is_local=True)] for name in names_in(expr)}
    assert set(METRICS) - asked - set(COUNTERS) == set()


def test_what_the_gateway_is_said_to_publish_is_in_its_registry() -> None:
    metrics = Metrics()
    measures = Measures(metrics)
    times = {"started_at": 0.0, "first_token_at": 1.0, "ended_at": 2.0}
    who = {"id": "1", "kind": "request", "status": "done", "tenant": "t", "key_id": "k", "model": "code"}
    measures.ended(UsageRecord(**who, **times, prompt_tokens=3, completion_tokens=4, nano_usd=5))  # type: ignore[arg-type]
    measures.refused("budget")
    measures.replicas(["code"], {("code", "closed"): 2})
    measures.in_flight(["code"], {"code": 1})
    measures.queued({"code": (Depth(lag=1, pending=2, delayed=3, dead=4), 5)}, {"code": 6.0})
    spending.Gauges(metrics).show(Rates(by_pool={("gpu", "spot"): 10**9}, by_model={"code": 1e9}))
    budget_levels.Gauges(metrics).show({})
    phases = [{"phase": "boot", "median_s": 40.0}]
    cold_starts.Gauges(metrics).show({"models": [{"model": "code", "starts": 1, "phases": phases}]})
    text = metrics.text().decode()
    ours = [name for name, by in METRICS.items() if "gateway" in by]
    assert set(read(text, *ours)) == set(ours)
    # The labels by which rules and dashboards sum.
    assert 'stoker_tokens_total{model="code",type="input"} 3.0' in text
    assert 'stoker_requests_total{model="code",status="done"} 1.0' in text
    assert 'stoker_replicas{breaker="closed",model="code"} 2.0' in text or (
        'stoker_replicas{model="code",breaker="closed"} 2.0' in text
    )
    assert 'stoker_refused_total{code="budget"} 1.0' in text


def test_what_engines_are_said_to_publish_is_in_the_embedded_ones_registry() -> None:
    """Its names are vLLM's."""
    text = EngineMetrics(Metrics(), "code", lambda: (1, 2, 0.5)).text().decode()
    ours = [name for name, by in METRICS.items() if "engine" in by]
    assert set(read(text, *ours)) == set(ours)


SCALED = {
    "models": [{"model": "code", "replicas": 2, "ready": 1}],
    "decisions": [
        {"number": 1, "model": "code", "by_hand": True, "cut_to_machine": False, "hpa": None, "keda": None},
    ],
}


def test_what_workers_the_supervisor_and_the_trainer_are_said_to_publish_is_in_their_registries() -> None:
    worker = WorkerMetrics(Metrics(), "code").metrics.text().decode()
    ours = [name for name, by in METRICS.items() if "worker" in by]
    assert set(read(worker, *ours)) == set(ours) != set()
    supervisor = SupervisorMetrics(Metrics())
    supervisor.board(Board([Child("gateway", Role.GATEWAY)], now=0.0, backoff_s=float))
    supervisor.scale(SCALED)
    trainer = TrainMetrics(Metrics(), nodes=2).metrics.text().decode()
    of_runs = [name for name, by in METRICS.items() if "trainer" in by]
    assert set(read(trainer, *of_runs)) == set(of_runs) != set()
    theirs = [name for name, by in METRICS.items() if "supervisor" in by]
    assert set(read(supervisor.metrics.text().decode(), *theirs)) == set(theirs) != set()


def test_what_processes_of_agents_are_said_to_publish_is_in_their_registries() -> None:
    for process, made in (
        ("agents", ServiceMetrics(Metrics(), MemoryQueue())),
        ("agent-worker", StepMetrics(Metrics())),
    ):
        ours = [name for name, by in METRICS.items() if process in by]
        assert set(read(made.metrics.text().decode(), *ours)) == set(ours) != set()


def test_each_publisher_has_a_source() -> None:
    assert {by for each in METRICS.values() for by in each} <= set(SOURCES)
    assert {namespace for namespace, _ in CLOUDWATCH} <= set(SOURCES)


def test_who_publishes_depends_on_the_platform() -> None:
    usual = {"gateway", "kube-state-metrics", "prometheus", "rules", "engine", "worker", "redis", "keda"}
    assert publishers(PLANS[0]) == usual | {"dcgm", "karpenter"}
    assert publishers(PLANS[1]) == usual | {"dcgm-addon", "karpenter"}
    assert publishers(Plan(loads("redis: {elasticache: {enabled: true}}"), "auto")) == usual - {"redis"} | {"dcgm"}
    assert publishers(Plan(loads("keda: {enabled: false}\nllm: {inference: {gpu: {count: 0}}}"), "karpenter")) == (
        usual - {"keda"} | {"karpenter"}
    )


@pytest.mark.parametrize(
    ("promql", "names"),
    [
        ("up", {"up"}),
        ('sum by (model, le) (rate(a_total{b="c{d}", e=~"f|g"}[5m])) > 1e6', {"a_total"}),
        ("histogram_quantile(0.95, x_bucket) and on (pod) group_left () (vllm:y offset 5m)", {"x_bucket", "vllm:y"}),
        ("stoker:z:max > 0 unless on (node) count by (node) (DCGM_A) or absent(w)", {"stoker:z:max", "DCGM_A", "w"}),
        ('{__name__="hidden"}', set()),
    ],
)
def test_metrics_of_an_expression(promql: str, names: set[str]) -> None:
    assert names_in(promql) == names


CLOUD = [
    Plan(loads(text), mode) for mode in ("karpenter", "auto") for text in (BOTH, BOTH + "\nkarpenter: {enabled: false}")
]


@pytest.mark.parametrize("plan", CLOUD)
def test_what_alarms_and_widgets_ask_cloudwatch_for_is_published_with_those_dimensions(plan: Plan) -> None:
    asked = [(each.namespace, each.metric, tuple(sorted(dict(each.dimensions)))) for each in alarms(plan)]
    asked += [each for widget in body(plan)["widgets"] for each in metrics_of(widget["properties"]["metrics"])]
    assert len(asked) > 8
    assert [each for each in asked if each[2] not in sets_of(each[0], each[1])] == []


@pytest.mark.parametrize("plan", CLOUD)
def test_what_scalers_ask_cloudwatch_for_is_published_with_those_dimensions(plan: Plan) -> None:
    asked = [
        (each["namespace"], each["metricName"], tuple(sorted(each["dimensionName"].split(";"))))
        for each in triggers(plan, "aws-cloudwatch")
        if "metricName" in each
    ]
    assert [each for each in asked if each[2] not in sets_of(each[0], each[1])] == []


def sets_of(namespace: str, metric: str) -> list[tuple[str, ...]]:
    return [tuple(sorted(each)) for each in CLOUDWATCH.get((namespace, metric), ())]


def metrics_of(metrics: list[list[Any]]) -> list[tuple[str, str, tuple[str, ...]]]:
    found = []
    for each in metrics:
        if isinstance(each[0], dict):
            for space, dimensions, metric in re.findall(
                r"\{([^,}]+),([^}]*)\} MetricName=\"(\w+)\"", each[0]["expression"]
            ):
                found.append((space, metric, tuple(sorted(dimensions.split(",")))))
        else:
            names = [word for word in each[2:] if isinstance(word, str)][::2]
            found.append((each[0], each[1], tuple(sorted(names))))
    return found


def test_what_gateways_put_is_in_the_table() -> None:
    """That they put just these, with those dimensions, is in tests/gateway/test_gateway_cloudwatch.py."""
    ours = {key: sets for key, sets in CLOUDWATCH.items() if key[0].startswith("AgenticAI/")}
    assert ours == dict(PUT)


def test_cloudwatch_is_asked_for_nothing_of_dcgms_own_names() -> None:
    text = terraform_text(cloudwatch.render(CLOUD[0]))
    assert "dcgm_" not in text.lower().replace("dcgm_exporter", "")
    assert objects(cloudwatch.render(CLOUD[0])) != []
