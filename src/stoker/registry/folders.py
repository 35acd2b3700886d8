"""Objects as files below one folder: of this machine, or of a volume that several mount.

A write goes to a temporary file beside its target, is synced, and takes its name in one step; then the folder is
synced. So a reader sees the object before or the one after. Names are taken under a lock file of the store (flock): the
volume has to have locks if several machines write the same key. Without a condition the last writer wins.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat as modes
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from stoker.base.clock import Clock, SystemClock
from stoker.base.errors import InvalidInput, NotFound, NotPermitted, StokerError, Unavailable
from stoker.registry.stores import (
    LOCK,
    TEMPORARY,
    Buffer,
    Changed,
    Deadline,
    Stat,
    check_conditions,
    check_key,
    check_prefix,
    check_span,
    flat,
    is_key,
)

SMALL_BYTES = 1 << 20
"""Up to here an etag is the sha256 of the content. A larger object is known by its inode, its time of modification in
nanoseconds, its size and three samples: hashing it would take longer than writing it, and each write makes a new file.
The time alone would not do, since a kernel's clock for files ticks in milliseconds and inodes are used again."""

_SAMPLE_BYTES = 4096
_SLICE_BYTES = 32 << 20  # written at once: between two of them the deadline is looked at
_TRIES = 100
_POLL_S = 0.002  # of a lock that somebody else has; it is held for two system calls
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}


class FolderStore:
    """A `Store`. Time limits hold between system calls: a disk that does not answer cannot be left."""

    def __init__(
        self, folder: Path, *, clock: Clock | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._root = os.path.abspath(folder)
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self.url = Path(self._root).as_uri()

    # --- writing ----------------------------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        pieces: Sequence[Buffer],
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        timeout_s: float = 60.0,
    ) -> str:
        check_conditions(if_absent, if_match)
        views = flat(pieces)
        deadline = Deadline(timeout_s, self._clock.monotonic)
        with self._in_words(f"write {key}"):
            path = self._path(key)
            self._check_condition(key, path, if_absent, if_match)  # before all is written for nothing
            folder = os.path.dirname(path)
            descriptor, temporary = self._new_file(folder)
            try:
                try:
                    self._fill(descriptor, views, deadline, f"write {key}")
                    os.fsync(descriptor)
                    etag = _etag(descriptor)
                finally:
                    os.close(descriptor)
                self._publish(key, temporary, path, if_absent, if_match, deadline)
            finally:
                with contextlib.suppress(OSError):  # it has its name, or sweep finds it
                    os.unlink(temporary)
            _sync_folder(folder)
        return etag

    def _new_file(self, folder: str) -> tuple[int, str]:
        temporary = os.path.join(folder, f"{TEMPORARY}{secrets.token_hex(8)}")
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):  # who deletes the last object of a folder removes the folder
                self._make_folder(folder)
                return os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), temporary
        raise Unavailable(f"the folder {folder} cannot be made, or somebody removes it again and again")

    def _make_folder(self, folder: str) -> None:
        if os.path.isdir(folder):
            return
        above = os.path.dirname(folder)
        self._make_folder(above)
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder) from None
        _sync_folder(above)

    def _fill(self, descriptor: int, views: Sequence[memoryview], deadline: Deadline, doing: str) -> None:
        for view in views:
            at = 0
            while at < view.nbytes:
                deadline.check(doing)
                at += os.write(descriptor, view[at : at + _SLICE_BYTES])

    def _publish(
        self, key: str, temporary: str, path: str, if_absent: bool, if_match: str | None, deadline: Deadline
    ) -> None:
        if if_absent:
            try:
                os.link(temporary, path, follow_symlinks=False)
            except FileExistsError:
                raise _changed(key) from None
            except OSError as exc:  # a volume without hard links
                if exc.errno not in _NO_LINKS:
                    raise
            else:
                return
        with self._locked(deadline):
            self._check_condition(key, path, if_absent, if_match)
            os.replace(temporary, path)

    def _check_condition(self, key: str, path: str, if_absent: bool, if_match: str | None) -> None:
        if if_absent and os.path.lexists(path):
            if os.path.isdir(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            raise _changed(key)
        if if_match is not None:
            try:
                with self._opened(key, path) as descriptor:
                    etag = _etag(descriptor)
            except NotFound:
                raise Changed(f"{key} is gone, and was to be replaced") from None
            if etag != if_match:
                raise Changed(f"{key} is another one by now: somebody else has written it")

    @contextlib.contextmanager
    def _locked(self, deadline: Deadline) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(os.path.join(self._root, LOCK), flags, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    deadline.check(f"lock {self.url}, which another process does not let go,")
                    self._sleep(_POLL_S)
            try:
                yield
            finally:
                # A child that was forked meanwhile has the descriptor, too: closing alone would not let go.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)

    # --- reading ----------------------------------------------------------------------------------------------------

    def get(self, key: str, *, start: int = 0, length: int | None = None, timeout_s: float = 60.0) -> bytes:
        check_span(start, length)
        with self._in_words(f"read {key}"), self._opened(key, self._path(key)) as descriptor:
            there = max(0, os.fstat(descriptor).st_size - start)
            return _read(key, descriptor, start, there if length is None else min(length, there))

    def read(self, key: str, *, timeout_s: float = 60.0, most_bytes: int = 64 << 20) -> tuple[bytes, str]:
        with self._in_words(f"read {key}"), self._opened(key, self._path(key)) as descriptor:
            size = os.fstat(descriptor).st_size
            if size > most_bytes:
                raise InvalidInput(f"{key} has {size} bytes; at most {most_bytes} are expected of it")
            data = _read(key, descriptor, 0, size)
            return data, hashlib.sha256(data).hexdigest() if size <= SMALL_BYTES else _etag(descriptor)

    def stat(self, key: str, *, timeout_s: float = 60.0) -> Stat:
        with self._in_words(f"look at {key}"), self._opened(key, self._path(key)) as descriptor:
            return _stat(key, descriptor)

    def list(self, prefix: str = "", *, timeout_s: float = 60.0) -> Iterator[Stat]:
        check_prefix(prefix)
        with self._in_words(f"list {prefix or 'all'}"):
            keys = sorted(key for key in self._names(prefix) if key.startswith(prefix) and is_key(key))
        return self._stats(keys)

    def _stats(self, keys: Iterable[str]) -> Iterator[Stat]:
        for key in keys:
            with contextlib.suppress(NotFound):  # deleted meanwhile
                yield self.stat(key)

    def _names(self, prefix: str) -> Iterator[str]:
        """Of all regular files below the folder that the prefix names, as keys; links are passed over."""
        below, _, _ = prefix.rpartition("/")
        if below:
            self._path(below)
        folders = [below]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(os.path.join(self._root, folder)) as entries:
                    for entry in entries:
                        name = f"{folder}/{entry.name}" if folder else entry.name
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(name)
                        elif entry.is_file(follow_symlinks=False):
                            yield name
            except (FileNotFoundError, NotADirectoryError):
                continue  # none yet, or removed meanwhile

    @contextlib.contextmanager
    def _opened(self, key: str, path: str) -> Iterator[int]:
        try:
            # Not blocking: a named pipe would wait for its writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise _not_found(key, self.url) from None
        try:
            mode = os.fstat(descriptor).st_mode
            if modes.S_ISDIR(mode):
                raise _not_found(key, self.url)
            if not modes.S_ISREG(mode):
                raise InvalidInput(f"{key} in {self.url} is no regular file")
            yield descriptor
        finally:
            os.close(descriptor)

    # --- removing ---------------------------------------------------------------------------------------------------

    def delete(self, keys: Iterable[str], *, timeout_s: float = 60.0) -> None:
        paths = {key: self._path(check_key(key)) for key in keys}
        deadline = Deadline(timeout_s, self._clock.monotonic)
        for key, path in paths.items():
            with self._in_words(f"delete {key}"):
                if not os.path.lexists(path):
                    continue
                deadline.check(f"delete {key}")
                with self._locked(deadline), contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    if not os.path.isdir(path) or os.path.islink(path):
                        os.unlink(path)
            self._remove_empty(os.path.dirname(path))

    def _remove_empty(self, folder: str) -> None:
        with contextlib.suppress(OSError):  # something is in it
            while folder != self._root:
                os.rmdir(folder)
                folder = os.path.dirname(folder)

    def sweep(self, prefix: str = "", *, older_than_s: float, timeout_s: float = 60.0) -> int:
        check_prefix(prefix)
        before, count = self._clock.now() - older_than_s, 0
        with self._in_words(f"sweep {prefix or 'all'}"):
            for name in list(self._names(prefix)):
                folder, _, last = name.rpartition("/")
                if not last.startswith(TEMPORARY) or not f"{folder}/".startswith(prefix):
                    continue
                path = os.path.join(self._root, name)
                with contextlib.suppress(FileNotFoundError):
                    if os.stat(path).st_mtime <= before:
                        os.unlink(path)
                        count += 1
        return count

    # --- paths and errors -------------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        path = os.path.join(self._root, *check_key(key).split("/"))
        real, root = os.path.realpath(path), os.path.realpath(self._root)
        if not real.startswith(os.path.join(root, "")):
            raise NotPermitted(
                f"{key} is, or is below, a link that leads out of {self.url}; links may only stay inside"
            )
        return path

    @contextlib.contextmanager
    def _in_words(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise _translated(exc, doing, self.url) from exc


def _translated(exc: OSError, doing: str, url: str) -> StokerError:
    words, error = f"cannot {doing} in {url}", exc.errno
    result: StokerError
    if error in (errno.ENOSPC, errno.EDQUOT):
        result = Unavailable(f"{words}: the disk is full", code="disk_full", hint="make room, or choose another place")
    elif error == errno.EROFS:
        result = NotPermitted(f"{words}: it is mounted for reading only", hint="mount it for writing")
    elif error in (errno.EACCES, errno.EPERM):
        result = NotPermitted(f"{words}: user {os.geteuid()} may not", hint="look at owner and mode of the folder")
    elif error in (errno.ENOTDIR, errno.EISDIR):
        result = InvalidInput(f"{words}: an object and a folder would have the same name", param="key")
    elif error in (errno.ENAMETOOLONG, errno.ELOOP):
        result = InvalidInput(f"{words}: {os.strerror(error)}", param="key")
    elif error == errno.EIO:
        result = Unavailable(
            f"{words}: the disk reports an error (EIO)", hint="look at the system's log; it may be broken"
        )
    else:
        result = Unavailable(f"{words}: {os.strerror(error) if error else type(exc).__name__}")
    result.detail = str(exc)[:300]
    return result


def _changed(key: str) -> Changed:
    return Changed(f"{key} exists already, and was to be made anew")


def _not_found(key: str, url: str) -> NotFound:
    return NotFound(f"there is no {key} in {url}")


def _read(key: str, descriptor: int, start: int, length: int) -> bytes:
    """So many bytes: one copy of them unless the system gives fewer at once."""
    parts: list[bytes] = []
    left = length
    while left:
        part = os.pread(descriptor, left, start + length - left)
        if not part:
            raise Unavailable(f"{key} has become shorter while it was read: {left} bytes of {length} are missing")
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _etag(descriptor: int) -> str:
    """See SMALL_BYTES."""
    status = os.fstat(descriptor)
    size = status.st_size
    if size <= SMALL_BYTES:
        return hashlib.sha256(os.pread(descriptor, size, 0)).hexdigest()
    samples = hashlib.sha256()
    for at in (0, size // 2, size - _SAMPLE_BYTES):
        samples.update(os.pread(descriptor, _SAMPLE_BYTES, at))
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{size:x}-{samples.hexdigest()[:32]}"


def _stat(key: str, descriptor: int) -> Stat:
    status = os.fstat(descriptor)
    return Stat(key, status.st_size, _etag(descriptor), status.st_mtime)


def _sync_folder(folder: str) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # somebody has deleted what was written, and the folder with it
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno != errno.EINVAL:  # a file system that cannot sync folders says so by this
            raise
    finally:
        os.close(descriptor)
