"""Whose turn it is: priorities, weights, and what nobody gets out of being away."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from effort import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stoker.policy.fairness import (
    LOOKED_AT,
    MOST_TOKENS,
    PRIORITIES,
    REMEMBERED_S,
    UNITS_PER_TOKEN,
    Order,
    Share,
    lower,
    next_priority,
    service,
    smoothed_ms,
    wait_s,
)
from stoker.spec import Priority

NOW = 1000.0


def a_share(tenant: str = "a", priority: Priority = "normal", weight: int = 1, tokens: int = 10) -> Share:
    return Share(priority, tenant, weight, tokens)


def filled(*shares: Share) -> Order:
    """Their tasks are called t0, t1, ..."""
    order = Order()
    for number, share in enumerate(shares):
        order.add(f"t{number}", share, NOW)
    return order


def drained(order: Order, most: int = 1000) -> list[str]:
    taken = []
    while len(taken) < most and (task_id := order.next()) is not None:
        order.take(task_id, NOW)
        taken.append(task_id)
    return taken


def tenants_taken(order: Order, shares: Sequence[Share], most: int = 1000) -> str:
    return "".join(shares[int(task_id[1:])].tenant for task_id in drained(order, most))


# --- tenants ----------------------------------------------------------------------------------------------------------


def test_nothing_waits() -> None:
    assert Order().next() is None


def test_within_a_tenant_the_one_that_has_waited_longest_goes_first() -> None:
    assert drained(filled(a_share(), a_share(), a_share())) == ["t0", "t1", "t2"]


def test_a_flood_waits_behind_those_who_came_later_with_little() -> None:
    shares = [a_share("a")] * 6 + [a_share("b")] * 2
    assert tenants_taken(filled(*shares), shares) == "ababaaaa"


def test_three_times_the_weight_is_three_times_the_turns() -> None:
    shares = [a_share("a", weight=3)] * 9 + [a_share("b")] * 3
    assert tenants_taken(filled(*shares), shares) == "abaaabaaabaa"


def test_a_share_is_one_of_tokens_not_of_tasks() -> None:
    shares = [a_share("a", tokens=40)] * 3 + [a_share("b", tokens=10)] * 8
    assert tenants_taken(filled(*shares), shares) == "abbbbabbbba"


def test_what_was_not_used_is_given_back_at_the_end() -> None:
    """Both are taken for 100; a's took 1, so a goes on until it has had as much."""
    order = filled(*[a_share("a", tokens=100)] * 3, *[a_share("b", tokens=100)] * 2)
    assert order.take("t0", NOW) == 100_000
    assert order.take("t3", NOW) == 100_000
    order.correct(a_share("a", tokens=100), 100_000, 1, NOW)
    assert order.counters("normal") == {"a": 1_000, "b": 100_000}
    assert drained(order) == ["t1", "t4", "t2"]


def test_who_comes_back_has_no_credit_for_the_time_it_was_away() -> None:
    order = filled(*[a_share("a")] * 8)
    assert drained(order, 5) == ["t0", "t1", "t2", "t3", "t4"]
    for number in range(8, 12):
        order.add(f"t{number}", a_share("b"), NOW)
    assert order.counters("normal") == {"a": 50_000, "b": 50_000}
    assert drained(order) == ["t5", "t8", "t6", "t9", "t7", "t10", "t11"]


def test_who_comes_to_an_empty_queue_begins_where_the_last_one_left() -> None:
    order = filled(*[a_share("a")] * 3)
    drained(order)
    order.add("new", a_share("b"), NOW)
    order.add("again", a_share("a"), NOW)
    assert order.counters("normal") == {"a": 30_000, "b": 20_000}


def test_who_was_served_more_than_others_cannot_leave_it_behind() -> None:
    order = filled(a_share("a", tokens=500), a_share("b", tokens=1), a_share("b", tokens=1))
    assert drained(order, 2) == ["t0", "t1"]
    order.add("again", a_share("a"), NOW)
    assert order.counters("normal") == {"a": 500_000, "b": 1_000}
    order.add("late", a_share("c"), NOW)
    assert order.counters("normal")["c"] == 1_000


def test_what_a_tenant_has_had_is_forgotten_an_hour_after_it_left() -> None:
    order = filled(a_share("a", tokens=500), a_share("b", tokens=1), a_share("b", tokens=1))
    drained(order, 2)
    order.add("again", a_share("a"), NOW + REMEMBERED_S)
    assert order.counters("normal")["a"] == 1_000


def test_priorities_have_counters_of_their_own() -> None:
    order = filled(a_share("a", "batch", tokens=500), a_share("a", "batch"), a_share("b", "batch"), a_share("a"))
    assert drained(order, 2) == ["t3", "t0"]
    order.add("quick", a_share("b", "interactive"), NOW)
    order.add("asks", a_share("a", "interactive"), NOW)
    assert order.counters("interactive") == {"a": 0, "b": 0}
    assert drained(order) == ["asks", "quick", "t2", "t1"]


def test_a_task_that_is_taken_back_leaves_its_tenant_where_it_was() -> None:
    order = filled(a_share("a"), a_share("b"), a_share("a"))
    drained(order, 1)
    assert order.remove("t2", NOW) == a_share("a")
    assert len(order) == 1
    assert order.of_tenant("a") == 0
    order.add("again", a_share("a"), NOW)
    assert order.counters("normal") == {"a": 10_000, "b": 0}


# --- priorities -------------------------------------------------------------------------------------------------------


def test_the_lower_ones_are_passed_over_nine_times_and_then_have_a_turn() -> None:
    shares = [a_share("a", "interactive")] * 30 + [a_share("b")] * 3 + [a_share("c", "batch")] * 3
    assert tenants_taken(filled(*shares), shares) == "aaaaaaaaabcaaaaaaaabcaaaaaaaabcaaaaa"


@pytest.mark.parametrize(
    ("passed", "chosen"),
    [
        ({}, "interactive"),
        ({"normal": 8, "batch": 8}, "interactive"),
        ({"batch": 9}, "batch"),
        ({"normal": 9, "batch": 30}, "normal"),
    ],
)
def test_the_highest_of_those_that_were_passed_over_too_often(passed: dict[Priority, int], chosen: Priority) -> None:
    assert next_priority(PRIORITIES, passed) == chosen


def test_a_priority_of_which_nothing_waits_is_not_passed_over() -> None:
    order = filled(*[a_share("a", "interactive")] * 20, a_share("b", "batch"))
    drained(order, 8)
    order.remove("t20", NOW)
    drained(order, 1)
    order.add("late", a_share("b", "batch"), NOW)
    assert drained(order, 10)[-1] == "late"


def test_the_lower_of_two() -> None:
    assert lower("interactive", "normal") == "normal"
    assert lower("batch", "normal") == "batch"


@given(st.lists(st.sampled_from(PRIORITIES), max_size=120), st.lists(st.sampled_from(PRIORITIES), max_size=40))
def test_nothing_waits_for_ever(first: list[Priority], later: list[Priority]) -> None:
    """While something of it waits: of 10 takes in a row one is normal, of 11 one batch; and interactive has 8 of 10."""
    order, coming = filled(*[a_share("x", priority) for priority in first]), list(later)
    of, gaps = dict(enumerate(first)), Counter[Priority]()
    lower_of_last: list[bool] = []
    while (task_id := order.next()) is not None:
        waiting = {priority for priority in PRIORITIES if order.tenants(priority)}
        taken = of.pop(int(task_id[1:]))
        order.take(task_id, NOW)
        for priority in PRIORITIES:
            gaps[priority] = 0 if priority == taken or priority not in waiting else gaps[priority] + 1
        assert gaps["normal"] <= 9
        assert gaps["batch"] <= 10
        lower_of_last = [*lower_of_last[-9:], taken != "interactive"] if "interactive" in waiting else []
        assert sum(lower_of_last) <= 2
        if coming:
            number = len(first) + len(coming)
            of[number] = coming.pop()
            order.add(f"t{number}", a_share("x", of[number]), NOW)


# --- how fair ---------------------------------------------------------------------------------------------------------

WEIGHTS = {"a": 1, "b": 2, "c": 10}  # they divide a token's thousandths, so nothing is rounded
RUNNING_MOST = 3
LARGEST = 50  # tokens
BOUND = Fraction(2 * (RUNNING_MOST + 1) * LARGEST, min(WEIGHTS.values()))
"""Tokens for their weights that two tenants can be apart in while both wait: see docs/decisions/04-fair-order.md."""


@dataclass
class Bench:
    """One priority, at most RUNNING_MOST at once. `served`: the tokens that each tenant has had, by its weight: of what
    runs the most that it may take."""

    order: Order = field(default_factory=Order)
    running: list[tuple[Share, int]] = field(default_factory=list)
    served: dict[str, Fraction] = field(default_factory=lambda: dict.fromkeys(WEIGHTS, Fraction(0)))
    shares: dict[str, Share] = field(default_factory=dict)
    names: int = 0

    def submit(self, tenant: str, tokens: int) -> None:
        self.names += 1
        share = self.shares[f"t{self.names}"] = a_share(tenant, weight=WEIGHTS[tenant], tokens=tokens)
        self.order.add(f"t{self.names}", share, NOW)

    def take(self) -> None:
        task_id = self.order.next()
        if task_id is not None and len(self.running) < RUNNING_MOST:
            share = self.shares[task_id]
            self.running.append((share, self.order.take(task_id, NOW)))
            self.served[share.tenant] += Fraction(share.tokens, share.weight)

    def end(self, which: int, parts: Mapping[str, float]) -> None:
        """One that runs used so much of what it might, by its tenant."""
        if self.running:
            share, amount = self.running.pop(which % len(self.running))
            used = int(share.tokens * parts[share.tenant])
            self.order.correct(share, amount, used, NOW)
            self.served[share.tenant] += Fraction(used - share.tokens, share.weight)


PARTS = st.sampled_from([0.0, 0.1, 0.9, 1.0])
STEPS = st.one_of(
    st.tuples(st.just("submit"), st.sampled_from(sorted(WEIGHTS)), st.integers(1, LARGEST)),
    st.tuples(st.just("take")),
    st.tuples(st.just("end"), st.integers(0, 5), st.fixed_dictionaries(dict.fromkeys(WEIGHTS, PARTS))),
)

ALL = dict.fromkeys(WEIGHTS, 1.0)
FLOOD_OF_TWO = [("submit", "a", 50)] * 60 + [("submit", "c", 50)] * 60
LATE_COMER = [("submit", "a", 50)] * 60 + [("take",), ("end", 0, ALL)] * 30 + [("submit", "b", 50)] * 60
THRIFTY = [("submit", "a", 50)] * 60 + [("submit", "b", 50)] * 60


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(STEPS, max_size=150))
@example(FLOOD_OF_TWO + [("take",), ("end", 0, ALL)] * 60)
@example(LATE_COMER + [("take",), ("end", 0, ALL)] * 60)
@example(THRIFTY + [("take",), ("end", 0, {**ALL, "a": 0.0})] * 100)
def test_what_two_tenants_have_had_while_both_wait_differs_by_a_bound(steps: list[tuple[object, ...]]) -> None:
    bench = Bench()
    lowest: dict[tuple[str, str], Fraction] = {}  # of one's service less the other's, since both wait
    for name, *args in steps:
        getattr(bench, name)(*args)
        waiting = bench.order.counters("normal")
        for one in WEIGHTS:
            for other in WEIGHTS:
                if one == other or one not in waiting or other not in waiting:
                    lowest.pop((one, other), None)
                    continue
                apart = bench.served[one] - bench.served[other]
                lowest[one, other] = min(apart, lowest.get((one, other), apart))
                assert apart - lowest[one, other] <= BOUND
                assert abs(waiting[one] - waiting[other]) <= BOUND * UNITS_PER_TOKEN / 2


# --- arithmetic -------------------------------------------------------------------------------------------------------


def test_a_weight_divides_what_a_task_counts() -> None:
    assert service(10, 1) == 10_000
    assert service(10, 3) == 3_333
    assert service(MOST_TOKENS + 5, 1000) == MOST_TOKENS


def test_how_long_tasks_run_follows_the_last_ones() -> None:
    assert smoothed_ms(None, 800) == 800
    assert smoothed_ms(800, 1600) == 900
    assert smoothed_ms(800, 801) == 800


def test_an_estimate_counts_takes_by_how_many_run_at_once() -> None:
    assert wait_s(3, 1000, 2) == 1.5
    assert wait_s(3, 1000, 0) == 3.0
    assert wait_s(1, None, 4) is None


# --- how many are before one ------------------------------------------------------------------------------------------


def test_a_place_counts_what_comes_before_it_by_turns() -> None:
    order = filled(
        *[a_share("a")] * 6,  # t0 to t5
        *[a_share("b")] * 2,  # t6, t7
        a_share("a", "interactive"),
        a_share("c", "batch"),
    )
    assert [order.ahead(f"t{number}") for number in range(10)] == [1, 3, 5, 6, 7, 8, 2, 4, 0, 9]


def test_tenants_beyond_those_that_are_looked_at_count_as_if_they_had_as_much() -> None:
    tenants = [f"n{number:03d}" for number in range(LOOKED_AT + 20)]
    order = filled(*[a_share(tenant) for tenant in tenants for _ in range(2)])
    assert order.ahead("t0") == 20  # nobody is before it; it was not looked at whether the last 20 are
    assert order.ahead("t1") == 1 + 99 + 2 * 20
    assert order.ahead(f"t{2 * LOOKED_AT}") == 100 + 19
