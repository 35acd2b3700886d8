"""The ledger: usage records in, sums out. Append-only, but that old records may be pruned to sums of their days."""

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Float,
    Integer,
    String,
    Table,
    and_,
    bindparam,
    case,
    delete,
    false,
    func,
    literal,
    null,
    or_,
    select,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite

from stoker.base.errors import InvalidInput
from stoker.meter.store import Store
from stoker.meter.tables import usage, usage_days
from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import ScopeKind, names_below

_NAMES = [field.name for field in fields(UsageRecord)]
_COLUMNS = [usage.c[name] for name in _NAMES]

DAY_S = 86400
KEPT_DAYS = 31
"""Days of which every record is kept, however much is pruned."""

_SCOPES: dict[ScopeKind, str] = {
    "key": "key_id",
    "team": "team",
    "tenant": "tenant",
    "session": "session",
    "run": "run",
    "agent": "agent",
}


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used: requests that ended (steps of agents are none), their tokens (prompt and answer together), and
    nano-dollars."""

    requests: int
    tokens: int
    nano_usd: int


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one tenant used of one model in one session (None: outside any), in runs of one agent (None: of none).
    `steps`: of agents' runs, which are no requests."""

    tenant: str
    model: str
    session: str | None
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    nano_usd: int
    agent: str | None = None
    steps: int = 0


class SpanRow(NamedTuple):
    """Of a usage record, what tells whose time of a replica it was. Fields as in `UsageRecord`."""

    model: str
    replica: str | None
    tenant: str
    team: str | None
    key_id: str
    session: str | None
    run: str | None
    agent: str | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    nano_usd: int
    started_at: float
    ended_at: float


class Ledger:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._dialect = postgresql if store.is_postgresql else sqlite
        # A record that was delivered twice is stored once: its id is the primary key.
        self._insert = self._dialect.insert(usage).on_conflict_do_nothing(index_elements=["id"]).returning(usage.c.id)

    def append(self, records: Sequence[UsageRecord]) -> frozenset[str]:
        """Store what is new of these; on disk when it returns, with the ids of those that were new: of several who
        store one record, it is new to one. All of them or, when it raises, none."""
        new: set[str] = set()
        if records:
            # In one order, whoever stores them: two who store the same ones wait for each other, and never both.
            rows = [_row(record) for record in sorted(records, key=lambda record: record.id)]
            with self._store.transaction() as connection:
                if self._store.is_postgresql:
                    return frozenset(connection.execute(self._insert, rows).scalars())
                for many in _in_pieces(rows):
                    values = [value for row in many for value in row.values()]
                    stored = connection.exec_driver_sql(_insert_into_sqlite(len(many)), tuple(values))
                    new.update(stored.scalars())
        return frozenset(new)

    def rows(
        self,
        *,
        since: float | None = None,
        tenant: str | None = None,
        agent: str | None = None,
        run: str | None = None,
    ) -> list[UsageRow]:
        """Sums by tenant, model, session and agent of what ended at `since` (seconds since the epoch) or later. `run`:
        with the runs below it. What was pruned counts by its day, outside any session, and in no run."""
        recent = select(usage.c.tenant, usage.c.model, usage.c.session, usage.c.agent, *_sums(usage))
        days = select(
            usage_days.c.tenant,
            usage_days.c.model,
            null(),
            func.nullif(usage_days.c.agent, ""),
            *_sums(usage_days),
        )
        if agent is not None:
            recent, days = recent.where(usage.c.agent == agent), days.where(usage_days.c.agent == agent)
        if run is not None:
            below = _is_below(*map(literal, names_below(run)), is_postgresql=self._store.is_postgresql)
            recent, days = recent.where(or_(usage.c.run == run, below)), days.where(false())
        if since is not None:
            recent = recent.where(usage.c.ended_at >= since)
            days = days.where(usage_days.c.day >= math.ceil(since / DAY_S))
        if tenant is not None:
            recent, days = recent.where(usage.c.tenant == tenant), days.where(usage_days.c.tenant == tenant)
        recent = recent.group_by(usage.c.tenant, usage.c.model, usage.c.session, usage.c.agent)
        days = days.group_by(usage_days.c.tenant, usage_days.c.model, usage_days.c.agent)
        found: dict[tuple[str, str, str | None, str | None], list[int]] = {}
        # One statement, so that a day which is being pruned counts once.
        with self._store.reading() as connection:
            for row in connection.execute(union_all(recent, days)):
                sums = found.setdefault((row[0], row[1], row[2], row[3]), [0] * 6)
                sums[:] = [one + int(more) for one, more in zip(sums, row[4:], strict=True)]
        rows = [
            UsageRow(of_tenant, model, session, sums[0], sums[1], sums[2], sums[3], sums[4], of_agent, sums[5])
            for (of_tenant, model, session, of_agent), sums in found.items()
        ]
        return sorted(rows, key=lambda row: (row.tenant, row.model, row.session or "", row.agent or ""))

    def spent(self, kind: ScopeKind, tenant: str, name: str, *, since: float | None = None) -> Spent:
        """What a key (`name` is its id), a team, a session or an agent run of a tenant, or the tenant itself (`name` is
        its own), used in requests that ended at `since` or later; or an agent, for all tenants. A run with those below
        it. For keys, teams, tenants and agents that holds for ever, to the day where records were pruned; for sessions
        and runs as far back as there are records."""
        values: dict[str, object] = {"tenant": tenant, "name": name}
        if kind == "run":
            values["first"], values["end"] = names_below(name)
        if since is not None:
            values |= {"since": since, "day": math.floor(since / DAY_S)}
        with self._store.reading() as connection:
            query = _spent_by(_SCOPES[kind], since is not None, self._store.is_postgresql)
            parts = connection.execute(query, values).all()
        return Spent(*(sum(int(part[place] or 0) for part in parts) for place in range(3)))

    def page(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        tenant: str | None = None,
        after: tuple[float, str] | None = None,
        limit: int = 1000,
    ) -> list[UsageRecord]:
        """Records that ended at `since` or later and before `until`, oldest first, from the one after `after` (its
        `ended_at` and `id`)."""
        query = select(*_COLUMNS).order_by(usage.c.ended_at, usage.c.id).limit(limit)
        if since is not None:
            query = query.where(usage.c.ended_at >= since)
        if until is not None:
            query = query.where(usage.c.ended_at < until)
        if tenant is not None:
            query = query.where(usage.c.tenant == tenant)
        if after is not None:
            query = query.where(tuple_(usage.c.ended_at, usage.c.id) > tuple_(*after))
        with self._store.reading() as connection:
            return [UsageRecord(**row._mapping) for row in connection.execute(query)]

    def prune(self, before: date, today: date) -> int:
        """Turn the records of days before `before` (UTC) into one sum for each day, tenant, team, key, model and agent;
        how many records that were. Raises InvalidInput for a day within the last `KEPT_DAYS`, from whose records
        counters of sessions and runs are rebuilt."""
        latest = today - timedelta(days=KEPT_DAYS)
        if before > latest:
            raise InvalidInput(
                f"before is {before}; records of the last {KEPT_DAYS} days are kept, so it must be {latest} or earlier",
                param="before",
            )
        pruned = 0
        while (day := self._oldest_day()) is not None and day < (before - date(1970, 1, 1)).days:
            pruned += self._prune_day(day)
        return pruned

    def days(self) -> tuple[int, int] | None:
        """Days since the epoch on which the first and the last of the records ended."""
        with self._store.reading() as connection:
            first, last = connection.execute(select(func.min(usage.c.ended_at), func.max(usage.c.ended_at))).one()
        return None if first is None else (math.floor(first / DAY_S), math.floor(last / DAY_S))

    def _oldest_day(self) -> int | None:
        with self._store.reading() as connection:
            oldest = connection.execute(select(func.min(usage.c.ended_at))).scalar_one()
        return None if oldest is None else math.floor(oldest / DAY_S)

    def _prune_day(self, day: int) -> int:
        """One transaction for each day, so that those who append do not wait for all of them."""
        within = and_(usage.c.ended_at >= day * DAY_S, usage.c.ended_at < (day + 1) * DAY_S)
        # Written out, since PostgreSQL takes two parameters of one value for two expressions.
        team, agent = func.coalesce(usage.c.team, text("''")), func.coalesce(usage.c.agent, text("''"))
        names = [usage.c.tenant, team, usage.c.key_id, usage.c.model, agent]
        sums = select(literal(day), *names, *_sums(usage)).where(within).group_by(*names)
        columns = [*_KEY_OF_DAYS, *_SUMMED]
        write = self._dialect.insert(usage_days).from_select(columns, sums)
        counted = [column for column in usage_days.c if not column.primary_key]
        write = write.on_conflict_do_update(
            index_elements=[column.name for column in usage_days.primary_key.columns],
            set_={column.name: column + write.excluded[column.name] for column in counted},
        )
        with self._store.transaction() as connection:
            if self._store.is_postgresql:  # what is added between the sum and the deletion would be lost
                connection.execute(text("LOCK TABLE usage IN SHARE ROW EXCLUSIVE MODE"))
            connection.execute(write)
            return connection.execute(delete(usage).where(within)).rowcount

    def spans(self, *, since: float, until: float, longest_s: float) -> Iterator[SpanRow]:
        """Of all that asked a model and ran at any moment from `since` to before `until`, by their end; `longest_s`:
        none of them ran for longer (`longest`)."""
        query = (
            select(*(usage.c[name] for name in SpanRow._fields))
            .where(usage.c.ended_at >= since, usage.c.ended_at < until + longest_s, usage.c.started_at < until)
            .where(usage.c.kind != "step")
            .order_by(usage.c.ended_at, usage.c.id)
        )
        with self._store.reading() as connection:
            for some in connection.execution_options(yield_per=5000).execute(query).partitions():
                yield from map(SpanRow._make, some)

    def count(self, *, since: float, until: float) -> int:
        """How many records ended at `since` or later and before `until`."""
        query = select(func.count()).where(usage.c.ended_at >= since, usage.c.ended_at < until)
        with self._store.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def longest(self, *, since: float, until: float) -> float:
        """Seconds that the longest took of those that `spans` has for this time, or a little more; 0 without any."""
        query = select(func.max(usage.c.ended_at - usage.c.started_at)).where(
            usage.c.ended_at >= since, usage.c.started_at < until
        )
        with self._store.reading() as connection:
            found = connection.execute(query).scalar_one()
        return 0.0 if found is None else float(found) + 1.0

    def records(self, ids: Iterable[str] | None = None) -> list[UsageRecord]:
        """The records themselves, oldest first; all of them, or those with these ids."""
        query = select(*_COLUMNS).order_by(usage.c.ended_at, usage.c.id)
        if ids is not None:
            query = query.where(usage.c.id.in_(list(ids)))
        with self._store.reading() as connection:
            return [UsageRecord(**row._mapping) for row in connection.execute(query)]


_TEXTS = {column.name: column.type.length or 0 for column in _COLUMNS if isinstance(column.type, String)}
_MOST = {
    column.name: 2**63 - 1 if isinstance(column.type, BigInteger) else 2**31 - 1
    for column in _COLUMNS
    if isinstance(column.type, Integer)
}


def _row(record: UsageRecord) -> dict[str, Any]:
    """As the columns can hold it. What is too long or too large is cut: a record that the database refused would hold
    up all that come after it, for ever."""
    row = {name: getattr(record, name) for name in _NAMES}
    for name, length in _TEXTS.items():
        value = row[name]
        if value is not None and (len(value) > length or not value.isascii() or "\0" in value):
            row[name] = value.encode(errors="replace").decode().replace("\0", "")[:length]
    for name, most in _MOST.items():
        if row[name] > most:
            row[name] = most
    return row


_PIECES = (64, 8, 1)


def _in_pieces(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Of few sizes, so that SQLite has the statement of each at hand."""
    at = 0
    for size in _PIECES:
        while len(rows) - at >= size:
            yield rows[at : at + size]
            at += size


@functools.cache
def _insert_into_sqlite(count: int) -> str:
    """For so many rows at once. Python's driver takes the interpreter's lock for each statement that it executes, so
    with a statement for each row this thread would stop the others, who answer requests, as often."""
    row = f"({', '.join('?' * len(_NAMES))})"
    into = f"INSERT INTO {usage.name} ({', '.join(_NAMES)})"
    return f"{into} VALUES {', '.join([row] * count)} ON CONFLICT (id) DO NOTHING RETURNING id"


_KEY_OF_DAYS = ("day", "tenant", "team", "key_id", "model", "agent")
_SUMMED = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "nano_usd", "steps")


def _sums(table: Table) -> list[Any]:
    """Of `_SUMMED`, in that order."""
    counted = {"requests": _requests(), "steps": _steps()} if table is usage else {}
    return [counted[name] if name in counted else func.sum(table.c[name]) for name in _SUMMED]


def _steps() -> Any:
    return func.coalesce(func.sum(case((usage.c.kind == "step", 1), else_=0)), 0)


def _requests() -> Any:
    return func.count() - _steps()


def _is_below(first: ColumnElement[str], end: ColumnElement[str], *, is_postgresql: bool) -> ColumnElement[bool]:
    """The usage of the runs below another, whose names are from `first` to before `end` (`names_below`): by bytes, as
    the index has them, and of agents, since others may have dots in the names of their runs."""
    if is_postgresql:
        within = and_(usage.c.run.bool_op("~>=~")(first), usage.c.run.bool_op("~<~")(end))
    else:
        within = and_(usage.c.run >= first, usage.c.run < end)
    return and_(within, usage.c.agent.is_not(None))


@functools.cache
def _spent_by(column: str, has_since: bool, is_postgresql: bool) -> CompoundSelect[Any]:
    """What `Ledger.spent` asks. Made once, since that takes longer than the answer."""
    tenant, name = bindparam("tenant", type_=String), bindparam("name", type_=String)
    recent = select(_requests(), *_spent(usage))
    days = select(func.sum(usage_days.c.requests), *_spent(usage_days))
    if column != "agent":
        recent, days = recent.where(usage.c.tenant == tenant), days.where(usage_days.c.tenant == tenant)
    if has_since:
        recent = recent.where(usage.c.ended_at >= bindparam("since", type_=Float))
        days = days.where(usage_days.c.day >= bindparam("day", type_=Integer))
    parts = [recent.where(usage.c[column] == name)]
    if column == "run":
        first, end = bindparam("first", type_=String), bindparam("end", type_=String)
        parts.append(recent.where(_is_below(first, end, is_postgresql=is_postgresql)))
    if column in usage_days.c:
        parts.append(days.where(usage_days.c[column] == name))
    return union_all(*parts)


def _spent(table: Table) -> list[Any]:
    return [func.sum(table.c.prompt_tokens) + func.sum(table.c.completion_tokens), func.sum(table.c.nano_usd)]
