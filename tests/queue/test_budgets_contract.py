"""What `budgets.BudgetStore` promises, held against both implementations."""

import pytest
from budget_builders import (
    DAY,
    DOLLARS,
    REQUESTS,
    SCOPES,
    SESSION,
    SLOTS,
    START,
    TOKENS,
    TTL_S,
    World,
    ask,
    known,
    settlement,
)
from queue_builders import a_record

from stoker.policy.budgets import MOST, Limit, Part, Scope, Unit, Window, counters, inside
from stoker.queue import BudgetStore, CounterState, Gone, InFlightPart, Leased, NotBegun, NotOpen, Renewed, Short
from stoker.queue.budgets import Opening, Standing
from stoker.testing import ManualClock

MONTH_S = 30 * 86_400.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


async def renew(world: World, owner: str, watermark: int = 1, *give_back: tuple[str, int]) -> Renewed:
    parts = [Part(*each) for each in give_back]
    return await world.store.renew(owner, ttl_s=TTL_S, watermark=watermark, give_back=parts)


# --- a life ---------------------------------------------------------------------------------------------------------


async def test_an_owner_that_entered_lives_for_its_time_and_no_longer(world: World, clock: ManualClock) -> None:
    await world.open("gw_a")
    assert await world.store.dead_owners() == []
    await clock.advance(TTL_S - 0.25)
    assert await world.store.dead_owners() == []
    await clock.advance(0.25)
    assert await world.store.dead_owners() == ["gw_a"]


async def test_a_late_renewal_counts_as_long_as_nobody_took_the_owner_over(world: World, clock: ManualClock) -> None:
    await world.open("gw_a")
    await clock.advance(10 * TTL_S)
    assert await renew(world, "gw_a") == Renewed("alive", ())
    await clock.advance(TTL_S - 0.25)
    assert await world.store.dead_owners() == []


async def test_those_that_died_first_are_named_first(world: World, clock: ManualClock) -> None:
    await world.open()
    for owner, ttl_s in (("gw_c", 3), ("gw_b", 1), ("gw_a", 2)):
        await world.store.enter(owner, ttl_s=ttl_s)
    await clock.advance(5)
    assert await world.store.dead_owners() == ["gw_b", "gw_a", "gw_c"]


async def test_an_owner_that_never_entered_is_unknown(world: World) -> None:
    await world.open()
    assert await renew(world, "gw_x") == Renewed("unknown", ())
    assert await world.store.lease("gw_x", [ask(need=1)]) == Gone("unknown")
    assert await world.store.settle("gw_x", [settlement(1, (TOKENS, 5, 5), usage="req_1")]) == Gone("unknown")
    assert await world.store.take_over("gw_x", "gw_a", ttl_s=TTL_S, is_proved_dead=True) is None
    assert await world.store.forfeit("gw_x", "gw_a", None) is False
    assert await world.store.leave("gw_x") is True
    assert await world.sums() == (0, 0, 0)
    assert await world.usage_ids() == []


async def test_entering_twice_only_renews(world: World, clock: ManualClock) -> None:
    await world.open("gw_a")
    await world.lease("gw_a", ask(need=10))
    await clock.advance(40)
    assert await world.store.enter("gw_a", ttl_s=TTL_S, watermark=9, holding=[Part(TOKENS, 50)]) is None
    assert await world.sums() == (0, 10, 0)
    await clock.advance(40)
    assert await world.store.dead_owners() == []
    # The watermark of the second call was not taken over either: 3 is not settled.
    assert await world.store.settle("gw_a", [settlement(3, (TOKENS, 5, 5))]) == [True]


async def test_leaving_frees_all_slices_and_ends_the_name(world: World) -> None:
    await world.open("gw_a", "gw_b")
    await world.lease("gw_a", ask(need=60), ask(DOLLARS, need=5))
    assert await world.store.leave("gw_a") is True
    assert await world.sums() == (0, 0, 0)
    assert await world.sums(DOLLARS) == (0, 0, 0)
    assert await world.store.leave("gw_a") is True
    assert await renew(world, "gw_a", 1, (TOKENS, 60)) == Renewed("gone", ())
    assert await world.store.enter("gw_a", ttl_s=TTL_S) == Gone("gone")
    assert await world.store.lease("gw_a", [ask(need=1)]) == Gone("gone")
    assert await world.store.take_over("gw_a", "gw_b", ttl_s=TTL_S, is_proved_dead=True) is None
    assert await world.store.dead_owners() == []
    assert await world.lease("gw_b", ask(need=100)) == (100,)


async def test_what_is_settled_after_leaving_counts_in_full(world: World) -> None:
    await world.open("gw_a")
    await world.lease("gw_a", ask(need=60))
    await world.store.leave("gw_a")
    late = [settlement(1, (TOKENS, 10, 7), usage="req_1")]
    assert await world.store.settle("gw_a", late) == [True]
    assert await world.store.settle("gw_a", late) == [False]
    assert await world.sums() == (7, 0, 0)
    assert await world.usage_ids() == ["req_1"]


# --- lease ----------------------------------------------------------------------------------------------------------


async def test_a_lease_sets_aside_the_need_and_a_quarter_of_the_rest(world: World) -> None:
    await world.open("gw_a", "gw_b")
    assert await world.store.lease("gw_a", [ask(need=20, want=200), ask(DOLLARS, need=3, want=4)]) == Leased((40, 4))
    assert await world.store.lease("gw_b", [ask(need=20, want=200)]) == Leased((30,))
    assert await world.store.lease("gw_b", [ask(need=0, want=200)]) == Leased((7,))
    assert await world.store.lease("gw_b", [ask(need=0, want=2)]) == Leased((2,))
    assert await world.store.state([TOKENS, DOLLARS, "key:other:tokens:total"]) == [known(0, 79), known(0, 4), None]
    assert await world.store.state([]) == []


async def test_how_far_budgets_are_used_up_is_told_by_their_scopes(world: World) -> None:
    scope = ":".join(TOKENS.split(":")[:2])
    await world.open("gw_a")
    assert await world.store.standings([scope, "team:nobody/here"]) == []
    await world.lease("gw_a", ask(need=20), ask(SLOTS, need=1, is_new=True))
    await world.store.settle("gw_a", [settlement(1, (TOKENS, 20, 7))])
    assert await world.store.standings([scope, "team:nobody/here"]) == [Standing(TOKENS, 7, 100)]
    assert await world.store.standings([]) == []


async def test_a_lease_gives_every_need_or_nothing(world: World) -> None:
    await world.open("gw_a")
    short = await world.store.lease(
        "gw_a", [ask(need=60, want=200), ask(DOLLARS, need=101), ask(SLOTS, 1, is_new=True)]
    )
    assert short == Short(DOLLARS, 100, False)
    assert [(await world.sums(each))[1] for each in (TOKENS, DOLLARS, SLOTS)] == [0, 0, 0]
    assert await world.lease("gw_a", ask(need=60), ask(DOLLARS, need=100)) == (60, 100)


async def test_a_budget_is_given_out_to_its_last_unit_and_not_beyond(world: World) -> None:
    await world.open("gw_a", "gw_b", spent=40)
    assert await world.lease("gw_a", ask(need=30)) == (30,)
    assert await world.store.lease("gw_b", [ask(need=31)]) == Short(TOKENS, 30, True)
    assert await world.lease("gw_b", ask(need=30)) == (30,)
    assert await world.store.lease("gw_b", [ask(need=1)]) == Short(TOKENS, 0, True)
    assert await world.store.lease("gw_b", [ask(need=0, want=50)]) == Leased((0,))
    assert await world.sums() == (40, 60, 0)


async def test_what_fits_later_is_what_others_could_give_back_and_not_what_the_asker_has_itself(world: World) -> None:
    await world.open("gw_a", "gw_b", spent=10)
    await world.lease("gw_a", ask(need=30))
    await world.lease("gw_b", ask(need=40))
    assert await world.store.lease("gw_b", [ask(need=50)]) == Short(TOKENS, 20, True)
    assert await world.store.lease("gw_b", [ask(need=51)]) == Short(TOKENS, 20, False)


async def test_one_counter_that_will_never_do_decides(world: World) -> None:
    await world.open("gw_a", "gw_b")
    await world.lease("gw_a", ask(need=90))
    later, never = ask(need=20), ask(DOLLARS, need=500)
    assert await world.store.lease("gw_b", [later]) == Short(TOKENS, 10, True)
    assert await world.store.lease("gw_b", [later, never]) == Short(DOLLARS, 100, False)
    assert await world.store.lease("gw_b", [never, later]) == Short(DOLLARS, 100, False)
    two = [ask(DOLLARS, need=101), ask(need=101)]
    assert await world.store.lease("gw_b", two) == Short(DOLLARS, 100, False)  # of equals the first


async def test_a_limit_counts_as_it_is_in_the_ask(world: World) -> None:
    await world.open("gw_a")
    await world.lease("gw_a", ask(need=60, limit=100))
    assert await world.store.lease("gw_a", [ask(need=1, limit=50)]) == Short(TOKENS, -10, False)
    assert await world.lease("gw_a", ask(need=0, want=9, limit=50)) == (0,)
    assert await world.store.state([TOKENS]) == [known(0, 60, limit=50)]
    assert await world.lease("gw_a", ask(need=40, limit=100)) == (40,)
    assert await world.store.lease("gw_a", [ask(DOLLARS, need=1, limit=0)]) == Short(DOLLARS, 0, False)


async def test_what_somebody_waits_for_is_asked_back_and_then_fits(world: World, clock: ManualClock) -> None:
    await world.open("gw_a", "gw_b", "gw_c")
    await world.lease("gw_a", ask(need=70), ask(DOLLARS, need=5))
    await world.lease("gw_c", ask(DOLLARS, need=5))
    assert await world.store.lease("gw_b", [ask(need=50)]) == Short(TOKENS, 30, True)
    assert await renew(world, "gw_c") == Renewed("alive", ())  # it holds none
    assert await renew(world, "gw_a") == Renewed("alive", (TOKENS,))
    assert await renew(world, "gw_a", 1, (TOKENS, 65)) == Renewed("alive", (TOKENS,))
    assert await world.sums() == (0, 5, 0)
    # Nothing beyond the need as long as somebody may be waiting, also not for the one who waited.
    assert await world.lease("gw_c", ask(need=1, want=90)) == (1,)
    assert await world.lease("gw_b", ask(need=50, want=90)) == (50,)
    await clock.advance(4.75)
    assert await world.lease("gw_c", ask(need=0, want=90)) == (0,)
    await clock.advance(0.25)
    assert await world.lease("gw_c", ask(need=0, want=90)) == (11,)
    assert await renew(world, "gw_a") == Renewed("alive", ())


async def test_asking_again_keeps_a_counter_wanted(world: World, clock: ManualClock) -> None:
    await world.open("gw_a", "gw_b")
    await world.lease("gw_a", ask(need=70), ask(DOLLARS, need=70))
    await world.store.lease("gw_b", [ask(DOLLARS, need=50)])
    await clock.advance(3)
    await world.store.lease("gw_b", [ask(need=50)])
    assert await renew(world, "gw_a") == Renewed("alive", (DOLLARS, TOKENS))  # what is forgotten first
    await clock.advance(1)
    await world.store.lease("gw_b", [ask(DOLLARS, need=50)])
    await clock.advance(3)
    assert await renew(world, "gw_a") == Renewed("alive", (TOKENS, DOLLARS))
    await clock.advance(1)
    assert await renew(world, "gw_a") == Renewed("alive", (DOLLARS,))
    await clock.advance(1)
    assert await renew(world, "gw_a") == Renewed("alive", ())


async def test_an_owner_is_told_of_all_that_others_wait_for(world: World) -> None:
    names = [f"key:key_{n}:tokens:total" for n in range(5)]
    await world.open("gw_a", "gw_b", limits=names)
    await world.lease("gw_a", *(ask(name, need=70) for name in names))
    for name in names:
        await world.store.lease("gw_b", [ask(name, need=50)])
    assert await renew(world, "gw_a") == Renewed("alive", tuple(names))


async def test_what_could_never_fit_is_not_asked_back(world: World) -> None:
    await world.open("gw_a", "gw_b")
    await world.lease("gw_a", ask(need=70))
    assert await world.store.lease("gw_b", [ask(need=101)]) == Short(TOKENS, 30, False)
    assert await renew(world, "gw_a") == Renewed("alive", ())


async def test_no_more_is_given_back_than_an_owner_has(world: World) -> None:
    await world.open("gw_a", "gw_b")
    await world.lease("gw_a", ask(need=30))
    await world.lease("gw_b", ask(need=30))
    await renew(world, "gw_a", 1, (TOKENS, 31), (DOLLARS, 1), ("key:other:tokens:total", 4))
    assert await world.sums() == (0, 30, 0)
    assert await world.sums(DOLLARS) == (0, 0, 0)


# --- counters that are not known ------------------------------------------------------------------------------------


async def test_a_counter_that_is_not_known_is_begun_by_the_first_who_does(world: World) -> None:
    await world.open("gw_a", limits=[TOKENS])
    other = "key:key_2:tokens:total"
    asks = [ask(other, need=1), ask(need=1), ask(DOLLARS, need=1), ask(SLOTS, need=1, is_new=True)]
    assert await world.store.lease("gw_a", asks) == NotBegun((other, DOLLARS))
    assert await world.sums() == (0, 0, 0)
    assert await world.store.begin(DOLLARS, 70, expires_at=None) == 70
    assert await world.store.begin(DOLLARS, 0, expires_at=None) == 70
    assert await world.store.lease("gw_a", asks) == NotBegun((other,))
    assert await world.store.begin(other, 0, expires_at=None) == 0
    assert await world.store.lease("gw_a", asks) == Leased((1, 1, 1, 1))
    assert await world.store.begin(DOLLARS, 5, expires_at=None) == 70
    assert await world.store.state([DOLLARS]) == [known(70, 1)]


async def test_a_counter_begun_by_nobody_yet_shows_no_limit(world: World) -> None:
    await world.store.begin(TOKENS, 3, expires_at=None)
    assert await world.store.state([TOKENS]) == [CounterState(3, 0, 0, None)]


async def test_a_counter_is_kept_until_after_its_window(world: World, clock: ManualClock) -> None:
    midnight = START + 43_200
    await world.open("gw_a", limits=[TOKENS])
    await world.store.begin(DAY, 5, expires_at=midnight + 600)
    assert world.forgotten_at(DAY, clock.now()) == midnight + 600
    await world.lease("gw_a", ask(DAY, need=1, expires_at=midnight + 60))
    assert world.forgotten_at(DAY, clock.now()) == midnight + 600  # never sooner
    await world.lease("gw_a", ask(DAY, need=1, expires_at=midnight + 900))
    assert world.forgotten_at(DAY, clock.now()) == midnight + 900
    await world.lease("gw_a", ask(need=1, expires_at=midnight))
    assert world.forgotten_at(TOKENS, clock.now()) is None


async def test_a_counter_that_is_begun_late_is_kept_a_minute_all_the_same(world: World, clock: ManualClock) -> None:
    await world.open("gw_a")
    minute = "key:key_1:tokens:minute:2100-03-01T1159"
    await world.store.begin(DAY, 5, expires_at=START - 100)
    assert world.forgotten_at(DAY, clock.now()) == START + 60
    await world.lease("gw_a", ask(minute, need=1, expires_at=START - 1, is_new=True))
    assert world.forgotten_at(minute, clock.now()) == START + 60


async def test_what_a_session_or_run_spends_in_total_is_kept_a_month_after_its_last_use(
    world: World, clock: ManualClock
) -> None:
    """Anybody can name a session, so none may stay for ever, whether or not it was granted anything."""
    run_slots = "run:acme/r1:concurrent:total"
    await world.open("gw_a", limits=[TOKENS, SESSION])
    assert world.forgotten_at(SESSION, clock.now()) == START + MONTH_S
    await clock.advance(100)
    refused = [ask(SESSION, need=500), ask(run_slots, need=1, is_new=True)]
    assert await world.store.lease("gw_a", refused) == Short(SESSION, 100, False)
    assert world.forgotten_at(run_slots, clock.now()) == START + 100 + MONTH_S
    await world.lease("gw_a", ask(SESSION, need=5))
    assert world.forgotten_at(SESSION, clock.now()) == START + 100 + MONTH_S
    await clock.advance(100)
    await world.store.settle("gw_a", [settlement(1, (SESSION, 5, 5))])
    assert world.forgotten_at(SESSION, clock.now()) == START + 200 + MONTH_S
    assert world.forgotten_at(TOKENS, clock.now()) is None


async def test_what_is_settled_after_a_counter_was_forgotten_brings_nothing_back(
    world: World, clock: ManualClock
) -> None:
    await world.open("gw_a")
    await world.lease("gw_a", ask(DAY, need=9, expires_at=START + 60, is_new=True), ask(need=9))
    await clock.advance(61)
    if world.raw is not None:  # Redis forgets by its own clock
        world.raw.delete(f"stoker:budget:{DAY}")
    assert await world.store.settle("gw_a", [settlement(1, (DAY, 4, 2), (TOKENS, 4, 2), usage="req_1")]) == [True]
    await renew(world, "gw_a", 2, (DAY, 7), (TOKENS, 7))
    assert await world.store.state([DAY, TOKENS]) == [None, known(2, 0)]
    assert await world.usage_ids() == ["req_1"]


# --- beginning from the ledger, while others settle -----------------------------------------------------------------


async def opened(store: BudgetStore, counter: str = TOKENS) -> Opening:
    opening = await store.open(counter)
    assert opening is not None
    return opening


async def settle_late(world: World, number: int) -> None:
    """10 tokens that were reserved nowhere."""
    item = settlement(number, usage=f"req_{number}", scopes=SCOPES)
    assert await world.store.settle("gw_a", [item]) == [True]


async def test_what_is_settled_while_the_ledger_is_asked_is_added_to_what_it_says(world: World) -> None:
    await world.open("gw_a", limits=[])
    await settle_late(world, 1)  # the ledger has it
    opening = await opened(world.store)
    assert await world.store.state([TOKENS]) == [None]
    assert await world.store.lease("gw_a", [ask(need=1)]) == NotBegun((TOKENS,))
    await settle_late(world, 2)
    assert await world.store.begin(TOKENS, 10, expires_at=None, since=opening) == 20
    await settle_late(world, 3)
    assert await world.sums() == (30, 0, 0)
    assert await world.store.open(TOKENS) is None
    assert await world.store.begin(TOKENS, 10, expires_at=None, since=opening) == 30


async def test_two_that_begin_a_counter_each_add_what_was_settled_since_they_opened_it(world: World) -> None:
    """Whoever is first, nothing is lost; and who opened it later has a sum with more in it."""
    for first, sum_, spent in (("a", 0, 20), ("b", 10, 20)):
        world.lose_everything()
        await world.open("gw_a", limits=[])
        openings = {"a": await opened(world.store)}
        await settle_late(world, 1)
        openings["b"] = await opened(world.store)
        await settle_late(world, 2)
        assert await world.store.begin(TOKENS, sum_, expires_at=None, since=openings[first]) == spent


async def test_what_is_settled_of_a_counter_that_is_being_begun_by_an_entry_is_not_lost_either(world: World) -> None:
    await world.open("gw_a", limits=[])
    opening = await opened(world.store)
    await world.store.settle("gw_a", [settlement(1, (TOKENS, 10, 4), usage="req_1", scopes=SCOPES)])
    assert await world.store.begin(TOKENS, 0, expires_at=None, since=opening) == 4


async def test_an_opening_that_redis_lost_begins_nothing(world: World, clock: ManualClock) -> None:
    await world.open("gw_a", limits=[])
    lost = await opened(world.store)
    world.lose_everything()
    assert await world.store.begin(TOKENS, 10, expires_at=None, since=lost) is None
    await clock.advance(0.25)
    opening = await opened(world.store)
    assert await world.store.begin(TOKENS, 10, expires_at=None, since=lost) is None
    assert await world.store.state([TOKENS]) == [None]
    assert await world.store.begin(TOKENS, 10, expires_at=None, since=opening) == 10


async def test_a_counter_that_was_opened_is_kept_as_any_other_once_it_is_begun(world: World) -> None:
    midnight = START + 43_200
    for counter, expires_at, kept_until in (
        (TOKENS, None, None),
        (DAY, midnight, midnight),
        (SESSION, None, START + MONTH_S),
    ):
        opening = await opened(world.store, counter)
        await world.store.begin(counter, 1, expires_at=expires_at, since=opening)
        assert world.forgotten_at(counter, START) == kept_until


# --- books that are not open ----------------------------------------------------------------------------------------


async def test_nothing_is_leased_before_the_books_are_open(world: World, clock: ManualClock) -> None:
    await world.store.begin(TOKENS, 0, expires_at=None)
    await world.store.enter("gw_a", ttl_s=TTL_S)
    assert await world.store.lease("gw_a", [ask(need=1)]) == NotOpen(None)
    await world.store.establish(wait_s=30)
    assert await world.store.lease("gw_a", [ask(need=1)]) == NotOpen(30.0)
    await clock.advance(29.75)
    await world.store.establish(wait_s=0)  # they are established: nothing changes
    await world.store.establish(wait_s=500)
    assert await world.store.lease("gw_a", [ask(need=1)]) == NotOpen(0.25)
    assert await world.sums() == (0, 0, 0)
    await clock.advance(0.25)
    assert await world.lease("gw_a", ask(need=1)) == (1,)


# --- settle ---------------------------------------------------------------------------------------------------------


async def test_settling_spends_the_truth_and_leaves_the_rest_with_the_owner(world: World) -> None:
    await world.open("gw_a", limits=[TOKENS, DOLLARS, REQUESTS])
    await world.lease("gw_a", ask(need=60), ask(DOLLARS, 60), ask(REQUESTS, 3), ask(SLOTS, 2, is_new=True))
    item = settlement(1, (TOKENS, 40, 25), (DOLLARS, 9, 9), (REQUESTS, 1, 1), (SLOTS, 1, 0), usage="req_1")
    assert await world.store.settle("gw_a", [item]) == [True]
    counters = (TOKENS, DOLLARS, REQUESTS, SLOTS)
    assert [await world.sums(each) for each in counters] == [(25, 35, 0), (9, 51, 0), (1, 2, 0), (0, 2, 0)]
    assert await world.usage_ids() == ["req_1"]


async def test_each_reservation_is_settled_once_in_one_call_and_in_several(world: World) -> None:
    await world.open("gw_a", "gw_b")
    await world.lease("gw_a", ask(need=40))
    await world.lease("gw_b", ask(need=40))
    one, two = (settlement(n, (TOKENS, 10, 3 + n), usage=f"req_{n}") for n in (1, 2))
    assert await world.store.settle("gw_a", [one, two, one]) == [True, True, False]
    assert await world.store.settle("gw_a", [two, settlement(3, (TOKENS, 10, 0)), one]) == [False, True, False]
    assert await world.store.settle("gw_b", [one]) == [True]  # another owner's number 1
    assert await world.store.settle("gw_b", []) == []
    assert await world.sums() == (13, 67, 0)
    assert await world.usage_ids() == ["req_1", "req_2", "req_1"]


async def test_what_costs_more_than_was_reserved_counts_in_full(world: World) -> None:
    await world.open("gw_a", "gw_b")
    await world.lease("gw_a", ask(need=40))
    await world.store.settle("gw_a", [settlement(1, (TOKENS, 40, 130))])
    assert await world.sums() == (130, 0, 0)
    assert await world.store.lease("gw_b", [ask(need=1)]) == Short(TOKENS, -30, False)


async def test_below_the_watermark_all_is_settled(world: World) -> None:
    await world.open("gw_a")
    await world.lease("gw_a", ask(need=40))
    items = [settlement(n, (TOKENS, 5, 1)) for n in (1, 2, 3, 4)]
    await world.store.settle("gw_a", items[:2])
    await renew(world, "gw_a", 4)
    await renew(world, "gw_a", 2)  # it never goes back
    assert await world.store.settle("gw_a", items) == [False, False, False, True]
    assert await world.sums() == (3, 37, 0)


async def test_what_a_reservation_was_worth_is_told_without_a_record_when_it_never_ran(world: World) -> None:
    await world.open("gw_a")
    await world.lease("gw_a", ask(need=40))
    assert await world.store.settle("gw_a", [settlement(1, (TOKENS, 10, 0))]) == [True]
    assert await world.store.settle("gw_a", [settlement(2, usage="req_2")]) == [True]
    assert await world.sums() == (0, 40, 0)
    assert await world.usage_ids() == ["req_2"]


# --- what was not reserved ------------------------------------------------------------------------------------------

MINUTE = "key:key_1:tokens:minute:2100-03-01T1200"
OTHER = "key:key_2:tokens:total"
ALL = (TOKENS, DOLLARS, REQUESTS, SLOTS, DAY, MINUTE, SESSION, OTHER)


async def spent(world: World, *counters: str) -> list[int]:
    return [(await world.sums(counter))[0] for counter in counters]


async def test_what_a_request_came_to_is_spent_of_every_counter_of_its_scopes_that_redis_has(world: World) -> None:
    await world.open("gw_a", limits=ALL)
    await world.lease("gw_a", ask(need=20))
    late = settlement(1, (TOKENS, 20, 10), usage="req_1", scopes=SCOPES)
    assert await world.store.settle("gw_a", [late]) == [True]
    assert await world.sums() == (10, 10, 0)
    assert await spent(world, *ALL) == [10, 10, 1, 0, 10, 10, 10, 0]
    assert await world.store.settle("gw_a", [late]) == [False]
    assert await spent(world, *ALL) == [10, 10, 1, 0, 10, 10, 10, 0]


async def test_several_in_one_call_are_spent_each(world: World) -> None:
    await world.open("gw_a", limits=[TOKENS, OTHER])
    items = [settlement(n, usage=f"req_{n}", scopes=SCOPES) for n in (1, 2, 1)]
    others = [settlement(3, usage="req_3", scopes=["key:key_2", "tenant:acme"])]
    assert await world.store.settle("gw_a", items + others) == [True, True, False, True]
    assert await spent(world, TOKENS, OTHER) == [20, 10]


async def test_what_has_no_record_or_names_no_scopes_is_spent_nowhere_else(world: World) -> None:
    await world.open("gw_a", limits=ALL)
    items = [settlement(1, scopes=SCOPES), settlement(2, usage="req_2")]
    assert await world.store.settle("gw_a", items) == [True, True]
    assert await spent(world, *ALL) == [0] * len(ALL)


async def test_a_request_counts_in_the_window_in_which_it_was_reserved_and_in_no_other(world: World) -> None:
    later = "key:key_1:tokens:day:2100-03-02"
    await world.open("gw_a", limits=[DAY])
    await world.lease("gw_a", ask(DAY, need=20))
    await world.store.begin(later, 0, expires_at=None)
    await world.store.settle("gw_a", [settlement(1, (DAY, 20, 10), usage="req_1", scopes=SCOPES)])
    assert await spent(world, DAY, later) == [10, 0]


@pytest.mark.parametrize("first", [DAY, "key:key_1:tokens:day:2100-03-02"])
async def test_what_was_reserved_in_no_window_counts_in_the_newest(world: World, first: str) -> None:
    later = "key:key_1:tokens:day:2100-03-02"
    await world.open("gw_a", limits=[first])
    for counter in (DAY, later):
        await world.store.begin(counter, 0, expires_at=None)
    await settle_late(world, 1)
    assert await spent(world, DAY, later) == [0, 10]


@pytest.mark.parametrize("end", ["left", "journal", "lost"])
async def test_what_is_settled_for_an_owner_that_is_gone_is_spent_all_the_same(world: World, end: str) -> None:
    await world.open("gw_a", limits=[TOKENS, DOLLARS])
    await world.lease("gw_a", ask(need=20))
    if end == "left":
        await world.store.leave("gw_a")
    else:
        await world.store.take_over("gw_a", "gw_b", ttl_s=10, is_proved_dead=True)
        open_ = [InFlightPart(1, [Part(TOKENS, 20)])] if end == "journal" else None
        await world.store.forfeit("gw_a", "gw_b", open_)
    await world.store.settle("gw_a", [settlement(1, (TOKENS, 20, 10), usage="req_1", scopes=SCOPES)])
    assert await spent(world, TOKENS, DOLLARS) == [20 if end == "lost" else 10, 10]


async def test_owners_give_back_what_was_spent_of_their_slices_meanwhile(world: World) -> None:
    """Its limit was taken away for a time: then nobody asks whether the spent and the leased fit it."""
    await world.open("gw_a", "gw_b")
    await world.lease("gw_b", ask(need=90, limit=100))
    await settle_late(world, 1)
    assert await renew(world, "gw_b") == Renewed("alive", ())  # 10 + 90: it fits
    await settle_late(world, 2)
    assert await world.sums() == (20, 90, 0)
    assert await renew(world, "gw_b") == Renewed("alive", (TOKENS,))
    await renew(world, "gw_b", 1, (TOKENS, 90))
    assert await world.store.lease("gw_b", [ask(need=81, limit=100)]) == Short(TOKENS, 80, False)


async def test_a_record_without_a_settlement_is_spent_of_its_scopes_once(world: World) -> None:
    await world.open("gw_a", limits=[TOKENS, DOLLARS, REQUESTS, OTHER])
    for _ in range(2):  # its first answer may have been lost
        await world.queue.append_usage(a_record("req_1"))
    assert await spent(world, TOKENS, DOLLARS, REQUESTS, OTHER) == [10, 10, 1, 0]
    assert await world.usage_ids() == ["req_1"]


# --- Redis has lost everything --------------------------------------------------------------------------------------


async def test_after_a_loss_owners_state_what_they_hold_before_anything_is_leased(
    world: World, clock: ManualClock
) -> None:
    await world.open("gw_a", "gw_b")
    await world.lease("gw_a", ask(need=60))
    await world.store.settle("gw_a", [settlement(1, (TOKENS, 20, 20))])
    world.lose_everything()
    assert await renew(world, "gw_a", 2) == Renewed("unknown", ())
    assert await world.store.lease("gw_a", [ask(need=1)]) == Gone("unknown")
    lost = [settlement(2, (TOKENS, 10, 4), usage="req_2")]
    assert await world.store.settle("gw_a", lost) == Gone("unknown")
    holding = [Part(TOKENS, 40), Part(SLOTS, 1)]
    again = {"ttl_s": TTL_S, "watermark": 2, "holding": holding}
    assert await world.store.enter("gw_a", **again) == NotBegun((TOKENS, SLOTS))  # type: ignore[arg-type]
    await world.store.begin(TOKENS, 20, expires_at=None)
    assert await world.store.enter("gw_a", **again) == NotBegun((SLOTS,))  # type: ignore[arg-type]
    await world.store.begin(SLOTS, 0, expires_at=None)
    assert await world.store.enter("gw_a", **again) is None  # type: ignore[arg-type]
    assert await world.sums() == (20, 40, 0)
    assert await world.sums(SLOTS) == (0, 1, 0)
    assert await world.store.settle("gw_a", [*lost, settlement(1, (TOKENS, 20, 20))]) == [True, False]
    assert await world.sums() == (24, 36, 0)

    await world.store.enter("gw_b", ttl_s=TTL_S)
    assert await world.store.lease("gw_b", [ask(need=1)]) == NotOpen(None)
    await world.store.establish(wait_s=60)
    assert await world.store.lease("gw_b", [ask(need=1)]) == NotOpen(60.0)
    await clock.advance(60)
    assert await world.store.lease("gw_b", [ask(need=41)]) == Short(TOKENS, 40, True)
    assert await world.lease("gw_b", ask(need=40)) == (40,)


async def test_what_is_given_back_after_the_statement_is_free(world: World) -> None:
    await world.open("gw_a")
    world.lose_everything()
    await world.open("gw_b")
    await world.store.enter("gw_a", ttl_s=TTL_S, holding=[Part(TOKENS, 40)])
    await renew(world, "gw_a", 1, (TOKENS, 30))
    assert await world.sums() == (0, 10, 0)


# --- the dead -------------------------------------------------------------------------------------------------------


async def a_dead_owner(world: World, clock: ManualClock) -> None:
    """gw_a holds 60 tokens, 30 dollars and a slot, has settled number 1, and said nothing for too long; gw_b lives."""
    await world.open("gw_a", "gw_b")
    await world.lease("gw_a", ask(need=70), ask(DOLLARS, need=30), ask(SLOTS, need=1, is_new=True))
    await world.store.settle("gw_a", [settlement(1, (TOKENS, 20, 10))])
    await clock.advance(TTL_S)
    await renew(world, "gw_b")
    assert await world.store.dead_owners() == ["gw_a"]


HELD = [Part(TOKENS, 60), Part(DOLLARS, 30), Part(SLOTS, 1)]


async def take_over(world: World, by: str = "gw_b", *, proved: bool = False, owner: str = "gw_a") -> list[Part] | None:
    return await world.store.take_over(owner, by, ttl_s=10, is_proved_dead=proved)


async def test_one_takes_a_dead_owner_over_until_its_time_is_over(world: World, clock: ManualClock) -> None:
    await a_dead_owner(world, clock)
    assert await take_over(world) == HELD
    assert await take_over(world, "gw_c") is None
    assert await take_over(world, "gw_c", proved=True) is None
    await clock.advance(9.75)
    assert await take_over(world) == HELD  # again, by the same
    await clock.advance(9.75)
    assert await take_over(world, "gw_c") is None
    assert await world.store.dead_owners() == ["gw_a"]
    await clock.advance(0.25)
    assert await take_over(world, "gw_c") == HELD
    assert await world.store.forfeit("gw_a", "gw_b", []) is False
    assert await world.sums() == (10, 60, 0)


async def test_one_who_lost_its_time_does_not_wind_up(world: World, clock: ManualClock) -> None:
    await a_dead_owner(world, clock)
    assert await world.store.forfeit("gw_a", "gw_b", None) is False  # not taken over
    await take_over(world)
    await clock.advance(10)
    assert await world.store.forfeit("gw_a", "gw_b", None) is False
    assert await world.sums() == (10, 60, 0)


async def test_who_was_taken_over_can_neither_renew_nor_lease_nor_enter(world: World, clock: ManualClock) -> None:
    await a_dead_owner(world, clock)
    await take_over(world)
    assert await renew(world, "gw_a", 1, (TOKENS, 50)) == Renewed("gone", ())
    assert await world.store.lease("gw_a", [ask(need=1)]) == Gone("gone")
    assert await world.store.enter("gw_a", ttl_s=TTL_S) == Gone("gone")
    assert await world.store.leave("gw_a") is False
    assert await world.sums() == (10, 60, 0)


async def test_who_lives_is_taken_over_only_with_proof_of_its_death(world: World) -> None:
    await world.open("gw_a", "gw_b")
    await world.lease("gw_a", ask(need=30))
    assert await take_over(world) is None
    assert await renew(world, "gw_a") == Renewed("alive", ())
    assert await take_over(world, proved=True) == [Part(TOKENS, 30)]
    assert await world.store.dead_owners() == ["gw_a"]
    assert await renew(world, "gw_a") == Renewed("gone", ())


async def test_what_was_settled_between_the_taking_over_and_the_winding_up_counts_once(
    world: World, clock: ManualClock
) -> None:
    await a_dead_owner(world, clock)
    await take_over(world)
    assert await world.store.settle("gw_a", [settlement(2, (TOKENS, 40, 15))]) == [True]
    assert await world.sums() == (25, 45, 0)
    assert await world.store.forfeit("gw_a", "gw_b", [InFlightPart(2, [Part(TOKENS, 40)])]) is True
    assert await world.sums() == (25, 0, 0)
    assert await world.store.dead_owners() == []


async def test_with_a_journal_only_what_was_in_flight_stays_set_aside(world: World, clock: ManualClock) -> None:
    await a_dead_owner(world, clock)
    await take_over(world)
    in_flight = [
        InFlightPart(1, [Part(TOKENS, 20)]),  # settled before it died
        InFlightPart(2, [Part(TOKENS, 25), Part(SLOTS, 1)]),
        InFlightPart(5, [Part(TOKENS, 10), Part(DOLLARS, 8)]),
    ]
    assert await world.store.forfeit("gw_a", "gw_b", in_flight) is True
    assert [await world.sums(each) for each in (TOKENS, DOLLARS, SLOTS)] == [(10, 35, 0), (0, 8, 0), (0, 1, 0)]
    assert await world.store.forfeit("gw_a", "gw_b", []) is True  # done before: nothing changes
    assert await world.store.forfeit("gw_a", "gw_b", None) is True
    assert await world.sums() == (10, 35, 0)
    assert await world.store.dead_owners() == ["gw_a"]

    done = await world.store.settle("gw_a", [settlement(1, (TOKENS, 20, 20), usage="req_1")])
    assert done == [False]
    assert await world.store.settle("gw_a", [settlement(2, (TOKENS, 25, 9), (SLOTS, 1, 0), usage="req_2")]) == [True]
    assert [await world.sums(each) for each in (TOKENS, DOLLARS, SLOTS)] == [(19, 10, 0), (0, 8, 0), (0, 0, 0)]
    # One that the journal does not have was never sent, says the journal; if it was all the same, it counts in full.
    assert await world.store.settle("gw_a", [settlement(9, (TOKENS, 3, 2))]) == [True]
    assert await world.sums() == (21, 10, 0)
    assert await world.store.dead_owners() == ["gw_a"]
    last = [settlement(5, (TOKENS, 10, 30), (DOLLARS, 8, 8), usage="req_5")]
    assert await world.store.settle("gw_a", last) == [True]
    assert await world.store.settle("gw_a", last) == [False]
    assert [await world.sums(each) for each in (TOKENS, DOLLARS, SLOTS)] == [(51, 0, 0), (8, 0, 0), (0, 0, 0)]
    assert await world.store.dead_owners() == []
    assert await take_over(world, "gw_c", proved=True) is None
    assert await world.usage_ids() == ["req_2", "req_5"]


async def test_a_successor_that_dies_is_succeeded_in_the_middle(world: World, clock: ManualClock) -> None:
    await a_dead_owner(world, clock)
    await take_over(world)
    await world.store.forfeit("gw_a", "gw_b", [InFlightPart(2, [Part(TOKENS, 25)])])
    await clock.advance(10)
    assert await take_over(world, "gw_c") == [Part(TOKENS, 25)]
    assert await world.store.forfeit("gw_a", "gw_c", [InFlightPart(2, [Part(TOKENS, 25)])]) is True
    assert await world.store.settle("gw_a", [settlement(2, (TOKENS, 25, 25))]) == [True]
    assert await world.sums() == (35, 0, 0)
    assert await world.store.dead_owners() == []


async def test_a_journal_with_nothing_in_flight_frees_everything_at_once(world: World, clock: ManualClock) -> None:
    await a_dead_owner(world, clock)
    await take_over(world)
    assert await world.store.forfeit("gw_a", "gw_b", []) is True
    assert [await world.sums(each) for each in (TOKENS, DOLLARS, SLOTS)] == [(10, 0, 0), (0, 0, 0), (0, 0, 0)]
    assert await world.store.dead_owners() == []
    assert await world.store.forfeit("gw_a", "gw_b", []) is True
    assert await world.store.settle("gw_a", [settlement(4, (TOKENS, 20, 6))]) == [True]
    assert await world.sums() == (16, 0, 0)


async def test_without_a_journal_all_that_was_held_counts_as_spent_but_slots(world: World, clock: ManualClock) -> None:
    await a_dead_owner(world, clock)
    await take_over(world)
    told = [a_record("lost_1").to_json(), a_record("lost_2").to_json()]
    assert await world.store.forfeit("gw_a", "gw_b", None, usage=told) is True
    assert [await world.sums(each) for each in (TOKENS, DOLLARS, SLOTS)] == [(70, 0, 0), (30, 0, 0), (0, 0, 0)]
    assert await world.store.forfeit("gw_a", "gw_b", None, usage=told) is True
    assert await world.usage_ids() == ["lost_1", "lost_2"]
    assert await world.store.dead_owners() == []


async def test_what_turns_up_after_all_was_written_off_adds_only_what_was_not_reserved(
    world: World, clock: ManualClock
) -> None:
    await a_dead_owner(world, clock)
    await take_over(world)
    await world.store.forfeit("gw_a", "gw_b", None)
    late = [settlement(2, (TOKENS, 20, 15), (SLOTS, 1, 0), usage="req_2"), settlement(3, (TOKENS, 20, 29))]
    assert await world.store.settle("gw_a", late) == [True, True]
    assert await world.store.settle("gw_a", late) == [False, False]
    assert await world.sums() == (79, 0, 0)
    assert await world.sums(SLOTS) == (0, 0, 0)
    assert await world.usage_ids() == ["req_2"]


async def test_what_the_dead_gave_back_others_have(world: World, clock: ManualClock) -> None:
    await a_dead_owner(world, clock)
    assert await world.store.lease("gw_b", [ask(need=90)]) == Short(TOKENS, 30, True)
    await take_over(world)
    await world.store.forfeit("gw_a", "gw_b", [])
    assert await world.lease("gw_b", ask(need=90)) == (90,)


async def test_the_journal_of_an_owner_that_redis_has_lost_is_stated_in_its_name_and_then_wound_up(
    world: World,
) -> None:
    await world.open("gw_b")
    in_flight = [InFlightPart(7, [Part(TOKENS, 25)])]
    assert await world.store.enter("gw_a", ttl_s=TTL_S, holding=in_flight[0].parts) is None
    assert await take_over(world, proved=True) == [Part(TOKENS, 25)]
    assert await world.store.forfeit("gw_a", "gw_b", in_flight) is True
    assert await world.store.settle("gw_a", [settlement(7, (TOKENS, 25, 11))]) == [True]
    assert await world.sums() == (11, 0, 0)


# --- how much, and whose --------------------------------------------------------------------------------------------


async def test_amounts_are_exact_up_to_the_most_that_a_counter_holds(world: World) -> None:
    await world.open("gw_a", "gw_b", spent=1)
    assert await world.store.lease("gw_a", [ask(need=MOST, limit=MOST)]) == Short(TOKENS, MOST - 1, False)
    assert await world.lease("gw_a", ask(need=MOST - 3, limit=MOST)) == (MOST - 3,)
    assert await world.store.lease("gw_b", [ask(need=3, limit=MOST)]) == Short(TOKENS, 2, True)
    assert await world.lease("gw_b", ask(need=2, want=MOST, limit=MOST)) == (2,)
    assert await world.store.settle("gw_a", [settlement(1, (TOKENS, MOST - 3, MOST - 4))]) == [True]
    assert await world.store.state([TOKENS]) == [known(MOST - 3, 3, limit=MOST)]
    await renew(world, "gw_a", 2, (TOKENS, 1))
    assert await world.lease("gw_b", ask(need=1, limit=MOST)) == (1,)
    assert await world.store.settle("gw_b", [settlement(1, (TOKENS, 3, MOST))]) == [True]
    assert await world.store.state([TOKENS]) == [known(2 * MOST - 3, 0, limit=MOST)]


async def test_round_amounts_are_no_powers_of_ten_to_redis(world: World) -> None:
    """A number that Lua writes as 1e+15 is none to HINCRBY."""
    amount = 10**15
    await world.open("gw_a")
    assert await world.lease("gw_a", ask(need=amount, want=MOST, limit=4 * amount)) == (amount + 3 * amount // 4,)
    await world.store.settle("gw_a", [settlement(10**15, (TOKENS, amount, amount))])
    assert await world.sums() == (amount, 3 * amount // 4, 0)
    assert await world.store.settle("gw_a", [settlement(10**15, (TOKENS, amount, amount))]) == [False]


HOSTILE = ["a:b", '"],["', "\\", "line\nbreak", "\0", "ü" * 40, "{tag}", "\ud800", "-1", "~" + "0" * 32, "*"]


@pytest.mark.parametrize("id", HOSTILE)
async def test_whatever_a_caller_calls_its_session_it_has_a_counter_of_its_own(world: World, id: str) -> None:
    limits = [Limit(Scope("session", inside("acme", name)), Unit.TOKENS, Window.TOTAL, 100) for name in (id, id + "x")]
    mine, other = (each.name for each in counters(limits, START))
    await world.open("gw_a", "gw_b", limits=[mine, other])
    assert await world.lease("gw_a", ask(mine, need=70)) == (70,)
    assert await world.store.lease("gw_b", [ask(mine, need=50)]) == Short(mine, 30, True)
    assert await renew(world, "gw_a", 1, (mine, 60)) == Renewed("alive", (mine,))
    await world.store.settle("gw_a", [settlement(1, (mine, 10, 4))])
    assert await world.store.state([mine, other]) == [known(4, 6), CounterState(0, 0, 0, None)]


@pytest.mark.parametrize("name", ['key:a"b:tokens:total', "key:a\\:tokens:total", "key:ü:tokens:total"])
async def test_a_counter_of_any_name_is_given_back(world: World, name: str) -> None:
    """Names are plain when `policy.budgets` made them; the books do not rely on it."""
    await world.open("gw_a", limits=[name])
    assert await world.lease("gw_a", ask(name, need=70)) == (70,)
    assert await renew(world, "gw_a", 1, (name, 60)) == Renewed("alive", ())
    assert await world.sums(name) == (0, 10, 0)


async def test_owners_of_any_name_are_kept_apart(world: World, clock: ManualClock) -> None:
    names = ["gw:slices", "gw", 'g"w', "ü", "gw "]
    await world.open(*names)
    for n, name in enumerate(names, start=1):
        await world.lease(name, ask(need=n))
    assert await world.sums() == (0, 15, 0)
    await world.store.leave("gw")
    assert await world.sums() == (0, 13, 0)
    await clock.advance(TTL_S)
    assert sorted(await world.store.dead_owners()) == sorted(set(names) - {"gw"})
