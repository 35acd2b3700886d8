"""From nothing to a platform and back, over Terraform, controllers and objects, with a fault at every step: what was
done is kept, and doing it again goes on."""

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cloud_stage import ACCOUNT, CONTEXT, push_images

from stoker.base.errors import Conflict, StokerError
from stoker.deploy import applying, destroying, status
from stoker.deploy.controllers import Facts, controllers
from stoker.deploy.planning import DeployPlan, plan_objects
from stoker.deploy.prerequisites import own_images
from stoker.deploy.site import Site
from stoker.deploy.waiting import Patience
from stoker.spec import loads
from stoker.testing.aws import CREDENTIALS, moto_server
from stoker.testing.kubernetes import ApiServer, api_server
from stoker.testing.kubernetes.helm import HelmStandIn, write_helm

SPEC = f"""
global:
  cluster: {{name: small, region: us-west-2, account: "{ACCOUNT}", mode: karpenter}}
  observability: {{enabled: false}}
redis: {{architecture: standalone}}
llm: {{models: {{general: {{}}}}}}
deploy: {{context: {CONTEXT}}}
"""


def each(first: str, *others: str) -> list[str]:
    """All of them in `make test-deploy`, the first in `make test`."""
    return [first, *others] if os.environ.get("DEPLOY_EVERY") == "1" else [first]


@dataclass
class World:
    """One account, one cluster, one person who types `stoker deploy`."""

    server: ApiServer
    helm: HelmStandIn
    folder: Path
    slept: float = 0.0

    @property
    def site(self) -> Site:
        return Site(loads(SPEC), self.folder / "state", sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def patience(self) -> Patience:
        return Patience(1800, monotonic=lambda: self.slept, sleep=self.sleep)

    def deploy(self) -> list[str]:
        """As the command does it."""
        said: list[str] = []
        first = self.site
        first.check()
        root = first.prepare_root()
        assert root is not None
        try:
            plan = root.plan()
            site = first.now()
            cluster = site.connect()
            assert cluster is not None
            try:
                objects = plan_objects(cluster, site.objects, site.plan.namespace, site.owner)
            finally:
                cluster.close()
            applying.deploy(first, DeployPlan(plan, objects), self.patience(), said.append)
        finally:
            root.forget()
        return said

    def destroy(self, *, delete_data: bool) -> list[str]:
        said: list[str] = []
        site = self.site
        site = site.now()
        cluster = site.connect()
        assert cluster is not None
        try:
            plan = destroying.plan_destroy(site, cluster, delete_data=delete_data)
        finally:
            cluster.close()
        destroying.destroy(site, plan, self.patience(), said.append, delete_data=delete_data)
        return said

    def made(self) -> list[str]:
        root = self.site.root
        assert root is not None
        return root.resources()

    def terraform_fails(self, where: str) -> None:
        (self.folder / "bin" / "fail").write_text(where)

    def is_whole(self) -> bool:
        """Terraform's resources, the releases, the last object of the last wave."""
        releases = [
            each["metadata"]["labels"]["name"]
            for each in self.server.objects("Secret")
            if "owner" in (each["metadata"].get("labels") or {})
        ]
        wanted = [each.name for each in controllers(self.site.plan, self.site.objects, Facts.of({}))]
        has_last = self.server.get("ScaledObject", "model-general", "agentic-ai") is not None
        return len(self.made()) == 3 and set(wanted) <= set(releases) and has_last


@pytest.fixture(scope="module")
def aws_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto_server(tmp_path_factory.mktemp("moto") / "log") as url:
        yield url


@pytest.fixture
def world(tmp_path: Path, aws_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    site = Site(loads(SPEC), tmp_path)
    charts = {each.chart: each.groups for each in controllers(site.plan, site.objects, Facts.of({}))}
    helm = write_helm(tmp_path / "bin", charts)
    program = tmp_path / "bin" / "terraform"
    shutil.copyfile(Path(__file__).with_name("terraform_program.py"), program)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": aws_url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{helm.folder}{os.pathsep}{os.environ['PATH']}")
    with api_server(installed=()) as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig", CONTEXT)))
        _images(site)
        yield World(server, helm, tmp_path)


def _images(site: Site) -> None:
    """The repositories that Terraform would have made, with images in them."""
    import boto3

    ecr = boto3.client("ecr", region_name="us-west-2")
    wanted = own_images(site.plan, site.objects)
    there = {each["repositoryName"] for each in ecr.describe_repositories()["repositories"]}
    if not there:
        for repository in sorted({repository for repository, _ in wanted}):
            ecr.create_repository(repositoryName=repository)
        push_images(wanted)


def test_it_goes_from_terraform_over_controllers_to_the_last_wave_and_back(world: World) -> None:
    before = {(each["kind"], each["metadata"]["name"]) for each in world.server.objects()}
    said = world.deploy()
    assert world.is_whole()
    order = [
        next(i for i, line in enumerate(said) if start in line)
        for start in ("terraform: 3", "controller karpenter ", "controller keda", "wave 1", "wave 4")
    ]
    assert order == sorted(order)
    installed = [words[2] for words in world.helm.changing if words[0] == "upgrade"]
    assert installed[:2] == ["karpenter-crd", "karpenter"]
    assert "keda" in installed

    said = world.destroy(delete_data=False)
    assert world.made() == ["aws_s3_bucket.models"]  # it holds data
    gone = [words[1] for words in world.helm.changing if words[0] == "uninstall"]
    assert gone == installed[::-1]
    world.destroy(delete_data=True)
    assert world.made() == []
    planned = [line for line in (world.folder / "bin" / "calls").read_text().splitlines() if line.startswith("plan")]
    unlocks, goes = planned[-2:]  # buckets must first be told that they may go with what is in them
    assert "-var=delete_data=true" in unlocks
    assert "-target=aws_s3_bucket.models" in unlocks
    assert "-destroy" in goes
    left = {(each["kind"], each["metadata"]["name"]) for each in world.server.objects()} - before
    assert {kind for kind, _ in left} <= {"CustomResourceDefinition", "Namespace", "ServiceAccount", "ConfigMap"}
    assert "agentic-ai" not in {name for kind, name in left if kind == "Namespace"}


@pytest.mark.parametrize("where", each("apply:1", "init:1", "plan:1", "show:1", "state:1", "output:1"))
def test_terraform_fails_and_the_next_deploy_goes_on(world: World, where: str) -> None:
    world.terraform_fails(where)
    with pytest.raises(StokerError, match=where.partition(":")[0]):
        world.deploy()
    assert world.made() == (["aws_vpc.main"] if where == "apply:1" else world.made())
    world.deploy()
    assert world.is_whole()
    assert not list((world.site.folder / "terraform").glob("*.tfplan"))


@pytest.mark.parametrize("how", each("middle:3", "middle:1", "before:1", "before:3", "after:1", "after:5"))
def test_helm_fails_and_the_next_deploy_goes_on(world: World, how: str) -> None:
    when, _, call = how.partition(":")
    world.helm.fail(int(call), when)  # type: ignore[arg-type]
    with pytest.raises(StokerError, match="helm upgrade"):
        world.deploy()
    assert world.server.get("Deployment", "gateway", "agentic-ai") is None
    world.deploy()
    assert world.is_whole()


@pytest.mark.parametrize("where", each("apply:2", "apply:3", "plan:2", "plan:3", "state:3", "state:4"))
def test_a_destroy_that_terraform_fails_in_goes_on(world: World, where: str) -> None:
    world.deploy()
    world.terraform_fails(where)
    with pytest.raises(StokerError):
        world.destroy(delete_data=True)
    world.destroy(delete_data=True)
    assert world.made() == []


def test_a_release_of_somebody_else_is_left_alone(world: World, tmp_path: Path) -> None:
    """Their KEDA is there before; ours would be of another version."""
    kubeconfig = str(tmp_path / "kubeconfig")
    where = ["--kubeconfig", kubeconfig, "--kube-context", CONTEXT]
    words = ["upgrade", "--install", "keda", "keda", "--version", "2.19.0", "--namespace", "keda", "--create-namespace"]
    subprocess.run([str(world.helm.folder / "helm"), *words, *where], check=True, capture_output=True)
    said = world.deploy()
    assert "controller keda: keda-2.19.0 is there already, and left as it is" in said
    site = world.site.now()
    cluster = site.connect()
    assert cluster is not None
    (found,) = (each for each in status.components(site, cluster) if each.name == "controllers")
    cluster.close()
    assert found.is_ready, found.troubles
    world.destroy(delete_data=True)
    gone = {words[1] for words in world.helm.changing if words[0] == "uninstall"}
    assert "karpenter" in gone
    assert "keda" not in gone


def test_a_cluster_that_terraform_no_longer_has_is_not_asked(world: World) -> None:
    """Outputs outlive what they name, where only parts were destroyed."""
    world.deploy()
    assert world.site.now().made == {"vpc_id": "vpc-1"}
    state = world.site.folder / "terraform" / "terraform.tfstate"
    state.write_text(json.dumps(["aws_s3_bucket.models"]))
    assert world.site.now().made == {}


def test_two_plans_of_one_folder_are_two_files(world: World) -> None:
    roots = [world.site.prepare_root() for _ in range(2)]
    plans = [root.plan() for root in roots if root is not None]
    assert len({plan.file for plan in plans}) == 2
    assert roots[0] is not None
    roots[0].forget()
    assert [plan.file.exists() for plan in plans] == [False, True]


def test_images_that_are_not_there_are_named_with_the_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "test_from_nothing.SPEC", SPEC.replace("mode: karpenter}", "mode: karpenter}\n  images: {tag: 9.9.9}")
    )
    with pytest.raises(Conflict, match=r"image stoker/gateway:9\.9\.9") as caught:
        world.deploy()
    assert "images/build --push platform.yaml" in caught.value.message
    assert world.server.get("Namespace", "agentic-ai") is None
