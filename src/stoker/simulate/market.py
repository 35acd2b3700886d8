"""A recorded spot market: from when on how many spot nodes there were to be had.

Two forms are read: CSV with the columns `at_s,nodes`, and JSON lines as those of SkyPilot's spot traces in this
project's form, `{"gap_seconds": 195, "rle": [[nodes, how often], ...]}`, of which one line is one recording.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stoker.base.errors import InvalidInput

Available = tuple[tuple[float, int], ...]
_COLUMNS = ["at_s", "nodes"]
_FORMS = "CSV with the columns at_s,nodes, or JSON lines with gap_seconds and rle; FILE:N takes the N-th line"


def read(asked: str) -> Available:
    """`FILE`, or `FILE:N` for the N-th recording of a file of JSON lines. Raises InvalidInput."""
    name, _, number = asked.rpartition(":")
    path, line = (Path(name), int(number)) if name and number.isdigit() else (Path(asked), 1)
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _wrong(f"{path} cannot be read: {error}") from error
    rows = [each for each in text.splitlines() if each.strip()]
    if not rows:
        raise _wrong(f"{path} is empty")
    if rows[0].lstrip().startswith("{"):
        if not 1 <= line <= len(rows):
            raise _wrong(f"{path} has {len(rows)} recordings, and no number {line}")
        return _changes(_recorded(path, line, rows[line - 1]))
    return _changes(_listed(path, rows))


def _recorded(path: Path, line: int, text: str) -> Iterator[tuple[float, int]]:
    try:
        found: Any = json.loads(text)
        at, gap = 0.0, float(found["gap_seconds"])
        for nodes, times in found["rle"]:
            if int(nodes) < 0 or int(times) < 0 or not gap > 0:
                raise ValueError("a negative number")
            yield at, int(nodes)
            at += gap * int(times)
    except (ValueError, TypeError, KeyError) as error:
        raise _wrong(f"{path}, line {line}: {error} is wrong") from error


def _listed(path: Path, rows: list[str]) -> Iterator[tuple[float, int]]:
    table = csv.reader(rows)
    head = [each.strip() for each in next(table)]
    if head != _COLUMNS:
        raise _wrong(f"{path} has the columns {','.join(head)[:100]}")
    before = -1.0
    for number, row in enumerate(table, start=2):
        try:
            at, nodes = float(row[0]), int(row[1])
            if not (at > before and at < float("inf") and nodes >= 0):
                raise ValueError("times must rise from 0 on, and nodes be at least 0")
        except (ValueError, IndexError) as error:
            raise _wrong(f"{path}, line {number}: {','.join(row)[:60]!r}: {error}") from error
        before = at
        yield at, nodes


def _changes(rows: Iterable[tuple[float, int]]) -> Available:
    found: list[tuple[float, int]] = []
    for at, nodes in rows:
        if not found or found[-1][1] != nodes:
            found.append((at, nodes))
    return tuple(found)


def _wrong(message: str) -> InvalidInput:
    return InvalidInput(message, param="--spot-trace", hint=_FORMS)
