"""Files that a run file names: relative to it, or in S3."""

import stat
from pathlib import Path

from stoker.base.errors import InvalidInput, NotFound
from stoker.registry import stores

MOST_BYTES = 4 << 30
_S3_S = 3600.0


def read(place: str, here: Path) -> bytes:
    """Raises InvalidInput when it is not there, is no file (a device or a pipe, which may have no end), names no object
    or is larger than 4 GiB; Unavailable."""
    if place.startswith("s3://"):
        folder, _, name = place.rpartition("/")
        if not name or folder in ("s3:", "s3:/"):
            raise InvalidInput(f"{place} names no object; s3://bucket/train.jsonl would be right", param="data")
        try:
            return stores.open_store(folder).get(name, timeout_s=_S3_S)
        except NotFound as error:
            raise InvalidInput(f"{place} is not there", param="data") from error
    path = here / place
    try:
        found = path.stat()
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise InvalidInput(
                f"{place} is a device or a pipe, and only files are read: each process of each launch reads them",
                param="data",
                hint="write what comes out of it to a file",
            )
        if found.st_size > MOST_BYTES:
            raise InvalidInput(f"{place} is larger than 4 GiB", param="data", hint="write several files")
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"{place} cannot be read: {error.strerror}",
            param="data",
            hint=f"paths are relative to the run file, so that {path} was looked for",
        ) from error


def resolved(place: str, here: Path) -> str:
    """As `open_store` takes it, wherever the process stands."""
    return place if "://" in place else str((here / place).absolute())
