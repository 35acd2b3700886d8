"""The root module in the hands of Terraform. Short here: it is formatted, and one of its forms is valid. With
`make test-terraform`: every mode is valid, and is made and taken away for real against moto's server, which has nothing
left afterwards. Where there is no terraform, or no copy of its provider for AWS, this is skipped with a word."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import boto3
import pytest
from botocore.exceptions import ClientError

from stoker.aws.cloudwatch_names import PUT
from stoker.render.run import render_root
from stoker.spec import Mode, Platform, load, loads
from stoker.testing.aws import CREDENTIALS, moto_server

MODES: tuple[Mode, ...] = get_args(Mode)
EXAMPLES = Path(__file__).parents[2] / "examples"
MIRROR = "STOKER_TERRAFORM_MIRROR"
"""Environment variable: the folder that holds registry.terraform.io/hashicorp/aws. Unset: it is looked for."""

LACKS = (
    "access-entries",  # EKS of moto answers 404 to these two and to add-ons
    "addons",
    "budgets",  # the provider asks for ever
    "cluster-security-group",  # clusters have none
    "elasticache",  # subnet groups are never gone
    "fsx",  # file systems are never ready
    "kro",  # CloudFormation knows no capabilities of EKS
    "placement-group",  # not implemented
    "pod-identities",
    "redrive",  # queues forget their redrive allow policy
)
"""What `without` leaves out for moto 5.2 (docs/deploy/terraform.md)."""

STAND_IN = """\
terraform {
  backend "local" {}
}
provider "aws" {
  allowed_account_ids = null
  s3_use_path_style   = true
}
"""
"""An override file of Terraform's: moto's account is another, its buckets are folders, and the state is beside it."""
BATCH = """\
resource "aws_batch_compute_environment" "training" {
  service_role = aws_iam_role.batch_instance.arn
}
"""
"""AWS Batch has a role of its own, and moto wants to be told one."""


def everything() -> Platform:
    """The example with everything, and with what it leaves to others: ElastiCache, FSx, a budget, a state in S3."""
    text = (EXAMPLES / "everything.yaml").read_text()
    changes = {
        "storage: {enabled: true, fileSystem: fs-0123456789abcdef0, mountName: fsx, ": "storage: {enabled: true, ",
        "  architecture: replication\n": "  architecture: replication\n  elasticache: {enabled: true}\n",
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    deploy = "{stateBucket: everything-state, monthlyBudgetUsd: 900, network: {publicAccess: [203.0.113.0/24]}}"
    return loads(f"{text}\ndeploy: {deploy}\n")


def without_efa(platform: Platform) -> Platform:
    """moto's Batch wants security groups in the environment, and with EFA they are in the launch template."""
    training = platform.training.model_copy(update={"efa": False})
    return platform.model_copy(update={"training": training})


def written(folder: Path, platform: Platform, mode: Mode) -> Path:
    folder.mkdir(parents=True)
    for name, text in render_root(platform, mode=mode).items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def terraform() -> str:
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("no terraform on PATH: whether the module is formatted and valid is not known here")
    return program


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Terraform's own configuration, by which it takes its provider from this machine."""
    mirror = os.environ.get(MIRROR) or _mirror()
    if mirror is None:
        pytest.skip(f"no copy of Terraform's provider for AWS is found; {MIRROR} says where one is")
    file = tmp_path_factory.mktemp("terraform") / "settings.tfrc"
    file.write_text(f"provider_installation {{\n  filesystem_mirror {{\n    path = {json.dumps(mirror)}\n  }}\n}}\n")
    return file


def _mirror() -> str | None:
    """Folders that a package or an image may have put it into."""
    tail = Path("registry.terraform.io/hashicorp/aws")
    places = (
        *(Path.home() / ".terraform.d" / name for name in ("plugins", "plugin-cache")),
        *(Path("/usr") / name / "terraform/plugins" for name in ("share", "local/share")),
        *sorted(Path("/opt").glob("*")),
    )
    return next((str(place) for place in places if (place / tail).is_dir()), None)


def run(program: str, folder: Path, *words: str, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "TF_IN_AUTOMATION": "1", **env}
    done = subprocess.run([program, *words], cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, f"terraform {words[0]}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done


def faults(program: str, folder: Path, settings: Path) -> list[object]:
    """What `terraform validate` finds."""
    env = {"TF_CLI_CONFIG_FILE": str(settings)}
    run(program, folder, "init", "-backend=false", "-input=false", "-no-color", env=env)
    said = json.loads(run(program, folder, "validate", "-json", env=env).stdout)
    return list(said["diagnostics"])


def test_the_module_is_as_terraform_itself_formats_it(terraform: str, tmp_path: Path) -> None:
    written(tmp_path / "all" / "everything", everything(), "hybrid")
    written(tmp_path / "all" / "small", load(EXAMPLES / "platform.yaml"), "karpenter")
    badly_formatted = run(terraform, tmp_path, "fmt", "-check", "-recursive", "all", env={}).stdout
    assert badly_formatted == ""


def test_the_module_is_valid(terraform: str, settings: Path, tmp_path: Path) -> None:
    """In the mode with most in it; the others are `make test-terraform`'s."""
    assert faults(terraform, written(tmp_path / "karpenter", everything(), "karpenter"), settings) == []


@pytest.mark.terraform
@pytest.mark.parametrize("example", ["everything", "guide-values", "platform"])
@pytest.mark.parametrize("mode", MODES)
def test_every_example_is_valid_in_every_mode(
    terraform: str, settings: Path, tmp_path: Path, example: str, mode: Mode
) -> None:
    platform = everything() if example == "everything" else load(EXAMPLES / f"{example}.yaml")
    assert faults(terraform, written(tmp_path / mode, platform, mode), settings) == []


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
    with moto_server(tmp_path / "moto.log") as url:
        yield url


@pytest.mark.terraform
def test_dashboard_alarms_and_the_topic_of_alerts_are_made_and_ask_for_what_gateways_put(
    terraform: str, settings: Path, tmp_path: Path, aws: str
) -> None:
    platform = everything()
    folder = written(tmp_path / "karpenter", platform, "karpenter")
    (folder / "stand_in_override.tf").write_text(STAND_IN)
    env = {
        **CREDENTIALS,
        "TF_CLI_CONFIG_FILE": str(settings),
        "AWS_ENDPOINT_URL": aws,
        "AWS_REGION": "us-west-2",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "2",
    }
    run(terraform, folder, "init", "-input=false", "-no-color", env=env)
    wanted = ("aws_sns_topic.alerts", "aws_cloudwatch_dashboard.stoker", "aws_cloudwatch_metric_alarm.queue_general")
    targets = [f"-target={each}" for each in wanted]
    run(terraform, folder, "apply", "-auto-approve", "-input=false", "-no-color", *targets, env=env)
    cloudwatch, sns = client(aws, "cloudwatch"), client(aws, "sns")
    topics = [each["TopicArn"].rpartition(":")[2] for each in sns.list_topics()["Topics"]]
    [alarm] = cloudwatch.describe_alarms()["MetricAlarms"]
    shown = json.loads(cloudwatch.get_dashboard(DashboardName="everything-stoker")["DashboardBody"])
    cloudwatch.close()
    sns.close()
    assert "budgets-alerts" in topics
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AgenticAI/Queue", "TasksWaiting")
    assert {each["Name"] for each in alarm["Dimensions"]} == set(*PUT["AgenticAI/Queue", "TasksWaiting"])
    searched = re.findall(r"SEARCH\('\{(AgenticAI/\w+),([^}]*)\} MetricName=\\\"(\w+)\\\"", json.dumps(shown))
    assert len(searched) >= 9
    assert [each for each in searched if tuple(each[1].split(",")) not in PUT[each[0], each[2]]] == []


@pytest.mark.terraform
@pytest.mark.parametrize("mode", MODES)
def test_what_is_made_is_taken_away_whole(
    terraform: str, settings: Path, tmp_path: Path, aws: str, mode: Mode, capsys: pytest.CaptureFixture[str]
) -> None:
    before = there(aws)
    folder = written(tmp_path / mode, without_efa(everything()), mode)
    (folder / "stand_in_override.tf").write_text(STAND_IN + BATCH)
    env = {
        **CREDENTIALS,
        "TF_CLI_CONFIG_FILE": str(settings),
        "AWS_ENDPOINT_URL": aws,
        "AWS_REGION": "us-west-2",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "2",
    }
    said = [f"-var=without={json.dumps(LACKS)}", "-var=delete_data=true"]
    run(terraform, folder, "init", "-input=false", "-no-color", env=env)
    started = time.monotonic()
    run(terraform, folder, "apply", "-auto-approve", "-input=false", "-no-color", *said, env=env)
    made = time.monotonic()
    state = run(terraform, folder, "state", "list", env=env).stdout.splitlines()
    found = there(aws)
    assert found["cluster"] == ["everything"]
    assert len(found["bucket"]) == 2
    assert found["database"] == ["everything-ledger"]
    outputs = {
        key: each["value"]
        for key, each in json.loads(run(terraform, folder, "output", "-json", env=env).stdout).items()
    }
    assert outputs["cluster_name"] == "everything"
    assert outputs["buckets"]["models"] == "everything-models-111122223333"
    with pytest.raises(ClientError, match="403"):  # moto heeds the bucket's policy, and this is no TLS
        put(aws, outputs["buckets"]["models"])
    leaving = time.monotonic()
    run(terraform, folder, "destroy", "-auto-approve", "-input=false", "-no-color", *said, env=env)
    gone = time.monotonic()
    assert run(terraform, folder, "state", "list", env=env).stdout == ""
    assert there(aws) == before
    with capsys.disabled():
        sys.stderr.write(f"\n{mode}: {len(state)} in {made - started:.0f} s, gone in {gone - leaving:.0f} s\n")


def client(url: str, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-west-2",
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )


def put(url: str, bucket: str) -> None:
    client(url, "s3").put_object(Bucket=bucket, Key="general/model.safetensors", Body=b"weights")


def there(url: str) -> dict[str, list[str]]:
    """Whatever the module makes, by kind, as AWS says it and not as the state does."""
    ec2, iam, logs = client(url, "ec2"), client(url, "iam"), client(url, "logs")
    keys = client(url, "kms")
    alive = [
        each["KeyId"]
        for each in keys.list_keys()["Keys"]
        if keys.describe_key(KeyId=each["KeyId"])["KeyMetadata"]["KeyState"] != "PendingDeletion"
    ]
    found = {
        "bucket": [each["Name"] for each in client(url, "s3").list_buckets()["Buckets"]],
        "cluster": client(url, "eks").list_clusters()["clusters"],
        "database": [
            each["DBInstanceIdentifier"] for each in client(url, "rds").describe_db_instances()["DBInstances"]
        ],
        "environment": [
            each["computeEnvironmentName"]
            for each in client(url, "batch").describe_compute_environments()["computeEnvironments"]
        ],
        "group": [each["GroupName"] for each in ec2.describe_security_groups()["SecurityGroups"]],
        "key": alive,
        "log": [each["logGroupName"] for each in logs.describe_log_groups()["logGroups"]],
        "nat": [
            each["NatGatewayId"] for each in ec2.describe_nat_gateways()["NatGateways"] if each["State"] != "deleted"
        ],
        "policy": [each["PolicyName"] for each in iam.list_policies(Scope="Local")["Policies"]],
        "profile": [each["InstanceProfileName"] for each in iam.list_instance_profiles()["InstanceProfiles"]],
        "queue": client(url, "sqs").list_queues().get("QueueUrls", []),
        "repository": [each["repositoryName"] for each in client(url, "ecr").describe_repositories()["repositories"]],
        "role": [each["RoleName"] for each in iam.list_roles()["Roles"]],
        "rule": [each["Name"] for each in client(url, "events").list_rules()["Rules"]],
        "secret": [each["Name"] for each in client(url, "secretsmanager").list_secrets()["SecretList"]],
        "snapshot": [
            each["DBSnapshotIdentifier"] for each in client(url, "rds").describe_db_snapshots()["DBSnapshots"]
        ],
        "template": [each["LaunchTemplateName"] for each in ec2.describe_launch_templates()["LaunchTemplates"]],
        "topic": [each["TopicArn"] for each in client(url, "sns").list_topics()["Topics"]],
        "vpc": [each["VpcId"] for each in ec2.describe_vpcs()["Vpcs"]],
        "address": [each["AllocationId"] for each in ec2.describe_addresses()["Addresses"]],
    }
    return {kind: sorted(names) for kind, names in found.items()}
