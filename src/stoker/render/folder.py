"""Rendered files into a folder that may hold others: what Stoker wrote is replaced, what it did not is left alone."""

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from stoker.base.errors import InvalidInput

INDEX = ".stoker-render.json"
"""In the folder: which files are Stoker's, with the SHA-256 of what was written, and which components they are of."""


@dataclass(frozen=True)
class Written:
    changed: list[str]
    removed: list[str]


def write(folder: Path, texts: Mapping[str, str], *, only: Collection[str] = (), force: bool = False) -> Written:
    """Make the folder say `texts`, which are those of the components `only`, or of all. Files of an earlier run that
    are not among them are removed.

    Raises InvalidInput, before anything is changed, when a file that would be written over or removed is not as Stoker
    left it, and when files would be removed because the earlier run was of other components; unless `force`.
    """
    before = _index(folder)
    contents = {name: text.encode() for name, text in texts.items()}
    gone = [name for name in before.files if name not in contents and (folder / name).is_file()]
    changed = [name for name, content in contents.items() if _read(folder / name) != content]
    foreign = [name for name in (*changed, *gone) if _is_foreign(folder / name, before.files.get(name))]
    if foreign and not force:
        raise InvalidInput(
            f"{_some(foreign)} in {folder} would be lost: not written by stoker render, or changed since",
            hint="choose an empty folder, move what you want to keep, or say --force",
        )
    if gone and before.only != sorted(only) and only and not force:
        raise InvalidInput(
            f"{_some(gone)} in {folder} would be removed: they are of components that --only leaves out",
            param="--only",
            hint="render everything, or --only into a folder of its own; --force removes them",
        )
    for name in changed:
        _replace(folder / name, contents[name])
    for name in gone:
        _remove(folder, folder / name)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}
    index = (json.dumps({"only": sorted(only), "files": digests}, indent=1) + "\n").encode()
    if _read(folder / INDEX) != index:
        _replace(folder / INDEX, index)
    return Written(changed, gone)


@dataclass(frozen=True)
class _Index:
    only: list[str]
    files: dict[str, str]


def _index(folder: Path) -> _Index:
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(
            f"{folder} is a file; -o wants a folder", param="--out", hint="name a folder, or - for stdout"
        )
    content = _read(folder / INDEX)
    if content is None:
        return _Index([], {})
    try:
        read = json.loads(content)
        files = {
            name: digest
            for name, digest in read["files"].items()
            if isinstance(digest, str) and (folder / name).resolve().is_relative_to(folder.resolve())
        }
        return _Index(sorted(read.get("only", [])), files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"{folder / INDEX} cannot be read as what stoker render left there", hint="remove it, and say --force"
        ) from error


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _is_foreign(path: Path, digest: str | None) -> bool:
    content = _read(path)
    return content is not None and (digest is None or hashlib.sha256(content).hexdigest() != digest)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error


def _replace(path: Path, content: bytes) -> None:
    """At once or not at all: whoever applies the folder meanwhile never reads half a file."""
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except OSError as error:
        if beside is not None:
            Path(beside).unlink(missing_ok=True)
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from error


def _remove(folder: Path, path: Path) -> None:
    """The file, and the folders that are empty without it."""
    try:
        path.unlink()
        child = path.parent
        while child != folder and not any(child.iterdir()):
            child.rmdir()
            child = child.parent
    except OSError as error:
        raise InvalidInput(f"{path} cannot be removed: {error.strerror}") from error
