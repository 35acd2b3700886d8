"""The queue of interruptions, and that Terraform takes what is written."""

import shutil
import subprocess
from pathlib import Path

import pytest

from stoker.render.hcl import Block, Raw
from stoker.render.interruption import render as interruption
from stoker.render.items import Terraform
from stoker.render.plan import Plan
from stoker.render.run import render
from stoker.spec import Mode, loads


def blocks(text: str = "", mode: Mode = "karpenter") -> dict[tuple[str, ...], Block]:
    items = [each for each in interruption(Plan(loads(text), mode)) if isinstance(each, Terraform)]
    assert {each.file for each in items} <= {"terraform/interruption.tf"}
    return {each.block.labels: each.block for each in items}


def test_the_queue_is_encrypted_forgets_soon_and_is_named_as_karpenter_is_told() -> None:
    queue = blocks("karpenter: {interruptionQueue: notices}\nglobal: {tags: {Team: search}}")[
        "aws_sqs_queue", "interruption"
    ]

    assert queue.attributes == {
        "name": "notices",
        "message_retention_seconds": 300,
        "sqs_managed_sse_enabled": True,
        "tags": {"Project": "agentic-ai-cluster", "ManagedBy": "stoker", "Team": "search"},
    }


def test_events_may_send_and_nobody_without_tls() -> None:
    policy = blocks()["aws_sqs_queue_policy", "interruption"].attributes["policy"].value

    send, encrypted = policy["Statement"]
    assert (send["Effect"], send["Action"]) == ("Allow", "sqs:SendMessage")
    assert send["Principal"] == {"Service": ["events.amazonaws.com", "sqs.amazonaws.com"]}
    assert send["Resource"] == encrypted["Resource"] == Raw("aws_sqs_queue.interruption.arn")
    assert (encrypted["Effect"], encrypted["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert not [each for each in (send["Action"], *encrypted["Action"]) if "*" in each]


def test_all_that_karpenter_listens_for_reaches_the_queue() -> None:
    made = blocks()

    patterns = {
        labels[1]: (block.attributes["name"], *block.attributes["event_pattern"].value.values())
        for labels, block in made.items()
        if labels[0] == "aws_cloudwatch_event_rule"
    }
    ec2 = ["aws.ec2"]
    assert patterns == {
        "spot_interruption": (
            "agentic-ai-cluster-spot-interruption", ec2, ["EC2 Spot Instance Interruption Warning"]),
        "rebalance": ("agentic-ai-cluster-rebalance", ec2, ["EC2 Instance Rebalance Recommendation"]),
        "state_change": ("agentic-ai-cluster-state-change", ec2, ["EC2 Instance State-change Notification"]),
        "scheduled_change": ("agentic-ai-cluster-scheduled-change", ["aws.health"], ["AWS Health Event"]),
        "capacity_reservation": (
            "agentic-ai-cluster-capacity-reservation", ec2,
            ["EC2 Capacity Reservation Instance Interruption Warning"]),
    }  # fmt: skip
    for name in patterns:
        target = made["aws_cloudwatch_event_target", name].attributes
        assert target["rule"] == Raw(f"aws_cloudwatch_event_rule.{name}.name")
        assert target["arn"] == Raw("aws_sqs_queue.interruption.arn")


def test_names_of_rules_are_short_enough_for_a_long_cluster() -> None:
    made = blocks(f"global: {{cluster: {{name: {'x' * 100}}}}}")

    names = [each.attributes["name"] for labels, each in made.items() if labels[0] == "aws_cloudwatch_event_rule"]
    assert len(set(names)) == 5
    assert max(map(len, names)) <= 64
    assert len(made["aws_sqs_queue", "interruption"].attributes["name"]) == 80


@pytest.mark.parametrize(
    ("text", "mode", "number"),
    [("", "karpenter", 12), ("", "hybrid", 12), ("", "auto", 0), ("karpenter: {enabled: false}", "karpenter", 0)],
)
def test_only_a_karpenter_of_ones_own_has_a_queue(text: str, mode: Mode, number: int) -> None:
    assert len(blocks(text, mode)) == number


@pytest.mark.skipif(shutil.which("terraform") is None, reason="needs terraform on PATH")
def test_terraform_has_nothing_to_format(tmp_path: Path) -> None:
    files = render(loads("global: {tags: {Cost center: a/b}}"), mode="hybrid", only=["nodes", "interruption"])
    names = [name for name in files if name.endswith(".tf")]
    for name in names:
        (tmp_path / Path(name).name).write_text(files[name])

    command = ["terraform", "fmt", "-check", "-diff", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert sorted(names) == ["terraform/interruption.tf", "terraform/nodes.tf", "terraform/versions.tf"]
    assert (done.returncode, done.stdout) == (0, "")
