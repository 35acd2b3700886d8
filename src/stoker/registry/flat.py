"""Weights where the replicas of a cluster stream them from: the files side by side, of one version at a time.

    PLACE/config.json, model.safetensors, ...     the files
    PLACE/.stoker-registered                      JSON: which digest they have, and whether all of them are there

`PLACE/.stoker-weights` is the note of the Job that brings weights from the hub (render/models_scripts.py). Without it,
and with files there, that Job leaves the place alone; so it is removed before the first file is written.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from stoker.base.errors import Conflict, NotFound
from stoker.registry.stores import Store
from stoker.registry.weights import digest_of, mapped

NOTE, HUB_NOTE = ".stoker-registered", ".stoker-weights"
_FILE_S = 3600.0


def lay_out(folder: Path, store: Store) -> bool:
    """Whether anything had to be written. What was there is written over and removed: keep versioning on in the bucket.
    Begun again after it was broken off, it goes on. Raises Conflict while the hub's weights are on their way there."""
    digest, files = digest_of(folder)
    there = {stat.key: stat.size_bytes for stat in store.list() if "/" not in stat.key}
    if _note(store, there) == {"digest": digest, "state": "complete"} and _are_there(folder, files, there):
        return False
    said = store.get(HUB_NOTE).decode(errors="replace").split() if HUB_NOTE in there else []
    if said[1:2] == ["begun"]:
        raise Conflict(
            f"weights of {said[0]} are on their way to {store.url}",
            hint="wait until the Job that brings them has ended, and register again",
        )
    _say(store, digest, "begun")
    store.delete([HUB_NOTE])
    for name in files:
        with mapped(folder / name) as parts:
            store.put(name, parts, timeout_s=_FILE_S)
    store.delete(sorted(there.keys() - files.keys() - {NOTE}))
    _say(store, digest, "complete")
    return True


def laid_out(store: Store) -> str | None:
    """Digest of what is there as a whole; None when it is not known, or not all there."""
    note = _note(store, {NOTE: 0})
    return note["digest"] if note.get("state") == "complete" and "digest" in note else None


def _are_there(folder: Path, files: Mapping[str, str], there: Mapping[str, int]) -> bool:
    return all(there.get(name) == (folder / name).stat().st_size for name in files)


def _note(store: Store, there: Mapping[str, int]) -> dict[str, str]:
    if NOTE not in there:
        return {}
    try:
        note = json.loads(store.get(NOTE))
    except (NotFound, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _say(store: Store, digest: str, state: str) -> None:
    store.put(NOTE, [json.dumps({"digest": digest, "state": state}).encode()])
