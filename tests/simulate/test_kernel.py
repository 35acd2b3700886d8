"""The clock of the simulation: order at equal times, and no way back."""

import pytest

from stoker.simulate.kernel import Kernel, Rank


def test_equal_times_go_by_rank_then_by_who_asked_first() -> None:
    kernel, seen = Kernel(0.0), []
    for name, when, rank in (
        ("decide", 5.0, Rank.NODES),
        ("later", 6.0, Rank.WORLD),
        ("second", 5.0, Rank.WORLD),
        ("third", 5.0, Rank.WORLD),
        ("first", 1.0, Rank.NODES),
    ):
        kernel.at(when, rank, lambda name=name: seen.append((kernel.now, name)))
    while kernel.next_at is not None:
        kernel.step()
    assert seen == [(1.0, "first"), (5.0, "second"), (5.0, "third"), (5.0, "decide"), (6.0, "later")]


def test_what_is_asked_for_while_a_moment_goes_on_happens_in_it() -> None:
    kernel, seen = Kernel(0.0), []

    def first() -> None:
        seen.append("first")
        kernel.at(kernel.now, Rank.WORLD, lambda: seen.append("in between"))

    kernel.at(1.0, Rank.WORLD, first)
    kernel.at(1.0, Rank.SCALE, lambda: seen.append("last"))
    while kernel.next_at is not None:
        kernel.step()
    assert seen == ["first", "in between", "last"]
    assert kernel.now == 1.0


def test_the_past_is_refused() -> None:
    kernel = Kernel(10.0)
    with pytest.raises(ValueError, match=r"9\.5 s has passed; it is 10\.0 s"):
        kernel.at(9.5, Rank.WORLD, lambda: None)
