"""Which objects of a cluster are this platform's: a ConfigMap in its namespace.

It is written before objects are made (what was there, and what will be) and trimmed after what is no longer wanted is
gone, so that one who is interrupted anywhere forgets none of them.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stoker import __version__
from stoker.base.errors import Conflict, NotPermitted
from stoker.kubernetes.cluster import Cluster, Key

NAME = "stoker-deploy"
_LABEL = "app.kubernetes.io/managed-by"


@dataclass(frozen=True)
class Owner:
    """Whose platform it is: two files that name other clusters never act on one."""

    account: str | None
    region: str
    cluster: str

    def __str__(self) -> str:
        return f"{self.cluster} of {self.account or 'no account'} in {self.region}"


@dataclass(frozen=True)
class Inventory:
    """`keys`: objects that are ours, in no order that matters. `found`: namespaces that were there before the first
    deploy, which stay. `releases`: what was installed by Helm, as namespace/name; others' are left alone. `is_new`:
    nothing was deployed yet."""

    keys: tuple[Key, ...] = ()
    found: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    is_new: bool = False


def read(cluster: Cluster, namespace: str, owner: Owner) -> Inventory:
    """What is there; nothing where nothing was deployed. Raises NotPermitted where it is another platform's."""
    found = cluster.get(_key(namespace))
    if found is None:
        return Inventory(is_new=True)
    try:
        data = found["data"]
        written = Owner(**json.loads(data["owner"]))
        keys = tuple(Key(*each) for each in json.loads(data["objects"]))
        kept, releases = (tuple(map(str, json.loads(data[name]))) for name in ("found", "releases"))
    except (KeyError, TypeError, ValueError) as error:
        raise Conflict(
            f"the ConfigMap {namespace}/{NAME} is not as stoker deploy writes it: {type(error).__name__} {error}",
            hint="restore it, or delete it if nothing of the platform is in the cluster",
        ) from error
    if written != owner:
        raise NotPermitted(
            f"the namespace {namespace} of this cluster holds the platform {written}, and the file names {owner}",
            hint="is deploy.context the cluster that is meant? Another platform needs another namespace",
        )
    return Inventory(keys, kept, releases)


def write(cluster: Cluster, namespace: str, owner: Owner, inventory: Inventory) -> None:
    """Raises as `Cluster.apply`."""
    listed = sorted({(key.api_version, key.kind, key.namespace, key.name) for key in inventory.keys})
    data = {
        "owner": json.dumps(owner.__dict__, sort_keys=True),
        "objects": json.dumps(listed),
        "found": json.dumps(sorted(inventory.found)),
        "releases": json.dumps(sorted(set(inventory.releases))),
        "version": __version__,
    }
    cluster.apply(_object(namespace, data), force=True)


def remove(cluster: Cluster, namespace: str) -> None:
    cluster.delete(_key(namespace))


def no_longer_wanted(inventory: Inventory, wanted: Iterable[Key]) -> list[Key]:
    """What is in the inventory and not among `wanted`, whichever version of its API each was written in."""
    kept = {key.identity for key in wanted}
    return [key for key in inventory.keys if key.identity not in kept]


def is_ours(obj: Mapping[str, Any]) -> bool:
    """Whether an object says that it is the platform's. What does not is never removed, whatever the inventory says."""
    return bool((obj["metadata"].get("labels") or {}).get(_LABEL) == "stoker")


def _key(namespace: str) -> Key:
    return Key("v1", "ConfigMap", namespace, NAME)


def _object(namespace: str, data: dict[str, str]) -> dict[str, Any]:
    labels = {"app.kubernetes.io/part-of": "stoker", _LABEL: "stoker"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": namespace, "labels": labels},
        "data": data,
    }
