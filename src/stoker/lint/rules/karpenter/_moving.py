"""Moving an object from an older version to v1: as a whole, or not at all.

Between v1beta1 and v1 fields moved, were renamed and became required. An object half of each is refused by both.
So the rule of the version makes the edits of all of them, where v1 then takes the object; the others hold theirs back.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from stoker.catalog import schemas
from stoker.catalog.schemas import Schema
from stoker.lint import structural
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem
from stoker.manifests.edits import CannotEdit, Edit, Remove, Replace, meaning
from stoker.manifests.objects import Manifest, is_open

OLD = ("v1alpha1", "v1alpha5", "v1beta1")
Find = Callable[[Cluster], Iterable[Problem]]


def alone(problems: Iterable[Problem]) -> Iterator[Problem]:
    """The problems, without the edits of those in objects of an older version."""
    return (replace(each, edits=()) if each.manifest.version in OLD else each for each in problems)


def to_v1(cluster: Cluster, manifest: Manifest, found: Iterable[Problem]) -> tuple[Edit, ...]:
    """What makes a v1 object of an older one: its version, and the edits of the problems found in it. Nothing, where v1
    would refuse something that the old version does not."""
    version = f"{manifest.group}/v1"
    edits = _in_order([Replace(("apiVersion",), version), *(edit for each in found for edit in each.edits)])
    schema, data = schemas.find(version, manifest.kind, cluster.kubernetes), manifest.data
    try:
        for edit in edits:
            data = meaning(data, edit)
    except CannotEdit:
        return ()
    if schema is None or _faults(manifest, data, schema) - _faults(manifest, manifest.data, cluster.schema(manifest)):
        return ()
    return edits


def _in_order(edits: Iterable[Edit]) -> tuple[Edit, ...]:
    """Removals last, and of a list's items the later ones first, so that no path is of something that has moved."""
    held: list[Edit] = []
    for edit in edits:
        if edit not in held:
            held.append(edit)
    removals = [each for each in held if isinstance(each, Remove)]
    removals.sort(key=lambda each: [(isinstance(part, int), part) for part in each.path], reverse=True)
    return (*(each for each in held if not isinstance(each, Remove)), *removals)


def _faults(manifest: Manifest, data: object, schema: Schema | None) -> set[tuple[str, object]]:
    if schema is None:
        return set()
    found = structural.faults(data, schema, is_open=lambda value: is_open(manifest, value))
    return {(each.kind, each.path) for each in found}
