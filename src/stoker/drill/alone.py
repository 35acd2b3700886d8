"""One drill at a time on a platform: two would each see what the other has done."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from stoker.base.errors import InvalidInput, StateInUse


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold a file as long as the block runs; it ends with this process, however that ends. Raises StateInUse,
    InvalidInput."""
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise InvalidInput(f"{lock} cannot be used: {error.strerror}", param="state") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
            raise StateInUse(
                f"another drill runs on this platform: pid {pid}", hint="wait for its verdict, or end it"
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)
