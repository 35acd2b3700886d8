"""The door to the database: what it says when it stays shut, and that it never says the password."""

import sqlite3
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from meter_builders import a_record
from sqlalchemy import insert, text

from stoker.base.errors import InvalidInput, StokerError, Unavailable
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.meter.tables import revisions
from stoker.testing.postgres import PostgresServer

SECRET = "hunter2"


def all_that_it_says(error: StokerError) -> str:
    """The message, the hint, and what a log with a traceback would have of it and of its causes."""
    return "\n".join([error.message, str(error.hint), repr(error), *traceback.format_exception(error)])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        SECRET,
        f"nosuch://user:{SECRET}@host/db",
        f"sqlite+nosuch:///{SECRET}",
        f"postgresql+nosuch://user:{SECRET}@host/db",
        f"postgresql://user:{SECRET}@host:port/db",
        f"postgresql://user:{SECRET}@[::1/db",
        f"postgresql:/user:{SECRET}@host/db",
        f"postgresql://user:pass@{SECRET}@host/db",
        f"postgresql://user@host/db?password=pass@{SECRET}",
    ],
)
def test_a_url_that_no_database_has(url: str) -> None:
    with pytest.raises(
        InvalidInput, match=r"^ledger\.url is not a database URL that this installation can open$"
    ) as no:
        Store(url)
    assert no.value.param == "ledger.url"
    assert "write sqlite:///ledger.sqlite or postgresql://USER@HOST/DATABASE" in (no.value.hint or "")
    assert SECRET not in all_that_it_says(no.value)


@pytest.mark.postgres
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@127.0.0.1:1/db",
        f"postgresql://user:{SECRET}@127.0.0.1:1/db?sslmode=nonsense",
        f"postgresql://user@127.0.0.1:1/db?password={SECRET}&nosuch=1",
        f"postgresql://user:{SECRET}@127.0.0.1:1/{SECRET[:3]}%00",
    ],
)
def test_a_database_that_does_not_answer_is_unavailable_and_its_password_unsaid(url: str) -> None:
    with pytest.raises(StokerError, match="the ledger's database") as caught:
        Store(url)
    assert isinstance(caught.value, Unavailable | InvalidInput)
    assert SECRET not in all_that_it_says(caught.value)


@pytest.mark.postgres
def test_a_password_that_is_wrong_is_unsaid_as_is_the_right_one(postgres: PostgresServer) -> None:
    wrong = postgres.url("postgres").replace(postgres.password, SECRET)
    with pytest.raises(Unavailable, match="password authentication failed") as caught:
        Store(wrong)
    assert SECRET not in all_that_it_says(caught.value)
    with pytest.raises(Unavailable, match='database "nosuch" does not exist') as caught:
        Store(postgres.url("nosuch"))
    assert postgres.password not in all_that_it_says(caught.value)


def test_a_store_does_not_show_its_password(store: Store, request: pytest.FixtureRequest, database: str) -> None:
    shown = f"{store.engine!r} {store.engine.url} {vars(store)}"
    assert database in shown
    if database == "postgresql":
        assert request.getfixturevalue("postgres").password not in shown


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("this is no database, but a text that is long enough to look like none")
    with pytest.raises(Unavailable, match="the ledger's database refused: file is not a database"):
        Store(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


def test_a_directory_is_made_where_that_can_be(tmp_path: Path) -> None:
    Store(f"sqlite:///{tmp_path / 'deep' / 'er' / 'ledger.sqlite'}").close()
    assert (tmp_path / "deep" / "er" / "ledger.sqlite").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=r"cannot be made: (File exists|Not a directory)"):
        Store(f"sqlite:///{tmp_path / 'file' / 'ledger.sqlite'}")


def test_one_who_opens_a_new_file_waits_for_another_who_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself does not, for this one step."""
    with sqlite3.connect(tmp_path / "ledger.sqlite") as another:
        another.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr("stoker.meter.store.time.sleep", lambda _: another.commit())
        store = Store(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    another.close()
    assert Ledger(store).records() == []
    store.close()


def test_what_is_refused_says_the_reason_without_the_values(store: Store) -> None:
    secret = "sk-values-are-not-for-logs"

    def store_twice() -> None:
        with store.transaction() as connection:
            for number in (2, 3):
                connection.execute(insert(revisions).values(subject=secret[:16], number=number))

    with pytest.raises(Unavailable, match=r"(?i)unique") as caught:
        store_twice()
    assert secret[:16] not in caught.value.message
    assert "INSERT" not in caught.value.message
    assert "SQL parameters hidden" in str(caught.value.__cause__)


def test_a_transaction_is_all_or_nothing(store: Store) -> None:
    ledger = Ledger(store)

    def give_up() -> None:
        with store.transaction() as connection:
            connection.execute(text("UPDATE revisions SET number = 77"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        give_up()
    with store.reading() as connection:
        assert connection.execute(text("SELECT number FROM revisions")).scalar_one() == 1
    ledger.append([a_record()])
    assert ledger.records() == [a_record()]


def test_who_reads_waits_for_nobody_and_sees_what_was_committed(store: Store) -> None:
    ledger = Ledger(store)
    ledger.append([a_record(1)])
    with store.transaction() as connection:
        connection.execute(text("DELETE FROM usage"))
        assert ledger.records() == [a_record(1)]
    assert ledger.records() == []


@pytest.mark.postgres
@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.crash])
def test_a_database_that_goes_away_and_comes_back(
    postgres: PostgresServer, up_to_date: str, end: Callable[[PostgresServer], None]
) -> None:
    """The same `Store` goes on; what was committed is there, and of what was not, nothing."""
    with postgres.database(template=up_to_date) as url:
        store = Store(url)
        ledger = Ledger(store)
        ledger.append([a_record(1)])

        def lose_it_in_the_middle() -> None:
            with store.transaction() as connection:
                connection.execute(text("UPDATE revisions SET number = 77"))
                end(postgres)
                connection.execute(text("SELECT 1"))

        with pytest.raises(Unavailable):
            lose_it_in_the_middle()
        for call in (partial(ledger.append, [a_record(2)]), ledger.rows, partial(Store, url)):
            with pytest.raises(Unavailable, match="the ledger's database refused: ") as caught:
                call()
            assert postgres.password not in all_that_it_says(caught.value)

        postgres.start()
        ledger.append([a_record(3)])
        assert ledger.records() == [a_record(1), a_record(3)]
        with store.reading() as connection:
            assert connection.execute(text("SELECT number FROM revisions")).scalar_one() == 1
        store.close()
