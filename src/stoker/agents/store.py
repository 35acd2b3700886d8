"""Runs and all that is theirs, in SQL: a file of SQLite on one machine, PostgreSQL in a cluster.

Writes of many steps go into one transaction (`Store.write`): with many runs at once the disk is asked once for dozens
of steps. If one of them is refused, none is written, and each is written alone. A step changes its run's row only
while the row still says that it is this step's turn: that, and the id of the next step's task, keep a worker out that
was only slow.
"""

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, inspect
from sqlalchemy import text as parsed

from stoker.agents.grouped import Grouped
from stoker.agents.runs import ENDED, Event, Limits, Run, Status, Wait
from stoker.base import json_text
from stoker.base.errors import Conflict, NotFound, Refused
from stoker.meter.grants import RunLimit
from stoker.meter.store import Database, Named
from stoker.policy.budgets import names_below, run_path

Json = dict[str, Any]
T = TypeVar("T")

# To parse a statement takes longer than to run it.
text = functools.lru_cache(maxsize=200)(parsed)

_LOCK = 0x570CE3

_TABLES = (
    """CREATE TABLE IF NOT EXISTS agent_runs (
        id VARCHAR(160){binary} NOT NULL PRIMARY KEY, agent VARCHAR(64) NOT NULL, tenant VARCHAR(128) NOT NULL,
        key_id VARCHAR(64) NOT NULL, team VARCHAR(128), session VARCHAR(256), thread VARCHAR(128),
        graph_thread VARCHAR(400) NOT NULL, parent VARCHAR(160){binary},
        parent_call VARCHAR(200), status VARCHAR(16) NOT NULL,
        reason VARCHAR(64), input TEXT NOT NULL, output TEXT NOT NULL, error TEXT NOT NULL, limits TEXT NOT NULL,
        above TEXT NOT NULL, grants TEXT NOT NULL, metadata TEXT NOT NULL, step INTEGER NOT NULL, head VARCHAR(64),
        base VARCHAR(64),
        tool_calls INTEGER NOT NULL, children INTEGER NOT NULL, failures INTEGER NOT NULL, is_tainted INTEGER NOT NULL,
        model_calls INTEGER NOT NULL, prompt_tokens BIGINT NOT NULL, completion_tokens BIGINT NOT NULL,
        nano_usd BIGINT NOT NULL, created_at FLOAT(53) NOT NULL, started_at FLOAT(53), ended_at FLOAT(53),
        updated_at FLOAT(53) NOT NULL, waiting_since FLOAT(53), waited_s FLOAT(53) NOT NULL, trace TEXT)""",
    "CREATE INDEX IF NOT EXISTS agent_runs_by_tenant ON agent_runs (tenant, created_at)",
    "CREATE INDEX IF NOT EXISTS agent_runs_by_thread ON agent_runs (graph_thread, created_at)",
    """CREATE UNIQUE INDEX IF NOT EXISTS agent_runs_one_of_a_thread ON agent_runs (graph_thread)
        WHERE status IN ('queued', 'running', 'waiting')""",
    "CREATE INDEX IF NOT EXISTS agent_runs_by_status ON agent_runs (status, updated_at)",
    """CREATE TABLE IF NOT EXISTS agent_events (
        run VARCHAR(160){binary} NOT NULL, id INTEGER NOT NULL, key VARCHAR(200) NOT NULL, type VARCHAR(32) NOT NULL,
        at FLOAT(53) NOT NULL, step INTEGER, data TEXT NOT NULL, PRIMARY KEY (run, id), UNIQUE (run, key))""",
    """CREATE TABLE IF NOT EXISTS agent_calls (
        run VARCHAR(160){binary} NOT NULL, id VARCHAR(200) NOT NULL, tool VARCHAR(64) NOT NULL, arguments TEXT NOT NULL,
        result TEXT, digest VARCHAR(64), child VARCHAR(160){binary}, begun_at FLOAT(53) NOT NULL, ended_at FLOAT(53),
        PRIMARY KEY (run, id))""",
    """CREATE TABLE IF NOT EXISTS agent_waits (
        run VARCHAR(160){binary} NOT NULL, id VARCHAR(220) NOT NULL, kind VARCHAR(16) NOT NULL, said TEXT NOT NULL,
        child VARCHAR(160){binary}, answer TEXT, is_open INTEGER NOT NULL, PRIMARY KEY (run, id))""",
    "CREATE INDEX IF NOT EXISTS agent_waits_by_child ON agent_waits (child)",
    """CREATE TABLE IF NOT EXISTS agent_schedules (
        id VARCHAR(64) NOT NULL PRIMARY KEY, agent VARCHAR(64) NOT NULL, tenant VARCHAR(128) NOT NULL,
        key_id VARCHAR(64) NOT NULL, team VARCHAR(128), said TEXT NOT NULL, next_at FLOAT(53),
        last_run VARCHAR(160){binary}, created_at FLOAT(53) NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS agent_schedules_by_time ON agent_schedules (next_at)",
)
_RUN_COLUMNS = (
    *("id", "agent", "tenant", "key_id", "team", "session", "thread", "graph_thread", "parent", "parent_call"),
    *("status", "reason", "input", "output", "error", "limits", "above", "grants", "metadata", "step", "head", "base"),
    *("tool_calls", "children", "failures", "is_tainted", "created_at", "started_at", "ended_at", "updated_at"),
    *("waiting_since", "waited_s", "trace"),
)
_JSON = frozenset(("input", "output", "error", "limits", "above", "grants", "metadata"))
_ACTIVE = "status IN ('queued', 'running')"


AGENTS_STORE = Named("agents.store.url", "the agents' store", "the agents' database", "agents_unavailable")


class Store(Database):
    """Its calls do not block: what is written at the same time goes together."""

    def __init__(self, url: str) -> None:
        super().__init__(url, AGENTS_STORE, _make_tables)
        self._writes: Grouped[Callable[[Connection], Any]] = Grouped(self._do, "agents-writer")
        self._readers = ThreadPoolExecutor(2, "agents-reader")

    async def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` comes to, when it is on disk. `work` runs in a thread, in a transaction that it may share with
        others, and may be run again: it must do nothing but read and write the database."""
        done: T = await self._writes.add(work)
        return done

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def close(self) -> None:
        self._writes.close()
        self._readers.shutdown()
        super().close()

    def _do(self, jobs: Sequence[Callable[[Connection], Any]]) -> list[Any]:
        try:
            with self.transaction() as connection:
                return [job(connection) for job in jobs]
        except Exception as error:
            if len(jobs) == 1:
                return [error]
        return [outcome for job in jobs for outcome in self._do([job])]

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self.reading() as connection:
            return work(connection)


def _make_tables(connection: Connection) -> None:
    is_postgresql = connection.dialect.name == "postgresql"
    if is_postgresql:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    # Ids of runs are compared as bytes, so that those below one are a range of the index.
    binary = ' COLLATE "C"' if is_postgresql else ""
    for statement in _TABLES:
        connection.execute(text(statement.replace("{binary}", binary)))
    if "trace" not in {column["name"] for column in inspect(connection).get_columns("agent_runs")}:
        connection.execute(text("ALTER TABLE agent_runs ADD COLUMN trace TEXT"))  # one of before runs had it


# --- runs -------------------------------------------------------------------------------------------------------------


def insert_run(connection: Connection, run: Run) -> bool:
    """False: there is one of this id already, or one of its thread that has not ended; nothing changed."""
    row = {name: getattr(run, name) for name in _RUN_COLUMNS}
    row["limits"], row["is_tainted"] = run.limits.as_row(), int(run.is_tainted)
    row["above"] = [[limit.run, limit.nano_usd, limit.tokens] for limit in run.above]
    row |= {name: _text(row[name]) for name in _JSON}
    names = ", ".join(_RUN_COLUMNS)
    values = ", ".join(f":{name}" for name in _RUN_COLUMNS)
    done = connection.execute(
        text(
            f"INSERT INTO agent_runs ({names}, model_calls, prompt_tokens, completion_tokens, nano_usd) "
            f"VALUES ({values}, 0, 0, 0, 0) ON CONFLICT DO NOTHING"
        ),
        row,
    )
    return done.rowcount == 1


def run_of(connection: Connection, run_id: str, *, tenant: str | None = None) -> Run:
    """Raises NotFound, also for another tenant's (None: whoever's)."""
    row = connection.execute(text(f"{_SELECT} WHERE id = :id"), {"id": run_id}).mappings().first()
    if row is None or (tenant is not None and row["tenant"] != tenant):
        raise NotFound(f"there is no run {run_id[:80]!r}", code="run_not_found")
    return _run(row)


_SELECT = f"SELECT {', '.join(_RUN_COLUMNS)} FROM agent_runs"


def runs_that(
    connection: Connection,
    *,
    tenant: str | None = None,
    agent: str | None = None,
    status: str | None = None,
    thread: str | None = None,
    after: str | None = None,
    limit: int = 20,
) -> list[Run]:
    """The newest first, children left out."""
    wanted = {"tenant": tenant, "agent": agent, "status": status, "thread": thread}
    where = [f"{name} = :{name}" for name, value in wanted.items() if value is not None] + ["parent IS NULL"]
    values: Json = {name: value for name, value in wanted.items() if value is not None}
    if after is not None:
        at = "(SELECT created_at FROM agent_runs WHERE id = :after)"
        where.append(f"(created_at < {at} OR (created_at = {at} AND id < :after))")
        values["after"] = after
    query = f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY created_at DESC, id DESC LIMIT :most"
    return [_run(row) for row in connection.execute(text(query), {**values, "most": limit}).mappings()]


def children_of(connection: Connection, run_id: str) -> list[Run]:
    """All below it, at any depth."""
    query = f"{_SELECT} WHERE id > :low AND id < :high ORDER BY id"
    return [_run(row) for row in connection.execute(text(query), _below(run_id)).mappings()]


def usage_of(connection: Connection, run_id: str) -> Json:
    """What it and all below it have used."""
    query = """SELECT coalesce(sum(model_calls), 0), coalesce(sum(prompt_tokens), 0),
        coalesce(sum(completion_tokens), 0), coalesce(sum(nano_usd), 0) FROM agent_runs
        WHERE id = :id OR (id > :low AND id < :high)"""
    calls, prompt, completion, nano = connection.execute(text(query), {"id": run_id, **_below(run_id)}).one()
    steps = connection.execute(
        text("SELECT count(*) FROM agent_events WHERE run = :id AND type = 'step.completed'"), {"id": run_id}
    ).scalar_one()
    return {
        "steps": int(steps),
        "model_calls": int(calls),
        "prompt_tokens": int(prompt),
        "completion_tokens": int(completion),
        "usd": int(nano) / 1e9,
    }


def begin_step(connection: Connection, run_id: str, now: float) -> Run:
    """The run as it is when one of its steps begins: `running`, if it was `queued`. Raises NotFound."""
    done = connection.execute(
        text(
            "UPDATE agent_runs SET status = 'running', started_at = coalesce(started_at, :now), updated_at = :now "
            "WHERE id = :id AND status = 'queued'"
        ),
        {"id": run_id, "now": now},
    )
    run = run_of(connection, run_id)
    if done.rowcount and run.started_at == now:
        add_events(connection, [Event(run=run_id, type="run.started", key="started", at=now)])
    return run


def end_step(connection: Connection, run_id: str, step: int, head: str, events: Sequence[Event], now: float) -> bool:
    """It came to the checkpoint `head`, from which the next one starts. False: it was not this step's turn any more."""
    done = connection.execute(
        text(
            "UPDATE agent_runs SET step = :next, head = :head, updated_at = :now "
            f"WHERE id = :id AND step = :step AND {_ACTIVE}"
        ),
        {"id": run_id, "step": step, "next": step + 1, "head": head, "now": now},
    )
    if done.rowcount:
        add_events(connection, events)
    return bool(done.rowcount)


def wait(
    connection: Connection, run: Run, head: str | None, waits: Sequence[Wait], events: Sequence[Event], now: float
) -> bool:
    """The step came to something that has to be waited for. False: it was not this step's turn any more."""
    # Sub-agents work in its time; a person does not.
    since = now if any(each.kind != "child" for each in waits) else None
    done = connection.execute(
        text(
            "UPDATE agent_runs SET status = 'waiting', step = :next, head = :head, waiting_since = :since, "
            "updated_at = :now "
            f"WHERE id = :id AND step = :step AND {_ACTIVE}"
        ),
        {"id": run.id, "step": run.step, "next": run.step + 1, "head": head, "since": since, "now": now},
    )
    if not done.rowcount:
        return False
    connection.execute(text("DELETE FROM agent_waits WHERE run = :run AND kind = 'question'"), {"run": run.id})
    for each in waits:
        said = {name: getattr(each, name) for name in ("tool", "call", "arguments", "message", "interrupt")}
        connection.execute(
            text(
                "INSERT INTO agent_waits (run, id, kind, said, child, answer, is_open) "
                "VALUES (:run, :id, :kind, :said, :child, NULL, 1) ON CONFLICT (run, id) DO NOTHING"
            ),
            {"run": run.id, "id": each.id, "kind": each.kind, "said": _text(said), "child": each.child},
        )
        if each.child is not None:
            _tell_parent(connection, run_of(connection, each.child))
    add_events(connection, events)
    return True


def waits_of(connection: Connection, run_id: str) -> list[Wait]:
    query = text("SELECT id, kind, said, child, answer, is_open FROM agent_waits WHERE run = :run ORDER BY id")
    return [
        Wait(
            id=row["id"],
            kind=row["kind"],
            child=row["child"],
            answer=None if row["answer"] is None else json_text.loads(row["answer"]),
            is_answered=not row["is_open"],
            **json_text.loads(row["said"]),
        )
        for row in connection.execute(query, {"run": run_id}).mappings()
    ]


def answer(connection: Connection, run_id: str, answers: Mapping[str, Any]) -> None:
    """Raises Conflict when one was answered before."""
    for wait_id, said in answers.items():
        done = connection.execute(
            text("UPDATE agent_waits SET answer = :said, is_open = 0 WHERE run = :run AND id = :id AND is_open = 1"),
            {"run": run_id, "id": wait_id, "said": _text(said)},
        )
        if not done.rowcount:
            raise Conflict(f"{wait_id} was answered before", code="already_answered")


def use_answer(connection: Connection, run_id: str, wait_id: str) -> bool:
    """An answer that is good for one call is used, and is there no more. False: somebody has used it before."""
    done = connection.execute(
        text("DELETE FROM agent_waits WHERE run = :run AND id = :id AND is_open = 0"), {"run": run_id, "id": wait_id}
    )
    return bool(done.rowcount)


def wake(connection: Connection, run_id: str, now: float, *, also_failed: bool = False) -> Run | None:
    """The run, if all that it waits for is answered, as it goes on: `queued`. None: it waits on, or does not wait. Of
    two that ask at once one is given it. `also_failed`: a run that failed goes on from its last checkpoint."""
    open_ones = "SELECT 1 FROM agent_waits WHERE run = :id AND is_open = 1"
    stands = "status = 'waiting'" + (" OR status = 'failed'" if also_failed else "")
    done = connection.execute(
        text(
            "UPDATE agent_runs SET status = 'queued', waited_s = waited_s + (:now - coalesce(waiting_since, "
            "CASE status WHEN 'failed' THEN ended_at END, :now)), "
            "failures = failures + CASE status WHEN 'failed' THEN 1 ELSE 0 END, waiting_since = NULL, ended_at = NULL, "
            "reason = NULL, error = 'null', updated_at = :now "
            f"WHERE id = :id AND ({stands}) AND NOT EXISTS ({open_ones})"
        ),
        {"id": run_id, "now": now},
    )
    if not done.rowcount:
        return None
    run = run_of(connection, run_id)
    said = {"answers": {wait.id: wait.answer for wait in waits_of(connection, run_id) if wait.kind != "child"}}
    add_events(
        connection, [Event(run=run_id, type="run.resumed", key=f"resumed:{run.step}", at=now, step=run.step, data=said)]
    )
    return run


def finish(
    connection: Connection,
    run_id: str,
    status: Status,
    now: float,
    *,
    step: int | None = None,
    head: str | None = None,
    output: Any = None,
    reason: str | None = None,
    error: Json | None = None,
    events: Sequence[Event] = (),
) -> Run | None:
    """It has ended. `step`: only if it is this step's turn (None: whatever it does now). None: it had ended before, or
    it is another step's turn; nothing changed then."""
    where = "step = :step AND status IN ('queued', 'running')" if step is not None else _NOT_ENDED
    done = connection.execute(
        text(
            "UPDATE agent_runs SET status = :status, reason = :reason, output = :output, error = :error, "
            "ended_at = :now, updated_at = :now, head = coalesce(:head, head), waiting_since = NULL, step = step + 1 "
            f"WHERE id = :id AND {where}"
        ),
        {
            "id": run_id,
            "status": status,
            "reason": reason,
            "now": now,
            "step": step,
            "head": head,
            "output": _text(output),
            "error": _text(error),
        },
    )
    if not done.rowcount:
        return None
    run = run_of(connection, run_id)
    data = {"output": output} if status == "completed" else {"error": error, "reason": reason}
    last = Event(run=run_id, type=f"run.{status}", key=f"{status}:{run.step}", at=now, step=step, data=data)
    add_events(connection, [*events, last])
    if status == "cancelled":
        connection.execute(text("UPDATE agent_waits SET is_open = 0 WHERE run = :run"), {"run": run_id})
    _tell_parent(connection, run)
    return run


_NOT_ENDED = "status NOT IN ('completed', 'failed', 'cancelled')"


def _tell_parent(connection: Connection, run: Run) -> None:
    if run.parent is None or run.status not in ENDED:
        return
    said = {"status": run.status, "output": run.output, "error": run.error, "reason": run.reason}
    connection.execute(
        text("UPDATE agent_waits SET answer = :said, is_open = 0 WHERE run = :run AND child = :child AND is_open = 1"),
        {"run": run.parent, "child": run.id, "said": _text(said)},
    )


def last_head(connection: Connection, graph_thread: str) -> tuple[str | None, bool]:
    """The checkpoint with which the last run of a thread ended well (None: there is none), and whether that run is
    tainted: what it has read is in the messages that the next one sees."""
    query = """SELECT head, is_tainted FROM agent_runs WHERE graph_thread = :thread AND status = 'completed'
        AND head IS NOT NULL ORDER BY ended_at DESC, id DESC LIMIT 1"""
    found = connection.execute(text(query), {"thread": graph_thread}).first()
    return (None, False) if found is None else (found[0], bool(found[1]))


def forget_thread(connection: Connection, graph_thread: str) -> None:
    """Runs of it stay; the next one begins from nothing."""
    connection.execute(
        text("UPDATE agent_runs SET head = NULL WHERE graph_thread = :thread AND thread IS NOT NULL"),
        {"thread": graph_thread},
    )


def is_busy(connection: Connection, graph_thread: str) -> str | None:
    """The run of a thread that has not ended."""
    query = f"SELECT id FROM agent_runs WHERE graph_thread = :thread AND {_NOT_ENDED} LIMIT 1"
    return connection.execute(text(query), {"thread": graph_thread}).scalar()


def left_behind(connection: Connection, before: float, *, limit: int = 100) -> list[Run]:
    """Runs that should be going on, and of which nothing was heard since `before`; those that wait too, since all that
    they wait for may have been answered by somebody who died before telling."""
    query = f"{_SELECT} WHERE {_NOT_ENDED} AND updated_at < :before AND (status != 'waiting' OR NOT EXISTS "
    query += "(SELECT 1 FROM agent_waits WHERE run = agent_runs.id AND is_open = 1)) ORDER BY updated_at LIMIT :most"
    return [_run(row) for row in connection.execute(text(query), {"before": before, "most": limit}).mappings()]


def touch(connection: Connection, run_id: str, now: float) -> None:
    connection.execute(text("UPDATE agent_runs SET updated_at = :now WHERE id = :id"), {"id": run_id, "now": now})


def taint(connection: Connection, run_id: str) -> None:
    """It has read what somebody else may have written."""
    connection.execute(text("UPDATE agent_runs SET is_tainted = 1 WHERE id = :id"), {"id": run_id})


def forget(connection: Connection, before: float, *, limit: int = 100) -> list[tuple[str, str | None]]:
    """Outermost runs that ended before, and all below them, are deleted with all that is theirs. Their ids, each with
    its thread of LangGraph if no run has that any more, so that its checkpoints may go."""
    query = "SELECT id FROM agent_runs WHERE ended_at < :before AND parent IS NULL ORDER BY ended_at LIMIT :most"
    gone: list[tuple[str, str]] = []
    for run_id in connection.execute(text(query), {"before": before, "most": limit}).scalars().all():
        mine = {"id": run_id, **_below(run_id)}
        of_tree = "id = :id OR (id > :low AND id < :high)"
        gone += [
            (row[0], row[1])
            for row in connection.execute(text(f"SELECT id, graph_thread FROM agent_runs WHERE {of_tree}"), mine)
        ]
        for table in ("agent_events", "agent_calls", "agent_waits"):
            connection.execute(text(f"DELETE FROM {table} WHERE run = :id OR (run > :low AND run < :high)"), mine)
        connection.execute(text(f"DELETE FROM agent_runs WHERE {of_tree}"), mine)
    return [(run_id, None if _has_thread(connection, thread) else thread) for run_id, thread in gone]


def _has_thread(connection: Connection, graph_thread: str) -> bool:
    query = text("SELECT 1 FROM agent_runs WHERE graph_thread = :thread LIMIT 1")
    return connection.execute(query, {"thread": graph_thread}).scalar() is not None


# --- events -----------------------------------------------------------------------------------------------------------


def add_events(connection: Connection, events: Sequence[Event]) -> None:
    """Those that are new, by their keys. What a new `model.completed` says was used is the run's."""
    plain: list[Json] = []
    for event in events:
        row: Json = {"run": event.run, "key": event.key, "type": event.type, "at": event.at, "step": event.step}
        row["data"] = _text(event.data)
        if event.type != "model.completed":
            plain.append(row)
            continue
        if plain:
            connection.execute(text(_ADD_EVENT), plain)
            plain = []
        if connection.execute(text(_ADD_EVENT), row).rowcount:
            _add_usage(connection, event)
    if plain:
        connection.execute(text(_ADD_EVENT), plain)


_ADD_EVENT = """INSERT INTO agent_events (run, id, key, type, at, step, data)
    SELECT CAST(:run AS VARCHAR(160)), coalesce(max(id), 0) + 1, :key, :type, :at, :step, :data FROM agent_events
    WHERE run = :run ON CONFLICT DO NOTHING"""


def _add_usage(connection: Connection, event: Event) -> None:
    said = event.data
    connection.execute(
        text(
            "UPDATE agent_runs SET model_calls = model_calls + 1, prompt_tokens = prompt_tokens + :prompt, "
            "completion_tokens = completion_tokens + :completion, nano_usd = nano_usd + :nano WHERE id = :id"
        ),
        {
            "id": event.run,
            "prompt": said.get("prompt_tokens", 0),
            "completion": said.get("completion_tokens", 0),
            "nano": round(said.get("usd", 0.0) * 1e9),
        },
    )


def events_after(connection: Connection, run_id: str, after: int, *, limit: int = 200) -> list[Event]:
    query = text(
        "SELECT run, id, key, type, at, step, data FROM agent_events WHERE run = :run AND id > :after "
        "ORDER BY id LIMIT :most"
    )
    return [
        Event(**{**row, "data": json_text.loads(row["data"])})
        for row in connection.execute(query, {"run": run_id, "after": after, "most": limit}).mappings()
    ]


# --- calls of tools ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begun:
    """How it stands with a call that is about to be made. `result`: what it came to before (None: it has no result).
    `is_new`: nobody has begun it before. `child`: the run that it is, of a sub-agent."""

    is_new: bool
    result: Json | None = None
    child: str | None = None


def begin_call(
    connection: Connection, run: Run, call: str, tool: str, arguments: Json, events: Sequence[Event]
) -> Begun:
    """Writes down that the call is made, and takes one of the calls that the run, and those above it, may make. Raises
    Refused (`tool_calls_exceeded`) when none is left, Conflict when one of those runs was cancelled."""
    known = _call(connection, run.id, call)
    if known is not None:
        return known
    for above in run_path(run.id):
        done = connection.execute(
            text("UPDATE agent_runs SET tool_calls = tool_calls + 1 WHERE id = :id"), {"id": above}
        )
        if done.rowcount:
            row = connection.execute(
                text("SELECT tool_calls, limits, status FROM agent_runs WHERE id = :id"), {"id": above}
            ).one()
            if row[2] == "cancelled":
                raise Conflict(f"run {above} was cancelled", code="run_cancelled")
            allowed = json_text.loads(row[1])["tool_calls"]
            if row[0] > allowed:
                raise Refused(
                    f"run {above} may make {allowed} calls of tools, and has made them", code="tool_calls_exceeded"
                )
    connection.execute(
        text(
            "INSERT INTO agent_calls (run, id, tool, arguments, begun_at) VALUES (:run, :id, :tool, :arguments, :now) "
            "ON CONFLICT (run, id) DO NOTHING"
        ),
        {"run": run.id, "id": call, "tool": tool, "arguments": _text(arguments), "now": events[-1].at},
    )
    add_events(connection, events)
    return Begun(is_new=True)


def _call(connection: Connection, run_id: str, call: str) -> Begun | None:
    query = text("SELECT result, child FROM agent_calls WHERE run = :run AND id = :id")
    row = connection.execute(query, {"run": run_id, "id": call}).mappings().first()
    if row is None:
        return None
    result = None if row["result"] is None else json_text.loads(row["result"])
    return Begun(is_new=False, result=result, child=row["child"])


def note_call(
    connection: Connection, run_id: str, call: str, tool: str, digest: str, result: Json, events: Sequence[Event]
) -> int:
    """A call that was not made, since it was wrong. How many of this run were wrong in the same way."""
    connection.execute(
        text(
            "INSERT INTO agent_calls (run, id, tool, arguments, result, digest, begun_at, ended_at) "
            "VALUES (:run, :id, :tool, 'null', :result, :digest, :now, :now) ON CONFLICT (run, id) DO NOTHING"
        ),
        {
            "run": run_id,
            "id": call,
            "tool": tool[:64],
            "result": _text(result),
            "digest": digest,
            "now": events[-1].at,
        },
    )
    add_events(connection, events)
    return _alike(connection, run_id, digest)


def _alike(connection: Connection, run_id: str, digest: str) -> int:
    query = text("SELECT count(*) FROM agent_calls WHERE run = :run AND digest = :digest")
    return int(connection.execute(query, {"run": run_id, "digest": digest}).scalar_one())


def is_newest(connection: Connection, run: Run) -> bool:
    """Whether no run of its thread was begun after it."""
    query = "SELECT 1 FROM agent_runs WHERE graph_thread = :thread AND created_at > :at LIMIT 1"
    values = {"thread": run.graph_thread, "at": run.created_at}
    return connection.execute(text(query), values).scalar() is None


def end_call(
    connection: Connection, run_id: str, call: str, result: Json, digest: str, completed: Event, *, taints: bool
) -> tuple[Json, int]:
    """What the call came to, by whoever said it first, and how many calls of this run came to the same with the same
    arguments."""
    connection.execute(
        text(
            "UPDATE agent_calls SET result = :result, digest = :digest, ended_at = :now "
            "WHERE run = :run AND id = :id AND result IS NULL"
        ),
        {"run": run_id, "id": call, "result": _text(result), "digest": digest, "now": completed.at},
    )
    add_events(connection, [completed])
    if taints:
        taint(connection, run_id)
    known = _call(connection, run_id, call)
    alike = _alike(connection, run_id, digest)
    return (known.result if known is not None and known.result is not None else result), alike


def begin_child(connection: Connection, parent: Run, call: str, make: Callable[[str], Run]) -> Run:
    """The child run that a call is: made once, whoever asks how often. Raises Conflict below a run that was
    cancelled."""
    known = _call(connection, parent.id, call)
    if known is not None and known.child is not None:
        return run_of(connection, known.child)
    row = connection.execute(
        text(
            "UPDATE agent_runs SET children = children + 1 WHERE id = :id AND status != 'cancelled' RETURNING children"
        ),
        {"id": parent.id},
    ).scalar()
    if row is None:
        raise Conflict(f"run {parent.id} was cancelled", code="run_cancelled")
    child = make(f"{parent.id}.{row}")
    insert_run(connection, child)
    connection.execute(
        text("UPDATE agent_calls SET child = :child WHERE run = :run AND id = :id"),
        {"child": child.id, "run": parent.id, "id": call},
    )
    add_events(connection, [created(child)])
    return child


def created(run: Run) -> Event:
    return Event(run=run.id, type="run.created", key="created", at=run.created_at, data={"input": run.input})


# --- rows -------------------------------------------------------------------------------------------------------------


def _run(row: Mapping[Any, Any]) -> Run:
    said = dict(row)
    said |= {name: json_text.loads(said[name]) for name in _JSON}
    said["limits"] = Limits(**said["limits"])
    said["above"] = tuple(RunLimit(run=run, nano_usd=nano, tokens=tokens) for run, nano, tokens in said["above"])
    said["grants"], said["is_tainted"] = tuple(said["grants"]), bool(said["is_tainted"])
    return Run(**said)


def _text(value: Any) -> str:
    return json_text.dumps(value).decode("utf-8", "replace")


def _below(run_id: str) -> Json:
    return dict(zip(("low", "high"), names_below(run_id), strict=True))
