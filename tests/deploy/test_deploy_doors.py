"""The doors to what is outside: Terraform's plans, Helm's releases, who asks AWS, and the programs themselves."""

import base64
import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from stoker.aws import identity
from stoker.base.errors import InvalidInput, NotPermitted
from stoker.deploy import helm, programs, terraform
from stoker.deploy.site import Site, own_kubeconfig
from stoker.deploy.terraform import ResourceChange, read_plan
from stoker.render.plan import Plan
from stoker.spec import loads
from stoker.testing.aws import CREDENTIALS, moto_server
from stoker.testing.kubernetes import ApiServer, api_server
from stoker.testing.kubernetes.helm import HelmStandIn, write_helm

ACCOUNT = "123456789012"  # moto's
SPEC = f'global: {{cluster: {{name: prod, region: us-west-2, account: "{ACCOUNT}"}}}}'


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class TestPrograms:
    def test_one_that_is_not_there_is_named_with_the_version_that_is_wanted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(InvalidInput, match="helm is not on PATH") as caught:
            helm.program()
        assert caught.value.hint == "install helm 3.14 or later"

    def test_one_that_is_too_old(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program(tmp_path, "helm", "echo v3.9.1+gabc")
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        with pytest.raises(InvalidInput, match=r"helm is v3\.9\.1"):
            helm.program()

    def test_what_it_said_is_in_the_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program(tmp_path, "helm", 'if [ "$1" = version ]; then echo v4.0.0; else echo "no such chart" >&2; exit 3; fi')
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        with pytest.raises(programs.ProgramFailed, match=r"helm list failed \(3\):\nno such chart"):
            helm.program().output("list")


class TestTerraformPlans:
    def test_what_would_be_made_changed_replaced_and_what_has_drifted(self) -> None:
        def change(address: str, *actions: str, mode: str = "managed") -> dict[str, Any]:
            return {"address": address, "type": address.split(".")[0], "mode": mode, "change": {"actions": actions}}

        shown = {
            "resource_changes": [
                change("aws_vpc.this", "create"),
                change("aws_eks_cluster.this", "update"),
                change("aws_subnet.a", "delete", "create"),
                change("aws_subnet.b", "create", "delete"),
                change("aws_iam_role.old", "delete"),
                change("aws_kms_key.same", "no-op"),
                change("data.aws_caller_identity.me", "read", mode="data"),
            ],
            "resource_drift": [change("aws_security_group.nodes", "update")],
        }
        plan = read_plan(shown, Path("plan"))
        assert plan.changes == (
            ResourceChange("aws_vpc.this", "aws_vpc", "create"),
            ResourceChange("aws_eks_cluster.this", "aws_eks_cluster", "update"),
            ResourceChange("aws_subnet.a", "aws_subnet", "replace"),
            ResourceChange("aws_subnet.b", "aws_subnet", "replace"),
            ResourceChange("aws_iam_role.old", "aws_iam_role", "delete"),
        )
        assert plan.drift == (ResourceChange("aws_security_group.nodes", "aws_security_group", "update"),)
        assert plan.count("replace") == 2

    @pytest.mark.parametrize(
        ("says", "expected"),
        [
            (
                json.dumps(
                    {
                        "@level": "error",
                        "@message": "Error: creating VPC",
                        "diagnostic": {"address": "aws_vpc.main", "detail": "no more than five. " + "x" * 5000},
                    }
                ),
                "terraform apply failed:\nError: creating VPC (aws_vpc.main): no more than five. x",
            ),
            (
                "Error: Failed to load the plan",
                "terraform apply failed:\nterraform apply failed (1):\nError: Failed to load",
            ),
        ],
        ids=["of a resource, at length", "of Terraform itself"],
    )
    def test_why_an_apply_failed_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, expected: str
    ) -> None:
        program(tmp_path, "terraform", f'if [ "$1" = version ]; then echo 1.11.4; else cat {tmp_path}/said; exit 1; fi')
        (tmp_path / "said").write_text(says + "\n")
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        heard: list[str] = []
        with pytest.raises(programs.ProgramFailed) as caught:
            terraform.find({}, tmp_path).apply(read_plan({}, tmp_path / "plan"), heard.append)
        assert caught.value.message.startswith(expected)
        assert len(caught.value.message) < 800

    def test_further_variables_are_a_json_object(self) -> None:
        assert terraform.variables_of('{"without": ["budgets"]}') == {"without": ["budgets"]}
        assert terraform.variables_of(None) == {}
        with pytest.raises(InvalidInput, match="must be a JSON object"):
            terraform.variables_of("without=budgets")


@dataclass(frozen=True)
class Keda:
    name: str = "keda"
    chart: str = "keda"
    repository: str | None = "https://kedacore.github.io/charts"
    version: str = "2.20.2"
    namespace: str = "keda"
    values: Mapping[str, Any] = field(default_factory=lambda: {"operator": {"replicaCount": 2}})


class TestHelm:
    @pytest.fixture
    def server(self) -> Iterator[ApiServer]:
        with api_server(installed=()) as found:
            yield found

    @pytest.fixture
    def stand_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HelmStandIn:
        found = write_helm(tmp_path / "bin", {"keda": ["keda.sh"]})
        monkeypatch.setenv("PATH", f"{found.folder}:/bin:/usr/bin")
        return found

    def test_a_controller_is_installed_once_and_brings_its_kinds(
        self, server: ApiServer, stand_in: HelmStandIn, tmp_path: Path
    ) -> None:
        door = helm.find(server.kubeconfig(tmp_path / "kubeconfig"), "stand-in", 60)
        assert door.releases() == []
        door.install(Keda(), None)
        (release,) = door.releases()
        assert release == helm.Release("keda", "keda", "keda-2.20.2", "deployed")
        assert server.get("CustomResourceDefinition", "scaledobjects.keda.sh") is not None
        words = next(each for each in stand_in.changing if each[0] == "upgrade")
        assert words[:6] == ["upgrade", "--install", "keda", "keda", "--version", "2.20.2"]
        assert {"--wait", "--create-namespace"} <= set(words)
        values = Path(words[words.index("-f") + 1])
        assert not values.exists()  # it was for Helm alone
        door.uninstall("keda", "keda")
        door.uninstall("keda", "keda")  # whether or not it is there
        assert door.releases() == []

    def test_one_that_was_ended_in_the_middle_is_taken_back_first(
        self, server: ApiServer, stand_in: HelmStandIn, tmp_path: Path
    ) -> None:
        door = helm.find(server.kubeconfig(tmp_path / "kubeconfig"), "stand-in", 60)
        stand_in.fail(1, "middle")
        with pytest.raises(programs.ProgramFailed):
            door.install(Keda(), None)
        (release,) = door.releases()
        assert release.is_interrupted
        door.install(Keda(), release)
        assert [(each.name, each.status) for each in door.releases()] == [("keda", "deployed")]
        assert [each[0] for each in stand_in.changing] == ["upgrade", "uninstall", "upgrade"]


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto_server(tmp_path_factory.mktemp("moto") / "log") as url:
        yield url


class TestWhoAsks:
    @pytest.fixture(autouse=True)
    def signed_in(self, aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws)

    def test_the_account_of_the_credentials(self) -> None:
        assert identity.caller("us-west-2").account == ACCOUNT

    def test_the_file_s_account_and_no_other(self, tmp_path: Path) -> None:
        Site(loads(SPEC), tmp_path).check()
        with pytest.raises(NotPermitted, match=f"of the account {ACCOUNT} .*, and the file names 999988887777"):
            Site(loads(SPEC.replace(ACCOUNT, "999988887777")), tmp_path).check()

    def test_a_token_of_eks_is_a_signed_url_with_the_cluster_in_a_signed_header(self) -> None:
        token = identity.cluster_token("prod", "us-west-2")
        prefix, _, text = token.partition(".")
        assert prefix == "k8s-aws-v1"
        url = urlsplit(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
        query = parse_qs(url.query)
        assert query["Action"] == ["GetCallerIdentity"]
        assert query["X-Amz-SignedHeaders"] == ["host;x-k8s-aws-id"]
        assert query["X-Amz-Expires"] == ["60"]
        assert "testing" not in url.path  # the secret key signs, and is not in it

    def test_as_a_plug_in_for_credentials(self, capsys: pytest.CaptureFixture[str]) -> None:
        identity.main("prod", "us-west-2")
        said = json.loads(capsys.readouterr().out)
        assert said["kind"] == "ExecCredential"
        assert said["status"]["token"].startswith("k8s-aws-v1.")


def test_our_own_kubeconfig_has_the_cluster_of_terraform_s_outputs_and_no_secret() -> None:
    plan = Plan(loads(SPEC), "karpenter", "terraform")
    outputs = {"cluster_endpoint": "https://eks.example", "cluster_certificate_authority": "Y2E="}
    found = own_kubeconfig(plan, "arn:aws:eks:us-west-2:1:cluster/prod", outputs)
    assert found["clusters"][0]["cluster"]["server"] == "https://eks.example"
    assert found["users"][0]["user"]["exec"]["args"] == ["-m", "stoker.aws.identity", "prod", "us-west-2"]
    assert "token" not in json.dumps(found)


def test_what_only_terraform_knows_is_in_the_objects_once_it_is_known(tmp_path: Path) -> None:
    trains = SPEC + "\ntraining: {enabled: true, storage: {enabled: true}}"
    made = {"training_file_system": {"id": "fs-0123456789abcdef0", "mount_name": "abcdef"}}
    before, after = (Site(loads(trains), tmp_path, made=each).objects for each in ({}, made))
    assert not [obj for obj in before if obj["kind"] == "PersistentVolume"]
    (volume,) = [obj for obj in after if obj["kind"] == "PersistentVolume"]
    assert volume["spec"]["csi"]["volumeHandle"] == "fs-0123456789abcdef0"


def test_the_kubeconfig_and_the_module_are_for_their_owner_alone(tmp_path: Path) -> None:
    outputs = {"cluster_endpoint": "https://eks.example", "cluster_certificate_authority": "Y2E="}
    site = Site(loads(SPEC), tmp_path, made=outputs)
    assert stat.S_IMODE(site.kubeconfig().stat().st_mode) == 0o600
    assert stat.S_IMODE(site.folder.stat().st_mode) == 0o700
