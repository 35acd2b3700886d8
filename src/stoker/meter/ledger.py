"""The ledger: usage records in, sums out. Append-only, but that old records may be pruned to sums of their days."""

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    CompoundSelect,
    Float,
    Integer,
    String,
    Table,
    and_,
    bindparam,
    delete,
    func,
    literal,
    null,
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
from stoker.policy.budgets import ScopeKind

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
}


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used: requests that ended, their tokens (prompt and answer together), and nano-dollars."""

    requests: int
    tokens: int
    nano_usd: int


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one tenant used of one model in one session (None: outside any)."""

    tenant: str
    model: str
    session: str | None
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    nano_usd: int


class Ledger:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._dialect = postgresql if store.is_postgresql else sqlite
        # A record that was delivered twice is stored once: its id is the primary key.
        self._insert = self._dialect.insert(usage).on_conflict_do_nothing(index_elements=["id"])

    def append(self, records: Sequence[UsageRecord]) -> None:
        """Store what is new of these; on disk when it returns. All of them or, when it raises, none."""
        if records:
            # In one order, whoever stores them: two who store the same ones wait for each other, and never both.
            rows = [_row(record) for record in sorted(records, key=lambda record: record.id)]
            with self._store.transaction() as connection:
                if self._store.is_postgresql:
                    connection.execute(self._insert, rows)
                    return
                for many in _in_pieces(rows):
                    values = [value for row in many for value in row.values()]
                    connection.exec_driver_sql(_insert_into_sqlite(len(many)), tuple(values))

    def rows(self, *, since: float | None = None, tenant: str | None = None) -> list[UsageRow]:
        """Sums by tenant, model and session of what ended at `since` (seconds since the epoch) or later. What was
        pruned counts by its day, outside any session."""
        recent = select(usage.c.tenant, usage.c.model, usage.c.session, *_sums(usage, func.count()))
        days = select(
            usage_days.c.tenant, usage_days.c.model, null(), *_sums(usage_days, func.sum(usage_days.c.requests))
        )
        if since is not None:
            recent = recent.where(usage.c.ended_at >= since)
            days = days.where(usage_days.c.day >= math.ceil(since / DAY_S))
        if tenant is not None:
            recent, days = recent.where(usage.c.tenant == tenant), days.where(usage_days.c.tenant == tenant)
        recent = recent.group_by(usage.c.tenant, usage.c.model, usage.c.session)
        days = days.group_by(usage_days.c.tenant, usage_days.c.model)
        found: dict[tuple[str, str, str | None], list[int]] = {}
        # One statement, so that a day which is being pruned counts once.
        with self._store.reading() as connection:
            for row in connection.execute(union_all(recent, days)):
                sums = found.setdefault((row[0], row[1], row[2]), [0] * 5)
                sums[:] = [one + int(more) for one, more in zip(sums, row[3:], strict=True)]
        rows = [UsageRow(*names, *sums) for names, sums in found.items()]
        return sorted(rows, key=lambda row: (row.tenant, row.model, row.session or ""))

    def spent(self, kind: ScopeKind, tenant: str, name: str, *, since: float | None = None) -> Spent:
        """What a key (`name` is its id), a team, a session or an agent run of a tenant, or the tenant itself (`name` is
        its own), used in requests that ended at `since` or later. For keys, teams and tenants that holds for ever, to
        the day where records were pruned; for sessions and runs as far back as there are records."""
        values: dict[str, object] = {"tenant": tenant, "name": name}
        if since is not None:
            values |= {"since": since, "day": math.floor(since / DAY_S)}
        with self._store.reading() as connection:
            parts = connection.execute(_spent_by(_SCOPES[kind], since is not None), values).all()
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
        """Turn the records of days before `before` (UTC) into one sum for each day, tenant, team, key and model; how
        many records that were. Raises InvalidInput for a day within the last `KEPT_DAYS`, from whose records counters
        of sessions and runs are rebuilt."""
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

    def _oldest_day(self) -> int | None:
        with self._store.reading() as connection:
            oldest = connection.execute(select(func.min(usage.c.ended_at))).scalar_one()
        return None if oldest is None else math.floor(oldest / DAY_S)

    def _prune_day(self, day: int) -> int:
        """One transaction for each day, so that those who append do not wait for all of them."""
        within = and_(usage.c.ended_at >= day * DAY_S, usage.c.ended_at < (day + 1) * DAY_S)
        team = func.coalesce(usage.c.team, "")
        names = [usage.c.tenant, team, usage.c.key_id, usage.c.model]
        sums = select(literal(day), *names, *_sums(usage, func.count())).where(within).group_by(*names)
        write = self._dialect.insert(usage_days).from_select([column.name for column in usage_days.c], sums)
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
    return f"{into} VALUES {', '.join([row] * count)} ON CONFLICT (id) DO NOTHING"


def _sums(table: Table, requests: Any) -> list[Any]:
    names = ("prompt_tokens", "cached_tokens", "completion_tokens", "nano_usd")
    return [requests, *(func.sum(table.c[name]) for name in names)]


@functools.cache
def _spent_by(column: str, has_since: bool) -> CompoundSelect[Any]:
    """What `Ledger.spent` asks. Made once, since that takes longer than the answer."""
    tenant, name = bindparam("tenant", type_=String), bindparam("name", type_=String)
    recent = select(func.count(), *_spent(usage)).where(usage.c.tenant == tenant, usage.c[column] == name)
    days = select(func.sum(usage_days.c.requests), *_spent(usage_days)).where(usage_days.c.tenant == tenant)
    if has_since:
        recent = recent.where(usage.c.ended_at >= bindparam("since", type_=Float))
        days = days.where(usage_days.c.day >= bindparam("day", type_=Integer))
    return union_all(recent, *([days.where(usage_days.c[column] == name)] if column in usage_days.c else []))


def _spent(table: Table) -> list[Any]:
    return [func.sum(table.c.prompt_tokens) + func.sum(table.c.completion_tokens), func.sum(table.c.nano_usd)]
