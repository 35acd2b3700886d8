"""Requests as a ledger or an export of it tells of them: when each began, what it was, read and never written.

`simulate` replays them. Unlike `Store`, nothing here makes a table, brings one up to date or makes a file.
"""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import create_engine, inspect, select
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from stoker.base.errors import InvalidInput, Unavailable
from stoker.meter.store import open_engine, translated
from stoker.meter.tables import usage

COLUMNS = ("started_at", "prompt_tokens", "completion_tokens", "cached_tokens", "model", "tenant", "session")
_BATCH = 20_000

Batch = dict[str, list[Any]]


def from_file(path: Path) -> Iterator[Batch]:
    """Of an SQLite ledger, oldest first."""
    # In a directory where nothing can be written SQLite cannot make what it shares with writers; without a journal
    # beside the file there is none, and it is read as it lies.
    mode = "mode=ro" if _has_journal(path) or _may_write_beside(path) else "immutable=1"
    uri = f"file:{quote(str(path.absolute()))}?{mode}"
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), hide_parameters=True)
    return _batches(engine, path.name)


def from_url(url: str, batch: int = _BATCH) -> Iterator[Batch]:
    """Of the ledger with this URL, oldest first. Messages never hold the URL, which may have a password in it."""
    return _batches(open_engine(url), "the ledger", batch)


def _batches(engine: Engine, name: str, size: int = _BATCH) -> Iterator[Batch]:
    columns = [usage.c[each] for each in COLUMNS]
    # Steps of agents are no requests: what they ask models for is.
    query = select(*columns).where(usage.c.kind != "step").order_by(usage.c.started_at, usage.c.id)
    try:
        with translated(), engine.connect() as connection:
            try:
                if not inspect(connection).has_table(usage.name):
                    raise InvalidInput(f"{name} is no ledger: it has no table {usage.name}")
                rows = connection.execution_options(yield_per=size, stream_results=True).execute(query)
                for part in rows.partitions(size):
                    yield dict(zip(COLUMNS, map(list, zip(*part, strict=True)), strict=True))
            except SQLAlchemyError as exc:
                if engine.dialect.name != "sqlite":
                    raise
                cause = getattr(exc, "orig", None) or exc
                # Locked, or a disk that fails, is for now; a file that is no database stays none.
                kind = Unavailable if isinstance(cause, sqlite3.OperationalError) else InvalidInput
                raise kind(f"{name} cannot be read: {cause}") from exc
    finally:
        engine.dispose()


def _has_journal(path: Path) -> bool:
    return path.with_name(f"{path.name}-wal").exists()


def _may_write_beside(path: Path) -> bool:
    return os.access(path.parent, os.W_OK)


def parquet_columns(path: Path) -> tuple[str, ...]:
    """The names of a Parquet file's columns."""
    with _parquet(path) as file:
        return tuple(file.schema_arrow.names)


def from_parquet(path: Path, columns: tuple[str, ...]) -> Iterator[Batch]:
    """In the order of the file."""
    with _parquet(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH, columns=list(columns)):
            yield batch.to_pydict()


def _parquet(path: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as exc:
        raise InvalidInput(
            f"{path.name} is Parquet, which is read with pyarrow, and that is not installed here",
            hint="`pip install 'stoker[parquet]'`, or export CSV",
        ) from exc
    try:
        return parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as exc:
        raise InvalidInput(f"{path.name} is no whole Parquet file: {str(exc)[:200]}") from exc
