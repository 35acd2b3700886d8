"""Rendered files into a folder that may hold others: what Stoker wrote is replaced, what it did not is left alone."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stoker.base.errors import InvalidInput

INDEX = ".stoker-render.json"
"""In the folder: which files are Stoker's, with the SHA-256 of what was written."""


@dataclass(frozen=True)
class Written:
    changed: list[str]
    removed: list[str]


def write(folder: Path, texts: Mapping[str, str], *, force: bool = False) -> Written:
    """Make the folder say `texts`. Files of an earlier run that are not among them are removed.

    Raises InvalidInput, before anything is changed, when a file that would be written over or removed is not as Stoker
    left it, unless `force`.
    """
    before = _index(folder)
    contents = {name: text.encode() for name, text in texts.items()}
    gone = [name for name in before if name not in contents and (folder / name).is_file()]
    changed = [name for name, content in contents.items() if _read(folder / name) != content]
    foreign = [name for name in (*changed, *gone) if _is_foreign(folder / name, before.get(name))]
    if foreign and not force:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise InvalidInput(
            f"{', '.join(foreign[:3])}{more} in {folder} would be lost: not written by stoker render, or changed since",
            hint="choose an empty folder, move what you want to keep, or say --force",
        )
    for name in changed:
        _replace(folder / name, contents[name])
    for name in gone:
        (folder / name).unlink()
        _remove_empty(folder, (folder / name).parent)
    index = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}
    _replace(folder / INDEX, (json.dumps({"files": index}, indent=1) + "\n").encode())
    return Written(changed, gone)


def _index(folder: Path) -> dict[str, str]:
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder} is a file; -o wants a folder")
    content = _read(folder / INDEX)
    if content is None:
        return {}
    try:
        files = json.loads(content)["files"]
        return {
            name: digest
            for name, digest in files.items()
            if isinstance(digest, str) and (folder / name).resolve().is_relative_to(folder.resolve())
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"{folder / INDEX} cannot be read as what stoker render left there", hint="remove it, and say --force"
        ) from error


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from error


def _remove_empty(folder: Path, child: Path) -> None:
    while child != folder and not any(child.iterdir()):
        child.rmdir()
        child = child.parent
