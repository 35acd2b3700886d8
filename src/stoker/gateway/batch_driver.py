"""Who does batches: every gateway process looks for those that nobody drives, and drives them.

1. validating: each line of the input file is looked at, and kept in the store
2. in_progress: each line is a task of its own, with a reservation of its own and an id made of the batch's and its
   number; a bounded number of them is in the queue at once
3. finalizing: what came of the lines becomes files

Each step is in the store before the next begins, so whoever takes over goes on where it stands: a line that may be in
the queue is looked for there by its id, and what came of a line is written down once.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import (
    BudgetExhausted,
    InvalidInput,
    NotFound,
    QueueUnavailable,
    Refused,
    StokerError,
    Unavailable,
)
from stoker.base.ids import TaskId
from stoker.gateway import batch_lines, batch_spans, refusals, spans
from stoker.gateway.admission import too_little_left
from stoker.gateway.ask import Ask, result_of
from stoker.gateway.batch_lines import Checker, Fault, Splitter
from stoker.gateway.endpoints import endpoint_of
from stoker.gateway.services import RUN_HEADER, SESSION_HEADER, Services
from stoker.meter.batches import Batch, BatchStore, Beat, EndedLine, Lease, Line, LineState, Lost
from stoker.meter.files import BLOCK_BYTES
from stoker.policy.budgets import Counter, Need, Unit
from stoker.queue import State, Task
from stoker.queue.budgets import CounterState
from stoker.web import problems

_log = logs.get(__name__)

# How often a process looks for batches, and says that it lives.
LOOK_EVERY_S = 1.0
# Whose beat stands still for so long does not live.
DEAD_AFTER_S = 4.0
# After the database or Redis said no.
PAUSE_S = 1.0
# A batch at which something went wrong that nobody expected is left alone for so long.
REST_S = 10.0
# While a line waits for money that others have reserved: when it is tried again, at first and later. What ends in the
# same batch wakes it at once.
TRY_AGAIN_S, TRY_AGAIN_AT_MOST_S = 0.5, 8.0
# How long a worker may take to let go of a line that nobody wants any more.
CALL_OFF_S = 30.0
# Lines that are ended together once nobody wants them.
LINES_AT_ONCE = 200


class Drivers:
    """All batches that this process drives. `name` is its own among those who drive."""

    def __init__(self, services: Services, name: str) -> None:
        self._services = services
        self._store = services.batches
        self._clock = services.clock
        self._name = name
        self._runs: dict[str, Run] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        # Of batches that others drive: how each was seen, and since when (monotonic).
        self._seen: dict[str, tuple[Beat, float]] = {}
        self._rests_until: dict[str, float] = {}

    async def drive_forever(self) -> None:
        news = self._services.batch_news
        try:
            while True:
                news.clear()
                try:
                    await self.look()
                except StokerError as error:
                    _log.warning("batches wait", error=error.in_log)
                await until(news, self._clock, LOOK_EVERY_S)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Let go of all that is driven here: others go on with it at once."""
        leases = [run.lease for run in self._runs.values()]
        await _cancel(self._running.values())
        for lease in leases:
            await self._let_go(lease)

    async def look(self) -> None:
        """Say that those driven here are, and take what nobody drives. Raises Unavailable (the store)."""
        if self._runs:
            await asyncio.to_thread(self._store.renew, [run.lease for run in self._runs.values()])
        beats = await asyncio.to_thread(self._store.open)
        now = self._clock.monotonic()
        for beat in beats:
            run = self._runs.get(beat.batch_id)
            if run is not None and beat.fence != run.lease.fence:
                _log.warning("batch: it is another's", batch=beat.batch_id)
                self._running[beat.batch_id].cancel()  # whatever is done here is void
            elif run is not None:
                if beat.status == "cancelling":
                    run.cancelled.set()
            elif self._is_free(beat, now):
                lease = await asyncio.to_thread(self._store.take_over, beat, self._name)
                if lease is not None:
                    self._begin(lease)
        open_ = {beat.batch_id for beat in beats}
        self._seen = {name: seen for name, seen in self._seen.items() if name in open_}
        self._rests_until = {name: until for name, until in self._rests_until.items() if until > now}

    def _is_free(self, beat: Beat, now: float) -> bool:
        if self._rests_until.get(beat.batch_id, now) > now:
            return False
        if beat.driver is None:
            return True
        seen = self._seen.get(beat.batch_id)
        if seen is None or (seen[0].fence, seen[0].beat) != (beat.fence, beat.beat):
            self._seen[beat.batch_id] = (beat, now)
            return False
        return now - seen[1] >= DEAD_AFTER_S

    def _begin(self, lease: Lease) -> None:
        run = self._runs[lease.batch_id] = Run(self._services, lease)
        self._running[lease.batch_id] = asyncio.create_task(self._drive(run))

    async def _drive(self, run: "Run") -> None:
        batch_id = run.lease.batch_id
        try:
            await run.drive()
        except Lost:
            _log.warning("batch: it is another's", batch=batch_id)
        except Exception as error:
            _log.error("batch: something went wrong", batch=batch_id, exc_info=error)
            self._rests_until[batch_id] = self._clock.monotonic() + REST_S
            await self._let_go(run.lease)
        finally:
            del self._runs[batch_id], self._running[batch_id]

    async def _let_go(self, lease: Lease) -> None:
        try:
            await asyncio.to_thread(self._store.let_go, lease)
        except StokerError as error:
            _log.warning("batch: it stands still for a while", batch=lease.batch_id, error=error.in_log)


class Run:
    """One batch, driven until it has ended. Set `cancelled` when its client does not want it any more."""

    def __init__(self, services: Services, lease: Lease) -> None:
        self.lease = lease
        self.cancelled = asyncio.Event()
        self._services = services
        self._store: BatchStore = services.batches
        self._clock = services.clock

    async def drive(self) -> None:
        """Raises Lost."""
        while True:
            try:
                batch = await self._driven()
            except Unavailable as error:  # the database: what is in it is as it was
                _log.warning("batch: it waits", batch=self.lease.batch_id, error=error.in_log)
                await self._clock.sleep(PAUSE_S)
            else:
                counts = {"total": batch.total, "completed": batch.completed, "failed": batch.failed}
                batch_spans.tell(self._services.tracing, batch, self._clock.now())
                _log.info("batch ended", batch=batch.id, status=batch.status, **counts)
                return

    async def _driven(self) -> Batch:
        batch = await self._look()
        if batch.status == "validating":
            await self._validate(batch)
            batch = await self._look()
        if batch.status == "cancelling" and batch.total == 0:  # not looked at to its end: none of its lines has begun
            await asyncio.to_thread(self._store.begin_lines, self.lease)
        if batch.status in ("in_progress", "cancelling"):
            await Work(self._services, self.lease, batch, self.cancelled).do()
        if not batch.has_ended:
            await self._make_files(batch)
            batch = await self._look()
        return batch

    async def _look(self) -> Batch:
        batch = await asyncio.to_thread(partial(self._store.get, self.lease.batch_id, tenant=None))
        if batch.status == "cancelling":
            self.cancelled.set()
        return batch

    # --- validating -------------------------------------------------------------------------------------------------

    async def _validate(self, batch: Batch) -> None:
        limits = self._services.platform.gateway
        checker = Checker(batch.endpoint, limits.batches.max_lines)
        reading = self._read(batch, checker, Splitter(limits.max_body_bytes))
        await asyncio.to_thread(self._store.begin_lines, self.lease)
        while not self.cancelled.is_set() and await asyncio.to_thread(next, reading, False):
            pass
        if self.cancelled.is_set():
            return
        if checker.total == 0 and not checker.faults:
            checker.note(batch_lines.empty(), None)
        if checker.faults:
            await asyncio.to_thread(self._store.fail, self.lease, checker.faults)
        else:
            await asyncio.to_thread(self._store.begin_work, self.lease, checker.total)

    def _read(self, batch: Batch, checker: Checker, splitter: Splitter) -> Iterator[bool]:
        """Its file, a block for each step."""
        try:
            self._services.files.get(batch.input_file_id, tenant=batch.tenant)
            for block in self._services.files.blocks(batch.input_file_id):
                self._keep(checker, splitter.feed(block))
                yield not checker.has_seen_enough
            self._keep(checker, splitter.end())
        except NotFound as error:
            checker.note(Fault("file_not_found", error.message, "input_file_id"), None)
        except Fault as fault:
            checker.note(fault, splitter.number)

    def _keep(self, checker: Checker, lines: Iterator[tuple[int, bytes]]) -> None:
        sound = checker.sound(lines)
        if not checker.faults:
            self._store.add_lines(self.lease, sound)

    # --- finalizing -------------------------------------------------------------------------------------------------

    async def _make_files(self, batch: Batch) -> None:
        await asyncio.to_thread(self._store.begin_files, self.lease)
        output = await self._file(batch, done=True)
        errors = await self._file(batch, done=False)
        await asyncio.to_thread(partial(self._store.end, self.lease, output=output, errors=errors))

    async def _file(self, batch: Batch, *, done: bool) -> str | None:
        """The id of a file with these lines, which is being written until the batch ends. None: there are none."""
        files = self._services.files
        file_id: str | None = None
        waiting, number, last = b"", 0, 0
        while True:
            lines = await asyncio.to_thread(partial(self._store.ended_lines, batch.id, done=done, after=last))
            if lines and file_id is None:
                file_id = await asyncio.to_thread(files.begin, batch.tenant)
            waiting += b"".join(content + b"\n" for _, content in lines)
            while file_id is not None and waiting and (len(waiting) >= BLOCK_BYTES or not lines):
                await asyncio.to_thread(files.append, file_id, number, waiting[:BLOCK_BYTES])
                waiting, number = waiting[BLOCK_BYTES:], number + 1
            if not lines:
                return file_id
            last = lines[-1][0]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A line as a request: its headers are those of the batch."""

    headers: Mapping[str, str]


class Work:
    """The lines of one batch that are in the queue, or on their way there."""

    def __init__(self, services: Services, lease: Lease, batch: Batch, cancelled: asyncio.Event) -> None:
        self._services = services
        self._store = services.batches
        self._queue = services.queue
        self._clock = services.clock
        self._lease = lease
        self._batch = batch
        self._endpoint = endpoint_of(batch.endpoint)
        self._cancelled = cancelled
        self._running: dict[asyncio.Task[EndedLine], Line] = {}
        self._submitting: set[asyncio.Task[Task]] = set()
        # One line after another is let in: what waits for money is not overtaken, and does not ask in a crowd.
        self._door = asyncio.Lock()
        # Numbers of those that are in the queue, or may be.
        self._in_queue: set[int] = set()
        self._one_less = asyncio.Event()

    async def do(self) -> None:
        """Until each of its lines has ended. Raises Lost, Unavailable (the store)."""
        for line in await asyncio.to_thread(self._store.taken, self._lease):
            self._start(line)
        left_s = self._batch.expires_at - self._clock.now()
        try:
            async with _beside(self._clock.sleep(left_s)) as expiring, _beside(self._cancelled.wait()) as stopping:
                unwanted = await self._until_unwanted(expiring, stopping)
            in_queue = list(self._running.values())
            await _cancel(self._running)
            # One that is on its way has to arrive before it can be cancelled.
            if self._submitting:
                await asyncio.wait(self._submitting)
        finally:
            await _cancel([*self._running, *self._submitting])
        if unwanted is not None:
            await self._end_unwanted(in_queue, unwanted)

    def _start(self, line: Line) -> None:
        if line.was_taken:
            self._in_queue.add(line.number)
        self._running[asyncio.create_task(self._line(line))] = line

    async def _until_unwanted(
        self, expiring: "asyncio.Task[object]", stopping: "asyncio.Task[object]"
    ) -> LineState | None:
        """None when all lines have ended before. Those that run are left running."""
        most = self._services.platform.gateway.batches.lines_at_once
        ended: list[EndedLine] = []
        while True:
            unwanted = self._unwanted(expiring, stopping)
            take = 0 if unwanted else most - len(self._running)
            for line in await self._turn(ended, take):
                self._start(line)
            if unwanted or not self._running:
                return unwanted
            await asyncio.wait({*self._running, expiring, stopping}, return_when=asyncio.FIRST_COMPLETED)
            ended = [each.result() for each in self._running if each.done()]
            self._running = {each: line for each, line in self._running.items() if not each.done()}

    async def _turn(self, ended: Sequence[EndedLine], take: int) -> Sequence[Line]:
        """Writes down what came of some lines, and gives the next ones."""
        lines = await asyncio.to_thread(partial(self._store.turn, self._lease, ended, take=take))
        # It is in the store now, so Redis need not keep it.
        names = [TaskId(batch_lines.task_id(self._batch.id, each.number)) for each in ended]
        try:
            await asyncio.gather(*map(self._queue.drop_answer, names))
        except QueueUnavailable as error:
            _log.warning("batch: answers stay in Redis for their time", batch=self._batch.id, error=error.in_log)
        return lines

    def _unwanted(self, expiring: "asyncio.Task[object]", stopping: "asyncio.Task[object]") -> LineState | None:
        if stopping.done() or self._cancelled.is_set():
            return "cancelled"
        return "expired" if expiring.done() or self._clock.now() >= self._batch.expires_at else None

    # --- one line -----------------------------------------------------------------------------------------------------

    async def _line(self, line: Line) -> EndedLine:
        """What it came to, whatever that is."""
        name = TaskId(batch_lines.task_id(self._batch.id, line.number))
        try:
            is_there = line.was_taken and await self._is_there(name)
            while True:
                if not is_there:
                    self._not_in_queue(line)
                    await self._let_in(line)
                task = await self._ended(name)
                if task is not None:
                    return self._outcome(line, task)
                is_there = await self._is_there(name)
        except StokerError as error:
            return batch_lines.refused(self._batch.id, line, error)
        except Exception as error:
            return batch_lines.refused(self._batch.id, line, problems.unexpected(f"batch line {name}", error))
        finally:
            self._not_in_queue(line)

    async def _is_there(self, name: TaskId) -> bool:
        """Whether its task is in the queue. Raises StokerError for one that was paid for, and is not there any more."""
        while True:
            try:
                return await self._is_known(name)
            except Unavailable:  # Redis, or the ledger
                await self._clock.sleep(PAUSE_S)

    async def _is_known(self, name: TaskId) -> bool:
        with suppress(NotFound):
            await self._queue.get(name)
            return True
        await self._services.settle_all()
        if await asyncio.to_thread(self._services.ledger.records, [name]):
            raise StokerError(
                "this request was done, and its answer was not fetched for as long as it is kept", code="result_lost"
            )
        return False

    async def _ended(self, name: TaskId) -> Task | None:
        """Its task when that has ended; None when Redis does not know it (any more)."""
        while True:
            try:
                task = await self._queue.wait(name, timeout_s=60.0)
            except NotFound:
                return None
            except QueueUnavailable:
                await self._clock.sleep(PAUSE_S)
            else:
                if task.state.has_ended:
                    return task

    def _not_in_queue(self, line: Line) -> None:
        self._in_queue.discard(line.number)
        self._one_less.set()

    def _outcome(self, line: Line, task: Task) -> EndedLine:
        if task.state.has_failed and self._clock.now() >= self._batch.expires_at:
            return batch_lines.not_done(self._batch.id, line, "expired")
        try:
            answer = result_of(task)
        except StokerError as error:
            return batch_lines.refused(self._batch.id, line, error)
        return batch_lines.done(self._batch.id, line, answer, self._endpoint.usage_in(answer))

    # --- letting it in ------------------------------------------------------------------------------------------------

    async def _let_in(self, line: Line) -> None:
        """Returns when its task is in the queue, however long it has to wait for money that others have reserved.
        Raises StokerError for what the line ends with."""
        async with self._door:
            again_s = TRY_AGAIN_S
            while True:
                self._one_less.clear()
                wait_s = await self._try(line, again_s)
                if wait_s is None:
                    return
                await until(self._one_less, self._clock, wait_s)
                again_s = min(2 * again_s, TRY_AGAIN_AT_MOST_S)

    async def _try(self, line: Line, again_s: float) -> float | None:
        """None when its task is in the queue; else after how long it is worth another try."""
        try:
            ask = await self._ask(line)
        except Unavailable:
            return PAUSE_S
        ways = [replace(ask, quote=replace(ask.quote, is_elastic=False))]
        is_last_word = not ask.quote.is_elastic or not self._in_queue
        # An answer is cut short to what is left only when nothing runs here that holds more than it will have used.
        if ask.quote.is_elastic and is_last_word:
            ways.append(ask)
        for way in ways:
            try:
                await self._submit(way)
            except Refused:
                continue
            except InvalidInput as error:
                if error.code != "request_over_budget" or (is_last_word and way is ways[-1]):
                    raise
            except Unavailable:
                return PAUSE_S
            else:
                self._in_queue.add(line.number)
                return None
        return await self._wait_s(ask, again_s)

    async def _ask(self, line: Line) -> Ask:
        """The line as a request of the key that made the batch, as that key stands now."""
        batch = self._batch
        account = await asyncio.to_thread(self._services.keys.account_of, batch.key_id)
        headers = {"content-length": str(len(line.content))}
        headers |= {SESSION_HEADER: batch.session} if batch.session is not None else {}
        headers |= {RUN_HEADER: batch.run} if batch.run is not None else {}
        span = batch_spans.of_line(self._services.tracing, batch.id, line.number, self._clock.now())
        logs.bound.set(span)
        body = batch_lines.body_of(line)
        ask = await self._services.ask(_Asked(headers), account, batch.endpoint, None, body, span)
        # What makes a line of a batch another task than that of POST /v1/tasks stands here.
        return replace(ask, id=batch_lines.task_id(batch.id, line.number), stand_in=None, priority="batch")

    async def _submit(self, ask: Ask) -> None:
        left_s = max(1.0, self._batch.expires_at - self._clock.now())
        submitting = asyncio.create_task(self._services.inference.submit_by_id(ask, timeout_s=left_s))
        self._submitting.add(submitting)
        submitting.add_done_callback(self._submitting.discard)
        submitting.add_done_callback(partial(self._submitted, ask))
        # The step goes on when the line is given up.
        await asyncio.shield(submitting)

    def _submitted(self, ask: Ask, submitting: "asyncio.Task[Task]") -> None:
        """One that was refused for now is tried again, so its span goes on."""
        error = None if submitting.cancelled() else submitting.exception()
        if error is None:
            spans.answered_with(ask.span, 202, self._clock.now())
        elif not isinstance(error, Refused | Unavailable):
            refusals.end(ask.span, error, self._clock.now())

    async def _wait_s(self, ask: Ask, again_s: float) -> float:
        """After how long a request that a budget has refused is worth another try. Raises Refused, naming the budget,
        when it has been spent so far that it does not fit until the batch expires."""
        now = self._clock.now()
        needs = ask.terms.plan.needs(now, ask.quote.least.amounts)
        try:
            states = await self._services.budgets.state([counter.name for counter, _ in needs])
        except QueueUnavailable:
            return PAUSE_S
        spent = spent_up(needs, states)
        for counter, left, need in spent:
            if counter.renews_at is None or counter.renews_at >= self._batch.expires_at:
                raise _spent(too_little_left(counter, left, need), counter)
        renews_at = max((counter.renews_at or 0.0 for counter, _, _ in spent), default=now)
        return max(again_s, renews_at - now)

    # --- nobody wants them any more -----------------------------------------------------------------------------------

    async def _end_unwanted(self, in_queue: list[Line], why: LineState) -> None:
        """What runs is stopped, and what has not begun does not."""
        ended = list(await asyncio.gather(*(self._call_off(line, why) for line in in_queue)))
        while lines := await self._turn(ended, LINES_AT_ONCE):
            ended = [batch_lines.not_done(self._batch.id, line, why) for line in lines]

    async def _call_off(self, line: Line, why: LineState) -> EndedLine:
        name = TaskId(batch_lines.task_id(self._batch.id, line.number))
        while True:
            try:
                task = await self._queue.cancel(name)
                if not task.state.has_ended:
                    task = await self._queue.wait(name, timeout_s=CALL_OFF_S)
            except NotFound:  # it was never there
                return batch_lines.not_done(self._batch.id, line, why)
            except QueueUnavailable:
                await self._clock.sleep(PAUSE_S)
            else:
                if task.state is State.DONE or task.state.has_failed:
                    return self._outcome(line, task)
                return batch_lines.not_done(self._batch.id, line, why)


def spent_up(needs: list[Need], states: list[CounterState | None]) -> list[tuple[Counter, int, int]]:
    """Of those counters that are spent so far that the need does not fit, whatever others give back: what is left, and
    the need. Slots come back by themselves. Pure."""
    found = []
    for (counter, need), state in zip(needs, states, strict=True):
        left = counter.limit - (0 if state is None else state.spent)
        if counter.unit is not Unit.CONCURRENT and left < need:
            found.append((counter, max(0, left), need))
    return found


def _spent(message: str, counter: Counter) -> Refused:
    if counter.renews_at is None:
        return BudgetExhausted(message, hint="it does not renew by itself")
    return Refused(message, hint="it does not renew before the batch expires", code="budget_exhausted")


async def until(event: asyncio.Event, clock: Clock, seconds: float) -> None:
    """Returns when the event is set, or after so long."""
    async with _beside(event.wait()) as told, _beside(clock.sleep(seconds)) as waited:
        await asyncio.wait({told, waited}, return_when=asyncio.FIRST_COMPLETED)


@asynccontextmanager
async def _beside(step: Awaitable[object]) -> AsyncIterator["asyncio.Task[object]"]:
    """Runs beside the block, and not longer."""
    task: asyncio.Task[object] = asyncio.ensure_future(step)
    try:
        yield task
    finally:
        await _cancel([task])


async def _cancel(tasks: "Iterable[asyncio.Task[Any]]") -> None:
    """Returns when they are over."""
    cancelled = list(tasks)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
