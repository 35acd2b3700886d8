"""Whose each moment of a replica was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.meter.timelines import Span, Timeline


def test_a_moment_is_shared_by_those_who_run_in_it_by_their_pace() -> None:
    """a works at 1 a second for 10 s; b at 3 a second in the last 5 of them: of these it has three quarters."""
    timeline = Timeline([Span("a", 0.0, 10.0, 10.0), Span("b", 5.0, 10.0, 15.0)])
    assert timeline.seconds(0.0, 10.0) == {"a": 6.25, "b": 3.75}
    assert timeline.seconds(0.0, 5.0) == {"a": 5.0}
    assert timeline.seconds(5.0, 10.0) == {"a": 1.25, "b": 3.75}
    assert timeline.seconds(9.0, 20.0) == {"a": 0.25, "b": 0.75}


def test_moments_in_which_nobody_runs_are_nobodys() -> None:
    timeline = Timeline([Span("a", 1.0, 2.0, 5.0), Span("b", 4.0, 6.0, 1.0)])
    assert timeline.seconds(0.0, 10.0) == {"a": 1.0, "b": 2.0}
    assert timeline.seconds(2.0, 4.0) == {}
    assert timeline.seconds(-5.0, 1.0) == {}
    assert Timeline[str]([]).seconds(0.0, 1.0) == {}


def test_one_after_the_other_without_a_gap() -> None:
    timeline = Timeline([Span("a", 0.0, 1.0, 9.0), Span("b", 1.0, 2.0, 1.0), Span("a", 2.0, 3.0, 1.0)])
    assert timeline.seconds(0.0, 3.0) == {"a": 2.0, "b": 1.0}
    assert timeline.seconds(0.5, 1.5) == {"a": 0.5, "b": 0.5}


def test_what_lasts_no_time_has_none_of_it_and_what_has_no_work_counts_as_the_least() -> None:
    timeline = Timeline([Span("a", 0.0, 0.0, 7.0), Span("b", 0.0, 4.0, 2.0), Span("c", 0.0, 4.0, 0.0)])
    assert timeline.seconds(0.0, 4.0) == {"b": 2.0, "c": 2.0}
    assert Timeline([Span("c", 0.0, 4.0, 0.0)]).seconds(0.0, 4.0) == {"c": 4.0}


def test_a_slow_one_beside_many_that_are_fast_is_not_lost() -> None:
    """Paces differ by 12 orders of magnitude, and the fast ones leave again."""
    fast = [Span("fast", float(i), i + 0.5, 1e9) for i in range(1000)]
    found = Timeline([Span("slow", 0.0, 1000.0, 1.0), *fast]).seconds(0.0, 1000.0)
    assert found["slow"] == pytest.approx(500.0, rel=1e-9)
    assert found["fast"] == pytest.approx(500.0, rel=1e-9)


_TIMES = st.floats(0, 1000)
_SPANS = st.lists(st.tuples(st.sampled_from("abc"), _TIMES, _TIMES, st.floats(0, 1e6)), max_size=12)


@given(_SPANS, st.lists(_TIMES, min_size=2, max_size=5))
def test_shares_of_any_window_sum_to_the_time_in_which_anything_ran(
    spans: list[tuple[str, float, float, float]], bounds: list[float]
) -> None:
    of = [Span(who, min(a, b), max(a, b), work) for who, a, b, work in spans]
    timeline = Timeline(of)
    began, *_, ended = sorted(bounds)
    found = timeline.seconds(began, ended)
    assert sum(found.values()) == pytest.approx(_busy(of, began, ended), abs=1e-8)
    assert all(seconds >= 0 for seconds in found.values())


@given(_SPANS, _TIMES, _TIMES, _TIMES)
def test_windows_beside_each_other_add_up(
    spans: list[tuple[str, float, float, float]], a: float, b: float, c: float
) -> None:
    timeline = Timeline([Span(who, min(x, y), max(x, y), max(work, 1.0)) for who, x, y, work in spans])
    began, between, ended = sorted((a, b, c))
    whole, first, second = (timeline.seconds(*w) for w in ((began, ended), (began, between), (between, ended)))
    for who in {*whole, *first, *second}:
        assert first.get(who, 0.0) + second.get(who, 0.0) == pytest.approx(whole.get(who, 0.0), abs=1e-9)


def _busy(spans: list[Span[str]], began: float, ended: float) -> float:
    total, until = 0.0, began
    for span in sorted(spans, key=lambda span: span.began_at):
        since, to = max(span.began_at, until), min(span.ended_at, ended)
        if to > since:
            total, until = total + to - since, to
    return total
