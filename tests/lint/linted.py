"""Objects as a test needs them, and what one rule says of them."""

from typing import Any

import yaml

from stoker.lint.rules import RULES
from stoker.lint.run import lint
from stoker.manifests.reading import read_text

Said = list[tuple[str, str, str]]
"""Object, path, severity."""


def said(rule: str, *objects: dict[str, Any]) -> Said:
    """What a rule says, in the order of the text."""
    only = [each for each in RULES if each.id == rule]
    report = lint(read_text(yaml.safe_dump_all(objects, sort_keys=False), "some.yaml"), rules=only)
    return [(f.object, f.path, f.severity.value) for f in report.findings]


def messages(rule: str, *objects: dict[str, Any]) -> list[str]:
    only = [each for each in RULES if each.id == rule]
    report = lint(read_text(yaml.safe_dump_all(objects, sort_keys=False), "some.yaml"), rules=only)
    return [f.message for f in report.findings]


def container(name: str = "server", *, gpus: int = 0, efa: int = 0, **more: Any) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": gpus} if gpus else {}
    if efa:
        limits |= {"vpc.amazonaws.com/efa": efa}
    return {
        "name": name,
        "image": f"example.com/{name}:v1",
        **({"resources": {"limits": limits}} if limits else {}),
        **more,
    }


def pod(*containers: dict[str, Any], name: str = "chat", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "ai"},
        "spec": {"containers": list(containers), **spec},
    }


def _template(containers: tuple[dict[str, Any], ...], name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": name}}, "spec": {"containers": list(containers), **spec}}


def deployment(
    *containers: dict[str, Any],
    name: str = "chat",
    kind: str = "Deployment",
    replicas: int | None = None,
    strategy: Any = None,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    template = _template(containers or (container(),), name, spec)
    if annotations:
        template["metadata"]["annotations"] = annotations
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "ai"},
        "spec": {
            **({} if replicas is None else {"replicas": replicas}),
            **({} if strategy is None else {"strategy": strategy}),
            "selector": {"matchLabels": {"app": name}},
            "template": template,
        },
    }


def service(name: str = "chat") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "ai"},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    }


def budget(name: str = "chat", *, selector: Any = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "ai"},
        "spec": {**spec, "selector": selector or {"matchLabels": {"app": name}}},
    }


def job(*containers: dict[str, Any], job_spec: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train", "namespace": "ai"},
        "spec": {**(job_spec or {}), "template": _template(containers, "train", {"restartPolicy": "Never", **spec})},
    }


def pytorch_job(
    *, master: dict[str, Any] | None = None, worker: dict[str, Any] | None = None, workers: int = 1, **spec: Any
) -> dict[str, Any]:
    """With pod specs for its roles."""
    roles: dict[str, Any] = {}
    if master is not None:
        roles["Master"] = {"replicas": 1, "template": {"spec": master}}
    if worker is not None:
        roles["Worker"] = {"replicas": workers, "template": {"spec": worker}}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": "train", "namespace": "ai"},
        "spec": {"pytorchReplicaSpecs": roles, **spec},
    }


def pool(
    name: str = "gpu",
    *,
    types: tuple[str, ...] = ("g6.2xlarge",),
    bought: tuple[str, ...] = (),
    zones: tuple[str, ...] = (),
    taints: tuple[dict[str, str], ...] = (),
    **spec: Any,
) -> dict[str, Any]:
    asked = {
        "node.kubernetes.io/instance-type": types,
        "karpenter.sh/capacity-type": bought,
        "topology.kubernetes.io/zone": zones,
    }
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": name},
        "spec": {
            "template": {
                "spec": {
                    "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": name},
                    "requirements": [
                        {"key": key, "operator": "In", "values": list(values)}
                        for key, values in asked.items()
                        if values
                    ],
                    **({"taints": list(taints)} if taints else {}),
                }
            },
            **spec,
        },
    }


def node_class(name: str = "gpu", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass", "metadata": {"name": name}, "spec": spec}
