"""The SQL store: its tables, its connection, and the one door through which SQLAlchemy's errors become ours.

SQLite on one machine (`sqlite:///PATH`), any database that SQLAlchemy speaks by URL in a cluster. Calls block: async
callers run them in a thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from stoker.base.errors import InvalidInput, Unavailable

metadata = MetaData()

usage = Table(
    "usage",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("team", String(128)),
    Column("session", String(256)),
    Column("run", String(256)),
    Column("model", String(128), nullable=False),
    Column("replica", String(128)),
    Column("route", String(64)),
    Column("prompt_tokens", Integer, nullable=False),
    Column("cached_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("nano_usd", BigInteger, nullable=False),
    Column("started_at", Float(53), nullable=False),
    Column("first_token_at", Float(53)),
    Column("ended_at", Float(53), nullable=False),
    Column("attempts", Integer, nullable=False),
    Index("usage_by_tenant", "tenant", "ended_at"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("tenant", String(128), nullable=False),
    Column("name", String(128), nullable=False),
    Column("role", String(16), nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("revoked_at", Float(53)),
)


class Store:
    """One database. Raises InvalidInput for a URL that cannot be one and Unavailable when the database says no."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        with self.transaction() as connection:
            metadata.create_all(connection)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """All or nothing, on disk when the block ends."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as exc:
            # The text of the driver's own error, without the statement and its values.
            cause = getattr(exc, "orig", None) or type(exc).__name__
            raise Unavailable(f"the ledger's database refused: {cause}", code="ledger_unavailable") from exc

    def close(self) -> None:
        self.engine.dispose()


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        engine = create_engine(parsed)
    except (ArgumentError, NoSuchModuleError, ImportError) as exc:
        raise InvalidInput(
            "ledger.url is not a database URL that this installation can open",
            param="ledger.url",
            hint="write sqlite:///ledger.sqlite or postgresql+psycopg://USER@HOST/DATABASE",
        ) from exc
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        event.listen(engine, "connect", _tune_sqlite)
    return engine


def _tune_sqlite(connection: Any, _record: Any) -> None:
    # WAL lets `stoker usage` read while the gateway writes. FULL makes each commit reach the disk: the usage stream
    # forgets a record as soon as it is committed here.
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
