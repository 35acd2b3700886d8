"""Quantities are exact, and what is none is refused with what would be right."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.manifests.quantities import (
    bytes_of,
    count,
    cpu_milli,
    format_amount,
    format_bytes,
    format_cpu,
    in_base_units,
    parse,
)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("8", 8),
        (8, 8),
        (0.5, Fraction(1, 2)),
        (0.1, Fraction(1, 10)),
        (1e-7, Fraction(1, 10**7)),
        ("500m", Fraction(1, 2)),
        ("1n", Fraction(1, 10**9)),
        ("3u", Fraction(3, 10**6)),
        ("1k", 1000),
        ("2M", 2 * 10**6),
        ("2G", 2 * 10**9),
        ("2T", 2 * 10**12),
        ("2P", 2 * 10**15),
        ("2E", 2 * 10**18),
        ("1Ki", 1024),
        ("32Gi", 32 * 1024**3),
        ("1.5Mi", 1536 * 1024),
        ("1Ti", 1024**4),
        ("1Pi", 1024**5),
        ("1Ei", 1024**6),
        ("1e3", 1000),
        ("1E3", 1000),
        ("12E-1", Fraction(6, 5)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("+5", 5),
        ("-5Mi", -5 * 1024**2),
        ("0", 0),
    ],
)
def test_a_quantity_is_exactly_its_number(written: object, number: int | Fraction) -> None:
    assert parse(written) == number
    assert type(parse(written)) is type(number)


@pytest.mark.parametrize(
    "written",
    ["", "Gi", "8 Gi", "8gi", "8K", "8mi", "1,5", "0x10", "eight", "1e", "1.2.3", "８", "8Gi\n", ".", True, None, [],
     {}, float("nan"), float("inf"), "9" * 65, "1e41", "1e999999999"],
)  # fmt: skip
def test_what_is_no_quantity_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse(written)


def test_the_refusal_says_what_and_what_would_be_right() -> None:
    with pytest.raises(ValueError) as refused:
        parse("32GB")
    assert str(refused.value) == (
        "'32GB' is no quantity: write a number, or one with a suffix, such as 500m, 2, 1.5, 1k, 512Mi or 32Gi"
    )


def test_parts_are_rounded_up() -> None:
    assert cpu_milli("0.0001") == 1
    assert cpu_milli("7910m") == 7910
    assert cpu_milli(8) == 8000
    assert bytes_of("100m") == 1
    assert bytes_of("29317Mi") == 30741102592


def test_devices_are_whole() -> None:
    assert count("8") == 8
    assert count("1k") == 1000
    with pytest.raises(ValueError, match="'500m' is no whole number"):
        count("500m")


def test_each_resource_has_its_base_unit() -> None:
    assert in_base_units("cpu", "1.5") == 1500
    assert in_base_units("memory", "1Ki") == 1024
    assert in_base_units("hugepages-2Mi", "5120Mi") == 5368709120
    assert in_base_units("nvidia.com/gpu", "8") == 8


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (500, "500"),
        (1024, "1Ki"),
        (32 * 1024**3, "32Gi"),
        (30741102592, "28.6Gi"),
        (16000 * 1024**3, "15.6Ti"),
        (-1536, "-1.5Ki"),
        (1024**7, "1024Ei"),
    ],
)
def test_bytes_as_people_write_them(size: int, text: str) -> None:
    assert format_bytes(size) == text


def test_cpu_as_people_write_it() -> None:
    assert format_cpu(7910) == "7910m"
    assert format_cpu(8000) == "8"
    assert format_amount("cpu", 500) == "500m"
    assert format_amount("ephemeral-storage", 1024) == "1Ki"
    assert format_amount("nvidia.com/gpu", 1024) == "1024"


@given(st.text(max_size=80) | st.floats() | st.integers() | st.none() | st.booleans())
def test_any_value_is_a_number_or_is_refused(value: object) -> None:
    try:
        number = parse(value)
    except ValueError:
        return
    assert isinstance(number, int | Fraction)


@given(st.integers(0, 10**12))
def test_cpu_is_read_as_it_was_written(milli: int) -> None:
    assert cpu_milli(format_cpu(milli)) == milli
