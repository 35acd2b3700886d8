"""Keys: who may call. Only the SHA-256 of a secret is kept: it has 256 random bits, so there is nothing to guess.

A key has one id for its whole life, and one secret at a time; rotating it gives it another, and what it has spent stays
spent. Secrets are remembered (as hashes) for ever, so that one that was replaced or revoked never comes to life again.
"""

import functools
import hashlib
import json
import secrets as random_secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, insert, or_, select, update

from stoker.base.clock import Clock, SystemClock
from stoker.base.errors import Conflict, NotFound
from stoker.base.ids import new_id
from stoker.meter import audit
from stoker.meter.accounts import Account, Role
from stoker.meter.audit import Change
from stoker.meter.store import Store
from stoker.meter.tables import keys, revisions, secrets, teams, tenants
from stoker.meter.tenants import add_team, add_tenant, lock, team_terms, tenant_terms, touch
from stoker.meter.texts import of_text, text_of
from stoker.policy.budgets import Scope
from stoker.spec import NO_BUDGETS, Budgets, plain

PREFIX_LENGTH = 14
"""Characters of a secret that lists show, to recognise it by: `sk-stoker-` and four of its 43 random ones."""
_LONG_ENOUGH = 40  # of a secret that is shorter, the first characters would give too much away


@dataclass(frozen=True, slots=True)
class Key:
    """What a key is known by; never its secret. Times are seconds since the epoch. `models` and `routes`: those that
    it may use, None for all."""

    id: str
    tenant: str
    name: str
    role: Role
    created_at: float
    team: str | None = None
    prefix: str = ""
    budgets: Budgets = NO_BUDGETS
    models: tuple[str, ...] | None = None
    routes: tuple[str, ...] | None = None
    rotated_at: float | None = None
    expires_at: float | None = None
    revoked_at: float | None = None

    def state(self, now: float) -> str:
        """`in use`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "in use"


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A key with its secret, which nobody can be told again; and what had to be made for it."""

    key: Key
    secret: str
    made_tenant: bool = False
    made_team: bool = False

    def __repr__(self) -> str:
        return f"NewSecret({self.key.id}, ...)"


def new_key() -> str:
    """A fresh secret; shown once to its owner and never stored by the platform's services."""
    return "sk-stoker-" + random_secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class KeyStore:
    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock or SystemClock()

    # --- for the gateway ----------------------------------------------------------------------------------------------

    def find(self, secret: str) -> Account | None:
        """The account of a key that may be used now. Looking up a hash leaks nothing that timing could tell."""
        with self._store.reading() as connection:
            row = connection.execute(_FIND, {"hash": hash_of(secret)}).first()
        account = None if row is None or row.revoked_at is not None else _account(row)
        return None if account is None or account.has_expired(self._clock.now()) else account

    def account_of(self, key_id: str) -> Account:
        """The account of a key, for what it began and is to go on in its name. Raises NotFound; Conflict for one that
        was revoked or has expired."""
        with self._store.reading() as connection:
            row = connection.execute(_FIND_BY_ID, {"id": key_id}).first()
        if row is None:
            raise NotFound(f"there is no key {key_id!r}", hint="`stoker keys list` shows those there are")
        # Whichever of its secrets the row is of, the key's own expiry counts.
        account = replace(_account(row), expires_at=row.expires_at)
        if row.revoked_at is not None or account.has_expired(self._clock.now()):
            ended = "has expired" if row.revoked_at is None else "was revoked"
            raise Conflict(f"key {key_id} {ended}: nothing is begun in its name any more", code="key_not_in_use")
        return account

    def revision(self) -> int:
        """Grows with each change after which an account that `find` gave is old, and with no other."""
        with self._store.reading() as connection:
            return int(connection.execute(_REVISION).scalar_one())

    # --- for those who look after them --------------------------------------------------------------------------------

    def create(
        self,
        tenant: str,
        *,
        name: str = "",
        role: Role = "user",
        team: str | None = None,
        budgets: Budgets = NO_BUDGETS,
        models: Iterable[str] | None = None,
        routes: Iterable[str] | None = None,
        expires_at: float | None = None,
        by: Change | None = None,
    ) -> NewSecret:
        """A new key. The tenant and the team are made when they are not there, without limits. `by`, here and below:
        who asked for it, for the audit log."""
        secret, now = new_key(), self._clock.now()
        made = Key(
            id=new_id("key", now),
            tenant=tenant,
            name=name,
            role=role,
            created_at=now,
            team=team,
            prefix=_prefix(secret),
            budgets=budgets,
            models=_sorted(models),
            routes=_sorted(routes),
            expires_at=expires_at,
        )
        with self._store.transaction() as connection:
            made_tenant, made_team = _add(connection, made, secret)
            if by is not None:
                shown = {**_audited(made), "made_tenant": made_tenant, "made_team": made_team}
                by.object = f"key:{made.id}"
                audit.write(connection, by, now, after=shown)
        return NewSecret(made, secret, made_tenant, made_team)

    def ensure(self, key: str, *, tenant: str, name: str, role: Role) -> Key:
        """Make the secret `key` known if it is not yet; the same one twice is the same record. Raises Conflict for one
        that was revoked, replaced, or has expired."""
        now = self._clock.now()
        with self._store.transaction() as connection:
            lock(connection)
            known = select(*_COLUMNS, secrets.c.valid_until).join(secrets, secrets.c.key_id == keys.c.id)
            row = connection.execute(known.where(secrets.c.hash == hash_of(key))).first()
            if row is None:
                made = Key(new_id("key", now), tenant, name, role, now, prefix=_prefix(key))
                _add(connection, made, key)
                return made
        found = _key(row)
        if found.state(now) != "in use" or row.valid_until is not None:
            what = "replaced by another secret" if found.state(now) == "in use" else found.state(now)
            raise Conflict(f"key {found.id} was {what}", hint="make a new one")
        return found

    def get(self, key_id: str) -> Key:
        """Raises NotFound."""
        with self._store.reading() as connection:
            return _get(connection, key_id)

    def list(
        self,
        *,
        tenant: str | None = None,
        team: str | None = None,
        ended: bool = True,
        after: str | None = None,
        limit: int = 1000,
    ) -> list[Key]:
        """The oldest first, from the one after the id `after`. `ended`: with those that cannot be used any more."""
        query = select(*_COLUMNS).order_by(keys.c.id).limit(limit)
        if tenant is not None:
            query = query.where(keys.c.tenant == tenant)
        if team is not None:
            query = query.where(keys.c.team == team)
        if after is not None:
            query = query.where(keys.c.id > after)
        if not ended:
            query = query.where(_in_use(self._clock.now()))
        with self._store.reading() as connection:
            return [_key(row) for row in connection.execute(query)]

    def budgets(self) -> dict[Scope, Budgets]:
        """Of each key in use that has any."""
        query = select(keys.c.id, keys.c.budgets).where(keys.c.budgets != _NONE, _in_use(self._clock.now()))
        with self._store.reading() as connection:
            return {Scope("key", row.id): of_text(Budgets, row.budgets) for row in connection.execute(query)}

    def change(self, key_id: str, make: Callable[[Key], Key], *, by: Change | None = None) -> Key:
        """Replace its name, budgets, models, routes and expiry by what `make` makes of it. Raises NotFound; Conflict
        when it was revoked."""
        with self._store.transaction() as connection:
            lock(connection)
            found = _get(connection, key_id)
            _refuse_revoked(found)
            made = make(found)
            after = replace(
                found,
                name=made.name,
                budgets=made.budgets,
                models=_sorted(made.models),
                routes=_sorted(made.routes),
                expires_at=made.expires_at,
            )
            if after != found:
                values = {
                    "name": after.name,
                    "budgets": text_of(after.budgets),
                    "models": _names_text(after.models),
                    "routes": _names_text(after.routes),
                    "expires_at": after.expires_at,
                }
                connection.execute(update(keys).where(keys.c.id == key_id).values(values))
                touch(connection)
            if by is not None:
                audit.write(connection, by, self._clock.now(), before=_audited(found), after=_audited(after))
            return after

    def rotate(self, key_id: str, *, grace_s: float = 0.0, by: Change | None = None) -> NewSecret:
        """Another secret for the key. The one that it had works for `grace_s` seconds more, older ones end now. Raises
        NotFound; Conflict when the key cannot be used any more."""
        secret, now = new_key(), self._clock.now()
        with self._store.transaction() as connection:
            lock(connection)
            found = _get(connection, key_id)
            if found.state(now) != "in use":
                raise Conflict(f"key {key_id} is {found.state(now)}; only one in use can be rotated")
            mine = secrets.c.key_id == key_id
            older = and_(mine, secrets.c.valid_until > now)
            connection.execute(update(secrets).where(older).values(valid_until=now))
            current = and_(mine, secrets.c.valid_until.is_(None))
            connection.execute(update(secrets).where(current).values(valid_until=now + grace_s))
            connection.execute(insert(secrets).values(hash=hash_of(secret), key_id=key_id, valid_until=None))
            changed = replace(found, prefix=_prefix(secret), rotated_at=now)
            given = {"prefix": changed.prefix, "rotated_at": now}
            connection.execute(update(keys).where(keys.c.id == key_id).values(given))
            touch(connection)
            if by is not None:
                old = {"rotated_at": found.rotated_at}
                audit.write(connection, by, now, before=old, after={"rotated_at": now, "grace_seconds": grace_s})
        return NewSecret(changed, secret)

    def revoke(self, key_id: str, *, by: Change | None = None) -> Key:
        """For ever. Raises NotFound when there is no such key in use; Conflict for the last admin key, after which
        nobody could look after the platform."""
        now = self._clock.now()
        with self._store.transaction() as connection:
            lock(connection)
            found = connection.execute(
                select(*_COLUMNS).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
            ).first()
            if found is None:
                raise NotFound(f"there is no key {key_id!r} in use")
            if found.role == "admin":
                others = select(func.count()).where(keys.c.role == "admin", keys.c.id != key_id, _in_use(now))
                if connection.execute(others).scalar_one() == 0:
                    raise Conflict(
                        f"key {key_id} is the last admin key; without one nobody could make keys any more",
                        hint="make another first: stoker keys create --role admin --tenant TENANT",
                    )
            connection.execute(update(keys).where(keys.c.id == key_id).values(revoked_at=now))
            touch(connection)
            if by is not None:
                audit.write(connection, by, now, before={"revoked_at": None}, after={"revoked_at": now})
        return replace(_key(found), revoked_at=now)


_COLUMNS = [keys.c[each.name] for each in fields(Key)]
_NONE = text_of(NO_BUDGETS)
_REVISION = select(revisions.c.number).where(revisions.c.subject == "accounts")


def _in_use(now: float) -> Any:
    return and_(keys.c.revoked_at.is_(None), or_(keys.c.expires_at.is_(None), keys.c.expires_at > now))


def _find_query() -> Any:
    """By the primary key of each table. Built once: building it takes longer than running it."""
    return (
        select(
            keys.c.id,
            keys.c.name,
            keys.c.role,
            keys.c.budgets,
            keys.c.models,
            keys.c.routes,
            keys.c.expires_at,
            keys.c.revoked_at,
            secrets.c.valid_until,
            tenants.c.name.label("tenant"),
            tenants.c.terms.label("tenant_terms"),
            teams.c.name.label("team"),
            teams.c.terms.label("team_terms"),
        )
        .select_from(secrets)
        .join(keys, keys.c.id == secrets.c.key_id)
        .join(tenants, tenants.c.name == keys.c.tenant)
        .join(teams, and_(teams.c.tenant == keys.c.tenant, teams.c.name == keys.c.team), isouter=True)
    )


_FIND = _find_query().where(secrets.c.hash == bindparam("hash"))
_FIND_BY_ID = _find_query().where(keys.c.id == bindparam("id")).limit(1)


def _account(row: Any) -> Account:
    ends = [end for end in (row.expires_at, row.valid_until) if end is not None]
    return Account(
        id=row.id,
        name=row.name,
        role=row.role,
        tenant_terms=tenant_terms(row.tenant, row.tenant_terms),
        team_terms=None if row.team is None else team_terms(row.team, row.team_terms),
        budgets_text=_common(row.budgets),
        models=_names(row.models),
        routes=_names(row.routes),
        expires_at=min(ends) if ends else None,
    )


@functools.lru_cache(4096)
def _common(said: str) -> str:
    """One text for all keys that have the same."""
    return said


def _add(connection: Connection, key: Key, secret: str) -> tuple[bool, bool]:
    """Whether its tenant, and its team, had to be made."""
    made_tenant = add_tenant(connection, key.tenant, key.created_at)
    made_team = key.team is not None and add_team(connection, key.tenant, key.team, key.created_at)
    values = {column.name: getattr(key, column.name) for column in _COLUMNS}
    values |= {"budgets": text_of(key.budgets), "models": _names_text(key.models), "routes": _names_text(key.routes)}
    connection.execute(insert(keys).values(values))
    connection.execute(insert(secrets).values(hash=hash_of(secret), key_id=key.id, valid_until=None))
    return made_tenant, made_team


def _audited(key: Key) -> dict[str, Any]:
    """What the audit log says of a key: nothing of its secret."""
    return {
        "tenant": key.tenant,
        "team": key.team,
        "name": key.name,
        "role": key.role,
        "budgets": plain(key.budgets),
        "models": None if key.models is None else list(key.models),
        "routes": None if key.routes is None else list(key.routes),
        "expires_at": key.expires_at,
    }


def _get(connection: Connection, key_id: str) -> Key:
    row = connection.execute(select(*_COLUMNS).where(keys.c.id == key_id)).first()
    if row is None:
        raise NotFound(f"there is no key {key_id!r}", hint="`stoker keys list` shows those there are")
    return _key(row)


def _refuse_revoked(key: Key) -> None:
    if key.revoked_at is not None:
        raise Conflict(f"key {key.id} was revoked; a revoked key stays so", hint="make a new one")


def _key(row: Any) -> Key:
    given = {column.name: getattr(row, column.name) for column in _COLUMNS}
    given["budgets"] = of_text(Budgets, row.budgets)
    given["models"], given["routes"] = _sorted(_names(row.models)), _sorted(_names(row.routes))
    return Key(**given)


def _prefix(secret: str) -> str:
    return secret[:PREFIX_LENGTH] if len(secret) >= _LONG_ENOUGH else ""


def _sorted(names: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(sorted(set(names)))


def _names_text(names: tuple[str, ...] | None) -> str | None:
    return None if names is None else json.dumps(names, separators=(",", ":"))


@functools.lru_cache(4096)
def _names(said: str | None) -> frozenset[str] | None:
    """One object for all keys that may use the same."""
    return None if said is None else frozenset(json.loads(said))
