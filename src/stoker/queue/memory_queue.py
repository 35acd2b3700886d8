"""The queue in memory: the twin of `redis_queue` for tests and simulations, held to the same contract suite.

One object is one Redis: give it to everybody who would share one. A change of state never awaits, so each is one step.
"""

import asyncio
import itertools
import math
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from stoker.base.clock import Clock, SystemClock
from stoker.base.errors import NotFound
from stoker.base.ids import ModelName, TaskId, new_id
from stoker.meter.usage import UsageRecord
from stoker.policy.fairness import Order, smoothed_ms, wait_s
from stoker.queue import codec, keys
from stoker.queue.books import Books
from stoker.queue.budgets import GIVE_BACK_MS, Hold, hold_void, scopes_of
from stoker.queue.cursors import START, parse_cursor
from stoker.queue.doorbells import rung_within
from stoker.queue.holds import TaskMoney
from stoker.queue.letters import ANY, DROPPED_KEPT, GONE_S, Dropped, Letters, Which, code_of
from stoker.queue.memory_usage import MemoryUsage, empty_usage, with_small_result
from stoker.queue.tasks import (
    CHUNKS_KEPT_S,
    HELD_BACK_S,
    Attempt,
    Chunk,
    Claim,
    Delivery,
    Depth,
    Json,
    LeaseState,
    NewTask,
    Partial,
    Place,
    QueueSettings,
    State,
    Task,
    TokenBound,
    deadline_error,
    lease_expired_reason,
    not_dead,
    not_taken_back,
    queue_full,
    unpaid_error,
)


@dataclass(slots=True)
class _Kept:
    """What the Redis twin keeps in a task's hash."""

    task: Task
    money: TaskMoney
    token: int = 0
    lease_until: float = 0.0
    charged: int | None = None  # what its latest claim added to the counter of its tenant
    last: str = ""  # "<token>:<step>" of the claim that finished last
    replay: tuple[str, int] | None = None  # owner and number of the reservation that its latest replay took over
    partial: Partial | None = None  # what its answer had come to
    is_lost: bool = False  # its worker or its engine went away under it
    unpaid: float | None = None  # it waits for what gateways give back: when it is to be tried again
    has_body: bool = True  # else a message has it
    letter: int = 0  # a dead one: where it is among the letters
    dropped: tuple[str, str] | None = None  # who dropped it, and why
    forget_at: float | None = None
    chunks: list[Chunk] = field(default_factory=list)
    news: set[asyncio.Event] = field(default_factory=set)

    @property
    def runs_alone(self) -> bool:
        return self.is_lost and len(self.task.attempts) + 1 >= self.task.max_attempts

    def ring(self) -> None:
        for rung in self.news:
            rung.set()


@dataclass(slots=True)
class _Model:
    waiting: Order = field(default_factory=Order)
    run_ms: int | None = None  # how long tasks run
    running: set[TaskId] = field(default_factory=set)
    delayed: set[TaskId] = field(default_factory=set)
    dead: list[TaskId] = field(default_factory=list)
    idle: deque[asyncio.Event] = field(default_factory=deque)  # workers that wait, one is woken for each task


class MemoryQueue:
    """`interface.Queue` without a server. Leases, deadlines and delays go by `clock`, waiting by real time.

    `books` are the budgets that tasks hold parts of, for `MemoryBudgets`.
    """

    def __init__(self, *, settings: QueueSettings | None = None, clock: Clock | None = None) -> None:
        self.books = Books()
        self.settings = settings or QueueSettings()
        self._clock = clock or SystemClock()
        self._kept: dict[TaskId, _Kept] = {}
        self._models: defaultdict[str, _Model] = defaultdict(_Model)
        self._letter_numbers = itertools.count(1)
        self._gone: dict[TaskId, tuple[int, float]] = {}  # the latest life that was replayed or dropped, and until when
        self._dropped: deque[Dropped] = deque(maxlen=DROPPED_KEPT)
        self._callbacks: dict[tuple[int, TaskId], float] = {}  # lives that are to be told of, and when
        self._leaders: dict[str, tuple[str, float]] = {}
        self._forwarding: Json | None = None
        self._usage = MemoryUsage(self._clock)
        self._topics: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    # --- for the caller ---------------------------------------------------------------------------------------------

    async def submit(self, new: NewTask, *, task_id: TaskId | None = None, hold: Hold | None = None) -> Task:
        body = codec.encode_json(new.body, what="body", max_bytes=self.settings.max_body_bytes)
        task_id = task_id or TaskId(new_id("task"))
        self._forget_if_over(task_id)
        if task_id in self._kept:
            if hold is not None:
                self.books.free_hold(self._now(), hold)
            return await self.get(task_id)
        self._check_room(new)
        money, now = self._take_hold(hold, new.scopes), self._now()
        deadline = None if new.timeout_s is None else now + new.timeout_s
        task = codec.task_of(new, task_id, body, now, deadline)
        self._kept[task_id] = _Kept(task, money)
        self._enqueue(self._kept[task_id])
        return task

    async def get(self, task_id: TaskId) -> Task:
        return self._find(task_id).task

    async def place(self, task_id: TaskId) -> Place | None:
        task = self._find(task_id).task
        if task.state != State.QUEUED:
            return None
        model = self._models[task.model]
        ahead = model.waiting.ahead(task_id)
        return Place(ahead, wait_s(ahead + 1, model.run_ms, len(model.running)))

    async def wait(self, task_id: TaskId, *, timeout_s: float) -> Task:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        with self._news_of(self._find(task_id)) as rung:
            while True:
                rung.clear()
                kept, left = self._find(task_id), until - loop.time()
                if kept.task.state.has_ended or left <= 0:
                    return kept.task
                await rung_within(rung, left)

    async def chunks(self, task_id: TaskId, *, after: str | None = None) -> AsyncIterator[Chunk]:
        seen = START if after is None else parse_cursor(after)
        with self._news_of(self._find(task_id)) as rung:
            while True:
                rung.clear()
                kept = self._find(task_id)
                fresh = [each for each in self._said(kept) if parse_cursor(each.cursor) > seen]
                for chunk in fresh:
                    seen = parse_cursor(chunk.cursor)
                    yield chunk
                if fresh:
                    continue  # more may have come, or the end, while the reader had them
                if kept.task.state.has_ended:
                    return
                await rung.wait()

    async def newest_chunk(self, task_id: TaskId) -> str | None:
        kept = self._kept.get(task_id)
        said = () if kept is None else self._said(kept)
        return said[-1].cursor if said else None

    async def cancel(self, task_id: TaskId) -> Task:
        kept = self._find(task_id)
        model = self._models[kept.task.model]
        if kept.task.state == State.QUEUED:
            model.waiting.remove(task_id, self._now())
            self._finish(kept, State.CANCELLED, None)
        elif kept.task.state == State.RETRYING:
            model.delayed.remove(task_id)
            self._finish(kept, State.CANCELLED, None)
        elif kept.task.state == State.RUNNING:
            kept.task = replace(kept.task, cancel_requested=True)
            kept.ring()
        return kept.task

    async def list(
        self, *, model: ModelName | None = None, state: State | None = None, limit: int = 100
    ) -> Sequence[Task]:
        self._forget_old()
        wanted = [
            _summary(kept.task)
            for kept in self._kept.values()
            if (model is None or kept.task.model == model) and (state is None or kept.task.state == state)
        ]
        return sorted(wanted, key=lambda task: (task.submitted_at, task.id), reverse=True)[:limit]

    async def depth(self, model: ModelName) -> Depth:
        found = self._models[model]
        return Depth(len(found.waiting), len(found.running), len(found.delayed), len(found.dead))

    async def waiting_tokens(self, model: ModelName) -> int:
        return self._models[model].waiting.tokens

    async def oldest(self, model: ModelName) -> float | None:
        found = self._models[model].waiting.firsts(1000)
        return min((self._kept[TaskId(task_id)].task.submitted_at for task_id in found), default=None)

    async def dead(self, model: ModelName, *, limit: int = 100) -> Sequence[Task]:
        return [_summary(self._kept[task_id].task) for task_id in reversed(self._models[model].dead)][:limit]

    async def retry(self, task_id: TaskId, *, hold: Hold | None = None, bound: TokenBound | None = None) -> Task:
        kept = self._find(task_id)
        task, replay = kept.task, hold and (hold.owner, hold.number)
        if replay is not None and replay == kept.replay:
            return task  # the same call again
        if task.state != State.DEAD:
            raise not_dead(task_id, task.state, "replayed")
        return self._replay(kept, hold, bound)

    def _replay(self, kept: _Kept, hold: Hold | None, bound: TokenBound | None) -> Task:
        task, replay = kept.task, hold and (hold.owner, hold.number)
        kept.money = self._take_hold(hold, kept.money.scopes)
        kept.replay = replay or kept.replay
        if task.state == State.DEAD:
            self._models[task.model].dead.remove(task.id)
        self._gone[task.id] = (task.replays, self._now() + GONE_S)
        kept.last, kept.chunks, kept.forget_at, kept.is_lost = "", [], None, False
        kept.task = replace(
            task,
            attempts=(),
            replays=task.replays + 1,
            bound=bound or task.bound,
            worker=None,
            started_at=None,
            ended_at=None,
            error=None,
            delivery=None,
            cancel_requested=False,
            deadline=None if task.timeout_s is None else self._now() + task.timeout_s,
        )
        self._enqueue(kept)
        return kept.task

    async def drop_answer(self, task_id: TaskId) -> None:
        kept = self._kept.get(task_id)
        if kept is None or not kept.task.state.has_ended:
            return
        if kept.task.state in (State.DEAD, State.FORWARDED):
            self._gone[task_id] = (kept.task.replays, self._now() + GONE_S)
            self._leave_letters(kept, State.CANCELLED, self.settings.result_ttl_s)
            kept.task = replace(kept.task, error=None)
        kept.task = replace(kept.task, body={}, result=None)
        kept.chunks = []

    # --- dead letters -----------------------------------------------------------------------------------------------

    async def letters(
        self, model: ModelName, *, which: Which = ANY, after: str | None = None, limit: int = 100
    ) -> Letters:
        before = math.inf if after is None else parse_cursor(after)[1]
        dead = [self._kept[task_id] for task_id in reversed(self._models[model].dead)]
        meant = [kept for kept in dead if kept.letter < before and which.takes(kept.task)]
        page = meant[:limit]
        more = f"0-{page[-1].letter}" if len(meant) > limit else None
        return Letters([_summary(kept.task) for kept in page], more)

    async def drop(self, task_id: TaskId, *, by: str, why: str) -> Task:
        kept, why = self._find(task_id), codec.cut_reason(why)
        task, now = kept.task, self._now()
        if task.state == State.DROPPED and kept.dropped == (by, why):
            return task  # the same call again
        if task.state != State.DEAD:
            raise not_dead(task_id, task.state, "dropped")
        code = code_of(task)
        entry = Dropped(
            id=task.id,
            model=task.model,
            tenant=task.tenant,
            code=code,
            by=by,
            why=why,
            died_at=task.ended_at,
            dropped_at=now,
        )
        self._dropped.append(entry)
        self._gone[task_id] = (task.replays, now + GONE_S)
        kept.dropped = (by, why)
        return self._leave_letters(kept, State.DROPPED, self.settings.result_ttl_s)

    async def dropped(self, *, limit: int = 100) -> Sequence[Dropped]:
        return list(reversed(self._dropped))[:limit]

    async def forwarded(self, letter: Task, *, has_body: bool) -> bool:
        kept = self._kept.get(letter.id)
        if kept is None or kept.task.state != State.DEAD or kept.task.replays != letter.replays:
            return False
        if has_body:
            kept.task, kept.has_body = replace(kept.task, body={}), False
        self._leave_letters(kept, State.FORWARDED, GONE_S)
        return True

    async def take_back(self, letter: Task, *, hold: Hold | None = None, bound: TokenBound | None = None) -> Task:
        self._forget_old()
        kept, life = self._kept.get(letter.id), self._gone.get(letter.id, (-1, 0.0))[0]
        if kept is not None and hold is not None and (hold.owner, hold.number) == kept.replay:
            return kept.task  # the same call again
        if kept is not None:
            is_over = kept.task.replays != letter.replays or kept.task.state not in (State.DEAD, State.FORWARDED)
        else:
            is_over = life >= letter.replays
        if is_over:
            raise not_taken_back(letter, "over")
        body = kept.task.body if kept is not None and kept.has_body else letter.body or None
        if body is None:
            raise not_taken_back(letter, "bodiless")
        if kept is None:
            kept = _Kept(letter, TaskMoney(self.books, scopes=codec.new_of(letter).scopes))
        kept.task, kept.has_body = replace(kept.task, body=body), True
        task = self._replay(kept, hold, bound)
        self._kept[letter.id] = kept
        return task

    # --- news of other things ---------------------------------------------------------------------------------------

    async def ring(self, topic: str) -> None:
        for rung in self._topics.get(topic, ()):
            rung.set()

    @asynccontextmanager
    async def listening(self, topic: str) -> AsyncIterator[asyncio.Event]:
        rung = asyncio.Event()
        self._topics[topic].add(rung)
        try:
            yield rung
        finally:
            self._topics[topic].discard(rung)
            if not self._topics[topic]:
                del self._topics[topic]

    # --- calling back, and one at a time ----------------------------------------------------------------------------

    async def callbacks_due(self, *, count: int, lease_s: float, most_result_bytes: int) -> Sequence[Task]:
        self._forget_old()
        now, due = self._now(), []
        waiting = sorted((at, life) for life, at in self._callbacks.items() if at <= now)[:count]
        for _, (replays, task_id) in waiting:
            kept = self._kept.get(task_id)
            if kept is not None and kept.task.replays == replays and kept.task.state.has_ended:
                self._callbacks[replays, task_id] = now + lease_s
                due.append(with_small_result(kept.task, most_result_bytes))
            else:
                del self._callbacks[replays, task_id]
        return due

    async def called_back(self, task: Task, delivery: Delivery, *, again_in_s: float | None) -> bool:
        life, kept = (task.replays, task.id), self._kept.get(task.id)
        if life not in self._callbacks:
            return False
        if kept is None or kept.task.replays != task.replays:
            del self._callbacks[life]
            return False
        kept.task = replace(kept.task, delivery=delivery)
        if again_in_s is None:
            del self._callbacks[life]
        else:
            self._callbacks[life] = self._now() + again_in_s
        return True

    async def lead(self, name: str, holder: str, *, ttl_s: float) -> bool:
        now = self._now()
        led_by, until = self._leaders.get(name, (holder, now))
        if led_by != holder and now < until:
            return False
        self._leaders[name] = (holder, now + ttl_s)
        return True

    async def resign(self, name: str, holder: str) -> None:
        if self._leaders.get(name, ("", 0.0))[0] == holder:
            del self._leaders[name]

    async def say_forwarding(self, said: Mapping[str, Any]) -> None:
        self._forwarding = dict(said)

    async def forwarding(self) -> Mapping[str, Any] | None:
        return self._forwarding

    # --- for the worker ---------------------------------------------------------------------------------------------

    async def claim(
        self,
        model: ModelName,
        worker: str,
        *,
        count: int = 1,
        wait_s: float = 0.0,
        lease_s: float = 30.0,
        beside: int = 0,
    ) -> Sequence[Claim]:
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while True:
            claims, is_held_back = self._claim_now(model, worker, count, lease_s, beside)
            left = until - loop.time()
            if claims or left <= 0:
                return claims
            if is_held_back:
                await asyncio.sleep(min(left, HELD_BACK_S))
                return []
            woken = asyncio.Event()
            self._models[model].idle.append(woken)
            try:
                await rung_within(woken, left)
            finally:
                if woken in self._models[model].idle:
                    self._models[model].idle.remove(woken)

    async def extend(self, claim: Claim, *, lease_s: float) -> LeaseState:
        kept = self._held(claim)
        if kept is None:
            return LeaseState.LOST
        kept.lease_until = self._now() + lease_s
        return LeaseState.CANCELLED if kept.task.cancel_requested else LeaseState.HELD

    async def cancelled(self, claim: Claim) -> None:
        kept = self._kept.get(claim.task.id)
        if kept is None:
            return
        with self._news_of(kept) as rung:
            while True:
                rung.clear()
                held = self._held(claim)
                if held is None or held.task.cancel_requested:
                    return
                await rung.wait()

    async def publish(self, claim: Claim, chunks: Sequence[bytes], *, first: int) -> bool:
        kept = self._held(claim)
        if kept is None:
            return False
        have = parse_cursor(kept.chunks[-1].cursor)[1] if kept.chunks else -1
        for number, data in enumerate(chunks, start=first):
            if number > have:
                kept.chunks.append(Chunk(f"{claim.answer_token}-{number}", data, claim.answer_token))
        kept.ring()
        return True

    async def complete(self, claim: Claim, result: Mapping[str, Any], *, usage: UsageRecord | None = None) -> bool:
        stored = codec.encode_json(result, what="result", max_bytes=self.settings.max_result_bytes)
        kept, answer = self._finishing(claim, "complete", usage)
        if kept is not None:
            self._remember_run(kept.task)
        if kept is not None and kept.task.cancel_requested:
            self._finish(kept, State.CANCELLED, usage)
        elif kept is not None:
            kept.task = replace(kept.task, result=codec.decode_json(stored))
            self._finish(kept, State.DONE, usage)
        return answer

    async def fail(
        self,
        claim: Claim,
        reason: str,
        *,
        retry_in_s: float | None,
        error: Mapping[str, Any] | None = None,
        usage: UsageRecord | None = None,
        partial: Partial | None = None,
        is_lost: bool = False,
    ) -> bool:
        reason = codec.cut_reason(reason)
        told = codec.failure(reason, error)
        kept, answer = self._finishing(claim, "fail", usage)
        if kept is not None and kept.task.cancel_requested:
            self._finish(kept, State.CANCELLED, usage)
        elif kept is not None:
            kept.is_lost = kept.is_lost or is_lost
            self._attempt_failed(kept, reason, retry_in_s, told, usage, self._as_kept(partial))
        return answer

    def _as_kept(self, partial: Partial | None) -> Partial | None:
        data = codec.encode_partial(partial, max_bytes=self.settings.max_result_bytes)
        return codec.partial_from({keys.PARTIAL: data} if data else {})

    async def release(self, claim: Claim, *, usage: UsageRecord | None = None, partial: Partial | None = None) -> bool:
        partial = self._as_kept(partial)
        kept, answer = self._finishing(claim, "release", usage)
        if kept is not None and kept.task.cancel_requested:
            self._finish(kept, State.CANCELLED, usage)
        elif kept is not None and partial is not None:
            self._go_on(kept, usage, partial, self._now())
        elif kept is not None and kept.partial is not None and usage is None:
            self._enqueue(kept)  # nothing was tried, and the next one goes on as this one would have
        elif kept is not None:
            kept.partial = None
            self._try_again(kept, usage, self._now())
        return answer

    async def reclaim(self, model: ModelName) -> int:
        found, now = self._models[model], self._now()
        # As Redis does: in the order in which they became due or expired.
        due = [kept for kept in self._those(found.delayed) if (kept.task.due_at or 0.0) <= now]
        due.sort(key=lambda kept: kept.task.due_at or 0.0)
        for kept in due:
            found.delayed.remove(kept.task.id)
            self._come_due(kept, now)
        expired = [kept for kept in self._those(found.running) if kept.lease_until <= now]
        expired.sort(key=lambda kept: kept.lease_until)
        for kept in expired:
            found.running.remove(kept.task.id)
            kept.money.count_whole_attempt(kept.task.bound, kept.partial)
            reason = lease_expired_reason(kept.task.worker or "")
            if kept.task.cancel_requested:
                self._finish(kept, State.CANCELLED, None, reason)
            else:
                kept.is_lost = True
                error = {"message": reason, "type": "server_error", "code": "lease_expired"}
                self._attempt_failed(kept, reason, 0.0, error, None, None)
            kept.ring()
        if found.waiting and found.idle:  # a worker that was woken and went away has swallowed the ring
            found.idle.popleft().set()
        return len(due) + len(expired)

    # --- usage on its way to the ledger -----------------------------------------------------------------------------

    async def append_usage(self, record: UsageRecord) -> None:
        if self.books.is_first_time(self._now(), record.id):
            self.books.count_late(self._now(), scopes_of(record), (), record.to_json())
            self.add_usage(record)

    async def read_usage(
        self, consumer: str, *, count: int = 100, wait_s: float = 0.0, redeliver_after_s: float | None = None
    ) -> Sequence[tuple[str, UsageRecord]]:
        after_s = self.settings.usage_redelivery_s if redeliver_after_s is None else redeliver_after_s
        return await self._usage.read(count, wait_s, after_s)

    async def ack_usage(self, entry_ids: Sequence[str]) -> None:
        self._usage.ack(entry_ids)

    async def aclose(self) -> None:
        pass  # nothing to give back

    # --- steps, none of which awaits --------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._clock.now()

    def _find(self, task_id: TaskId) -> _Kept:
        kept = self._kept.get(task_id)
        if kept is None or (kept.forget_at is not None and kept.forget_at <= self._now()):
            raise NotFound(f"there is no task {task_id!r}", code="task_not_found")
        return kept

    def _said(self, kept: _Kept) -> Sequence[Chunk]:
        """The chunks that are still kept."""
        ended_at = kept.task.ended_at if kept.task.state.has_ended else None
        return () if ended_at is not None and ended_at + CHUNKS_KEPT_S <= self._now() else kept.chunks

    def _forget_if_over(self, task_id: TaskId) -> None:
        kept = self._kept.get(task_id)
        if kept is not None and kept.forget_at is not None and kept.forget_at <= self._now():
            del self._kept[task_id]

    def _forget_old(self) -> None:
        now = self._now()
        for task_id in [i for i, kept in self._kept.items() if kept.forget_at is not None and kept.forget_at <= now]:
            del self._kept[task_id]

        self._gone = {task_id: gone for task_id, gone in self._gone.items() if now < gone[1]}

    def _leave_letters(self, kept: _Kept, state: State, ttl_s: float) -> Task:
        if kept.task.state == State.DEAD:
            self._models[kept.task.model].dead.remove(kept.task.id)
        kept.forget_at = self._now() + ttl_s
        kept.task = replace(kept.task, state=state)
        return kept.task

    def _those(self, task_ids: set[TaskId]) -> Sequence[_Kept]:
        return sorted((self._kept[task_id] for task_id in task_ids), key=lambda kept: kept.task.id)

    @contextmanager
    def _news_of(self, kept: _Kept) -> Iterator[asyncio.Event]:
        rung = asyncio.Event()
        kept.news.add(rung)
        try:
            yield rung
        finally:
            kept.news.remove(rung)

    def _enqueue(self, kept: _Kept) -> None:
        kept.task = replace(kept.task, state=State.QUEUED, due_at=None)
        model = self._models[kept.task.model]
        model.waiting.add(kept.task.id, kept.task.share, self._now())
        if model.idle:
            model.idle.popleft().set()

    def _claim_now(
        self, model: ModelName, worker: str, count: int, lease_s: float, beside: int
    ) -> tuple[Sequence[Claim], bool]:
        found, now = self._models[model], self._now()
        claims: list[Claim] = []
        is_full = is_held_back = False
        while not is_full and len(claims) < count and (task_id := found.waiting.next()) is not None:
            kept = self._kept[TaskId(task_id)]
            if _is_late(kept.task, now):
                found.waiting.remove(task_id, now)
                self._bury(kept, deadline_error(), None)
                continue
            is_full = kept.runs_alone
            is_held_back = is_full and (beside > 0 or len(claims) > 0)
            if not is_held_back:
                kept.charged = found.waiting.take(task_id, now)
                claims.append(self._take(kept, worker, now, lease_s))
        if found.waiting and found.idle:
            found.idle.popleft().set()
        return claims, is_held_back

    def _take(self, kept: _Kept, worker: str, now: float, lease_s: float) -> Claim:
        kept.token += 1
        kept.lease_until = now + lease_s
        kept.chunks = kept.chunks if kept.partial else []
        kept.task = replace(kept.task, state=State.RUNNING, worker=worker, started_at=now)
        self._models[kept.task.model].running.add(kept.task.id)
        deadline = kept.task.deadline
        return Claim(
            task=kept.task,
            token=kept.token,
            worker=worker,
            attempt=len(kept.task.attempts) + 1,
            lease_expires_at=kept.lease_until,
            time_left_s=None if deadline is None else deadline - now,
            partial=kept.partial,
            alone=kept.runs_alone,
        )

    def _held(self, claim: Claim) -> _Kept | None:
        kept = self._kept.get(claim.task.id)
        if kept is None or kept.task.state != State.RUNNING or kept.token != claim.token:
            return None
        return kept

    def _finishing(self, claim: Claim, step: str, usage: UsageRecord | None) -> tuple[_Kept | None, bool]:
        """What to finish, if anything, and the answer: the same call made again is told the same, changing nothing."""
        mark = f"{claim.token}:{step}"
        known = self._kept.get(claim.task.id)
        if known is not None and known.last == mark:
            return None, True
        kept = self._held(claim)
        if kept is None:
            return None, False
        kept.last = mark
        model = self._models[kept.task.model]
        model.running.remove(kept.task.id)
        if kept.charged is not None:
            tokens = 0 if usage is None else usage.prompt_tokens + usage.completion_tokens
            model.waiting.correct(kept.task.share, kept.charged, tokens, self._now())
            kept.charged = None
        return kept, True

    def _remember_run(self, task: Task) -> None:
        """As in Redis, in whole milliseconds of its clock."""
        model = self._models[task.model]
        model.run_ms = smoothed_ms(model.run_ms, _whole_ms(self._now()) - _whole_ms(task.started_at or 0.0))

    def _attempt_failed(
        self,
        kept: _Kept,
        reason: str,
        retry_in_s: float | None,
        error: Json,
        usage: UsageRecord | None,
        partial: Partial | None,
    ) -> None:
        now, task = self._now(), kept.task
        attempt = Attempt(
            number=len(task.attempts) + 1,
            worker=task.worker or "",
            started_at=task.started_at or 0.0,
            ended_at=now,
            reason=reason,
        )
        kept.task = task = replace(task, attempts=(*task.attempts, attempt))
        if retry_in_s is None or attempt.number >= task.max_attempts:
            self._bury(kept, error, usage, reason)
        elif _is_late(task, now + retry_in_s):
            self._bury(kept, deadline_error(), usage)
        elif partial is not None:
            self._go_on(kept, usage, partial, now + retry_in_s)
        else:
            kept.partial = None
            self._try_again(kept, usage, now + retry_in_s)

    def _go_on(self, kept: _Kept, usage: UsageRecord | None, partial: Partial, at: float) -> None:
        """Another attempt, that goes on where this one ended."""
        kept.money.remember(usage)
        kept.partial = partial
        self._go_back(kept, self._now(), at)

    def _try_again(self, kept: _Kept, usage: UsageRecord | None, at: float) -> None:
        """Another attempt, at `at` or later, if it can be paid for."""
        now = self._now()
        look_at = now + GIVE_BACK_MS / 1000
        unpaid = kept.money.hold_for_another(now, usage)
        if unpaid is None:
            self._go_back(kept, now, at)
        elif not unpaid.wanted:
            self._bury_unpaid(kept, usage, unpaid.counter)
        elif _is_late(kept.task, look_at):
            self._bury(kept, deadline_error(), usage and replace(usage, status="failed"))
        else:
            kept.money.wait_for_another(now, usage, unpaid.wanted)
            kept.unpaid = at
            self._delay(kept, look_at)

    def _come_due(self, kept: _Kept, now: float) -> None:
        if kept.unpaid is None:
            self._enqueue(kept)
        elif _is_late(kept.task, now):
            self._bury(kept, deadline_error(), None)
        elif unpaid := kept.money.hold_for_another(now, None):
            self._bury_unpaid(kept, None, unpaid.counter)
        else:
            at, kept.unpaid = kept.unpaid, None
            self._go_back(kept, now, at)

    def _go_back(self, kept: _Kept, now: float, at: float) -> None:
        if at <= now:
            self._enqueue(kept)
        else:
            self._delay(kept, at)

    def _delay(self, kept: _Kept, at: float) -> None:
        kept.task = replace(kept.task, state=State.RETRYING, due_at=at)
        self._models[kept.task.model].delayed.add(kept.task.id)

    def _finish(self, kept: _Kept, state: State, usage: UsageRecord | None, why: str | None = None) -> None:
        kept.forget_at = self._now() + self.settings.result_ttl_s
        self._end(kept, state, usage, why)

    def _bury(self, kept: _Kept, error: Json, usage: UsageRecord | None, why: str | None = None) -> None:
        kept.task = replace(kept.task, error=error)
        self._models[kept.task.model].dead.append(kept.task.id)
        kept.letter = next(self._letter_numbers)
        self._end(kept, State.DEAD, usage, str(error["message"]) if why is None else why)

    def _bury_unpaid(self, kept: _Kept, usage: UsageRecord | None, short: str) -> None:
        self._bury(kept, unpaid_error(short), usage and replace(usage, status="failed"))

    def _end(self, kept: _Kept, state: State, usage: UsageRecord | None, why: str | None) -> None:
        now = self._now()
        total = kept.money.total(usage or empty_usage(kept.task, state, now, why))
        kept.money.settle(now, total)
        self.add_usage(total)
        kept.unpaid = kept.partial = None
        kept.task = replace(kept.task, state=state, ended_at=self._now(), due_at=None)
        if kept.task.callback is not None:
            self._callbacks[kept.task.replays, kept.task.id] = now
        kept.ring()

    def _check_room(self, new: NewTask) -> None:
        """Raises Refused when no more may wait."""
        model, settings = self._models[new.model], self.settings
        of_tenant, of_model = model.waiting.of_tenant(new.tenant), len(model.waiting)
        if settings.max_waiting_of_tenant is not None and of_tenant >= settings.max_waiting_of_tenant:
            of, waiting = "tenant", of_tenant
        elif settings.max_waiting_of_model is not None and of_model >= settings.max_waiting_of_model:
            of, waiting = "model", of_model
        else:
            return
        tenants, running = model.waiting.tenants(new.priority), len(model.running)
        raise queue_full(of, new.model, new.tenant, waiting, tenants=tenants, run_ms=model.run_ms, running=running)

    def _take_hold(self, hold: Hold | None, scopes: tuple[str, ...]) -> TaskMoney:
        """Raises Conflict (`hold_void`) when the reservation is not its owner's."""
        if hold is None:
            return TaskMoney(self.books, scopes=scopes)
        if (why := self.books.take_hold(self._now(), hold)) is not None:
            raise hold_void(why)
        return TaskMoney(self.books, tuple(hold.parts), tuple(hold.parts), scopes=scopes)

    def add_usage(self, record: UsageRecord) -> None:
        """Of what has ended as a task, or `MemoryBudgets` has settled."""
        self._usage.add(record)


def _whole_ms(at: float) -> int:
    return math.floor(at * 1000)


def _is_late(task: Task, at: float) -> bool:
    return task.deadline is not None and at >= task.deadline


def _summary(task: Task) -> Task:
    return replace(task, body={}, result=None)
