"""Where checkpoints are kept: LangGraph's own savers, behind one that knows which checkpoint a run goes on from."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from stoker.agents.grouped import Grouped
from stoker.base import json_text
from stoker.base.errors import InvalidInput

_BUSY_MS = 5000
_CONNECTIONS = 8


class Heads(BaseCheckpointSaver[Any]):
    """Another saver, with "the newest checkpoint of a thread" being the one that `at` says.

    LangGraph asks for the newest, and for what is written beside it (what nodes had finished before their worker died).
    The newest that is stored may be of a worker that had lost its lease; to name a checkpoint in LangGraph's own way is
    time travel, which runs finished nodes again.
    """

    def __init__(self, inner: BaseCheckpointSaver[Any]) -> None:
        super().__init__(serde=inner.serde)
        self.inner = inner
        self._heads: dict[str, str | None] = {}

    def at(self, thread: str, head: str | None) -> None:
        """From here on a run of this thread starts from `head`; None: from nothing."""
        self._heads[thread] = head

    def leave(self, thread: str) -> None:
        self._heads.pop(thread, None)

    @property
    def config_specs(self) -> Any:
        return self.inner.config_specs

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self.inner.get_next_version(current, channel)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        said = config["configurable"]
        thread = said["thread_id"]
        if said.get("checkpoint_id") or said.get("checkpoint_ns") or thread not in self._heads:
            return await self.inner.aget_tuple(config)
        head = self._heads[thread]
        if head is None:
            return None
        return await self.inner.aget_tuple({**config, "configurable": {**said, "checkpoint_id": head}})

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await self.inner.aput(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await self.inner.aput_writes(config, writes, task_id, task_path)

    def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        return self.inner.alist(config, filter=filter, before=before, limit=limit)

    async def adelete_thread(self, thread_id: str) -> None:
        await self.inner.adelete_thread(thread_id)

    async def aget_delta_channel_history(self, **asked: Any) -> Mapping[str, Any]:
        return await self.inner.aget_delta_channel_history(**asked)


class GroupedSqliteSaver(AsyncSqliteSaver):
    """LangGraph's saver, whose tables and reading it keeps; what is put at about the same time is one transaction.

    LangGraph's own asks the disk, and changes between threads some five times, for each checkpoint and for what each
    node wrote. With many runs at once that is most of what a step takes.
    """

    def __init__(self, connection: aiosqlite.Connection, file: Path, *, serde: SerializerProtocol) -> None:
        super().__init__(connection, serde=serde)
        self._file = file
        self._writer: sqlite3.Connection | None = None
        self._puts: Grouped[_Put] = Grouped(self._do, "checkpoints-writer")

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        said = config["configurable"]
        kind, content = self.serde.dumps_typed(checkpoint)
        about = json_text.dumps(get_checkpoint_metadata(config, metadata))
        names = (str(said["thread_id"]), said["checkpoint_ns"], checkpoint["id"])
        await self._puts.add((_PUT, [(*names, said.get("checkpoint_id"), kind, content, about)]))
        return {"configurable": dict(zip(("thread_id", "checkpoint_ns", "checkpoint_id"), names, strict=True))}

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        said = config["configurable"]
        names = (str(said["thread_id"]), str(said["checkpoint_ns"]), str(said["checkpoint_id"]), task_id, task_path)
        values = [
            (*names, WRITES_IDX_MAP.get(channel, index), channel, *self.serde.dumps_typed(value))
            for index, (channel, value) in enumerate(writes)
        ]
        # What is written once stays; what says how a node stands (an error, an interrupt) is replaced.
        replaces = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        await self._puts.add((_PUT_WRITES.format("REPLACE" if replaces else "IGNORE"), values))

    def _do(self, puts: "Sequence[_Put]") -> list[Exception | None]:
        try:
            self._put(puts)
        except Exception as error:
            if len(puts) == 1:
                return [error]
            # One of them is at fault: each is put alone.
            return [outcome for put in puts for outcome in self._do([put])]
        return [None] * len(puts)

    def _put(self, puts: "Sequence[_Put]") -> None:
        if self._writer is None:
            # Used by this thread alone, but for its end.
            self._writer = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
            self._writer.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
            self._writer.execute("PRAGMA synchronous=FULL")
        writer = self._writer
        writer.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in puts:
                writer.executemany(statement, values)
            writer.execute("COMMIT")
        except BaseException:
            writer.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._puts.close()
        if self._writer is not None:
            self._writer.close()


_Put = tuple[str, Sequence[tuple[Any, ...]]]
_PUT = (
    "INSERT OR REPLACE INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, "
    "checkpoint, metadata) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_PUT_WRITES = (
    "INSERT OR {} INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, value) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


@asynccontextmanager
async def opened(url: str, folder: Path) -> AsyncIterator[Heads]:
    """The checkpoints that belong to the store at `url`: beside a file of SQLite (in `folder`), or in the same
    PostgreSQL. Raises InvalidInput for another kind of database."""
    # What was stored is data: no class is loaded that a graph's state does not need.
    serde = JsonPlusSerializer(pickle_fallback=False)
    if url.startswith("sqlite"):
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        file = folder / "checkpoints.sqlite"
        async with aiosqlite.connect(file) as connection:
            await connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
            saver = GroupedSqliteSaver(connection, file, serde=serde)
            await saver.setup()
            try:
                yield Heads(saver)
            finally:
                await asyncio.to_thread(saver.close)
        return
    if not url.startswith("postgresql"):
        raise InvalidInput("agents.store.url is neither sqlite nor postgresql", param="agents.store.url")
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool

    plain = "postgresql://" + url.partition("://")[2]
    options: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(plain, max_size=_CONNECTIONS, kwargs=options, open=False) as pool:
        kept = AsyncPostgresSaver(pool, serde=serde)  # type: ignore[arg-type]  # of rows that are dicts, as `options` says
        await kept.setup()
        yield Heads(kept)
