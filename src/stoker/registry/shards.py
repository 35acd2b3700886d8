"""Tensors to one safetensors object and back, hashed in chunks as they go. Knows nothing of torch: tensors are bytes.

The format is that of huggingface/safetensors (8 bytes length, JSON header, data), so other tools read a shard. What is
only part of a tensor stands in the header as `NAME@ROW,COLUMN`, where it begins; a whole one as `NAME`.
"""

import hashlib
import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from stoker.base.errors import NotFound
from stoker.registry.blocks import Block, Runs, block_of, overlap, runs, shape_of, tiles
from stoker.registry.documents import Damaged
from stoker.registry.stores import Buffer, Changed, Store

CHUNK_BYTES = 16 << 20
"""Hashed by itself, so that hashing runs on several threads, and part of a shard can be verified alone."""
MOST_CHUNK_BYTES = 256 << 20

DTYPE_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
"""Of one element, by the words of safetensors."""

_CORES = os.cpu_count() or 1
_HASHERS = min(8, max(1, _CORES - 1))
"""One core is left to whoever writes: on two cores, two threads that hash made a save a fifth slower than one."""
_READERS = min(16, max(4, _CORES))
"""Chunks in flight: enough to keep a network busy while digests are computed."""

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Piece:
    """Part of a tensor, or all of it. `dtype` in safetensors' words (F32, BF16, I64, U8...); `shape` is that of the
    piece, `whole` that of the tensor, `at` where the piece begins in each dimension. `data`: C-contiguous,
    little-endian."""

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

    @property
    def block(self) -> Block:
        return block_of(self.at, self.shape)


@dataclass(frozen=True)
class ShardRecord:
    """One object of a checkpoint. `chunks`: sha256 (hex) of each `chunk_bytes` of it, the last one of what is left."""

    key: str
    """Relative to the checkpoint's own prefix."""
    size_bytes: int
    chunks: tuple[str, ...]
    pieces: tuple[PieceRecord, ...]
    chunk_bytes: int = CHUNK_BYTES


# --- writing ---------------------------------------------------------------------------------------------------------


def write_shard(
    store: Store, prefix: str, key: str, pieces: Sequence[Piece], *, timeout_s: float, chunk_bytes: int = CHUNK_BYTES
) -> ShardRecord:
    """Write the pieces as the object `prefix + key`, hashing meanwhile. Copies no tensor; their bytes must not change
    until it returns. Never over another object: where the same is there already that is fine, and anything else is
    Changed. Raises as `Store.put`; ValueError for a piece whose data, shape and dtype do not fit together, or a name
    that is there twice."""
    # The widest elements first, as safetensors does it: each tensor is then aligned to its elements.
    ordered = sorted(pieces, key=lambda piece: -_item_bytes(piece.dtype))
    datas = [_bytes_of(piece) for piece in ordered]
    header, records = _layout(ordered)
    buffers = [memoryview(header), *(data for data in datas if data.nbytes)]
    parts = list(_chunks(buffers, chunk_bytes))
    is_written = True
    with _Background(_HASHERS, len(parts)) as background:
        digests = [background.submit(_digest, part) for part in parts]
        try:
            store.put(prefix + key, buffers, if_absent=True, timeout_s=timeout_s)
        except Changed:
            is_written = False
        chunks = tuple(each.result() for each in digests)
    record = ShardRecord(key, sum(buffer.nbytes for buffer in buffers), chunks, records, chunk_bytes)
    if not is_written and not _is_whole(store, prefix, record):
        # Another one, which it stays; or one that was deleted since.
        store.put(prefix + key, buffers, if_absent=True, timeout_s=timeout_s)
    return record


def _is_whole(store: Store, prefix: str, shard: ShardRecord) -> bool:
    try:
        verify_shard(store, prefix, shard)
    except Damaged:
        return False
    return True


def _item_bytes(dtype: str) -> int:
    if dtype not in DTYPE_BYTES:
        raise ValueError(f"dtype {dtype!r} is none of {', '.join(DTYPE_BYTES)}")
    return DTYPE_BYTES[dtype]


def _bytes_of(piece: Piece) -> memoryview:
    view = memoryview(piece.data)
    wanted = math.prod(piece.shape) * _item_bytes(piece.dtype)
    if view.nbytes != wanted:
        raise ValueError(f"{piece.name} has {view.nbytes} bytes of data; {piece.dtype} {piece.shape} has {wanted}")
    if not view.c_contiguous:
        raise ValueError(f"the data of {piece.name} are not contiguous")
    inside = len(piece.at) == len(piece.shape) == len(piece.whole) and all(
        at >= 0 and at + length <= whole for at, length, whole in zip(piece.at, piece.shape, piece.whole, strict=True)
    )
    if not inside:
        raise ValueError(f"{piece.name}: a piece {piece.shape} at {piece.at} is not in a tensor {piece.whole}")
    return view.cast("B") if view.nbytes else memoryview(b"")  # what has no bytes cannot be cast


def _layout(pieces: Sequence[Piece]) -> tuple[bytes, tuple[PieceRecord, ...]]:
    """The header, its length before it, and where each piece will be in the object."""
    entries: dict[str, object] = {}
    place = 0
    places = []
    for piece in pieces:
        end = place + math.prod(piece.shape) * DTYPE_BYTES[piece.dtype]
        label = piece.name if piece.shape == piece.whole else f"{piece.name}@{','.join(map(str, piece.at))}"
        if label in entries or label == "__metadata__":
            raise ValueError(f"{label} is there twice, or a name that safetensors keeps for itself")
        entries[label] = {"dtype": piece.dtype, "shape": list(piece.shape), "data_offsets": [place, end]}
        places.append((place, end))
        place = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    records = tuple(
        PieceRecord(
            piece.name,
            piece.dtype,
            tuple(piece.shape),
            tuple(piece.whole),
            tuple(piece.at),
            len(header) + start,
            len(header) + end,
        )
        for piece, (start, end) in zip(pieces, places, strict=True)
    )
    return header, records


def _chunks(buffers: Iterable[memoryview], chunk_bytes: int) -> Iterator[list[memoryview]]:
    """Buffers one after the other, as lists of parts that have `chunk_bytes` together."""
    chunk: list[memoryview] = []
    room = chunk_bytes
    for buffer in buffers:
        place = 0
        while place < buffer.nbytes:
            part = buffer[place : place + room]
            chunk.append(part)
            place += part.nbytes
            room -= part.nbytes
            if not room:
                yield chunk
                chunk, room = [], chunk_bytes
    if chunk:
        yield chunk


def _digest(parts: Iterable[Buffer]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)  # without the GIL
    return digest.hexdigest()


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Copy:
    """Of a piece into the tensor that is made: `start` is the piece's in its object."""

    start: int
    runs: Runs
    target: str


def read_pieces(
    store: Store, prefix: str, shards: Sequence[ShardRecord], wanted: Mapping[str, Sequence[tuple[int, int]] | None]
) -> dict[str, tuple[str, tuple[int, ...], memoryview]]:
    """Tensors, or a block of each: name -> dtype, shape of the block, bytes. `wanted`: name -> (begin, end) for each
    dimension, or None for all of it. Every byte that is returned comes from a chunk whose digest was right. Reads only
    the chunks that it needs, on several threads. Raises Damaged (a digest, a size, a gap), NotFound never: an object
    that is missing is Damaged; Unavailable and NotPermitted as they are."""
    found: defaultdict[str, list[tuple[ShardRecord, PieceRecord]]] = defaultdict(list)
    for shard in shards:
        for piece in shard.pieces:
            if piece.name in wanted:
                found[piece.name].append((shard, piece))
    copies: defaultdict[str, list[_Copy]] = defaultdict(list)
    shapes: dict[str, tuple[str, tuple[int, ...], int]] = {}
    for name, block in wanted.items():
        dtype, shape, needed = _plan(name, block, found[name])
        shapes[name] = dtype, shape, math.prod(shape) * DTYPE_BYTES[dtype]
        for shard, copy in needed:
            copies[shard.key].append(copy)
    used = [shard for shard in shards if shard.key in copies]
    check_present(store, prefix, used)  # before memory is taken for what may not be there
    # Memory that is not zeros first, and copies that other threads need not wait for: `bytearray` has neither.
    import numpy as np

    filled = {name: np.empty(size, np.uint8) for name, (_, _, size) in shapes.items()}

    def read(job: tuple[ShardRecord, int, list[_Copy]]) -> None:
        shard, number, of = job
        start = number * shard.chunk_bytes
        data = memoryview(_verified(store, prefix, shard, number))
        for copy in of:
            target = filled[copy.target]
            for source, place, length in copy.runs.within(start - copy.start, start + data.nbytes - copy.start):
                part = data[copy.start + source - start :][:length]
                target[place : place + length] = np.frombuffer(part, np.uint8)

    _each(read, [(shard, *job) for shard in used for job in _by_chunk(shard, copies[shard.key])])
    return {name: (dtype, shape, filled[name].data) for name, (dtype, shape, _) in shapes.items()}


def _plan(
    name: str, wanted: Sequence[tuple[int, int]] | None, pieces: Sequence[tuple[ShardRecord, PieceRecord]]
) -> tuple[str, tuple[int, ...], list[tuple[ShardRecord, _Copy]]]:
    """Dtype, shape, and what of which piece is needed. Raises Damaged."""
    if not pieces:
        raise Damaged(f"there is no tensor {name}")
    dtype, whole = pieces[0][1].dtype, pieces[0][1].whole
    for shard, piece in pieces:
        check_piece(piece, shard.size_bytes)
        if (piece.dtype, piece.whole) != (dtype, whole):
            raise Damaged(f"{name} is {dtype} {list(whole)} in one piece, {piece.dtype} {list(piece.whole)} in another")
    block = block_of((0,) * len(whole), whole) if wanted is None else tuple((begin, end) for begin, end in wanted)
    if len(block) != len(whole) or not all(0 <= b <= e <= n for (b, e), n in zip(block, whole, strict=True)):
        raise Damaged(f"{name} has the shape {list(whole)}, and {list(block)} of it is wanted")
    parts = [(shard, piece, overlap(piece.block, block)) for shard, piece in pieces]
    if not _tiles(name, block, [part for _, _, part in parts if part is not None]):
        raise Damaged(f"the pieces of {name} leave a gap or reach over each other")
    size = DTYPE_BYTES[dtype]
    needed = [
        (shard, _Copy(piece.start, some, name))
        for shard, piece, _ in parts
        if (some := runs(piece.block, block, size)) is not None
    ]
    return dtype, shape_of(block), needed


def check_piece(piece: PieceRecord, size_bytes: int) -> None:
    """Raises Damaged for a piece that does not fit into its tensor, or not into an object of that size."""
    if piece.dtype not in DTYPE_BYTES:
        raise Damaged(f"{piece.name} has the dtype {piece.dtype}, which is none of safetensors'")
    if not len(piece.shape) == len(piece.whole) == len(piece.at):
        raise Damaged(f"{piece.name}: shape, whole and at have different numbers of dimensions")
    for at, length, whole in zip(piece.at, piece.shape, piece.whole, strict=True):
        if at < 0 or length < 0 or at + length > whole:
            raise Damaged(
                f"{piece.name}: a piece {list(piece.shape)} at {list(piece.at)} is outside {list(piece.whole)}"
            )
    if piece.end - piece.start != math.prod(piece.shape) * DTYPE_BYTES[piece.dtype]:
        raise Damaged(
            f"{piece.name} has {piece.end - piece.start} bytes, which {piece.dtype} {list(piece.shape)} has not"
        )
    if not 0 <= piece.start <= piece.end <= size_bytes:
        raise Damaged(f"{piece.name} is at bytes {piece.start} to {piece.end} of an object of {size_bytes}")


def check_pieces(name: str, pieces: Sequence[PieceRecord]) -> None:
    """Raises Damaged unless the pieces, each of which fits, are one tensor without a gap."""
    dtype, whole = pieces[0].dtype, pieces[0].whole
    if any((piece.dtype, piece.whole) != (dtype, whole) for piece in pieces):
        raise Damaged(f"the pieces of {name} differ in their dtype or in the shape of the whole")
    if not _tiles(name, block_of((0,) * len(whole), whole), [piece.block for piece in pieces]):
        raise Damaged(f"the pieces of {name} leave a gap or reach over each other")


def _tiles(name: str, whole: Block, parts: Sequence[Block]) -> bool:
    try:
        return tiles(whole, parts)
    except ValueError as exc:
        raise Damaged(f"{name}: {exc}") from exc


def _by_chunk(shard: ShardRecord, copies: Sequence[_Copy]) -> list[tuple[int, list[_Copy]]]:
    """Chunks of which something is needed, and for what."""
    found: defaultdict[int, list[_Copy]] = defaultdict(list)
    size = shard.chunk_bytes
    for copy in copies:
        first, last = copy.runs.place(0)[0], copy.runs.place(copy.runs.count - 1)[0] + copy.runs.size_bytes
        for number in range((copy.start + first) // size, -(-(copy.start + last) // size)):
            start = number * size - copy.start
            if next(copy.runs.within(start, start + size), None) is not None:
                found[number].append(copy)
    return sorted(found.items())


def check_present(store: Store, prefix: str, shards: Sequence[ShardRecord], *, timeout_s: float = 60.0) -> None:
    """That each is there, in its size; reads none. Raises Damaged."""
    _each(lambda shard: _check_size(store, prefix, shard, timeout_s), shards)


def _check_size(store: Store, prefix: str, shard: ShardRecord, timeout_s: float) -> None:
    try:
        size = store.stat(prefix + shard.key, timeout_s=timeout_s).size_bytes
    except NotFound as exc:
        raise Damaged(f"{prefix}{shard.key} is missing") from exc
    if size != shard.size_bytes:
        raise Damaged(f"{prefix}{shard.key} has {size} bytes, and was written with {shard.size_bytes}")
    if not 0 < shard.chunk_bytes <= MOST_CHUNK_BYTES or len(shard.chunks) != -(-size // shard.chunk_bytes):
        raise Damaged(f"{prefix}{shard.key} has {len(shard.chunks)} digests of chunks of {shard.chunk_bytes} bytes")


def _verified(store: Store, prefix: str, shard: ShardRecord, number: int) -> bytes:
    """A chunk whose digest is right."""
    start = number * shard.chunk_bytes
    length = min(shard.chunk_bytes, shard.size_bytes - start)
    try:
        data = store.get(prefix + shard.key, start=start, length=length)
    except NotFound as exc:
        raise Damaged(f"{prefix}{shard.key} is missing") from exc
    if len(data) != length:
        raise Damaged(f"{prefix}{shard.key}: {len(data)} bytes came from {start} on, and {length} should be there")
    if _digest((data,)) != shard.chunks[number]:
        raise Damaged(
            f"{prefix}{shard.key}: bytes {start} to {start + length} are not those that were written (sha256)"
        )
    return data


def verify_shard(store: Store, prefix: str, shard: ShardRecord) -> None:
    """Read all of it and compare. Raises Damaged as `read_pieces`."""
    check_present(store, prefix, [shard])

    def verify(number: int) -> None:
        _verified(store, prefix, shard, number)

    _each(verify, range(len(shard.chunks)))


def _each(act: Callable[[_Job], None], jobs: Sequence[_Job]) -> None:
    """On several threads. Raises what the first one that failed (in order) raised, when none runs any more."""
    with _Background(_READERS, len(jobs)) as background:
        for each in [background.submit(act, job) for job in jobs]:
            each.result()


class _Background:
    """Threads for so many jobs; the first job alone is done at once, by whoever submits it. What was not begun when
    something failed is not begun any more, and at the end nothing runs."""

    def __init__(self, most_threads: int, jobs: int) -> None:
        self._pool = ThreadPoolExecutor(min(most_threads, jobs), "shards") if jobs > 1 else None

    def __enter__(self) -> "_Background":
        return self

    def __exit__(self, *failed: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=failed[0] is not None)

    def submit(self, act: Callable[[_Job], _Result], job: _Job) -> "Future[_Result]":
        if self._pool is not None:
            return self._pool.submit(act, job)
        done: Future[_Result] = Future()
        done.set_result(act(job))
        return done


__all__ = [
    "CHUNK_BYTES",
    "DTYPE_BYTES",
    "MOST_CHUNK_BYTES",
    "Damaged",
    "Piece",
    "PieceRecord",
    "ShardRecord",
    "check_piece",
    "check_pieces",
    "check_present",
    "read_pieces",
    "verify_shard",
    "write_shard",
]
