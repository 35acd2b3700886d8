"""The root module of Terraform, as text: what is there by mode and by key, who may do what, and that the objects which
go with it name the same things. That Terraform takes it is tests/deploy/test_root_module.py."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import strategies
import whole_terraform
import yaml
from effort import examples
from hypothesis import HealthCheck, Phase, given, settings
from whole import Output
from whole_checks import all_problems

from stoker.base.errors import InvalidInput
from stoker.render import folder
from stoker.render.components import COMPONENTS
from stoker.render.hcl import Json, Raw
from stoker.render.items import Resource, Terraform
from stoker.render.plan import Plan
from stoker.render.root import findings, modules
from stoker.render.root.file_systems import capacity_gib
from stoker.render.root.outputs import filled_in
from stoker.render.root.without import PARTS, left_out, part_of
from stoker.render.run import render, render_root
from stoker.spec import Mode, loads

MODES: tuple[Mode, ...] = get_args(Mode)
EXAMPLES = Path(__file__).parents[2] / "examples"
ACCOUNT = '  account: "111122223333"\n'
EVERYTHING = (EXAMPLES / "everything.yaml").read_text()
FILE_SYSTEM = "fileSystem: fs-0123456789abcdef0, mountName: fsx, "


@cache
def root(text: str = "{}", mode: Mode = "karpenter") -> dict[str, str]:
    return render_root(loads(text), mode=mode)


@cache
def objects_of(text: str, mode: Mode = "karpenter") -> dict[str, str]:
    """Those that go with it."""
    return render(loads(text), mode=mode, aws="terraform")


def resources(texts: dict[str, str]) -> set[str]:
    """TYPE.NAME of each."""
    return {
        f"{kind}.{name}" for kind, name in re.findall(r'^resource "(\S+)" "(\S+)"', "\n".join(texts.values()), re.M)
    }


def block(texts: dict[str, str], kind: str, name: str) -> str:
    found = re.search(rf'^resource "{kind}" "{name}" {{\n(.*?)^}}', "\n".join(texts.values()), re.M | re.S)
    assert found is not None, f"{kind}.{name} is not there"
    return found[1]


def attributes(texts: dict[str, str], kind: str, name: str) -> dict[str, str]:
    """Those of one line, its blocks' among them, each with its value as it is written."""
    return dict(re.findall(r"^ *(\w+) += +(.*)$", block(texts, kind, name), re.M))


def plain(value: Any) -> Any:
    """What was written, with expressions as their text."""
    match value:
        case Raw(text):
            return text
        case Json(inner):
            return plain(inner)
        case dict():
            return {key: plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
    return value


@cache
def statements(mode: Mode) -> list[tuple[str, dict[str, Any]]]:
    """All that allow something, with the resource that they stand in."""
    found = []
    for item in modules.render(Plan(loads(EVERYTHING), mode, "terraform")):
        if isinstance(item, Terraform) and item.block.type == "resource":
            for key in ("policy", "assume_role_policy"):
                policy = plain(item.block.attributes.get(key))
                policy = json.loads(policy) if isinstance(policy, str) and '"Statement"' in policy else policy
                if isinstance(policy, dict) and "Statement" in policy:
                    found += [(".".join(item.block.labels), each) for each in policy["Statement"]]
    return found


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


class TestWhole:
    """Nothing refers to what is not there, and no variable is asked for in vain."""

    @pytest.mark.parametrize(
        ("example", "mode"),
        [*(("everything", mode) for mode in MODES), ("guide-values", "auto"), ("platform", "hybrid")],
    )
    def test_an_example_is_whole(self, example: str, mode: Mode) -> None:
        texts = root((EXAMPLES / f"{example}.yaml").read_text(), mode)
        assert list(whole_terraform.problems(Output(texts))) == []
        assert all("/" not in name and name.endswith(".tf") for name in texts)

    @given(case=strategies.cases())
    @settings(
        max_examples=examples(4),
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def test_any_spec_is_whole(self, case: tuple[dict[str, Any], Mode]) -> None:
        spec, mode = case
        cluster = spec.get("global", {}).get("cluster", {})
        if len(cluster.get("zones", ())) == 1:  # too few for a cluster of ours
            del cluster["zones"]
        text = yaml.safe_dump(spec, sort_keys=False)
        try:
            texts = root(text, mode)
        except InvalidInput:
            return
        assert list(whole_terraform.problems(Output(texts))) == [], text

    def test_every_variable_has_a_default(self) -> None:
        """`terraform apply` asks for nothing."""
        variables = root(EVERYTHING)["variables.tf"].split('\nvariable "')[1:]
        assert len(variables) == 7
        assert [each.partition('"')[0] for each in variables if "\n  default " not in each] == []


class TestModes:
    def test_karpenter_has_a_node_group_for_controllers_and_two_controllers_roles(self) -> None:
        there = resources(root(mode="karpenter"))
        assert {
            "aws_eks_node_group.controllers",
            "aws_iam_role.karpenter",
            "aws_iam_role.karpenter_node",
            "aws_eks_access_entry.karpenter_node",
            "aws_sqs_queue.interruption",
            "aws_iam_role.load_balancer_controller",
            "aws_eks_addon.vpc_cni",
            "aws_eks_addon.ebs_csi_driver",
        } <= there
        assert "aws_iam_role.auto_node" not in there
        assert "compute_config" not in root(mode="karpenter")["eks.tf"]

    @pytest.mark.parametrize(
        ("mode", "names"),
        [
            (
                "karpenter",
                "aws-ebs-csi-driver aws-fsx-csi-driver coredns eks-pod-identity-agent kube-proxy "
                "metrics-server vpc-cni",
            ),
            ("auto", "aws-fsx-csi-driver metrics-server"),
            (
                "hybrid",
                "aws-fsx-csi-driver coredns eks-pod-identity-agent kube-proxy metrics-server vpc-cni",
            ),
        ],
    )
    def test_add_ons_are_those_that_the_mode_does_not_bring(self, mode: Mode, names: str) -> None:
        texts = root(EVERYTHING, mode)
        assert sorted(re.findall(r'^ +addon_name +=\s"(.*)"$', texts["addons.tf"], re.M)) == names.split()

    @pytest.mark.parametrize("mode", ["karpenter", "hybrid"])
    def test_the_cni_holds_pods_to_network_policies(self, mode: Mode) -> None:
        cni = block(root(mode=mode), "aws_eks_addon", "vpc_cni")
        said = re.search(r"configuration_values +=\sjsonencode\((.*?)\)$", cni, re.M | re.S)
        assert said is not None
        assert said[1].split() == ["{", "enableNetworkPolicy", "=", '"true"', "}"]

    @pytest.mark.parametrize("mode", MODES)
    def test_a_version_that_aws_no_longer_has_in_standard_support_is_not_paid_six_times_as_much_for(
        self, mode: Mode
    ) -> None:
        assert attributes(root(mode=mode), "aws_eks_cluster", "main")["support_type"] == '"STANDARD"'

    def test_auto_mode_has_no_nodes_of_its_own_and_no_controllers_roles(self) -> None:
        there = resources(root(mode="auto"))
        assert {
            each for each in there if "karpenter" in each or "node_group" in each or "interruption" in each
        } == set()
        assert {each for each in there if each.startswith("aws_eks_addon.")} == {"aws_eks_addon.metrics_server"}
        assert "aws_iam_role.load_balancer_controller" not in there
        cluster = block(root(mode="auto"), "aws_eks_cluster", "main")
        assert 'node_pools    = ["general-purpose", "system"]' in cluster
        assert "aws_iam_role.auto_node.arn" in cluster

    def test_hybrid_has_both_kinds_of_nodes(self) -> None:
        texts = root(mode="hybrid")
        there = resources(texts)
        assert {
            "aws_iam_role.auto_node",
            "aws_iam_role.karpenter_node",
            "aws_iam_role.karpenter",
            "aws_eks_addon.vpc_cni",
            "aws_eks_addon.pod_identity_agent",
        } <= there
        assert there & {"aws_eks_node_group.controllers", "aws_eks_addon.ebs_csi_driver"} == set()
        assert 'name = "KarpenterNodeRole-agentic-ai-cluster-auto"' in re.sub(
            " +", " ", block(texts, "aws_iam_role", "auto_node")
        )

    def test_nodes_ask_for_metadata_with_a_token_and_have_encrypted_volumes(self) -> None:
        template = block(root(), "aws_launch_template", "controllers")
        assert re.search(r'http_tokens +=\s"required"', template)
        assert re.search(r"http_put_response_hop_limit = 1", template)
        assert re.search(r"encrypted +=\strue", template)
        assert "remote_access" not in "\n".join(root().values())


class TestNetwork:
    def test_nobody_reaches_the_api_from_outside_unless_the_file_says_who(self) -> None:
        cluster = block(root(), "aws_eks_cluster", "main")
        assert "endpoint_private_access = true" in cluster
        assert "endpoint_public_access  = false" in cluster
        assert "public_access_cidrs" not in cluster
        named = block(root("deploy: {network: {publicAccess: [203.0.113.0/24]}}"), "aws_eks_cluster", "main")
        assert "endpoint_public_access  = true" in named
        assert 'public_access_cidrs     = ["203.0.113.0/24"]' in named

    def test_one_nat_gateway_or_one_for_each_zone(self) -> None:
        one = root("global: {cluster: {zones: [us-west-2a, us-west-2d]}}")
        each = root("global: {cluster: {zones: [us-west-2a, us-west-2d]}}\ndeploy: {network: {natPerZone: true}}")
        assert 'for_each      = toset(["us-west-2a"])' in block(one, "aws_nat_gateway", "main")
        assert 'aws_nat_gateway.main["us-west-2a"].id' in block(one, "aws_route", "private")
        assert 'for_each      = toset(["us-west-2a", "us-west-2d"])' in block(each, "aws_nat_gateway", "main")
        assert "aws_nat_gateway.main[each.key].id" in block(each, "aws_route", "private")

    @pytest.mark.parametrize("zones", ["us-west-2b", "us-west-2b, us-west-2b"])
    def test_one_zone_is_too_few_for_eks(self, zones: str) -> None:
        text = f"global: {{cluster: {{zones: [{zones}]}}}}"
        with pytest.raises(InvalidInput) as refused:
            root(text)
        assert str(refused.value) == (
            "global.cluster.zones has us-west-2b alone; EKS takes subnets in at least 2 zones"
        )
        assert refused.value.param == "global.cluster.zones"
        assert refused.value.hint == (
            "name another zone of us-west-2 beside it; nodes stay in one by karpenter.nodePools.*.zones"
        )
        assert render(loads(text), aws="terraform")  # objects for a cluster that is there

    def test_subnets_are_tagged_for_who_looks_for_them(self) -> None:
        texts = root()
        assert '"kubernetes.io/role/internal-elb" = "1"' in block(texts, "aws_subnet", "private")
        assert re.search(r'"karpenter.sh/discovery" +=\s"agentic-ai-cluster"', block(texts, "aws_subnet", "private"))
        assert re.search(r'"kubernetes.io/role/elb" +=\s"1"', block(texts, "aws_subnet", "public"))
        assert "karpenter.sh/discovery" not in block(texts, "aws_subnet", "public")

    def test_what_components_ask_for_is_the_modules_own(self) -> None:
        texts = root(EVERYTHING.replace("  architecture: replication", "  elasticache: {enabled: true}"))
        assert "aws_vpc.main.id" in block(texts, "aws_security_group", "redis")
        assert "aws_security_group.nodes.id" in block(texts, "aws_vpc_security_group_ingress_rule", "redis")
        # Nodes of a multi-node job are in the zone of their pool.
        assert '[aws_subnet.private["us-west-2b"].id]' in block(texts, "aws_batch_compute_environment", "training")
        assert 'variable "vpc_id"' not in texts["variables.tf"]


class TestRights:
    """Who may do what. `*` as a resource stands only where AWS takes nothing else, and each of those is named here."""

    WHOLE = frozenset(
        (
            "acm:ListCertificates",  # of lists and of what is looked at there is no smaller part
            "acm:DescribeCertificate",
            "cloudwatch:GetMetricData",
            "cloudwatch:GetMetricStatistics",
            "cloudwatch:PutMetricData",  # held to namespaces by a condition
            "iam:ListInstanceProfiles",
            "pricing:GetProducts",
            "shield:GetSubscriptionState",
        )
    )

    @pytest.mark.parametrize("mode", MODES)
    def test_no_action_is_a_wildcard(self, mode: Mode) -> None:
        allowed = [(where, each) for where, each in statements(mode) if each["Effect"] == "Allow"]
        assert len(allowed) > 30
        assert [(where, each) for where, each in allowed if any("*" in one for one in listed(each["Action"]))] == []
        assert [where for where, each in allowed if each.get("Principal") in ("*", {"AWS": "*"})] == []

    @pytest.mark.parametrize("mode", MODES)
    def test_all_resources_are_meant_only_where_aws_takes_no_smaller_part(self, mode: Mode) -> None:
        found = set()
        for where, each in statements(mode):
            of_key = where.startswith("aws_kms_key.")  # the * of a key's policy is the key itself
            if each["Effect"] == "Allow" and "*" in listed(each.get("Resource", "")) and not of_key:
                found |= set(listed(each["Action"]))
        looking = {each for each in found if re.match(r"(ec2|elasticloadbalancing):(Describe|Get)", each)}
        assert found - looking - self.WHOLE == set()

    def test_karpenter_ends_only_instances_of_its_cluster(self) -> None:
        ends = [each for _, each in statements("karpenter") if each.get("Sid") == "EndOwn"]
        account = "${data.aws_caller_identity.current.account_id}"
        assert ends == [
            {
                "Sid": "EndOwn",
                "Effect": "Allow",
                "Action": ["ec2:TerminateInstances", "ec2:DeleteLaunchTemplate"],
                "Resource": [
                    f"arn:aws:ec2:us-west-2:{account}:instance/*",
                    f"arn:aws:ec2:us-west-2:{account}:launch-template/*",
                ],
                "Condition": {
                    "StringEquals": {"aws:ResourceTag/kubernetes.io/cluster/everything": "owned"},
                    "StringLike": {"aws:ResourceTag/karpenter.sh/nodepool": "*"},
                },
            }
        ]

    @pytest.mark.parametrize("mode", ["karpenter", "hybrid"])
    def test_karpenter_passes_its_nodes_role_to_ec2_alone(self, mode: Mode) -> None:
        passes = [
            each
            for where, each in statements(mode)
            if where == "aws_iam_role_policy.karpenter" and "iam:PassRole" in listed(each["Action"])
        ]
        services = ["ec2.amazonaws.com", "ec2.amazonaws.com.cn"]
        assert passes == [
            {
                "Sid": "GiveNodesTheirRole",
                "Effect": "Allow",
                "Action": ["iam:PassRole"],
                "Resource": ["aws_iam_role.karpenter_node.arn"],
                "Condition": {"StringEquals": {"iam:PassedToService": services}},
            }
        ]

    def test_a_role_is_for_one_service_account(self) -> None:
        trust = dict(each for each in statements("karpenter") if each[0] == "aws_iam_role.karpenter")[
            "aws_iam_role.karpenter"
        ]
        assert trust["Principal"] == {"Service": "pods.eks.amazonaws.com"}
        assert trust["Condition"]["StringEquals"] == {
            "aws:RequestTag/eks-cluster-name": "everything",
            "aws:RequestTag/kubernetes-namespace": "kube-system",
            "aws:RequestTag/kubernetes-service-account": "karpenter",
        }


class TestAgreement:
    """The objects of `render(..., aws="terraform")` name what the module makes."""

    def test_objects_and_module_are_whole_together(self, tmp_path: Path) -> None:
        """All that is checked of the objects of ACK's way: references, names, places, metrics, and the linter."""
        module = {f"terraform/{name}": text for name, text in root(EVERYTHING).items()}
        output = Output({**objects_of(EVERYTHING), **module})
        folder.write(tmp_path, output.texts)
        assert all_problems(output, str(tmp_path)) == []

    def test_no_other_component_has_terraform(self) -> None:
        plan = Plan(loads(EVERYTHING), "hybrid", "terraform")
        found = {
            name
            for name, component in COMPONENTS.items()
            if not all(isinstance(item, Resource) for item in component(plan))
        }
        assert found == {"interruption", "edge", "cloudwatch", "batch", "aws"}
        assert found <= set(modules.COMPONENTS_OF_TERRAFORM)

    def test_every_secret_that_is_copied_is_made(self) -> None:
        objects = objects_of(EVERYTHING)
        wanted = set(re.findall(r"^ +key: (everything/\S+)$", objects["base/secrets.yaml"], re.M))
        made = set(re.findall(r'name += "(everything/[^"]+)"', "\n".join(root(EVERYTHING).values())))
        assert "everything/ledger" in wanted
        assert wanted <= made

    def test_node_classes_name_the_roles(self) -> None:
        for mode in ("karpenter", "hybrid"):
            objects = "\n".join(objects_of(EVERYTHING, mode).values())
            named = set(re.findall(r"^  role: (\S+)$", objects, re.M))
            texts = root(EVERYTHING, mode)
            made = {
                re.search(r'name += "(.*)"', block(texts, "aws_iam_role", each))[1]  # type: ignore[index]
                for each in ("karpenter_node", "auto_node")
                if f"aws_iam_role.{each}" in resources(texts)
            }
            assert named == made, mode

    def test_roles_buckets_repositories_and_the_queue_are_acks(self) -> None:
        """By whichever way they are made, they are called the same."""
        by_ack = "\n".join(text for name, text in render(loads(EVERYTHING)).items() if name.startswith("aws/"))
        texts = "\n".join(root(EVERYTHING).values())
        for name in (
            "everything-models-111122223333",
            "everything-checkpoints-111122223333",
            "stoker/gateway",
            "stoker/trainer",
            "stoker-dead-letters",
            "everything-models-us-west-2",
            "everything-keda-operator-us-west-2",
            "everything-pipeline-us-west-2",
            "everything-ebs-csi-controller-us-west-2",
        ):
            assert name in by_ack
            assert f'"{name}"' in texts, name

    def test_nothing_is_made_twice(self) -> None:
        objects = objects_of(EVERYTHING)
        made = {
            yaml_object["apiVersion"].partition("/")[0]
            for name, text in objects.items()
            if name.endswith(".yaml")
            for yaml_object in yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        }
        assert {group for group in made if group.endswith("services.k8s.aws")} == {"sagemaker.services.k8s.aws"} & made

    def test_the_ledgers_address_is_in_its_secret(self) -> None:
        text = 'composition: {ack: {rds: true}}\nglobal: {cluster: {account: "111122223333"}}'
        texts = root(text)
        password = 'jsondecode(ephemeral.aws_secretsmanager_secret_version.ledger-auth.secret_string)["password"]'
        assert password in block(texts, "aws_db_instance", "ledger")
        assert re.search(r"address  = aws_db_instance.ledger.address", texts["rds.tf"])
        objects = render(loads(text), aws="terraform")
        assert "ledger/rds.yaml" not in objects
        gateway = yaml.safe_load_all(objects["gateway/gateway.yaml"])
        env = next(each for each in gateway if each["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"][
            0
        ]["env"]
        host = next(each for each in env if each["name"] == "STOKER_LEDGER_HOST")
        assert host["valueFrom"] == {"secretKeyRef": {"name": "ledger", "key": "address"}}
        assert "property: address" in objects["base/secrets.yaml"]


class TestData:
    def test_data_stays_unless_somebody_says_that_it_goes(self) -> None:
        texts = root(EVERYTHING)
        assert re.search(r'variable "delete_data" {\n.*\n.*\n  default     = false', texts["variables.tf"])
        assert "force_destroy = var.delete_data" in block(texts, "aws_s3_bucket", "models")
        assert re.search(r"force_delete +=\svar.delete_data", block(texts, "aws_ecr_repository", "gateway"))
        database = block(texts, "aws_db_instance", "ledger")
        assert re.search(r"skip_final_snapshot +=\svar.delete_data$", database, re.M)
        secrets = re.findall(r'^resource "aws_secretsmanager_secret" .*?^}', "\n".join(texts.values()), re.M | re.S)
        assert len(secrets) == 10
        assert [each for each in secrets if "= var.delete_data ? 0 : 7\n" not in each] == []

    def test_a_database_can_be_destroyed_and_leaves_a_snapshot_of_a_name_of_its_own(self) -> None:
        texts = root(EVERYTHING)
        database = attributes(texts, "aws_db_instance", "ledger")
        assert database["deletion_protection"] == "false"
        reason = findings.REASONS["aws_db_instance.ledger"]["CKV_AWS_293"]
        assert f"  #checkov:skip=CKV_AWS_293:{reason}\n" in block(texts, "aws_db_instance", "ledger")
        name = '"everything-ledger-last-${substr(terraform_data.ledger.id, 0, 8)}"'
        assert database["final_snapshot_identifier"] == name
        assert "terraform_data.ledger" in resources(texts)
        assert database["storage_encrypted"] == "true"

    def test_a_bucket_is_private_versioned_encrypted_and_spoken_to_by_tls(self) -> None:
        texts = root(EVERYTHING)
        assert block(texts, "aws_s3_bucket_public_access_block", "models").count("= true") == 4
        assert 'status = "Enabled"' in block(texts, "aws_s3_bucket_versioning", "models")
        assert 'sse_algorithm = "aws:kms"' in block(
            texts, "aws_s3_bucket_server_side_encryption_configuration", "models"
        )
        assert '"aws:SecureTransport" = "false"' in block(texts, "aws_s3_bucket_policy", "models")
        assert "noncurrent_days = 30" in block(texts, "aws_s3_bucket_lifecycle_configuration", "models")

    def test_a_file_system_is_made_where_the_file_names_none(self) -> None:
        own = EVERYTHING.replace(FILE_SYSTEM, "")
        assert own != EVERYTHING
        assert "fsx.tf" not in root(EVERYTHING)
        texts = root(own)
        made = block(texts, "aws_fsx_lustre_file_system", "training")
        assert re.search(r"storage_capacity +=\s4800", made)
        assert '[aws_subnet.private["us-west-2b"].id]' in made
        assert "one(aws_fsx_lustre_file_system.training[*].id)" in texts["outputs.tf"]
        with pytest.raises(InvalidInput, match=r"training\.storage\.fileSystem is null") as refused:
            render(loads(own))
        assert "write the id" in str(refused.value.hint)
        volumes = render(loads(own), aws="terraform")["training/data.yaml"]
        assert "kind: PersistentVolumeClaim" in volumes
        assert "kind: PersistentVolume\n" not in volumes
        made = {"training_file_system": {"id": "fs-00112233445566778", "mount_name": "abcdefgh"}}
        volumes = render(filled_in(loads(own), made), aws="terraform")["training/data.yaml"]
        assert "volumeHandle: fs-00112233445566778" in volumes
        assert "mountname: abcdefgh" in volumes
        assert filled_in(loads(own), {}) == loads(own)

    @pytest.mark.parametrize(
        ("size", "gib"), [("1Gi", 1200), ("1200Gi", 1200), ("1201Gi", 2400), ("4800Gi", 4800), ("5Ti", 7200)]
    )
    def test_the_size_is_one_that_fsx_has(self, size: str, gib: int) -> None:
        assert capacity_gib(size) == gib


class TestWithout:
    def test_a_part_that_is_left_out_leaves_nothing_that_needs_it(self) -> None:
        texts = root(EVERYTHING.replace("  architecture: replication", "  elasticache: {enabled: true}"))
        group = block(texts, "aws_elasticache_replication_group", "redis")
        assert re.search(r'^  count +=\scontains\(var.without, "elasticache"\) \? 0 : 1$', group, re.M)
        assert "aws_elasticache_parameter_group.redis[0].name" in group
        secret = block(texts, "aws_secretsmanager_secret_version", "redis")
        assert "aws_elasticache_replication_group.redis[0].primary_endpoint_address" in secret
        environment = block(texts, "aws_batch_compute_environment", "training")
        assert "one(aws_placement_group.training[*].name)" in environment

    def test_each_part_is_named_in_the_variable_and_has_something_in_it(self) -> None:
        text = EVERYTHING.replace(FILE_SYSTEM, "").replace(
            "  architecture: replication", "  elasticache: {enabled: true}"
        )
        texts = root(text + "\ndeploy: {monthlyBudgetUsd: 900}\n")
        parts = {part_of(*each.split(".", 1)) for each in resources(texts)} - {None}
        assert parts == set(PARTS)
        said = next(line for line in texts["variables.tf"].splitlines() if "Parts that are left out" in line)
        assert [part for part in PARTS if f"{part} (" not in said] == []

    def test_a_resource_of_no_part_is_as_it_was(self) -> None:
        items = list(modules.render(Plan(loads("{}"), "auto", "terraform")))
        assert list(left_out(left_out([]))) == []
        vpc = next(each for each in items if isinstance(each, Terraform) and each.block.labels == ("aws_vpc", "main"))
        assert "count" not in vpc.block.attributes


class TestSettings:
    def test_the_state_is_a_file_or_a_bucket_with_a_lock(self) -> None:
        assert 'backend "local" {}' in root()["versions.tf"]
        versions = re.sub(" +", " ", root("deploy: {stateBucket: our-state}")["versions.tf"])
        assert 'bucket = "our-state"' in versions
        assert 'key = "agentic-ai-cluster/terraform.tfstate"' in versions
        assert "use_lockfile = true" in versions

    def test_the_account_of_the_file_is_the_only_one(self) -> None:
        named = root('global: {cluster: {account: "111122223333"}}')["providers.tf"]
        assert 'allowed_account_ids = ["111122223333"]' in named
        assert "allowed_account_ids" not in root()["providers.tf"]

    def test_a_budget_tells_the_address_of_alarms(self) -> None:
        text = "deploy: {monthlyBudgetUsd: 900}\nglobal: {observability: {alarmEmail: a@example.com}}"
        budget = block(root(text), "aws_budgets_budget", "monthly")
        assert re.findall(r"threshold +=\s(\d+)", budget) == ["80", "100"]
        assert budget.count('["a@example.com"]') == 2
        assert "budgets.tf" not in root()

    def test_what_is_not_mended_has_its_reason_beside_it(self) -> None:
        bucket = block(root(EVERYTHING), "aws_s3_bucket", "models")
        reason = findings.REASONS["aws_s3_bucket.models"]["CKV_AWS_144"]
        assert f"  #checkov:skip=CKV_AWS_144:{reason}\n" in bucket
        open_ = "deploy: {network: {publicAccess: [203.0.113.0/24]}}"
        assert "checkov:skip" not in block(root(), "aws_eks_cluster", "main")
        assert "#checkov:skip=CKV_AWS_39:" in block(root(open_), "aws_eks_cluster", "main")
