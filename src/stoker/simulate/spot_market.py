"""A recorded spot market: how many nodes there were to be had, over time.

Reads the availability traces that were published with "Can't Be Late" (Wu et al., NSDI 2024; skypilot-org/spot-traces),
one JSON object a line with `gap_seconds` and run lengths, and CSV of one's own with the columns at_s and available.
"""

import csv
import gzip
import io
import json
import zlib
from pathlib import Path
from typing import Any

from stoker.base.errors import InvalidInput, NotFound

Steps = tuple[tuple[float, int], ...]
"""From each time on (seconds since the trace of requests began): nodes to be had. The first time is 0."""
_MAX_BYTES = 256 << 20


def read_market(said: str, times: int = 1) -> Steps:
    """`FILE` or `FILE:N`: of a file with several traces the Nth, from 1. `times`: as many nodes for each one recorded.

    Raises NotFound, and InvalidInput with the row."""
    path, number = _named(said)
    text = _text(path)
    steps = _recorded(text, path, number) if text.lstrip().startswith("{") else _table(text, path)
    return tuple((at, many * times) for at, many in steps)


def _named(said: str) -> tuple[Path, int]:
    if Path(said).is_file():
        return Path(said), 1
    name, _, number = said.rpartition(":")
    if name and Path(name).is_file() and number.isdecimal() and int(number) > 0:
        return Path(name), int(number)
    raise NotFound(f"there is no recorded market {said}", hint="FILE, or FILE:N for the Nth trace of a file")


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        if raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
        if len(raw) > _MAX_BYTES:
            raise InvalidInput(f"{path} has {len(raw)} bytes; at most {_MAX_BYTES} are read", param="spot-trace")
        return raw.decode("utf-8-sig")
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}", param="spot-trace") from error


def _recorded(text: str, path: Path, number: int) -> Steps:
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    if number > len(lines):
        raise InvalidInput(f"{path} has {len(lines)} traces, and not a {number}th", param="spot-trace")
    row, line = lines[number - 1]
    try:
        said: Any = json.loads(line)
        gap_s = float(said["gap_seconds"])
        runs = [(int(value), int(run)) for value, run in said["rle"]]
    except (ValueError, KeyError, TypeError) as error:
        raise _wrong(path, row, f"no trace: {error}", "gap_seconds, and rle as [[nodes, points], ...]") from error
    if gap_s <= 0 or not runs or any(value < 0 or run <= 0 for value, run in runs):
        raise _wrong(path, row, "a gap or a run that is not above 0", "gap_seconds above 0, nodes 0 or more")
    found, points = [], 0
    for value, run in runs:
        found.append((points * gap_s, value))
        points += run
    return tuple(found)


def _table(text: str, path: Path) -> Steps:
    reader = csv.DictReader(io.StringIO(text))
    if not {"at_s", "available"} <= set(reader.fieldnames or ()):
        raise _wrong(path, 1, f"columns {', '.join(reader.fieldnames or ())}", "columns at_s and available")
    found: list[tuple[float, int]] = []
    for row in reader:
        try:
            at, many = float(row["at_s"]), int(row["available"])
        except (TypeError, ValueError) as error:
            raise _wrong(path, reader.line_num, str(error), "a time in seconds and a whole number") from error
        if many < 0 or not at >= (found[-1][0] if found else 0.0):
            raise _wrong(
                path, reader.line_num, f"at_s {at:g}, available {many}", "times that rise, from 0, and 0 or more"
            )
        found.append((at, many))
    if not found:
        raise _wrong(path, 1, "no rows", "one row at least")
    return ((0.0, found[0][1]), *found) if found[0][0] > 0 else tuple(found)


def _wrong(path: Path, row: int, said: str, right: str) -> InvalidInput:
    return InvalidInput(f"{path}, row {row}: {said}", param="spot-trace", hint=f"what would do: {right}")
