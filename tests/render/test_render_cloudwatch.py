"""CloudWatch: the add-on, the rights of gateways, the dashboard and the alarms."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from seeing_parts import objects, one, only, terraform, terraform_text

from stoker.render import cloudwatch, iam
from stoker.render import gateway as gateways
from stoker.render.cloudwatch_alarms import Alarm, alarms
from stoker.render.cloudwatch_dashboard import body
from stoker.render.items import Terraform
from stoker.render.plan import Plan
from stoker.render.writing import files
from stoker.spec import Mode, loads

ON = "global: {observability: {cloudwatch: true}}"
BY_TERRAFORM = f"{ON}\ncomposition: {{ack: {{enabled: false}}}}"
NO_GPU = f"{ON}\nllm: {{inference: {{gpu: {{count: 0}}}}}}"


def plan(text: str = ON, mode: Mode = "karpenter") -> Plan:
    return Plan(loads(text), mode)


def test_off_until_asked_for() -> None:
    assert list(cloudwatch.render(plan(""))) == []
    assert list(cloudwatch.render(plan("global: {observability: {enabled: false, cloudwatch: true}}"))) == []


def test_the_addon_is_an_object_where_ack_runs_and_terraform_elsewhere() -> None:
    by_ack = list(cloudwatch.render(plan()))
    addon = one(by_ack, "Addon", "amazon-cloudwatch-observability")["spec"]
    assert (addon["name"], addon["clusterName"]) == ("amazon-cloudwatch-observability", "agentic-ai-cluster")
    assert addon["podIdentityAssociations"] == [
        {"serviceAccount": "cloudwatch-agent", "roleRef": {"from": {"name": "cloudwatch-agent"}}}
    ]
    assert "aws_eks_addon" not in terraform_text(by_ack)
    by_terraform = list(cloudwatch.render(plan(BY_TERRAFORM)))
    assert objects(by_terraform) == []
    assert terraform(by_terraform, "aws_eks_addon", "cloudwatch")["addon_name"] == "amazon-cloudwatch-observability"


def test_the_addon_runs_the_gpu_exporter_only_where_there_are_gpus() -> None:
    assert kubernetes(plan()) == {"enhanced_container_insights": True, "accelerated_compute_metrics": True}
    assert kubernetes(plan(NO_GPU)) == {"enhanced_container_insights": True, "accelerated_compute_metrics": False}


def kubernetes(made: Plan) -> dict[str, Any]:
    addon = one(cloudwatch.render(made), "Addon", "amazon-cloudwatch-observability")
    values = json.loads(addon["spec"]["configurationValues"])
    assert list(values) == ["agent"], "customMetrics is no key of the add-on (E28)"
    return dict(values["agent"]["config"]["logs"]["metrics_collected"]["kubernetes"])


@pytest.mark.parametrize("text", [ON, BY_TERRAFORM])
def test_the_addons_agent_has_a_role_that_its_pods_take_by_pod_identity(text: str) -> None:
    items = list(cloudwatch.render(plan(text)))
    written = json.dumps(objects(items)) + terraform_text(items)
    assert "arn:aws:iam::aws:policy/CloudWatchAgentServerPolicy" in written
    assert "pods.eks.amazonaws.com" in written
    assert "sts:TagSession" in written
    assert "eks.amazonaws.com/role-arn" not in written


def test_in_china_the_policy_is_that_of_its_partition() -> None:
    made = plan("global: {cluster: {region: cn-north-1}, observability: {cloudwatch: true}}")
    (role,) = [each for each in only(cloudwatch.render(made), "Role") if each["apiVersion"].startswith("iam.")]
    assert role["spec"]["policies"] == ["arn:aws-cn:iam::aws:policy/CloudWatchAgentServerPolicy"]


def test_gateways_put_their_metrics_themselves_and_into_these_namespaces_alone() -> None:
    """One way: nobody scrapes into CloudWatch what gateways put there."""
    made = plan()
    assert only(cloudwatch.render(made), "Deployment") == []
    [gateway] = [each for each in iam.identities(made) if each.account == "gateway"]
    assert gateway.statements == (
        {
            "Sid": "PutMetrics",
            "Effect": "Allow",
            "Action": ["cloudwatch:PutMetricData"],
            "Resource": ["*"],
            "Condition": {
                "StringEquals": {"cloudwatch:namespace": ["AgenticAI/Tokens", "AgenticAI/Cost", "AgenticAI/Queue"]}
            },
        },
    )
    [container] = one(gateways.render(made), "Deployment", "gateway")["spec"]["template"]["spec"]["containers"]
    assert {"name": "STOKER_CLOUDWATCH", "value": "on"} in container["env"]
    assert [each for each in iam.identities(plan("")) if each.account == "gateway"] == []
    assert "STOKER_CLOUDWATCH" not in json.dumps(objects(gateways.render(plan(""))))


def test_training_may_put_its_own_metrics() -> None:
    [training] = [
        each for each in iam.identities(plan(f"{ON}\ntraining: {{enabled: true}}")) if each.account == "training"
    ]
    assert [each["Condition"] for each in training.statements if each["Sid"] == "PutMetrics"] == [
        {"StringEquals": {"cloudwatch:namespace": ["AgenticAI/Training"]}}
    ]


def found(made: Plan) -> dict[str, Alarm]:
    return {each.name: each for each in alarms(made)}


def test_which_alarms_there_are() -> None:
    gpus = {"gpu_memory", "gpu_hot", "gpu_idle"}
    queues = {"queue_general", "queue_code", "queue_vision"}
    usual = {"node_failed", "interruptions_unread"}
    assert set(found(plan())) == gpus | queues | usual
    assert set(found(plan(mode="auto"))) == gpus | queues | {"node_failed"}
    assert set(found(plan(NO_GPU))) == queues | usual
    assert set(found(plan(f"{ON}\nkeda: {{scalers: {{sqs: true}}}}"))) - set(found(plan())) == {"dead_letters"}


def test_thresholds_are_in_the_units_of_their_metrics() -> None:
    """The guide has 90 per cent on a number of MiB (S02); vLLM holds nine tenths by design."""
    memory = found(plan())["gpu_memory"]
    assert (memory.namespace, memory.metric, memory.above) == ("ContainerInsights", "node_gpu_memory_utilization", 98)
    idle = found(plan())["gpu_idle"]
    assert (idle.metric, idle.below, idle.period_s * idle.periods) == ("node_gpu_utilization", 3, 7200)


def test_names_of_queues_and_models_are_those_of_the_spec() -> None:
    text = f"""
{ON}
keda: {{scalers: {{sqs: true}}}}
queue: {{deadLetters: {{sqsQueue: given-up}}}}
karpenter: {{interruptionQueue: notices}}
llm: {{models: {{code-large: {{replicas: {{min: 0, max: 4}}, limits: {{concurrency: 5}}}}}}}}
"""
    made = found(plan(text))
    assert made["dead_letters"].dimensions == (("QueueName", "given-up"),)
    assert made["interruptions_unread"].dimensions == (("QueueName", "notices"),)
    assert made["queue_code_large"].dimensions == (("ClusterName", "agentic-ai-cluster"), ("ModelName", "code-large"))
    assert made["queue_code_large"].above == 20


def test_alarms_tell_the_topic_and_are_silent_without_data() -> None:
    items = list(cloudwatch.render(plan()))
    idle = terraform(items, "aws_cloudwatch_metric_alarm", "gpu_idle")
    assert idle["alarm_name"] == "agentic-ai-cluster-gpu-idle"
    assert (idle["comparison_operator"], idle["threshold"]) == ("LessThanThreshold", 3)
    assert idle["treat_missing_data"] == "notBreaching"
    assert [each.text for each in idle["alarm_actions"]] == ["aws_sns_topic.alarms.arn"]
    assert terraform(items, "aws_cloudwatch_metric_alarm", "gpu_hot")["comparison_operator"] == "GreaterThanThreshold"


def test_who_is_told() -> None:
    assert "aws_sns_topic_subscription" not in terraform_text(cloudwatch.render(plan()))
    items = list(cloudwatch.render(plan("global: {observability: {cloudwatch: true, alarmEmail: ops@example.com}}")))
    subscription = terraform(items, "aws_sns_topic_subscription", "alarms")
    assert (subscription["protocol"], subscription["endpoint"]) == ("email", "ops@example.com")


def test_only_alarms_of_this_account_reach_the_encrypted_topic() -> None:
    items = list(cloudwatch.render(plan()))
    key = terraform(items, "aws_kms_key", "alarms")["policy"].value["Statement"]
    topic = terraform(items, "aws_sns_topic_policy", "alarms")["policy"].value["Statement"]
    for statement in (key[1], topic[0]):
        assert statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
        assert list(statement["Condition"]["StringEquals"]) == ["aws:SourceAccount"]
    assert terraform(items, "aws_sns_topic", "alarms")["kms_master_key_id"].text == "aws_kms_key.alarms.arn"
    assert not [each for statement in (*key, *topic) for each in statement["Action"] if "*" in each]


def test_tags_are_on_what_takes_them() -> None:
    made = plan("global: {tags: {Team: ai}, observability: {cloudwatch: true}}\ncomposition: {ack: {enabled: false}}")
    untagged = {"aws_cloudwatch_dashboard", "aws_sns_topic_policy", "aws_iam_role_policy_attachment"}
    blocks = [each.block for each in cloudwatch.render(made) if isinstance(each, Terraform)]
    resources = [each for each in blocks if each.type == "resource" and each.labels[0] not in untagged]
    assert {each.attributes["tags"]["Team"] for each in resources} == {"ai"}
    addon = one(
        cloudwatch.render(plan("global: {tags: {Team: ai}, observability: {cloudwatch: true}}")),
        "Addon",
        cloudwatch.ADDON,
    )
    assert addon["spec"]["tags"]["Team"] == "ai"


def widgets(made: Plan) -> dict[str, dict[str, Any]]:
    return {each["properties"]["title"]: each["properties"] for each in body(made)["widgets"]}


def expressions(properties: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for metric in properties["metrics"]:
        if isinstance(metric[0], dict):
            yield metric[0]["id"], metric[0]["expression"]


@pytest.mark.parametrize("mode", ["karpenter", "auto"])
def test_what_an_expression_names_is_in_its_widget_and_each_has_its_region(mode: Mode) -> None:
    """F16: the guide divides m1 by m2, and has neither."""
    made = plan(f"{ON}\nkeda: {{scalers: {{sqs: true}}}}", mode)
    assert len(widgets(made)) == len(body(made)["widgets"])
    for properties in widgets(made).values():
        assert properties["region"] == "us-west-2"
        ids = [each[-1]["id"] for each in properties["metrics"] if isinstance(each[-1], dict) and "id" in each[-1]]
        assert len(set(ids)) == len(ids)
        for own, expression in expressions(properties):
            outside = re.sub(r"SEARCH\('.*?'\s*,\s*'\w+'\s*,\s*\d+\)", "", expression)
            used = set(re.findall(r"\b[a-z]\w*\b", outside))
            assert used <= set(ids) - {own}


def test_dollars_per_million_tokens() -> None:
    """GPU-minutes of an hour through 60 are GPU-hours, at the dearest GPU that a pool allows."""
    made = plan(f"{ON}\nkarpenter: {{nodePools: {{gpu: {{instanceFamilies: [g5]}}}}}}\nllm: {{models: {{code: {{}}}}}}")
    (cost,) = [each for title, each in widgets(made).items() if "per million" in title]
    found = dict(expressions(cost))
    dearest = re.fullmatch(r"\(m1/60\*([0-9.]+)\)/\(\(p\+c\)/1000000\)", found["e1"])
    assert dearest is not None
    assert 1.0 < float(dearest[1]) < 6.0
    assert cost["metrics"][-1][:4] == ["ContainerInsights", "node_gpu_limit", "ClusterName", "agentic-ai-cluster"]
    assert cost["period"] == 3600


def test_what_is_ours_is_searched_for_whatever_models_there_are() -> None:
    shown = widgets(plan())["By the models' prices, USD per hour"]
    assert dict(expressions(shown)) == {
        "q": 'SEARCH(\'{AgenticAI/Cost,ClusterName,ModelName} MetricName="ListPrice" '
        "ClusterName=\"agentic-ai-cluster\"', 'Sum', 3600)"
    }


def test_widgets_do_not_lie_on_each_other() -> None:
    places = [(each["x"], each["y"]) for each in body(plan())["widgets"]]
    assert len(set(places)) == len(places)
    assert {x for x, _ in places} == {0, 8, 16}


@pytest.mark.skipif(shutil.which("terraform") is None, reason="no terraform")
@pytest.mark.parametrize("text", [ON, f"{BY_TERRAFORM}\nkeda: {{scalers: {{sqs: true}}}}"])
def test_terraform_finds_it_well_written(tmp_path: Path, text: str) -> None:
    for name, content in files(cloudwatch.render(plan(text))).items():
        if name.endswith(".tf"):
            (tmp_path / Path(name).name).write_text(content)
    checked = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "CHECKPOINT_DISABLE": "1"},
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
