"""What a deploy would do, before anything is done: Terraform's plan, releases of controllers, and for each object what
the server says would become of it. Nothing is changed: objects are tried out by dry run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stoker.base.errors import NotFound
from stoker.deploy import inventory
from stoker.deploy.differences import Difference, added_by_others, differences
from stoker.deploy.terraform import TerraformPlan
from stoker.deploy.waves import steps
from stoker.kubernetes.cluster import MANAGER, Cluster, FieldConflict, Key, Rejected, Tree, key_of

ObjectAction = Literal["create", "update", "replace", "unchanged", "remove", "conflict", "refused"]
_REPLACED = ("Job",)
"""Kinds whose specs cannot be changed, and whose objects can be made again: they are deleted and made anew."""


@dataclass(frozen=True)
class ObjectPlan:
    """`differences`: from what is to what would be. `held`: (manager, field) that somebody else has changed since.
    `added`: (manager, field) that somebody else has put beside ours, which a deploy leaves. `why`: what the server says
    of an object that it refuses."""

    key: Key
    action: ObjectAction
    differences: Sequence[Difference] = ()
    held: Sequence[tuple[str, str]] = ()
    added: Sequence[tuple[str, str]] = ()
    why: str = ""


@dataclass(frozen=True)
class DeployPlan:
    """`terraform`: None where the file leaves it out. `objects`: all are to be created where there is no cluster
    yet."""

    terraform: TerraformPlan | None
    objects: tuple[ObjectPlan, ...]

    @property
    def changes_nothing(self) -> bool:
        return not (self.terraform and self.terraform.changes) and all(
            each.action == "unchanged" for each in self.objects
        )

    @property
    def is_as_the_file_says(self) -> bool:
        """Nothing to change, and nothing that others have put beside it."""
        return self.changes_nothing and not any(each.added for each in self.objects)

    def of(self, *actions: ObjectAction) -> list[ObjectPlan]:
        return [each for each in self.objects if each.action in actions]


def plan_objects(
    cluster: Cluster | None, wanted: Sequence[Tree], namespace: str, owner: inventory.Owner
) -> tuple[ObjectPlan, ...]:
    """In the order in which they are applied; what is to be removed last. Raises NotPermitted where the cluster holds
    another platform."""
    ordered = [obj for step in steps(wanted) for obj in step.objects]
    if cluster is None:
        return tuple(ObjectPlan(key_of(obj), "create") for obj in ordered)
    there = inventory.read(cluster, namespace, owner)
    found = [plan_object(cluster, obj) for obj in ordered]
    gone = inventory.no_longer_wanted(there, [key_of(obj) for obj in ordered])
    found += [ObjectPlan(key, "remove") for key in gone if (live := cluster.get(key)) and inventory.is_ours(live)]
    return tuple(found)


def plan_object(cluster: Cluster, obj: Tree) -> ObjectPlan:
    key = key_of(obj)
    live = cluster.get(key)
    try:
        would_be = cluster.apply(obj, dry_run=True)
    except NotFound:  # its namespace or its kind comes with what is applied before it
        return ObjectPlan(key, "create")
    except Rejected as error:
        if live is not None and is_made_anew(key, error):
            return ObjectPlan(key, "replace", differences(live, {**live, "spec": obj.get("spec")}))
        return ObjectPlan(key, "refused", why=error.message)
    except FieldConflict as error:
        forced = cluster.apply(obj, dry_run=True, force=True)
        added = added_by_others(live or {}, MANAGER)
        return ObjectPlan(key, "conflict", differences(live or {}, forced), error.causes, added)
    if live is None:
        return ObjectPlan(key, "create")
    changed = differences(live, would_be)
    action: ObjectAction = "update" if changed else "unchanged"
    return ObjectPlan(key, action, changed, added=added_by_others(live, MANAGER))


def is_made_anew(key: Key, error: Rejected) -> bool:
    """Whether an object that the server refuses to change is deleted and made again instead: the field may never
    change, and nothing is lost with the object."""
    return key.kind in _REPLACED and ("immutable" in error.message or "may not be changed" in error.message)
