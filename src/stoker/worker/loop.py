"""The worker's day: announce the engine, claim while it has room, reclaim what others lost, and leave cleanly.

Five clocks of their own, so that none is a by-product of another: the engine's health and the announcement, the
claims, the reclaiming, the look for a notice that the machine is taken away, and each running task's lease (in
`runner`).
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import StokerError
from stoker.base.ids import ModelName
from stoker.engine.client import EngineClient
from stoker.instance.notices import Watcher
from stoker.policy.leaving import Notice, finish_by
from stoker.queue import Claim, Queue, Registry, Replica
from stoker.worker.runner import Runner

_log = logs.get(__name__)

ANNOUNCE_EVERY_S = 1.0
# Three announcements may be missed before the gateway stops sending requests here.
ANNOUNCE_TTL_S = 3.5
# While the engine is not up yet, and nothing is announced.
PROBE_EVERY_S = 0.1
# An engine that starts is silent for a moment. One that is silent for longer is worth a word, since all wait for it.
SILENCE_S = 5.0
RECLAIM_EVERY_S = 1.0
# How long one claim waits for a task, and so how long a stop may wait for a claim.
CLAIM_WAIT_S = 1.0
# When the engine has no room; requests that the gateway sends there directly come and go without our notice.
NO_ROOM_S = 0.05
# Before one that nobody needs any more may leave: a gateway that has not read of it yet still sends requests.
RETIRE_LEAST_S = 1.5
# After Redis said no.
PAUSE_S = 0.5


def room(*, capacity: int, own: int, engine_busy: int | None) -> int:
    """How many tasks may be claimed now. `engine_busy`: running and waiting there, whoever sent them; None: unknown."""
    return max(0, capacity - max(own, engine_busy or 0))


@dataclass(slots=True)
class Worker:
    """`grace_s`: how long running tasks may go on after a stop before they are handed back. `watcher`: says when the
    machine is taken away; None: nobody looks. `on_ready` is called once, when the engine is up and it is known whether
    it may be announced."""

    name: str
    model: ModelName
    capacity: int
    url: str
    engine: EngineClient
    queue: Queue
    registry: Registry
    runner: Runner
    clock: Clock
    lease_s: float
    grace_s: float
    watcher: Watcher | None = None
    on_ready: Callable[[], None] = lambda: None
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    _engine_up: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _give_back: asyncio.Event = field(default_factory=asyncio.Event)
    # Before that nothing is announced, and so nothing claimed: a notice may stand already when a worker starts.
    _has_looked: asyncio.Event = field(default_factory=asyncio.Event)
    # While one stands, nothing is announced and nothing claimed.
    _notice: Notice | None = None
    _handing_back: asyncio.Task[None] | None = None
    # So that no announcement that was on its way lands after the withdrawal.
    _announcing_now: asyncio.Lock = field(default_factory=asyncio.Lock)
    _is_announced: bool = False
    # What was claimed last may have been left by workers that it ended: nothing runs beside it.
    _is_alone: bool = False
    _silent_since: float | None = None
    _is_silence_told: bool = False

    def __post_init__(self) -> None:
        if self.runner.metrics is not None:
            self.runner.metrics.show(lambda: len(self._running), lambda: self.capacity, lambda: self._is_in_service)

    async def run(self, stop: asyncio.Event, retire: asyncio.Event | None = None) -> None:
        """Until `stop` is set; then drain. Returns when nothing of this worker's is left running. Once `retire` is set
        it takes nothing new, and drains when its engine has nothing left to do, or at `stop`.

        Raises what went wrong in one of its clocks, after draining: a worker that only seems to run is worse than none.
        """
        retire = retire or asyncio.Event()
        days = (self._watching(), self._announcing(), self._reclaiming())
        clocks = [asyncio.create_task(day) for day in days]
        claiming = asyncio.create_task(self._claiming())
        stopped, retired = asyncio.create_task(stop.wait()), asyncio.create_task(retire.wait())
        await asyncio.wait({stopped, retired, claiming, *clocks}, return_when=asyncio.FIRST_COMPLETED)
        self._stopping.set()
        if retired.done():
            await self._finish(claiming, stop)
        await self._drain(claiming)
        self._put_off_handing_back()
        for task in (stopped, retired, *clocks):
            task.cancel()
        for end in await asyncio.gather(claiming, stopped, retired, *clocks, return_exceptions=True):
            if isinstance(end, Exception):
                raise end

    async def _watching(self) -> None:
        while self.watcher is not None and not self.watcher.is_over:
            await self._follow(self.watcher, await self.watcher.look())
            self._has_looked.set()
            await self.clock.sleep(self.watcher.poll_s)
        self._has_looked.set()
        await self._stopping.wait()

    async def _announcing(self) -> None:
        await self._has_looked.wait()
        while True:
            await self._step(self._announce, or_wait_s=PAUSE_S)

    async def _reclaiming(self) -> None:
        while True:
            await self._step(self._reclaim, or_wait_s=PAUSE_S)
            await self.clock.sleep(RECLAIM_EVERY_S)

    async def _claiming(self) -> None:
        while not self._stopping.is_set():
            await self._step(self._claim, or_wait_s=PAUSE_S)

    async def _step(self, step: Callable[[], Awaitable[None]], *, or_wait_s: float) -> None:
        try:
            await step()
        except StokerError as error:
            _log.warning("worker waits", step=step.__name__.strip("_"), error=error.in_log)
            await self.clock.sleep(or_wait_s)

    # --- the engine -------------------------------------------------------------------------------------------------

    async def _announce(self) -> None:
        if await self.engine.is_healthy():
            self._engine_up.set()
            self._silent_since, self._is_silence_told = None, False
            async with self._announcing_now:
                if not self._stopping.is_set():
                    if self._notice is None:
                        await self.registry.announce(self._replica(), ttl_s=ANNOUNCE_TTL_S)
                        self._announced()
                    self._ready()
            await self.clock.sleep(ANNOUNCE_EVERY_S)
            return
        self._engine_up.clear()
        if self._is_announced:
            _log.warning("engine is down", url=self.url)
            await self.registry.withdraw(self.name)
            self._is_announced = False
        self._tell_of_silence()
        await self.clock.sleep(PROBE_EVERY_S)

    def _tell_of_silence(self) -> None:
        """Once for each time that the engine is away, after SILENCE_S."""
        now = self.clock.monotonic()
        self._silent_since = now if self._silent_since is None else self._silent_since
        if not self._is_silence_told and now - self._silent_since >= SILENCE_S:
            _log.warning("the engine does not answer; trying on", url=self.url)
            self._is_silence_told = True

    def _announced(self) -> None:
        if not self._is_announced:
            _log.info("engine is up", url=self.url)
            self._is_announced = True

    def _ready(self) -> None:
        """Out of service, too: whoever started this process shall not take it for one that cannot start."""
        self.on_ready()
        self.on_ready = lambda: None

    def _replica(self) -> Replica:
        return Replica(
            id=self.name,
            model=self.model,
            url=self.url,
            capacity=self.capacity,
            started_at=self.runner.started_at,
            running=len(self._running),
        )

    # --- tasks ------------------------------------------------------------------------------------------------------

    async def _claim(self) -> None:
        if not self._is_in_service:
            await self.clock.sleep(PROBE_EVERY_S)
            return
        if self._is_alone and self._running:
            await self._wait_for_room()
            return
        load = await self.engine.load()
        busy = None if load is None else load.running + load.waiting
        free = room(capacity=self.capacity, own=len(self._running), engine_busy=busy)
        if free == 0:
            await self._wait_for_room()
            return
        claims = await self.queue.claim(
            self.model,
            self.name,
            count=free,
            wait_s=CLAIM_WAIT_S,
            lease_s=self.lease_s,
            beside=len(self._running),
        )
        self._is_alone = any(claim.alone for claim in claims)
        for claim in claims:
            if self._is_in_service:
                self._start(claim)
            else:
                await self.queue.release(claim)  # no longer, since we waited; another worker may be

    async def _wait_for_room(self) -> None:
        """Until one of our own tasks has ended; not long, since others come and go at the engine without our notice."""
        pause = asyncio.create_task(self.clock.sleep(NO_ROOM_S))
        await asyncio.wait({pause, *self._running}, return_when=asyncio.FIRST_COMPLETED)
        pause.cancel()

    @property
    def _is_in_service(self) -> bool:
        return self._engine_up.is_set() and self._notice is None

    def _start(self, claim: Claim) -> None:
        task = asyncio.create_task(self._run(claim))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, claim: Claim) -> None:
        try:
            # Until the next probe says otherwise, an engine that takes no connection is down.
            await self.runner.run(claim, give_back=self._give_back, on_unreachable=self._engine_up.clear)
        except StokerError as error:
            # Redis is away: the lease runs out, and whoever reclaims the task gives it to another worker.
            _log.warning("task left to its lease", task=claim.task.id, error=error.in_log)

    async def _reclaim(self) -> None:
        moved = await self.queue.reclaim(self.model)
        if moved:
            if self.runner.metrics is not None:
                self.runner.metrics.reclaimed(moved)
            _log.info("tasks reclaimed", count=moved)

    # --- leaving ----------------------------------------------------------------------------------------------------

    async def _finish(self, claiming: "asyncio.Task[None]", stop: asyncio.Event) -> None:
        """Out of the gateway's sight, then wait until nothing runs on the engine, whoever sent it, or until `stop`."""
        _log.info("retiring", running=len(self._running))
        await self._withdraw()
        least = self.clock.monotonic() + RETIRE_LEAST_S
        while not stop.is_set():
            if claiming.done() and self.clock.monotonic() >= least and await self._is_idle():
                return
            await self.clock.sleep(NO_ROOM_S)

    async def _is_idle(self) -> bool:
        if self._running:
            return False
        try:
            load = await self.engine.load()
        except StokerError:
            return True  # it is gone, and nothing runs there
        return load is None or load.running + load.waiting == 0

    async def _withdraw(self) -> None:
        async with self._announcing_now:
            try:
                await self.registry.withdraw(self.name)
            except StokerError as error:
                _log.warning("cannot withdraw", error=error.in_log)

    async def _drain(self, claiming: "asyncio.Task[None]") -> None:
        """Out of the gateway's sight first, then let running tasks end, then hand back what is left. A notice that
        leaves less than the grace hands back earlier."""
        _log.info("draining", running=len(self._running))
        ends_at = self.clock.monotonic() + self.grace_s
        await self._withdraw()
        # Not cancelled: what a claim has taken in the meantime would lie there until its lease is over.
        await asyncio.wait({claiming})
        if self._running:
            await asyncio.wait(set(self._running), timeout=max(0.0, ends_at - self.clock.monotonic()))
        await self._hand_back()

    async def _hand_back(self) -> None:
        """Returns when nothing runs any more."""
        left = set(self._running)
        is_first = not self._give_back.is_set()
        self._give_back.set()
        if left:
            await asyncio.wait(left)
        if left and is_first:
            _log.info("handed back", count=len(left))

    # --- when the machine is taken away -----------------------------------------------------------------------------

    async def _follow(self, watcher: Watcher, notice: Notice | None) -> None:
        """Do what a notice asks for that is new, and undo it for one that stands no longer."""
        if notice == self._notice:
            return
        is_news = self._notice is None
        self._notice = notice
        self._put_off_handing_back()
        if notice is None:
            _log.info("notice withdrawn")
            if not self._stopping.is_set():
                self._give_back.clear()
            return
        until = finish_by(notice, now=self.clock.now(), reserve_s=watcher.reserve_s)
        if notice.action != "rebalance":
            times = {"at": _written(notice.at), "finish_by": _written(until)}
            _log.warning("spot notice", action=notice.action, **times, running=len(self._running))
        if is_news:
            await self._withdraw()
            self._is_announced = False
        if until < math.inf:
            self._handing_back = asyncio.create_task(self._hand_back_at(until))

    async def _hand_back_at(self, at: float) -> None:
        await self.clock.sleep(at - self.clock.now())
        await self._hand_back()

    def _put_off_handing_back(self) -> None:
        if self._handing_back is not None:
            self._handing_back.cancel()
            self._handing_back = None


def _written(at: float | None) -> str | None:
    """For people who read logs."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
