"""What the ledger promises, on SQLite and on PostgreSQL: each record once and exact, sums that pruning leaves alone."""

import random
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import psycopg
import pytest
from meter_builders import DAY, a_record, at_once
from sqlalchemy import event

from stoker.base.errors import InvalidInput, Unavailable
from stoker.meter.ledger import Ledger, Spent, UsageRow, _spent_by
from stoker.meter.store import Store
from stoker.policy.budgets import ScopeKind

TODAY = date(1970, 4, 11)  # day 100 since the epoch


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)


# --- append -----------------------------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was(ledger: Ledger) -> None:
    nothing = dict.fromkeys(("session", "run", "team", "replica", "route", "first_token_at", "reason"))
    records = [
        a_record(1, reason="client went away"),
        a_record(2, **nothing),
        a_record(3, nano_usd=2**62, prompt_tokens=2**31 - 1, cached_tokens=2**31 - 1, completion_tokens=2**31 - 1),
        a_record(4, nano_usd=0, prompt_tokens=0, cached_tokens=0, completion_tokens=0),
        a_record(5, started_at=1753000000.1, first_token_at=1753000000.1000001, ended_at=1753000000.3000002),
        a_record(6, session="Sitzung/ü-日本-🔥", ended_at=1753000001.0),
    ]
    ledger.append(records)
    assert ledger.records() == records
    assert ledger.records(["req_2"]) == [records[1]]
    assert ledger.records([]) == []


def test_a_record_that_is_delivered_twice_is_kept_once_as_it_was_first(ledger: Ledger) -> None:
    first = a_record(1)
    ledger.append([first, first])
    ledger.append([replace(first, completion_tokens=999), a_record(2)])
    ledger.append([])
    assert ledger.records() == [first, a_record(2)]


def test_a_batch_is_stored_whole_or_not_at_all(ledger: Ledger) -> None:
    with pytest.raises(Unavailable) as caught:
        ledger.append([a_record(1), a_record(2, key_id=None), a_record(3)])
    assert "null" in caught.value.message.lower()
    assert "acme" not in caught.value.message  # nor anything else of the row
    assert ledger.records() == []


def test_what_a_column_cannot_hold_is_cut_and_holds_up_nothing(ledger: Ledger) -> None:
    ledger.append([a_record(1, reason="ü" * 201, session="a\0b\ud800", prompt_tokens=2**31), a_record(2)])
    found = ledger.records()
    assert (found[0].reason, found[0].session, found[0].prompt_tokens) == ("ü" * 200, "ab?", 2**31 - 1)
    assert found[1] == a_record(2)


def test_the_same_records_from_many_at_once_are_kept_once(store: Store, ledger: Ledger) -> None:
    """As when gateways that start take over what another one had read: in batches, each in an order of its own."""
    records = [a_record(number) for number in range(400)]

    def deliver(seed: int) -> None:
        mine = list(records)
        random.Random(seed).shuffle(mine)
        for start in range(0, len(mine), 100):
            ledger.append(mine[start : start + 100])

    assert at_once([partial(deliver, seed) for seed in range(4)]) == [None] * 4
    assert sorted(record.id for record in ledger.records()) == sorted(record.id for record in records)
    assert ledger.spent("tenant", "acme", "acme") == Spent(400, 400 * 15, 400 * 2100)


# --- sums -------------------------------------------------------------------------------------------------------------


def test_sums_by_tenant_model_and_session(ledger: Ledger) -> None:
    ledger.append(
        [
            a_record(1),
            a_record(2),
            a_record(3, session=None),
            a_record(4, tenant="zeta", ended_at=200.0),
            a_record(5, model="code"),
        ]
    )
    assert ledger.rows() == [
        UsageRow("acme", "code", "s", 1, 10, 4, 5, 2100),
        UsageRow("acme", "general", None, 1, 10, 4, 5, 2100),
        UsageRow("acme", "general", "s", 2, 20, 8, 10, 4200),
        UsageRow("zeta", "general", "s", 1, 10, 4, 5, 2100),
    ]
    assert ledger.rows(tenant="zeta") == ledger.rows(since=200.0) == ledger.rows()[3:]
    assert ledger.rows(since=200.1) == ledger.rows(tenant="nobody") == []


def test_sums_are_exact_up_to_the_largest_integer(ledger: Ledger) -> None:
    ledger.append([a_record(1, nano_usd=2**62), a_record(2, nano_usd=2**62 - 1)])
    assert ledger.rows()[0].nano_usd == ledger.spent("key", "acme", "key_1").nano_usd == 2**63 - 1


@pytest.mark.parametrize(
    ("kind", "name", "numbers"),
    [
        ("tenant", "acme", {1, 2, 3, 4}),
        ("key", "key_1", {1, 3, 4}),
        ("team", "search", {1, 2, 4}),
        ("session", "s", {1, 2, 3}),
        ("run", "r", {2, 3, 4}),
    ],
)
def test_what_each_kind_of_scope_has_spent(ledger: Ledger, kind: ScopeKind, name: str, numbers: set[int]) -> None:
    """Record n costs 10^n nano-dollars, so each sum says which records are in it."""
    ledger.append(
        [
            a_record(1, nano_usd=10, run=None, ended_at=10.0),
            a_record(2, nano_usd=100, key_id="key_2", ended_at=20.0),
            a_record(3, nano_usd=1000, team=None, ended_at=30.0),
            a_record(4, nano_usd=10_000, session="other", ended_at=40.0),
            a_record(5, nano_usd=100_000, tenant="zeta", ended_at=50.0),
        ]
    )
    for since, within in ((None, {1, 2, 3, 4}), (20.0, {2, 3, 4}), (20.5, {3, 4}), (41.0, set())):
        counted = numbers & within
        expected = Spent(len(counted), 15 * len(counted), sum(10**number for number in counted))
        assert ledger.spent(kind, "acme", name, since=since) == expected
    assert ledger.spent(kind, "acme", "nobody") == Spent(0, 0, 0)


# --- pages ------------------------------------------------------------------------------------------------------------


def test_pages_are_in_the_order_of_their_ends_and_meet_without_a_gap(ledger: Ledger) -> None:
    ends = {1: 30.0, 2: 10.0, 3: 20.0, 4: 20.0, 5: 20.0, 6: 40.0}
    ledger.append([a_record(number, ended_at=end) for number, end in ends.items()])
    pages, after = [], None
    while page := ledger.page(after=after, limit=2):
        pages.append([record.id for record in page])
        after = (page[-1].ended_at, page[-1].id)
    assert pages == [["req_2", "req_3"], ["req_4", "req_5"], ["req_1", "req_6"]]


def test_a_page_is_narrowed_by_time_and_tenant(ledger: Ledger) -> None:
    ledger.append([a_record(number, ended_at=number * 10.0, tenant="a" if number % 2 else "b") for number in range(6)])

    def ids(**asked: Any) -> list[str]:
        return [record.id for record in ledger.page(**asked)]

    assert ids(since=20.0, until=40.0) == ["req_2", "req_3"]
    assert ids(tenant="a") == ["req_1", "req_3", "req_5"]
    assert ids(tenant="a", since=10.1, until=50.0) == ["req_3"]
    assert ids(after=(30.0, "req_3"), until=50.0) == ["req_4"]
    assert ids(since=51.0) == []


# --- pruning ----------------------------------------------------------------------------------------------------------


def some_days(ledger: Ledger) -> None:
    """Five records in days 10, 11 and 80 (which is within the 31 days that are kept)."""
    ledger.append(
        [
            a_record(1, ended_at=10 * DAY, nano_usd=2**62),
            a_record(2, ended_at=11 * DAY - 1e-3, team=None, session=None),
            a_record(3, ended_at=11 * DAY, key_id="key_2"),
            a_record(4, ended_at=11.5 * DAY, model="code"),
            a_record(5, ended_at=80 * DAY),
        ]
    )


def sums(ledger: Ledger) -> list[object]:
    """All that must not change: by tenant and model, and what each scope that lasts has spent, from several days on."""
    rows = ledger.rows()
    of_models = {
        model: [
            sum(getattr(row, name) for row in rows if row.model == model)
            for name in ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "nano_usd")
        ]
        for model in ("general", "code")
    }
    scopes: list[tuple[ScopeKind, str]] = [("tenant", "acme"), ("team", "search"), ("key", "key_1"), ("key", "key_2")]
    spent = [
        ledger.spent(kind, "acme", name, since=since)
        for kind, name in scopes
        for since in (None, 11 * DAY, 12 * DAY, 80 * DAY)
    ]
    return [of_models, *spent]


def test_pruning_keeps_sums_of_days_and_changes_no_total(ledger: Ledger) -> None:
    some_days(ledger)
    before = sums(ledger)
    assert ledger.prune(date(1970, 1, 12), TODAY) == 2  # day 11 is the first that is kept
    assert [record.id for record in ledger.records()] == ["req_3", "req_4", "req_5"]
    assert sums(ledger) == before
    assert ledger.prune(date(1970, 1, 12), TODAY) == 0
    assert ledger.prune(date(1970, 3, 11), TODAY) == 2
    assert [record.id for record in ledger.records()] == ["req_5"]
    assert sums(ledger) == before


def test_what_was_pruned_counts_by_its_day_outside_any_session(ledger: Ledger) -> None:
    some_days(ledger)
    ledger.prune(date(1970, 3, 11), TODAY)
    assert ledger.rows(since=11 * DAY) == [
        UsageRow("acme", "code", None, 1, 10, 4, 5, 2100),
        UsageRow("acme", "general", None, 1, 10, 4, 5, 2100),
        UsageRow("acme", "general", "s", 1, 10, 4, 5, 2100),
    ]
    assert [row.session for row in ledger.rows(since=11 * DAY + 1)] == ["s"]  # a day that began before is not in it
    assert ledger.rows(tenant="zeta") == []
    assert ledger.spent("session", "acme", "s") == Spent(1, 15, 2100)
    # The other way for a budget: of a day that had begun, all counts.
    assert ledger.spent("tenant", "acme", "acme", since=11 * DAY + 1).requests == 3


def test_a_record_that_comes_late_is_added_to_its_day(ledger: Ledger) -> None:
    some_days(ledger)
    ledger.prune(date(1970, 3, 11), TODAY)
    ledger.append([a_record(6, ended_at=11.5 * DAY, model="code")])
    before = sums(ledger)
    assert ledger.prune(date(1970, 3, 11), TODAY) == 1
    assert sums(ledger) == before
    assert ledger.spent("tenant", "acme", "acme").requests == 6


def test_the_last_31_days_are_never_pruned(ledger: Ledger) -> None:
    some_days(ledger)
    with pytest.raises(InvalidInput, match=r"before is 1970-03-12; .* so it must be 1970-03-11 or earlier"):
        ledger.prune(date(1970, 3, 12), TODAY)
    assert len(ledger.records()) == 5
    assert datetime.fromtimestamp(100 * DAY, UTC).date() == TODAY


def test_nobody_adds_a_record_between_a_days_sum_and_its_deletion(url: str, store: Store, ledger: Ledger) -> None:
    """It would be in neither: one who tries has to wait."""
    some_days(ledger)
    told: list[str] = []

    def in_between(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO usage_days"):
            told.append(refusal_without_waiting(url))

    event.listen(store.engine, "after_cursor_execute", in_between)
    assert ledger.prune(date(1970, 1, 12), TODAY) == 2
    assert [text.partition("\n")[0] for text in told] in (
        ["database is locked"],
        ["canceling statement due to lock timeout"],
    )


def refusal_without_waiting(url: str) -> str:
    """What the database says to one who adds a record on a connection of its own and does not wait."""
    columns = "id, kind, status, tenant, key_id, model, prompt_tokens, cached_tokens, completion_tokens, nano_usd, \
        started_at, ended_at, attempts"
    insert = (
        f"INSERT INTO usage ({columns}) VALUES ('late', 'request', 'done', 'a', 'k', 'm', 1, 0, 1, 1, 1, 864000, 1)"
    )
    connect: Callable[[], Any]
    if url.startswith("sqlite"):
        connect = partial(sqlite3.connect, url.removeprefix("sqlite:///"), timeout=0)
    else:
        connect = partial(psycopg.connect, url, options="-c lock_timeout=1")
    connection = connect()
    try:
        connection.execute(insert)
        connection.commit()
    except (sqlite3.OperationalError, psycopg.errors.LockNotAvailable) as error:
        return str(error)
    finally:
        connection.close()
    return "added"


def test_two_who_prune_and_two_who_append_at_once_change_no_total(ledger: Ledger) -> None:
    def append(start: int) -> int:
        for number in range(start, start + 40):
            ledger.append([a_record(number, ended_at=(number % 20) * DAY)])
        return 0

    ledger.append([a_record(number, ended_at=(number % 20) * DAY) for number in range(100)])
    prune = partial(ledger.prune, date(1970, 3, 11), TODAY)
    done = at_once([prune, partial(append, 100), prune, partial(append, 140)])
    assert [type(each) for each in done] == [int] * 4
    assert ledger.spent("tenant", "acme", "acme") == Spent(180, 180 * 15, 180 * 2100)
    prune()
    assert ledger.records() == []
    assert ledger.spent("tenant", "acme", "acme") == Spent(180, 180 * 15, 180 * 2100)


# --- runs of agents ---------------------------------------------------------------------------------------------------


def some_runs(ledger: Ledger) -> None:
    """15 tokens and 2,100 nano-dollars each, but for the step."""
    ledger.append(
        [
            a_record(1, run="run_x", agent="writer"),
            a_record(2, run="run_x.1", agent="writer"),
            a_record(3, run="run_x.1.2", agent="reader", ended_at=200.0),
            a_record(4, run="run_x.10", agent="reader"),
            a_record(5, run="run_xy", agent="writer"),
            a_record(6, run="RUN_X.1", agent="writer"),
            a_record(7, run="run_x.1", agent="writer", tenant="zeta"),
            a_record(8, run="run_x.3", agent=None),
            a_record(9, run="runax.1", agent="writer"),
            a_record(
                10,
                kind="step",
                run="run_x",
                agent="writer",
                prompt_tokens=0,
                completion_tokens=0,
                nano_usd=0,
                session=None,
            ),
        ]
    )


def test_a_run_has_spent_what_those_below_it_have(ledger: Ledger) -> None:
    some_runs(ledger)
    assert ledger.spent("run", "acme", "run_x") == Spent(4, 60, 8400)
    assert ledger.spent("run", "acme", "run_x.1") == Spent(2, 30, 4200)
    assert ledger.spent("run", "acme", "run_x.1.2") == Spent(1, 15, 2100)
    assert ledger.spent("run", "acme", "run_x.3") == Spent(1, 15, 2100)
    assert ledger.spent("run", "acme", "run%") == ledger.spent("run", "acme", "run__.1") == Spent(0, 0, 0)
    assert ledger.spent("run", "acme", "run_x", since=150.0) == Spent(1, 15, 2100)
    assert sum(row.requests for row in ledger.rows(run="run_x.1", tenant="acme")) == 2


def test_an_agent_has_spent_what_all_its_runs_have(ledger: Ledger) -> None:
    some_runs(ledger)
    assert ledger.spent("agent", "", "writer") == Spent(6, 90, 12_600)
    assert ledger.spent("agent", "", "reader", since=150.0) == Spent(1, 15, 2100)
    assert ledger.spent("agent", "", "nobody") == Spent(0, 0, 0)


def test_steps_are_no_requests_and_pruning_keeps_what_agents_spent(ledger: Ledger) -> None:
    some_runs(ledger)
    assert ledger.spent("tenant", "acme", "acme").requests == 8
    rows = ledger.rows(agent="writer", tenant="acme")
    assert rows == [
        UsageRow("acme", "general", None, 0, 0, 4, 0, 0, "writer", 1),
        UsageRow("acme", "general", "s", 5, 50, 20, 25, 10_500, "writer", 0),
    ]
    assert ledger.prune(date(1970, 1, 2), TODAY) == 10
    assert ledger.rows(agent="writer", tenant="acme") == [
        UsageRow("acme", "general", None, 5, 50, 24, 25, 10_500, "writer", 1)
    ]
    assert ledger.rows(agent="writer", run="run_x") == []
    assert ledger.spent("agent", "", "writer") == Spent(6, 90, 12_600)
    assert ledger.spent("run", "acme", "run_x") == Spent(0, 0, 0)
    assert ledger.spent("tenant", "acme", "acme").requests == 8


def test_the_runs_below_one_are_found_by_the_index(ledger: Ledger, store: Store) -> None:
    """Each run that begins asks what it has spent, so it must not read all that its tenant ever did."""
    some_runs(ledger)
    values = {"tenant": "acme", "name": "run_x", "first": "run_x.", "end": "run_x/"}
    query = _spent_by("run", False, store.is_postgresql).params(values)
    asked = query.compile(store.engine, compile_kwargs={"literal_binds": True})
    with store.reading() as connection:
        if store.is_postgresql:  # of ten rows it reads all, whatever indexes there are
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN" if store.is_postgresql else "EXPLAIN QUERY PLAN"
        plan = "\n".join(map(str, connection.exec_driver_sql(f"{explain} {asked}")))
    assert plan.count("usage_by_run") == 2, plan
