"""Published weights: folders below one place, each bound to the digest of what is in it.

    MODEL/versions/DIGEST/{config.json, tokenizer.json, model.safetensors, ..., card.json}
    MODEL/CURRENT          JSON: which version is served, moved by compare-and-swap; holds the one before, to go back

DIGEST is sha256 over the sorted (name, sha256) of the files, `card.json` aside; what is evaluated has it, and so has
what is served.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.registry.stores import Store


@dataclass(frozen=True)
class Version:
    model: str
    digest: str
    files: Mapping[str, str]
    """Name -> sha256."""
    card: Mapping[str, Any]
    """Of which run and checkpoint it is, what it was evaluated on, with which verdict, when."""
    created_at: float


def digest_of(folder: Path) -> tuple[str, dict[str, str]]:
    """Of a folder of weights. Raises InvalidInput when it is none."""
    raise NotImplementedError


class Models:
    def __init__(self, store: Store) -> None:
        raise NotImplementedError

    def publish(self, model: str, folder: Path, card: Mapping[str, Any], *, now: float) -> Version:
        """Idempotent: the same files are the same version, and are not written again. The last thing written is
        `card.json`; a version without it is not one."""
        raise NotImplementedError

    def promote(self, version: Version, *, expect: str | None = None) -> None:
        """Make it the one that is served. Raises Changed when `expect` (a digest) is not the one now."""
        raise NotImplementedError

    def current(self, model: str) -> Version | None:
        raise NotImplementedError

    def versions(self, model: str) -> list[Version]:
        """Oldest first."""
        raise NotImplementedError

    def fetch(self, version: Version, folder: Path) -> None:
        """Verified, file by file; all or nothing. Raises Conflict when a file is not what its digest says."""
        raise NotImplementedError
