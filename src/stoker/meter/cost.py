"""What a request costs at list price. Exact: decimal prices, integer nano-dollars, one rounding at the end, upwards."""

from decimal import ROUND_CEILING, Decimal
from typing import Protocol


class Prices(Protocol):
    """US dollars per million tokens, as in `llm.models.*.prices` of the spec."""

    @property
    def input_usd_per_million_tokens(self) -> Decimal: ...
    @property
    def cached_input_usd_per_million_tokens(self) -> Decimal: ...
    @property
    def output_usd_per_million_tokens(self) -> Decimal: ...


# One dollar for a million tokens is a micro-dollar, 1,000 nano-dollars, for each.
_NANO_PER_TOKEN = 1000


def cost_nano_usd(prices: Prices, *, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> int:
    """Nano-dollars for these tokens; `prompt_tokens` includes the cached ones. Rounded up, so never undercharged."""
    total = (
        (prompt_tokens - cached_tokens) * prices.input_usd_per_million_tokens
        + cached_tokens * prices.cached_input_usd_per_million_tokens
        + completion_tokens * prices.output_usd_per_million_tokens
    ) * _NANO_PER_TOKEN
    return int(total.to_integral_value(ROUND_CEILING))


def usd(nano_usd: int) -> Decimal:
    return Decimal(nano_usd).scaleb(-9)
