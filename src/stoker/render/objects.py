"""Parts that many objects have: metadata, labels, security contexts, references to secrets."""

from collections.abc import Mapping
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.render.plan import Plan

Object = dict[str, Any]

PART_OF = "app.kubernetes.io/part-of"
NAME = "app.kubernetes.io/name"


def metadata(
    plan: Plan,
    name: str,
    component: str,
    *,
    namespace: str | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Object:
    """Name, the usual labels, and those given. `namespace` None: for what is in none."""
    found: Object = {"name": name}
    if namespace is not None:
        found["namespace"] = namespace
    found["labels"] = {**selector(name), **usual_labels(component), **(labels or {})}
    if annotations:
        found["annotations"] = dict(annotations)
    return found


def selector(name: str) -> dict[str, str]:
    """What selects the pods of a workload, and its labels among others."""
    return {NAME: name}


def usual_labels(component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/component": component,
        PART_OF: "stoker",
        "app.kubernetes.io/managed-by": "stoker",
    }


def restricted_pod(user: int = 1000) -> Object:
    """The pod's part of Pod Security "restricted"."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def restricted_container(*, read_only: bool = True) -> Object:
    """The container's part of it."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": read_only,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def from_secret(variable: str, secret: str, key: str) -> Object:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def from_field(variable: str, path: str) -> Object:
    return {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def region_env(region: str) -> list[Object]:
    """Under both names: boto3 reads AWS_DEFAULT_REGION alone (botocore/configprovider.py), other SDKs AWS_REGION. The
    webhook of Pod Identity adds neither to a container that has one of them (aws/amazon-eks-pod-identity-webhook,
    pkg/handler/handler.go)."""
    return [{"name": name, "value": region} for name in ("AWS_REGION", "AWS_DEFAULT_REGION")]


def resources(cpu: str, memory: str, *, devices: Mapping[str, int | str] | None = None) -> Object:
    """Requests of CPU and memory, a limit of memory, and devices as both. CPU has no limit: it would throttle."""
    extra = dict(devices or {})
    return {"requests": {"cpu": cpu, "memory": memory, **extra}, "limits": {"memory": memory, **extra}}


def tags_in_annotation(plan: Plan) -> str:
    """As annotations have them. Raises InvalidInput for a key that they cannot hold."""
    for key in plan.tags:
        if "=" in key:
            raise InvalidInput(
                f'global.tags has the key "{key}": load balancers get tags as key=value, which ends at the first =',
                param=f"global.tags.{key}",
                hint="a key without =",
            )
    return pairs(plan.tags)


def pairs(values: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in values.items())
