"""The queue on Redis Streams. Each change of a task's state is one Lua script (`lua/`); this module hands them their
arguments and turns answers into values. `docs/queue.md` has the keys and the life of a task.
"""

import asyncio
import functools
import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import asdict
from typing import Any

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import NotFound, QueueUnavailable
from stoker.base.ids import ModelName, TaskId, new_id
from stoker.meter.usage import UsageRecord
from stoker.policy.fairness import wait_s
from stoker.queue import codec, keys, listing
from stoker.queue.budgets import Hold, hold_void, scopes_of
from stoker.queue.connection import Connection
from stoker.queue.cursors import START, parse_cursor
from stoker.queue.doorbells import Doorbells, rung_within
from stoker.queue.letters import ANY, Dropped, Letters, Which
from stoker.queue.tasks import (
    HELD_BACK_S,
    Chunk,
    Claim,
    Delivery,
    Depth,
    LeaseState,
    NewTask,
    Partial,
    Place,
    QueueSettings,
    State,
    Task,
    TokenBound,
    not_dead,
    not_taken_back,
    queue_full,
)

log = logs.get("stoker.queue")

LOOK_AGAIN_S = 15.0  # a waiter looks by itself this often: a net under a connection that died without a word
CHUNKS_AT_ONCE = 512
MOVED_AT_ONCE = 100  # by one run of the reclaim script, so that it never holds Redis up for long


class RedisQueue:
    """`interface.Queue` on the Redis at `url` (redis://, rediss:// or unix://). Connects when first used."""

    def __init__(self, url: str, *, settings: QueueSettings | None = None, clock: Clock | None = None) -> None:
        """`clock` replaces Redis' own time for leases, deadlines and retries: for tests. Raises InvalidInput."""
        self.settings = settings or QueueSettings()
        self._redis = Connection(url, clock=clock)
        self._bells = Doorbells(self._redis.blocking)
        self._ttl_ms = str(math.ceil(self.settings.result_ttl_s * 1000))
        self._has_usage_group = False

    # --- for the caller ---------------------------------------------------------------------------------------------

    async def submit(self, new: NewTask, *, task_id: TaskId | None = None, hold: Hold | None = None) -> Task:
        body = codec.encode_json(new.body, what="body", max_bytes=self.settings.max_body_bytes)
        task_id = task_id or TaskId(new_id("task"))
        timeout_ms = "" if new.timeout_s is None else str(math.ceil(new.timeout_s * 1000))
        told = (codec.head_of(new), body, timeout_ms, *_hold(hold), " ".join(new.scopes), *self._most_waiting())
        answer = await self._step("submit", new.model, task_id, *told)
        if answer[0] == 0:
            return await self.get(task_id)
        if answer[0] == 2:
            raise hold_void(answer[1].decode())
        if answer[0] == 3:
            of, waiting, tenants, run_ms, running = answer[1:]
            known_ms = int(run_ms) if run_ms else None
            raise queue_full(
                of.decode(), new.model, new.tenant, waiting, tenants=tenants, run_ms=known_ms, running=running
            )
        deadline = int(answer[2]) / 1000 if answer[2] else None
        return codec.task_of(new, task_id, body, int(answer[1]) / 1000, deadline)

    async def get(self, task_id: TaskId) -> Task:
        flat = await self._redis.call("read a task", "HGETALL", keys.task(task_id))
        if not flat:
            raise _unknown(task_id)
        return codec.task_from(task_id, {name.decode(): value for name, value in flat.items()})

    async def place(self, task_id: TaskId) -> Place | None:
        answer = await self._step("place", await self._model_of(task_id), task_id)
        ahead, run_ms, running = answer
        if ahead == b"":
            return None
        return Place(ahead, wait_s(ahead + 1, int(run_ms) if run_ms else None, running))

    async def wait(self, task_id: TaskId, *, timeout_s: float) -> Task:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        async with self._bells.at(task_id) as rung:
            while True:
                rung.clear()
                left = until - loop.time()
                task = await self._ended(task_id, or_not=left <= 0)
                if task is not None:
                    return task
                await rung_within(rung, min(left, LOOK_AGAIN_S))

    async def chunks(self, task_id: TaskId, *, after: str | None = None) -> AsyncIterator[Chunk]:
        token, number = START if after is None else parse_cursor(after)
        cursor = f"{token}-{number}"
        async with self._bells.at(task_id, chunks=True) as rung:
            while True:
                rung.clear()
                state, found = await self._said(task_id, cursor)
                for entry_id, fields in found:
                    cursor = entry_id.decode()
                    yield Chunk(cursor, fields[b"d"], int(cursor.partition("-")[0]))
                if len(found) == CHUNKS_AT_ONCE:
                    continue
                if state.has_ended:
                    return
                await rung_within(rung, LOOK_AGAIN_S)

    async def newest_chunk(self, task_id: TaskId) -> str | None:
        newest = await self._redis.call("read chunks", "XREVRANGE", keys.chunks(task_id), "+", "-", "COUNT", 1)
        return newest[0][0].decode() if newest else None

    async def cancel(self, task_id: TaskId) -> Task:
        await self._step("cancel", await self._model_of(task_id), task_id)
        return await self.get(task_id)

    async def list(
        self, *, model: ModelName | None = None, state: State | None = None, limit: int = 100
    ) -> Sequence[Task]:
        return await listing.newest(self._redis, model=model, state=state, limit=limit)

    async def depth(self, model: ModelName) -> Depth:
        lag, pending, delayed, dead = await self._redis.run("depth", keys.of_model(model), self._ttl_ms, "0")
        return Depth(int(lag), int(pending), int(delayed), int(dead))

    async def waiting_tokens(self, model: ModelName) -> int:
        found = await self._redis.call("read what waits", "HGET", keys.waiting(model), keys.WAITING_TOKENS)
        # Tasks that the version before has added were not counted, and are taken off all the same.
        return max(0, int(found or 0))

    async def oldest(self, model: ModelName) -> float | None:
        found = await self._redis.run("oldest", keys.of_model(model), self._ttl_ms, "0")
        return None if found is None else int(found) / 1000

    async def dead(self, model: ModelName, *, limit: int = 100) -> Sequence[Task]:
        return await listing.dead(self._redis, model, limit)

    async def retry(self, task_id: TaskId, *, hold: Hold | None = None, bound: TokenBound | None = None) -> Task:
        model = await self._model_of(task_id)
        found = await self._replay(model, task_id, hold, bound, ("",) * 5)
        if found != State.DEAD:
            raise not_dead(task_id, found, "replayed")
        return await self.get(task_id)

    async def _replay(
        self, model: str, task_id: TaskId, hold: Hold | None, bound: TokenBound | None, letter: Sequence[str | bytes]
    ) -> str:
        told = "" if bound is None else json.dumps(bound)
        # By a name of its own, too, for the same call may reach Redis twice.
        held = ("", new_id("replay"), 0) if hold is None else _hold(hold)
        answer = await self._step("retry", model, task_id, *held, told, *letter)
        found, *void = [bytes(word).decode() for word in answer]
        if void:
            raise hold_void(void[0])
        return found

    async def drop_answer(self, task_id: TaskId) -> None:
        with suppress(NotFound):
            await self._step("drop_answer", await self._model_of(task_id), task_id)

    # --- dead letters -----------------------------------------------------------------------------------------------

    async def letters(
        self, model: ModelName, *, which: Which = ANY, after: str | None = None, limit: int = 100
    ) -> Letters:
        return await listing.letters(self._redis, model, which, after, limit)

    async def drop(self, task_id: TaskId, *, by: str, why: str) -> Task:
        found = (await self._step("drop", await self._model_of(task_id), task_id, by, codec.cut_reason(why))).decode()
        if found != State.DEAD:
            raise not_dead(task_id, found, "dropped")
        return await self.get(task_id)

    async def dropped(self, *, limit: int = 100) -> Sequence[Dropped]:
        return await listing.dropped(self._redis, limit)

    async def forwarded(self, letter: Task, *, has_body: bool) -> bool:
        told = (letter.replays, "1" if has_body else "")
        return bool(await self._step("forwarded", letter.model, letter.id, *told))

    async def take_back(self, letter: Task, *, hold: Hold | None = None, bound: TokenBound | None = None) -> Task:
        new = codec.new_of(letter)
        body = (
            codec.encode_json(letter.body, what="body", max_bytes=self.settings.max_body_bytes) if letter.body else b""
        )
        submitted_ms = str(round(letter.submitted_at * 1000))
        told = (str(letter.replays), codec.head_of(new), body, submitted_ms, " ".join(new.scopes))
        found = await self._replay(letter.model, letter.id, hold, bound, told)
        if found != State.DEAD:
            raise not_taken_back(letter, found)
        return await self.get(letter.id)

    # --- news of other things ---------------------------------------------------------------------------------------

    async def ring(self, topic: str) -> None:
        await self._redis.call("tell the news", "PUBLISH", keys.EVENTS, topic)

    def listening(self, topic: str) -> AbstractAsyncContextManager[asyncio.Event]:
        return self._bells.at(topic)

    # --- calling back, and one at a time ----------------------------------------------------------------------------

    async def callbacks_due(self, *, count: int, lease_s: float, most_result_bytes: int) -> Sequence[Task]:
        found = await self._redis.run("callbacks_due", [], _ms(lease_s), count)
        due = []
        for member in found:
            life, _, task_id = bytes(member).decode().partition(":")
            task = await listing.one(self._redis, TaskId(task_id), most_result_bytes)
            if task is not None and task.callback is not None and task.replays == int(life) and task.state.has_ended:
                due.append(task)
            else:
                await self._redis.call("forget a callback", "ZREM", keys.CALLBACKS, member)
        return due

    async def called_back(self, task: Task, delivery: Delivery, *, again_in_s: float | None) -> bool:
        again_ms = "" if again_in_s is None else _ms(again_in_s)
        told = (task.replays, json.dumps(asdict(delivery)), again_ms)
        return bool(await self._step("called_back", task.model, task.id, *told))

    async def lead(self, name: str, holder: str, *, ttl_s: float) -> bool:
        return bool(await self._redis.run("lead", [keys.LEADER_PREFIX + name], holder, _ms(ttl_s)))

    async def resign(self, name: str, holder: str) -> None:
        await self._redis.run("lead", [keys.LEADER_PREFIX + name], holder, 0)

    async def say_forwarding(self, said: Mapping[str, Any]) -> None:
        await self._redis.call("write the state of the forwarder", "SET", keys.FORWARDER, json.dumps(said))

    async def forwarding(self) -> Mapping[str, Any] | None:
        said = await self._redis.call("read the state of the forwarder", "GET", keys.FORWARDER)
        return None if said is None else codec.decode_json(said)

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
            claims, is_held_back = await self._claim_now(model, worker, count, lease_s, beside)
            left = until - loop.time()
            if claims or left <= 0:
                return claims
            if is_held_back:  # the bell is for a worker that runs nothing
                await asyncio.sleep(min(left, HELD_BACK_S))
                return []
            await self._wait_for_ring(model, left)

    async def extend(self, claim: Claim, *, lease_s: float) -> LeaseState:
        answer = await self._held("extend", claim, _ms(lease_s))
        return LeaseState(bytes(answer).decode())

    async def cancelled(self, claim: Claim) -> None:
        fields = (keys.STATE, keys.TOKEN, keys.CANCEL)
        async with self._bells.at(claim.task.id) as rung:
            while True:
                rung.clear()
                found = await self._redis.call("look for a cancellation", "HMGET", keys.task(claim.task.id), *fields)
                if found[:2] != [b"running", str(claim.token).encode()] or found[2] is not None:
                    return
                await rung_within(rung, LOOK_AGAIN_S)

    async def publish(self, claim: Claim, chunks: Sequence[bytes], *, first: int) -> bool:
        return bool(await self._held("publish", claim, claim.answer_token, first, *chunks))

    async def complete(self, claim: Claim, result: Mapping[str, Any], *, usage: UsageRecord | None = None) -> bool:
        stored = codec.encode_json(result, what="result", max_bytes=self.settings.max_result_bytes)
        return bool(await self._held("complete", claim, stored, _usage(usage)))

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
        told = json.dumps(codec.failure(reason, error), separators=(",", ":"))
        retry_ms = "" if retry_in_s is None else _ms(retry_in_s)
        told_of = (reason, retry_ms, told, _usage(usage), self._partial(partial), "lost" if is_lost else "")
        return bool(await self._held("fail", claim, *told_of))

    async def release(self, claim: Claim, *, usage: UsageRecord | None = None, partial: Partial | None = None) -> bool:
        return bool(await self._held("release", claim, _usage(usage), self._partial(partial)))

    def _partial(self, partial: Partial | None) -> bytes:
        return codec.encode_partial(partial, max_bytes=self.settings.max_result_bytes)

    async def reclaim(self, model: ModelName) -> int:
        total = 0
        while True:
            moved: Sequence[int] = await self._redis.run("reclaim", keys.of_model(model), *self._keep(), MOVED_AT_ONCE)
            total += sum(moved)
            if max(moved) < MOVED_AT_ONCE:
                return total

    # --- usage on its way to the ledger -----------------------------------------------------------------------------

    async def append_usage(self, record: UsageRecord) -> None:
        await self._redis.run("append_usage", [], record.id, record.to_json(), " ".join(scopes_of(record)))

    async def read_usage(
        self, consumer: str, *, count: int = 100, wait_s: float = 0.0, redeliver_after_s: float | None = None
    ) -> Sequence[tuple[str, UsageRecord]]:
        after_s = self.settings.usage_redelivery_s if redeliver_after_s is None else redeliver_after_s
        try:
            return await self._read_usage(consumer, count, wait_s, after_s)
        except QueueUnavailable as error:
            if "NOGROUP" not in error.message:
                raise
        self._has_usage_group = False  # Redis has lost it with everything else: it is made again
        return await self._read_usage(consumer, count, wait_s, after_s)

    async def _read_usage(
        self, consumer: str, count: int, wait_s: float, after_s: float
    ) -> Sequence[tuple[str, UsageRecord]]:
        group, client = keys.LEDGER_GROUP, self._redis.client
        await self._ensure_usage_group()
        left_over = await self._redis.ask(
            "read usage", client.xautoclaim(keys.USAGE, group, consumer, int(after_s * 1000), "0", count=count)
        )
        if left_over[1]:
            return await self._records(left_over[1])
        stream: Any = {keys.USAGE: ">"}
        if wait_s <= 0:
            fresh = await self._redis.ask("read usage", client.xreadgroup(group, consumer, stream, count=count))
        else:
            block = max(1, int(wait_s * 1000))
            news = self._redis.blocking.xreadgroup(group, consumer, stream, count=count, block=block)
            fresh = await self._redis.ask_blocking("read usage", news, wait_s)
        return await self._records(fresh[0][1]) if fresh else []

    async def ack_usage(self, entry_ids: Sequence[str]) -> None:
        if not entry_ids:
            return
        async with self._redis.pipeline("acknowledge usage", transaction=True) as pipe:
            pipe.xack(keys.USAGE, keys.LEDGER_GROUP, *entry_ids)
            pipe.xdel(keys.USAGE, *entry_ids)
            await pipe.execute()

    async def aclose(self) -> None:
        await self._bells.aclose()
        await self._redis.aclose()

    # --- steps ------------------------------------------------------------------------------------------------------

    def _keep(self) -> tuple[str, str]:
        return self._ttl_ms, str(self.settings.ended_kept)

    def _most_waiting(self) -> tuple[str, str]:
        most = (self.settings.max_waiting_of_tenant, self.settings.max_waiting_of_model)
        return "" if most[0] is None else str(most[0]), "" if most[1] is None else str(most[1])

    async def _step(self, script: str, model: str, task_id: str, *args: str | bytes | int) -> Any:
        key, own = keys.task(task_id), (task_id, *args)
        return await self._redis.step(script, _of_model(model), key, shared=self._keep(), args=own)

    async def _held(self, script: str, claim: Claim, *args: str | bytes | int) -> Any:
        return await self._step(script, claim.task.model, claim.task.id, claim.token, *args)

    async def _claim_now(
        self, model: ModelName, worker: str, count: int, lease_s: float, beside: int
    ) -> tuple[Sequence[Claim], bool]:
        told = (worker, count, _ms(lease_s), beside)
        now, taken, dropped, held_back = await self._redis.run("claim", keys.of_model(model), *self._keep(), *told)
        if dropped:
            log.warning("entries_without_task_dropped", model=model, tasks=[each.decode() for each in dropped][:10])
        claims = [await self._readable(model, int(now), worker, *each) for each in taken]
        return [claim for claim in claims if claim is not None], held_back == 1

    async def _readable(
        self, model: ModelName, now_ms: int, worker: str, task_id: bytes, lease_ms: int, flat: Sequence[bytes]
    ) -> Claim | None:
        """A claim, or None of a task that nobody can read (somebody wrote into its hash): it is dead at once, or it
        would end each worker that takes it."""
        try:
            return _claim(now_ms, worker, task_id, lease_ms, flat)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            log.error("task_unreadable", model=model, task=task_id.decode(), error=str(exc)[:200])
        reason = "what is kept of the task cannot be read"
        error = {"message": reason, "type": "server_error", "code": "task_unreadable"}
        token = codec.pairs(flat)[keys.TOKEN].decode()
        await self._step("fail", model, task_id.decode(), token, reason, "", json.dumps(error), "", "")
        return None

    async def _wait_for_ring(self, model: ModelName, wait_s: float) -> None:
        # Redis takes a timeout of 0 as "for ever".
        ring = self._redis.blocking.blpop([keys.bell(model)], timeout=max(wait_s, 0.001))
        await self._redis.ask_blocking("wait for tasks", ring, wait_s)

    async def _ended(self, task_id: TaskId, *, or_not: bool) -> Task | None:
        """The task if it has ended; with `or_not`, also when it has not."""
        wanted = ("1" if or_not else "",)
        found = await self._redis.step("look", (), keys.task(task_id), shared=("", ""), args=wanted)
        if found is None:
            raise _unknown(task_id)
        if found == 1:
            return await self.get(task_id)
        return codec.task_from(task_id, codec.pairs(found)) if found else None

    async def _model_of(self, task_id: TaskId) -> str:
        found = await self._redis.call("read a task", "HGET", keys.task(task_id), keys.HEAD)
        if found is None:
            raise _unknown(task_id)
        return str(json.loads(found)["model"])

    async def _said(self, task_id: TaskId, cursor: str) -> tuple[State, Sequence[tuple[bytes, dict[bytes, bytes]]]]:
        """The state first, then the chunks: what was said before an end that we saw is then surely among them.

        By `call`, which waits for a future and no more: a pipeline of redis-py sends within Python 3.11's `wait_for`,
        which swallows a cancellation that comes with its result (github.com/python/cpython/issues/86296), and then the
        answer of a client that has gone would be made to its end."""
        after = ("XRANGE", keys.chunks(task_id), f"({cursor}", "+", "COUNT", CHUNKS_AT_ONCE)
        state, found = await asyncio.gather(
            self._redis.call("read chunks", "HGET", keys.task(task_id), keys.STATE),
            self._redis.call("read chunks", *after),
        )
        if state is None:
            raise _unknown(task_id)
        return State(state.decode()), found

    async def _ensure_usage_group(self) -> None:
        if self._has_usage_group:
            return
        making = self._redis.client.xgroup_create(keys.USAGE, keys.LEDGER_GROUP, id="0", mkstream=True)
        try:
            await self._redis.ask("read usage", making)
        except QueueUnavailable as error:
            if "BUSYGROUP" not in error.message:
                raise
        self._has_usage_group = True

    async def _records(self, entries: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> Sequence[tuple[str, UsageRecord]]:
        good, bad = [], []
        for entry_id, fields in entries:
            try:
                good.append((entry_id.decode(), UsageRecord.from_json(fields[b"r"].decode())))
            except (KeyError, TypeError, ValueError) as exc:
                log.error("usage_record_unreadable", entry=entry_id.decode(), error=str(exc)[:200])
                bad.append(entry_id.decode())
        await self.ack_usage(bad)
        return good


@functools.lru_cache(maxsize=1024)
def _of_model(model: str) -> tuple[str, ...]:
    """They are part of each call."""
    return tuple(keys.of_model(model))


def _claim(now_ms: int, worker: str, task_id: bytes, lease_ms: int, flat: Sequence[bytes]) -> Claim:
    fields = codec.pairs(flat)
    task = codec.task_from(TaskId(task_id.decode()), fields)
    return Claim(
        task=task,
        token=int(fields[keys.TOKEN]),
        worker=worker,
        attempt=codec.failed_attempts(fields) + 1,
        lease_expires_at=lease_ms / 1000,
        time_left_s=None if task.deadline is None else task.deadline - now_ms / 1000,
        partial=codec.partial_from(fields),
        alone=keys.LOST in fields and codec.failed_attempts(fields) + 1 >= task.max_attempts,
    )


def _ms(seconds: float) -> str:
    return str(max(0, math.ceil(seconds * 1000)))


def _hold(hold: Hold | None) -> tuple[str | int, ...]:
    return ("", "", "") if hold is None else (json.dumps(list(hold.parts)), hold.owner, hold.number)


def _usage(record: UsageRecord | None) -> str:
    return "" if record is None else record.to_json()


def _unknown(task_id: str) -> NotFound:
    return NotFound(
        f"there is no task {task_id!r}",
        hint="it was never submitted here, or it ended and its time was over (result_ttl_s)",
        code="task_not_found",
    )
