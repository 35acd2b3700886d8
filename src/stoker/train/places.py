"""Files that a run file names: relative to it, or in S3."""

from pathlib import Path

from stoker.base.errors import InvalidInput, NotFound
from stoker.registry.stores import open_store

MOST_BYTES = 4 << 30
_S3_S = 600.0


def read(place: str, here: Path) -> bytes:
    """Raises InvalidInput when it is not there or is larger than 4 GiB; Unavailable."""
    if place.startswith("s3://"):
        folder, _, name = place.rpartition("/")
        try:
            return open_store(folder).get(name, timeout_s=_S3_S)
        except NotFound as error:
            raise InvalidInput(f"{place} is not there", param="data") from error
    path = here / place
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InvalidInput(f"{path} is larger than 4 GiB")
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", param="data") from error


def resolved(place: str, here: Path) -> str:
    """As `open_store` takes it, wherever the process stands."""
    return place if "://" in place else str((here / place).absolute())
