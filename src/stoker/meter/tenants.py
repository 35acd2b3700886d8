"""Tenants and teams in the store: those of platform.yaml, and those that the admin API makes.

What stands in platform.yaml is written by it at each start, so the API leaves it alone. What was taken out of it lives
on with the limits that it had last, since its keys and its usage do; from then on it is the API's.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from stoker.base.clock import Clock, SystemClock
from stoker.base.errors import Conflict, NotFound
from stoker.meter import audit
from stoker.meter.accounts import Source, TeamTerms, TenantTerms
from stoker.meter.audit import Change
from stoker.meter.store import Store
from stoker.meter.tables import revisions, teams, tenants
from stoker.meter.texts import SHARED, of_text, text_of
from stoker.policy.budgets import Scope, inside
from stoker.spec import Budgets, Team, Tenant, plain

_BUDGETS = '"budgets"'
"""In the text of terms that set any (`text_of`), and in no other."""

_S = TypeVar("_S", Tenant, Team, Budgets)


@dataclass(frozen=True, slots=True)
class TeamRecord:
    tenant: str
    name: str
    source: Source
    created_at: float
    terms: Team


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """`terms` is without teams: they are records of their own."""

    name: str
    source: Source
    created_at: float
    terms: Tenant
    teams: Mapping[str, TeamRecord] = field(default_factory=dict)


class TenantStore:
    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock or SystemClock()

    def ensure(self, written: Mapping[str, Tenant]) -> None:
        """Make the store say what platform.yaml says of its tenants and teams. A start that changes no terms does not
        make every gateway look up its keys anew."""
        wanted = {name: _alone(tenant) for name, tenant in written.items()}
        wanted_teams = {(name, team): terms for name, tenant in written.items() for team, terms in tenant.teams.items()}
        with self._store.transaction() as connection:
            lock(connection)
            changed = self._ensure_rows(
                connection, tenants, {(name,): text_of(terms) for name, terms in wanted.items()}
            )
            changed |= self._ensure_rows(
                connection, teams, {key: text_of(terms) for key, terms in wanted_teams.items()}
            )
            if changed:
                touch(connection)

    def _ensure_rows(self, connection: Connection, table: Any, wanted: Mapping[tuple[str, ...], str]) -> bool:
        """Whether terms that an account may have been made of have changed."""
        key = list(table.primary_key.columns)
        rows = connection.execute(select(*key, table.c.source, table.c.terms))
        known = {tuple(row[:-2]): (row[-2], row[-1]) for row in rows}
        stale = [name for name, terms in wanted.items() if known.get(name) != ("file", terms)]
        gone = [name for name, (source, _) in known.items() if source == "file" and name not in wanted]
        now = self._clock.now()
        names = [column.name for column in key]
        if stale:
            dialect = postgresql if self._store.is_postgresql else sqlite
            write = dialect.insert(table)
            write = write.on_conflict_do_update(
                index_elements=names, set_={"source": write.excluded.source, "terms": write.excluded.terms}
            )
            connection.execute(
                write,
                [
                    {**dict(zip(names, name, strict=True)), "source": "file", "terms": wanted[name], "created_at": now}
                    for name in stale
                ],
            )
        for name in gone:
            mine = [column == part for column, part in zip(key, name, strict=True)]
            connection.execute(update(table).where(*mine).values(source="api"))
        return any(name in known and known[name][1] != wanted[name] for name in stale)

    def list(self) -> list[TenantRecord]:
        """All tenants with their teams, by name."""
        with self._store.reading() as connection:
            return _tenants(connection)

    def budgets(self) -> dict[Scope, Budgets]:
        """Of each tenant and team that has any."""
        of_tenants = select(tenants.c.name, tenants.c.terms).where(tenants.c.terms.contains(_BUDGETS))
        of_teams = select(teams.c.tenant, teams.c.name, teams.c.terms).where(teams.c.terms.contains(_BUDGETS))
        with self._store.reading() as connection:
            found = {
                Scope("tenant", row.name): of_text(Tenant, row.terms).budgets for row in connection.execute(of_tenants)
            }
            return found | {
                Scope("team", inside(row.tenant, row.name)): of_text(Team, row.terms).budgets
                for row in connection.execute(of_teams)
            }

    def get(self, name: str) -> TenantRecord:
        """Raises NotFound."""
        with self._store.reading() as connection:
            return _tenant(connection, name)

    def create(self, name: str, terms: Tenant, *, by: Change | None = None) -> TenantRecord:
        """With its teams. Raises Conflict when it is there. `by`, here and below: who asked for it, for the audit
        log."""
        with self._store.transaction() as connection:
            if not add_tenant(connection, name, self._clock.now(), terms):
                raise Conflict(f"there is a tenant {name!r} already", hint=f"stoker tenants update {name}")
            for team, its_terms in terms.teams.items():
                add_team(connection, name, team, self._clock.now(), its_terms)
            if by is not None:
                audit.write(connection, by, self._clock.now(), after=plain(terms))
            return _tenant(connection, name)

    def change(self, name: str, make: Callable[[Tenant], Tenant], *, by: Change | None = None) -> TenantRecord:
        """Replace its terms by what `make` makes of them. Teams that `make` leaves out stay; those that it adds are
        made. Raises NotFound; Conflict when platform.yaml has it, or a team that would change."""
        with self._store.transaction() as connection:
            lock(connection)
            found = _tenant(connection, name)
            before = _whole(found)
            after = make(before)
            changed = _alone(after) != found.terms
            if changed:
                _refuse_file(f"tenant {name!r}", found.source)
                write = update(tenants).where(tenants.c.name == name).values(terms=text_of(_alone(after)))
                connection.execute(write)
            for team, terms in after.teams.items():
                known = found.teams.get(team)
                if known is None:
                    add_team(connection, name, team, self._clock.now(), terms)
                elif known.terms != terms:
                    _refuse_file(f"team {team!r} of tenant {name!r}", known.source)
                    one = (teams.c.tenant == name, teams.c.name == team)
                    connection.execute(update(teams).where(*one).values(terms=text_of(terms)))
                    changed = True
            if changed:
                touch(connection)
            done = _tenant(connection, name)
            if by is not None:
                audit.write(connection, by, self._clock.now(), before=plain(before), after=plain(_whole(done)))
            return done


def _refuse_file(what: str, source: Source) -> None:
    if source == "file":
        raise Conflict(
            f"{what} is written in platform.yaml, which wins at each start", hint="change it there, and start again"
        )


def _whole(record: TenantRecord) -> Tenant:
    """Its terms with those of its teams."""
    return record.terms.model_copy(update={"teams": {name: team.terms for name, team in record.teams.items()}})


def _alone(tenant: Tenant) -> Tenant:
    return tenant.model_copy(update={"teams": {}}) if tenant.teams else tenant


def _tenant(connection: Connection, name: str) -> TenantRecord:
    found = _tenants(connection, name)
    if not found:
        raise NotFound(f"there is no tenant {name!r}", hint="`stoker tenants list` shows those there are")
    return found[0]


def _tenants(connection: Connection, name: str | None = None) -> list[TenantRecord]:
    query, of_teams = select(tenants).order_by(tenants.c.name), select(teams).order_by(teams.c.tenant, teams.c.name)
    if name is not None:
        query, of_teams = query.where(tenants.c.name == name), of_teams.where(teams.c.tenant == name)
    by_tenant: dict[str, dict[str, TeamRecord]] = {}
    for row in connection.execute(of_teams):
        record = TeamRecord(row.tenant, row.name, row.source, row.created_at, of_text(Team, row.terms))
        by_tenant.setdefault(row.tenant, {})[row.name] = record
    return [
        TenantRecord(row.name, row.source, row.created_at, of_text(Tenant, row.terms), by_tenant.get(row.name, {}))
        for row in connection.execute(query)
    ]


# --- pieces that keys need, too ---------------------------------------------------------------------------------------


def lock(connection: Connection) -> None:
    """One change of accounts at a time, so that what it read is still so when it writes."""
    connection.execute(select(revisions.c.number).where(revisions.c.subject == "accounts").with_for_update())


def touch(connection: Connection) -> None:
    """Tell every gateway that what it keeps of accounts may be old."""
    connection.execute(update(revisions).where(revisions.c.subject == "accounts").values(number=revisions.c.number + 1))


def add_tenant(connection: Connection, name: str, now: float, terms: Tenant | None = None) -> bool:
    """Whether there was none of that name, and now is."""
    lock(connection)
    if connection.execute(select(tenants.c.name).where(tenants.c.name == name)).first() is not None:
        return False
    connection.execute(
        insert(tenants).values(name=name, source="api", terms=text_of(_alone(terms or Tenant())), created_at=now)
    )
    return True


def add_team(connection: Connection, tenant: str, name: str, now: float, terms: Team | None = None) -> bool:
    lock(connection)
    if connection.execute(select(teams.c.name).where(teams.c.tenant == tenant, teams.c.name == name)).first():
        return False
    connection.execute(
        insert(teams).values(tenant=tenant, name=name, source="api", terms=text_of(terms or Team()), created_at=now)
    )
    return True


@functools.lru_cache(SHARED)
def tenant_terms(name: str, said: str) -> TenantTerms:
    terms = of_text(Tenant, said)
    return TenantTerms(
        name,
        terms.budgets,
        terms.session_budgets,
        terms.run_budgets,
        terms.when_redis_is_away,
        terms.weight,
        terms.max_priority,
        terms.when_busy,
        terms.callback_hosts,
        terms.callback_secret_env,
        terms.record_content,
    )


@functools.lru_cache(SHARED)
def team_terms(name: str, said: str) -> TeamTerms:
    return TeamTerms(name, of_text(Team, said).budgets)
