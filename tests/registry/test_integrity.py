"""No damage to a checkpoint is silent: it is refused by name and reason, and the newest that is whole is used.

`make test-train` does CORRUPTIONS=10000.
"""

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

import pytest
from corruptions import DAMAGES, damage_and_read, make_run
from structlog.testing import capture_logs

from stoker.registry import shards
from stoker.testing.stores import MemoryStore

COUNT = int(os.environ.get("CORRUPTIONS", "300"))


@pytest.mark.parametrize("seed", [1, 2])
def test_no_damage_is_silent_and_the_newest_that_is_whole_is_used(seed: int) -> None:
    store = MemoryStore()
    make_run(store)

    with capture_logs():
        tally = damage_and_read(store, store.objects, COUNT // 2, seed)

    assert tally.silent == []
    assert tally.lost == []
    assert tally.done.keys() == DAMAGES.keys()


def test_the_check_sees_what_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without digests most of it is."""
    store = MemoryStore()
    make_run(store)
    monkeypatch.setattr(shards, "_digest", lambda parts: "0" * 64)
    whole = shards._verified

    def unverified(store: MemoryStore, prefix: str, shard: shards.ShardRecord, number: int) -> bytes:
        unsigned = shards.ShardRecord(shard.key, shard.size_bytes, ("0" * 64,), shard.pieces, shard.chunk_bytes)
        return whole(store, prefix, unsigned, number)

    monkeypatch.setattr(shards, "_verified", unverified)
    with capture_logs():
        tally = damage_and_read(store, store.objects, 100, 1)
    assert len(tally.silent) > 20


class Files(MutableMapping[str, bytes]):
    """Objects as files below a folder, changed behind the store's back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, key: str) -> bytes:
        try:
            return (self._folder / key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None

    def __setitem__(self, key: str, data: bytes) -> None:
        (self._folder / key).parent.mkdir(parents=True, exist_ok=True)
        (self._folder / key).write_bytes(data)

    def __delitem__(self, key: str) -> None:
        (self._folder / key).unlink()

    def __iter__(self) -> Iterator[str]:
        return (str(path.relative_to(self._folder)) for path in self._folder.rglob("*") if path.is_file())

    def __len__(self) -> int:
        return sum(1 for _ in self)


def test_nor_is_any_damage_to_a_folder(tmp_path: Path) -> None:
    folders = pytest.importorskip("stoker.registry.folders")
    store = folders.FolderStore(tmp_path)
    make_run(store)

    with capture_logs():
        tally = damage_and_read(store, Files(tmp_path), 60, 3)

    assert (tally.silent, tally.lost) == ([], [])
