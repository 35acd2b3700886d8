"""Counters, windows and slices: what a process may admit without asking anybody."""

from collections import Counter as Tally
from datetime import UTC, datetime
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.base.errors import InvalidInput
from stoker.policy.budgets import (
    IDLE_ROUNDS,
    KEPT_AFTER_S,
    MOST,
    Amounts,
    Ask,
    Counter,
    Limit,
    Part,
    Plan,
    Reservation,
    Scope,
    Shortfall,
    Slices,
    Spent,
    Unit,
    Window,
    counters,
    inside,
    returns_slots,
    scope_names,
    share,
    wanted,
)

KEY = Scope("key", "key_1")


def at(*when: int) -> float:
    """Seconds since the epoch of a moment in UTC."""
    return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]


def the_counter(limit: Limit, now: float) -> Counter:
    [found] = counters([limit], now)
    return found


# --- counters and their windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "now", "name", "renews_at"),
    [
        (Window.MINUTE, at(2026, 11, 23, 9, 5, 59), "key:key_1:tokens:minute:2026-11-23T0905", at(2026, 11, 23, 9, 6)),
        (Window.MINUTE, at(2026, 11, 23, 9, 6), "key:key_1:tokens:minute:2026-11-23T0906", at(2026, 11, 23, 9, 7)),
        (Window.MINUTE, at(2026, 12, 31, 23, 59), "key:key_1:tokens:minute:2026-12-31T2359", at(2027, 1, 1)),
        (Window.DAY, at(2026, 11, 23), "key:key_1:tokens:day:2026-11-23", at(2026, 11, 24)),
        (Window.DAY, at(2026, 12, 31, 23, 59, 59), "key:key_1:tokens:day:2026-12-31", at(2027, 1, 1)),
        (Window.DAY, at(2028, 2, 28, 12), "key:key_1:tokens:day:2028-02-28", at(2028, 2, 29)),
        (Window.DAY, at(2027, 2, 28, 12), "key:key_1:tokens:day:2027-02-28", at(2027, 3, 1)),
        (Window.MONTH, at(2028, 2, 29, 23, 59, 59), "key:key_1:tokens:month:2028-02", at(2028, 3, 1)),
        (Window.MONTH, at(2026, 1, 31, 1), "key:key_1:tokens:month:2026-01", at(2026, 2, 1)),
        (Window.MONTH, at(2026, 12, 1), "key:key_1:tokens:month:2026-12", at(2027, 1, 1)),
        (Window.TOTAL, at(2026, 11, 23), "key:key_1:tokens:total", None),
    ],
)
def test_a_counter_is_named_after_its_window_and_says_when_the_next_begins(
    window: Window, now: float, name: str, renews_at: float | None
) -> None:
    found = the_counter(Limit(KEY, Unit.TOKENS, window, 500), now)
    assert found == Counter(name, Unit.TOKENS, 500, renews_at, 1)


def test_the_last_instant_of_a_window_is_in_it_and_the_first_of_the_next_is_not() -> None:
    plan = Plan([Limit(KEY, Unit.REQUESTS, Window.MINUTE, 5)])
    end = at(2026, 11, 23, 9, 6)
    assert plan.at(end - 0.001)[0].name == "key:key_1:requests:minute:2026-11-23T0905"
    assert plan.at(end)[0].name == "key:key_1:requests:minute:2026-11-23T0906"


def test_a_request_falls_under_every_limit_in_their_order_and_each_unit_has_its_place() -> None:
    limits = [
        Limit(KEY, Unit.CONCURRENT, Window.TOTAL, 3),
        Limit(Scope("team", inside("acme", "red")), Unit.NANO_USD, Window.MONTH, 4),
        Limit(Scope("tenant", "acme"), Unit.TOKENS, Window.DAY, 5),
        Limit(Scope("run", inside("acme", "r1")), Unit.REQUESTS, Window.TOTAL, 6),
    ]
    assert [(c.name, c.limit, c.place) for c in counters(limits, at(2026, 11, 23))] == [
        ("key:key_1:concurrent:total", 3, 3),
        ("team:acme/red:nano_usd:month:2026-11", 4, 2),
        ("tenant:acme:tokens:day:2026-11-23", 5, 1),
        ("run:acme/r1:requests:total", 6, 0),
    ]


def test_only_what_is_new_each_minute_and_what_runs_now_starts_at_zero_without_the_ledger() -> None:
    starts = {
        (unit, window): the_counter(Limit(KEY, unit, window, 1), 0.0).starts_at_zero
        for unit in Unit
        for window in Window
    }
    assert {each for each, starts_at_zero in starts.items() if starts_at_zero} == {
        *((unit, Window.MINUTE) for unit in Unit),
        *((Unit.CONCURRENT, window) for window in Window),
    }


def test_only_what_runs_now_gives_its_slots_back() -> None:
    given_back = [unit for unit in Unit if returns_slots(the_counter(Limit(KEY, unit, Window.DAY, 1), 0.0).name)]
    assert given_back == [Unit.CONCURRENT]


# --- names of scopes ------------------------------------------------------------------------------------------------


def test_two_tenants_sessions_of_one_name_are_two() -> None:
    assert (inside("acme", "s1"), inside("umbrella", "s1")) == ("acme/s1", "umbrella/s1")


def test_an_id_that_is_long_or_not_plain_becomes_its_digest() -> None:
    assert inside("acme", "a:b") == "acme/~afa482612f7597343c63bad69a7f8b02"
    assert inside("acme", "x" * 64) == "acme/" + "x" * 64
    assert len(inside("acme", "x" * 65)) == len("acme/~") + 32
    assert inside("acme", "") != inside("acme", " ")


def name_of(kind: Any, id: str) -> str:
    return the_counter(Limit(Scope(kind, id), Unit.TOKENS, Window.DAY, 1), 0.0).name


@pytest.mark.parametrize(
    "one_and_other",
    [
        (inside("a/b", "c"), inside("a", "b/c")),
        (inside("a", "~" + "0" * 32), inside("a", "\ud800")),
        (inside("a", "s\n"), inside("a", "s")),
        (inside("a", inside("b", "c")), inside(inside("a", "b"), "c")),
        ("tokens:day", "tokens"),
        ("x" * 65, "x" * 66),
    ],
)
def test_no_two_ids_share_a_counter(one_and_other: tuple[str, str]) -> None:
    one, other = one_and_other
    assert name_of("session", one) != name_of("session", other)


@given(st.text(), st.text())
def test_whatever_a_caller_writes_a_name_has_four_or_five_parts_and_a_bounded_length(tenant: str, session: str) -> None:
    for id in (session, inside(tenant, session)):
        kind, _, unit, window, begin = name_of("session", id).split(":")
        assert (kind, unit, window, begin) == ("session", "tokens", "day", "1970-01-01")
        assert len(name_of("session", id)) <= 160
        assert name_of("session", id).isascii()


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), unique=True, min_size=2, max_size=8))
def test_different_callers_have_different_counters(pairs: list[tuple[str, str]]) -> None:
    assert len({name_of("session", inside(*pair)) for pair in pairs}) == len(pairs)


# --- plans ----------------------------------------------------------------------------------------------------------


def test_of_two_limits_on_the_same_the_lower_one_counts_whichever_comes_first() -> None:
    high, low = (Limit(KEY, Unit.TOKENS, Window.DAY, amount) for amount in (500, 20))
    other = Limit(KEY, Unit.REQUESTS, Window.DAY, 7)
    for limits in ([high, other, low], [low, other, high]):
        assert [(c.unit, c.limit) for c in Plan(limits).at(0.0)] == [(Unit.TOKENS, 20), (Unit.REQUESTS, 7)]


@pytest.mark.parametrize("amount", [-1, MOST + 1])
def test_an_amount_that_no_counter_can_hold_is_refused(amount: int) -> None:
    with pytest.raises(InvalidInput, match=rf"the limit {amount} of key key_1 must be from 0 to 2\^52"):
        Plan([Limit(KEY, Unit.TOKENS, Window.DAY, amount)])
    assert [c.limit for m in (0, MOST) for c in Plan([Limit(KEY, Unit.TOKENS, Window.DAY, m)]).at(0.0)] == [0, MOST]


def test_a_plan_makes_its_counters_once_a_minute_also_when_time_goes_back() -> None:
    plan = Plan([Limit(KEY, Unit.TOKENS, Window.DAY, 5), Limit(KEY, Unit.REQUESTS, Window.MINUTE, 5)])
    first = plan.at(at(2026, 11, 23, 9, 5))
    assert plan.at(at(2026, 11, 23, 9, 5, 59)) is first
    later = plan.at(at(2026, 11, 23, 9, 6))
    assert [c.name[-4:] for c in later] == ["1-23", "0906"]
    assert plan.at(at(2026, 11, 23, 9, 5, 30)) == first


def test_nothing_is_reserved_of_what_a_request_does_not_use() -> None:
    plan = Plan([Limit(KEY, unit, Window.TOTAL, 9) for unit in Unit])
    needs = plan.needs(0.0, Amounts(requests=1, tokens=40, nano_usd=0, concurrent=1))
    assert [(counter.unit, amount) for counter, amount in needs] == [
        (Unit.REQUESTS, 1),
        (Unit.TOKENS, 40),
        (Unit.CONCURRENT, 1),
    ]
    assert Plan([]).needs(0.0, Amounts(1, 1, 1, 1)) == []


# --- how much to ask for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "recent", "asked"),
    [(10, 0, 80), (10, 3, 34), (1, 1, 9), (0, 5, 40), (MOST, 0, MOST), (MOST, MOST, MOST)],
)
def test_one_ask_is_for_eight_rounds(need: int, recent: int, asked: int) -> None:
    assert wanted(need, recent) == asked


@pytest.mark.parametrize(
    ("free", "need", "want", "is_wanted", "granted"),
    [
        (100, 10, 200, False, 32),  # the need and a quarter of the other 90
        (100, 10, 20, False, 20),
        (100, 10, 200, True, 10),  # others wait for it
        (10, 10, 80, False, 10),
        (9, 10, 80, False, None),
        (13, 10, 80, False, 10),  # a quarter of 3 is nothing
        (14, 10, 80, False, 11),
        (0, 0, 80, False, 0),
        (-5, 0, 80, False, 0),  # a limit that was lowered
        (-5, 1, 80, False, None),
        (40, 0, 80, False, 10),
        (40, 0, 80, True, 0),
        (40, 12, 8, False, 12),
    ],
)
def test_a_share_is_the_need_and_at_most_a_quarter_of_the_rest(
    free: int, need: int, want: int, is_wanted: bool, granted: int | None
) -> None:
    assert share(free, need, want, is_wanted=is_wanted) == granted


# --- slices ---------------------------------------------------------------------------------------------------------

NOW = at(2026, 11, 23, 9, 5)
TOKENS = the_counter(Limit(KEY, Unit.TOKENS, Window.DAY, 1000), NOW)
REQUESTS = the_counter(Limit(KEY, Unit.REQUESTS, Window.MINUTE, 10), NOW)
SLOTS = the_counter(Limit(KEY, Unit.CONCURRENT, Window.TOTAL, 4), NOW)
DOLLARS = the_counter(Limit(Scope("tenant", "acme"), Unit.NANO_USD, Window.TOTAL, 1000), NOW)


def holding(**amounts: int) -> Slices:
    """Slices to which so much was granted: `holding(tokens=5)`."""
    slices = Slices()
    counters = {c.unit.value: c for c in (REQUESTS, TOKENS, SLOTS, DOLLARS)}
    for unit, amount in amounts.items():
        slices.granted(Shortfall((), (counters[unit],)), [amount])
    return slices


def reserve(slices: Slices, *needs: tuple[Counter, int]) -> Reservation:
    found = slices.reserve(needs)
    assert isinstance(found, Reservation)
    return found


def test_the_first_request_is_short_of_all_and_asks_for_it() -> None:
    short = Slices().reserve([(REQUESTS, 1), (TOKENS, 40), (SLOTS, 1), (DOLLARS, 7)])
    assert isinstance(short, Shortfall)
    day, minute = at(2026, 11, 24), at(2026, 11, 23, 9, 6)
    assert short.asks == (
        Ask("key:key_1:requests:minute:2026-11-23T0905", 10, 1, 8, minute + KEPT_AFTER_S, True),
        Ask("key:key_1:tokens:day:2026-11-23", 1000, 40, 320, day + KEPT_AFTER_S, False),
        Ask("key:key_1:concurrent:total", 4, 1, 8, None, True),
        Ask("tenant:acme:nano_usd:total", 1000, 7, 56, None, False),
    )
    assert short.counters == (REQUESTS, TOKENS, SLOTS, DOLLARS)


def test_what_was_granted_is_reserved_all_or_nothing() -> None:
    slices = holding(tokens=50, requests=1)
    short = slices.reserve([(REQUESTS, 1), (TOKENS, 60)])
    assert isinstance(short, Shortfall)
    assert [(ask.counter, ask.need, ask.want) for ask in short.asks] == [(TOKENS.name, 10, 80)]
    assert (slices.unused(REQUESTS.name), slices.unused(TOKENS.name)) == (1, 50)
    slices.granted(short, [10])
    got = reserve(slices, (REQUESTS, 1), (TOKENS, 60))
    assert (got.number, got.parts) == (1, (Part(REQUESTS.name, 1), Part(TOKENS.name, 60)))
    assert (slices.unused(REQUESTS.name), slices.unused(TOKENS.name)) == (0, 0)


def test_a_request_without_limits_needs_no_slice_and_has_its_number() -> None:
    slices = Slices()
    one, two = reserve(slices), reserve(slices)
    assert (one.number, two.number, one.parts) == (1, 2, ())
    assert slices.settle(one, Amounts(1, 5, 5, 0)) == ()
    slices.release(two)
    assert slices.watermark == 1
    slices.confirmed([1])
    assert slices.watermark == 3


def test_settling_frees_what_was_not_used_once() -> None:
    slices = holding(tokens=100, concurrent=2)
    got = reserve(slices, (TOKENS, 60), (SLOTS, 1))
    assert slices.settle(got, Amounts(requests=1, tokens=25)) == (
        Spent(TOKENS.name, 60, 25),
        Spent(SLOTS.name, 1, 0),
    )
    assert (slices.unused(TOKENS.name), slices.unused(SLOTS.name)) == (75, 2)
    assert not got.is_open
    assert slices.settle(got, Amounts(requests=1, tokens=3)) == ()
    assert slices.unused(TOKENS.name) == 75


def test_what_cost_more_than_was_reserved_is_told_in_full_and_takes_nothing_from_others() -> None:
    slices = holding(tokens=100)
    got = reserve(slices, (TOKENS, 60))
    assert slices.settle(got, Amounts(tokens=90)) == (Spent(TOKENS.name, 60, 90),)
    assert slices.unused(TOKENS.name) == 40
    assert slices.holding() == [Part(TOKENS.name, 40)]


def test_a_cost_that_no_counter_can_hold_is_told_as_the_most_that_one_can() -> None:
    slices = holding(tokens=100)
    assert slices.settle(reserve(slices, (TOKENS, 60)), Amounts(tokens=10**30)) == (Spent(TOKENS.name, 60, MOST),)


def test_a_released_reservation_is_as_if_it_had_never_been() -> None:
    slices = holding(tokens=100)
    got = reserve(slices, (TOKENS, 60))
    slices.release(got)
    slices.release(got)
    assert (slices.unused(TOKENS.name), slices.watermark, got.is_open) == (100, 2, False)


def test_what_a_task_took_over_is_not_this_process_any_more() -> None:
    slices = holding(tokens=100)
    got = reserve(slices, (TOKENS, 60))
    slices.hand_over(got)
    slices.hand_over(got)
    assert (slices.unused(TOKENS.name), slices.holding(), slices.watermark) == (40, [Part(TOKENS.name, 40)], 2)
    assert slices.settle(got, Amounts(tokens=1)) == ()


def test_the_watermark_stays_below_what_redis_has_not_confirmed() -> None:
    slices = holding(tokens=100)
    assert slices.watermark == 1
    one, two, three = (reserve(slices, (TOKENS, 10)) for _ in range(3))
    slices.settle(two, Amounts(tokens=1))
    slices.confirmed([2])
    assert slices.watermark == 1
    slices.settle(one, Amounts(tokens=1))
    assert slices.watermark == 1  # settled here, not in Redis
    slices.confirmed([1])
    assert slices.watermark == 3
    slices.release(three)
    assert slices.watermark == 4


@pytest.mark.parametrize("mistake", ["release", "hand_over"])
def test_releasing_or_handing_over_what_is_settled_does_not_move_the_watermark(mistake: str) -> None:
    """Redis takes a number below the watermark as settled, so the settlement that is on its way would count nothing."""
    slices = holding(tokens=100)
    got = reserve(slices, (TOKENS, 60))
    slices.settle(got, Amounts(tokens=25))
    getattr(slices, mistake)(got)
    assert (slices.watermark, slices.unused(TOKENS.name)) == (1, 75)


def test_surplus_is_what_others_want_what_is_over_and_what_nobody_uses() -> None:
    slices = holding(tokens=100, requests=5, concurrent=2)
    reserve(slices, (TOKENS, 60))
    assert slices.surplus(NOW) == []
    assert slices.surplus(NOW, ["unknown", TOKENS.name]) == [Part(TOKENS.name, 40)]
    assert slices.surplus(at(2026, 11, 23, 9, 6)) == [Part(REQUESTS.name, 5)]
    slices.round(NOW)  # the tokens were used in this one
    for _ in range(IDLE_ROUNDS - 1):
        slices.round(NOW)
    assert slices.surplus(NOW) == [Part(REQUESTS.name, 5), Part(SLOTS.name, 2)]
    slices.round(NOW)
    assert slices.surplus(NOW) == [Part(TOKENS.name, 40), Part(REQUESTS.name, 5), Part(SLOTS.name, 2)]


def test_a_slice_that_is_granted_more_is_not_idle() -> None:
    slices = holding(tokens=100)
    for _ in range(IDLE_ROUNDS):
        slices.round(NOW)
    slices.granted(Shortfall((), (TOKENS,)), [1])
    assert slices.surplus(NOW) == []


def test_giving_back_takes_only_what_is_still_unused() -> None:
    slices = holding(tokens=100, requests=5)
    surplus = slices.surplus(NOW, [TOKENS.name, REQUESTS.name])
    reserve(slices, (TOKENS, 70), (REQUESTS, 5))
    given = slices.give_back([*surplus, Part("unknown", 3)])
    assert given == [Part(TOKENS.name, 30)]
    assert slices.give_back(surplus) == []
    assert slices.holding() == [Part(TOKENS.name, 70), Part(REQUESTS.name, 5)]


def test_a_slice_that_is_empty_is_forgotten_when_it_is_idle_or_over() -> None:
    slices = holding(tokens=100, requests=5)
    got = reserve(slices, (TOKENS, 100), (REQUESTS, 5))
    slices.round(at(2026, 11, 23, 9, 6))
    assert len(slices) == 2  # what is reserved is kept
    slices.hand_over(got)
    slices.round(at(2026, 11, 23, 9, 6))
    assert len(slices) == 1
    for _ in range(IDLE_ROUNDS):
        slices.round(at(2026, 11, 23, 9, 6))
    assert len(slices) == 0


def test_before_a_counter_runs_out_it_is_leased_at_the_pace_of_late() -> None:
    slices = holding(tokens=100)
    assert slices.refills(NOW) is None
    reserve(slices, (TOKENS, 60))
    slices.round(NOW)  # recent: 30
    refills = slices.refills(NOW)
    assert refills is not None
    assert refills.asks == (Ask(TOKENS.name, 1000, 0, 200, at(2026, 11, 24) + KEPT_AFTER_S, False),)
    slices.granted(refills, [20])
    assert slices.refills(NOW) is None  # 60 unused: two rounds
    assert slices.refills(at(2026, 11, 24)) is None
    slices.round(NOW)
    assert slices.refills(NOW) is None  # nobody used it in the last round


def test_a_counter_that_is_over_is_not_leased_any_more() -> None:
    slices = holding(tokens=100)
    reserve(slices, (TOKENS, 100))
    slices.round(NOW)
    assert slices.refills(at(2026, 11, 23, 23, 59, 59)) is not None
    assert slices.refills(at(2026, 11, 24)) is None


def test_a_counter_that_rests_long_enough_is_asked_for_as_at_first() -> None:
    slices = holding(tokens=8)
    reserve(slices, (TOKENS, 8))
    for _ in range(5):  # recent: 4, 2, 1, 0
        slices.round(NOW)
    short = slices.reserve([(TOKENS, 10)])
    assert isinstance(short, Shortfall)
    assert short.asks[0].want == 80


def test_a_lowered_limit_is_asked_for_anew_and_what_was_set_aside_under_the_higher_one_goes_back() -> None:
    slices = holding(tokens=100)
    lower = TOKENS._replace(limit=150)
    short = slices.reserve([(lower, 60)])
    assert isinstance(short, Shortfall)
    assert short.asks[0][:3] == (TOKENS.name, 150, 60)
    assert slices.is_lowered(TOKENS.name)
    assert slices.refills(NOW) is None
    assert slices.surplus(NOW) == [Part(TOKENS.name, 100)]


def test_refills_ask_under_the_limit_of_now() -> None:
    """A limit that was raised counts from the next request on, not only when the slice has run out."""
    slices = holding(tokens=100)
    reserve(slices, (TOKENS._replace(limit=5000), 60))
    slices.round(NOW)
    refills = slices.refills(NOW)
    assert refills is not None
    assert refills.asks[0].limit == 5000


def test_to_a_redis_that_has_forgotten_it_a_process_states_all_that_it_holds() -> None:
    slices = holding(tokens=100, concurrent=3)
    one = reserve(slices, (TOKENS, 60), (SLOTS, 1))
    reserve(slices, (SLOTS, 1))
    assert slices.holding() == [Part(TOKENS.name, 100), Part(SLOTS.name, 3)]
    spent = slices.settle(one, Amounts(tokens=25))  # Redis has not heard of it
    assert slices.holding() == [Part(TOKENS.name, 75), Part(SLOTS.name, 3)]
    assert slices.holding(spent) == [Part(TOKENS.name, 100), Part(SLOTS.name, 3)]
    dear = slices.settle(reserve(slices, (TOKENS, 10)), Amounts(tokens=30))
    assert slices.holding([*spent, *dear]) == [Part(TOKENS.name, 100), Part(SLOTS.name, 3)]
    assert Slices().holding([Spent(DOLLARS.name, 5, 9)]) == [Part(DOLLARS.name, 5)]


# --- whatever the order ---------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grant", "reserve", "settle", "release", "hand over", "give back", "round", "confirm"]),
        st.integers(0, 12),
        st.integers(0, 12),
    ),
    max_size=60,
)


@settings(max_examples=examples(100), deadline=None)
@given(STEPS)
def test_whatever_the_order_every_amount_is_in_one_place(steps: list[tuple[str, int, int]]) -> None:
    """granted = unused + reserved + taken by settlements + handed over + given back, of each counter; nothing is ever
    below zero; the watermark never rises above what is not confirmed, and never falls."""
    slices = Slices()
    both = (TOKENS, DOLLARS)
    granted: Tally[str] = Tally()
    gone: Tally[str] = Tally()
    open_: list[Reservation] = []
    unconfirmed: set[int] = set()
    watermark = 1
    for step, one, two in steps:
        amounts = dict(zip((c.name for c in both), (one, two), strict=True))
        if step == "grant":
            slices.granted(Shortfall((), both), [one, two])
            granted.update(amounts)
        elif step == "reserve":
            free = {c.name: slices.unused(c.name) for c in both}
            got = slices.reserve([(TOKENS, one), (DOLLARS, two)])
            fits = len(slices) == 2 and all(free[name] >= amount for name, amount in amounts.items())
            assert isinstance(got, Reservation if fits else Shortfall)
            if isinstance(got, Reservation):
                open_.append(got)
                unconfirmed.add(got.number)
            else:
                assert {c.name: slices.unused(c.name) for c in both} == free
                assert {ask.counter: ask.need for ask in got.asks} == {
                    name: amounts[name] - free[name] for name in amounts if amounts[name] > free[name]
                }
        elif step == "settle" and open_:
            for name, reserved, actual in slices.settle(open_.pop(one % len(open_)), Amounts(0, one, two, 0)):
                gone[name] += min(reserved, actual)
        elif step == "release" and open_:
            got = open_.pop(one % len(open_))
            slices.release(got)
            unconfirmed.discard(got.number)
        elif step == "hand over" and open_:
            got = open_.pop(one % len(open_))
            slices.hand_over(got)
            gone.update(dict(got.parts))
            unconfirmed.discard(got.number)
        elif step == "give back":
            gone.update(dict(slices.give_back([Part(name, amount) for name, amount in amounts.items()])))
        elif step == "round":
            slices.round(NOW)
        elif step == "confirm":
            settled = sorted(unconfirmed - {each.number for each in open_})[:one]
            slices.confirmed(settled)
            unconfirmed.difference_update(settled)
        reserved_now: Tally[str] = Tally()
        for each in open_:
            reserved_now.update(dict(each.parts))
        held = dict(slices.holding())
        for counter in both:
            name = counter.name
            assert slices.unused(name) >= 0
            assert slices.unused(name) + reserved_now[name] == held.get(name, 0)
            assert granted[name] == held.get(name, 0) + gone[name]
        assert slices.watermark >= watermark
        watermark = slices.watermark
        assert all(number >= watermark for number in unconfirmed)


@given(st.integers(0, 200), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 500)), max_size=40), st.data())
def test_leases_by_the_share_rule_never_give_out_more_than_there_is(
    limit: int, asks: list[tuple[int, int]], data: st.DataObject
) -> None:
    free = limit
    for need, want in asks:
        is_wanted = data.draw(st.booleans())
        granted = share(free, need, want, is_wanted=is_wanted)
        if granted is None:
            assert need > free
            continue
        assert need <= granted <= max(need, want)
        assert granted - need <= max(0, free - need) // 4
        assert not is_wanted or granted == need
        free -= granted
        assert free >= 0


# --- scopes -----------------------------------------------------------------------------------------------------------


def test_an_agents_run_counts_for_all_above_it_and_another_for_itself() -> None:
    of_run = {"key": "key_1", "tenant": "acme", "session": "s", "run": "run_x.1.2"}
    every = ("key:key_1", "tenant:acme", "session:acme/s")
    assert scope_names(**of_run) == (*every, "run:acme/run_x.1.2")
    tree = ("run:acme/run_x", "run:acme/run_x.1", "run:acme/run_x.1.2")
    assert scope_names(**of_run, agent="writer") == (*every, *tree, "agent:writer")
    assert scope_names(key="key_1", tenant="acme", agent="writer") == ("key:key_1", "tenant:acme", "agent:writer")
