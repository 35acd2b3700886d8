"""The SQL store: its connection, and the one door through which SQLAlchemy's errors become ours.

SQLite on one machine (`sqlite:///PATH`), PostgreSQL by URL in a cluster (`postgresql://USER@HOST/DATABASE`, with the
extra `postgres`). Calls block: async callers run them in a thread.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, NoSuchModuleError, SQLAlchemyError

from stoker.base.errors import InvalidInput, Unavailable
from stoker.meter import migrations

# A database that cannot be reached must not hold a request for the minutes that TCP would.
_CONNECT_S = 5
# Others write to a SQLite file for moments only.
_BUSY_S = 5
_WRITES = "stoker_writes"


class Named(NamedTuple):
    """What errors call a database: the key of platform.yaml that names it, what is in it, itself, and their code."""

    key: str
    what: str
    database: str
    code: str


LEDGER = Named("ledger.url", "the ledger", "the ledger's database", "ledger_unavailable")


class Database:
    """One database, its tables made and brought up to date by `prepare`. Raises InvalidInput for a URL that cannot be
    one and Unavailable when the database says no; later, InvalidInput for a value that no row can hold. What they say
    never holds the URL, which may have a password in it."""

    def __init__(self, url: str, named: Named, prepare: Callable[[Connection], None]) -> None:
        self._named = named
        self.engine = open_engine(url, named)
        try:
            with self.transaction() as connection:
                prepare(connection)
        except BaseException:
            self.engine.dispose()
            raise

    @property
    def url(self) -> str:
        """With its password: for another process of ours, never for a log."""
        return self.engine.url.render_as_string(hide_password=False)

    @property
    def is_postgresql(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """To read and write: all or nothing, on disk when the block ends. SQLite has one such at a time."""
        with (
            translated(self._named),
            self.engine.connect().execution_options(**{_WRITES: True}) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """To read only; waits for nobody who writes."""
        with translated(self._named), self.engine.connect() as connection, connection.begin():
            yield connection

    def close(self) -> None:
        self.engine.dispose()


class Store(Database):
    """The ledger's database: usage, accounts, files and batches."""

    def __init__(self, url: str) -> None:
        super().__init__(url, LEDGER, migrations.migrate)


@contextmanager
def translated(named: Named = LEDGER) -> Iterator[None]:
    try:
        yield
    except DataError as exc:
        raise InvalidInput(f"{named.database} cannot keep such a value: {_cause(exc)}") from exc
    except UnicodeEncodeError as exc:  # half of a surrogate pair, which JSON may hold
        raise InvalidInput(f"{named.database} cannot keep such a value: it is no text") from exc
    except SQLAlchemyError as exc:
        raise Unavailable(f"{named.database} refused: {_cause(exc)}", code=named.code) from exc


def _cause(exc: SQLAlchemyError) -> str:
    """The text of the driver's own error, without the statement, its values and the row that was at fault."""
    return str(getattr(exc, "orig", None) or type(exc).__name__).partition("\nDETAIL:")[0].strip()


def open_engine(url: str, named: Named = LEDGER) -> Engine:
    try:
        parsed = _with_driver(make_url(url))
        if parsed.get_backend_name() != "sqlite" and url.count("@") > 1:
            # What follows the first in a password would be taken for the host, and told to whoever reads the error.
            raise ValueError("an @ too many")
        # Values stay out of SQLAlchemy's own errors, which are the cause of ours and may reach a log.
        engine = create_engine(parsed, hide_parameters=True, **_options(parsed))
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError):
        # Without its cause, which may quote a piece of the URL.
        raise InvalidInput(
            f"{named.key} is not a database URL that this installation can open",
            param=named.key,
            hint="write sqlite:///ledger.sqlite or postgresql://USER@HOST/DATABASE, and an @ in a password as %40; "
            "PostgreSQL needs `pip install stoker[postgres]`",
        ) from None
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            _make_directory_of(Path(parsed.database), named)
        event.listen(engine, "connect", _tune_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_directory_of(file: Path, named: Named) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InvalidInput(
            f"{named.what} sqlite:///{file} cannot be made: {exc.strerror or exc}",
            param=named.key,
            hint=f"{named.key} of platform.yaml must name a file in a directory that you may write to",
        ) from exc


def _with_driver(url: URL) -> URL:
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def _options(url: URL) -> dict[str, Any]:
    if url.get_backend_name() != "postgresql":
        return {}
    # A connection that the server has closed meanwhile (a restart, a failover) is noticed before it is used.
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": _CONNECT_S}}


def _tune_sqlite(connection: Any, _record: Any) -> None:
    # Python's driver would begin transactions at the first write and leave DDL outside of them: `_begin_sqlite` does.
    connection.isolation_level = None
    # WAL lets `stoker usage` read while the gateway writes. FULL makes each commit reach the disk: the usage stream
    # forgets a record as soon as it is committed here.
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_S * 1000}")
    _to_wal(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _to_wal(cursor: sqlite3.Cursor) -> None:
    """The one step for which SQLite does not wait by itself while others open the same new file."""
    until = time.monotonic() + _BUSY_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # One that will write says so at once: SQLite refuses, without waiting, to turn a reader whose view has grown old
    # into a writer.
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
