"""What a checkpoint is made of: a JSON document, written after all its shards and before HEAD names it.

    checkpoints/NAME/shard-00000.safetensors ...
    checkpoints/NAME/manifest.json

Read defensively: sizes are bounded, keys stay below the checkpoint's prefix, and nothing in it is executed.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stoker.registry import documents
from stoker.registry.documents import Fields
from stoker.registry.shards import MOST_CHUNK_BYTES, Damaged, PieceRecord, ShardRecord, check_piece, check_pieces

FORMAT = "stoker-checkpoint/1"
KEY = "manifest.json"
"""Below the checkpoint's prefix."""
MOST_BYTES = 256 << 20
MOST_SHARDS = 65_536
MOST_PIECES = 1 << 21
MOST_DIMENSIONS = 16
_NAME = re.compile(r"s(\d{8,12})-e(\d{4,9})-(\d{1,9})")


@dataclass(frozen=True)
class Manifest:
    """`state` is the trainer's own JSON (step, counters, digests, world size); `extra` what people may want to know."""

    run: str
    name: str
    step: int
    epoch: int
    """The fencing epoch of who wrote it."""
    created_at: float
    shards: tuple[ShardRecord, ...]
    state: Mapping[str, Any]
    parent: str | None = None
    """The checkpoint before it: the one that its run went on from, or committed before."""

    @property
    def size_bytes(self) -> int:
        return sum(shard.size_bytes for shard in self.shards)


def name_of(step: int, epoch: int, attempt: int = 0) -> str:
    """`s00000120-e0003-0`: sorts by step; never used twice, since an epoch has one writer, which counts attempts."""
    return f"s{step:08d}-e{epoch:04d}-{attempt}"


def parts_of(name: str) -> tuple[int, int, int] | None:
    """Step, epoch and attempt of a name; None: it is none of ours."""
    match = _NAME.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def to_bytes(manifest: Manifest) -> bytes:
    """Canonical: same manifest, same bytes. Raises ValueError for a state with NaN or infinity, which JSON has not, and
    for a manifest that `from_bytes` would not take."""
    document = {
        "format": FORMAT,
        "run": manifest.run,
        "name": manifest.name,
        "step": manifest.step,
        "epoch": manifest.epoch,
        "created_at": manifest.created_at,
        "parent": manifest.parent,
        "state": manifest.state,
        "shards": [
            {
                "key": shard.key,
                "size_bytes": shard.size_bytes,
                "chunk_bytes": shard.chunk_bytes,
                "chunks": shard.chunks,
                "pieces": [_piece_to_json(piece) for piece in shard.pieces],
            }
            for shard in manifest.shards
        ],
    }
    try:
        data = documents.dumps(document)
    except (ValueError, TypeError, RecursionError) as exc:
        raise ValueError(f"the state of {manifest.name} cannot be written as JSON: {exc}") from exc
    try:
        from_bytes(data)  # what could not be read again is refused now, while training still has it
    except Damaged as exc:
        raise ValueError(f"{manifest.name} could not be read again: {exc.why}") from exc
    return data


def _piece_to_json(piece: PieceRecord) -> dict[str, Any]:
    found = {"name": piece.name, "dtype": piece.dtype, "shape": piece.shape, "start": piece.start, "end": piece.end}
    return found if piece.shape == piece.whole else {**found, "whole": piece.whole, "at": piece.at}


def from_bytes(data: bytes) -> Manifest:
    """Raises shards.Damaged for whatever is not a manifest: no JSON, a wrong type, a key that leaves the prefix (`..`,
    absolute), pieces that overlap, lie outside their shard or do not fill their tensor, counts beyond all bounds."""
    if len(data) > MOST_BYTES:
        raise Damaged(f"it has {len(data)} bytes, and {MOST_BYTES} is the most")
    fields = Fields(documents.loads(data))
    if (kind := fields.text("format")) != FORMAT:
        raise Damaged(f"its format is {documents.cut(kind)}, and this version reads {FORMAT}")
    shards = tuple(
        _shard(Fields(each, f"shards[{place}]")) for place, each in enumerate(fields.array("shards", MOST_SHARDS))
    )
    keys = [shard.key for shard in shards]
    if len(set(keys)) != len(keys):
        raise Damaged("two shards have the same key")
    _check_tensors(shards)
    return Manifest(
        run=fields.name("run"),
        name=fields.name("name"),
        step=fields.integer("step"),
        epoch=fields.integer("epoch"),
        created_at=fields.number("created_at"),
        shards=shards,
        state=fields.object("state"),
        parent=None if fields.any("parent") is None else fields.name("parent"),
    )


def _shard(fields: Fields) -> ShardRecord:
    key = fields.text("key")
    if not documents.is_key(key) or key == KEY:
        raise Damaged(f"a shard has the key {documents.cut(key)}, which is not one below its checkpoint")
    size, chunk_bytes = fields.integer("size_bytes"), fields.integer("chunk_bytes", MOST_CHUNK_BYTES)
    chunks = fields.array("chunks", documents.MOST_VALUES)
    if chunk_bytes == 0 or len(chunks) != -(-size // chunk_bytes) or not all(map(documents.is_sha256, chunks)):
        raise Damaged(f"{key} has {size} bytes and {len(chunks)} chunks of {chunk_bytes}, or a digest that is none")
    pieces = tuple(_piece(Fields(each, key)) for each in fields.array("pieces", MOST_PIECES))
    for piece in pieces:
        check_piece(piece, size)
    return ShardRecord(key, size, tuple(chunks), pieces, chunk_bytes)


def _piece(fields: Fields) -> PieceRecord:
    shape = fields.integers("shape", MOST_DIMENSIONS)
    is_whole = fields.any("whole") is None and fields.any("at") is None
    return PieceRecord(
        name=fields.text("name"),
        dtype=fields.text("dtype", 16),
        shape=shape,
        whole=shape if is_whole else fields.integers("whole", MOST_DIMENSIONS),
        at=(0,) * len(shape) if is_whole else fields.integers("at", MOST_DIMENSIONS),
        start=fields.integer("start"),
        end=fields.integer("end"),
    )


def _check_tensors(shards: tuple[ShardRecord, ...]) -> None:
    tensors: defaultdict[str, list[PieceRecord]] = defaultdict(list)
    for shard in shards:
        place = 0
        for piece in sorted(shard.pieces, key=lambda piece: (piece.start, piece.end)):
            if piece.start < place:
                raise Damaged(f"in {shard.key} {piece.name} shares bytes with another piece")
            place = piece.end
            tensors[piece.name].append(piece)
    for name, pieces in tensors.items():
        check_pieces(name, pieces)
