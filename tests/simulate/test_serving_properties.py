"""What holds of any requests, replicas and changes to them; and a slow simulator, written otherwise, that agrees."""

import itertools
import math
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.simulate import serving, sharing
from stoker.simulate.engines import Rates
from stoker.simulate.result import IN_FLIGHT, LOST, NO_REPLICA, SERVED, TIMED_OUT, TOO_LONG
from stoker.simulate.serving import Plane, Requests

END = 1e5
SEEDS = st.integers(min_value=0, max_value=2**32)
Change = tuple[float, str, Any]


@dataclass
class Case:
    """One model's requests, and what is done to its replicas when: `add` with rates and concurrency, or `drain` and
    `kill` with the slot."""

    rows: list[tuple[float, int, int, int]]
    changes: list[Change]
    options: dict[str, Any]

    def plane(self) -> Plane:
        at, *tokens = zip(*self.rows, strict=True)
        return Plane(Requests(np.array(at), *(np.array(each, np.int32) for each in tokens)), **self.options)


def case(seed: int, most: int = 30) -> Case:
    """Times are drawn from so many that no two things happen at once by chance."""
    chance = random.Random(seed)
    busy = chance.choice([1.0, 10.0, 60.0])
    at = sorted(chance.uniform(0.0, busy) for _ in range(chance.randint(1, most)))
    rows = [(when, chance.randint(0, 90), chance.randint(0, 30), chance.choice([0, 0, 20, 70])) for when in at]
    options = {
        "dispatch": chance.choice(["queue", "balance"]),
        "max_model_len": chance.choice([None, None, 80]),
        "timeout_s": chance.choice([math.inf, 0.0, 1.37, 20.11]),
        "retries": chance.random() < 0.5,
        "lease_s": chance.choice([0.0, 0.77, 6.13]),
    }
    changes: list[Change] = []
    for slot in range(chance.randint(1, 5)):
        begins = chance.choice([-1.0, chance.uniform(0.0, busy)])
        concurrency = chance.randint(1, 6)
        changes.append((begins, "add", (random_rates(chance), concurrency)))
        if chance.random() < 0.6:
            changes.append((chance.uniform(begins, busy + 20.0), chance.choice(["drain", "kill", "kill"]), slot))
    adds = sorted((each for each in changes if each[1] == "add"), key=lambda each: each[0])
    ends = [(max(when, adds[slot][0]) + 0.01, what, slot) for when, what, slot in changes if what != "add"]
    changes = sorted([*adds, *ends], key=lambda each: each[0])
    return Case(rows, changes, options)


def random_rates(chance: random.Random) -> Rates:
    base, more = chance.uniform(0.01, 0.1), chance.uniform(0.0, 0.02)
    return Rates(
        step_s=np.array([base + more * n for n in range(chance.randint(2, 6))]),
        step_s_per_kv_token=chance.uniform(0.0, 1e-4),
        prefill_s_per_token=chance.uniform(0.001, 0.02),
        prefill_s_fixed=chance.choice([0.0, 0.0153]),
        chunk_tokens=chance.randint(1, 40),
        kv_tokens=chance.choice([60, 130, 1000]),
        after_s=chance.choice([0.0, 0.0078]),
    )


def play(case: Case, stops: list[float] | None = None, each_time: Any = None) -> Plane:
    """All of the case, to the end; `advance` is called with `stops` in between, and `each_time` after each call."""
    plane = case.plane()
    steps = sorted([*((when, 1, (what, data)) for when, what, data in case.changes),
                    *((when, 0, None) for when in stops or ())], key=lambda step: step[:2])  # fmt: skip
    for when, _, change in [*steps, (END, 0, None)]:
        while plane.advance(when)[1] >= 0:
            pass
        if change is not None:
            what, data = change
            if what == "add":
                plane.add(*data, when)
            else:
                getattr(plane, what)(data, when)
        if each_time is not None:
            each_time(plane, when)
    return plane


@dataclass
class Sequence:
    request: int
    prompt: int
    tokens: int
    left: float
    """Tokens of the prompt, later of the answer."""


@dataclass
class Replica:
    rates: Rates
    concurrency: int
    waiting: list[Sequence] = field(default_factory=list)
    prompt: Sequence | None = None
    answers: list[Sequence] = field(default_factory=list)
    is_ready: bool = True
    busy: float = 0.0
    chunk: float = 0.0

    def has(self) -> int:
        return len(self.waiting) + len(self.answers) + (self.prompt is not None)

    def step(self) -> tuple[float, float, float]:
        """Seconds of a step for the prompt and for the answers, and tokens of the prompt in it."""
        r, n = self.rates, len(self.answers)
        decode = r.step_s[n] + r.step_s_per_kv_token * sum(a.prompt + a.tokens / 2 for a in self.answers)
        if not self.prompt:
            return 0.0, (decode if n else 0.0), 1.0
        prompt = self.chunk * r.prefill_s_per_token
        return (prompt, decode, self.chunk) if n else (prompt + decode, 0.0, self.chunk)

    def plan(self) -> None:
        """Alone, a prompt has as many steps as it needs, all alike; unless others wait, who fill the last one."""
        self.chunk = max(1, self.rates.chunk_tokens - len(self.answers))
        if self.prompt and not self.answers and not self.waiting and self.prompt.left > 1e-6:
            self.chunk = self.prompt.left / math.ceil((self.prompt.left - 1e-6) / self.rates.chunk_tokens)

    def next_in(self) -> float:
        prompt_s, decode_s, chunk = self.step()
        steps = [answer.left for answer in self.answers] + ([self.prompt.left / chunk] if self.prompt else [])
        return max(0.0, min(steps)) * (prompt_s + decode_s) if steps else math.inf

    def begin_next(self) -> None:
        if (
            self.prompt is None
            and self.waiting
            and len(self.answers) < min(self.concurrency, len(self.rates.step_s) - 1)
        ):
            need = self.waiting[0].prompt + self.waiting[0].tokens
            if need + sum(a.prompt + a.tokens for a in self.answers) <= self.rates.kv_tokens:
                self.prompt = self.waiting.pop(0)
                self.plan()


class Slow:
    """The same model: tokens left of each sequence, all of them counted down from each event to the next."""

    def __init__(self, case: Case) -> None:
        self.rows, self.options = case.rows, case.options
        n = len(case.rows)
        self.replicas: list[Replica] = []
        self.queue: list[tuple[int, float, int]] = []  # came back first, since, request
        self.away: list[tuple[float, int]] = []
        self.state, self.slot, self.attempts, self.made, self.hit = ([x] * n for x in (IN_FLIGHT, -1, 0, 0, 0))
        self.started, self.first, self.done = [math.nan] * n, [math.nan] * n, [math.nan] * n
        self.work = [0.0] * n
        changes, arrivals, now = list(case.changes), list(range(n)), -1.0
        while True:
            ways: list[tuple[float, int, Any]] = [(now + r.next_in(), 0, r) for r in self.replicas]
            ways += [(when, 1, i) for when, i in self.away[:1]] + [(self.rows[i][0], 2, i) for i in arrivals[:1]]
            ways += [(since + self.options["timeout_s"], 3, (b, since, i)) for b, since, i in self.queue]
            ways += [(when, 4, (what, data)) for when, what, data in changes[:1]]
            when, kind, what = min(ways, key=lambda way: way[:2], default=(math.inf, 0, None))
            if when == math.inf:
                break
            for replica in self.replicas:
                self.pass_time(replica, when - now)
            now = when
            if kind == 0:
                self.turn(what, now)
            elif kind == 1:
                self.away.pop(0)
                self.queue.append((0, now, what))
            elif kind == 2:
                arrivals.pop(0)
                none_ready = not any(r.is_ready for r in self.replicas)
                if self.options["max_model_len"] is not None and self.rows[what][1] >= self.options["max_model_len"]:
                    self.state[what] = TOO_LONG
                elif self.options["dispatch"] == "balance" and self.options["timeout_s"] == 0 and none_ready:
                    self.state[what] = NO_REPLICA
                else:
                    self.queue.append((1, now, what))
            elif kind == 3:
                self.queue.remove(what)
                self.state[what[2]] = TIMED_OUT
            else:
                changes.pop(0)
                self.change(*what, now)
            self.send(now)

    def pass_time(self, r: Replica, passed: float) -> None:
        prompt_s, decode_s, chunk = r.step()
        if prompt_s + decode_s > 0:
            steps = passed / (prompt_s + decode_s)
            r.busy += passed
            for answer in r.answers:
                answer.left -= steps
                self.work[answer.request] += steps * decode_s / len(r.answers)
            if r.prompt:
                r.prompt.left -= steps * chunk
                self.work[r.prompt.request] += steps * prompt_s

    def turn(self, r: Replica, now: float) -> None:
        over = min([*r.answers, *([r.prompt] if r.prompt else [])], key=lambda s: s.left)
        if over is r.prompt:
            r.prompt = None
            self.first[over.request] = now + r.rates.prefill_s_fixed
            over.left = over.tokens - 1
            r.answers.append(over)
        if over.left < 1e-9 and over in r.answers:
            r.answers.remove(over)
            self.state[over.request] = SERVED
            self.done[over.request] = now + r.rates.prefill_s_fixed + r.rates.after_s
        r.begin_next()
        r.plan()

    def change(self, what: str, data: Any, now: float) -> None:
        if what == "add":
            self.replicas.append(Replica(*data))
            return
        r = self.replicas[data]
        r.is_ready = False
        if what == "kill":
            for a in r.answers:
                self.made[a.request] = math.floor(a.tokens - a.left)
            for i in sorted(s.request for s in [*r.answers, *r.waiting, *([r.prompt] if r.prompt else [])]):
                if i not in [a.request for a in r.answers] or self.options["retries"]:
                    self.made[i] = 0
                if self.options["retries"]:
                    self.first[i], self.hit[i] = math.nan, 0
                    self.away.append((now + self.options["lease_s"], i))
                else:
                    self.state[i] = LOST
            r.answers, r.waiting, r.prompt = [], [], None

    def send(self, now: float) -> None:
        while self.queue:
            free = [r for r in self.replicas if r.is_ready]
            if self.options["dispatch"] == "queue":
                free = [r for r in free if r.has() < r.concurrency]
            if not free:
                return
            self.queue.sort(key=lambda entry: entry[0])
            _, _, i = self.queue.pop(0)
            r = min(free, key=Replica.has)
            _, prompt, answer, seen = self.rows[i]
            if prompt >= r.rates.kv_tokens:
                self.state[i] = TOO_LONG
                continue
            longest = min(self.options["max_model_len"] or math.inf, r.rates.kv_tokens)
            self.made[i] = int(min(answer, longest - prompt))
            self.started[i], self.slot[i] = now, self.replicas.index(r)
            self.attempts[i] += 1
            hit = max(0, min(seen, prompt - 1)) // 16 * 16
            r.waiting.append(Sequence(i, prompt, self.made[i], prompt - hit))
            self.hit[i] = hit
            r.begin_next()


@settings(max_examples=examples(50), deadline=None)
@given(SEEDS)
def test_a_slow_simulator_written_otherwise_agrees(seed: int) -> None:
    drawn = case(seed)
    slow, plane = Slow(drawn), play(drawn)
    columns = plane.columns()
    assert columns["state"].tolist() == slow.state
    assert columns["slot"].tolist() == slow.slot
    assert columns["attempts"].tolist() == slow.attempts
    is_over = np.array(slow.state) != IN_FLIGHT
    assert columns["completion_tokens"][is_over].tolist() == np.array(slow.made)[is_over].tolist()
    assert columns["cached_tokens"][columns["state"] == SERVED].tolist() == [
        hit for hit, state in zip(slow.hit, slow.state, strict=True) if state == SERVED
    ]
    for name, expected in (("started_at", slow.started), ("first_at", slow.first), ("done_at", slow.done)):
        np.testing.assert_allclose(columns[name], expected, rtol=0, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(columns["work_s"], slow.work, rtol=0, atol=1e-9)
    np.testing.assert_allclose(plane.busy_s(), [r.busy for r in slow.replicas], rtol=0, atol=1e-9)


@settings(max_examples=examples(20), deadline=None)
@given(SEEDS)
def test_at_every_moment_each_request_is_in_one_place_and_counts_only_grow(seed: int) -> None:
    drawn = case(seed)
    chance = random.Random(seed)
    stops = [chance.uniform(-1.0, 90.0) for _ in range(40)]
    seen: list[tuple[int, ...]] = []
    reached: list[float] = []

    def look(plane: Plane, when: float) -> None:
        counts = plane.counts()
        assert counts.arrived == counts.served + counts.rejected + counts.waiting + counts.pending
        assert counts.pending >= counts.running + counts.engine_waiting
        assert counts.arrived == sum(row[0] <= when for row in drawn.rows)
        assert min(counts) >= 0
        assert 0.0 <= plane.kv_usage() <= 1.0
        assert plane.has_work() == (counts.served + counts.rejected < len(drawn.rows))
        columns = plane.columns()
        states = columns["state"].tolist()
        assert (counts.served, counts.rejected) == (states.count(SERVED), sum(each > SERVED for each in states))
        assert math.isclose(columns["work_s"].sum(), plane.busy_s().sum(), rel_tol=1e-6, abs_tol=1e-12)
        seen.append(counts[4:])
        reached.append(plane.advance(when - 5.0)[0])

    columns = play(drawn, stops, look).columns()
    for before, after in itertools.pairwise(seen):
        assert all(a <= b for a, b in zip(before, after, strict=True))
    assert reached == sorted(reached)
    served = columns["state"] == SERVED
    at = np.array([row[0] for row in drawn.rows])
    assert (columns["started_at"][served] >= at[served]).all()
    assert (columns["first_at"][served] >= columns["started_at"][served]).all()
    assert (columns["done_at"][served] >= columns["first_at"][served]).all()
    assert np.isnan(columns["done_at"][~served]).all()
    if drawn.options["retries"]:
        assert LOST not in columns["state"]


@settings(max_examples=examples(20), deadline=None)
@given(SEEDS, st.lists(st.floats(-2.0, 100.0), max_size=60))
def test_pieces_of_time_give_the_same_to_the_bit(seed: int, stops: list[float]) -> None:
    drawn = case(seed)
    assert_same(play(drawn), play(drawn, stops))


def test_compiled_code_gives_the_same_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of what is asked in between, and for enough replicas that the first room for them does not do."""
    pytest.importorskip("numba")
    for seed in range(examples(27)):
        drawn = case(seed, most=60)
        if seed % 8 == 0:
            drawn.changes = sorted(drawn.changes * 10, key=lambda each: (each[1] != "add", each[0]))
            drawn.changes = [
                (max(when, 0.0) + 30.0 * (what != "add"), what, data) for when, what, data in drawn.changes
            ]
            drawn.changes.sort(key=lambda each: each[0])
        seen: dict[bool, list[Any]] = {False: [], True: []}
        played = {}
        for is_compiled in (False, True):
            monkeypatch.setattr(serving, "WORTH_COMPILING", 0 if is_compiled else 10**9)

            def look(plane: Plane, when: float, rows: list[Any] = seen[is_compiled]) -> None:
                rows.append((plane.counts(), plane.kv_usage(), plane.busy_s().tolist(), plane.advance(when)))

            played[is_compiled] = play(drawn, [float(i) for i in range(0, 60, 3)], look)
        assert (played[False]._code is sharing, played[True]._code is sharing) == (True, False)
        assert seen[False] == seen[True]
        assert_same(played[False], played[True])


def assert_same(left: Plane, right: Plane) -> None:
    for name, column in left.columns().items():
        assert column.tobytes() == right.columns()[name].tobytes(), name
    assert left.busy_s().tobytes() == right.busy_s().tobytes()


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 99)), max_size=40))
def test_the_heap_gives_ends_in_order_and_equal_ones_by_request(entries: list[tuple[int, int]]) -> None:
    ends, whose = [-1.0] * (len(entries) + 2), [-1] * (len(entries) + 2)
    for size, (end, request) in enumerate(entries):
        sharing.put_end(ends, whose, 1, size, float(end), request)
    found = []
    for size in range(len(entries), 0, -1):
        found.append((ends[1], whose[1]))
        sharing.drop_end(ends, whose, 1, size)
    assert found == sorted(entries)
    assert (ends[0], ends[-1]) == (-1.0, -1.0)  # nothing of the neighbours'


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 9)), max_size=40))
def test_the_tree_knows_the_first_of_the_least(changes: list[tuple[int, int]]) -> None:
    tree, leaves = [9] * 16, [9] * 8
    for slot, value in changes:
        sharing.set_leaf(tree, slot, value)
        leaves[slot] = value
        assert (tree[1], sharing.first_leaf(tree)) == (min(leaves), leaves.index(min(leaves)))
