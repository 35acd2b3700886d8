"""images/build and images/pin, with a `docker` that writes down what it is told."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """A folder for PATH. What it is called with is in `calls`, a line each; it answers with a digest."""
    folder = tmp_path / "bin"
    folder.mkdir()
    fake = folder / "docker"
    fake.write_text(f'#!/bin/sh\necho "$*" >> "{folder}/calls"\necho {DIGEST}\n')
    fake.chmod(0o755)
    return folder


def run(docker: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{docker}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


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


def test_pin_writes_the_digest_that_the_registry_says(docker: Path, tmp_path: Path) -> None:
    images = tmp_path / "repository" / "images"
    shutil.copytree(ROOT / "images", images)
    tag = "docker.io/library/python:3.11.99-slim-trixie"
    done = run(docker, images / "pin", tag)
    assert done.returncode == 0, done.stderr
    assert (docker / "calls").read_text() == f"buildx imagetools inspect {tag} --format {{{{.Manifest.Digest}}}}\n"
    before, after = ((folder / "Dockerfile").read_text().splitlines() for folder in (ROOT / "images", images))
    assert [line for line in after if line not in before] == [f"ARG BASE={tag}@{DIGEST}"]
