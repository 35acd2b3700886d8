"""What controllers would do with an object once it is written, in small: statuses that say ready, or why not."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from stoker.testing.kubernetes.resources import Registry, defined_by
from stoker.testing.kubernetes.storage import Id, Storage

Tree = dict[str, Any]
Readiness = str | Mapping[tuple[str, str], str] | Callable[[str, str], str]


class Controllers:
    """They write straight into the storage, as no field manager."""

    def __init__(self, registry: Registry, storage: Storage) -> None:
        self.readiness: Readiness = "ready"
        self._registry = registry
        self._storage = storage

    def after(self, id: Id) -> None:
        """An object was written or removed."""
        obj = self._storage.get(id)
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            return
        if id[1] == "CustomResourceDefinition":
            self._registry.add(defined_by(obj))

    def settle(self) -> None:
        for id in self._storage.ids():
            self.after(id)
