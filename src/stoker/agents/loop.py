"""The worker's day: claim steps while there is room, keep their leases, reclaim what others lost, and leave cleanly."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from stoker.agents.metrics import StepMetrics
from stoker.agents.steps import Stepper
from stoker.agents.tasks import MODEL
from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import QueueUnavailable, StokerError
from stoker.instance.notices import Watcher
from stoker.policy.leaving import Notice
from stoker.queue import Claim, LeaseState, Queue

_log = logs.get(__name__)

CLAIM_WAIT_S = 1.0
RECLAIM_EVERY_S = 1.0
FLUSH_EVERY_S = 0.25
IDLE_EVERY_S = 5.0
WATCH_AFTER_S = 0.1  # a lease is longer, and a wish to cancel a step can wait so long
PAUSE_S = 0.5  # after Redis said no


class _Lost(Exception):
    """The lease went to another worker."""


class _Unwanted(Exception):
    """Somebody cancelled the run."""


@dataclass(slots=True)
class Worker:
    """`grace_s`: how long steps may go on after a stop before they are handed back; a step that is handed back goes on
    elsewhere from what its nodes had finished."""

    name: str
    stepper: Stepper
    queue: Queue
    clock: Clock
    room: int
    lease_s: float
    grace_s: float
    delay_s: Callable[[int], float]
    metrics: StepMetrics
    watcher: Watcher | None = None
    on_ready: Callable[[], None] = lambda: None
    chores: Sequence[tuple[float, Callable[[], Awaitable[object]]]] = ()
    """What else it does, each every so many seconds."""
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _notice: Notice | None = None

    async def run(self, stop: asyncio.Event, retire: asyncio.Event) -> None:
        """Until `stop` or `retire`; then what runs has its grace, and is handed back. Raises what went wrong in one of
        its clocks."""
        self.metrics.show(lambda: len(self._running), self.room)
        days = (
            *(self._every(RECLAIM_EVERY_S, self._reclaim), self._every(FLUSH_EVERY_S, self.stepper.flush)),
            *(self._every(IDLE_EVERY_S, self.stepper.close_idle), self._watching()),
            *(self._every(seconds, step) for seconds, step in self.chores),
        )
        clocks = [asyncio.create_task(day) for day in days]
        claiming = asyncio.create_task(self._claiming())
        ends = [asyncio.create_task(stop.wait()), asyncio.create_task(retire.wait())]
        self.on_ready()
        await asyncio.wait({*ends, claiming, *clocks}, return_when=asyncio.FIRST_COMPLETED)
        self._stopping.set()
        await asyncio.wait({claiming})
        _log.info("draining", running=len(self._running))
        grace_s = None if ends[1].done() and not ends[0].done() else self.grace_s
        if self._running:
            await asyncio.wait({ends[0], *self._running} if grace_s is None else self._running, timeout=grace_s)
        await self._hand_back()
        for task in (*ends, *clocks):
            task.cancel()
        for end in await asyncio.gather(claiming, *ends, *clocks, return_exceptions=True):
            if isinstance(end, Exception):
                raise end

    async def _hand_back(self) -> None:
        left = set(self._running)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
            _log.info("handed back", count=len(left))

    async def _every(self, seconds: float, step: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await step()
            except StokerError as error:
                _log.warning("worker waits", step=step.__name__.strip("_"), error=error.in_log)
            await self.clock.sleep(seconds)

    async def _reclaim(self) -> None:
        moved = await self.queue.reclaim(MODEL)
        if moved:
            _log.info("steps reclaimed", count=moved)

    async def _watching(self) -> None:
        """A notice that the machine is taken away: nothing is taken any more, and what runs is handed back."""
        while self.watcher is not None and not self.watcher.is_over:
            notice = await self.watcher.look()
            if notice is not None and self._notice is None and notice.action != "rebalance":
                _log.warning("spot notice", action=notice.action, running=len(self._running))
                self._notice = notice
                await self._hand_back()
            elif notice is None:
                self._notice = None
            await self.clock.sleep(self.watcher.poll_s)
        await asyncio.Event().wait()

    # --- steps ------------------------------------------------------------------------------------------------------

    async def _claiming(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._claim()
            except StokerError as error:
                _log.warning("worker waits", step="claim", error=error.in_log)
                await self.clock.sleep(PAUSE_S)

    async def _claim(self) -> None:
        free = self.room - len(self._running)
        if free <= 0 or self._notice is not None:
            pause = asyncio.create_task(self.clock.sleep(RECLAIM_EVERY_S))
            await asyncio.wait({pause, *self._running}, return_when=asyncio.FIRST_COMPLETED)
            pause.cancel()
            return
        claims = await self.queue.claim(
            MODEL, self.name, count=free, wait_s=CLAIM_WAIT_S, lease_s=self.lease_s, beside=len(self._running)
        )
        for claim in claims:
            if self._notice is not None:  # since we waited; another worker may be better off
                await self._released(claim)
                continue
            task = asyncio.create_task(self._take(claim))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _take(self, claim: Claim) -> None:
        """One claim to its end. Cancelled: it is handed back."""
        work = asyncio.create_task(self.stepper.perform(claim))
        watch: asyncio.Task[None] | None = None
        try:
            # Most steps that ask no model are over before there is anything to watch.
            await asyncio.wait({work}, timeout=WATCH_AFTER_S)
            if not work.done():
                watch = asyncio.create_task(self._hold(claim))
                await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if watch is not None and not work.done():
                work.cancel()
                await asyncio.wait({work})
                await self._let_go(claim, watch)
            else:
                await self._finish(claim, work)
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait({work})
            await self._released(claim)
        except QueueUnavailable as error:
            _log.warning("step left to its lease", task=claim.task.id, error=error.in_log)
        finally:
            if watch is not None:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)

    async def _finish(self, claim: Claim, work: "asyncio.Task[None]") -> None:
        error = work.exception() if not work.cancelled() else None
        if error is None:
            await self.queue.complete(claim, {})  # with a record that it was, and cost nothing by itself
            self.metrics.ended("done")
            return
        if isinstance(error, QueueUnavailable):
            raise error
        reason = error.in_log if isinstance(error, StokerError) else f"{type(error).__name__}: {error}"
        reason = self.stepper.redacted(reason)[:500]
        _log.warning("step failed", task=claim.task.id, attempt=claim.attempt, error=reason)
        await self.queue.fail(claim, reason, retry_in_s=self.delay_s(claim.attempt))
        self.metrics.ended("failed")

    async def _hold(self, claim: Claim) -> None:
        """Keep the lease until it cannot be kept any more. Raises _Lost, _Unwanted."""
        while True:
            try:
                async with asyncio.timeout(self.lease_s / 3):
                    await self.queue.cancelled(claim)
            except TimeoutError:
                pass
            except QueueUnavailable:
                await self.clock.sleep(min(1.0, self.lease_s / 3))
            try:
                state = await self.queue.extend(claim, lease_s=self.lease_s)
            except QueueUnavailable as error:
                _log.warning("cannot extend the lease", task=claim.task.id, error=error.in_log)
                continue
            if state is LeaseState.LOST:
                raise _Lost
            if state is LeaseState.CANCELLED:
                raise _Unwanted

    async def _let_go(self, claim: Claim, watch: "asyncio.Task[None]") -> None:
        try:
            watch.result()
        except _Lost:
            self.metrics.ended("lost")
            _log.warning("lease lost", task=claim.task.id, attempt=claim.attempt)
        except _Unwanted:
            await self.queue.release(claim)
            self.metrics.ended("cancelled")
            _log.info("step cancelled", task=claim.task.id)

    async def _released(self, claim: Claim) -> None:
        try:
            await self.queue.release(claim)
            self.metrics.ended("handed back")
        except StokerError as error:
            _log.warning("step left to its lease", task=claim.task.id, error=error.in_log)
