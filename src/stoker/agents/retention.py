"""Runs that ended long ago are forgotten: their rows, their checkpoints and their files. One worker at a time does
it."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from stoker.agents import store as rows
from stoker.agents.savers import Heads
from stoker.agents.store import Store
from stoker.base import logs
from stoker.base.clock import Clock
from stoker.queue import Queue

_log = logs.get(__name__)

EVERY_S = 600.0
_AT_ONCE = 100
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """`folder` is where each run has its own. While no worker is up, nothing is forgotten."""

    store: Store
    heads: Heads
    queue: Queue
    clock: Clock
    folder: Path
    days: int
    holder: str

    async def forget(self) -> int:
        """How many runs are gone."""
        if not await self.queue.lead("agents-retention", self.holder, ttl_s=2 * EVERY_S):
            return 0
        before, many = self.clock.now() - self.days * _DAY_S, 0
        while gone := await self.store.write(lambda c: rows.forget(c, before, limit=_AT_ONCE)):
            for run_id, thread in gone:
                if thread is not None:
                    await self.heads.adelete_thread(thread)
                await asyncio.to_thread(shutil.rmtree, self.folder / run_id, ignore_errors=True)
            many += len(gone)
        if many:
            _log.info("runs forgotten", count=many, ended_before=before)
        return many
