"""Exact costs, rounded up once."""

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from stoker.meter.cost import cost_nano_usd, usd
from stoker.spec import Prices


def prices(in_usd: str, cached_usd: str, out_usd: str) -> Prices:
    return Prices(
        input_usd_per_million_tokens=Decimal(in_usd),
        cached_input_usd_per_million_tokens=Decimal(cached_usd),
        output_usd_per_million_tokens=Decimal(out_usd),
    )


def test_the_price_of_a_request() -> None:
    given_prices = prices("0.10", "0.05", "0.40")
    assert cost_nano_usd(given_prices, prompt_tokens=1000, cached_tokens=200, completion_tokens=50) == (
        800 * 100 + 200 * 50 + 50 * 400
    )
    assert cost_nano_usd(given_prices, prompt_tokens=0, cached_tokens=0, completion_tokens=0) == 0
    assert usd(110_000) == Decimal("0.00011")


def test_what_does_not_come_out_even_is_rounded_up() -> None:
    assert cost_nano_usd(prices("0.0001", "0", "0"), prompt_tokens=1, cached_tokens=0, completion_tokens=0) == 1
    assert cost_nano_usd(prices("0.0001", "0", "0"), prompt_tokens=11, cached_tokens=0, completion_tokens=0) == 2
    assert cost_nano_usd(prices("0.0001", "0", "0"), prompt_tokens=10, cached_tokens=0, completion_tokens=0) == 1


amounts = st.decimals(0, 1_000_000, places=6)
some_prices = st.tuples(amounts, amounts, amounts).map(lambda three: prices(*map(str, three)))
tokens = st.integers(0, 2**31 - 1)


@given(some_prices, tokens, st.floats(0, 1), tokens)
def test_nobody_is_undercharged_and_nobody_by_a_nano_dollar_too_much(
    given_prices: Prices, prompt: int, share: float, completion: int
) -> None:
    cached = int(prompt * share)
    exact = 1000 * (
        (prompt - cached) * Fraction(given_prices.input_usd_per_million_tokens)
        + cached * Fraction(given_prices.cached_input_usd_per_million_tokens)
        + completion * Fraction(given_prices.output_usd_per_million_tokens)
    )
    charged = cost_nano_usd(given_prices, prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion)
    assert 0 <= charged - exact < 1


@given(some_prices, tokens, tokens, st.integers(0, 1000))
def test_more_tokens_never_cost_less(given_prices: Prices, prompt: int, completion: int, more: int) -> None:
    def cost(prompt_tokens: int, completion_tokens: int) -> int:
        return cost_nano_usd(
            given_prices, prompt_tokens=prompt_tokens, cached_tokens=0, completion_tokens=completion_tokens
        )

    assert cost(prompt, completion) <= cost(prompt + more, completion)
    assert cost(prompt, completion) <= cost(prompt, completion + more)


@given(some_prices, st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), max_size=20))
def test_requests_together_cost_at_most_a_nano_dollar_each_more_than_their_tokens(
    given_prices: Prices, requests: list[tuple[int, int]]
) -> None:
    apart = sum(cost_nano_usd(given_prices, prompt_tokens=p, cached_tokens=0, completion_tokens=c) for p, c in requests)
    together = cost_nano_usd(
        given_prices,
        prompt_tokens=sum(p for p, _ in requests),
        cached_tokens=0,
        completion_tokens=sum(c for _, c in requests),
    )
    assert together <= apart <= together + len(requests)
