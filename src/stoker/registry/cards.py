"""`card.json` of a published version, and `CURRENT` of a model, as bytes and back. Pure; what is no such thing is a
ValueError in words, and a name that could leave its folder is no such thing."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

MOST_BEFORE = 100
"""Versions that CURRENT remembers, to go back."""
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}\Z")
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


@dataclass(frozen=True)
class Version:
    """Published weights. `files`: name -> sha256. `card`: of which run and checkpoint they are, what they were
    evaluated on, with which verdict, when."""

    model: str
    digest: str
    files: Mapping[str, str]
    card: Mapping[str, Any]
    created_at: float


@dataclass(frozen=True)
class Current:
    """`before`: what was served before, newest first."""

    digest: str
    before: tuple[str, ...] = ()


def is_digest(text: object) -> bool:
    return isinstance(text, str) and _DIGEST.match(text) is not None


def is_file_name(text: object) -> bool:
    return isinstance(text, str) and _FILE.match(text) is not None


def with_verdict_of(new: Version, known: Version) -> Version:
    """The known version with the new one's verdict, if that has one."""
    verdict = new.card.get("evaluation")
    return known if verdict is None else replace(known, card={**known.card, "evaluation": verdict})


def to_bytes(version: Version) -> bytes:
    document = {
        "format": "stoker-model/1",
        "model": version.model,
        "digest": version.digest,
        "created_at": version.created_at,
        "files": dict(version.files),
        "card": dict(version.card),
    }
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def from_bytes(data: bytes) -> Version:
    """Raises ValueError."""
    document = _object(data)
    files, card, at = document.get("files"), document.get("card"), document.get("created_at")
    if document.get("format") != "stoker-model/1" or not is_digest(document.get("digest")):
        raise ValueError("it is no card of a model")
    if not isinstance(files, dict) or not files or not isinstance(card, dict) or not isinstance(at, int | float):
        raise ValueError("it is no card of a model: files, card or created_at is missing")
    if not all(is_file_name(name) and is_digest(sha256) for name, sha256 in files.items()):
        raise ValueError("it names a file that cannot be one of the model's")
    return Version(str(document.get("model")), document["digest"], files, card, float(at))


def current_to_bytes(current: Current) -> bytes:
    before = list(current.before[:MOST_BEFORE])
    return json.dumps({"digest": current.digest, "before": before}, indent=1).encode() + b"\n"


def current_from_bytes(data: bytes) -> Current:
    """Raises ValueError."""
    document = _object(data)
    before = document.get("before", [])
    if not is_digest(document.get("digest")) or not _are_digests(before):
        raise ValueError("it does not say which version is served")
    return Current(document["digest"], tuple(before))


def _are_digests(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(is_digest(each) for each in value)


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is no JSON") from error
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - of a file's content
    return document
