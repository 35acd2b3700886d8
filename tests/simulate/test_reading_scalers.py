"""Triggers, metrics and queries as signals; ScaledObjects and HPAs as scalers."""

from fractions import Fraction
from typing import Any

import pytest

from stoker.manifests.objects import Document, Manifest
from stoker.policy import hpa
from stoker.policy.hpa import Autoscaler, Behavior, Policy, Rules
from stoker.policy.keda import Fallback
from stoker.simulate.reading_notes import Notes
from stoker.simulate.reading_queries import Query, of_metric, of_promql
from stoker.simulate.reading_scalers import Key, Target, behavior_of, queued, read_scalers
from stoker.simulate.reading_triggers import Around, Read, activation_of, metric, trigger
from stoker.simulate.scenario import Scaler, Signal

AROUND = Around("chat", ("chat", "code"), cpu_milli=4000)
CHAT: Key = ("Deployment", "ai", "chat")
TARGETS = {CHAT: Target("Deployment ai/chat", "chat", 3, 4000)}


def read(kind: str, around: Around = AROUND, **data: str) -> Read:
    return trigger({"type": kind, "metadata": data}, 0, around)


# --- queries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sum(vllm:num_requests_waiting)", Query("engine_waiting")),
        ('sum(vllm:num_requests_waiting{model_name="chat"})', Query("engine_waiting", model="chat")),
        ("avg(vllm:num_requests_running)", Query("running", across="mean")),
        ("max(vllm:num_requests_running) by (pod)", Query("running", across="mean", is_per_pod=True)),
        ("sum by (model) (vllm:num_requests_running)", Query("running")),
        ("sum(vllm:num_requests_running) + sum(vllm:num_requests_waiting)", Query("in_flight")),
        ("sum(vllm:num_requests_running + vllm:num_requests_waiting)", Query("in_flight")),
        (
            'sum(stoker_requests_in_flight{model="code"}) + max(stoker_queue_pending{model="code"})',
            Query("in_flight", model="code"),
        ),
        ("max(stoker_queue_lag) + max(stoker_queue_pending)", Query("length")),
        ("avg(vllm:gpu_cache_usage_perc)", Query("kv_usage")),
        ("avg(vllm:kv_cache_usage_perc) * 100", Query("kv_usage", factor=Fraction(100))),
        ("avg(DCGM_FI_DEV_GPU_UTIL)", Query("gpu_utilization")),
        ("sum(DCGM_FI_DEV_GPU_UTIL) / 100", Query("gpu_utilization", "sum", factor=Fraction(1, 100))),
        ("avg(DCGM_FI_PROF_GR_ENGINE_ACTIVE)", Query("gpu_utilization", factor=Fraction(1, 100))),
        ("sum(rate(vllm:request_success_total[2m]))", Query("requests_per_s", window_s=120.0)),
        ("sum(increase(http_requests_total[1m]))", Query("requests_per_s", window_s=60.0, factor=Fraction(60))),
        ("sum(rate(vllm:generation_tokens_total[1m30s]))", Query("tokens_per_s", window_s=90.0)),
        ("avg_over_time(vllm:num_requests_waiting[5m])", Query("engine_waiting", window_s=300.0, is_per_pod=True)),
        ("max_over_time(vllm:num_requests_waiting[5m])", Query("engine_waiting", is_per_pod=True)),
        ("vllm:num_requests_waiting", Query("engine_waiting", is_per_pod=True)),
        ('vllm:num_requests_waiting{pod="chat-0"}', Query("engine_waiting")),
        ("vllm:num_requests_waiting or vector(0)", Query("engine_waiting", is_per_pod=True)),
        ("sum(vllm:num_requests_running) by (instance)", Query("running", is_per_pod=True)),
        ("sum without (pod) (vllm:num_requests_running)", Query("running", is_per_pod=True)),
        ("sum without (pod, instance) (vllm:num_requests_running)", Query("running")),
        ("max(sum by (pod) (vllm:num_requests_running))", Query("running", across="mean")),
        ("avg(avg_over_time(vllm:num_requests_running[1m]))", Query("running", "mean", window_s=60.0)),
        ("stoker_queue_lag", Query("waiting")),  # one number, whoever tells it
        ("sum(vllm:num_requests_waiting) / count(vllm:num_requests_waiting)", Query("engine_waiting", "mean")),
        ("(sum(vllm:num_requests_waiting) or vector(0))", Query("engine_waiting")),
        ("ceil(sum(tgi_queue_size))", Query("engine_waiting")),
        ("sum(redis_stream_length)", Query("length")),
        # What is not computed here.
        ("histogram_quantile(0.95, sum(rate(vllm:time_to_first_token_seconds_bucket[5m])) by (le))", None),
        ("sum(vllm:request_success_total)", None),  # of all time
        ("rate(vllm:num_requests_waiting[1m])", None),
        ("sum(vllm:num_requests_waiting) - 3", None),
        ("sum(vllm:num_requests_waiting) / sum(vllm:num_requests_running)", None),
        ("sum(my_own_metric)", None),
        ("vllm:num_requests_waiting > 5", None),
        ("", None),
    ],
)
def test_what_a_query_reads(text: str, expected: Query | None) -> None:
    assert of_promql(text) == expected


@pytest.mark.parametrize(
    "name", ["vllm:num_requests_waiting", "vllm_num_requests_waiting", "vllm.num_requests_waiting"]
)
def test_adapters_rename_metrics(name: str) -> None:
    assert of_metric(name) == Query("engine_waiting")
    assert of_metric("http_requests_per_second") == Query("requests_per_s")
    assert of_metric("p95_latency") is None


# --- triggers ---------------------------------------------------------------------------------------------------------

STREAM = {"stream": "tasks", "consumerGroup": "workers"}


@pytest.mark.parametrize(
    ("kind", "data", "signal", "target", "activation"),
    [
        ("redis-streams", {**STREAM, "lagCount": "8", "activationLagCount": "2"}, "waiting", 8000, 2000),
        ("redis-streams", {**STREAM, "lagCount": "8", "pendingEntriesCount": "3"}, "waiting", 8000, 0),
        ("redis-streams", {**STREAM, "lagCount": "0", "pendingEntriesCount": "3"}, "pending", 3000, 0),
        ("redis-streams", STREAM, "pending", 5000, 0),
        ("redis-streams", {"stream": "tasks", "lagCount": "8"}, "length", 5000, 0),
        ("redis-cluster-streams", {**STREAM, "lagCount": "8"}, "waiting", 8000, 0),
        ("redis", {"listName": "tasks"}, "waiting", 5000, 0),
        ("redis", {"listName": "tasks", "listLength": "7", "activationListLength": "1"}, "waiting", 7000, 1000),
        ("aws-sqs-queue", {"queueURL": "q"}, "length", 5000, 0),
        ("aws-sqs-queue", {"queueURL": "q", "scaleOnInFlight": "false", "queueLength": "4"}, "waiting", 4000, 0),
        ("kafka", {"topic": "t"}, "length", 10000, 0),
        ("rabbitmq", {"queueName": "q", "value": "6", "host": "amqp://h"}, "waiting", 6000, 0),
        ("rabbitmq", {"queueName": "q", "value": "6", "host": "http://h"}, "length", 6000, 0),
        ("rabbitmq", {"queueName": "q", "value": "6", "protocol": "http", "excludeUnacknowledged": "true"},
         "waiting", 6000, 0),
        ("rabbitmq", {"queueName": "q", "value": "6", "mode": "MessageRate"}, "requests_per_s", 6000, 0),
        ("prometheus", {"query": "sum(vllm:num_requests_waiting)", "threshold": "2.5", "activationThreshold": "0.5"},
         "engine_waiting", 2500, 500),
    ],
)  # fmt: skip
def test_what_a_trigger_reads(kind: str, data: dict[str, str], signal: str, target: int, activation: int) -> None:
    found = read(kind, **data)
    assert (found.signal.kind, found.target, found.activation, found.type) == (
        signal,
        target,
        activation,
        "AverageValue",
    )


def test_cloudwatch_is_as_old_as_its_period() -> None:
    dimensions = {"dimensionName": "ClusterName;model", "dimensionValue": "everything;code"}
    data = {"metricName": "stoker_queue_lag", "targetMetricValue": "8", **dimensions}
    found = read("aws-cloudwatch", **data, metricStatPeriod="60", metricStat="Maximum")
    assert (found.signal.kind, found.signal.delay_s, found.signal.window_s) == ("waiting", 60.0, 0.0)
    assert (found.signal.model, found.target) == ("code", 8000)
    usual = read("aws-cloudwatch", **data).signal
    assert (usual.delay_s, usual.window_s) == (300.0, 300.0)  # five minutes, and their mean
    counted = {"metricName": "http_requests", "metricStat": "Sum", "metricStatPeriod": "60", "targetMetricValue": "1"}
    requests = read("aws-cloudwatch", **counted).signal
    assert (requests.kind, requests.window_s, requests.factor) == ("requests_per_s", 60.0, 60)


def test_what_nobody_publishes_reads_as_the_least_in_cloudwatch() -> None:
    data = {"metricName": "Latency", "targetMetricValue": "2000", "minMetricValue": "500"}
    found = read("aws-cloudwatch", **data)
    assert (found.signal.kind, found.signal.otherwise, found.target) == ("unknown", 500_000, 2_000_000)
    assert read("aws-cloudwatch", **data, ignoreNullValues="false").signal.otherwise is None
    assert read("aws-cloudwatch", expression="SELECT 1", targetMetricValue="1").signal.kind == "unknown"


def test_a_query_of_another_model_reads_that_one() -> None:
    query = 'sum(vllm:num_requests_waiting{model_name="%s"})'
    assert read("prometheus", query=query % "code", threshold="1").signal.model == "code"
    assert read("prometheus", query=query % "chat", threshold="1").signal.model == ""
    nobody = read("prometheus", query=query % "gpt", threshold="1")
    assert (nobody.signal.kind, nobody.signal.otherwise) == ("unknown", 0)  # an empty result is 0
    assert "the model gpt, which nothing here serves" in nobody.why
    strict = read("prometheus", query=query % "gpt", threshold="1", ignoreNullValues="false")
    assert strict.signal.otherwise is None
    assert read("redis-streams", stream="stoker:tasks:code", consumerGroup="w", lagCount="1").signal.model == "code"


def test_cron() -> None:
    office = {"start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "desiredReplicas": "5"}
    found = read("cron", timezone="Europe/Berlin", **office)
    assert found.signal.cron == ("0 8 * * 1-5", "0 18 * * 1-5", "Europe/Berlin", 5)
    assert (found.signal.kind, found.target, found.activation) == ("time", 1000, 0)
    assert read("cron", timezone="Mars/Crater", **office).why == "Mars/Crater is no time zone that is known here"
    assert "is no schedule" in read("cron", timezone="UTC", start="0 8", end="0 9 * * *", desiredReplicas="1").why


def test_cpu_is_taken_as_one_core_while_the_engine_computes() -> None:
    share = trigger({"type": "cpu", "metricType": "Utilization", "metadata": {"value": "20"}}, 0, AROUND)
    assert (share.signal.kind, share.signal.factor, share.target) == ("cpu_utilization", Fraction(1, 4), 20_000)
    cores = trigger({"type": "cpu", "metricType": "AverageValue", "metadata": {"value": "500m"}}, 0, AROUND)
    assert (cores.signal.factor, cores.target, cores.type) == (Fraction(1, 100), 500, "Value")
    assert read("memory", value="50").signal.kind == "unknown"


def test_cpu_alone_is_always_active_and_never_beside_others() -> None:
    share = trigger({"type": "cpu", "metricType": "Utilization", "metadata": {"value": "20"}}, 0, AROUND)
    assert activation_of(share, is_alone=True) < 0
    assert activation_of(share, is_alone=False) > 10**12
    assert activation_of(read("redis", listName="l", activationListLength="3"), is_alone=True) == 3000


def test_what_is_cached_is_as_old_as_a_poll() -> None:
    tree = {"type": "redis", "useCachedMetrics": True, "metadata": {"listName": "l"}}
    assert trigger(tree, 0, Around("chat", ("chat",), polling_s=20.0)).signal.delay_s == 20.0


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("datadog", {}, "triggers of the type datadog are not read here"),
        ("prometheus", {"query": "sum(own)", "threshold": "1"}, "the query `sum(own)` is not one that can be computed"),
        ("redis", {"listName": "l", "listLength": "0"}, "its target is not above 0"),
        ("redis", {"listName": "l", "listLength": "-3"}, "its target is not above 0"),
    ],
)
def test_what_cannot_be_computed_says_why(kind: str, data: dict[str, str], said: str) -> None:
    found = read(kind, **data)
    assert (found.signal.kind, found.signal.otherwise) == ("unknown", None)
    assert said in found.why


# --- ScaledObjects ----------------------------------------------------------------------------------------------------


def manifest(kind: str, spec: dict[str, Any], name: str = "chat", **annotations: str) -> Manifest:
    data = {
        "kind": kind,
        "metadata": {"name": name, "namespace": "ai", "annotations": annotations},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "chat"}, **spec},
    }
    return Manifest(data, Document("a.yaml", 0, data))


LAG = {"type": "redis-streams", "name": "waiting", "metadata": {**STREAM, "lagCount": "8"}}
UNKNOWN = {"type": "datadog", "name": "own", "metadata": {}}


def scalers(*manifests: Manifest) -> tuple[tuple[Scaler, ...], tuple[str, ...]]:
    notes = Notes()
    return read_scalers(manifests, TARGETS, notes)[0], notes.lines()


def scaled(*triggers: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> Scaler:
    (found,), _ = scalers(manifest("ScaledObject", {"triggers": list(triggers), **spec}, **(annotations or {})))
    return found


def test_all_fields_of_a_scaled_object() -> None:
    found = scaled(
        LAG,
        minReplicaCount=2,
        maxReplicaCount=9,
        idleReplicaCount=0,
        pollingInterval=10,
        cooldownPeriod=60,
        initialCooldownPeriod=120,
        fallback={"failureThreshold": 3, "replicas": 4, "behavior": "currentReplicasIfHigher"},
    )
    assert (found.name, found.target) == ("ScaledObject ai/chat", "Deployment ai/chat")
    one = found.scaled
    assert one is not None
    assert (one.minimum, one.maximum, one.idle) == (2, 9, 0)
    assert (one.polling_s, one.cooldown_s, one.initial_cooldown_s) == (10.0, 60.0, 120.0)
    assert one.fallback == Fallback(3, 4, "currentReplicasIfHigher")
    assert one.behavior is None  # the older algorithm


def test_defaults_of_a_scaled_object() -> None:
    one = scaled(LAG).scaled
    assert one is not None
    assert (one.minimum, one.maximum, one.idle, one.polling_s, one.cooldown_s) == (0, 100, None, 30.0, 300.0)


def test_a_behavior_that_is_written_has_defaults_for_what_it_leaves_out() -> None:
    assert behavior_of(None) is None
    assert behavior_of({}) == Behavior()
    down = {"policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}], "tolerance": "0.05"}
    found = behavior_of({"scaleDown": down})
    assert found == Behavior(hpa.UP, Rules(300.0, (Policy("Percent", 10, 60.0),), "Max", Fraction(1, 20)))
    up = behavior_of({"scaleUp": {"stabilizationWindowSeconds": 30, "selectPolicy": "Disabled"}})
    assert up == Behavior(Rules(30.0, hpa.UP.policies, "Disabled"), hpa.DOWN)


@pytest.mark.parametrize(
    ("annotation", "value", "paused_at"),
    [("paused-replicas", "7", 7), ("paused", "true", 3), ("paused", "false", None)],
)
def test_a_paused_one_stays_where_it_is(annotation: str, value: str, paused_at: int | None) -> None:
    assert scaled(LAG, annotations={f"autoscaling.keda.sh/{annotation}": value}).paused_at == paused_at


def test_one_direction_can_be_paused() -> None:
    into = scaled(LAG, annotations={"autoscaling.keda.sh/paused-scale-in": "true"}).scaled
    out = scaled(LAG, annotations={"autoscaling.keda.sh/paused-scale-out": "true"}).scaled
    assert into is not None
    assert out is not None
    assert into.behavior is not None
    assert out.behavior is not None
    assert (into.behavior.down.select, into.behavior.up.select, into.minimum) == ("Disabled", "Max", 1)
    assert (out.behavior.down.select, out.behavior.up.select, out.minimum) == ("Max", "Disabled", 0)


def test_a_trigger_that_cannot_be_computed_is_left_out_and_named() -> None:
    (found,), notes = scalers(manifest("ScaledObject", {"triggers": [LAG, UNKNOWN]}))
    assert found.signals["own"].kind == "unknown"
    assert found.scaled is not None
    assert [each.name for each in found.scaled.triggers] == ["waiting"]
    assert notes == (
        "ScaledObject ai/chat, own: triggers of the type datadog are not read here (left out; the others decide)",
    )


def test_unless_it_is_all_there_is() -> None:
    (found,), notes = scalers(manifest("ScaledObject", {"triggers": [UNKNOWN]}))
    assert found.scaled is not None
    assert [each.name for each in found.scaled.triggers] == ["own"]
    assert "it acts as if its sources failed" in notes[-1]


def test_a_query_of_a_series_for_each_pod_fails_in_keda() -> None:
    data = {"query": "vllm:num_requests_waiting", "threshold": "4", "activationThreshold": "1"}
    found = read("prometheus", **data)
    assert (found.signal.kind, found.signal.otherwise) == ("unknown", None)  # ignoreNullValues is about no series
    assert (found.target, found.activation, found.fails) == (4000, 1000, True)
    each_pod = {"type": "prometheus", "name": "engines", "metadata": data}
    (beside,), notes = scalers(manifest("ScaledObject", {"triggers": [LAG, each_pod]}))
    assert beside.scaled is not None
    assert [each.name for each in beside.scaled.triggers] == ["waiting", "engines"]  # it fails beside the other
    assert notes == (
        "ScaledObject ai/chat, engines: the query `vllm:num_requests_waiting` gives one series for each pod, and KEDA "
        "takes only one: with several replicas it is an error, and nothing scales by it but a fallback; an aggregation "
        "around it, sum(...), makes it one",
    )
    _, alone = scalers(manifest("ScaledObject", {"triggers": [each_pod]}))
    assert "it acts as if its sources failed" in alone[-1]
    summed = {**each_pod, "metadata": {**data, "query": "sum(vllm:num_requests_waiting)"}}
    (right,), none = scalers(manifest("ScaledObject", {"triggers": [summed]}))
    assert (right.signals["engines"].kind, none) == ("engine_waiting", ())


def test_requests_wait_in_the_first_queue_alone() -> None:
    sqs = {"type": "aws-sqs-queue", "name": "sqs", "metadata": {"queueURL": "https://q", "queueLength": "5"}}
    pending = {"type": "redis-streams", "name": "pending", "metadata": {**STREAM, "pendingEntriesCount": "6"}}
    (found,), notes = scalers(manifest("ScaledObject", {"triggers": [LAG, pending, sqs]}))
    assert [each.kind for each in found.signals.values()] == ["waiting", "pending", "unknown"]
    assert found.signals["sqs"].otherwise == 0
    assert "this one is empty" in notes[0]


def test_a_formula_stands_for_the_triggers_that_it_names() -> None:
    modifiers = {"formula": "waiting + (own ?? 1)", "target": "4", "activationTarget": "2"}
    found = scaled(LAG, UNKNOWN, advanced={"scalingModifiers": modifiers}).scaled
    assert found is not None
    assert found.modifiers is not None
    assert (found.modifiers.target, found.modifiers.activation) == (4000, 2000)
    assert [each.name for each in found.triggers] == ["waiting", "own"]


@pytest.mark.parametrize(
    ("formula", "said"),
    [("count([waiting], {# > 1})", "is not one that can be computed"), ("a + waiting", "no trigger is called a")],
)
def test_a_formula_that_is_not_understood_is_said(formula: str, said: str) -> None:
    advanced = {"scalingModifiers": {"formula": formula, "target": "4"}}
    (found,), notes = scalers(manifest("ScaledObject", {"triggers": [LAG], "advanced": advanced}))
    assert found.scaled is not None
    assert found.scaled.modifiers is None
    assert said in notes[0]


def test_nothing_wakes_what_counts_only_what_was_given_out() -> None:
    pending = {"type": "redis-streams", "metadata": STREAM}
    _, notes = scalers(manifest("ScaledObject", {"triggers": [pending]}))
    assert "so nothing wakes the first one from zero" in notes[0]
    assert scalers(manifest("ScaledObject", {"triggers": [pending], "minReplicaCount": 1}))[1] == ()


def test_what_cannot_scale_is_passed_over() -> None:
    first = manifest("ScaledObject", {"triggers": [LAG]})
    second = manifest("HorizontalPodAutoscaler", {"maxReplicas": 3}, name="other")
    lost = manifest("ScaledObject", {"triggers": [LAG], "scaleTargetRef": {"name": "gone"}}, name="lost")
    wrong = manifest("ScaledObject", {"triggers": [LAG], "minReplicaCount": 9, "maxReplicaCount": 2})
    by_keda = manifest("HorizontalPodAutoscaler", {"maxReplicas": 3}, name="keda-hpa-chat")
    found, notes = scalers(first, second, lost, by_keda)
    assert [each.name for each in found] == ["ScaledObject ai/chat"]
    assert notes == (
        "passed over: HorizontalPodAutoscaler ai/other: Deployment ai/chat has another scaler, "
        "ScaledObject ai/chat: the two would fight",
        "passed over: ScaledObject ai/lost: what it scales, Deployment gone, is not in sight or makes no replicas here",
    )
    assert "minimum 9 and maximum 2" in scalers(wrong)[1][0]
    assert scalers(manifest("ScaledObject", {}))[1] == ("passed over: ScaledObject ai/chat: it has no triggers",)


def test_what_serves_no_model_keeps_the_fewest_that_its_scaler_allows() -> None:
    targets = {CHAT: Target("Deployment ai/chat", "", 1, 1000)}
    _, least = read_scalers([manifest("ScaledObject", {"triggers": [LAG], "minReplicaCount": 4})], targets, Notes())
    assert least == {"Deployment ai/chat": 4}


def test_who_takes_work_from_a_queue_by_itself() -> None:
    by_queue = manifest("ScaledObject", {"triggers": [LAG]})
    by_metric = manifest("ScaledObject", {"triggers": [{"type": "prometheus", "metadata": {}}]})
    assert queued([by_queue]) == {CHAT}
    assert queued([by_metric]) == frozenset()


# --- HPA alone --------------------------------------------------------------------------------------------------------


def test_metrics_of_an_hpa() -> None:
    def of(kind: str, name: str, target: dict[str, Any]) -> Read:
        found = metric({"type": kind, kind.lower(): {"metric": {"name": name}, "target": target}}, AROUND)
        assert found is not None
        return found

    external = of("External", "vllm_num_requests_waiting", {"type": "AverageValue", "averageValue": "2500m"})
    assert (external.signal.kind, external.target, external.type) == ("engine_waiting", 2500, "AverageValue")
    assert of("External", "vllm_num_requests_waiting", {"type": "Value", "value": 9}).type == "Value"
    # The mean of the pods times the ready ones.
    mean = of("Pods", "vllm_num_requests_running", {"type": "AverageValue", "averageValue": 4})
    assert (mean.signal.across, mean.target, mean.type) == ("mean", 4000, "Value")
    assert of("Pods", "latency", {"averageValue": 4}).why == "the metric latency is not one that is known here"


def test_an_hpa_alone() -> None:
    running = {
        "type": "Pods",
        "pods": {"metric": {"name": "vllm:num_requests_running"}, "target": {"averageValue": "8"}},
    }
    spec = {"minReplicas": 2, "maxReplicas": 6, "metrics": [running]}
    (found,), notes = scalers(manifest("HorizontalPodAutoscaler", spec))
    assert found.autoscaler == Autoscaler(2, 6)
    assert found.targets == {"vllm:num_requests_running": (8000, "Value")}
    assert found.signals["vllm:num_requests_running"] == Signal(
        "running", delay_s=30.0, across="mean", said="Pods vllm:num_requests_running"
    )
    assert notes == ()


def test_an_hpa_of_version_1_and_one_without_metrics_look_at_the_cpu() -> None:
    (old,), _ = scalers(manifest("HorizontalPodAutoscaler", {"maxReplicas": 6, "targetCPUUtilizationPercentage": 55}))
    (bare,), _ = scalers(manifest("HorizontalPodAutoscaler", {"maxReplicas": 6}))
    assert (old.targets, bare.targets) == ({"cpu": (55_000, "Value")}, {"cpu": (80_000, "Value")})
    assert old.autoscaler == Autoscaler(1, 6)
