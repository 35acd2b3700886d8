"""Tensors to one safetensors object and back, hashed in chunks as they go. Knows nothing of torch: tensors are bytes.

The format is that of huggingface/safetensors (8 bytes length, JSON header, data), so other tools read a shard.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stoker.registry.stores import Buffer, Store

CHUNK_BYTES = 16 << 20
"""Hashed by itself, so that hashing runs on several threads, and part of a shard can be verified alone."""


@dataclass(frozen=True)
class Piece:
    """Part of a tensor, or all of it. `dtype` in safetensors' words (F32, BF16, I64, U8...); `shape` is that of the piece,
    `whole` that of the tensor, `at` where the piece begins in each dimension. `data`: C-contiguous, little-endian."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    whole: tuple[int, ...]
    at: tuple[int, ...]
    data: Buffer


@dataclass(frozen=True)
class PieceRecord:
    """Where a piece is: as `Piece`, with the range of bytes in its object."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    whole: tuple[int, ...]
    at: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class ShardRecord:
    """One object of a checkpoint. `chunks`: sha256 (hex) of each CHUNK_BYTES of it."""

    key: str
    """Relative to the checkpoint's own prefix."""
    size_bytes: int
    chunks: tuple[str, ...]
    pieces: tuple[PieceRecord, ...]


def write_shard(store: Store, prefix: str, key: str, pieces: Sequence[Piece], *, timeout_s: float) -> ShardRecord:
    """Write the pieces as the object `prefix + key`, hashing meanwhile. Copies no tensor. Raises as `Store.put`."""
    raise NotImplementedError


class Damaged(Exception):
    """Not an error of the tree: `runs.newest_whole` turns it into a fallback or a refusal. `why` is for people."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def read_pieces(
    store: Store, prefix: str, shards: Sequence[ShardRecord], wanted: Mapping[str, Sequence[tuple[int, int]] | None]
) -> dict[str, tuple[str, tuple[int, ...], bytearray]]:
    """Tensors, or a block of each: name -> dtype, shape of the block, bytes. `wanted`: name -> (begin, end) for each
    dimension, or None for all of it. Every byte that is returned comes from a chunk whose digest was right. Reads only
    the chunks that it needs, on several threads. Raises Damaged (a digest, a size, a gap), NotFound never: an object
    that is missing is Damaged; Unavailable and NotPermitted as they are."""
    raise NotImplementedError


def verify_shard(store: Store, prefix: str, shard: ShardRecord) -> None:
    """Read all of it and compare. Raises Damaged as `read_pieces`."""
    raise NotImplementedError
