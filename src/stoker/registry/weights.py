"""What a folder of weights is: its files, each with its sha256, and one digest over them.

What is evaluated, published and served has this digest, so that a person can see that it is the same. Nothing of the
files is interpreted here.
"""

import contextlib
import hashlib
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from stoker.base.errors import Conflict, InvalidInput
from stoker.registry import cards

CARD = "card.json"
"""Says where the weights are from; not part of what they are."""
SLICE_BYTES = 16 << 20
_CONFIGS = ("config.json", "adapter_config.json")
_SHOWN = 12


def short(digest: str) -> str:
    """As people read it."""
    return digest[:_SHOWN]


def digest_of(folder: Path) -> tuple[str, dict[str, str]]:
    """sha256 over the sorted (name, sha256) of the folder's files, and those: `card.json` and hidden files aside.
    Raises InvalidInput when it is no folder of weights, has folders in it, or cannot be read."""
    files = {path.name: _sha256(path) for path in files_of(folder)}
    return digest_over(files), files


def digest_over(files: Mapping[str, str]) -> str:
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{files[name]}\n".encode())
    return whole.hexdigest()


def files_of(folder: Path) -> list[Path]:
    """Sorted by name. Raises InvalidInput as `digest_of`."""
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name != CARD)
    except OSError as error:
        raise InvalidInput(f"{folder} is no folder of weights: {error.strerror}", param="weights") from error
    inner = next((path.name for path in found if not path.is_file()), None)
    if inner is not None:
        raise InvalidInput(f"{folder} has {inner} in it, which is no file; weights are files side by side")
    names = {path.name for path in found}
    if not names.intersection(_CONFIGS) or not any(name.endswith(".safetensors") for name in names):
        raise InvalidInput(
            f"{folder} is no folder of weights: it has to hold config.json and at least one .safetensors",
            param="weights",
        )
    return found


def check(folder: Path, digest: str) -> None:
    """Raises Conflict, which names the files where the folder's card knows them, when its content is not of this
    digest."""
    found, files = digest_of(folder)
    if found == digest:
        return
    known = _files_by_card(folder)
    wrong = sorted(name for name in files.keys() | known.keys() if files.get(name) != known.get(name)) if known else []
    named = f" ({', '.join(wrong)} changed)" if wrong else ""
    raise Conflict(
        f"the weights in {folder} are not those that were asked for: their digest is {short(found)}, and not "
        f"{short(digest)}{named}",
        code="weights_changed",
        hint="`stoker register RUN.yaml` after removing that folder publishes them anew; `--back` serves the version "
        "before",
    )


def _files_by_card(folder: Path) -> dict[str, str]:
    try:
        return dict(cards.from_bytes((folder / CARD).read_bytes()).files)
    except (OSError, ValueError):
        return {}


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", param="weights") from error


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[list[memoryview]]:
    """The content of a file in slices, without reading it into memory as a whole."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            yield []
            return
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        whole = memoryview(content)
        parts = [whole[start : start + SLICE_BYTES] for start in range(0, len(whole), SLICE_BYTES)]
        try:
            yield parts
        finally:
            for part in parts:
                part.release()
            whole.release()
            with contextlib.suppress(BufferError):  # an error on its way holds views of its own: it closes with them
                content.close()
