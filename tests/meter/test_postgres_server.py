"""The PostgreSQL that tests start: what survives what, and that nothing of it is left."""

from pathlib import Path

import psutil
import psycopg
import pytest

from stoker.base.errors import Unavailable
from stoker.testing import postgres as testing
from stoker.testing.postgres import PostgresServer

pytestmark = pytest.mark.postgres


def test_what_was_committed_survives_a_stop_and_a_crash(postgres: PostgresServer) -> None:
    with postgres.database() as url:
        name = url.rpartition("/")[2]
        with postgres.connect(name) as connection:
            connection.execute("CREATE TABLE t (n INTEGER)")
            connection.execute("INSERT INTO t VALUES (1)")
        for end in (postgres.stop, postgres.crash):
            end()
            with pytest.raises(psycopg.OperationalError), postgres.connect(name):
                pass
            postgres.start()
            with postgres.connect(name) as connection:
                assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]


def test_a_database_starts_as_a_copy_and_goes_whoever_is_in_it(postgres: PostgresServer) -> None:
    with postgres.database() as first:
        name = first.rpartition("/")[2]
        with postgres.connect(name) as connection:
            connection.execute("CREATE TABLE t (n INTEGER)")
        with postgres.database(template=name) as second:
            assert second != first
            still_there = psycopg.connect(second)
            assert still_there.execute("SELECT count(*) FROM t").fetchone() == (0,)
        with pytest.raises(psycopg.OperationalError):
            still_there.execute("SELECT 1")
        still_there.close()


def test_it_asks_for_its_password_and_does_not_run_as_root(postgres: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url("postgres").replace(postgres.password, "guess"))
    with postgres.connect("postgres") as connection:
        [own] = connection.execute("SELECT pg_backend_pid()").fetchone() or [0]
        assert 0 not in psutil.Process(own).uids()


@pytest.mark.usefixtures("postgres")  # skipped where there is none to run
def test_nothing_of_it_is_left() -> None:
    with PostgresServer() as server:
        with server.connect("postgres") as connection:
            [[data]] = connection.execute("SHOW data_directory").fetchall()
        pid = int((Path(data) / "postmaster.pid").read_text().split()[0])
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)
    assert not Path(data).parent.exists()


def test_without_a_server_to_run_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing.shutil, "which", lambda _: None)
    monkeypatch.setattr(testing.Path, "glob", lambda *_: iter(()))
    with pytest.raises(Unavailable, match="there is no PostgreSQL server on this machine") as caught:
        testing.find_programs()
    assert caught.value.hint == "install it, as with `apt-get install postgresql` (no server has to run)"
