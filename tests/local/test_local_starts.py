"""The phases of a replica's start on a laptop."""

from stoker.local.starts import Moments, phases_of


def told(moments: Moments) -> list[tuple[str, float, float | None]]:
    return [(each.phase, each.began_at, each.ended_at) for each in phases_of("r", moments)]


def test_phases_follow_each_other_from_the_first_task_to_readiness() -> None:
    moments = Moments(needed_at=10.0, decided_at=12.0, listening_at=13.5, loaded_at=17.0, ready_at=17.5)
    assert told(moments) == [
        ("queue", 10.0, 12.0),
        ("boot", 12.0, 13.5),
        ("weights", 13.5, 17.0),
        ("warm-up", 17.0, 17.5),
    ]
    assert {each.subject for each in phases_of("r", moments)} == {"r"}


def test_while_it_starts_the_last_phase_is_open() -> None:
    assert told(Moments(needed_at=10.0, decided_at=12.0)) == [("queue", 10.0, 12.0), ("boot", 12.0, None)]
    assert told(Moments()) == []


def test_what_nobody_saw_belongs_to_the_phase_before() -> None:
    assert told(Moments(decided_at=12.0, listening_at=13.0, ready_at=20.0)) == [
        ("boot", 12.0, 13.0),
        ("weights", 13.0, 20.0),
    ]
    assert told(Moments(decided_at=12.0, ready_at=20.0)) == [("boot", 12.0, 20.0)]


def test_a_clock_that_is_set_back_makes_no_negative_phase() -> None:
    assert told(Moments(decided_at=12.0, listening_at=11.0, loaded_at=14.0, ready_at=14.0)) == [
        ("boot", 12.0, 12.0),
        ("weights", 12.0, 14.0),
        ("warm-up", 14.0, 14.0),
    ]
