"""Usage records as a file that others read: CSV with what Python has, Parquet with the extra `parquet`.

Both have the record's fields under their names, and `usd` beside the exact `nano_usd`. Times are UTC, to the
microsecond. Records come in page by page and are not kept, so a ledger of any size takes the memory of one page.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, BinaryIO, Literal, Protocol

from stoker.base.errors import InvalidInput
from stoker.meter.cost import usd
from stoker.meter.usage import UsageRecord

Format = Literal["csv", "parquet"]

_TIMES = ("started_at", "first_token_at", "ended_at")
COLUMNS = (*(field.name for field in fields(UsageRecord)), "usd")


class Writer(Protocol):
    def write(self, records: Iterable[UsageRecord]) -> None: ...

    def close(self) -> None:
        """What it writes is whole only after this. The file below stays open."""


def writer(kind: Format, out: BinaryIO) -> Writer:
    """Raises InvalidInput for a format that this installation cannot write."""
    return _Csv(out) if kind == "csv" else _Parquet(out)


class _Csv:
    """RFC 4180, UTF-8, with a header; what is missing is empty."""

    def __init__(self, out: BinaryIO) -> None:
        self._text = io.TextIOWrapper(out, encoding="utf-8", newline="")
        self._rows = csv.writer(self._text)
        self._rows.writerow(COLUMNS)

    def write(self, records: Iterable[UsageRecord]) -> None:
        self._rows.writerows(_csv_row(record) for record in records)
        self._text.flush()

    def close(self) -> None:
        self._text.detach()


def _csv_row(record: UsageRecord) -> list[Any]:
    row = _values(record)
    for name in _TIMES:
        if row[name] is not None:
            row[name] = row[name].isoformat(timespec="microseconds")
    row["usd"] = format(row["usd"], "f")
    return list(row.values())


class _Parquet:
    """A row group for each page."""

    def __init__(self, out: BinaryIO) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as exc:
            raise InvalidInput(
                "Parquet is written with pyarrow, which is not installed here",
                param="format",
                hint="`pip install 'stoker[parquet]'`, or write CSV",
            ) from exc
        self._arrow = pyarrow
        self._schema = _schema(pyarrow)
        self._file = parquet.ParquetWriter(out, self._schema)

    def write(self, records: Iterable[UsageRecord]) -> None:
        rows = [_values(record) for record in records]
        if rows:
            self._file.write_table(self._arrow.Table.from_pylist(rows, schema=self._schema))

    def close(self) -> None:
        self._file.close()


def _schema(arrow: Any) -> Any:
    kinds = {
        **dict.fromkeys(_TIMES, arrow.timestamp("us", tz="UTC")),
        **dict.fromkeys(("prompt_tokens", "cached_tokens", "completion_tokens", "nano_usd"), arrow.int64()),
        "attempts": arrow.int32(),
        "usd": arrow.decimal128(19, 9),  # as many digits as the nano-dollars of 64 bits
    }
    optional = {field.name for field in fields(UsageRecord) if field.default is None}
    return arrow.schema(
        [arrow.field(name, kinds.get(name, arrow.string()), nullable=name in optional) for name in COLUMNS]
    )


def _values(record: UsageRecord) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in COLUMNS[:-1]}
    for name in _TIMES:
        if row[name] is not None:
            row[name] = datetime.fromtimestamp(row[name], UTC)
    return {**row, "usd": usd(record.nano_usd)}
