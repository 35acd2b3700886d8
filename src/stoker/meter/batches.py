"""Batches in the store: what was asked for, how far it is, and each of its lines until the batch has ended.

One process drives a batch at a time. Who takes it over gets the next `fence`, and every step of a driver names its own:
with an older one it changes nothing and raises `Lost`. A driver that lives says so with `renew`; who sees the beat of a
batch stand still for long enough takes it over. So no clock is compared with another's.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from stoker.base.clock import Clock, SystemClock
from stoker.base.errors import Conflict, NotFound, Refused
from stoker.base.ids import new_id
from stoker.meter import files
from stoker.meter.store import Store
from stoker.meter.tables import batch_lines, batches, tenants

Json = dict[str, Any]
Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
OPEN: Sequence[Status] = ("validating", "in_progress", "cancelling", "finalizing")
"""Those in which there is something left to do."""
LineState = Literal["waiting", "taken", "done", "failed", "expired", "cancelled"]
"""`taken`: it may be in the queue. The last four are ends: `done` is for the output file, the others are for that of
errors."""
ENDS: Sequence[LineState] = ("done", "failed", "expired", "cancelled")
# Lines that are deleted in one step, and that are read in one: these may be large.
_AT_ONCE = 200
_READ_AT_ONCE = 20


class Lost(Exception):
    """Another process drives this batch now."""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """`output_expires_s`: seconds for which the files that it makes are kept; None: for ever."""

    tenant: str
    key_id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    window_s: float
    session: str | None = None
    run: str | None = None
    metadata: Mapping[str, str] | None = None
    output_expires_s: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Times are seconds since the epoch; those of what has not happened are None. `completed` and `failed` count lines
    that have ended, tokens those of the completed ones. `errors` says why it failed."""

    id: str
    tenant: str
    key_id: str
    session: str | None
    run: str | None
    endpoint: str
    input_file_id: str
    completion_window: str
    metadata: Mapping[str, str] | None
    output_expires_s: int | None
    status: Status
    errors: Sequence[Json] | None
    output_file_id: str | None
    error_file_id: str | None
    total: int
    completed: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    created_at: float
    expires_at: float
    in_progress_at: float | None
    finalizing_at: float | None
    completed_at: float | None
    failed_at: float | None
    expired_at: float | None
    cancelling_at: float | None
    cancelled_at: float | None

    @property
    def has_ended(self) -> bool:
        return self.status not in OPEN


@dataclass(frozen=True, slots=True)
class Beat:
    """How a batch that is open was seen to be. `driver` is None when nobody drives it."""

    batch_id: str
    driver: str | None
    fence: int
    beat: int
    status: Status


@dataclass(frozen=True, slots=True)
class Line:
    """`content` is the line of the input file. `was_taken`: by a driver before, so it may be in the queue."""

    number: int
    content: bytes
    was_taken: bool = False


@dataclass(frozen=True, slots=True)
class EndedLine:
    """`content` is the line of the output file, or of that of errors. Tokens are those of a line that is done."""

    number: int
    state: LineState
    content: bytes
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """A driver's hold on a batch."""

    batch_id: str
    fence: int


class BatchStore:
    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock or SystemClock()

    # --- for clients --------------------------------------------------------------------------------------------------

    def create(self, new: NewBatch, *, most_open: int) -> Batch:
        """Raises Refused when the tenant has `most_open` batches that have not ended."""
        now = self._clock.now()
        batch_id = new_id("batch", now)
        with self._store.transaction() as connection:
            # One creation of the tenant at a time: SQLite has one writer, PostgreSQL locks the tenant's row.
            connection.execute(select(tenants.c.name).where(tenants.c.name == new.tenant).with_for_update())
            mine = (batches.c.tenant == new.tenant, batches.c.status.in_(OPEN))
            if connection.execute(select(func.count()).where(*mine)).scalar_one() >= most_open:
                raise Refused(
                    f"tenant {new.tenant} has {most_open} batches that have not ended, which is as many as it may have",
                    hint="wait until one has ended, or cancel one; gateway.batches.perTenant is how many there may be",
                    code="too_many_batches",
                )
            connection.execute(
                insert(batches).values(
                    id=batch_id,
                    tenant=new.tenant,
                    key_id=new.key_id,
                    session=new.session,
                    run=new.run,
                    endpoint=new.endpoint,
                    input_file_id=new.input_file_id,
                    completion_window=new.completion_window,
                    details=None if new.metadata is None else json.dumps(dict(new.metadata)),
                    output_expires_s=new.output_expires_s,
                    status="validating",
                    **dict.fromkeys(_COUNTS, 0),
                    created_at=now,
                    expires_at=now + new.window_s,
                    fence=0,
                    beat=0,
                )
            )
            return _get(connection, batch_id, None)

    def get(self, batch_id: str, *, tenant: str | None) -> Batch:
        """`tenant`: whose it has to be; None: anybody's. Raises NotFound."""
        with self._store.reading() as connection:
            return _get(connection, batch_id, tenant)

    def list(self, tenant: str, *, limit: int = 20, after: str | None = None) -> list[Batch]:
        """The newest first, from the one after the id `after`."""
        query = select(batches).where(batches.c.tenant == tenant).order_by(batches.c.id.desc()).limit(limit)
        if after is not None:
            query = query.where(batches.c.id < after)
        with self._store.reading() as connection:
            return [_batch(row) for row in connection.execute(query)]

    def cancel(self, batch_id: str, *, tenant: str | None) -> Batch:
        """Its driver will see it; nothing happens to one that is being cancelled. Raises NotFound; Conflict when all
        its lines have ended."""
        with self._store.transaction() as connection:
            known = _get(connection, batch_id, tenant, locks=True)
            if known.status in ("cancelling", "cancelled"):
                return known
            if known.status not in ("validating", "in_progress"):
                raise Conflict(f"batch {batch_id} is {known.status}, so there is nothing to cancel")
            _set(connection, batch_id, {"status": "cancelling", "cancelling_at": self._clock.now()})
            return _get(connection, batch_id, None)

    # --- who drives ---------------------------------------------------------------------------------------------------

    def open(self) -> Sequence[Beat]:
        """All that have not ended, the oldest first."""
        columns = (batches.c.id, batches.c.driver, batches.c.fence, batches.c.beat, batches.c.status)
        query = select(*columns).where(batches.c.status.in_(OPEN)).order_by(batches.c.id)
        with self._store.reading() as connection:
            return [Beat(*row) for row in connection.execute(query)]

    def take_over(self, seen: Beat, driver: str) -> Lease | None:
        """None when it is not any more as it was seen."""
        same = (batches.c.id == seen.batch_id, batches.c.fence == seen.fence, batches.c.beat == seen.beat)
        unchanged = (*same, batches.c.driver.is_(None) if seen.driver is None else batches.c.driver == seen.driver)
        taken = update(batches).where(*unchanged, batches.c.status.in_(OPEN))
        with self._store.transaction() as connection:
            done = connection.execute(taken.values(driver=driver, fence=batches.c.fence + 1, beat=0))
            return Lease(seen.batch_id, seen.fence + 1) if done.rowcount == 1 else None

    def renew(self, leases: Sequence[Lease]) -> None:
        """Their driver lives. What has changed hands or ended is left as it is."""
        beating = update(batches).where(batches.c.id == bindparam("of"), batches.c.fence == bindparam("under"))
        with self._store.transaction() as connection:
            connection.execute(
                beating.values(beat=batches.c.beat + 1), [{"of": each.batch_id, "under": each.fence} for each in leases]
            )

    def let_go(self, lease: Lease) -> None:
        """Somebody else may drive it, at once."""
        mine = (batches.c.id == lease.batch_id, batches.c.fence == lease.fence)
        with self._store.transaction() as connection:
            connection.execute(update(batches).where(*mine).values(driver=None))

    # --- for who drives: each raises Lost when it is not the driver any more ------------------------------------------

    def begin_lines(self, lease: Lease) -> None:
        """Nothing is known of its lines (any more)."""
        with self._as_driver(lease) as (connection, _):
            connection.execute(delete(batch_lines).where(batch_lines.c.batch_id == lease.batch_id))

    def add_lines(self, lease: Lease, lines: Sequence[Line]) -> None:
        with self._as_driver(lease) as (connection, _):
            if lines:
                connection.execute(
                    insert(batch_lines),
                    [
                        {"batch_id": lease.batch_id, "number": each.number, "state": "waiting", "content": each.content}
                        for each in lines
                    ],
                )

    def fail(self, lease: Lease, errors: Sequence[Json]) -> None:
        """It is not one that can be done. One that is being cancelled goes on being so."""
        with self._as_driver(lease) as (connection, now):
            values = {"status": "failed", "failed_at": now, "errors": json.dumps(list(errors))}
            _set(connection, lease.batch_id, values, only_if="validating")

    def begin_work(self, lease: Lease, total: int) -> None:
        """All its lines are there. One that is being cancelled goes on being so."""
        with self._as_driver(lease) as (connection, now):
            _set(connection, lease.batch_id, {"total": total})
            values = {"status": "in_progress", "in_progress_at": now}
            _set(connection, lease.batch_id, values, only_if="validating")

    def taken(self, lease: Lease) -> Sequence[Line]:
        """Those that a driver before took and whose end is not known."""
        with self._as_driver(lease) as (connection, _):
            return [Line(row.number, bytes(row.content), True) for row in _lines(connection, lease.batch_id, "taken")]

    def turn(self, lease: Lease, ended: Sequence[EndedLine], *, take: int) -> Sequence[Line]:
        """What some lines came to, each once, and the next lines: from now on they may be in the queue."""
        with self._as_driver(lease) as (connection, _):
            _end(connection, lease.batch_id, ended)
            lines = _lines(connection, lease.batch_id, "waiting", limit=take) if take else []
            if lines:
                numbers = [row.number for row in lines]
                these = (batch_lines.c.batch_id == lease.batch_id, batch_lines.c.number.in_(numbers))
                connection.execute(update(batch_lines).where(*these).values(state="taken"))
            return [Line(row.number, bytes(row.content)) for row in lines]

    def begin_files(self, lease: Lease) -> None:
        """All its lines have ended. One that is being cancelled goes on being so."""
        with self._as_driver(lease) as (connection, now):
            values = {"status": "finalizing", "finalizing_at": now}
            _set(connection, lease.batch_id, values, only_if="in_progress")

    def ended_lines(self, batch_id: str, *, done: bool, after: int = 0) -> Sequence[tuple[int, bytes]]:
        """Lines for the output file (`done`) or for that of errors, in order, from the one after the number `after`."""
        states = ["done"] if done else [state for state in ENDS if state != "done"]
        these = (batch_lines.c.batch_id == batch_id, batch_lines.c.state.in_(states), batch_lines.c.number > after)
        query = select(batch_lines.c.number, batch_lines.c.content).where(*these)
        with self._store.reading() as connection:
            found = connection.execute(query.order_by(batch_lines.c.number).limit(_READ_AT_ONCE))
            return [(row.number, bytes(row.content)) for row in found]

    def end(self, lease: Lease, *, output: str | None, errors: str | None) -> Batch:
        """It has ended, and its files are there, in one step. `output` and `errors` are files that are being written,
        None for one without lines."""
        with self._as_driver(lease) as (connection, now):
            batch = _get(connection, lease.batch_id, None)
            for file_id, name in ((output, "output"), (errors, "error")):
                if file_id is not None:
                    filename = f"{batch.id}_{name}.jsonl"
                    files.finish(connection, file_id, "batch_output", filename, now, batch.output_expires_s)
            status: Status = "completed"
            if batch.status == "cancelling":
                status = "cancelled"
            elif _lines(connection, batch.id, "expired", limit=1):
                status = "expired"
            values = {"status": status, f"{status}_at": now, "output_file_id": output, "error_file_id": errors}
            _set(connection, batch.id, values)
            return _get(connection, batch.id, None)

    def sweep(self) -> int:
        """Lines of batches that have ended are nobody's any more; how many there were."""
        ended = batches.c.status.not_in(OPEN)
        of_ended = select(batch_lines.c.batch_id, batch_lines.c.number)
        of_ended = of_ended.join(batches, batches.c.id == batch_lines.c.batch_id).where(ended).limit(_AT_ONCE)
        swept = 0
        while True:
            with self._store.reading() as connection:
                found = connection.execute(of_ended).all()
            if found:
                these = (batch_lines.c.batch_id == bindparam("of"), batch_lines.c.number == bindparam("line"))
                with self._store.transaction() as connection:
                    connection.execute(
                        delete(batch_lines).where(*these), [{"of": batch, "line": line} for batch, line in found]
                    )
            swept += len(found)
            if len(found) < _AT_ONCE:
                return swept

    @contextmanager
    def _as_driver(self, lease: Lease) -> Iterator[tuple[Connection, float]]:
        """A transaction in which nobody else drives, and its time."""
        mine = select(batches.c.fence).where(batches.c.id == lease.batch_id).with_for_update()
        with self._store.transaction() as connection:
            if connection.execute(mine).scalar_one_or_none() != lease.fence:
                raise Lost(lease.batch_id)
            yield connection, self._clock.now()


_COUNTS = ("total", "completed", "failed", "prompt_tokens", "cached_tokens", "completion_tokens")
_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")


def _get(connection: Connection, batch_id: str, tenant: str | None, *, locks: bool = False) -> Batch:
    query = select(batches).where(batches.c.id == batch_id)
    if tenant is not None:
        query = query.where(batches.c.tenant == tenant)
    row = connection.execute(query.with_for_update() if locks else query).first()
    if row is None:
        raise NotFound(f"there is no batch {batch_id!r}", code="batch_not_found")
    return _batch(row)


def _batch(row: Any) -> Batch:
    return Batch(
        id=row.id,
        tenant=row.tenant,
        key_id=row.key_id,
        session=row.session,
        run=row.run,
        endpoint=row.endpoint,
        input_file_id=row.input_file_id,
        completion_window=row.completion_window,
        metadata=None if row.details is None else json.loads(row.details),
        output_expires_s=row.output_expires_s,
        status=row.status,
        errors=None if row.errors is None else json.loads(row.errors),
        output_file_id=row.output_file_id,
        error_file_id=row.error_file_id,
        **{name: getattr(row, name) for name in _COUNTS},
        created_at=row.created_at,
        expires_at=row.expires_at,
        in_progress_at=row.in_progress_at,
        finalizing_at=row.finalizing_at,
        completed_at=row.completed_at,
        failed_at=row.failed_at,
        expired_at=row.expired_at,
        cancelling_at=row.cancelling_at,
        cancelled_at=row.cancelled_at,
    )


def _set(connection: Connection, batch_id: str, values: Json, *, only_if: Status | None = None) -> None:
    these = [batches.c.id == batch_id, *([] if only_if is None else [batches.c.status == only_if])]
    connection.execute(update(batches).where(*these).values(values))


def _lines(connection: Connection, batch_id: str, state: LineState, *, limit: int | None = None) -> Sequence[Any]:
    these = (batch_lines.c.batch_id == batch_id, batch_lines.c.state == state)
    query = select(batch_lines.c.number, batch_lines.c.content).where(*these).order_by(batch_lines.c.number)
    return connection.execute(query.limit(limit)).all()


def _end(connection: Connection, batch_id: str, ended: Sequence[EndedLine]) -> None:
    """Each line ends once: one that has ended before stays as it is, and is not counted again."""
    if not ended:
        return
    numbers = [each.number for each in ended]
    known = (batch_lines.c.batch_id == batch_id, batch_lines.c.number.in_(numbers), batch_lines.c.state.not_in(ENDS))
    is_open = set(connection.execute(select(batch_lines.c.number).where(*known)).scalars())
    new = [each for each in ended if each.number in is_open]
    if not new:
        return
    one = (batch_lines.c.batch_id == batch_id, batch_lines.c.number == bindparam("line"))
    connection.execute(
        update(batch_lines).where(*one).values(state=bindparam("end"), content=bindparam("said")),
        [{"line": each.number, "end": each.state, "said": each.content} for each in new],
    )
    done = [each for each in new if each.state == "done"]
    more = {"completed": len(done), "failed": len(new) - len(done)}
    more |= {name: sum(getattr(each, name) for each in done) for name in _TOKENS}
    grown = {name: batches.c[name] + amount for name, amount in more.items()}
    connection.execute(update(batches).where(batches.c.id == batch_id).values(grown))
