"""Files of rows: CSV and JSON lines, plain or gzip, read piece by piece into columns of numbers.

Every fault names the line as a text editor counts it, and the value. The first fault of a file is the one reported.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stoker.base import json_text
from stoker.base.errors import InvalidInput
from stoker.simulate.traces.values import Column, Text, Wrong, shown

MOST_ROWS = 10_000_000
_PIECE = 1024  # rows; so few stay in the cache of a core, and go before the garbage collector looks at them twice
_LINE_END = re.compile(r"\r\n|\r|\n")
_FIRST_LINE = 1 << 20
"""Characters in which the header, or the first object, must end."""


def fault(message: str, hint: str | None = None) -> InvalidInput:
    return InvalidInput(message, param="trace", hint=hint)


@dataclass(frozen=True, eq=False)
class Piece:
    """Some rows. `lines` says where each one begins."""

    cells: Mapping[str, Sequence[Any]]
    lines: list[int]


class Table(Protocol):
    """Rows under names."""

    @property
    def name(self) -> str: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def row_word(self) -> str:
        """What `lines` count: `line`, or `row` where there are no lines."""

    def pieces(self, names: Sequence[str]) -> Iterator[Piece]:
        """Raises InvalidInput after the pieces before what is wrong. May be called once."""


@dataclass(frozen=True, eq=False)
class Columns:
    """All rows of a table. `texts` are the names behind the numbers of a text column."""

    values: dict[str, NDArray[Any]]
    texts: dict[str, tuple[str, ...]]
    lines: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.lines)


def read(table: Table, columns: Sequence[Column], *, rising: str | None = None, until: float | None = None) -> Columns:
    """The columns that the table has of these. Times in `rising` must not fall, and reading ends when they reach
    `until`, in seconds of the trace. Raises InvalidInput for the first row that is wrong, and where there is none."""
    there = [each for each in columns if each.name in table.columns or each.is_required]
    parts: dict[str, list[NDArray[Any]]] = {each.name: [] for each in there}
    lines: list[NDArray[np.int32]] = []
    count, last = 0, None
    for piece in table.pieces([each.name for each in there]):
        found = _fast(piece, there, rising, last) or _exact(table, piece, there, rising, last)
        for name, part in found.items():
            parts[name].append(part)
        lines.append(np.array(piece.lines, dtype=np.int32))
        count += len(piece.lines)
        if count > MOST_ROWS:
            raise fault(
                f"{table.name} has more than {MOST_ROWS:,} requests, which is the most",
                "cut it, or read its beginning: a limit in seconds ends the reading there",
            )
        if rising is not None:
            last = found[rising][-1]
            if until is not None and _seconds(parts[rising][0][0], last) >= until:
                break
    if not count:
        raise fault(f"{table.name} has no requests", "a line for each request, below the first")
    values = {name: np.concatenate(parts.pop(name)) for name in list(parts)}
    texts = {each.name: each.kind.names for each in there if isinstance(each.kind, Text)}
    return Columns(values, texts, np.concatenate(lines))


def _seconds(first: Any, last: Any) -> float:
    """Moments are whole microseconds, and a trace of them begins at the first one."""
    return float(last - first) / 1e6 if isinstance(last, np.integer) else float(last)


def _fast(piece: Piece, columns: Sequence[Column], rising: str | None, last: Any) -> dict[str, NDArray[Any]] | None:
    found = {}
    for column in columns:
        cells = piece.cells[column.name]
        if column.default is not None and (None in cells or "" in cells):
            cells = [column.default if cell is None or cell == "" else cell for cell in cells]
        values = column.kind.many(cells)
        if values is None:
            return None
        found[column.name] = values
    if rising is not None:
        times = found[rising]
        if (last is not None and times[0] < last) or (np.diff(times) < 0).any():
            return None
    return found


def _exact(
    table: Table, piece: Piece, columns: Sequence[Column], rising: str | None, last: Any
) -> dict[str, NDArray[Any]]:
    """Row by row: the first one that is wrong is an error; when none is, what they mean."""
    found: dict[str, list[Any]] = {column.name: [] for column in columns}
    for place, line in enumerate(piece.lines):
        for column in columns:
            cell = piece.cells[column.name][place]
            if column.default is not None and (cell is None or cell == ""):
                cell = column.default
            try:
                value = column.kind.one(cell)
            except Wrong as wrong:
                raise at(table, line, f"{column.name} {wrong}") from None
            if column.name == rising:
                if last is not None and value < last:
                    before = shown(piece.cells[rising][place - 1]) if place else "the row before it"
                    raise at(
                        table,
                        line,
                        f"{rising} is {shown(cell)}, which is earlier than {before}: times must not fall",
                        "sort the rows by time",
                    )
                last = value
            found[column.name].append(value)
    return {
        column.name: np.array(found[column.name], dtype=np.int64 if _are_ints(found[column.name]) else None)
        for column in columns
    }


def _are_ints(values: list[Any]) -> bool:
    return all(type(value) is int for value in values)


def at(table: Table, line: int, message: str, hint: str | None = None) -> InvalidInput:
    return fault(f"{table.name}, {table.row_word} {line}: {message}", hint)


# --- files ------------------------------------------------------------------------------------------------------------


@dataclass
class _Progress:
    """Of the file: where its reading is."""

    name: str
    line: int = 0


@contextmanager
def _readable(progress: _Progress) -> Iterator[None]:
    """What the system and gzip say becomes ours."""
    try:
        yield
    except EOFError as exc:
        raise fault(
            f"{progress.name} ends too early, after line {progress.line}: the gzip file is truncated", "copy it again"
        ) from exc
    except (zlib.error, gzip.BadGzipFile) as exc:
        raise fault(f"{progress.name} is damaged after line {progress.line}: {exc}", "copy it again") from exc
    except OSError as exc:
        raise fault(f"{progress.name} cannot be read: {exc.strerror or exc}") from exc


def head(path: Path) -> bytes:
    """The first bytes as they are."""
    with _readable(_Progress(path.name)), path.open("rb") as file:
        return file.read(16)


@contextmanager
def opened(path: Path) -> Iterator["Table"]:
    """The rows of a text file: JSON lines where it begins with a brace, else CSV."""
    progress = _Progress(path.name)
    with _readable(progress):
        is_gzip = head(path)[:2] == b"\x1f\x8b"
        binary: IO[bytes] = gzip.open(path) if is_gzip else path.open("rb")  # type: ignore[assignment]  # noqa: SIM115
    with binary:
        with _readable(progress):
            first = binary.peek(4)[:4]  # type: ignore[attr-defined]
        if first[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise fault(f"{path.name} is UTF-16", "save it as UTF-8")
        # Bytes that are no UTF-8 are kept as they are: the cell in which they stand is at fault, with its line.
        text = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")
        with _readable(progress):
            opening = _first_line(text, progress)
        yield _JsonLines(progress, opening, text) if opening.lstrip()[:1] == "{" else _Csv(progress, opening, text)


def _first_line(text: io.TextIOWrapper, progress: _Progress) -> str:
    """Of those that are not blank."""
    while line := text.readline(_FIRST_LINE):
        progress.line += 1
        if "\0" in line:
            raise fault(f"{progress.name} is no text", "traces are CSV or JSON lines, plain or gzip")
        if len(line) >= _FIRST_LINE:
            raise fault(f"{progress.name} is no trace: its line {progress.line} does not end")
        if line.lstrip()[:1] == "[":
            raise fault(
                f"{progress.name} is one JSON array", "write one object on each line: `jq -c '.[]' FILE > FILE.jsonl`"
            )
        if line.strip():
            return line
    raise fault(f"{progress.name} is empty", "a line of columns, then a line for each request")


class _Csv:
    """With a header. Fields are parted by commas, or by semicolons or tabs where the header is."""

    row_word = "line"

    def __init__(self, progress: _Progress, opening: str, rest: Iterable[str]) -> None:
        self.name = progress.name
        self._progress = progress
        self._rest = rest
        self._delimiter = max(",;\t", key=opening.count)
        try:
            header = next(csv.reader([opening], delimiter=self._delimiter, strict=True))
        except csv.Error as exc:
            raise fault(f"{self.name}, line {progress.line}: the header is no CSV: {exc}") from exc
        self.columns = tuple(each.strip() for each in header)
        twice = [each for each in self.columns if each and self.columns.count(each) > 1]
        if twice:
            raise fault(f"{self.name}, line {progress.line}: the header has {twice[0]} twice")

    def pieces(self, names: Sequence[str]) -> Iterator[Piece]:
        places = [self.columns.index(name) for name in names]
        reader = csv.reader(self._rest, delimiter=self._delimiter, strict=True)
        progress = self._progress
        wrong: InvalidInput | None = None
        while wrong is None:
            rows: list[list[str]] = []
            first, before = progress.line + 1, reader.line_num
            try:
                with _readable(progress):
                    try:
                        # What came before an error is in `rows`, and may be wrong itself.
                        rows.extend(islice(reader, _PIECE))
                    finally:
                        progress.line += reader.line_num - before
            except (csv.Error, InvalidInput) as exc:
                wrong = exc if isinstance(exc, InvalidInput) else self._no_csv(rows, first, exc)
            if not rows and wrong is None:
                return
            if reader.line_num - before == len(rows):
                lines = list(range(first, first + len(rows)))
            else:
                lines = _where_they_begin(rows, first)
            fault_of_width = None
            if set(map(len, rows)) != {len(self.columns)}:
                rows, lines, fault_of_width = self._of_width(rows, lines)
            if rows:
                columns = list(zip(*rows, strict=True))
                yield Piece({name: columns[place] for name, place in zip(names, places, strict=True)}, lines)
            wrong = fault_of_width or wrong
        raise wrong

    def _no_csv(self, rows: list[list[str]], first: int, exc: csv.Error) -> InvalidInput:
        line = _where_they_begin([*rows, []], first)[-1]
        return at(self, line, f"it is no CSV: {exc}")

    def _of_width(
        self, rows: list[list[str]], lines: list[int]
    ) -> tuple[list[list[str]], list[int], InvalidInput | None]:
        """Without blank lines, up to the first that has too many fields or too few."""
        width = len(self.columns)
        kept: list[list[str]] = []
        kept_lines: list[int] = []
        for row, line in zip(rows, lines, strict=True):
            if len(row) != width:
                if not row or (len(row) == 1 and not row[0].strip()):
                    continue
                return kept, kept_lines, at(self, line, f"it has {len(row)} fields, and the header {width}")
            kept.append(row)
            kept_lines.append(line)
        return kept, kept_lines, None


def _where_they_begin(rows: Sequence[Sequence[str]], line: int) -> list[int]:
    """The line of each row. A quoted field may hold line ends."""
    lines = []
    for row in rows:
        lines.append(line)
        line += 1 + sum(len(_LINE_END.findall(cell)) for cell in row)
    return lines


class _JsonLines:
    """One object on each line. Its columns are those of the first one."""

    row_word = "line"

    def __init__(self, progress: _Progress, opening: str, rest: Iterable[str]) -> None:
        self.name = progress.name
        self._progress = progress
        self._rest = rest
        self._first = self._object(opening, progress.line)
        self.columns = tuple(self._first)

    def _object(self, text: str, line: int) -> dict[str, Any]:
        try:
            found = json_text.loads(text)
        except (ValueError, RecursionError):
            raise at(self, line, f"it is no JSON: {shown(text.strip())}") from None
        if not isinstance(found, dict):
            raise at(self, line, f"it is {shown(found)}, which is no JSON object")
        return found

    def pieces(self, names: Sequence[str]) -> Iterator[Piece]:
        progress = self._progress
        rows, lines = [self._first], [progress.line]
        wrong: InvalidInput | None = None
        try:
            with _readable(progress):
                for text in self._rest:
                    progress.line += 1
                    if text.isspace():
                        continue
                    rows.append(self._object(text, progress.line))
                    lines.append(progress.line)
                    if len(rows) == _PIECE:
                        yield _objects(rows, lines, names)
                        rows, lines = [], []
        except InvalidInput as exc:
            wrong = exc
        if rows:
            yield _objects(rows, lines, names)
        if wrong is not None:
            raise wrong


def _objects(rows: list[dict[str, Any]], lines: list[int], names: Sequence[str]) -> Piece:
    return Piece({name: [row.get(name) for row in rows] for name in names}, lines)


@dataclass(frozen=True, eq=False)
class Rows:
    """A table that somebody else reads: a database, Parquet."""

    name: str
    columns: tuple[str, ...]
    batches: Iterable[dict[str, list[Any]]]
    row_word: str = field(default="row")

    def pieces(self, names: Sequence[str]) -> Iterator[Piece]:
        count = 0
        for batch in self.batches:
            size = len(next(iter(batch.values())))
            if size:
                yield Piece({name: batch[name] for name in names}, list(range(count + 1, count + size + 1)))
            count += size
