"""Encoded data in a folder, for the next launch of the same run and for the other processes of its node.

    CACHE/data-DIGEST/  about.json, tokens.npy, weights.npy, ...
    CACHE/data-DIGEST.json  the report, and how many rows each epoch has

What cannot be read, or is not what its sha256 says, is made again. Arrays are mapped, so that processes share them.
Without a folder nothing is kept. A disk that is full is no reason not to train.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.train.formats import BadLine
from stoker.train.reports import Notes, Report
from stoker.train.rows import Samples

_LEFT_BEHIND_S = 3600.0
"""What was begun so long ago is of a process that died."""


def save(cache: Path | None, digest: str, samples: Samples) -> None:
    """Whole or not at all."""
    if cache is None:
        return
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        _sweep(cache)
        folder = Path(tempfile.mkdtemp(prefix=".data-", dir=cache))
        try:
            arrays = samples.arrays()
            for name, array in arrays.items():
                np.save(folder / f"{name}.npy", array, allow_pickle=False)
            about = {"each": samples.each, "sha256": {name: _sha256(array) for name, array in arrays.items()}}
            (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
            os.replace(folder, _place(cache, digest))  # refused where another process was first
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def load(cache: Path | None, digest: str) -> Samples | None:
    if cache is None:
        return None
    folder = _place(cache, digest)
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        arrays: dict[str, Any] = {}
        for name, said in about["sha256"].items():
            arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            if _sha256(arrays[name]) != said:
                raise ValueError(f"{name} is not what was written")
        return Samples(about["each"], **arrays)
    except (OSError, ValueError, KeyError, TypeError):
        shutil.rmtree(folder, ignore_errors=True)
        return None


def save_notes(cache: Path | None, digest: str, notes: Notes) -> None:
    if cache is None:
        return
    said = json.dumps({"report": dataclasses.asdict(notes.report), "rows_in": list(notes.rows_in)})
    sealed = json.dumps({"said": said, "sha256": hashlib.sha256(said.encode()).hexdigest()})
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        descriptor, written = tempfile.mkstemp(prefix=".data-", dir=cache)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(sealed)
        os.replace(written, _notes_place(cache, digest))


def load_notes(cache: Path | None, digest: str) -> Notes | None:
    if cache is None:
        return None
    try:
        sealed = json.loads(_notes_place(cache, digest).read_text(encoding="utf-8"))
        if hashlib.sha256(sealed["said"].encode()).hexdigest() != sealed["sha256"]:
            return None
        notes = json.loads(sealed["said"])
        bad = tuple(BadLine(**each) for each in notes["report"].pop("bad"))
        return Notes(Report(**notes["report"], bad=bad), tuple(notes["rows_in"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sweep(cache: Path) -> None:
    for left in cache.glob(".data-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFT_BEHIND_S:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _place(cache: Path, digest: str) -> Path:
    return cache / f"data-{digest[:32]}"


def _notes_place(cache: Path, digest: str) -> Path:
    return cache / f"data-{digest[:32]}.json"


def _sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
