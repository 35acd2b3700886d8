"""The ledger: usage records in, sums out. Append-only."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from stoker.meter.store import Store
from stoker.meter.tables import usage
from stoker.meter.usage import UsageRecord

_COLUMNS = [usage.c[field.name] for field in fields(UsageRecord)]


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
        insert = postgresql.insert if store.engine.dialect.name == "postgresql" else sqlite.insert
        # A record that was delivered twice is stored once: its id is the primary key.
        self._insert = insert(usage).on_conflict_do_nothing(index_elements=["id"])

    def append(self, records: Sequence[UsageRecord]) -> None:
        """Store what is new of these; on disk when it returns."""
        if records:
            with self._store.transaction() as connection:
                connection.execute(self._insert, [asdict(record) for record in records])

    def rows(self, *, since: float | None = None, tenant: str | None = None) -> list[UsageRow]:
        """Sums by tenant, model and session of what ended at `since` (seconds since the epoch) or later."""
        query = select(
            usage.c.tenant,
            usage.c.model,
            usage.c.session,
            func.count(),
            func.sum(usage.c.prompt_tokens),
            func.sum(usage.c.cached_tokens),
            func.sum(usage.c.completion_tokens),
            func.sum(usage.c.nano_usd),
        ).group_by(usage.c.tenant, usage.c.model, usage.c.session)
        if since is not None:
            query = query.where(usage.c.ended_at >= since)
        if tenant is not None:
            query = query.where(usage.c.tenant == tenant)
        with self._store.transaction() as connection:
            rows = [UsageRow(*row[:4], *map(int, row[4:])) for row in connection.execute(query)]
        return sorted(rows, key=lambda row: (row.tenant, row.model, row.session or ""))

    def records(self, ids: Iterable[str] | None = None) -> list[UsageRecord]:
        """The records themselves, oldest first; all of them, or those with these ids."""
        query = select(*_COLUMNS).order_by(usage.c.ended_at, usage.c.id)
        if ids is not None:
            query = query.where(usage.c.id.in_(list(ids)))
        with self._store.transaction() as connection:
            return [UsageRecord(**row._mapping) for row in connection.execute(query)]
