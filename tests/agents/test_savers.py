"""Checkpoints: what our saver puts is what LangGraph's own puts, and many are put together."""

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, empty_checkpoint
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from stoker.agents import savers
from stoker.agents.grouped import Grouped

Rows = list[tuple[Any, ...]]


def a_checkpoint(number: int) -> Checkpoint:
    made = empty_checkpoint()
    made["id"] = f"1f0{number:05d}-0000-6000-8000-000000000000"
    made["ts"] = "2026-11-26T00:00:00+00:00"
    made["channel_values"] = {"messages": [{"role": "user", "content": f"Grüße {number}"}]}
    return made


async def story(saver: BaseCheckpointSaver[Any]) -> None:
    """Three checkpoints of two threads; writes of nodes, put twice, and of one that failed and then asked something."""
    for thread in ("a", "b"):
        config: Any = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}, "metadata": {"stoker_run": thread}}
        for number in range(3):
            config = await saver.aput(config, a_checkpoint(number), {"source": "loop", "step": number}, {})
            assert config["configurable"]["checkpoint_id"] == a_checkpoint(number)["id"]
        await saver.aput_writes(config, [("messages", ["first"]), ("more", 1)], "task-1", "path")
        await saver.aput_writes(config, [("messages", ["second"])], "task-1", "path")  # the first one stays
        await saver.aput_writes(config, [("__error__", "it fell")], "task-2")
        await saver.aput_writes(config, [("__error__", "it fell again")], "task-2")  # the last one stays


def rows(file: Path) -> tuple[Rows, Rows]:
    with sqlite3.connect(file) as connection:
        checkpoints = connection.execute("SELECT * FROM checkpoints ORDER BY 1, 2, 3").fetchall()
        writes = connection.execute("SELECT * FROM writes ORDER BY 1, 2, 3, 4, 5, 6").fetchall()
    connection.close()
    return [(*row[:6], json.loads(row[6])) for row in checkpoints], writes


async def test_what_it_puts_is_what_langgraph_puts(tmp_path: Path) -> None:
    async with aiosqlite.connect(tmp_path / "theirs.sqlite") as connection:
        theirs = AsyncSqliteSaver(connection)
        await theirs.setup()
        await story(theirs)
    async with savers.opened("sqlite:///", tmp_path) as ours:
        await story(ours)
        newest = await ours.aget_tuple({"configurable": {"thread_id": "b"}})
        assert newest is not None
        assert newest.checkpoint["channel_values"] == {"messages": [{"role": "user", "content": "Grüße 2"}]}
        assert sorted(newest.pending_writes or ()) == [
            ("task-1", "messages", ["first"]),
            ("task-1", "more", 1),
            ("task-2", "__error__", "it fell again"),
        ]
    expected = rows(tmp_path / "theirs.sqlite")
    assert [len(each) for each in expected] == [6, 6]
    assert rows(tmp_path / "checkpoints.sqlite") == expected


async def test_a_put_that_cannot_be_fails_alone(tmp_path: Path) -> None:
    config: Any = {"configurable": {"thread_id": "a", "checkpoint_ns": "", "checkpoint_id": "c"}}
    nobody: Any = object()
    async with savers.opened("sqlite:///", tmp_path) as ours:
        tasks = ["task-1", nobody, "task-2"]
        puts = [ours.aput_writes(config, [("messages", [f"of {number}"])], task) for number, task in enumerate(tasks)]
        first, wrong, last = await asyncio.gather(*puts, return_exceptions=True)
    assert (first, last) == (None, None)
    assert isinstance(wrong, sqlite3.Error)
    assert [row[3] for row in rows(tmp_path / "checkpoints.sqlite")[1]] == ["task-1", "task-2"]


async def test_what_comes_while_a_write_is_on_its_way_is_the_next_group() -> None:
    groups: list[list[str]] = []

    def do(jobs: Any) -> list[Any]:
        groups.append(list(jobs))
        return [ValueError(job) if job == "bad" else job.upper() for job in jobs]

    grouped: Grouped[str] = Grouped(do, "test")
    first = asyncio.create_task(grouped.add("one"))
    others = [asyncio.create_task(grouped.add(job)) for job in ("two", "bad", "three")]
    found = await asyncio.gather(first, *others, return_exceptions=True)
    assert [str(each) for each in found] == ["ONE", "TWO", "bad", "THREE"]
    assert groups == [["one", "two", "bad", "three"]]  # nothing had begun when the last one came
    again = [asyncio.create_task(grouped.add("four"))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # `four` is on its way
    again += [asyncio.create_task(grouped.add(job)) for job in ("five", "six")]
    await asyncio.gather(*again)
    assert groups[1:] == [["four"], ["five", "six"]]
    grouped.close()


async def test_a_group_that_fails_is_told_to_all_and_the_next_one_is_done() -> None:
    fails = [True]

    def do(jobs: Any) -> list[Any]:
        if fails:
            raise sqlite3.OperationalError(f"disk full: {fails.pop()}")
        return list(jobs)

    grouped: Grouped[str] = Grouped(do, "test")
    with pytest.raises(sqlite3.OperationalError, match="disk full"):
        await grouped.add("one")
    assert await grouped.add("two") == "two"
    grouped.close()
