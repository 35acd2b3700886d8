"""What a queue promises: `Queue` for tasks and usage, `Registry` for who serves. One contract suite holds both
implementations (`RedisQueue`, `MemoryQueue`) to it; `docs/queue.md` draws the life of a task.

Every method raises QueueUnavailable when Redis does not answer; whether the step happened is then unknown. Every step
may simply be made again: it happens once.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from stoker.base.ids import ModelName, TaskId
from stoker.meter.usage import UsageRecord
from stoker.queue.budgets import Hold
from stoker.queue.letters import ANY, Dropped, Letters, Which
from stoker.queue.replicas import Replica
from stoker.queue.tasks import (
    Chunk,
    Claim,
    Delivery,
    Depth,
    LeaseState,
    NewTask,
    Partial,
    Place,
    State,
    Task,
    TokenBound,
)


class Queue(Protocol):
    """Tasks, from their submission to their end, and the usage that they leave.

    Delivery is at least once, the effect exactly once: a task may be started again when its worker vanished, and its
    result, its end and its usage record are written in one atomic step by the one claim that holds the newest token.
    """

    # --- for the caller ---------------------------------------------------------------------------------------------

    async def submit(self, new: NewTask, *, task_id: TaskId | None = None, hold: Hold | None = None) -> Task:
        """Store a task and let it wait. With a `task_id` that exists, that task does not change and is returned.

        `hold`: the reservation becomes the task's in the same step, and counts as settled for its owner; whatever ends
        the task settles it, by its usage record. `hold.parts` are what one attempt can cost at most. When the task
        exists, the reservation is free. So it is not the owner's any more once this returns (`Slices.hand_over`). After
        QueueUnavailable nobody knows: make the call again with the same `task_id`, or hand it over all the same, upon
        which it may lie idle until the owner leaves.

        Raises InvalidInput (`body_too_large`, or a body that is not JSON); Conflict (`hold_void`) when the reservation
        is not (any more) its owner's; Refused (`queue_full`) when as many wait as may, and then the reservation is the
        owner's as before. Nothing was stored then.
        """

    async def get(self, task_id: TaskId) -> Task:
        """The task with its body, and its result or error. Raises NotFound, also when it ended and its time is over."""

    async def place(self, task_id: TaskId) -> Place | None:
        """Where it is in the order, for a task that is queued; None for any other. Raises NotFound."""

    async def wait(self, task_id: TaskId, *, timeout_s: float) -> Task:
        """The task as soon as it has ended, or as it is after `timeout_s`. Pushed, never polled; all waiters of a
        process share one connection; a restart of Redis meanwhile only makes it later. Raises NotFound."""

    def chunks(self, task_id: TaskId, *, after: str | None = None) -> AsyncIterator[Chunk]:
        """What a streamed task has said and says, in order, none lost and none twice, until the task ends.

        `after` is the cursor of the last chunk seen (None: from the beginning of the current attempt). When the token
        of a chunk is higher than of the one before, another attempt began: what came before is void. How the task
        ended is for `get` to say. Raises NotFound (at the first step) and InvalidInput for a cursor that is none.
        """

    async def newest_chunk(self, task_id: TaskId) -> str | None:
        """The cursor of the last chunk that a streamed task has said in its current attempt. None when there is none:
        it has said nothing yet, or what it said was kept for its time and is gone."""

    async def cancel(self, task_id: TaskId) -> Task:
        """Nobody wants the task any more.

        1. It waits (queued or retrying): it is cancelled at once, and the task returned says so.
        2. It runs: the task returned is `running` with `cancel_requested`. Its worker learns at once through
           `cancelled`, and at its next `extend`. Whatever it calls to finish (complete, fail or release) ends the task
           as cancelled, without a result and with the usage handed in, once; so does the end of its lease.
        3. It has ended: nothing changes.

        Raises NotFound.
        """

    async def list(
        self, *, model: ModelName | None = None, state: State | None = None, limit: int = 100
    ) -> Sequence[Task]:
        """The newest tasks first (by submission), without body and result. Of ended ones, only the latest
        `ended_kept` of each model."""

    async def depth(self, model: ModelName) -> Depth:
        """How many wait, run, wait for a retry, and lie dead. A model that nobody ever used has zeros."""

    async def waiting_tokens(self, model: ModelName) -> int:
        """What the tasks that wait may take at most, by their bounds: tokens of prompt and answer together, and 1 for a
        task without a bound. How much work waits, where `depth` says in how many pieces."""

    async def oldest(self, model: ModelName) -> float | None:
        """When the oldest task was submitted that waits to be taken, in seconds since the epoch; None: none waits. Of
        each of the first 1,000 tenants of a priority, by whose turn it is, the task that began to wait first counts."""

    async def dead(self, model: ModelName, *, limit: int = 100) -> Sequence[Task]:
        """Dead letters, those that died last first, with their cause, without body."""

    async def retry(self, task_id: TaskId, *, hold: Hold | None = None, bound: TokenBound | None = None) -> Task:
        """Replay a dead task: it waits again with all its attempts and, if it has one, its whole timeout before it.
        What it had held was settled when it died; `hold` is its new reservation, as for `submit`, and `bound` what an
        attempt is let in with now (None: as before). The same call with the same reservation again changes nothing.

        Raises NotFound; Conflict when it is not dead, or (`hold_void`) as `submit` does.
        """

    async def drop_answer(self, task_id: TaskId) -> None:
        """Its caller has kept what it came to: its body, its result and its chunks go now, and a dead one leaves the
        dead letters, as one that was cancelled; so does a forwarded one, and its letter is of no use if it comes back.
        It stays known by its id as long as any that has ended, so that the same submission does not begin it anew.
        Nothing happens to one that has not ended, or that is unknown."""

    # --- dead letters -----------------------------------------------------------------------------------------------

    async def letters(
        self, model: ModelName, *, which: Which = ANY, after: str | None = None, limit: int = 100
    ) -> Letters:
        """A page of the dead letters that are meant, those that died last first, without body. `after` is the `next` of
        the page before. Raises InvalidInput for a cursor that is none."""

    async def drop(self, task_id: TaskId, *, by: str, why: str) -> Task:
        """Give up a dead letter: the task is `dropped`, is kept as long as a done one, and is never run again. Its
        usage stays as it was settled. `by` and `why` go into the log in the same step. The same call again changes
        nothing. Raises NotFound; Conflict (`not_dead`)."""

    async def dropped(self, *, limit: int = 100) -> Sequence[Dropped]:
        """The log of what was dropped, the latest first; the latest 10,000 or so are kept."""

    async def forwarded(self, letter: Task, *, has_body: bool) -> bool:
        """Another queue has confirmed that it holds this life of a dead task, which is `forwarded`, and no letter here.
        `has_body`: the message has its body, so Redis need not keep it. False: that life does not lie dead here (any
        more), and nothing changed. Call it after the other queue's confirmation, never before."""

    async def take_back(self, letter: Task, *, hold: Hold | None = None, bound: TokenBound | None = None) -> Task:
        """Replay a letter that came back from another queue (`letters.from_message`): as `retry`, from what is kept
        here, or from the letter itself when nothing is. Each life is replayed once, however many copies of its letter
        come back, for `GONE_S`. Raises Conflict: `already_replayed` (this life was replayed or dropped: the copy is of
        no use), `body_lost`, or `hold_void` as `submit` does."""

    # --- calling back -----------------------------------------------------------------------------------------------

    async def callbacks_due(self, *, count: int, lease_s: float, most_result_bytes: int) -> Sequence[Task]:
        """Tasks whose `callback` is to be told now, without their bodies, and with results that have at most so many
        bytes as JSON; nobody else is given them for `lease_s`. A task's end and the debt to tell of it are one step. A
        life that is over (the task was replayed, or forgotten) is told of no more."""

    async def called_back(self, task: Task, delivery: Delivery, *, again_in_s: float | None) -> bool:
        """How a try went, to be seen in the task; None: it is not tried again. False: this life is to be told of no
        more, and nothing changed."""

    # --- news of other things ---------------------------------------------------------------------------------------

    async def ring(self, topic: str) -> None:
        """Whoever listens to this topic, in whatever process, is to look again. It carries no data; one that is lost or
        doubled does no harm where everybody looks now and then by itself."""

    def listening(self, topic: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """An event that is set when the topic is rung, and when news may have been missed. Clear it before looking."""

    # --- one at a time ----------------------------------------------------------------------------------------------

    async def lead(self, name: str, holder: str, *, ttl_s: float) -> bool:
        """True: for `ttl_s` from now `holder`, and nobody else, does what goes by this name. Call it every third of
        that. Who was stopped for longer does not know it, so what is done must bear being done twice."""

    async def resign(self, name: str, holder: str) -> None:
        """It does not any more, and anybody else may at once. Nothing happens when it did not."""

    async def say_forwarding(self, said: Mapping[str, Any]) -> None:
        """What the forwarder of dead letters says of itself, for whoever looks."""

    async def forwarding(self) -> Mapping[str, Any] | None:
        """What it said last; None: never anything."""

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
        """Up to `count` tasks, as soon as there is one; an empty list after `wait_s` without any. By priority, then by
        what their tenants have had for their weights, then by how long they have waited (`policy/fairness.py`).

        Taking a task and writing its lease are one step, so a worker that dies in the middle leaves nothing behind.
        A task whose deadline has passed goes to the dead letters instead.

        `beside`: how many the worker runs already. A task of which a lease expired (or whose engine went away, see
        `fail`) and that has one attempt left runs `alone`: it is given to a worker that runs nothing, and nothing with
        it; the worker takes nothing else until it has ended. When it is its turn, and this worker runs something,
        nothing is given, and before `wait_s` is over: the worker comes to an end with what it has, and asks again.
        """

    async def extend(self, claim: Claim, *, lease_s: float) -> LeaseState:
        """Hold on for `lease_s` from now. Call it every third of that."""

    async def cancelled(self, claim: Claim) -> None:
        """Returns as soon as somebody asks for the task of this claim to be cancelled, or it is not this claim's any
        more. Run it beside the work; `extend` then says which of the two it is."""

    async def publish(self, claim: Claim, chunks: Sequence[bytes], *, first: int) -> bool:
        """Append pieces of the answer. `first` is the number of the first of them, counted from 0 in each answer; ones
        that are there already are left as they are, so making the call again doubles nothing. False: not yours any
        more, nothing was written."""

    async def complete(self, claim: Claim, result: Mapping[str, Any], *, usage: UsageRecord | None = None) -> bool:
        """Done: result, end and usage in one step. False: not yours any more, and nothing was written.

        Without `usage` a record with no tokens is written, so that each task leaves exactly one. Its id must be
        `claim.task.usage_id`. When the task was cancelled meanwhile, it ends as cancelled (True, see `cancel`).
        Raises InvalidInput (`result_too_large`), upon which the worker fails the task for good.
        """

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
        """This attempt failed. With `retry_in_s` it is tried again after that time, unless this was its last attempt
        or its deadline comes first; None, or no attempt left: to the dead letters.

        `reason` is kept with the attempt. `error` is what the caller sees of a dead task (default: the reason with the
        code `task_failed`). Each task leaves one record, at its end: `usage` then, with the tokens and the money of its
        failed attempts added. A task with a hold is only tried again if what was used and another whole attempt fit:
        what is missing is taken of what is free in its budgets. Where it would fit with what owners have leased, they
        are asked to give that back, and `reclaim` looks again after a second, once for each attempt; meanwhile it is
        `retrying`, or dead (`deadline_exceeded`) where that second is not left. Else it is dead (`budget_exhausted`).
        `partial`: the next attempt goes on with it. Then there is no room to be left: what both use is what one may.
        Without it, or with one that is larger than a result may be, the next attempt begins the answer anew.
        `is_lost`: the engine went away under it, which may be the fault of what ran beside it: its last attempt runs
        alone (see `claim`). False: not yours any more, nothing was written.
        """

    async def release(self, claim: Claim, *, usage: UsageRecord | None = None, partial: Partial | None = None) -> bool:
        """Hand it back at once, for another worker; not a failed attempt. `usage` is added to what the task has used,
        as with `fail`, and has to leave room for another attempt as there; with `partial`, the next one goes on with
        that, as there. With neither nothing was tried, and a `partial` of the claim stays. False: not yours any more,
        nothing was written."""

    async def reclaim(self, model: ModelName) -> int:
        """The clock's step, to be called about once a second by every worker of the model, never as a by-product of
        reading: retries that are due wait again; tasks whose lease is over go back (a failed attempt: "lease expired",
        which has used all of the task's `bound`, and whose answer begins anew) or to the dead letters. Returns how many
        tasks moved."""

    # --- usage on its way to the ledger -----------------------------------------------------------------------------

    async def append_usage(self, record: UsageRecord) -> None:
        """For those who finish something that is not a task, and of which no settlement can be made. It is spent of all
        counters of its scopes that Redis has. By its id a record counts once within a day."""

    async def read_usage(
        self, consumer: str, *, count: int = 100, wait_s: float = 0.0, redeliver_after_s: float | None = None
    ) -> Sequence[tuple[str, UsageRecord]]:
        """Entries (id, record), first those that anybody read `redeliver_after_s` ago (None: `usage_redelivery_s` of
        the settings; 0: all, for the only reader after its start) and never acknowledged, then new ones, for which it
        waits up to `wait_s`. What cannot be parsed as a record is logged and dropped."""

    async def ack_usage(self, entry_ids: Sequence[str]) -> None:
        """They are in the ledger: forget them. Call it after the commit."""

    async def aclose(self) -> None:
        """Give the connections back. Waiters of this process end with QueueUnavailable."""


class Registry(Protocol):
    """Who serves which model, until they stop saying so."""

    async def announce(self, replica: Replica, *, ttl_s: float) -> None:
        """It serves for `ttl_s` from now, by the registry's clock. Call it again every third of that."""

    async def withdraw(self, replica_id: str) -> None:
        """It does not serve any more. Nothing happens when it is unknown."""

    async def live(self, model: ModelName | None = None) -> Sequence[Replica]:
        """Those that serve now, in order of their ids."""

    async def aclose(self) -> None: ...
