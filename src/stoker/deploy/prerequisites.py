"""What only people can bring before pods can start: images in the registry, keys that somebody else gave out."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stoker.aws import prerequisites as aws
from stoker.base.errors import Conflict
from stoker.manifests.objects import Document, Manifest
from stoker.manifests.workloads import workloads_of
from stoker.render import aws_secrets
from stoker.render.plan import Plan
from stoker.render.secrets import remote

Tree = Mapping[str, Any]


def check(plan: Plan, objects: Iterable[Tree]) -> None:
    """Raises Conflict that says what is missing and how it is brought. Only what Terraform made a place for is looked
    at: registries of others are others' business."""
    if plan.aws != "terraform":
        return
    lines = []
    if images := aws.missing_images(plan.region, own_images(plan, objects)):
        lines += [f"  image {each}" for each in images]
        lines += ["    images/build --push platform.yaml"]
    for name, keys, use in aws_secrets.given(plan):
        if aws.empty_secrets(plan.region, [remote(plan, name)]):
            form = "{" + ", ".join(f'"{key}": "..."' for key in keys) + "}"
            lines.append(f"  secret {remote(plan, name)}: {use}")
            where = f"--secret-id {remote(plan, name)} --secret-string '{form}'"
            lines.append(f"    aws secretsmanager put-secret-value {where}")
    if lines:
        raise Conflict(
            "pods cannot start without what only you can bring:\n" + "\n".join(lines),
            hint="bring it, and do it again: it goes on from here",
        )


def own_images(plan: Plan, objects: Iterable[Tree]) -> list[tuple[str, str]]:
    """(repository, tag) of all images of pods that lie in the ECR of the platform's account."""
    registry = f"{plan.account}.dkr.ecr.{plan.region}.amazonaws.com/"
    found = set()
    for image in _images(objects):
        if image.startswith(registry):
            repository, _, tag = image.removeprefix(registry).partition(":")
            found.add((repository, tag or "latest"))
    return sorted(found)


def _images(objects: Iterable[Tree]) -> Iterator[str]:
    for obj in objects:
        for workload in workloads_of(Manifest(dict(obj), Document("", 0, obj))):
            for _, container in workload.containers(init=True):
                yield str(container.get("image", ""))
