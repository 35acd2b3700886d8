"""Keys: who may call. Only the SHA-256 of a key is kept: it has 256 random bits, so there is nothing to guess."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import insert, select, update

from stoker.base.clock import Clock, SystemClock
from stoker.base.errors import Conflict, NotFound
from stoker.base.ids import new_id
from stoker.meter.store import Store, keys

Role = Literal["user", "admin"]


@dataclass(frozen=True, slots=True)
class Key:
    """What a key is known by; never the key itself."""

    id: str
    tenant: str
    name: str
    role: Role
    created_at: float


def new_key() -> str:
    """A fresh secret; shown once to its owner and never stored by the platform's services."""
    return "sk-stoker-" + secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class KeyStore:
    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock or SystemClock()

    def ensure(self, key: str, *, tenant: str, name: str, role: Role) -> Key:
        """Make `key` known if it is not yet; the same key twice is the same record. Raises Conflict for one that was
        revoked."""
        found = self.find(key)
        if found is not None:
            return found
        if self._was_revoked(key):
            raise Conflict("this key was revoked; a revoked key stays so", hint="make a new one")
        made = Key(new_id("key"), tenant, name, role, self._clock.now())
        with self._store.transaction() as connection:
            connection.execute(
                insert(keys).values(
                    id=made.id,
                    hash=hash_of(key),
                    tenant=made.tenant,
                    name=made.name,
                    role=made.role,
                    created_at=made.created_at,
                )
            )
        return made

    def find(self, key: str) -> Key | None:
        """The record of a key that may be used now. Looking up a hash leaks nothing that timing could tell."""
        query = select(keys.c.id, keys.c.tenant, keys.c.name, keys.c.role, keys.c.created_at)
        query = query.where(keys.c.hash == hash_of(key), keys.c.revoked_at.is_(None))
        with self._store.transaction() as connection:
            row = connection.execute(query).first()
        return None if row is None else Key(*row)

    def _was_revoked(self, key: str) -> bool:
        query = select(keys.c.id).where(keys.c.hash == hash_of(key), keys.c.revoked_at.is_not(None))
        with self._store.transaction() as connection:
            return connection.execute(query).first() is not None

    def revoke(self, key_id: str) -> None:
        """Raises NotFound when there is no such key in use."""
        with self._store.transaction() as connection:
            done = connection.execute(
                update(keys)
                .where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
                .values(revoked_at=self._clock.now())
            )
        if done.rowcount == 0:
            raise NotFound(f"there is no key {key_id!r} in use")
