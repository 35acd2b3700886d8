"""Logits to the next token. Chance is handed in: one number in [0, 1) for each row that draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Sampling:
    temperature: float
    """0 takes the likeliest token; above, the logits are divided by it."""
    top_p: float
    """Draw among the likeliest tokens that together have at least this probability."""


def choose(logits: Floats, samplings: Sequence[Sampling], chances: Sequence[float]) -> list[int]:
    """One token for each row. A row's token depends on that row, its sampling and its chance alone."""
    tokens: list[int] = logits.argmax(axis=1).tolist()
    drawn = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]
    if not drawn:
        return tokens
    weights = _weights(logits[drawn], np.array([samplings[row].temperature for row in drawn]))
    for row, line in zip(drawn, weights, strict=True):
        tokens[row] = _draw(line, samplings[row].top_p, chances[row])
    return tokens


def _weights(logits: Floats, temperatures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities up to a factor, in double precision so that a very small temperature does no harm."""
    weights: NDArray[np.float64] = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperatures[:, None])
    return weights


def _draw(weights: NDArray[np.float64], top_p: float, chance: float) -> int:
    if top_p >= 1:
        return _at(np.cumsum(weights), chance)
    order = np.argsort(-weights, kind="stable")
    sums = np.cumsum(weights[order])
    kept = int(np.searchsorted(sums, top_p * sums[-1])) + 1  # the first that reaches top_p is in
    return int(order[_at(sums[:kept], chance)])


def _at(sums: NDArray[np.float64], chance: float) -> int:
    return min(int(np.searchsorted(sums, chance * sums[-1], side="right")), len(sums) - 1)
