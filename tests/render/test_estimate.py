"""What a platform costs in a month: each line by hand."""

import re
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import strategies
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from rendered import plan_of

from stoker.base.errors import InvalidInput
from stoker.catalog.ec2 import find
from stoker.catalog.spot import spot_usd_per_hour
from stoker.policy.volumes import Volume, volume_usd_per_hour
from stoker.render.estimate import Estimate, estimate
from stoker.render.items import Terraform
from stoker.render.plan import Maker, Plan
from stoker.render.root import modules
from stoker.render.types import worst_usd_per_hour
from stoker.spec import Mode, load

ROOT = Path(__file__).parents[2]
SMALL = """\
global: {cluster: {region: us-east-1}}
llm: {models: {general: {replicas: {min: 1, max: 4}}}}
"""


@cache
def of(text: str = SMALL, mode: Mode = "karpenter", aws: Maker = "terraform") -> Estimate:
    return estimate(replace(plan_of(text, mode), aws=aws))


def rows(found: Estimate) -> dict[str, tuple[str, str, str, str]]:
    """By what it is: quantity, price of one, low, high."""
    return {
        line.what: (f"{line.quantity.normalize():f}", f"{line.unit_usd:f}", str(line.usd_low), str(line.usd_high))
        for line in found.lines
    }


def test_a_small_platform_with_karpenter_line_by_line() -> None:
    """A replica of `general` has 2 CPU, 10 GiB and a GPU: g6.xlarge and g5.xlarge hold one. In us-east-1 spot of
    g6.xlarge is 0.8048 less 49 %, 0.410448; of g5.xlarge 1.006 less 59 %, 0.41246."""
    found = of()
    assert rows(found) == {
        "EKS control plane": ("1", "0.10", "73.00", "73.00"),
        "NAT gateways": ("1", "0.045", "32.85", "32.85"),
        "public addresses of NAT gateways": ("1", "0.005", "3.65", "3.65"),
        "KMS key of the cluster": ("1", "1", "1.00", "1.00"),
        "nodes of controllers": ("2", "0.1008", "147.17", "220.75"),  # 2 and 3 x 0.1008 x 730
        "disks of nodes of controllers": ("100", "0.08", "8.00", "12.00"),  # 2 and 3 of 50 GiB
        "nodes of everything else": ("2", "0.1728", "252.29", "10831.56"),  # 256 vCPU x 0.23184 / 4 of m7a x 730
        "nodes of the model general": ("1", "0.410448", "299.63", "7431.40"),  # 5 GPUs x 8.144 / 4 of g5.24xlarge x 730
        "disks of nodes": ("600", "0.08", "48.00", "1104.00"),  # 3 and 64 + 5 nodes of 200 GiB
        "volumes of Redis": ("24", "0.08", "1.92", "1.92"),
        "volume of the ledger": ("50", "0.08", "4.00", "4.00"),
        "Application Load Balancer": ("1", "0.0225", "16.42", "16.42"),  # 16.425, to the even cent
        "secrets in Secrets Manager": ("4", "0.40", "1.60", "1.60"),  # Redis, ledger, engines, admin
    }
    assert found.notes == ()


def test_totals_are_the_sums_of_the_lines() -> None:
    found = of()
    assert found.usd_low == sum(line.usd_low for line in found.lines)
    assert found.usd_high == sum(line.usd_high for line in found.lines)
    assert all(line.usd_low <= line.usd_high for line in found.lines)


def test_auto_mode_takes_its_part_and_needs_no_nodes_for_controllers() -> None:
    by_karpenter, by_auto = rows(of()), rows(of(mode="auto"))
    assert {what: each for what, each in by_auto.items() if by_karpenter.get(what) != each} == {
        # 2 x 0.1728 x 0.12 and 0.8048 on demand x 0.078; at most 14.83776 x 0.12 and 10.18 x 0.078 an hour
        "fee of EKS Auto Mode": ("1", "0.1042464", "76.10", "1879.44"),
        # 750 - 125 MiB/s for the one node with a GPU; at most 5
        "throughput of these disks": ("625", "0.04", "25.00", "125.00"),
    }
    assert set(by_karpenter) - set(by_auto) == {"nodes of controllers", "disks of nodes of controllers"}


def test_in_hybrid_mode_only_the_general_nodes_are_auto_modes() -> None:
    found = rows(of(mode="hybrid"))
    assert found["fee of EKS Auto Mode"] == ("1", "0.041472", "30.27", "1299.79")  # 14.83776 x 0.12 x 730
    assert "nodes of controllers" not in found


def test_a_cluster_that_is_there_is_not_paid_for_again() -> None:
    made, there = of(), of(aws="ack")
    assert set(rows(made)) - set(rows(there)) == {
        "EKS control plane",
        "NAT gateways",
        "public addresses of NAT gateways",
        "KMS key of the cluster",
        "nodes of controllers",
        "disks of nodes of controllers",
    }
    why = "the cluster, its network and the nodes of its controllers, which are there"
    assert why in there.not_included
    assert why not in made.not_included
    own = "deploy: {terraform: false, context: mine}\n"
    assert rows(of(SMALL + own)) == rows(there)


def test_a_nat_gateway_in_each_zone() -> None:
    found = rows(of(SMALL + "deploy: {network: {natPerZone: true}}\n"))
    assert found["NAT gateways"] == ("3", "0.045", "98.55", "98.55")
    assert found["public addresses of NAT gateways"] == ("3", "0.005", "10.95", "10.95")


def test_a_month_may_have_other_hours() -> None:
    found = {line.what: line for line in estimate(replace(plan_of(SMALL), aws="terraform"), hours_per_month=100).lines}
    assert found["EKS control plane"].usd_low == Decimal("10.00")
    assert found["KMS key of the cluster"].usd_low == Decimal("1.00")


def test_elasticache_takes_the_place_of_volumes() -> None:
    found = of(SMALL + "redis: {elasticache: {enabled: true}}\n")
    assert rows(found)["ElastiCache nodes"] == ("3", "0.1752", "383.69", "383.69")
    assert "volumes of Redis" not in rows(found)
    assert rows(found)["secrets in Secrets Manager"][0] == "5"


def test_a_node_type_without_a_price_is_said_to_be_left_out() -> None:
    found = of(SMALL + "redis: {elasticache: {enabled: true, nodeType: cache.x9g.large}}\n")
    assert "ElastiCache nodes" not in rows(found)
    why = "ElastiCache nodes: no price of it is known here (elasticache.valkey.cache.x9g.large)"
    assert found.not_included[0] == why


def test_nodes_of_somebody_else_are_not_counted() -> None:
    found = of(SMALL + "karpenter: {enabled: false}\n")
    assert [what for what in rows(found) if "nodes" in what] == [
        "nodes of controllers",
        "disks of nodes of controllers",
    ]
    assert "nodes: karpenter.enabled is false, so that they are somebody else's" in found.not_included


def test_a_file_system_that_terraform_makes_is_paid_for_by_its_size() -> None:
    """FSx has 1200 GiB, or multiples of 2400."""
    training = "training: {enabled: true, checkpointing: {s3Bucket: ours}, storage: {enabled: true, size: 1300Gi}}\n"
    found = of(SMALL + training)
    assert rows(found)["FSx for Lustre"] == ("2400", "0.145", "348.00", "348.00")
    assert "file systems of EFS and FSx, which are there" not in found.not_included
    assert rows(found)["nodes that train"][0] == "0"


COUNTED = {
    *("aws_eks_cluster", "aws_nat_gateway", "aws_eip", "aws_kms_key", "aws_eks_node_group", "aws_launch_template"),
    *("aws_secretsmanager_secret", "aws_cloudwatch_metric_alarm", "aws_cloudwatch_dashboard", "aws_db_instance"),
    *("aws_elasticache_replication_group", "aws_fsx_lustre_file_system", "aws_batch_compute_environment"),
}
BY_USE = {
    *("aws_s3_bucket", "aws_ecr_repository", "aws_cloudwatch_log_group", "aws_flow_log", "aws_sqs_queue"),
    *("aws_sns_topic", "aws_apigatewayv2_api", "aws_cloudwatch_event_rule"),
}
FREE = re.compile(
    r"aws_(iam_.*|vpc|subnet|route.*|internet_gateway|(default_)?security_group|vpc_(security_group_.*_rule|endpoint)"
    r"|eks_(addon|access_.*|pod_identity_association)|.*_(subnet|parameter)_group|secretsmanager_secret_version"
    r"|s3_bucket_.*|ecr_lifecycle_policy|sqs_queue_.*|sns_topic_.*|cloudwatch_event_target|apigatewayv2_.*"
    r"|api_gateway_vpc_link|placement_group|batch_job_.*|cloudformation_stack|budgets_budget)"
    r"|terraform_data"
)
"""The endpoint is S3's gateway, the stack a controller's policy; of budgets, two cost nothing; terraform_data is a name
in the state."""


@pytest.mark.parametrize("mode", ["karpenter", "auto"])
def test_what_terraform_makes_is_counted_or_paid_by_use_or_free(mode: Mode) -> None:
    """A new kind of resource has to be put into one of these."""
    plan = Plan(load(ROOT / "examples" / "everything.yaml"), mode, "terraform")
    made = {
        item.block.labels[0]
        for item in modules.render(plan)
        if isinstance(item, Terraform) and item.block.type == "resource"
    }
    assert {each for each in made - COUNTED - BY_USE if not FREE.fullmatch(each)} == set()


def test_a_model_that_scales_to_nothing_costs_nothing_while_nobody_asks() -> None:
    found = rows(of(SMALL.replace("min: 1", "min: 0")))
    assert found["nodes of the model general"] == ("0", "0.410448", "0.00", "7431.40")


def test_a_pool_without_spot_is_paid_on_demand() -> None:
    pool = "karpenter: {nodePools: {gpu: {instanceFamilies: [g6], spotEnabled: false}}}\n"
    usd = find("g6.xlarge").usd_per_hour("us-east-1")  # type: ignore[union-attr]
    assert rows(of(SMALL + pool))["nodes of the model general"][:3] == ("1", str(usd), "587.50")  # 0.8048 x 730


def test_replicas_that_share_a_gpu_pay_for_its_node_once() -> None:
    serving = 'serving: {cpu: "1", memory: 3Gi, gpu: {memory: 6Gi, sharing: time-slicing, share: 3}}'
    text = SMALL.replace("{min: 1, max: 4}", "{min: 3, max: 6}, " + serving)
    found = rows(of(text))["nodes of the model general"]
    assert found[0] == "1"
    assert rows(of(text.replace("min: 3", "min: 4")))["nodes of the model general"][0] == "2"


def test_a_cap_in_dollars_bounds_the_month() -> None:
    cap = Decimal(9)
    text = SMALL + f"karpenter: {{nodePools: {{gpu: {{instanceFamilies: [g5, g6], maxUsdPerHour: {cap}}}}}}}\n"
    high = Decimal(rows(of(text))["nodes of the model general"][3])
    assert Decimal(0) < high <= cap * 730 < Decimal("7431.40")


def test_prices_that_stand_in_are_named() -> None:
    found = of(SMALL.replace("us-east-1", "us-west-2"))
    assert found.notes == (
        "nodes: prices on demand of us-west-2 are not known here; those of us-east-1 stand in",
        "prices of us-east-1 stand in for those of us-west-2: disks of nodes of controllers, disks of nodes, "
        "volumes of Redis, volume of the ledger, "
        "Application Load Balancer, secrets in Secrets Manager",
    )


def test_each_node_costs_what_the_catalogue_says() -> None:
    """The same figures as `stoker simulate` counts with: catalog.ec2 and catalog.spot."""
    spot = spot_usd_per_hour("g6.xlarge", "us-east-1")
    assert spot is not None
    found = rows(of())
    assert Decimal(found["nodes of the model general"][1]) == Decimal(str(round(spot, 6)))
    disk = Volume(size_gib=200, throughput_mibs=750)
    of_disk = Decimal(found["disks of nodes"][1]) * 200 + Decimal("0.04") * (750 - 125)
    assert volume_usd_per_hour(disk) * 730 == pytest.approx(float(of_disk))
    usual = find("m6a.xlarge")
    assert usual is not None
    assert found["nodes of everything else"][1] == str(usual.usd_per_hour())


def test_of_any_spec_the_least_is_no_more_than_the_most() -> None:
    tried = 0

    @given(case=strategies.cases())
    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def one(case: tuple[dict[str, Any], Mode]) -> None:
        nonlocal tried
        spec, mode = case
        try:
            found = estimate(replace(plan_of(yaml.safe_dump(spec), mode), aws="terraform"))
        except InvalidInput:
            return
        tried += 1
        assert all(Decimal(0) <= line.usd_low <= line.usd_high for line in found.lines), (spec, mode)
        assert found.usd_low == sum(line.usd_low for line in found.lines)

    one()
    assert tried >= 6


@pytest.fixture(scope="module")
def everything() -> tuple[Plan, Estimate]:
    plan = Plan(load(ROOT / "examples" / "everything.yaml"), "karpenter", "terraform")
    return plan, estimate(plan)


def test_the_example_with_everything_line_by_line(everything: tuple[Plan, Estimate]) -> None:
    found = rows(everything[1])
    assert found == {
        "EKS control plane": ("1", "0.10", "73.00", "73.00"),
        "NAT gateways": ("1", "0.045", "32.85", "32.85"),
        "public addresses of NAT gateways": ("1", "0.005", "3.65", "3.65"),
        "KMS key of the cluster": ("1", "1", "1.00", "1.00"),
        "nodes of controllers": ("2", "0.1008", "147.17", "220.75"),
        "disks of nodes of controllers": ("100", "0.08", "8.00", "12.00"),
        "nodes of everything else": ("4", "0.192", "560.64", "11127.74"),  # 263 vCPU x 0.05796 x 730
        "nodes of the model general": ("1", "0.400033", "292.02", "22978.88"),  # 31.47792 x 730
        "nodes of the model code": ("0", "0.400033", "0.00", "9574.53"),  # 13.1158 x 730
        "nodes of the model vision": ("1", "0.400033", "292.02", "9574.53"),
        "nodes of the model large": ("1", "21.957642", "16029.08", "65987.28"),  # 90.39354 x 730
        "nodes of the model giant": ("2", "27.44705", "40072.69", "80358.40"),  # 2 nodes; 110.08 x 730
        "nodes that train": ("0", "21.957642", "0.00", "32058.16"),  # 2 x 21.957642 x 730
        "disks of nodes": ("2700", "0.08", "216.00", "1624.00"),
        "volumes of Redis": ("48", "0.08", "3.84", "3.84"),  # 3 of 16 GiB
        "RDS of the ledger": ("2", "0.065", "94.90", "94.90"),
        "storage of RDS": ("100", "0.115", "11.50", "115.00"),  # 50 to 500 GiB, twice
        "Application Load Balancer": ("1", "0.0225", "16.42", "16.42"),
        "its public addresses": ("3", "0.005", "10.95", "10.95"),
        "Network Load Balancer of the WebSocket API": ("1", "0.0225", "16.42", "16.42"),
        "secrets in Secrets Manager": ("9", "0.40", "3.60", "3.60"),
        "KMS key of alarms": ("1", "1", "1.00", "1.00"),
        "alarms of CloudWatch": ("13", "0.10", "1.30", "1.30"),
        "dashboard of CloudWatch": ("1", "3", "3.00", "3.00"),
    }


def test_at_most_is_what_the_limits_of_the_pools_let_through(everything: tuple[Plan, Estimate]) -> None:
    plan, found = everything
    worst = {
        f"nodes of the model {pool.serves.removeprefix('model.')}": worst_usd_per_hour(plan, pool)
        for pool in plan.pools
        if pool.serves.startswith("model.")
    }
    assert len(worst) == 5
    high = {line.what: line.usd_high for line in found.lines}
    assert {what: high[what] for what in worst} == {
        what: (usd * 730).quantize(Decimal("0.01")) for what, usd in worst.items()
    }


def test_what_is_not_counted_is_named(everything: tuple[Plan, Estimate]) -> None:
    named = "\n".join(everything[1].not_included)
    for each in (
        "traffic",
        "S3",
        "CloudWatch's metrics",
        "EFS and FSx",
        "hosted",
        "WAF",
        "WebSocket",
        "reservations",
        "backups",
    ):
        assert each in named
