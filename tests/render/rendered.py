"""Rendering one component, for tests."""

from collections.abc import Callable, Iterable
from typing import Any

from stoker.render.items import Item, Resource, Terraform
from stoker.render.plan import Plan
from stoker.spec import Mode, loads

Object = dict[str, Any]
Component = Callable[[Plan], Iterable[Item]]


def plan_of(text: str = "", mode: Mode = "karpenter") -> Plan:
    return Plan(loads(text), mode)


def objects_of(component: Component, text: str = "", mode: Mode = "karpenter") -> dict[tuple[str, str], Object]:
    """By kind and name; of the first namespace where two have both."""
    found: dict[tuple[str, str], Object] = {}
    for item in component(plan_of(text, mode)):
        if isinstance(item, Resource):
            found.setdefault((item.object["kind"], item.object["metadata"]["name"]), item.object)
    return found


def blocks_of(component: Component, text: str = "") -> dict[str, dict[str, Any]]:
    """Attributes of Terraform's resources, by type."""
    items = [item for item in component(plan_of(text)) if isinstance(item, Terraform)]
    return {item.block.labels[0]: dict(item.block.attributes) for item in items if item.block.type == "resource"}


def pod_of(workload: Object) -> Object:
    pod: Object = workload["spec"]["template"]["spec"]
    return pod
