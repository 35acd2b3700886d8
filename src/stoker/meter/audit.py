"""Who changed what: a record for each change that an admin's key made, or was refused.

A change in this store and its record are one transaction: whoever makes the change calls `write` in it. A change
elsewhere (a task in Redis) has its record before it is made (`begin`, with the result `begun`) and its result after it
(`end`), so one whose process died in between stands there as begun. Records hold no secret: they are made of what lists
show, and what stands in a path is left out where it looks like a key.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from stoker.base.clock import Clock, SystemClock
from stoker.base.ids import new_id
from stoker.meter.store import Store
from stoker.meter.tables import audit

Json = dict[str, Any]

DONE, BEGUN = "done", "begun"
"""Results; another one is the code of the error with which the change was refused."""
OBJECT_CHARS = 200
_SECRET = re.compile(r"(?<![A-Za-z0-9])sk-")  # as keys begin; a tenant may be called help-desk-2


@dataclass(slots=True)
class Change:
    """What the admin's key `key_id` asks for with a request. `did` is a word such as `keys.revoke`; `object` says of
    what, by its kind and its name: `key:key_1`, `team:acme/agents`. Whoever makes it completes both, where that was
    not known before."""

    key_id: str
    request_id: str
    did: str
    object: str

    def __post_init__(self) -> None:
        kind, _, name = self.object.partition(":")
        shown = "(a secret)" if _SECRET.search(name) else "".join(char if char.isprintable() else "?" for char in name)
        self.object = f"{kind}:{shown}"[:OBJECT_CHARS] if name else kind


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """`at`: seconds since the epoch. `before`, `after`: of what was changed the part that differs; None: it was not
    there before, or is not after."""

    id: str
    at: float
    key_id: str
    request_id: str
    did: str
    object: str
    result: str
    before: Json | None
    after: Json | None


def write(
    connection: Connection,
    change: Change,
    at: float,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    result: str = DONE,
) -> str:
    """The record of a change, in its transaction; its id."""
    record_id = new_id("audit", at)
    old, new = _difference(before, after)
    connection.execute(
        insert(audit).values(
            id=record_id,
            at=at,
            key_id=change.key_id,
            request_id=change.request_id,
            did=change.did,
            object=change.object,
            result=result[:64],
            before=_text(old),
            after=_text(new),
        )
    )
    return record_id


class AuditTrail:
    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock or SystemClock()

    def begin(self, change: Change) -> str:
        """The record of a change that is about to be made elsewhere; its id."""
        with self._store.transaction() as connection:
            return write(connection, change, self._clock.now(), result=BEGUN)

    def end(self, record_id: str, result: str = DONE, *, before: Json | None = None, after: Json | None = None) -> None:
        """What became of it."""
        old, new = _difference(before, after)
        values = {"result": result[:64], "before": _text(old), "after": _text(new)}
        with self._store.transaction() as connection:
            connection.execute(update(audit).where(audit.c.id == record_id).values(values))

    def refused(self, change: Change, code: str) -> None:
        """The record of a change that was not made."""
        with self._store.transaction() as connection:
            write(connection, change, self._clock.now(), result=code)

    def page(
        self,
        *,
        key_id: str | None = None,
        did: str | None = None,
        object: str | None = None,
        since: float | None = None,
        until: float | None = None,
        after: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[AuditRecord]:
        """The newest first, from the one after the time and the id `after`. `did` and `object` may end with `*`: all
        that begin so.
        `since` and `until`: seconds since the epoch; the second one is not in it."""
        query = select(audit).order_by(audit.c.at.desc(), audit.c.id.desc()).limit(limit)
        if key_id is not None:
            query = query.where(audit.c.key_id == key_id)
        for column, wanted in ((audit.c.did, did), (audit.c.object, object)):
            if wanted is None:
                continue
            all_that_begin = column.startswith(wanted.removesuffix("*"), autoescape=True)
            query = query.where(all_that_begin if wanted.endswith("*") else column == wanted)
        if since is not None:
            query = query.where(audit.c.at >= since)
        if until is not None:
            query = query.where(audit.c.at < until)
        if after is not None:
            at, record_id = after
            query = query.where(or_(audit.c.at < at, and_(audit.c.at == at, audit.c.id < record_id)))
        with self._store.reading() as connection:
            return [_record(row) for row in connection.execute(query)]

    def prune(self, before: float) -> int:
        """Forget what is older; how many that were."""
        with self._store.transaction() as connection:
            return connection.execute(delete(audit).where(audit.c.at < before)).rowcount


def _difference(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Of what is there before and after, only what has changed, on every level."""
    if before is None or after is None:
        return before, after
    old: Json = {}
    new: Json = {}
    for name in {**before, **after}:
        was, now = before.get(name), after.get(name)
        if isinstance(was, dict) and isinstance(now, dict):
            was, now = _difference(was, now)
        if was != now:
            old[name], new[name] = was, now
    return old, new


def _text(said: Mapping[str, Any] | None) -> str | None:
    return None if said is None else json.dumps(said, separators=(",", ":"))


def _record(row: Any) -> AuditRecord:
    said = {name: getattr(row, name) for name in ("id", "at", "key_id", "request_id", "did", "object", "result")}
    before, after = (None if text is None else json.loads(text) for text in (row.before, row.after))
    return AuditRecord(**said, before=before, after=after)
