"""Small checkpoints for tests, written by the real code."""

import hashlib
import random
from collections.abc import Sequence
from typing import Any

from stoker.registry.heads import Keep
from stoker.registry.manifests import Manifest, name_of
from stoker.registry.runs import Lease, RunStore
from stoker.registry.shards import DTYPE_BYTES, Piece, ShardRecord, read_pieces

RUN = "tune"


def whole(name: str, dtype: str, shape: Sequence[int], data: bytes) -> Piece:
    return Piece(name, dtype, tuple(shape), tuple(shape), (0,) * len(shape), data)


def rows(name: str, data: bytes, shape: tuple[int, int], begin: int, end: int) -> Piece:
    """Rows of a matrix of bytes."""
    width = shape[1]
    return Piece(name, "U8", (end - begin, width), shape, (begin, 0), data[begin * width : end * width])


def noise(seed: object, size: int) -> bytes:
    return random.Random(str(seed)).randbytes(size)


def tensors_of(step: int) -> dict[str, bytes]:
    """What a run's state is at a step: another one at each."""
    return {"model/w": noise((step, "w"), 4 * 96), "adam_m/w": noise((step, "m"), 4 * 96), "adam_step": noise(step, 8)}


def pieces_of(step: int, rank: int, world: int) -> list[Piece]:
    found = []
    for name, data in tensors_of(step).items():
        if name == "adam_step":
            found += [whole(name, "I64", (), data)] if rank == 0 else []
            continue
        each = 12 // world
        piece = data[rank * each * 32 : (rank + 1) * each * 32]
        found.append(Piece(name, "F32", (each, 8), (12, 8), (rank * each, 0), piece))
    return found


def manifest_of(
    lease: Lease, step: int, shards: Sequence[ShardRecord], parent: str | None = None, attempt: int = 0, **state: Any
) -> Manifest:
    return Manifest(
        run=RUN,
        name=name_of(step, lease.epoch, attempt),
        step=step,
        epoch=lease.epoch,
        created_at=1_700_000_000.0 + step,
        shards=tuple(shards),
        state={"step": step, **state},
        parent=parent,
    )


def save(
    runs: RunStore,
    lease: Lease,
    step: int,
    *,
    keep: Keep | None = None,
    parent: str | None = None,
    loss: float | None = None,
    world: int = 1,
    attempt: int = 0,
) -> Lease:
    """A checkpoint of the state at a step, by so many ranks."""
    name = name_of(step, lease.epoch, attempt)
    shards = [
        runs.write(name, f"shard-{rank:05d}.safetensors", pieces_of(step, rank, world), timeout_s=60.0)
        for rank in range(world)
    ]
    manifest = manifest_of(lease, step, shards, parent, attempt)
    return runs.commit(lease, manifest, keep or Keep(last=3, best=0), loss=loss)


def read_state(runs: RunStore, manifest: Manifest) -> dict[str, bytes]:
    """All of it, verified. Raises Damaged."""
    wanted = dict.fromkeys(("model/w", "adam_m/w", "adam_step"))
    found = read_pieces(runs.store, runs.prefix(manifest.name), manifest.shards, wanted)
    return {name: bytes(data) for name, (_, _, data) in found.items()}


def names(lease: Lease) -> list[str]:
    return [entry.name for entry in lease.head.entries]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


__all__ = ["DTYPE_BYTES", "RUN", "manifest_of", "names", "noise", "pieces_of", "read_state", "rows", "save", "sha256"]
