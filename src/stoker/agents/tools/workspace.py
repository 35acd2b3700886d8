"""A folder of files for each run: list, read, write.

Each part of a path is opened below the one before it, and no link is followed, so that a path cannot lead out of the
folder, whatever else writes there.
"""

import contextlib
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from stoker.agents.tools.interface import Json, Place, Result
from stoker.agents.tools.threads import in_thread
from stoker.base.errors import Unavailable
from stoker.spec import agents as spec

MOST_FILES = 1000
MOST_DEPTH = 8
MOST_PATH = 300
_MOST_READ = 1_000_000

_PATH: Json = {"type": "string", "minLength": 1, "maxLength": MOST_PATH, "description": "Such as notes/plan.md"}


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


LIST = ("List the files of this run with their sizes in bytes.", _object())
READ = ("Read a text file of this run.", _object(path=_PATH))
WRITE = (
    "Write a text file of this run: the whole of it; what was there is replaced. Folders are made.",
    _object(path=_PATH, content={"type": "string"}),
)


class Refusal(Exception):
    """Why a file cannot be had, for the model to read."""


class Files:
    """One `workspace` tool, for all runs."""

    def __init__(self, said: spec.Workspace) -> None:
        self._most_bytes = said.max_bytes
        self._writing = threading.Lock()

    async def list(self, arguments: Json, place: Place) -> Result:
        def listed() -> Result:
            found = sorted(_files(place.folder))
            return Result(text="\n".join(f"{path} ({size} bytes)" for path, size in found) or "there are no files yet")

        return await in_thread(listed)

    async def read(self, arguments: Json, place: Place) -> Result:
        return await in_thread(lambda: _answered(lambda: _read(place.folder, arguments["path"])))

    async def write(self, arguments: Json, place: Place) -> Result:
        data = arguments["content"].encode("utf-8", "replace")

        def write() -> str:
            with self._writing:  # so that two writers do not both find the last of the room
                self._check_room(place.folder, arguments["path"], len(data))
                _write(place.folder, arguments["path"], data)
            return f"wrote {len(data)} bytes to {arguments['path']}"

        return await in_thread(lambda: _answered(write))

    def _check_room(self, folder: Path, path: str, size: int) -> None:
        sizes = dict(_files(folder))
        name = "/".join(parts_of(path))
        if name not in sizes and len(sizes) >= MOST_FILES:
            raise Refusal(f"there are {len(sizes)} files already; {MOST_FILES} are the most. Write to one that exists")
        others = sum(size for each, size in sizes.items() if each != name)
        if others + size > self._most_bytes:
            left = max(0, self._most_bytes - others)
            raise Refusal(
                f"{size} bytes do not fit: {left} of {self._most_bytes} are left. Write less, or shorten others"
            )


def parts_of(path: str) -> list[str]:
    """Raises Refusal for what is no path below the folder."""
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or not path.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise Refusal(
            f'"{path[:100]}" is not a path of this run; it has to be relative, such as notes/plan.md, without ..'
        )
    if any(part.startswith(".") or len(part.encode()) > 200 for part in parts) or len(parts) > MOST_DEPTH:
        raise Refusal(
            f'"{path[:100]}" is not a path of this run: no part may begin with a dot or have more than 200 bytes, and '
            f"{MOST_DEPTH} parts are the most"
        )
    return parts


def _answered(do: Callable[[], str]) -> Result:
    try:
        return Result(text=do())
    except Refusal as refusal:
        return Result(text=str(refusal), is_error=True)
    except OSError as exc:  # the disk is full, for instance
        error = Unavailable("the files of this run cannot be read or written now")
        error.detail = str(exc)
        raise error from exc


def _read(folder: Path, path: str) -> str:
    parts = parts_of(path)
    with _opened(folder, parts[:-1], make=False) as parent:
        try:
            # A pipe is not waited for.
            file = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        except OSError as exc:
            raise _missing(path) from exc
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _missing(path)
    with open(file, "rb") as opened:
        data = opened.read(_MOST_READ + 1)
    if len(data) > _MOST_READ:
        raise Refusal(f"{path} has more than {_MOST_READ} bytes, which is more than can be read at once")
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise Refusal(f"{path} is not text in UTF-8") from exc


def _write(folder: Path, path: str, data: bytes) -> None:
    """The whole file or none of it."""
    parts = parts_of(path)
    with _opened(folder, parts[:-1], make=True) as parent:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False).st_mode):
                raise Refusal(f"{path} is a folder; write to a file in it")
        new = f".{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(new, flags, 0o600, dir_fd=parent), "wb") as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.rename(new, parts[-1], src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                os.unlink(new, dir_fd=parent)
                raise


@contextlib.contextmanager
def _opened(folder: Path, parts: list[str], *, make: bool) -> Iterator[int]:
    """The folder that the parts lead to. Raises Refusal where there is none."""
    if make:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = "/".join(parts)
    try:
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise Refusal("there are no files yet") from exc
    try:
        for part in parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=at)
            try:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            except OSError as exc:
                raise _missing(path) if not make else Refusal(f"{path} is not a folder of this run") from exc
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)


def _missing(path: str) -> Refusal:
    return Refusal(f"{path} is not a file of this run; list the files to see those that are")


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """Path and size of each; links and what begins with a dot are none."""
    for at, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            found = os.path.join(at, name)
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(found)
                if stat.S_ISREG(status.st_mode) and not name.startswith("."):
                    yield os.path.relpath(found, folder), status.st_size
