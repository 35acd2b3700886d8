"""Alerts of budgets: each is owed to a channel once, until it was told or given up. Several gateways may raise the same
one and look for what is due; the primary key and a lease see to it that it is told once, unless its teller died."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite

from stoker.meter.store import Store
from stoker.meter.tables import alerts

WAITING, TOLD, FAILED = "waiting", "told", "failed"
_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """`threshold`: in millionths of `limit`. `ends_at`: when the counter's window is over; None: never. `tries`: how
    often it was taken to be told. Times are seconds since the epoch."""

    channel: str
    counter: str
    limit: int
    threshold: int
    body: str
    raised_at: float
    ends_at: float | None
    state: str = WAITING
    tries: int = 0
    due_at: float = 0.0


class AlertStore:
    def __init__(self, store: Store) -> None:
        self._store = store
        dialect = postgresql if store.is_postgresql else sqlite
        self._insert = dialect.insert(alerts).on_conflict_do_nothing()

    def raise_all(self, raised: Sequence[Alert]) -> None:
        """Those that were raised before stay as they are. On disk when it returns."""
        if raised:
            rows = [
                {
                    "channel": each.channel,
                    "counter": each.counter,
                    "amount": each.limit,
                    "threshold": each.threshold,
                    "body": each.body,
                    "raised_at": each.raised_at,
                    "ends_at": each.ends_at,
                    "state": WAITING,
                    "tries": 0,
                    "due_at": each.raised_at,
                }
                for each in raised
            ]
            # In one order, so that two who raise the same ones wait for each other and never both.
            rows.sort(key=lambda row: (str(row["channel"]), str(row["counter"]), str(row["threshold"])))
            with self._store.transaction() as connection:
                connection.execute(self._insert, rows)

    def take(
        self, now: float, *, lease_s: float, most: int, channel: str | None = None, but: Sequence[str] = ()
    ) -> list[Alert]:
        """What is due, taken for `lease_s`: of each counter and channel the lowest threshold that waits, so that they
        are told in order. Whoever took it says `told`, `again` or `failed`, or dies, and it is due again. `channel`:
        of this one alone; `but`: of none of these."""
        lower = alerts.alias()
        is_blocked = exists().where(
            lower.c.channel == alerts.c.channel,
            lower.c.counter == alerts.c.counter,
            lower.c.amount == alerts.c.amount,
            lower.c.threshold < alerts.c.threshold,
            lower.c.state == WAITING,
        )
        due = and_(alerts.c.state == WAITING, alerts.c.due_at <= now, alerts.c.channel.not_in(but))
        if channel is not None:
            due = and_(due, alerts.c.channel == channel)
        query = select(alerts).where(due, ~is_blocked).order_by(alerts.c.due_at, alerts.c.counter).limit(most)
        with self._store.reading() as connection:
            found = [_alert(row) for row in connection.execute(query)]
        if not found:
            return []
        taken = []
        with self._store.transaction() as connection:
            for each in found:
                # Who came first has changed `tries`.
                mine = connection.execute(
                    update(alerts)
                    .where(_is(each), alerts.c.state == WAITING, alerts.c.tries == each.tries)
                    .values(tries=each.tries + 1, due_at=now + lease_s)
                )
                if mine.rowcount == 1:
                    taken.append(each)
        return taken

    def told(self, alert: Alert, now: float) -> None:
        self._change(alert, state=TOLD, told_at=now, error=None)

    def again(self, alert: Alert, *, due_at: float, error: str) -> None:
        self._change(alert, due_at=due_at, error=error[:200])

    def failed(self, alert: Alert, error: str) -> None:
        """It is given up."""
        self._change(alert, state=FAILED, error=error[:200])

    def latest(self, counters: Sequence[str]) -> dict[str, list[Alert]]:
        """Of each counter that had one, the alert that was raised last: one for each channel."""
        found: dict[str, list[Alert]] = {}
        rest = iter(counters)
        with self._store.reading() as connection:
            while part := list(islice(rest, _AT_ONCE)):
                query = select(alerts).where(alerts.c.counter.in_(part))
                for row in connection.execute(query.order_by(alerts.c.raised_at, alerts.c.threshold)):
                    alert = _alert(row)
                    had = found.setdefault(alert.counter, [])
                    if had and (had[0].limit, had[0].threshold) != (alert.limit, alert.threshold):
                        had.clear()
                    had.append(alert)
        return found

    def forget(self, before: float) -> int:
        """Those of windows that were over then, told or not; how many."""
        with self._store.transaction() as connection:
            return connection.execute(delete(alerts).where(alerts.c.ends_at < before)).rowcount

    def all(self) -> Iterator[Alert]:
        with self._store.reading() as connection:
            yield from map(_alert, connection.execute(select(alerts).order_by(alerts.c.raised_at, alerts.c.threshold)))

    def _change(self, alert: Alert, **values: object) -> None:
        with self._store.transaction() as connection:
            connection.execute(update(alerts).where(_is(alert)).values(**values))


def _is(alert: Alert) -> ColumnElement[bool]:
    return and_(
        alerts.c.channel == alert.channel,
        alerts.c.counter == alert.counter,
        alerts.c.amount == alert.limit,
        alerts.c.threshold == alert.threshold,
    )


def _alert(row: Row[Any]) -> Alert:
    said = row._mapping
    return Alert(
        channel=said["channel"],
        counter=said["counter"],
        limit=said["amount"],
        threshold=said["threshold"],
        body=said["body"],
        raised_at=said["raised_at"],
        ends_at=said["ends_at"],
        state=said["state"],
        tries=said["tries"],
        due_at=said["due_at"],
    )
