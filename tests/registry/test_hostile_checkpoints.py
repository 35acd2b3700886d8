"""Whoever can write into a run's place can make a checkpoint unusable, and nothing else: nothing that is read there is
executed, no key leads out of it, and what is claimed to be large costs nothing before it is seen to be there."""

import ast
import io
import json
import os
import pickle
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from checkpoint_builders import RUN, read_state, save, sha256
from structlog.testing import capture_logs

import stoker.registry
from stoker.registry import documents, heads
from stoker.registry.manifests import Manifest, from_bytes
from stoker.registry.runs import NoneWhole, RunStore
from stoker.registry.shards import Damaged, ShardRecord, read_pieces, verify_shard
from stoker.testing.stores import MemoryStore

KEY = "checkpoints/s00000020-e0001-0/"


class Exploit:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def zipped(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return out.getvalue()


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def corpus(trap: Path) -> dict[str, bytes]:
    bomb = bytes(8 << 20)
    return {
        "pickle": pickle.dumps(Exploit(trap)),
        "pickle, protocol 0": pickle.dumps(Exploit(trap), protocol=0),
        "pickle after JSON": b"{}" + pickle.dumps(Exploit(trap)),
        "torch.save": zipped("archive/data.pkl", pickle.dumps({"model": Exploit(trap)})),
        "zip bomb": zipped("bomb", bomb),
        "zlib bomb": zlib.compress(bomb),
        "deep": b"[" * 100_000 + b"]" * 100_000,
        "deep objects": b'{"a":' * 100_000,
        "NaN": b'{"step": NaN}',
        "infinity": b'{"step": -Infinity}',
        "huge integer": b'{"step": ' + b"9" * 100_000 + b"}",
        "huge exponent": b'{"step": 1e999999999}',
        "key twice": b'{"step": 1, "step": 2}',
        "not UTF-8": b'{"run": "\xff\xfe"}',
        "half a surrogate": b'{"run": "\\ud800"}',
        "NUL": b'{"run": "a\\u0000b"}',
        "yaml": b"!!python/object/apply:os.mkdir [/tmp/x]",
        "safetensors with a header of 2^60 bytes": (1 << 60).to_bytes(8, "little") + b"{}",
        "safetensors with nothing behind it": safetensors(
            b'{"model/w":{"dtype":"F32","shape":[12,8],"data_offsets":[0,384]}}'
        ),
        "empty": b"",
    }


NAMES = list(corpus(Path("trap")))


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    runs = RunStore(store, RUN, writer="maker")
    save(runs, save(runs, runs.claim(), 10), 20)
    return store


def load(store: MemoryStore) -> Manifest | None:
    runs = RunStore(store, RUN, writer="reader")
    with capture_logs():
        return runs.newest_whole(lambda manifest: (read_state(runs, manifest), None)[1])[0]


def test_the_trap_works(tmp_path: Path) -> None:
    pickle.loads(corpus(tmp_path / "trap")["pickle"])
    assert (tmp_path / "trap").exists()


class TestWhateverIsThere:
    @pytest.mark.parametrize("name", NAMES)
    def test_is_not_executed_and_the_one_before_is_used(self, store: MemoryStore, tmp_path: Path, name: str) -> None:
        trap = tmp_path / "trap"
        data = corpus(trap)[name]
        for place in ("manifest.json", "shard-00000.safetensors"):
            was = store.objects[KEY + place]
            store.objects[KEY + place] = data
            found = load(store)
            store.objects[KEY + place] = was

            assert found is not None
            assert found.step == 10
        assert not trap.exists()

    @pytest.mark.parametrize("name", NAMES)
    def test_as_head_is_not_executed_and_its_copy_is_used(self, store: MemoryStore, tmp_path: Path, name: str) -> None:
        trap = tmp_path / "trap"
        store.objects["HEAD"] = corpus(trap)[name]
        found = load(store)
        assert found is not None
        assert found.step == 20

        store.objects["HEAD.copy"] = store.objects["HEAD"]
        with pytest.raises(NoneWhole):
            load(store)
        assert not trap.exists()

    @pytest.mark.parametrize("name", NAMES)
    def test_even_as_a_manifest_that_head_names_it_is_damaged(
        self, store: MemoryStore, tmp_path: Path, name: str
    ) -> None:
        """By one who writes HEAD, too."""
        trap = tmp_path / "trap"
        put_manifest(store, corpus(trap)[name])
        found = load(store)
        assert found is not None
        assert found.step == 10
        assert not trap.exists()


def put_manifest(store: MemoryStore, data: bytes) -> None:
    """With a HEAD that names just this one."""
    head = heads.from_bytes(store.objects["HEAD"])
    forged = replace(head.entries[-1], sha256=sha256(data))
    store.objects["HEAD"] = heads.to_bytes(replace(head, entries=(*head.entries[:-1], forged)))
    store.objects[KEY + "manifest.json"] = data


def forged(store: MemoryStore, change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(store.objects[KEY + "manifest.json"])
    change(document)
    return json.dumps(document).encode()


class TestAManifestThatSomebodyForged:
    @pytest.mark.parametrize(
        "key",
        ["../s00000010-e0001-0/shard-00000.safetensors", "/etc/passwd", "..", "a/../../b", "C:\\x", "~/x", "%2e%2e/x"],
    )
    def test_reads_nothing_outside_of_its_checkpoint(self, store: MemoryStore, key: str) -> None:
        put_manifest(store, forged(store, lambda document: document["shards"][0].update(key=key)))
        asked: list[str] = []
        store.before = lambda operation, key: asked.append(key)

        found = load(store)

        assert found is not None
        assert found.step == 10
        places = ("HEAD", "checkpoints/s00000020-e0001-0/manifest.json", "checkpoints/s00000010-e0001-0/")
        assert all(each.startswith(places) for each in asked), asked

    def test_takes_no_memory_for_what_is_not_there(self) -> None:
        """A tensor of 2^50 bytes, in an object of a hundred."""
        size = 1 << 50
        chunk = {"chunk_bytes": 256 << 20, "chunks": ["0" * 64] * (size // (256 << 20) // 64)}
        record = {"key": "a", "size_bytes": size // 64, **chunk}
        piece = {"name": "w", "dtype": "U8", "shape": [size // 64], "start": 0, "end": size // 64}
        document = {"format": "stoker-checkpoint/1", "run": "r", "name": "n", "step": 1, "epoch": 1, "created_at": 0.0}
        document |= {"state": {}, "shards": [{**record, "pieces": [piece]}]}
        manifest = from_bytes(json.dumps(document).encode())
        store = MemoryStore({"p/a": bytes(100)})

        tracemalloc.start()
        try:
            for read in (
                lambda: read_pieces(store, "p/", manifest.shards, {"w": None}),
                lambda: verify_shard(store, "p/", manifest.shards[0]),
            ):
                with pytest.raises(Damaged, match="has 100 bytes, and was written with"):
                    read()
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()

    def test_a_record_whose_digests_do_not_fit_its_size_is_damaged(self) -> None:
        store = MemoryStore({"p/a": bytes(100)})
        for chunk_bytes, chunks in ((0, ()), (-1, ()), (1 << 60, ("0" * 64,)), (64, ("0" * 64,)), (1, ())):
            with pytest.raises(Damaged, match="digests of chunks"):
                verify_shard(store, "p/", ShardRecord("a", 100, chunks, (), chunk_bytes))

    def test_a_list_of_a_billion_is_refused_for_its_size_alone(self) -> None:
        data = b'{"shards":[' + b"0," * (documents.MOST_VALUES + 1) + b"0]}"
        tracemalloc.start()
        try:
            with pytest.raises(Damaged, match="values, and"):
                from_bytes(data)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


def test_nothing_in_the_package_can_execute_what_it_reads() -> None:
    """No pickle, no eval, no loader of code: this is what "no pickle on any load path" rests on."""
    banned = {
        "pickle",
        "marshal",
        "shelve",
        "dill",
        "cloudpickle",
        "joblib",
        "torch",
        "yaml",
        "importlib",
        "subprocess",
    }
    for path in Path(stoker.registry.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not banned & {alias.name.partition(".")[0] for alias in node.names}, path
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in banned, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, path
