"""What is kept of what is said: nothing twice, and of figures that change all the time only now and then."""

import pytest

from stoker.simulate.journal import Journal


def texts(journal: Journal) -> list[tuple[float, str]]:
    return [(each.at, each.text) for each in journal.events]


def test_a_kind_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="is no kind of event"):
        Journal().say(0.0, "gossip", "a", "text")


def test_the_same_again_is_said_once() -> None:
    journal = Journal()
    for at, text in ((0.0, "a"), (1.0, "a"), (2.0, "b"), (3.0, "a")):
        journal.say_once(at, "scale", "x", text)
    assert texts(journal) == [(0.0, "a"), (2.0, "b"), (3.0, "a")]


def test_of_what_goes_on_the_first_the_last_and_one_a_minute_are_kept() -> None:
    journal = Journal()
    for i in range(13):
        journal.say_still(15.0 * i, "scale", "x", f"waiting {i}", "at most")
    assert texts(journal) == [(0.0, "waiting 0"), (60.0, "waiting 4"), (120.0, "waiting 8"), (180.0, "waiting 12")]
    journal.say_still(195.0, "scale", "x", "waiting 13", "at most")
    journal.say_still(210.0, "scale", "x", "waiting 14", "at most")
    assert texts(journal)[-1] == (210.0, "waiting 14")  # the last so far
    journal.say_still(225.0, "scale", "x", "waiting 3", "as many as there are")
    journal.say_still(240.0, "scale", "x", "waiting 3", "as many as there are")
    assert texts(journal)[-2:] == [(210.0, "waiting 14"), (225.0, "waiting 3")]


def test_who_speaks_beside_another_does_not_end_what_goes_on() -> None:
    journal = Journal()
    for i in range(4):
        journal.say_still(30.0 * i, "scale", "x", "cooling down", "cooling", "KEDA")
        journal.say_still(30.0 * i + 1, "scale", "x", "nothing waits", "none", "HPA")
    assert texts(journal) == [(0.0, "cooling down"), (1.0, "nothing waits")]
    journal.end_run("scale", "x", "KEDA")
    journal.say_still(130.0, "scale", "x", "cooling down", "cooling", "KEDA")
    assert texts(journal)[-1] == (130.0, "cooling down")


def test_events_are_by_time_also_those_that_were_held_back() -> None:
    journal = Journal()
    journal.say_still(0.0, "scale", "x", "waiting 1", "at most")
    journal.say_still(15.0, "scale", "x", "waiting 2", "at most")
    journal.say(20.0, "pod", "y", "ready")
    journal.say_still(30.0, "scale", "x", "none", "another")
    assert texts(journal) == [(0.0, "waiting 1"), (15.0, "waiting 2"), (20.0, "ready"), (30.0, "none")]
