"""Requests of one model through its queue and its replicas: the data plane.

The control plane (`run`) adds and takes away replicas, and asks for counts; between its events `advance` moves all
requests on. The arithmetic is `sharing`'s; compiled where numba is installed, and the same to the bit where it is not.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stoker.simulate import compiling, sharing
from stoker.simulate.engines import Rates
from stoker.simulate.result import IN_FLIGHT
from stoker.simulate.scenario import Dispatch

WORTH_COMPILING = 20_000
"""Requests. Fewer are through before numba is imported."""
SLOTS = 16
"""Room for so many at first."""
NO_LIMIT = 1 << 40

INTS_BY_SLOT = (
    *("table", "chunk", "cache", "limit", "room", "phase", "live", "taken", "decoding", "context", "held", "heap"),
)
FLOATS_BY_SLOT = (
    *("context_s", "prefill_s", "fixed_s", "after_s", "clock", "left", "position", "begun", "busy", "share", "step"),
    *("per_step", "prompt_s"),
)


@dataclass(frozen=True, eq=False)
class Requests:
    """Columns of the requests of one model, by time."""

    at_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    completion_tokens: NDArray[np.int32]
    cached_tokens: NDArray[np.int32]


class Counts(NamedTuple):
    """At one moment: `arrived` = `served` + `rejected` + `waiting` + `pending`. The last four only grow."""

    waiting: int
    """In the queue: no replica has them."""
    pending: int
    """Taken from the queue (or sent by the balancer) and not finished: `running`, `engine_waiting`, and those that were
    cut off and whose lease has not run out yet."""
    running: int
    engine_waiting: int
    arrived: int
    served: int
    rejected: int
    tokens: int
    """Produced, also of answers that are not ended or were cut off."""


class Plane:
    """One model. Slots are numbers that replicas get in the order they are added; a slot is never used again.

    What is due at one moment happens in this order: replicas (by slot), requests that come back, requests that arrive,
    requests that have waited too long. What the control plane does at a moment comes after all of it.
    """

    def __init__(
        self,
        requests: Requests,
        *,
        dispatch: Dispatch,
        max_model_len: int | None,
        timeout_s: float,
        retries: bool,
        lease_s: float = 60.0,
        seed: int = 0,
    ) -> None:
        """`timeout_s`: a request that waited so long without a replica is rejected (TIMED_OUT). With `retries`, what is
        cut off with its replica goes back to the queue's head after `lease_s`; else it is LOST. `seed` is for engine
        models with chance in them; this one has none."""
        size = len(requests.at_s)
        if {len(column) for column in (requests.prompt_tokens, requests.completion_tokens, requests.cached_tokens)} != {
            size
        }:
            raise ValueError("the columns of the requests differ in length")
        if size and not bool(np.all(requests.at_s[1:] >= requests.at_s[:-1])):
            raise ValueError("the times of the requests fall somewhere, or are no numbers")
        compiled = compiling.twin() if size >= WORTH_COMPILING else None
        self._is_compiled = compiled is not None
        self._code: Any = sharing if compiled is None else compiled
        self._dispatch = dispatch
        self._slots = 0
        self._capacity = SLOTS
        self._tables: dict[int, tuple[Rates, int]] = {}
        self._spare: dict[int, list[int]] = {}
        self._empty: deque[int] = deque()
        self._tokens = 0
        self._flow = self._start(requests, timeout_s, lease_s)
        counters = self._flow.counters
        counters[sharing.LONGEST] = NO_LIMIT if max_model_len is None else max_model_len
        counters[sharing.IS_QUEUE] = int(dispatch == "queue")
        counters[sharing.RETRIES] = int(retries)

    def add(self, rates: Rates, concurrency: int, now: float) -> int:
        """A replica is ready from now on; returns its slot."""
        limit = min(concurrency, len(rates.step_s) - 1)
        if limit < 1:
            raise ValueError(f"a replica of concurrency {concurrency} with a table of {len(rates.step_s)} steps")
        self._reach(now)
        slot = self._slots
        self._slots += 1
        if self._slots > self._capacity:
            self._grow()
        flow = self._flow = self._flow._replace(**self._table_of(rates, slot), **self._heap_of(limit, slot))
        flow.context_s[slot] = rates.step_s_per_kv_token / 2
        flow.prefill_s[slot] = rates.prefill_s_per_token
        flow.fixed_s[slot] = rates.prefill_s_fixed
        flow.after_s[slot] = rates.after_s
        flow.chunk[slot] = rates.chunk_tokens
        flow.cache[slot] = rates.kv_tokens
        flow.limit[slot] = limit
        flow.room[slot] = concurrency if self._dispatch == "queue" else sharing.FULL
        self._code.join(flow, slot, flow.numbers[sharing.NOW])
        return slot

    def drain(self, slot: int, now: float) -> None:
        """It takes no more. `advance` stops when it has finished what it has."""
        self._reach(now)
        if self._flow.phase[self._known(slot)] != sharing.READY:
            return
        self._code.drain(self._flow, slot)
        if self._flow.taken[slot] == 0:
            self._code.leave(self._flow, slot)
            self._spare_heap(slot)
            self._empty.append(slot)

    def kill(self, slot: int, now: float) -> int:
        """It is gone; returns how many requests were cut off: 0 for one that is gone already."""
        self._reach(now)
        flow = self._flow
        if slot in self._empty:
            self._empty.remove(slot)
        if flow.phase[self._known(slot)] == sharing.GONE:
            return 0
        requests = self._requests_of(slot)
        self._code.cut_off(flow, slot, self._ints(requests), flow.numbers[sharing.NOW])
        self._spare_heap(slot)
        return len(requests)

    def advance(self, until: float) -> tuple[float, int]:
        """Move on; returns the time reached and a draining slot that has become empty, or (`until`, -1). Called again
        with the same `until` it goes on. Never goes back."""
        if self._empty:
            return float(self._flow.numbers[sharing.NOW]), self._empty.popleft()
        slot = int(self._code.advance(self._flow, float(until)))
        if slot < 0:
            return max(until, float(self._flow.numbers[sharing.NOW])), -1
        self._spare_heap(slot)
        return float(self._flow.numbers[sharing.NOW]), slot

    def counts(self) -> Counts:
        counters = [int(value) for value in self._flow.counters]
        running, engine_waiting = counters[sharing.RUNNING], counters[sharing.ENGINE_WAITING]
        # A sum of fractions may lose its last bit; a count that is said to grow may not.
        self._tokens = max(self._tokens, int(self._code.so_far(self._flow)[0]))
        return Counts(
            waiting=counters[sharing.WAITING],
            pending=running + engine_waiting + counters[sharing.AWAY],
            running=running,
            engine_waiting=engine_waiting,
            arrived=counters[sharing.ARRIVED],
            served=counters[sharing.DONE],
            rejected=counters[sharing.REJECTED],
            tokens=self._tokens,
        )

    def busy_s(self) -> NDArray[np.float64]:
        """By slot: seconds in which the replica computed, so far."""
        return np.array(self._settled().busy[: self._slots], dtype=np.float64)

    def kv_usage(self) -> float:
        """Share of the replicas' caches that is taken, 0 to 1: by the tokens that are there, as an engine's own metric
        says it, not by what is set aside for answers to come."""
        _, taken, cache = self._code.so_far(self._flow)
        return min(max(taken / cache, 0.0), 1.0) if cache else 0.0

    def has_work(self) -> bool:
        """Whether any request is still to come, waits or runs."""
        counters = self._flow.counters
        ended = counters[sharing.DONE] + counters[sharing.REJECTED]
        return bool(ended < len(self._flow.at))

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """`state`, `started_at`, `first_at`, `done_at`, `completion_tokens`, `cached_tokens`, `attempts`, `slot`: as in
        `result.Outcomes`, with the slot for the replica. And `work_s`: seconds of a replica that each request took, a
        step shared by those that ran in it, so that the sum over a slot's requests is its busy time (with retries: the
        sum over all requests is that over all slots, since a request stands by its last slot)."""
        flow = self._settled()
        made = np.array(flow.made, dtype=np.int32)
        state = np.array(flow.state, dtype=np.int8)
        work = np.array(flow.work, dtype=np.float64)
        made[state == IN_FLIGHT] = 0
        for slot in self._live():
            for i in range(flow.heap[slot], flow.heap[slot] + flow.decoding[slot]):
                request = flow.whose[i]
                made[request] = max(int(flow.position[slot] - flow.ends[i] + flow.made[request]), 1)
                work[request] += flow.share[slot]
        return {
            "state": state,
            "started_at": np.array(flow.started, dtype=np.float64),
            "first_at": np.array(flow.first, dtype=np.float64),
            "done_at": np.array(flow.done, dtype=np.float64),
            "completion_tokens": made,
            "cached_tokens": np.array(flow.cached, dtype=np.int32),
            "attempts": np.array(flow.attempts, dtype=np.int16),
            "slot": np.array(flow.slot, dtype=np.int32),
            "work_s": work,
        }

    def _reach(self, now: float) -> None:
        """What is due by then has happened before the control plane does anything at that moment."""
        while (slot := int(self._code.advance(self._flow, float(now)))) >= 0:
            self._spare_heap(slot)
            self._empty.append(slot)

    def _known(self, slot: int) -> int:
        if not 0 <= slot < self._slots:
            raise ValueError(f"slot {slot} was never added: there are {self._slots}")
        return slot

    def _live(self) -> list[int]:
        return [int(slot) for slot in self._flow.live[: self._flow.counters[sharing.LIVE]]]

    def _settled(self) -> sharing.Flow:
        """As things are at this moment, in a copy: accounts that are brought up to date between events would make the
        results depend on when somebody looked."""
        flow = self._flow
        names = ("clock", "busy", "share", "position", "left", "work")
        copy = flow._replace(**{name: getattr(flow, name).copy() for name in names})
        for slot in self._live():
            self._code.settle(copy, slot, flow.numbers[sharing.NOW])
        return copy

    def _requests_of(self, slot: int) -> list[int]:
        flow = self._flow
        base = flow.heap[slot]
        found = [int(request) for request in flow.whose[base : base + flow.decoding[slot]]]
        if flow.prefilling[slot] >= 0:
            found.append(int(flow.prefilling[slot]))
        request = int(flow.head[sharing.ENGINES + slot])
        while request >= 0:
            found.append(request)
            request = int(flow.after[request])
        return sorted(found)

    # The state: lists for the interpreter, arrays for compiled code.

    def _floats(self, values: Any) -> Any:
        return np.array(values, dtype=np.float64) if self._is_compiled else list(values)

    def _ints(self, values: Any, kind: DTypeLike = np.int64) -> Any:
        return np.array(values, dtype=kind) if self._is_compiled else list(values)

    def _column(self, column: NDArray[Any], kind: DTypeLike) -> Any:
        return np.array(column, dtype=kind) if self._is_compiled else column.astype(kind).tolist()

    def _start(self, requests: Requests, timeout_s: float, lease_s: float) -> sharing.Flow:
        size, slots = len(requests.at_s), self._capacity
        nans, zeros = [sharing.NAN] * size, [0] * size
        by_slot = {name: self._ints([0] * slots) for name in INTS_BY_SLOT}
        by_slot |= {name: self._floats([0.0] * slots) for name in FLOATS_BY_SLOT}
        by_slot["prefilling"] = self._ints([-1] * slots)
        return sharing.Flow(
            numbers=self._floats([-sharing.INF, float(timeout_s), float(lease_s)]),
            counters=self._ints([0] * 12),
            at=self._column(requests.at_s, np.float64),
            prompt=self._column(requests.prompt_tokens, np.int32),
            answer=self._column(requests.completion_tokens, np.int32),
            seen=self._column(requests.cached_tokens, np.int32),
            state=self._ints(zeros, np.int8),
            started=self._floats(nans),
            first=self._floats(nans),
            done=self._floats(nans),
            made=self._ints(zeros, np.int32),
            cached=self._ints(zeros, np.int32),
            attempts=self._ints(zeros, np.int16),
            slot=self._ints([-1] * size, np.int32),
            work=self._floats([0.0] * size),
            since=self._floats(nans),
            after=self._ints([-1] * size, np.int32),
            head=self._ints([-1] * (sharing.ENGINES + slots)),
            tail=self._ints([-1] * (sharing.ENGINES + slots)),
            steps=self._floats([]),
            due=self._floats([sharing.INF] * 2 * slots),
            load=self._ints([sharing.FULL] * 2 * slots),
            ends=self._floats([]),
            whose=self._ints([], np.int32),
            **by_slot,
        )

    def _grow(self) -> None:
        """Twice the slots."""
        flow, more = self._flow, self._capacity
        changed = {name: self._longer(getattr(flow, name), [0] * more) for name in INTS_BY_SLOT}
        changed |= {name: self._longer(getattr(flow, name), [0.0] * more) for name in FLOATS_BY_SLOT}
        for name in ("prefilling", "head", "tail"):
            changed[name] = self._longer(getattr(flow, name), [-1] * more)
        self._capacity *= 2
        changed["due"] = self._floats([sharing.INF] * 2 * self._capacity)
        changed["load"] = self._ints([sharing.FULL] * 2 * self._capacity)
        for slot in range(more):
            self._code.set_leaf(changed["due"], slot, flow.due[more + slot])
            self._code.set_leaf(changed["load"], slot, flow.load[more + slot])
        self._flow = flow._replace(**changed)

    def _longer(self, values: Any, more: list[Any]) -> Any:
        return np.concatenate([values, np.array(more, dtype=values.dtype)]) if self._is_compiled else values + more

    def _table_of(self, rates: Rates, slot: int) -> dict[str, Any]:
        """Where the steps of these rates are; they are put there once."""
        known = self._tables.get(id(rates))
        if known is not None:
            self._flow.table[slot] = known[1]
            return {}
        self._tables[id(rates)] = rates, len(self._flow.steps)
        self._flow.table[slot] = len(self._flow.steps)
        return {"steps": self._longer(self._flow.steps, [float(step) for step in rates.step_s])}

    def _heap_of(self, limit: int, slot: int) -> dict[str, Any]:
        """Room for the slot's heap: what a replica that is gone has left, or more."""
        spare = self._spare.get(limit)
        if spare:
            self._flow.heap[slot] = spare.pop()
            return {}
        self._flow.heap[slot] = len(self._flow.ends)
        return {
            "ends": self._longer(self._flow.ends, [0.0] * limit),
            "whose": self._longer(self._flow.whose, [0] * limit),
        }

    def _spare_heap(self, slot: int) -> None:
        self._spare.setdefault(int(self._flow.limit[slot]), []).append(int(self._flow.heap[slot]))
