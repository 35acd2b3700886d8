"""From every version there ever was to the latest one, on SQLite and on PostgreSQL, with what was in it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from meter_builders import a_record
from sqlalchemy import Connection, Engine, MetaData, create_engine, inspect, text

from stoker.base.errors import Unavailable
from stoker.meter import migrations
from stoker.meter.accounts import Account, TenantTerms
from stoker.meter.keys import Key, KeyStore, hash_of
from stoker.meter.ledger import Ledger, Spent, UsageRow
from stoker.meter.store import Store
from stoker.meter.tables import metadata
from stoker.meter.tenants import TenantStore
from stoker.spec import Tenant
from stoker.testing import ManualClock


@contextmanager
def engine_of(url: str) -> Iterator[Engine]:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    yield engine
    engine.dispose()


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """To do what an earlier version did."""
    with engine_of(url) as engine, engine.begin() as connection:
        yield connection


def version_of(url: str) -> int:
    with connected(url) as connection:
        return migrations.version_of(connection)


def shape_of(engine: Engine) -> dict[str, Any]:
    """Tables with their columns, keys and indexes, as the database says them."""
    seen = inspect(engine)
    return {
        name: {
            "columns": [(each["name"], str(each["type"]), each["nullable"]) for each in seen.get_columns(name)],
            "key": seen.get_pk_constraint(name)["constrained_columns"],
            "indexes": sorted((str(each["name"]), each["column_names"]) for each in seen.get_indexes(name)),
            "unique": seen.get_unique_constraints(name),
        }
        for name in seen.get_table_names()
    }


# --- from nothing -----------------------------------------------------------------------------------------------------


def test_an_empty_database_gets_the_tables_that_queries_expect(empty_url: str) -> None:
    Store(empty_url).close()
    assert version_of(empty_url) == migrations.LATEST == 9
    with engine_of(empty_url) as engine:
        migrated = shape_of(engine)
        everything = MetaData()
        everything.reflect(engine)
        everything.drop_all(engine)
        metadata.create_all(engine)
        assert migrated == shape_of(engine)


def test_a_second_start_changes_nothing(empty_url: str) -> None:
    for _ in range(2):
        store = Store(empty_url)
        Ledger(store).append([a_record()])
        store.close()
    store = Store(empty_url)
    assert Ledger(store).records() == [a_record()]
    store.close()


# --- from what is out there -------------------------------------------------------------------------------------------

OLD_USAGE = (
    "INSERT INTO usage (id, kind, status, tenant, key_id, team, session, run, model, replica, route, prompt_tokens, "
    "cached_tokens, completion_tokens, nano_usd, started_at, first_token_at, ended_at, attempts) VALUES ('req_1', "
    "'request', 'done', 'acme', 'key_1', 'search', 's', 'r', 'general', 'general-0', 'model', 10, 4, 5, 2100, 100.0, "
    "100.5, 101.0, 2)"
)


def first_version(connection: Connection) -> None:
    """As the first Stoker left it: keys with their hash, no tenants, and no word of its version."""
    for statement in migrations.STEPS[0]:
        connection.execute(text(statement))
    connection.execute(text(OLD_USAGE))
    insert = text("INSERT INTO keys VALUES (:id, :hash, :tenant, :name, :role, :created, :revoked)")
    for name, tenant, role, created, revoked in (
        ("ann", "acme", "user", 10.25, None),
        ("bob", "acme", "admin", 20.0, None),
        ("cy", "zeta", "user", 30.0, 40.0),
    ):
        connection.execute(
            insert,
            {
                "id": f"key_{name}",
                "hash": hash_of(f"sk-{name}"),
                "tenant": tenant,
                "name": name,
                "role": role,
                "created": created,
                "revoked": revoked,
            },
        )


def second_version(connection: Connection) -> None:
    """With accounts, and before records said why they are not done."""
    first_version(connection)
    for statement in migrations.STEPS[1]:
        connection.execute(text(statement))
    connection.execute(text("CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO schema_version VALUES (2)"))


def third_version(connection: Connection) -> None:
    """Before there were files and batches."""
    second_version(connection)
    for statement in migrations.STEPS[2]:
        connection.execute(text(statement))
    connection.execute(text("UPDATE schema_version SET version = 3"))


@pytest.mark.parametrize("before", [first_version, second_version, third_version])
def test_what_was_there_is_there_afterwards(empty_url: str, before: Any) -> None:
    with connected(empty_url) as connection:
        before(connection)
    store = Store(empty_url)
    assert Ledger(store).records() == [a_record()]
    known = KeyStore(store, ManualClock(50.0))
    ann = Key("key_ann", "acme", "ann", "user", 10.25)
    bob = Key("key_bob", "acme", "bob", "admin", 20.0)
    cy = Key("key_cy", "zeta", "cy", "user", 30.0, revoked_at=40.0)
    assert known.list() == [ann, bob, cy]
    assert known.find("sk-ann") == Account("key_ann", "ann", "user", TenantTerms("acme"))
    assert known.find("sk-cy") is None
    assert [(one.name, one.source, one.created_at, one.terms) for one in TenantStore(store).list()] == [
        ("acme", "api", 10.25, Tenant()),
        ("zeta", "api", 30.0, Tenant()),
    ]
    known.rotate("key_ann")
    assert known.find("sk-ann") is None
    assert known.revision() == 2
    store.close()

    assert version_of(empty_url) == migrations.LATEST
    with engine_of(empty_url) as engine:
        migrated = shape_of(engine)
        metadata.drop_all(engine)
        metadata.create_all(engine)
        assert migrated == shape_of(engine)


def test_sums_of_days_from_before_there_were_agents_are_kept(empty_url: str) -> None:
    with connected(empty_url) as connection:
        third_version(connection)
        connection.execute(
            text("INSERT INTO usage_days VALUES (10, 'acme', '', 'key_1', 'general', 3, 30, 12, 15, 6300)")
        )
    store = Store(empty_url)
    ledger = Ledger(store)
    assert ledger.rows()[0] == UsageRow("acme", "general", None, 3, 30, 12, 15, 6300)
    assert ledger.spent("tenant", "acme", "acme") == Spent(4, 60, 8400)
    store.close()


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_step_that_fails_leaves_the_database_as_it_was(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(empty_url) as connection:
        first_version(connection)
    with engine_of(empty_url) as engine:
        before = shape_of(engine)
    steps = [*migrations.STEPS, ("CREATE TABLE half (n INTEGER)", "ALTER TABLE nonsense ADD COLUMN x INTEGER")]
    monkeypatch.setattr(migrations, "STEPS", steps)
    monkeypatch.setattr(migrations, "LATEST", len(steps))
    with pytest.raises(Unavailable, match=r"the ledger's database refused: .*nonsense"):
        Store(empty_url)
    with engine_of(empty_url) as engine:
        assert shape_of(engine) == before
    assert version_of(empty_url) == 0

    monkeypatch.undo()
    store = Store(empty_url)
    assert len(KeyStore(store).list()) == 3
    store.close()


def test_a_database_of_a_later_version_is_left_alone(empty_url: str) -> None:
    Store(empty_url).close()
    with connected(empty_url) as connection:
        connection.execute(text("UPDATE schema_version SET version = 10"))
    with pytest.raises(Unavailable, match="is of version 10; this Stoker knows versions up to 9") as caught:
        Store(empty_url)
    assert caught.value.hint == "a newer Stoker has used it: upgrade this one"
    assert version_of(empty_url) == 10


# --- several at once --------------------------------------------------------------------------------------------------

OPENING = """
import sys
from stoker.meter.ledger import Ledger, Spent, UsageRow
from stoker.meter.store import Store
print("here", flush=True)
sys.stdin.readline()
store = Store(sys.argv[1])
print(len(Ledger(store).records()), store.is_postgresql)
"""


def test_processes_that_start_at_once_migrate_it_once(empty_url: str) -> None:
    with connected(empty_url) as connection:
        first_version(connection)
    command = [sys.executable, "-c", OPENING, empty_url]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        ends = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
    expected = f"1 {empty_url.startswith('postgresql')}\n"
    assert ends == [(expected, "")] * 4
    assert version_of(empty_url) == migrations.LATEST
