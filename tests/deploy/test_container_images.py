"""images/: what the Dockerfile promises, whether it fits the pods that are rendered, and the locks.

What is built and run: `make test-images`.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from dockerfiles import Dockerfile, command, parse
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from stoker.render import agents, gateway, models, training, workers
from stoker.render.batch import job_container
from stoker.render.items import Resource
from stoker.render.plan import Image, Plan
from stoker.spec import loads

ROOT = Path(__file__).parents[2]
IMAGES = get_args(Image)
EXTRAS = {
    "gateway": ("postgres", "aws", "otel"),
    "worker": ("otel",),
    "agents": ("agents", "postgres"),
    "trainer": ("train", "aws"),
}
EVERYTHING = """\
global: {cluster: {account: "123456789012"}}
agents: {enabled: true}
training: {enabled: true, batch: {enabled: true}}
llm:
  models:
    general: {}
    small: {serving: {gpu: {count: 0}}}
    hosted: {engine: {url: "https://llm.example.com/v1"}}
"""


@pytest.fixture(scope="module")
def dockerfile() -> Dockerfile:
    return parse((ROOT / "images" / "Dockerfile").read_text())


@pytest.fixture(scope="module")
def containers() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each container of Stoker's own images, with its pod."""
    plan = Plan(loads(EVERYTHING), "karpenter")
    own = {plan.image(name) for name in IMAGES}
    return [
        (container, pod)
        for component in (gateway, workers, models, agents, training)
        for item in component.render(plan)
        if isinstance(item, Resource)
        for pod in _pods(item.object)
        for container in pod["containers"]
        if container["image"] in own
    ]


def _pods(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for each in value.values():
            yield from _pods(each)
    elif isinstance(value, list):
        for each in value:
            yield from _pods(each)


def _part(image: str) -> str:
    return image.rpartition("/")[2].partition(":")[0]


def test_each_image_of_a_plan_is_a_target(dockerfile: Dockerfile) -> None:
    assert [name for name in dockerfile.stages if name in IMAGES] == [*IMAGES[:2], "agents", "trainer"]


def test_every_stage_is_made_from_one_base_pinned_by_tag_and_digest(dockerfile: Dockerfile) -> None:
    assert re.fullmatch(
        r"docker\.io/library/python:3\.11\.\d+-slim-[a-z]+@sha256:[0-9a-f]{64}", dockerfile.arguments["BASE"]
    )
    outside = {stage.base for stage in dockerfile.stages.values() if stage.base not in dockerfile.stages}
    assert outside == {"${BASE}"}


def test_pods_run_what_the_image_would_run(
    dockerfile: Dockerfile, containers: list[tuple[dict[str, Any], dict[str, Any]]]
) -> None:
    ran: dict[str, set[tuple[str, ...]]] = {}
    for container, _ in containers:
        ran.setdefault(_part(container["image"]), set()).add(tuple(container["command"]))
    assert ran == {
        "gateway": {("python", "-m", "stoker.gateway")},
        "worker": {("python", "-m", "stoker.worker"), ("python", "-m", "stoker.engine")},
        "agents": {("python", "-m", "stoker.agents"), ("python", "-m", "stoker.agents.worker")},
        "trainer": {("stoker", "train", "/etc/stoker/run.yaml")},
    }
    for name in IMAGES:
        said = tuple(command(dockerfile.last(name, "CMD")))
        assert any(each[: len(said)] == said for each in ran[name]), name


def test_what_aws_batch_hands_to_the_image_is_run_as_it_is(dockerfile: Dockerfile) -> None:
    """Batch's `command` is Docker's CMD: an entry point would get the shell and its script as arguments."""
    assert job_container(Plan(loads(EVERYTHING), "karpenter"))["command"][:2] == ["/bin/sh", "-ec"]
    assert not any(stage.values("ENTRYPOINT") for stage in dockerfile.stages.values())


def test_images_run_as_the_user_of_the_pods(
    dockerfile: Dockerfile, containers: list[tuple[dict[str, Any], dict[str, Any]]]
) -> None:
    users = {(pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) for _, pod in containers}
    assert users == {(1000, 1000)}
    assert {dockerfile.last(name, "USER") for name in IMAGES} == {"1000:1000"}


def test_nothing_but_tmp_needs_to_be_written(
    dockerfile: Dockerfile, containers: list[tuple[dict[str, Any], dict[str, Any]]]
) -> None:
    assert all(container["securityContext"]["readOnlyRootFilesystem"] for container, _ in containers)
    assert all("/tmp" in {each["mountPath"] for each in container["volumeMounts"]} for container, _ in containers)
    for name in IMAGES:
        environment = dockerfile.last(name, "ENV")
        assert "HOME=/tmp" in environment
        assert "PYTHONDONTWRITEBYTECODE=1" in environment


def test_pods_find_python_and_stoker_on_the_path_of_the_image(dockerfile: Dockerfile) -> None:
    for name in IMAGES:
        assert "PATH=/opt/stoker/bin:" in dockerfile.last(name, "ENV")
        copied = dockerfile.stages[name].values("COPY")
        assert copied == [
            f"--from={name}-packages --chown=0:0 /opt/stoker /opt/stoker",
            "--from=program --chown=0:0 /program/opt/stoker /opt/stoker",
        ]


def test_images_stop_as_their_processes_do(dockerfile: Dockerfile) -> None:
    assert {dockerfile.last(name, "STOPSIGNAL") for name in IMAGES} == {"SIGTERM"}


def test_nothing_is_fetched_but_from_locks(dockerfile: Dockerfile) -> None:
    for stage in dockerfile.stages.values():
        assert not stage.values("ADD")
        for line in stage.values("RUN"):
            assert not re.search(r"https?://|curl|wget|apt-get|pip install", line), line
    install = (ROOT / "images" / "packages").read_text()
    assert "--no-deps --require-hashes --only-binary :all: --no-compile" in install
    for name in IMAGES:
        assert dockerfile.stages[f"{name}-packages"].values("RUN") == [
            f"images/packages /opt/stoker images/requirements/{name}.txt"
        ]


def test_what_the_dockerfile_copies_is_let_in(dockerfile: Dockerfile) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    for stage in dockerfile.stages.values():
        for line in stage.values("COPY"):
            if "--from" not in line:
                for source in line.split()[:-1]:
                    assert (ROOT / source).exists()
                    assert any(source == each or source.startswith(f"{each}/") for each in let_in), source


def _locked(name: str) -> dict[str, tuple[Version, int]]:
    """Each package with its version, and how many hashes it has."""
    found: dict[str, tuple[Version, int]] = {}
    text = (ROOT / "images" / "requirements" / f"{name}.txt").read_text()
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", text)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            pin, *hashes = line.split()
            package, _, version = pin.partition("==")
            assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), line
            found[canonicalize_name(package)] = (Version(version), len(hashes))
    return found


def _asked(extras: tuple[str, ...]) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    found = [Requirement(each) for each in (*project["dependencies"], *(r for e in extras for r in optional[e]))]
    ours = [each for each in found if each.name == "stoker"]  # an extra that has another one
    more = [each for own in ours for each in _asked(tuple(own.extras))]
    return [each for each in found if each.name != "stoker"] + more


@pytest.mark.parametrize("name", IMAGES)
def test_a_lock_has_what_pyproject_asks_for_with_hashes(name: Image) -> None:
    locked = _locked(name)
    assert all(hashes for _, hashes in locked.values())
    for each in _asked(EXTRAS[name]):
        version, _ = locked[canonicalize_name(each.name)]
        assert each.specifier.contains(version), f"scripts/lock-images: {name} has {version}, asked for is {each}"


def test_an_image_has_nothing_that_only_others_need() -> None:
    has = {name: set(_locked(name)) for name in IMAGES}
    heavy = {"torch": {"trainer"}, "langgraph": {"agents"}, "boto3": {"gateway", "trainer"}}
    for package, where in heavy.items():
        assert {name for name in IMAGES if package in has[name]} == where
    tests = {"pytest", "moto", "ruff", "numba", "hatchling"}
    assert not tests & set().union(*has.values())


def test_one_release_of_a_package_in_all_images() -> None:
    versions: dict[str, set[Version]] = {}
    for name in IMAGES:
        for package, (version, _) in _locked(name).items():
            versions.setdefault(package, set()).add(version)
    assert {package: each for package, each in versions.items() if len(each) > 1} == {}


def test_the_trainer_has_the_torch_that_the_tests_have() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tested = next(r for r in project["optional-dependencies"]["traintests"] if r.startswith("torch=="))
    assert str(_locked("trainer")["torch"][0]) == tested.partition("==")[2]


def test_the_wheel_is_built_by_what_pyproject_asks_for() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    locked = _locked("build")
    assert all(Requirement(each).specifier.contains(locked[Requirement(each).name][0]) for each in asked)
