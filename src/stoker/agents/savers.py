"""Where checkpoints are kept: LangGraph's own savers, behind one that knows which checkpoint a run goes on from."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

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


@asynccontextmanager
async def opened(url: str, folder: Path) -> AsyncIterator[Heads]:
    """The checkpoints that belong to the store at `url`: beside a file of SQLite (in `folder`), or in the same
    PostgreSQL. Raises InvalidInput for another kind of database."""
    # What was stored is data: no class is loaded that a graph's state does not need.
    serde = JsonPlusSerializer(pickle_fallback=False)
    if url.startswith("sqlite"):
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        async with aiosqlite.connect(folder / "checkpoints.sqlite") as connection:
            await connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
            saver = AsyncSqliteSaver(connection, serde=serde)
            await saver.setup()
            yield Heads(saver)
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
