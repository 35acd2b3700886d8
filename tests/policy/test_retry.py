"""The delay before another attempt."""

from random import Random

import pytest

from stoker.base.errors import InvalidInput
from stoker.policy.retry import delay_s


class Highest(Random):
    """Chance at its upper end, so that the bound itself can be seen."""

    def random(self) -> float:
        return 1.0


def test_the_bound_doubles_with_each_attempt_up_to_the_cap() -> None:
    bounds = [delay_s(attempt, base_s=0.5, cap_s=10, random=Highest()) for attempt in range(1, 8)]
    assert bounds == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_huge_attempt_is_at_the_cap_and_no_error() -> None:
    assert delay_s(10**9, base_s=1, cap_s=60, random=Highest()) == 60
    assert delay_s(5_000, base_s=0, cap_s=0, random=Highest()) == 0


def test_the_delay_is_spread_over_the_whole_range() -> None:
    random = Random(7)
    delays = [delay_s(3, base_s=1, cap_s=60, random=random) for _ in range(4_000)]
    assert all(0 <= delay <= 4 for delay in delays)
    quarters = [sum(1 for delay in delays if low <= delay < low + 1) for low in range(4)]
    assert all(900 < count < 1_100 for count in quarters)


def test_the_same_seed_gives_the_same_delays() -> None:
    first, second = ([delay_s(n, base_s=1, cap_s=9, random=Random(3)) for n in (1, 2, 3)] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("attempt", "base_s", "cap_s", "said"),
    [(0, 1, 2, "attempt is 0"), (1, -1, 2, "base_s is -1"), (1, 3, 2, "base_s is 3 and cap_s 2")],
)
def test_numbers_that_make_no_sense_are_refused(attempt: int, base_s: float, cap_s: float, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        delay_s(attempt, base_s=base_s, cap_s=cap_s, random=Random(1))
