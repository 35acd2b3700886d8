"""Lengths of time as Go reads them."""

from fractions import Fraction

import pytest

from stoker.base.durations import is_duration, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("90s", 90),
        ("1h30m", 5400),
        ("720h", 2_592_000),
        ("1.5h", 5400),
        (".5m", 30),
        ("1.s", 1),
        ("100ms", Fraction(1, 10)),
        ("1us", Fraction(1, 1_000_000)),
        ("1µs", Fraction(1, 1_000_000)),
        ("1μs", Fraction(1, 1_000_000)),
        ("0.1ns", 0),  # Go cuts off what is below a nanosecond
        ("3m3m", 360),
        ("-1m", -60),
        ("+1m", 60),
        ("2562047h47m16.854775807s", Fraction(2**63 - 1, 10**9)),
    ],
)
def test_what_go_reads_is_read_exactly(text: str, seconds: Fraction | int) -> None:
    assert seconds_of(text) == seconds
    assert is_duration(text)


@pytest.mark.parametrize("text", ["", "1", "1d", "Never", "1h 30m", "h", "--1h", "1h-30m", "0h30", "2562048h", "٣h"])
def test_what_go_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds_of(text)
    assert not is_duration(text)
