"""images/build and images/pin, with a `docker` that writes down what it is told."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """A folder for PATH. What it is called with is in `calls`, a line each; it answers with a digest, and fails for the
    images that stand in `missing`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    fake = folder / "docker"
    (folder / "missing").touch()
    fake.write_text(
        f'#!/bin/sh\necho "$*" >> "{folder}/calls"\ngrep -qxF -- "$4" "{folder}/missing" && exit 1\necho {DIGEST}\n'
    )
    fake.chmod(0o755)
    return folder


def run(docker: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{docker}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with what images/build needs, all of it committed, and without an environment."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "images", folder / "images")
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "image_names.py", folder / "scripts")
    person = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com")
    for words in (["init", "--quiet"], ["add", "images"], [*person, "commit", "--quiet", "--message", "images"]):
        subprocess.run(["git", "-C", folder, *words], check=True)
    return folder


def with_environment(checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)


def test_each_image_is_built_by_the_name_that_its_pods_have(docker: Path, tmp_path: Path) -> None:
    spec = tmp_path / "platform.yaml"
    spec.write_text("global: {images: {registry: registry.example.com/stoker, tag: 1.2.3}}\n")
    done = run(docker, ROOT / "images" / "build", spec)
    assert done.returncode == 0, done.stderr
    calls = (docker / "calls").read_text().splitlines()
    assert [call.split(" --target ")[1].split()[0] for call in calls] == ["gateway", "worker", "trainer", "agents"]
    for call, part in zip(calls, ("gateway", "worker", "trainer", "agents"), strict=True):
        name = f"registry.example.com/stoker/{part}:1.2.3"
        assert f"--output type=oci,name={name},dest=dist/images/{part}.tar,rewrite-timestamp=true ." in call
        assert call.startswith("buildx build --file images/Dockerfile ")
        assert "--platform linux/amd64 --build-arg SOURCE_DATE_EPOCH=" in call
        assert "--provenance mode=max --sbom true" in call


def test_a_platform_that_is_not_there_is_named(docker: Path) -> None:
    done = run(docker, ROOT / "images" / "build", "nowhere.yaml")
    assert (done.returncode, done.stderr) == (2, "images/build: nowhere.yaml: no such file; name a platform.yaml\n")
    assert not (docker / "calls").exists()


def test_a_checkout_without_an_environment_is_told_how_to_make_one(docker: Path, checkout: Path) -> None:
    (checkout / "platform.yaml").touch()
    done = run(docker, checkout / "images" / "build", checkout / "platform.yaml")
    assert (done.returncode, done.stderr) == (
        2,
        "images/build: this checkout has no .venv/bin/python, which reads the file: make setup\n",
    )
    assert not (docker / "calls").exists()


def test_a_push_that_ended_half_way_goes_on_with_what_is_missing(docker: Path, checkout: Path) -> None:
    """A tag of ECR's cannot be written twice, so that to push all four again would fail at the first."""
    with_environment(checkout)
    spec = checkout / "platform.yaml"
    spec.write_text("global: {images: {registry: registry.example.com/stoker, tag: 1.2.3}}\n")
    names = [f"registry.example.com/stoker/{part}:1.2.3" for part in ("gateway", "worker", "trainer", "agents")]
    (docker / "missing").write_text(f"{names[1]}\n{names[3]}\n")
    done = run(docker, checkout / "images" / "build", "--push", spec)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        f"images/build: {names[0]} is in the registry already",
        f"images/build: {names[1]}",
        f"images/build: {names[2]} is in the registry already",
        f"images/build: {names[3]}",
    ]
    calls = (docker / "calls").read_text().splitlines()
    asked = [call.removeprefix("buildx imagetools inspect ") for call in calls if "imagetools" in call]
    pushed = [call.split("name=")[1] for call in calls if call.startswith("buildx build ")]
    assert asked == names
    assert pushed == [f"{name},push=true,rewrite-timestamp=true ." for name in (names[1], names[3])]


def test_without_push_no_registry_is_asked(docker: Path, checkout: Path) -> None:
    with_environment(checkout)
    (checkout / "platform.yaml").touch()
    done = run(docker, checkout / "images" / "build", checkout / "platform.yaml")
    assert done.returncode == 0, done.stderr
    assert [call.split()[1] for call in (docker / "calls").read_text().splitlines()] == ["build"] * 4


def test_pin_writes_the_digest_that_the_registry_says(docker: Path, tmp_path: Path) -> None:
    images = tmp_path / "repository" / "images"
    shutil.copytree(ROOT / "images", images)
    tag = "docker.io/library/python:3.11.99-slim-trixie"
    done = run(docker, images / "pin", tag)
    assert done.returncode == 0, done.stderr
    assert (docker / "calls").read_text() == f"buildx imagetools inspect {tag} --format {{{{.Manifest.Digest}}}}\n"
    before, after = ((folder / "Dockerfile").read_text().splitlines() for folder in (ROOT / "images", images))
    assert [line for line in after if line not in before] == [f"ARG BASE={tag}@{DIGEST}"]
