"""Everything outside that `stoker deploy` meets, on loopback: AWS by moto's server, a cluster by its stand-in, Helm's
program by its stand-in; Terraform is the real one, with the provider of a mirror on this disk."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

from stoker.testing.aws import CREDENTIALS, moto_server
from stoker.testing.kubernetes import ApiServer, api_server
from stoker.testing.kubernetes.helm import HelmStandIn, write_helm

ACCOUNT = "123456789012"
"""Moto's."""
CONTEXT = "stand-in"
_PLACES = ("/opt", "/usr/share", "/usr/local/share", str(Path.home() / ".terraform.d"))


@lru_cache
def mirror() -> Path | None:
    """The folder of a filesystem mirror that has the provider `hashicorp/aws`; None where there is none."""
    for place in _PLACES:
        for found in Path(place).glob("**/registry.terraform.io/hashicorp/aws"):
            return found.parents[2]
    return None


def why_not() -> str | None:
    """Why Terraform cannot be run here."""
    if shutil.which("terraform") is None:
        return "terraform is not on PATH"
    return None if mirror() else "no filesystem mirror on this disk has Terraform's provider for AWS"


def terraform_environ(folder: Path) -> dict[str, str]:
    """With what Terraform finds its provider. It plans by its state and does not ask moto again, which forgets parts of
    what it was told (EKS' access_config, descriptions of rules): all of it would be changed by a second deploy."""
    config = folder / "terraform.rc"
    config.write_text(f'provider_installation {{\n  filesystem_mirror {{ path = "{mirror()}" }}\n}}\n')
    return {"TF_CLI_CONFIG_FILE": str(config), "TF_CLI_ARGS_plan": "-refresh=false"}


@dataclass
class Cloud:
    server: ApiServer
    helm: HelmStandIn
    aws_url: str
    folder: Path


@contextmanager
def cloud(
    folder: Path, monkeypatch: pytest.MonkeyPatch, charts: Mapping[str, Sequence[str]], installed: Sequence[str] = ()
) -> Iterator[Cloud]:
    """Environment and programs as a person has them who is signed in to AWS."""
    for name, value in {**CREDENTIALS, **terraform_environ(folder)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
    with moto_server(folder / "moto.log") as aws_url, api_server(installed=installed) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws_url)
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(folder / "kubeconfig", CONTEXT)))
        helm = write_helm(folder / "bin", charts)
        monkeypatch.setenv("PATH", f"{helm.folder}{os.pathsep}{os.environ['PATH']}")
        yield Cloud(server, helm, aws_url, folder)


def push_images(images: Sequence[tuple[str, str]], region: str = "us-west-2") -> None:
    """As if somebody had pushed them: moto looks at no layer."""
    import boto3

    kind = "application/vnd.oci.image.manifest.v1+json"
    ecr = boto3.client("ecr", region_name=region)
    for repository, tag in images:
        digest = f"sha256:{hashlib.sha256(f'{repository}:{tag}'.encode()).hexdigest()}"
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": digest}
        manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []})
        ecr.put_image(repositoryName=repository, imageManifest=manifest, imageManifestMediaType=kind, imageTag=tag)
