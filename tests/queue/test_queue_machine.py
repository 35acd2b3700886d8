"""The queue as a state machine: whatever is done in whatever order, each task is in one state, ends once, leaves one
usage record, and what Redis counts adds up. Tasks that hold a part of a budget never take it over its limit; they, and
those that hold none, spend what their records say. Both implementations go through the same steps and must agree.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from budget_builders import REQUESTS, SLOTS, START, TOKENS, TTL_S, ask, hold
from effort import examples
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from queue_builders import MODEL, a_task, all_usage, partial_of, usage_of
from redis import Redis

from stoker.base.errors import Conflict
from stoker.base.ids import TaskId, TenantName
from stoker.meter.usage import UsageRecord
from stoker.policy.budgets import Part
from stoker.policy.fairness import PRIORITIES
from stoker.queue import (
    BudgetStore,
    Claim,
    Delivery,
    Depth,
    Leased,
    LeaseState,
    MemoryBudgets,
    MemoryQueue,
    Place,
    Queue,
    RedisBudgets,
    RedisQueue,
    State,
    Task,
    TokenBound,
)
from stoker.queue.budgets import Hold
from stoker.queue.letters import from_message, to_message
from stoker.spec import Priority
from stoker.testing import ManualClock
from stoker.testing.redis import RedisServer

T = TypeVar("T")
Pair = tuple[Claim, Claim]

FAILED = (State.DEAD, State.FORWARDED, State.DROPPED)
ENDS = (State.DONE, State.CANCELLED, *FAILED)

# One attempt of a task takes at most this; it uses 10 tokens (`usage_of`).
ONE = ((TOKENS, 12), (REQUESTS, 1), (SLOTS, 1))
LIMITS = {TOKENS: 70, REQUESTS: 6, SLOTS: 3}
WEIGHTS = {"acme": 1, "beta": 3, "gamma": 1}
# What a lost attempt counts as: nobody said, or in tokens only, or as the gateway says it.
BOUNDS = (None, TokenBound(8, 4), TokenBound(8, 4, 5))


class QueueMachine(RuleBasedStateMachine):
    """`url` is set by the test; each example starts with an empty Redis."""

    url = ""
    tasks = Bundle("tasks")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.raw = Redis.from_url(self.url, protocol=2, decode_responses=True)
        self.raw.flushall()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock(START)
        memory = MemoryQueue(clock=self.clock)
        self.queues: list[Queue] = [RedisQueue(self.url, clock=self.clock), memory]
        self.stores: list[BudgetStore] = [
            RedisBudgets(self.url, clock=self.clock),
            MemoryBudgets(memory, clock=self.clock),
        ]
        self.books("establish", wait_s=0)
        self.books("enter", "gw_a", ttl_s=TTL_S)
        for counter in LIMITS:
            self.books("begin", counter, 0, expires_at=None)
        self.reservations = itertools.count(1)
        self.ahead = 0  # what gw_a has leased of the tokens and does not use
        self.paid: set[str] = set()  # the ids of the records of lives that hold something
        self.ids: list[TaskId] = []
        self.told: set[str] = set()  # lives of whose end somebody was told, and that was noted
        self.copies: list[Task] = []  # letters in another queue, which delivers each as often as it likes
        self.lives: Counter[TaskId] = Counter()  # how often each was submitted or replayed

    def teardown(self) -> None:
        self.what_is_spent_is_what_the_records_say()
        for each in (*self.queues, *self.stores):
            self.run(each.aclose())
        self.loop.close()
        self.raw.close()

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(step)

    def both(self, name: str, *args: Any, **options: Any) -> Any:
        """The same step on both; what they answer must be the same."""
        redis, memory = [self.run(getattr(queue, name)(*args, **options)) for queue in self.queues]
        assert redis == memory
        return redis

    def books(self, name: str, *args: Any, **options: Any) -> Any:
        """The same step on both stores of budgets; what they answer must be the same."""
        redis, memory = [self.run(getattr(store, name)(*args, **options)) for store in self.stores]
        assert redis == memory
        return redis

    def reserve(self) -> Hold | None:
        """What one attempt needs, leased and reserved; None: the budget is used up."""
        granted = self.books("lease", "gw_a", [ask(c, n, limit=LIMITS[c]) for c, n in ONE])
        return hold(next(self.reservations), *ONE) if isinstance(granted, Leased) else None

    def finish(self, name: str, pair: Pair, *args: Any, **options: Any) -> bool:
        """The same finishing step on both, each with its own claim."""
        answers = [
            self.run(getattr(queue, name)(claim, *args, usage=used_by(claim), **options))
            for queue, claim in zip(self.queues, pair, strict=True)
        ]
        assert answers[0] == answers[1]
        return bool(answers[0])

    def give_up(self, name: str, pair: Pair, *args: Any, is_kept: bool, **options: Any) -> None:
        """With what the answer had come to, for another to go on with, or without it."""
        if is_kept:
            options["partial"] = partial_of(pair[0], used_by(pair[0]))
        self.finish(name, pair, *args, **options)

    @initialize(target=tasks)
    def some_wait(self) -> Any:
        return multiple(*(self.submit(None, 3, BOUNDS[-1], True) for _ in range(2)))

    @initialize(target=claims)
    def and_some_run(self) -> Any:
        for _ in range(3):
            self.submit(None, 2, BOUNDS[-1], True)
        self.others_lease_ahead(25)
        return self.claim(3, 2.0)

    @rule(
        target=tasks,
        timeout_s=st.sampled_from([None, 4.0]),
        max_attempts=st.integers(1, 3),
        bound=st.sampled_from(BOUNDS),
        is_paid=st.booleans(),
        tenant=st.sampled_from(sorted(WEIGHTS)),
        priority=st.sampled_from(PRIORITIES),
        callback=st.sampled_from([None, "https://hooks.example.com"]),
    )
    def submit(
        self,
        timeout_s: float | None,
        max_attempts: int,
        bound: TokenBound | None,
        is_paid: bool,
        tenant: str = "acme",
        priority: Priority = "normal",
        callback: str | None = None,
    ) -> TaskId:
        task_id = TaskId(f"task_{len(self.ids):04d}")
        held = self.reserve() if is_paid else None
        new = a_task(
            timeout_s=timeout_s,
            max_attempts=max_attempts,
            bound=bound,
            tenant=TenantName(tenant),
            priority=priority,
            weight=WEIGHTS[tenant],
            callback=callback,
        )
        self.both("submit", new, task_id=task_id, hold=held)
        self.ids.append(task_id)
        self.lives[task_id] = 1
        if held is not None:
            self.paid.add(task_id)
        return task_id

    @rule(
        target=claims,
        count=st.integers(1, 3),
        lease_s=st.sampled_from([0.0, 2.0, 100.0]),
        beside=st.sampled_from([0, 1]),
    )
    def claim(self, count: int, lease_s: float, beside: int = 0) -> Any:
        redis, memory = [
            self.run(queue.claim(MODEL, "w1", count=count, lease_s=lease_s, beside=beside)) for queue in self.queues
        ]
        assert redis == memory
        if any(claim.alone for claim in redis):
            assert (len(redis), beside) == (1, 0)
        return multiple(*zip(redis, memory, strict=True))

    @rule(pair=claims, lease_s=st.sampled_from([0.0, 3.0]))
    def extend(self, pair: Pair, lease_s: float) -> None:
        redis, memory = [
            self.run(queue.extend(claim, lease_s=lease_s)) for queue, claim in zip(self.queues, pair, strict=True)
        ]
        assert redis == memory
        found = self.run(self.queues[0].get(pair[0].task.id))
        if found.state != State.RUNNING:
            assert redis == LeaseState.LOST

    @rule(pair=claims)
    def complete(self, pair: Pair) -> None:
        self.finish("complete", pair, {"by": pair[0].token})

    @rule(
        pair=claims,
        retry_in_s=st.sampled_from([None, 0.0, 1.0, 5.0]),
        is_kept=st.booleans(),
        is_lost=st.booleans(),
    )
    def fail(self, pair: Pair, retry_in_s: float | None, is_kept: bool, is_lost: bool) -> None:
        self.give_up("fail", pair, "boom", retry_in_s=retry_in_s, is_kept=is_kept, is_lost=is_lost)

    @rule(pair=consumes(claims), is_kept=st.booleans())
    def release(self, pair: Pair, is_kept: bool) -> None:
        self.give_up("release", pair, is_kept=is_kept)

    @rule(pair=consumes(claims))
    def release_untried(self, pair: Pair) -> None:
        for queue, claim in zip(self.queues, pair, strict=True):
            self.run(queue.release(claim))

    @rule(task_id=tasks)
    def cancel(self, task_id: TaskId) -> None:
        self.both("cancel", task_id)

    @rule(task_id=tasks, is_paid=st.booleans())
    def replay(self, task_id: TaskId, is_paid: bool) -> None:
        """A dead one, as long as there is any."""
        task_id = next((letter.id for letter in self.both("dead", MODEL)), task_id)
        if self.run(self.queues[0].get(task_id)).state == State.DEAD:
            held = self.reserve() if is_paid else None
            replayed = self.both("retry", task_id, hold=held)
            self.lives[task_id] += 1
            if held is not None:
                self.paid.add(replayed.usage_id)
        else:
            for queue in self.queues:
                with pytest.raises(Conflict):
                    self.run(queue.retry(task_id))

    @rule(task_id=tasks, is_known=st.booleans())
    def drop(self, task_id: TaskId, is_known: bool) -> None:
        """One that is dead, as long as there is any; any other is refused by both."""
        task_id = next((letter.id for letter in self.both("dead", MODEL)), task_id) if is_known else task_id
        if self.both("get", task_id).state == State.DEAD:
            self.both("drop", task_id, by="key_1", why="of no use")
        self.both("dropped")

    @rule(is_removed=st.booleans(), keeps_body=st.booleans())
    def forward(self, is_removed: bool, keeps_body: bool) -> None:
        """The forwarder sends the oldest letter, and may die before it is removed here."""
        page = self.both("letters", MODEL, limit=1000)
        if page.tasks:
            letter = self.both("get", page.tasks[-1].id)
            message = to_message(letter, max_bytes=10_000)
            if keeps_body:
                message = to_message(letter, max_bytes=len(message.text) - 1)
            self.copies.append(from_message(message.text))
            if is_removed:
                assert self.both("forwarded", letter, has_body=message.has_body)
            self.both("get", letter.id)

    @rule(number=st.integers(0, 1000), is_paid=st.booleans())
    def take_back(self, number: int, is_paid: bool) -> None:
        """A copy of a letter comes back, whatever became of its task: it is run if that life still lies dead."""
        if not self.copies:
            return
        copy = self.copies[number % len(self.copies)]
        found = self.both("get", copy.id)
        lies_dead = found.replays == copy.replays and found.state in (State.DEAD, State.FORWARDED)
        if lies_dead and (copy.body or found.body):
            held = self.reserve() if is_paid else None
            replayed = self.both("take_back", copy, hold=held)
            assert replayed.state == State.QUEUED
            assert replayed.body == a_task().body
            self.lives[copy.id] += 1
            if held is not None:
                self.paid.add(replayed.usage_id)
        else:
            # Without a body: another copy, sent when there was more room, has it.
            for queue in self.queues:
                with pytest.raises(Conflict) as error:
                    self.run(queue.take_back(copy))
                assert error.value.code == ("body_lost" if lies_dead else "already_replayed")

    @rule(lease_s=st.sampled_from([0.0, 2.0]), again_in_s=st.sampled_from([None, 1.0]), is_noted=st.booleans())
    def call_back(self, lease_s: float, again_in_s: float | None, is_noted: bool) -> None:
        """Somebody is told of ends, and may die before that is noted. Nobody is told of a life twice once it is."""
        for task in self.both("callbacks_due", count=2, lease_s=lease_s, most_result_bytes=1000):
            assert task.callback is not None
            assert task.state in ENDS
            assert task.usage_id not in self.told
            if is_noted:
                tries = 1 + (task.delivery.tries if task.delivery else 0)
                delivery = Delivery(state="waiting" if again_in_s else "delivered", tries=tries, at=1.0)
                assert self.both("called_back", task, delivery, again_in_s=again_in_s)
                self.told |= {task.usage_id} if again_in_s is None else set()

    @invariant()
    def whoever_is_to_be_told_is_owed_it_until_it_is_noted(self) -> None:
        owed = {name.partition(":")[::2] for name in self.raw.zrange("stoker:callbacks", 0, -1)}
        for task_id in self.ids:
            task = self.run(self.queues[0].get(task_id))
            is_owed = task.callback is not None and task.state in ENDS and task.usage_id not in self.told
            assert ((str(task.replays), task_id) in owed) == is_owed

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))

    @rule(tokens=st.integers(1, 30))
    def others_lease_ahead(self, tokens: int) -> None:
        """What a gateway does beside."""
        granted = self.books("lease", "gw_a", [ask(need=tokens, want=2 * tokens, limit=LIMITS[TOKENS])])
        if isinstance(granted, Leased):
            self.ahead += granted.granted[0]

    @rule(is_all=st.booleans())
    def others_renew(self, is_all: bool) -> None:
        """They give back what is wanted, or all that they do not use."""
        wanted = self.books("renew", "gw_a", ttl_s=TTL_S, watermark=1).wanted
        if self.ahead and (is_all or wanted):
            self.books("renew", "gw_a", ttl_s=TTL_S, watermark=1, give_back=[Part(TOKENS, self.ahead)])
            self.ahead = 0

    @rule(after_s=st.sampled_from([0.0, 1.0]))
    def reclaim(self, after_s: float) -> None:
        self.time_passes(after_s)
        self.both("reclaim", MODEL)

    @invariant()
    def both_agree_and_every_task_is_in_one_place(self) -> None:
        tasks = [self.both("get", task_id) for task_id in self.ids]
        states = Counter(task.state for task in tasks)
        depth = self.both("depth", MODEL)
        assert depth == Depth(
            lag=states[State.QUEUED],
            pending=states[State.RUNNING],
            delayed=states[State.RETRYING],
            dead=states[State.DEAD],
        )
        assert all((task.result is not None) == (task.state == State.DONE) for task in tasks)
        assert all((task.error is not None) == (task.state in FAILED) for task in tasks)
        assert sorted(task.id for task in self.both("list", limit=1000)) == sorted(self.ids)

    @invariant()
    def the_lag_that_keda_reads_is_the_number_of_waiting_tasks(self) -> None:
        if self.raw.exists(f"stoker:tasks:{MODEL}"):
            [group] = self.raw.xinfo_groups(f"stoker:tasks:{MODEL}")
            assert group["lag"] == self.raw.xlen(f"stoker:tasks:{MODEL}") - group["pending"]
            queued = [task_id for task_id in self.ids if self.run(self.queues[0].get(task_id)).state == State.QUEUED]
            assert group["lag"] == len(queued)
            places: list[Place] = [self.both("place", task_id) for task_id in queued]
            assert all(0 <= place.ahead < len(queued) for place in places)

    @invariant()
    def every_end_left_one_usage_record(self) -> None:
        written = Counter(json.loads(fields["r"])["id"] for _, fields in self.raw.xrange("stoker:usage"))
        expected: Counter[str] = Counter()
        for task_id in self.ids:
            task = self.run(self.queues[0].get(task_id))
            for life in range(self.lives[task_id]):
                has_ended = life < self.lives[task_id] - 1 or task.state in ENDS
                expected[task_id if life == 0 else f"{task_id}.{life}"] = int(has_ended)
        assert written == +expected

    @invariant()
    def no_budget_is_overspent(self) -> None:
        """But by what held none, which nobody asked."""
        records = [json.loads(fields["r"]) for _, fields in self.raw.xrange("stoker:usage")]
        unpaid = [record for record in records if record["id"] not in self.paid]
        tokens = sum(record["prompt_tokens"] + record["completion_tokens"] for record in unpaid)
        late = {TOKENS: tokens, REQUESTS: len(unpaid), SLOTS: 0}
        for counter, state in zip(LIMITS, self.books("state", list(LIMITS)), strict=True):
            spent, leased, held, _ = state
            assert min(spent, leased, held) >= 0
            assert late[counter] <= spent
            assert spent + leased + held <= LIMITS[counter] + late[counter]

    def what_is_spent_is_what_the_records_say(self) -> None:
        # Which of two that end in one step is written first, nobody promises.
        records, in_memory = [sorted(self.run(all_usage(queue)), key=lambda one: one.id) for queue in self.queues]
        assert records == in_memory
        states = self.books("state", list(LIMITS))
        assert [state.spent for state in states] == [
            sum(record.prompt_tokens + record.completion_tokens for record in records),
            len(records),
            0,
        ]


def used_by(claim: Claim) -> UsageRecord:
    """Of one that goes on, a token more, as long as what both used is what one may."""
    record = usage_of(claim)
    if claim.partial is None:
        return record
    left = ONE[0][1] - claim.partial.prompt_tokens - claim.partial.completion_tokens
    return replace(record, prompt_tokens=0, completion_tokens=min(1, left), nano_usd=0)


@pytest.mark.redis
def test_whatever_happens_each_task_is_in_one_state_and_ends_once(redis_server: RedisServer) -> None:
    QueueMachine.url = redis_server.url
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=examples(20),
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            # Shrinking forty steps on a real Redis takes longer than reading them.
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
