"""Alerts on both databases: owed once, taken by one, in order, and until they are told."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from stoker.meter.alerts import Alert, AlertStore
from stoker.meter.store import Store


@pytest.fixture
def alerts(store: Store) -> AlertStore:
    return AlertStore(store)


def an_alert(threshold: int = 500_000, **changed: object) -> Alert:
    made = Alert(
        channel="webhook",
        counter="tenant:acme:tokens:day:2027-01-15",
        limit=1000,
        threshold=threshold,
        body="{}",
        raised_at=100.0,
        ends_at=200.0,
        due_at=100.0,
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def test_what_was_raised_before_stays_as_it_is(alerts: AlertStore) -> None:
    alerts.raise_all([an_alert(body="first"), an_alert(body="first", channel="sns")])
    alerts.raise_all([an_alert(body="second", raised_at=150.0), an_alert(limit=2000, body="other", raised_at=150.0)])
    assert [(each.channel, each.limit, each.body) for each in alerts.all()] == [
        ("sns", 1000, "first"),
        ("webhook", 1000, "first"),
        ("webhook", 2000, "other"),
    ]
    alerts.raise_all([])


def test_the_lowest_that_waits_is_taken_by_one_until_its_lease_is_over(alerts: AlertStore) -> None:
    alerts.raise_all([an_alert(800_000), an_alert(), an_alert(channel="sns", counter="key:k:tokens:total")])
    assert alerts.take(99.0, lease_s=60, most=10) == []
    taken = alerts.take(100.0, lease_s=60, most=10)
    assert [(each.channel, each.threshold, each.tries) for each in taken] == [
        ("sns", 500_000, 0),
        ("webhook", 500_000, 0),
    ]
    assert alerts.take(159.0, lease_s=60, most=10) == []
    [again, _] = alerts.take(160.0, lease_s=60, most=10)
    assert again.tries == 1


def test_told_in_order_put_off_and_given_up(alerts: AlertStore) -> None:
    alerts.raise_all([an_alert(each) for each in (500_000, 800_000, 1_000_000)])
    [first] = alerts.take(100.0, lease_s=60, most=10)
    alerts.again(first, due_at=110.0, error="it is down " * 100)
    assert alerts.take(109.0, lease_s=60, most=10) == []
    [first] = alerts.take(110.0, lease_s=60, most=10)
    alerts.told(first, 111.0)
    [second] = alerts.take(111.0, lease_s=60, most=10)
    alerts.failed(second, "gone")
    [third] = alerts.take(111.0, lease_s=60, most=1)
    assert [each.threshold for each in (first, second, third)] == [500_000, 800_000, 1_000_000]
    assert [each.state for each in alerts.all()] == ["told", "failed", "waiting"]


def test_the_last_of_each_counter_on_each_channel(alerts: AlertStore) -> None:
    alerts.raise_all([an_alert(each, channel=channel) for each in (500_000, 800_000) for channel in ("sns", "webhook")])
    found = alerts.latest(["tenant:acme:tokens:day:2027-01-15", "key:k:tokens:total"])
    assert [(each.channel, each.threshold) for each in found.pop("tenant:acme:tokens:day:2027-01-15")] == [
        ("sns", 800_000),
        ("webhook", 800_000),
    ]
    assert found == {}


def test_those_of_a_window_are_forgotten_after_it_and_those_of_a_total_never(alerts: AlertStore) -> None:
    alerts.raise_all([an_alert(), an_alert(counter="key:k:tokens:total", ends_at=None)])
    assert alerts.forget(200.0) == 0
    assert alerts.forget(1e12) == 1
    assert [each.counter for each in alerts.all()] == ["key:k:tokens:total"]


class Overtaken:
    """A store whose writer is overtaken, between what it has read and what it writes."""

    def __init__(self, store: Store, by: Callable[[], object]) -> None:
        self.is_postgresql, self.reading = store.is_postgresql, store.reading
        self._store, self._by = store, by

    def transaction(self) -> AbstractContextManager[Connection]:
        self._by()
        return self._store.transaction()


def test_of_two_who_see_the_same_one_takes_it(store: Store, alerts: AlertStore) -> None:
    alerts.raise_all([an_alert()])
    first: list[Alert] = []
    late = AlertStore(Overtaken(store, lambda: first.extend(alerts.take(100.0, lease_s=60, most=10))))  # type: ignore[arg-type]
    assert late.take(100.0, lease_s=60, most=10) == []
    assert len(first) == 1
