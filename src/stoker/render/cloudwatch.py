"""CloudWatch: the observability add-on with its rights, and a dashboard and alarms in Terraform.

Container Insights (what nodes, pods and GPUs do) comes from the add-on; tokens, dollars and queues are put by the
gateways themselves (`gateway/cloudwatch.py`), whose rights are in `iam`. Which metrics there are, and with which
dimensions, is in `metric_names.CLOUDWATCH`: asked for with another set of dimensions, a metric has no data.
"""

import json
from collections.abc import Iterator
from typing import Any

from stoker.render.cloudwatch_alarms import alarms
from stoker.render.cloudwatch_dashboard import body
from stoker.render.hcl import Block, Json, Raw
from stoker.render.items import Item, Resource, Terraform
from stoker.render.kms import ADMINISTER
from stoker.render.objects import metadata
from stoker.render.plan import Plan
from stoker.render.surroundings import cluster_name

ADDON = "amazon-cloudwatch-observability"
ADDON_ACCOUNT = "cloudwatch-agent"
"""The service account of the add-on's agent, in its own namespace."""
POLICY = "CloudWatchAgentServerPolicy"
_COMPONENT = "cloudwatch"
_FILE = "terraform/cloudwatch.tf"
_ROLE = "cloudwatch-agent"
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
        }
    ],
}


def render(plan: Plan) -> Iterator[Item]:
    said = plan.spec.global_.observability
    if not (said.enabled and said.cloudwatch):
        return
    yield from _addon_by_ack(plan) if plan.by_ack else _addon_by_terraform(plan)
    yield from _topic(plan)
    yield Terraform(
        _FILE,
        Block(
            "resource",
            ("aws_cloudwatch_dashboard", "stoker"),
            {"dashboard_name": _name(plan, "stoker"), "dashboard_body": Json(body(plan))},
        ),
    )
    for alarm in alarms(plan):
        yield Terraform(_FILE, alarm.block(plan), alarm.why)


def configuration(plan: Plan) -> dict[str, Any]:
    """What the add-on is told. `agent.config` is the agent's own configuration; the guide's `customMetrics` is no key
    of it (E28). GPU metrics are said in full, since without them there would be no exporter at all.

    Source: Amazon CloudWatch user guide, "Install the CloudWatch agent with the Amazon CloudWatch Observability EKS
    add-on", additional configuration; aws-observability/helm-charts values.yaml."""
    kubernetes = {"enhanced_container_insights": True, "accelerated_compute_metrics": plan.gpu_exporter == "addon"}
    return {"agent": {"config": {"logs": {"metrics_collected": {"kubernetes": kubernetes}}}}}


_WHY_ADDON = """\
It brings a dcgm-exporter of its own, and Container Insights reads no other: so it is this one that runs, and that of \
the component monitoring is left out."""


def _addon_by_ack(plan: Plan) -> Iterator[Resource]:
    file, space = "cloudwatch/addon.yaml", plan.monitoring_namespace
    yield Resource(
        file,
        {
            "apiVersion": "iam.services.k8s.aws/v1alpha1",
            "kind": "Role",
            "metadata": metadata(plan, _ROLE, _COMPONENT, namespace=space),
            "spec": {
                "name": _role(plan),
                "description": "What the CloudWatch agent may do",
                "assumeRolePolicyDocument": json.dumps(_TRUST),
                "policies": [_policy(plan)],
                "tags": [{"key": key, "value": value} for key, value in plan.tags.items()],
            },
        },
    )
    role = {"from": {"name": _ROLE}}
    yield Resource(
        file,
        {
            "apiVersion": "eks.services.k8s.aws/v1alpha1",
            "kind": "Addon",
            "metadata": metadata(plan, ADDON, _COMPONENT, namespace=space),
            "spec": {
                "name": ADDON,
                "clusterName": plan.cluster,
                "configurationValues": json.dumps(configuration(plan)),
                "podIdentityAssociations": [{"serviceAccount": ADDON_ACCOUNT, "roleRef": role}],
                "resolveConflicts": "OVERWRITE",
                "tags": plan.tags,
            },
        },
        _WHY_ADDON,
    )


def _addon_by_terraform(plan: Plan) -> Iterator[Terraform]:
    role = Raw("aws_iam_role.cloudwatch_agent.arn")
    yield Terraform(
        _FILE,
        Block(
            "resource",
            ("aws_iam_role", "cloudwatch_agent"),
            {"name": _role(plan), "assume_role_policy": Json(_TRUST), "tags": plan.tags},
        ),
    )
    yield Terraform(
        _FILE,
        Block(
            "resource",
            ("aws_iam_role_policy_attachment", "cloudwatch_agent"),
            {"role": Raw("aws_iam_role.cloudwatch_agent.name"), "policy_arn": _policy(plan)},
        ),
    )
    yield Terraform(
        _FILE,
        Block(
            "resource",
            ("aws_eks_addon", "cloudwatch"),
            {
                "cluster_name": cluster_name(plan),
                "addon_name": ADDON,
                "configuration_values": Json(configuration(plan)),
                "resolve_conflicts_on_create": "OVERWRITE",
                "resolve_conflicts_on_update": "OVERWRITE",
                "tags": plan.tags,
            },
            [Block("pod_identity_association", (), {"role_arn": role, "service_account": ADDON_ACCOUNT})],
        ),
        _WHY_ADDON,
    )


_ACCOUNT = "${data.aws_caller_identity.cloudwatch.account_id}"
_FROM_HERE = {"StringEquals": {"aws:SourceAccount": _ACCOUNT}}


def _topic(plan: Plan) -> Iterator[Terraform]:
    alarm = {"Service": "cloudwatch.amazonaws.com"}
    key_policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Administer",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{plan.partition}:iam::{_ACCOUNT}:root"},
                "Action": [f"kms:{each}" for each in ADMINISTER],
                "Resource": "*",
            },
            {
                "Sid": "AlarmsPublish",
                "Effect": "Allow",
                "Principal": alarm,
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Resource": "*",
                "Condition": _FROM_HERE,
            },
        ],
    }
    topic_policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "AlarmsPublish",
                "Effect": "Allow",
                "Principal": alarm,
                "Action": "sns:Publish",
                "Resource": Raw("aws_sns_topic.alarms.arn"),
                "Condition": _FROM_HERE,
            }
        ],
    }
    yield Terraform(_FILE, Block("data", ("aws_caller_identity", "cloudwatch")))
    yield Terraform(
        _FILE,
        Block(
            "resource",
            ("aws_kms_key", "alarms"),
            {
                "description": f"Alarms of {plan.cluster}",
                "enable_key_rotation": True,
                "deletion_window_in_days": 7,
                "policy": Json(key_policy),
                "tags": plan.tags,
            },
        ),
        "A key of our own: alarms cannot publish to a topic under SNS' key, whose policy nobody can change. The "
        "actions of the account are written out.",
    )
    yield Terraform(
        _FILE,
        Block(
            "resource",
            ("aws_sns_topic", "alarms"),
            {
                "name": _name(plan, "alarms"),
                "kms_master_key_id": Raw("aws_kms_key.alarms.arn"),
                "tags": plan.tags,
            },
        ),
    )
    yield Terraform(
        _FILE,
        Block(
            "resource",
            ("aws_sns_topic_policy", "alarms"),
            {"arn": Raw("aws_sns_topic.alarms.arn"), "policy": Json(topic_policy)},
        ),
    )
    email = plan.spec.global_.observability.alarm_email
    if email is not None:
        yield Terraform(
            _FILE,
            Block(
                "resource",
                ("aws_sns_topic_subscription", "alarms"),
                {"topic_arn": Raw("aws_sns_topic.alarms.arn"), "protocol": "email", "endpoint": email},
            ),
            "AWS sends a letter to this address first, and nothing more until the link in it is followed.",
        )


def _name(plan: Plan, what: str) -> str:
    return f"{plan.cluster}-{what}"


def _role(plan: Plan) -> str:
    return f"{plan.cluster[:40]}-cloudwatch-agent"


def _policy(plan: Plan) -> str:
    return f"arn:{plan.partition}:iam::aws:policy/{POLICY}"
