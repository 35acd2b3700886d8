"""The store of agents: what it says when it cannot be opened, by the key that names it."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from stoker.agents import store as rows
from stoker.agents.store import Store
from stoker.base.errors import InvalidInput, Unavailable


def test_what_is_no_database_is_named_by_its_own_key(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        Store("oracle://me@here/x")
    assert (caught.value.param, caught.value.message) == (
        "agents.store.url",
        "agents.store.url is not a database URL that this installation can open",
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput) as caught:
        Store(f"sqlite:///{tmp_path}/file/agents.sqlite")
    assert caught.value.message.startswith(f"the agents' store sqlite:///{tmp_path}/file/agents.sqlite cannot be made")


async def test_what_the_database_refuses_is_not_the_ledgers(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/agents.sqlite")
    try:
        with pytest.raises(Unavailable, match="the agents' database refused: no such table: no_table") as caught:
            await store.read(lambda c: c.execute(text("SELECT 1 FROM no_table")))
        assert caught.value.code == "agents_unavailable"
    finally:
        store.close()


async def test_a_database_of_before_runs_had_traces_is_brought_up_to_date(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/agents.sqlite"
    Store(url).close()
    with sqlite3.connect(tmp_path / "agents.sqlite") as old:
        old.execute("ALTER TABLE agent_runs DROP COLUMN trace")
    old.close()
    for _ in range(2):
        store = Store(url)
        try:
            assert await store.read(lambda c: rows.runs_that(c)) == []
        finally:
            store.close()
