"""Lives of machines and of who was on them, how they started, and what offerings cost: what cost is made of.

Written by whoever sees them (the supervisor of `stoker up`, the watcher of nodes in a cluster), again and again: each
write replaces what was known. A life whose writer was killed ends when it was last seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Table, func, or_, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from stoker.meter.machines import LOCAL, MachineLife, PriceStep, StayLife
from stoker.meter.store import Store
from stoker.meter.tables import machines, phases, price_steps, stays

__all__ = ["LOCAL", "PHASES", "Lives", "MachineLife", "Phase", "PriceStep", "StayLife"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of how a machine or a replica started. `subject` is the id of its life; `phase` is one of `PHASES`."""

    subject: str
    phase: str
    began_at: float
    ended_at: float | None = None
    detail: str | None = None


PHASES = ("queue", "capacity", "boot", "image", "weights", "warm-up")
"""In their order: work waits and nobody was asked yet; a machine was asked for and is not there; it boots and joins;
images are pulled; weights are loaded; the process is there and not ready."""


class Lives:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._dialect = postgresql if store.is_postgresql else sqlite

    def write(
        self,
        *,
        machines_seen: Sequence[MachineLife] = (),
        stays_seen: Sequence[StayLife] = (),
        phases_seen: Sequence[Phase] = (),
        prices_seen: Sequence[PriceStep] = (),
    ) -> None:
        """In one transaction; what was known of the same ids is replaced. Raises Unavailable."""
        with self._store.transaction() as connection:
            for table, rows in (
                (machines, machines_seen),
                (stays, stays_seen),
                (phases, phases_seen),
                (price_steps, prices_seen),
            ):
                if rows:
                    connection.execute(self._upsert(table), [_row(table, row) for row in rows])

    def machines(self, *, since: float, until: float) -> list[MachineLife]:
        """Those that were there at any moment from `since` to before `until`, by their begin."""
        return self._read(machines, MachineLife, since, until)

    def first(self) -> float | None:
        """When the first machine began of which anything is known."""
        with self._store.reading() as connection:
            found: float | None = connection.execute(select(func.min(machines.c.began_at))).scalar()
            return found

    def stays(self, *, since: float, until: float) -> list[StayLife]:
        """As `machines`."""
        return self._read(stays, StayLife, since, until)

    def open(self) -> tuple[list[MachineLife], list[StayLife]]:
        """Machines and stays whose end nobody has written, by their begin; not those of laptops."""
        open_machines = select(machines).where(machines.c.ended_at.is_(None), machines.c.capacity != LOCAL)
        there = select(machines.c.id).where(machines.c.capacity == LOCAL)
        open_stays = select(stays).where(stays.c.ended_at.is_(None), stays.c.machine.not_in(there))
        return (
            self._all(open_machines.order_by(machines.c.began_at, machines.c.id), MachineLife),
            self._all(open_stays.order_by(stays.c.began_at, stays.c.id), StayLife),
        )

    def phases(self, *, since: float, until: float) -> list[Phase]:
        """Those that began at `since` or later and before `until`, by their begin."""
        query = select(phases).where(phases.c.began_at >= since, phases.c.began_at < until)
        return self._all(query.order_by(phases.c.began_at, phases.c.subject, phases.c.phase), Phase)

    def prices(self, *, until: float, latest: bool = False) -> list[PriceStep]:
        """All that are known of the time before `until`, by their moment; or only the last of each offering."""
        query = select(price_steps).where(price_steps.c.at < until)
        if latest:
            offering = (price_steps.c.type, price_steps.c.zone, price_steps.c.capacity)
            last = select(*offering, func.max(price_steps.c.at)).where(price_steps.c.at < until).group_by(*offering)
            query = query.where(tuple_(*offering, price_steps.c.at).in_(last))
        return self._all(query.order_by(price_steps.c.at, price_steps.c.type, price_steps.c.zone), PriceStep)

    def _read(self, table: Table, kind: Any, since: float, until: float) -> list[Any]:
        was_there = or_(table.c.seen_at >= since, table.c.ended_at >= since)
        query = select(table).where(table.c.began_at < until, was_there)
        return self._all(query.order_by(table.c.began_at, table.c.id), kind)

    def _all(self, query: Any, kind: Any) -> list[Any]:
        with self._store.reading() as connection:
            return [kind(**row._mapping) for row in connection.execute(query)]

    def _upsert(self, table: Table) -> Any:
        insert = self._dialect.insert(table)
        keys = [column.name for column in table.primary_key.columns]
        changed = {column.name: insert.excluded[column.name] for column in table.c if column.name not in keys}
        return insert.on_conflict_do_update(index_elements=keys, set_=changed)


def _row(table: Table, seen: Any) -> Mapping[str, Any]:
    """Texts that are too long for their column are cut."""
    row = asdict(seen)
    for column in table.c:
        length = getattr(column.type, "length", None)
        if length and isinstance(row[column.name], str):
            row[column.name] = row[column.name].replace("\0", "")[:length]
    return row
