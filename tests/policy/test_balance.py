"""Story: three replicas, and who takes the next request."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.policy.balance import ReplicaLoad, pick


def test_the_least_busy_takes_it() -> None:
    replicas = [ReplicaLoad("a", 3, 8), ReplicaLoad("b", 1, 8), ReplicaLoad("c", 2, 8)]
    assert pick(replicas, now=0) == ReplicaLoad("b", 1, 8)


def test_busy_is_relative_to_size() -> None:
    replicas = [ReplicaLoad("small", 1, 2), ReplicaLoad("large", 7, 16)]
    assert pick(replicas, now=0) == ReplicaLoad("large", 7, 16)


def test_of_equals_the_first_handed_in_is_taken() -> None:
    half, also_half = ReplicaLoad("a", 1, 2), ReplicaLoad("b", 4, 8)
    assert pick([half, also_half], now=0) == half
    assert pick([also_half, half], now=0) == also_half


def test_full_replicas_give_none() -> None:
    assert pick([ReplicaLoad("a", 8, 8), ReplicaLoad("b", 9, 8), ReplicaLoad("c", 0, 0)], now=0) is None
    assert pick([], now=0) is None


def test_a_replica_that_is_down_is_skipped_until_its_time_has_come() -> None:
    down, busy = ReplicaLoad("down", 0, 8, down_until=10.0), ReplicaLoad("busy", 7, 8)
    assert pick([down, busy], now=9.999) == busy
    assert pick([down, busy], now=10.0) == down
    assert pick([down], now=9.0) is None


def test_a_replica_that_was_tried_already_is_not_tried_again() -> None:
    idle, busy = ReplicaLoad("idle", 0, 8), ReplicaLoad("busy", 7, 8)
    assert pick([idle, busy], now=0, exclude={"idle"}) == busy
    assert pick([idle, busy], now=0, exclude=("idle", "busy")) is None


loads = st.builds(
    ReplicaLoad,
    id=st.sampled_from("abcdef"),
    running=st.integers(0, 9),
    capacity=st.integers(0, 8),
    down_until=st.none() | st.floats(0, 10),
)


@given(st.lists(loads, unique_by=lambda one: one.id), st.floats(0, 10), st.sets(st.sampled_from("abcdef")))
def test_none_is_better_than_the_one_picked(replicas: list[ReplicaLoad], now: float, exclude: set[str]) -> None:
    picked = pick(replicas, now=now, exclude=exclude)
    able = [
        one
        for one in replicas
        if one.running < one.capacity and one.id not in exclude and (one.down_until is None or one.down_until <= now)
    ]
    if picked is None:
        assert able == []
    else:
        assert picked in able
        assert all(picked.running * one.capacity <= one.running * picked.capacity for one in able)


# --- the replica of a session -----------------------------------------------------------------------------------------


def test_the_replica_with_the_sessions_cache_is_preferred_however_busy_it_is() -> None:
    idle, busy = ReplicaLoad("idle", 0, 8), ReplicaLoad("busy", 7, 8)
    assert pick([idle, busy], now=0, prefer="busy") == busy
    assert pick([idle, busy], now=0, prefer=None) == idle


def test_a_preferred_replica_that_cannot_take_it_gives_way_to_the_least_busy() -> None:
    idle, other = ReplicaLoad("idle", 0, 8), ReplicaLoad("other", 1, 8)
    for unable in (ReplicaLoad("full", 8, 8), ReplicaLoad("full", 0, 8, down_until=1.0)):
        assert pick([other, unable, idle], now=0, prefer="full") == idle
    assert pick([other, ReplicaLoad("full", 0, 8), idle], now=0, prefer="full", exclude={"full"}) == idle


def test_a_preferred_replica_that_is_gone_changes_nothing() -> None:
    assert pick([ReplicaLoad("idle", 0, 8)], now=0, prefer="gone") == ReplicaLoad("idle", 0, 8)
    assert pick([], now=0, prefer="gone") is None


@given(st.lists(loads, unique_by=lambda one: one.id), st.floats(0, 10), st.sampled_from("abcdef"))
def test_a_preference_decides_among_those_that_are_able_and_nothing_else(
    replicas: list[ReplicaLoad], now: float, prefer: str
) -> None:
    without = pick(replicas, now=now)
    picked = pick(replicas, now=now, prefer=prefer)
    able = [one for one in replicas if one.has_room and one.is_up(now)]
    preferred = [one for one in able if one.id == prefer]
    assert picked == (preferred[0] if preferred else without)
