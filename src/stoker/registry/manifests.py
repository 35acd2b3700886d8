"""What a checkpoint is made of: a JSON document, written after all its shards and before HEAD names it.

    checkpoints/NAME/shard-00000.safetensors ...
    checkpoints/NAME/manifest.json

Read defensively: sizes are bounded, keys stay below the checkpoint's prefix, and nothing in it is executed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stoker.registry.shards import ShardRecord

FORMAT = "stoker-checkpoint/1"
MOST_BYTES = 256 << 20


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
    """The checkpoint before it."""

    @property
    def size_bytes(self) -> int:
        return sum(shard.size_bytes for shard in self.shards)


def name_of(step: int, epoch: int, attempt: int = 0) -> str:
    """`s00000120-e0003-0`: sorts by step; never used twice, since an epoch has one writer, which counts attempts."""
    return f"s{step:08d}-e{epoch:04d}-{attempt}"


def to_bytes(manifest: Manifest) -> bytes:
    """Canonical: same manifest, same bytes."""
    raise NotImplementedError


def from_bytes(data: bytes) -> Manifest:
    """Raises shards.Damaged for whatever is not a manifest: no JSON, a wrong type, a key that leaves the prefix (`..`,
    absolute), pieces that overlap, lie outside their shard or do not fill their tensor, counts beyond all bounds."""
    raise NotImplementedError
