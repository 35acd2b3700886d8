"""When requests are sent and what they ask: the same for the same seed, whatever the platform does."""

import random
from collections.abc import Iterator

# Words of the project's own; which ones does not matter, only that prompts differ, so that no cache answers them all.
_TEXT = """
agent answer budget cache capacity cluster cost count deploy drain engine event gateway graph latency ledger limit
machine model node plan pool price prompt queue record replica request retry route scale session spot stream task
tenant token trace usage value wait worker
"""
_WORDS = tuple(_TEXT.split())


def poisson(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Seconds from the start at which requests arrive that do not know of each other, `rate` a second on average."""
    chance = random.Random(seed)
    at = chance.expovariate(rate)
    while at < seconds:
        yield at
        at += chance.expovariate(rate)


def even(rate: float, seconds: float) -> Iterator[float]:
    """As `poisson`, but evenly spaced: the first at 0."""
    number = 0
    while number / rate < seconds:
        yield number / rate
        number += 1


def prompt(number: int, words: int, seed: int) -> str:
    """The prompt of the `number`-th request."""
    chance = random.Random(f"{seed}/{number}")
    return " ".join(chance.choice(_WORDS) for _ in range(words))
