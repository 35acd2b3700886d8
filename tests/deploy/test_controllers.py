"""Which controllers a platform's objects need."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from stoker import spec
from stoker.deploy.controllers import Controller, Facts, by_hand, controllers
from stoker.render.components import COMPONENTS
from stoker.render.items import ON_DEMAND, Resource
from stoker.render.plan import Maker, Plan
from stoker.spec import Mode, Platform

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = ("platform.yaml", "guide-values.yaml", "everything.yaml")
MODES: tuple[Mode, ...] = ("auto", "karpenter", "hybrid")
FACTS = Facts("vpc-1", "https://abc.eks.amazonaws.com", "prod-interruption")


def objects_of(platform: Platform, mode: Mode, aws: Maker = "terraform") -> list[dict[str, Any]]:
    items = [item for component in COMPONENTS.values() for item in component(Plan(platform, mode, aws))]
    return [item.object for item in items if isinstance(item, Resource) and not item.file.startswith(ON_DEMAND)]


def needed(platform: Platform, mode: Mode, aws: Maker = "terraform") -> tuple[list[Controller], list[dict[str, Any]]]:
    objects = objects_of(platform, mode, aws)
    return controllers(Plan(platform, mode, aws), objects, FACTS), objects


def names(found: list[Controller]) -> list[str]:
    return [f"{each.namespace}/{each.name} {each.version}" for each in found]


USUAL = [
    "external-secrets/external-secrets 2.9.0",
    "monitoring/kube-prometheus-stack 88.2.0",
    "keda/keda 2.20.2",
]
KARPENTER = "kube-system/karpenter 1.14.1"


def test_the_default_platform_needs_what_its_mode_lacks() -> None:
    platform = spec.loads("")
    balancers = "kube-system/aws-load-balancer-controller 3.5.0"
    crds = "kube-system/karpenter-crd 1.14.1"
    assert names(needed(platform, "auto")[0]) == USUAL
    assert names(needed(platform, "hybrid")[0]) == [KARPENTER, *USUAL]
    assert names(needed(platform, "karpenter")[0]) == [crds, KARPENTER, balancers, *USUAL]


def test_everything_needs_all_of_them_in_order() -> None:
    platform = spec.load(EXAMPLES / "everything.yaml")
    found, objects = needed(platform, "auto")
    assert names(found) == [
        *USUAL,
        "lws-system/lws 0.10.0",
        "kubeflow-system/kubeflow-trainer 2.3.0",
        "kueue-system/kueue 0.19.2",
        "argo/argo-workflows 2.0.5",
        "argo-rollouts/argo-rollouts 2.41.1",
        "argocd/argo-cd 10.3.3",
        "agentgateway-system/agentgateway-crds v1.5.0",
        "agentgateway-system/agentgateway v1.5.0",
    ]
    by_people = by_hand(Plan(platform, "auto", "terraform"), objects)
    assert [each.what for each in by_people][:2] == ["Gateway API 1.6.1", "Gateway API inference extension 1.5.0"]


@pytest.mark.parametrize("aws", ["terraform", "ack"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("file", FILES)
def test_each_custom_kind_is_brought_and_nothing_else_is(file: str, mode: Mode, aws: Maker) -> None:
    platform = spec.load(EXAMPLES / file)
    found, objects = needed(platform, mode, aws)
    custom = {(obj["apiVersion"], obj["kind"]) for obj in objects if is_custom(obj["apiVersion"].partition("/")[0])}
    manual = {kind for each in by_hand(Plan(platform, mode, aws), objects) for kind in each.kinds}
    groups = {group for each in found for group in each.groups}
    by_eks = {"eks.amazonaws.com"} | ({"karpenter.sh"} if mode != "karpenter" else set())
    by_eks |= {"kro.run"} if platform.composition.kro else set()
    same_definitions = {"inference.networking.k8s.io", "services.k8s.aws"}
    lacking = {kind for kind in custom - manual if kind[0].partition("/")[0] not in groups | by_eks | same_definitions}
    assert lacking == set()

    there = {version.partition("/")[0] for version, _ in custom}
    without_objects = [each.name for each in found if there.isdisjoint(each.groups)]
    assert set(without_objects) <= {"aws-load-balancer-controller", "agentgateway", "agentgateway-crds"}
    assert len({each.name for each in found}) == len(found)


def is_custom(group: str) -> bool:
    built_in = ("networking.k8s.io", "rbac.authorization.k8s.io", "storage.k8s.io", "scheduling.k8s.io", "policy")
    return "." in group and group not in built_in


def test_karpenter_beside_auto_mode_starts_on_its_nodes() -> None:
    """The chart's own rule keeps it off them, and there are no others."""
    (karpenter,) = (each for each in needed(spec.loads(""), "hybrid")[0] if each.name == "karpenter")
    (term,) = karpenter.values["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term == {
        "matchExpressions": [{"key": "eks.amazonaws.com/compute-type", "operator": "In", "values": ["auto"]}]
    }


def test_values_say_what_only_terraform_knows() -> None:
    found = {each.name: each.values for each in needed(spec.loads(""), "karpenter")[0]}
    assert found["karpenter"]["settings"] == {
        "clusterName": "agentic-ai-cluster",
        "clusterEndpoint": "https://abc.eks.amazonaws.com",
        "interruptionQueue": "prod-interruption",
    }
    assert "affinity" not in found["karpenter"]
    assert found["aws-load-balancer-controller"]["vpcId"] == "vpc-1"
    assert Facts.of({"vpc_id": "vpc-1", "region": "eu-west-1"}) == Facts("vpc-1", None, None)


def test_a_prometheus_of_ones_own_is_not_doubled() -> None:
    text = "global: {observability: {prometheusUrl: 'http://mine.metrics.svc:9090'}}"
    platform = spec.loads(text)
    found, objects = needed(platform, "auto")
    assert "kube-prometheus-stack" not in [each.name for each in found]
    (manual,) = by_hand(Plan(platform, "auto", "terraform"), objects)
    assert (manual.what, manual.kinds[0]) == ("Prometheus Operator", ("monitoring.coreos.com/v1", "PodMonitor"))
    moved = spec.loads("global: {observability: {prometheusUrl: 'http://prometheus-operated.metrics.svc:9090'}}")
    assert "metrics/kube-prometheus-stack 88.2.0" in names(needed(moved, "auto")[0])


def test_all_start_on_the_two_small_nodes() -> None:
    """In karpenter mode there are no other nodes yet. 2 of m7i.large, less what EKS' own pods ask for."""
    found, _ = needed(spec.load(EXAMPLES / "everything.yaml"), "karpenter")
    assert sum(asked(each.values) for each in found) <= Decimal("2.5")


def asked(values: Any, copies: int = 1) -> Decimal:
    """Processors, of all that values ask for."""
    if not isinstance(values, dict):
        return Decimal(0)
    copies = values.get("replicaCount") or values.get("replicas") or copies
    own = Decimal(values.get("resources", {}).get("requests", {}).get("cpu", "0m").removesuffix("m")) / 1000
    return own * copies + sum((asked(each, copies) for each in values.values()), Decimal(0))
