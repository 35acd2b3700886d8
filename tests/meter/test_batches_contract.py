"""Batches in the store, on SQLite and on PostgreSQL: their states, who drives them, and that each line counts once."""

from dataclasses import replace
from typing import Any

import pytest
from meter_builders import at_once, later
from sqlalchemy import func, select

from stoker.base.errors import Conflict, NotFound, Refused
from stoker.meter.batches import Batch, BatchStore, Beat, EndedLine, Lease, Line, Lost, NewBatch
from stoker.meter.files import FileStore
from stoker.meter.store import Store
from stoker.meter.tables import batch_lines
from stoker.meter.tenants import TenantStore
from stoker.spec import Tenant
from stoker.testing import ManualClock

NEW = NewBatch("acme", "key_1", "/v1/chat/completions", "file-1", "24h", 86400.0, metadata={"a": "b"})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture
def batches(store: Store, clock: ManualClock) -> BatchStore:
    TenantStore(store, clock).ensure({"acme": Tenant(), "other": Tenant()})
    return BatchStore(store, clock)


@pytest.fixture
def files(store: Store, clock: ManualClock) -> FileStore:
    return FileStore(store, clock)


def driven(batches: BatchStore, new: NewBatch = NEW, *, lines: int = 0) -> tuple[Batch, Lease]:
    """A batch with a driver; with lines it is in progress."""
    made = batches.create(new, most_open=100)
    beat = next(beat for beat in batches.open() if beat.batch_id == made.id)
    lease = batches.take_over(beat, "one")
    assert lease is not None
    if lines:
        batches.begin_lines(lease)
        batches.add_lines(lease, [Line(number, b"line %d" % number) for number in range(1, lines + 1)])
        batches.begin_work(lease, lines)
    return batches.get(made.id, tenant=None), lease


def counts(batches: BatchStore, lease: Lease) -> tuple[int, int, int]:
    batch = batches.get(lease.batch_id, tenant=None)
    return batch.total, batch.completed, batch.failed


def lines_in(store: Store) -> int:
    with store.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(batch_lines)).scalar_one())


# --- for clients ------------------------------------------------------------------------------------------------------


def test_a_new_batch(batches: BatchStore) -> None:
    made = batches.create(replace(NEW, session="s", run="r", output_expires_s=3600), most_open=1)
    assert made == Batch(
        id=made.id,
        tenant="acme",
        key_id="key_1",
        session="s",
        run="r",
        endpoint="/v1/chat/completions",
        input_file_id="file-1",
        completion_window="24h",
        metadata={"a": "b"},
        output_expires_s=3600,
        status="validating",
        errors=None,
        output_file_id=None,
        error_file_id=None,
        total=0,
        completed=0,
        failed=0,
        prompt_tokens=0,
        cached_tokens=0,
        completion_tokens=0,
        created_at=1000.0,
        expires_at=87400.0,
        in_progress_at=None,
        finalizing_at=None,
        completed_at=None,
        failed_at=None,
        expired_at=None,
        cancelling_at=None,
        cancelled_at=None,
    )
    assert made.id.startswith("batch_")
    assert batches.get(made.id, tenant="acme") == made


def test_a_strangers_batch_is_unknown(batches: BatchStore) -> None:
    made = batches.create(NEW, most_open=1)
    for name in (made.id, "batch_nobody"):
        for ask in (batches.get, batches.cancel):
            with pytest.raises(NotFound) as caught:
                ask(name, tenant="other")
            assert caught.value.code == "batch_not_found"
    assert batches.list("other") == []
    assert batches.get(made.id, tenant="acme").status == "validating"


def test_lists_begin_with_the_newest(batches: BatchStore, clock: ManualClock) -> None:
    made = []
    for _ in range(3):
        later(clock, 1)
        made.append(batches.create(NEW, most_open=3))
    assert batches.list("acme") == made[::-1]
    assert batches.list("acme", limit=1, after=made[2].id) == [made[1]]


def test_a_tenant_has_so_many_open_ones(batches: BatchStore) -> None:
    first, _ = driven(batches)
    batches.create(NEW, most_open=2)
    with pytest.raises(Refused) as caught:
        batches.create(NEW, most_open=2)
    assert caught.value.code == "too_many_batches"
    batches.create(replace(NEW, tenant="other"), most_open=1)
    batches.fail(Lease(first.id, 1), [])
    batches.create(NEW, most_open=2)


def test_creations_at_once_do_not_pass_the_bound_together(batches: BatchStore) -> None:
    ends = at_once([lambda: batches.create(NEW, most_open=3)] * 6)
    assert sorted(type(end).__name__ for end in ends) == ["Batch"] * 3 + ["Refused"] * 3


def test_cancelling(batches: BatchStore, clock: ManualClock) -> None:
    made, lease = driven(batches, lines=1)
    later(clock, 5)
    cancelling = batches.cancel(made.id, tenant="acme")
    assert (cancelling.status, cancelling.cancelling_at) == ("cancelling", 1005.0)
    later(clock, 5)
    assert batches.cancel(made.id, tenant="acme") == cancelling
    batches.begin_files(lease)
    assert batches.get(made.id, tenant=None).status == "cancelling"
    cancelled = batches.end(lease, output=None, errors=None)
    assert (cancelled.status, cancelled.cancelled_at, cancelled.completed_at) == ("cancelled", 1010.0, None)
    assert batches.cancel(made.id, tenant="acme") == cancelled


@pytest.mark.parametrize("steps", ["fail", "finalizing", "completed"])
def test_what_has_ended_is_not_cancelled(batches: BatchStore, steps: str) -> None:
    made, lease = driven(batches, lines=0 if steps == "fail" else 1)
    if steps == "fail":
        batches.fail(lease, [{"code": "empty_batch"}])
    else:
        batches.begin_files(lease)
    if steps == "completed":
        batches.end(lease, output=None, errors=None)
    before = batches.get(made.id, tenant=None)
    with pytest.raises(Conflict):
        batches.cancel(made.id, tenant="acme")
    assert batches.get(made.id, tenant=None) == before


# --- its states -------------------------------------------------------------------------------------------------------


def test_from_its_lines_to_its_files(batches: BatchStore, files: FileStore, store: Store, clock: ManualClock) -> None:
    made, lease = driven(batches, replace(NEW, output_expires_s=3600), lines=3)
    assert (made.status, made.in_progress_at, made.total) == ("in_progress", 1000.0, 3)
    taken = batches.turn(lease, [], take=2)
    assert taken == [Line(1, b"line 1"), Line(2, b"line 2")]
    ended = [EndedLine(2, "done", b"answer 2", 10, 4, 5), EndedLine(1, "failed", b"error 1", 99, 99, 99)]
    assert batches.turn(lease, ended, take=2) == [Line(3, b"line 3")]
    assert counts(batches, lease) == (3, 1, 1)
    assert batches.turn(lease, [EndedLine(3, "done", b"answer 3", 1, 0, 1)], take=2) == []
    later(clock, 60)
    batches.begin_files(lease)
    assert batches.get(made.id, tenant=None).finalizing_at == 1060.0

    assert batches.ended_lines(made.id, done=True) == [(2, b"answer 2"), (3, b"answer 3")]
    assert batches.ended_lines(made.id, done=True, after=2) == [(3, b"answer 3")]
    assert batches.ended_lines(made.id, done=False) == [(1, b"error 1")]
    output, errors = files.begin("acme"), files.begin("acme")
    files.append(output, 0, b"answers")
    later(clock, 60)
    batch = batches.end(lease, output=output, errors=errors)
    assert (batch.status, batch.completed_at, batch.total, batch.completed, batch.failed) == (
        "completed",
        1120.0,
        3,
        2,
        1,
    )
    assert (batch.prompt_tokens, batch.cached_tokens, batch.completion_tokens) == (11, 4, 6)
    assert (batch.output_file_id, batch.error_file_id) == (output, errors)
    file = files.get(output, tenant="acme")
    assert (file.filename, file.purpose, file.bytes) == (f"{made.id}_output.jsonl", "batch_output", 7)
    assert file.expires_at == 1060.0 + 3600
    assert files.get(errors, tenant="acme").filename == f"{made.id}_error.jsonl"
    assert batches.open() == []
    assert lines_in(store) == 3
    assert batches.sweep() == 3
    assert lines_in(store) == 0


def test_lines_of_what_goes_on_are_not_swept(batches: BatchStore, store: Store) -> None:
    driven(batches, lines=3)
    _, lease = driven(batches, lines=300)
    batches.end(lease, output=None, errors=None)
    assert batches.sweep() == 300
    assert lines_in(store) == 3


def test_one_that_fails_says_why(batches: BatchStore) -> None:
    made, lease = driven(batches)
    batches.fail(lease, [{"code": "invalid_json_line", "line": 1}])
    batch = batches.get(made.id, tenant=None)
    assert (batch.status, batch.failed_at) == ("failed", 1000.0)
    assert batch.errors == [{"code": "invalid_json_line", "line": 1}]
    assert batches.open() == []


def test_one_with_lines_that_were_not_done_in_time_has_expired(batches: BatchStore) -> None:
    _, lease = driven(batches, lines=2)
    batches.turn(lease, [EndedLine(1, "done", b""), EndedLine(2, "expired", b"")], take=0)
    assert counts(batches, lease) == (2, 1, 1)
    batches.begin_files(lease)
    batch = batches.end(lease, output=None, errors=None)
    assert (batch.status, batch.expired_at, batch.completed_at) == ("expired", 1000.0, None)


def test_one_that_is_cancelled_while_it_is_looked_at_stays_so(batches: BatchStore) -> None:
    for step in (lambda lease: batches.fail(lease, []), lambda lease: batches.begin_work(lease, 2)):
        made, lease = driven(batches)
        batches.cancel(made.id, tenant="acme")
        step(lease)
        assert batches.get(made.id, tenant=None).status == "cancelling"


def test_a_line_ends_once(batches: BatchStore) -> None:
    made, lease = driven(batches, lines=1)
    batches.turn(lease, [], take=1)
    batches.turn(lease, [EndedLine(1, "done", b"first", 1, 0, 1)], take=0)
    batches.turn(lease, [EndedLine(1, "failed", b"second")], take=0)
    batches.turn(lease, [EndedLine(1, "done", b"third", 1, 0, 1)], take=0)
    assert counts(batches, lease) == (1, 1, 0)
    assert batches.ended_lines(made.id, done=True) == [(1, b"first")]
    assert batches.get(made.id, tenant=None).prompt_tokens == 1


# --- who drives -------------------------------------------------------------------------------------------------------


def test_one_of_many_takes_it(batches: BatchStore) -> None:
    made = batches.create(NEW, most_open=1)
    (beat,) = batches.open()
    assert beat == Beat(made.id, None, 0, 0, "validating")
    ends = at_once([lambda name=name: batches.take_over(beat, name) for name in "abcdef"])
    assert [end for end in ends if end is not None] == [Lease(made.id, 1)]


def test_what_has_moved_on_is_not_taken(batches: BatchStore) -> None:
    _, lease = driven(batches)
    (seen,) = batches.open()
    assert (seen.driver, seen.fence, seen.beat) == ("one", 1, 0)
    batches.renew([lease])
    assert batches.take_over(seen, "two") is None
    (seen,) = batches.open()
    assert (seen.fence, seen.beat) == (1, 1)
    assert batches.take_over(seen, "two") == Lease(lease.batch_id, 2)
    batches.renew([lease])  # it does not know yet that it has lost it
    (seen,) = batches.open()
    assert (seen.driver, seen.fence, seen.beat) == ("two", 2, 0)
    batches.let_go(lease)
    assert batches.open() == [seen]
    batches.let_go(Lease(lease.batch_id, 2))
    assert batches.open() == [replace(seen, driver=None)]


def test_who_has_lost_it_changes_nothing(batches: BatchStore, files: FileStore) -> None:
    made, old = driven(batches, lines=2)
    batches.turn(old, [], take=1)
    (seen,) = batches.open()
    new = batches.take_over(seen, "two")
    assert new is not None
    before = batches.get(made.id, tenant=None)
    steps: list[Any] = [
        lambda: batches.begin_lines(old),
        lambda: batches.add_lines(old, [Line(3, b"")]),
        lambda: batches.begin_work(old, 3),
        lambda: batches.fail(old, []),
        lambda: batches.taken(old),
        lambda: batches.turn(old, [EndedLine(1, "done", b"", 1, 1, 1)], take=1),
        lambda: batches.begin_files(old),
        lambda: batches.end(old, output=None, errors=None),
    ]
    for step in steps:
        with pytest.raises(Lost):
            step()
    assert batches.get(made.id, tenant=None) == before
    assert batches.taken(new) == [Line(1, b"line 1", was_taken=True)]
    assert batches.turn(new, [], take=5) == [Line(2, b"line 2")]


def test_a_batch_that_is_gone_has_no_driver(batches: BatchStore) -> None:
    with pytest.raises(Lost):
        batches.taken(Lease("batch_nobody", 1))
