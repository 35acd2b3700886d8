"""The objects of the stand-in, by kind and name, and what happened to them, for watches.

Not as Kubernetes: one object is stored once and shown in every version that its kind is served in, unconverted.
"""

import copy
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stoker.testing.kubernetes.resources import Resource

Tree = dict[str, Any]
Id = tuple[str, str, str, str]
"""Group, kind, namespace (empty where there is none), name."""

_START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Event:
    """`kind`: ADDED, MODIFIED or DELETED."""

    version: int
    kind: str
    id: Id
    obj: Tree


class Counting:
    """Time that goes on by a second whenever it is asked for."""

    def __init__(self, start: datetime = _START) -> None:
        self._now = start

    def __call__(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


class Storage:
    """`now`: the time of writes; as counted by default, so that runs are alike."""

    def __init__(self, now: Callable[[], datetime] | None = None) -> None:
        self._objects: dict[Id, Tree] = {}
        self._now = now or Counting()
        self._uids = 0
        self.version = 1
        self.events: list[Event] = []

    def now(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def get(self, id: Id) -> Tree | None:
        """The stored object itself: not to be changed."""
        return self._objects.get(id)

    def ids(self) -> list[Id]:
        return sorted(self._objects)

    def of(self, resource: Resource, namespace: str = "") -> Iterator[tuple[Id, Tree]]:
        """Sorted by namespace and name; of every namespace where none is named."""
        for id in self.ids():
            if id[:2] == (resource.group, resource.kind) and namespace in ("", id[2]):
                yield id, self._objects[id]

    def all(self) -> Iterator[tuple[Id, Tree]]:
        for id in self.ids():
            yield id, self._objects[id]

    def create(self, id: Id, obj: Tree) -> Tree:
        obj = copy.deepcopy(obj)
        meta = obj["metadata"]
        meta["uid"] = self.uid()
        meta["creationTimestamp"] = self.now()
        meta["generation"] = 1
        return self._put(id, obj, "ADDED")

    def replace(self, id: Id, obj: Tree) -> Tree:
        return self._put(id, copy.deepcopy(obj), "MODIFIED")

    def remove(self, id: Id) -> Tree:
        obj = copy.deepcopy(self._objects.pop(id))
        self._tell("DELETED", id, obj)
        return obj

    def uid(self) -> str:
        self._uids += 1
        return str(uuid.UUID(int=self._uids))

    def _put(self, id: Id, obj: Tree, kind: str) -> Tree:
        self._objects[id] = obj
        self._tell(kind, id, obj)
        return obj

    def _tell(self, kind: str, id: Id, obj: Tree) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self.events.append(Event(self.version, kind, id, obj))
