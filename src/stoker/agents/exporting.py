"""Traces of runs that have ended, handed to whoever sends them. One process at a time looks for them in the database,
so no step knows of it, and it does not matter who ended a run: a worker, a cancellation, the sweep.

What ended while no process looked is not sent. What two processes send, since one took over from the other, has the
same ids.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, text

from stoker.agents import store as rows
from stoker.agents.service import Service
from stoker.agents.spans import trace_id_of, tree_spans
from stoker.base import logs
from stoker.base.errors import StokerError
from stoker.telemetry.spans import Sampler, parent_of

_log = logs.get(__name__)

EXPORT_EVERY_S = 5.0
LEAD_S = 15.0
OVERLAP_S = 30.0
"""A run may be seen so long after the time that it bears: clocks differ, and its transaction takes a moment."""
MOST_AT_ONCE = 200
_ENDED = """SELECT id, ended_at, updated_at FROM agent_runs
    WHERE status IN ('completed', 'failed', 'cancelled') AND updated_at >= :since AND parent IS NULL
    ORDER BY updated_at LIMIT :most"""

Tell = Callable[[str, Sequence[Mapping[str, Any]]], None]


class Exporter:
    """`tell` gets the id of each trace and its spans, and never waits (`telemetry.traces.Traces.add`). `is_sampled`
    judges runs that no request caused; of others the gateway has decided."""

    def __init__(self, service: Service, tell: Tell, is_sampled: Sampler) -> None:
        self._service, self._tell, self._is_sampled = service, tell, is_sampled
        self._since = service.clock.now() - OVERLAP_S
        self._told: dict[tuple[str, float], float] = {}

    async def look_forever(self, holder: str) -> None:
        while True:
            try:
                await self.turn(holder)
            except StokerError as error:
                _log.warning("traces of runs cannot be looked for", error=error.in_log)
            except Exception:  # a mistake of ours: it costs this look, and not all that come after
                _log.exception("traces of runs cannot be told")
            await self._service.clock.sleep(EXPORT_EVERY_S)

    async def turn(self, holder: str) -> None:
        """Looks, if it is this one that does; else another one tells of what ends now."""
        if await self._service.queue.lead("agents-traces", holder, ttl_s=LEAD_S):
            await self.look()
        else:
            self._since = self._service.clock.now() - OVERLAP_S

    async def look(self) -> None:
        """All that have ended since it was last called, each once; one that was resumed and ended again, again."""
        while True:
            since, began = self._since, self._service.clock.now()
            found = await self._service.store.read(partial(_ended, since=since))
            for run_id, ended_at, updated_at in found:
                if (run_id, ended_at) not in self._told:
                    await self._tell_of(run_id)
                    self._told[run_id, ended_at] = updated_at
            is_all = len(found) < MOST_AT_ONCE or found[-1][2] == since
            self._since = max(since, began - OVERLAP_S) if is_all else found[-1][2]
            self._told = {key: at for key, at in self._told.items() if at >= self._since}
            if is_all:
                return

    async def _tell_of(self, run_id: str) -> None:
        run = await self._service.store.read(lambda c: rows.run_of(c, run_id))
        spans = await asyncio.to_thread(tree_spans, await self._service.tree(run))
        tenant = self._service.platform.tenants.get(run.tenant)
        with_content = tenant is not None and tenant.record_content
        told = [sent(span, with_content=with_content) for span in spans]
        parent = parent_of(run.trace)
        if parent is None:
            trace_id = trace_id_of(run_id)
            if self._is_sampled(None, bytes.fromhex(trace_id)):
                self._tell(trace_id, told)
        elif parent.is_sampled:
            told[0] = {**told[0], "parent": parent.span_id.hex(), "state": parent.state}
            self._tell(parent.trace_id.hex(), told)


def sent(span: Mapping[str, Any], *, with_content: bool) -> dict[str, Any]:
    """Without tokens: the gateway's call of the engine, which stands below a call of a model, tells them, and a backend
    that adds up those of a trace must not count them twice."""
    said = {name: value for name, value in span["attributes"].items() if not name.startswith("gen_ai.usage.")}
    return {**span, "attributes": said, "with_content": with_content}


def _ended(connection: Connection, since: float) -> list[tuple[str, float, float]]:
    found = connection.execute(text(_ENDED), {"since": since, "most": MOST_AT_ONCE})
    return [(row.id, row.ended_at, row.updated_at) for row in found]
