"""Policies of IAM that are embedded in manifests, as JSON text: where they stand and what their statements say."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.manifests.objects import Manifest, filled_in_later
from stoker.spec.faults import Path

PERMISSIONS, TRUST, RESOURCE = "permissions", "trust", "resource"
"""What a role may do; who may be the role; who may do something with a bucket or queue."""

_FIELDS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "iam.services.k8s.aws": (
        ("Policy", "policyDocument", PERMISSIONS),
        ("Role", "assumeRolePolicyDocument", TRUST),
    ),
    "s3.services.k8s.aws": (("Bucket", "policy", RESOURCE),),
    "sqs.services.k8s.aws": (("Queue", "policy", RESOURCE),),
    "ecr.services.k8s.aws": (("Repository", "policy", RESOURCE),),
}
_INLINE = ("Role", "User", "Group")
_LONGEST = 65536


@dataclass(frozen=True, eq=False)
class Policy:
    manifest: Manifest
    path: Path
    use: str
    statements: tuple[dict[str, Any], ...]
    fault: str = ""
    """Why it is no policy: it is not JSON, or has no statement."""


def policies(cluster: Cluster) -> Iterator[Policy]:
    """Every embedded policy that is written out; none that is filled in later."""
    for group, fields in _FIELDS.items():
        for kind, field, use in fields:
            for manifest in cluster.of(kind, group=group):
                yield from _policy(manifest, ("spec", field), use)
    for manifest in cluster.of(*_INLINE, group="iam.services.k8s.aws"):
        inline = manifest.get("spec", "inlinePolicies")
        for name in inline if isinstance(inline, dict) else ():
            yield from _policy(manifest, ("spec", "inlinePolicies", name), PERMISSIONS)


def _policy(manifest: Manifest, path: Path, use: str) -> Iterator[Policy]:
    text = manifest.get(*path)
    if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST:
        return
    try:
        document = json.loads(text)
    except ValueError as error:
        if not filled_in_later(text):
            yield Policy(manifest, path, use, (), f"it is no JSON ({error})")
        return
    except RecursionError:
        yield Policy(manifest, path, use, (), "it is nested too deep")
        return
    if not isinstance(document, dict) or "Statement" not in document:
        yield Policy(manifest, path, use, (), "it has no Statement")
        return
    statements = document["Statement"]
    listed = statements if isinstance(statements, list) else [statements]
    yield Policy(manifest, path, use, tuple(each for each in listed if isinstance(each, dict)))


def listed(value: Any) -> list[str]:
    """A member that is one text or a list of them."""
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]


def allows(statement: dict[str, Any]) -> bool:
    return statement.get("Effect") == "Allow"


def open_to_all(statement: dict[str, Any]) -> bool:
    """Whether the principal is anybody at all."""
    principal = statement.get("Principal")
    if principal == "*":
        return True
    return isinstance(principal, dict) and "*" in listed(principal.get("AWS"))
