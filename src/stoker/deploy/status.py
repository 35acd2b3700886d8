"""How a deployed platform is: each component, how many of its objects are ready, and why the others are not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stoker.deploy import inventory, reasons
from stoker.deploy.controllers import Facts, controllers
from stoker.deploy.inventory import Inventory
from stoker.deploy.site import Site
from stoker.deploy.waves import COMPONENT, steps
from stoker.kubernetes.cluster import Cluster, Key, key_of


@dataclass(frozen=True)
class Trouble:
    key: Key
    reason: str


@dataclass(frozen=True)
class Component:
    """`ready` of `total` objects; `troubles` are those of the others."""

    name: str
    ready: int
    total: int
    troubles: tuple[Trouble, ...]

    @property
    def is_ready(self) -> bool:
        return self.ready == self.total


def components(site: Site, cluster: Cluster) -> list[Component]:
    """The controllers, what the file asks for in the order in which it is applied, and what is left over of an earlier
    file, as the component `left over`. Raises NotPermitted where the cluster holds another platform."""
    there = inventory.read(cluster, site.plan.namespace, site.owner)
    found: dict[str, list[Trouble | None]] = {}
    wanted = [obj for step in steps(site.objects) for obj in step.objects]
    for obj in wanted:
        name = obj["metadata"].get("labels", {}).get(COMPONENT, "other")
        found.setdefault(name, []).append(trouble(cluster, key_of(obj)))
    gone = inventory.no_longer_wanted(there, map(key_of, wanted))
    left = [Trouble(key, "the file no longer asks for it") for key in gone if cluster.get(key) is not None]
    listed = [*_controllers(site, there), *(_component(name, troubles) for name, troubles in found.items())]
    return [*listed, Component("left over", 0, len(left), tuple(left))] if left else listed


def _controllers(site: Site, inventory: Inventory) -> list[Component]:
    """The releases that a deploy of this file needs, as one component; none where it installs none. Of somebody else's
    the version is theirs to choose."""
    wanted = controllers(site.plan, site.objects, Facts.of(site.made)) if site.spec.deploy.controllers else []
    if not wanted:
        return []
    there = {(each.namespace, each.name): each for each in site.helm().releases()}
    troubles = []
    for each in wanted:
        release = there.get((each.namespace, each.name))
        key = Key("helm", "Release", each.namespace, each.name)
        if release is None:
            troubles.append(Trouble(key, "is not installed"))
        elif release.status != "deployed":
            troubles.append(Trouble(key, f"is {release.status}"))
        elif f"{each.namespace}/{each.name}" in inventory.releases and not release.chart.endswith(f"-{each.version}"):
            troubles.append(Trouble(key, f"is {release.chart}, and {each.version} is wanted"))
    return [Component("controllers", len(wanted) - len(troubles), len(wanted), tuple(troubles))]


def trouble(cluster: Cluster, key: Key) -> Trouble | None:
    """None where the object is ready."""
    obj: Mapping[str, Any] | None = cluster.get(key)
    if obj is None:
        why = "is not there" if cluster.serves(key.api_version, key.kind) else "nothing in the cluster knows its kind"
        return Trouble(key, why)
    state = reasons.explained(cluster, obj)
    return None if state.is_ready else Trouble(key, state.reason)


def _component(name: str, troubles: Iterable[Trouble | None]) -> Component:
    listed = list(troubles)
    bad = tuple(each for each in listed if each is not None)
    return Component(name, len(listed) - len(bad), len(listed), bad)
