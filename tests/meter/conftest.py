"""Both databases for the contract suites: SQLite, and a real PostgreSQL, started once and emptied for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.meter.store import Store
from stoker.meter.tables import metadata
from stoker.testing.postgres import PostgresServer

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def up_to_date(postgres: PostgresServer) -> Iterator[str]:
    """The name of a database with all tables, to use or to copy: that is quicker than making them each time."""
    with postgres.database() as url:
        Store(url).close()
        yield url.rpartition("/")[2]


@pytest.fixture(params=BOTH)
def database(request: pytest.FixtureRequest) -> str:
    """Which of the two; every test that uses one of the fixtures below runs on both."""
    return str(request.param)


@pytest.fixture
def empty_url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    if database == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.sqlite'}"
        return
    with request.getfixturevalue("postgres").database() as url:
        yield url


@pytest.fixture
def url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with empty tables, or without tables; who changes the tables themselves takes `empty_url`."""
    if database == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    postgres: PostgresServer = request.getfixturevalue("postgres")
    name = request.getfixturevalue("up_to_date")
    # A third of what a copy of the database costs, and most tests need one.
    with postgres.connect(name) as connection:
        for table in metadata.tables:
            if table != "schema_version":
                connection.execute(f"DELETE FROM {table}")
        connection.execute("INSERT INTO revisions VALUES ('accounts', 1)")
    return postgres.url(name)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    made = Store(url)
    yield made
    made.close()
