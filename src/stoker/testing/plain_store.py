"""A store for tests of what stands on stores: files in a folder, without the care of a real one."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from stoker.base.errors import InvalidInput, NotFound
from stoker.registry.stores import Buffer, Changed, Stat, check_key


class PlainStore:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = folder.as_uri() if folder.is_absolute() else str(folder)
        self.puts: list[str] = []

    def put(
        self,
        key: str,
        pieces: Sequence[Buffer],
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        timeout_s: float = 60.0,
    ) -> str:
        data, path = b"".join(pieces), self.folder / check_key(key)
        there = path.read_bytes() if path.exists() else None
        if (if_absent and there is not None) or (if_match is not None and if_match != _etag(there)):
            raise Changed(f"{key} is another")
        if there != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self.puts.append(key)
        return str(_etag(data))

    def get(self, key: str, *, start: int = 0, length: int | None = None, timeout_s: float = 60.0) -> bytes:
        data = self._data(key)
        return data[start:] if length is None else data[start : start + length]

    def read(self, key: str, *, timeout_s: float = 60.0, most_bytes: int = 64 << 20) -> tuple[bytes, str]:
        data = self._data(key)
        if len(data) > most_bytes:
            raise InvalidInput(f"{key} is larger than {most_bytes}")
        return data, str(_etag(data))

    def stat(self, key: str, *, timeout_s: float = 60.0) -> Stat:
        data = self._data(key)
        return Stat(key, len(data), str(_etag(data)), (self.folder / key).stat().st_mtime)

    def list(self, prefix: str = "", *, timeout_s: float = 60.0) -> Iterator[Stat]:
        keys = sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())
        return iter([self.stat(key) for key in keys if key.startswith(prefix)])

    def delete(self, keys: Iterable[str], *, timeout_s: float = 60.0) -> None:
        for key in keys:
            (self.folder / key).unlink(missing_ok=True)

    def sweep(self, prefix: str = "", *, older_than_s: float, timeout_s: float = 60.0) -> int:
        return 0

    def _data(self, key: str) -> bytes:
        try:
            return (self.folder / check_key(key)).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"{key} is not there") from error


def _etag(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()
