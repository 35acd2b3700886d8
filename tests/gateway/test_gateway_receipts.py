"""What an answer says of its cost and of what is left, to the letter."""

import pytest

from stoker.gateway.receipts import Left, Receipt, dollars, duration, rate_limits, tightest
from stoker.policy.budgets import Counter, Unit

NOW = 1000.0
PLACES = {Unit.REQUESTS: 0, Unit.TOKENS: 1, Unit.NANO_USD: 2, Unit.CONCURRENT: 3}


def counter(unit: Unit, limit: int, renews_in_s: float | None = None) -> Counter:
    renews_at = None if renews_in_s is None else NOW + renews_in_s
    return Counter(f"key:k:{unit}:total", unit, limit, renews_at, PLACES[unit])


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (-1.0, "0ms"),
        (0.0, "0ms"),
        (0.0001, "1ms"),
        (0.25, "250ms"),
        (0.9999, "1000ms"),
        (1.0, "1s"),
        (1.2, "2s"),
        (59.5, "1m0s"),
        (360.0, "6m0s"),
        (3600.0, "1h0m0s"),
        (3723.0, "1h2m3s"),
        (86_400.0 * 31, "744h0m0s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, written: str) -> None:
    assert duration(seconds) == written


@pytest.mark.parametrize(
    ("nano_usd", "written"),
    [(0, "0.000000000"), (1, "0.000000001"), (12_000, "0.000012000"), (10**9, "1.000000000"), (10**15 + 1, None)],
)
def test_money_is_written_without_rounding(nano_usd: int, written: str | None) -> None:
    assert dollars(nano_usd) == (written or "1000000.000000001")


def test_the_counter_with_the_least_left_speaks_for_its_unit() -> None:
    total, minute, day = (
        counter(Unit.TOKENS, 1000),
        counter(Unit.TOKENS, 100, 30.0),
        counter(Unit.TOKENS, 500, 3600.0),
    )
    left: Left = [(total, 80), (minute, 40), (day, 50), (counter(Unit.REQUESTS, 5, 0.5), 3)]
    assert tightest(left)[Unit.TOKENS] == (minute, 40)
    assert rate_limits(left, NOW) == {
        "x-ratelimit-limit-requests": "5",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": "500ms",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "40",
        "x-ratelimit-reset-tokens": "30s",
        "X-Stoker-Budget-Left-Tokens": "40",
    }


def test_of_equals_the_first_speaks_and_of_none_nobody() -> None:
    first, second = counter(Unit.NANO_USD, 10), counter(Unit.NANO_USD, 20)
    assert tightest([(first, 5), (second, 5)]) == {Unit.NANO_USD: (first, 5)}
    assert tightest([]) == {}
    assert rate_limits([], NOW) == {}


def test_slots_are_nothing_that_a_client_counts() -> None:
    assert rate_limits([(counter(Unit.CONCURRENT, 5), 3)], NOW) == {}


RECEIPT = Receipt(
    prompt_tokens=10,
    cached_tokens=4,
    completion_tokens=5,
    nano_usd=18_000,
    queue_wait_s=1.23456,
    left=[(counter(Unit.TOKENS, 1000), 985), (counter(Unit.NANO_USD, 10**9), 999_982_000)],
    session_nano_usd=36_000,
)


def test_a_receipt_in_headers() -> None:
    assert RECEIPT.headers(NOW) == {
        "X-Stoker-Prompt-Tokens": "10",
        "X-Stoker-Cached-Tokens": "4",
        "X-Stoker-Completion-Tokens": "5",
        "X-Stoker-Cost-Usd": "0.000018000",
        "X-Stoker-Queue-Wait-Seconds": "1.235",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "985",
        "X-Stoker-Budget-Left-Usd": "0.999982000",
        "X-Stoker-Budget-Left-Tokens": "985",
        "X-Stoker-Session-Cost-Usd": "0.000036000",
    }


def test_a_receipt_as_json() -> None:
    assert RECEIPT.as_json() == {
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 5,
        "cost_usd": 0.000018,
        "queue_wait_s": 1.235,
        "budget_left_tokens": 985,
        "budget_left_usd": 0.999982,
        "session_cost_usd": 0.000036,
    }


def test_outside_any_session_and_budget_there_is_only_the_cost() -> None:
    receipt = Receipt(1, 0, 2, 3, 0.0, [])
    assert receipt.as_json() == {
        "prompt_tokens": 1,
        "cached_tokens": 0,
        "completion_tokens": 2,
        "cost_usd": 3e-9,
        "queue_wait_s": 0.0,
    }
    assert not [name for name in receipt.headers(NOW) if name.startswith("x-ratelimit") or "Left" in name]
