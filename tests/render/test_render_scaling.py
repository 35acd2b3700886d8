"""ScaledObjects: the numbers of the local autoscaler, in KEDA's words."""

from typing import Any

import pytest
from rendered_models import comments, findings, objects, plan

from stoker.base.errors import InvalidInput
from stoker.policy import scaled, streams
from stoker.queue import keys
from stoker.spec import loads

ACCOUNT = '{cluster: {name: c, account: "111122223333"}%s}'


def spec_of(text: str, model: str = "general") -> dict[str, Any]:
    found: dict[str, Any] = objects(plan(text))[f"ScaledObject model-{model}"]["spec"]
    return found


def triggers(text: str) -> dict[str, Any]:
    return {each["name"]: each for each in spec_of(text)["triggers"]}


def test_the_streams_are_those_of_the_queue() -> None:
    said = triggers("")["waiting"]["metadata"]
    assert said["stream"] == keys.tasks("general") == streams.tasks("general") == "stoker:tasks:general"
    assert said["consumerGroup"] == keys.WORKERS_GROUP == "workers"


def test_by_default_lag_and_what_runs() -> None:
    found = spec_of("")
    assert found["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "model-general"}
    assert (found["minReplicaCount"], found["maxReplicaCount"]) == (1, 50)
    assert not {"pollingInterval", "cooldownPeriod", "initialCooldownPeriod"} & set(found)
    waiting, running = found["triggers"]
    assert waiting["type"] == "redis-streams"
    assert waiting["metadata"]["lagCount"] == "8"
    assert waiting["metadata"]["activationLagCount"] == "0"
    assert running["type"] == "prometheus"
    assert running["metadata"] == {
        "serverAddress": "http://prometheus-operated.monitoring.svc:9090",
        "query": 'sum(stoker_requests_in_flight{model="general"}) + max(stoker_queue_pending{model="general"})',
        "threshold": "6",
        "activationThreshold": "0",
        "ignoreNullValues": "false",
    }


TUNED = """\
global: {observability: {prometheusUrl: "http://p.example:9090"}}
keda:
  minReplicaCount: 0
  maxReplicaCount: 9
  pollingInterval: 7
  cooldownPeriod: 70
  initialCooldownPeriod: 700
  lagCount: 2.5
  activationLagCount: 3.5
  pendingEntriesCount: 4
  runningCount: 1.25
  fallback: {failureThreshold: 5, replicas: 3, behavior: currentReplicasIfHigher}
"""


def test_every_number_of_the_spec_is_in_it() -> None:
    found, named = spec_of(TUNED), triggers(TUNED)
    assert (found["minReplicaCount"], found["maxReplicaCount"]) == (0, 9)
    assert (found["pollingInterval"], found["cooldownPeriod"], found["initialCooldownPeriod"]) == (7, 70, 700)
    assert found["fallback"] == {"failureThreshold": 5, "replicas": 3, "behavior": "currentReplicasIfHigher"}
    assert named["waiting"]["metadata"]["lagCount"] == "3"  # KEDA takes whole numbers
    assert named["waiting"]["metadata"]["activationLagCount"] == "3"
    assert named["pending"]["metadata"]["pendingEntriesCount"] == "4"
    assert "lagCount" not in named["pending"]["metadata"]
    assert named["running"]["metadata"]["threshold"] == "1.25"
    assert named["running"]["metadata"]["serverAddress"] == "http://p.example:9090"


@pytest.mark.parametrize("text", ["", TUNED, "llm: {models: {general: {limits: {concurrency: 16}}}}"])
def test_it_has_the_numbers_by_which_stoker_up_scales(text: str) -> None:
    local, found = scaled.scaled_object(loads(text), "general", "cluster"), spec_of(text)
    assert (found["minReplicaCount"], found["maxReplicaCount"]) == (local.minimum, local.maximum)
    assert [each["name"] for each in found["triggers"]] == [each.name for each in local.triggers]
    behavior = found["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert local.behavior is not None
    for said, rules in ((behavior["scaleUp"], local.behavior.up), (behavior["scaleDown"], local.behavior.down)):
        assert said["stabilizationWindowSeconds"] == rules.stabilization_s
        assert [(each["type"], each["value"], each["periodSeconds"]) for each in said["policies"]] == [
            (each.type, each.value, each.period_s) for each in rules.policies
        ]


def test_behavior_is_handed_to_the_hpa() -> None:
    text = """\
keda:
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp: {tolerance: 0.05}
        scaleDown:
          stabilizationWindowSeconds: 60
          selectPolicy: Min
          policies: [{type: Percent, value: 10, periodSeconds: 60}]
"""
    behavior = spec_of(text)["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleUp"]["tolerance"] == "0.05"
    assert behavior["scaleDown"] == {
        "stabilizationWindowSeconds": 60,
        "selectPolicy": "Min",
        "policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}],
    }


def test_a_fallback_that_nobody_wrote_keeps_what_there_is() -> None:
    assert spec_of("")["fallback"] == {"failureThreshold": 3, "replicas": 1, "behavior": "currentReplicas"}


def test_a_fallback_is_never_more_than_the_most() -> None:
    text = "keda: {minReplicaCount: 1, maxReplicaCount: 2, fallback: {failureThreshold: 4, replicas: %d}}"
    assert spec_of(text % 9)["fallback"] == {"failureThreshold": 4, "replicas": 2}
    assert spec_of(text % 1)["fallback"] == {"failureThreshold": 4, "replicas": 1}


def test_without_prometheus_tasks_that_run_keep_their_replicas() -> None:
    text = "global: {observability: {prometheus: false}}\nkeda: {minReplicaCount: 0}"
    named = triggers(text)
    assert list(named) == ["waiting", "pending"]
    assert named["pending"]["metadata"]["pendingEntriesCount"] == "6"
    assert "Without Prometheus" in comments(plan(text))["ScaledObject model-general"]


def test_without_redis_only_what_runs_counts() -> None:
    assert list(triggers("keda: {scalers: {redis: false}}")) == ["running"]


def test_the_password_comes_out_of_the_secret() -> None:
    made = objects(plan())
    assert made["TriggerAuthentication keda-redis"]["spec"] == {
        "secretTargetRef": [{"parameter": "password", "name": "redis", "key": "password"}]
    }
    assert triggers("")["waiting"]["authenticationRef"] == {"name": "keda-redis"}
    assert triggers("")["waiting"]["metadata"]["address"] == "redis.agentic-ai.svc.cluster.local:6379"


def test_of_elasticache_the_address_does_too() -> None:
    text = "redis: {elasticache: {enabled: true}}"
    auth = objects(plan(text))["TriggerAuthentication keda-redis"]["spec"]["secretTargetRef"]
    assert [(each["parameter"], each["key"]) for each in auth] == [("address", "address"), ("password", "password")]
    said = triggers(text)["waiting"]["metadata"]
    assert "address" not in said
    assert said["enableTLS"] == "true"


def test_a_redis_of_ones_own() -> None:
    said = triggers('redis: {url: "rediss://me@redis.example.com:7000/3", passwordEnv: PW}')["waiting"]
    assert said["metadata"]["address"] == "redis.example.com:7000"
    assert said["metadata"]["databaseIndex"] == "3"
    assert said["metadata"]["username"] == "me"
    assert said["metadata"]["enableTLS"] == "true"
    assert said["authenticationRef"] == {"name": "keda-redis"}
    plain = 'redis: {url: "redis://redis.example.com"}'
    assert triggers(plain)["waiting"]["metadata"]["address"] == "redis.example.com:6379"
    assert "authenticationRef" not in triggers(plain)["waiting"]
    assert "TriggerAuthentication keda-redis" not in objects(plan(plain))


def test_cloudwatch_is_read_where_gateways_write_it() -> None:
    on = "global: " + ACCOUNT % ", observability: {cloudwatch: true}" + "\nkeda: {scalers: {cloudwatch: true}}"
    said = triggers(on)["cloudwatch"]
    assert said["metadata"]["namespace"] == "AgenticAI/Queue"
    assert said["metadata"]["metricName"] == "TasksWaiting"
    assert said["metadata"]["dimensionName"] == "ClusterName;ModelName"
    assert said["metadata"]["dimensionValue"] == "c;general"
    assert said["metadata"]["targetMetricValue"] == "8"
    assert said["authenticationRef"] == {"name": "keda-aws"}
    assert objects(plan(on))["TriggerAuthentication keda-aws"]["spec"] == {"podIdentity": {"provider": "aws"}}
    off = "keda: {scalers: {cloudwatch: true}}"
    assert "cloudwatch" not in triggers(off)
    assert "No CloudWatch trigger" in comments(plan(off))["ScaledObject model-general"]
    assert "TriggerAuthentication keda-aws" not in objects(plan(off))


def test_dead_letters_scale_nothing_and_queues_of_ones_own_do() -> None:
    sqs = "keda: {scalers: {sqs: true}%s}"
    assert "sqs" not in triggers(sqs % "")
    assert "No SQS trigger" in comments(plan(sqs % ""))["ScaledObject model-general"]
    said = triggers("global: " + ACCOUNT % "" + "\n" + sqs % ", sqsQueue: llm-tasks, lagCount: 5")["sqs"]
    assert said["metadata"] == {
        "queueURL": "https://sqs.us-west-2.amazonaws.com/111122223333/llm-tasks-general",
        "queueLength": "5",
        "awsRegion": "us-west-2",
    }
    assert triggers(sqs % ", sqsQueue: llm-tasks")["sqs"]["metadata"]["queueURL"] == "llm-tasks-general"
    assert "sqs" not in triggers("keda: {sqsQueue: llm-tasks}")


@pytest.mark.parametrize("host", ["aps-workspaces.us-west-2.amazonaws.com", "APS-Workspaces.us-west-2.amazonaws.com"])
def test_a_prometheus_that_wants_signatures_is_refused(host: str) -> None:
    url = f"https://{host}/workspaces/ws-1"
    with pytest.raises(InvalidInput, match=r"SigV4.*or of a proxy that signs") as caught:
        loads(f'global: {{observability: {{prometheusUrl: "{url}"}}}}')
    assert "global.observability.prometheusUrl" in str(caught.value)
    loads('global: {observability: {prometheusUrl: "http://sigv4.monitoring:8005/workspaces/aps-workspaces"}}')


DEAF = "keda: {scalers: {redis: false, cloudwatch: true, sqs: true}}\nglobal: {observability: {%s}}\n"


@pytest.mark.parametrize("off", ["prometheus: false", "enabled: false, cloudwatch: true"])
def test_a_model_that_nobody_could_scale_is_refused_with_the_keys(off: str) -> None:
    with pytest.raises(InvalidInput, match=r"llm\.models\.general has 1 to 50 replicas") as caught:
        objects(plan(DEAF % off))
    assert caught.value.param == "keda.scalers.redis"
    for key in ("keda.scalers.cloudwatch", "keda.sqsQueue", "global.observability"):
        assert key in str(caught.value)
    fixed = "llm: {models: {general: {replicas: {min: 2, max: 2}}}}\n"
    assert "ScaledObject model-general" not in objects(plan(DEAF % off + fixed))


def test_any_one_source_is_enough() -> None:
    text = DEAF % "prometheus: false, cloudwatch: true"
    assert list(triggers(text)) == ["cloudwatch"]
    text = (DEAF % "prometheus: false").replace("keda: {", "keda: {sqsQueue: x, ")
    assert list(triggers(text)) == ["sqs"]


def test_what_does_not_scale_has_no_scaler() -> None:
    text = """\
llm:
  models:
    fixed: {replicas: {min: 2, max: 2}}
    hosted: {engine: {url: "https://llm.example.com/v1"}}
"""
    assert not any(key.startswith(("ScaledObject", "TriggerAuthentication")) for key in objects(plan(text)))
    assert not any(key.startswith("ScaledObject") for key in objects(plan("keda: {enabled: false}")))


@pytest.mark.parametrize(
    "text",
    [
        TUNED,
        "global: {observability: {prometheus: false}}\nkeda: {minReplicaCount: 0}",
        "redis: {elasticache: {enabled: true}}",
        'redis: {url: "rediss://me@redis.example.com:7000/3", passwordEnv: PW}',
        'redis: {url: "redis://redis.example.com"}',
        "keda: {scalers: {redis: false}}",
        "global: "
        + ACCOUNT % ", observability: {cloudwatch: true}"
        + "\nkeda: {scalers: {sqs: true, cloudwatch: true}, sqsQueue: llm-tasks, minReplicaCount: 0}",
        "keda: {scalers: {sqs: true}, sqsQueue: llm-tasks}",
    ],
)
def test_the_linter_has_nothing_to_say(text: str) -> None:
    assert [(each.rule, each.message) for each in findings(plan(text))] == []
