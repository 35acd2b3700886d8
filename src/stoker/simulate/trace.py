"""Requests over time, as columns. Made by `traces`, read by `serving`."""

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

ANY = -1
"""A request that names no model goes where the scenario's default says; one that names no tenant is of `(unnamed)`."""


@dataclass(frozen=True, eq=False)
class Trace:
    """`n` requests, by time. Times are seconds since the trace began and never fall.

    `prompt_tokens` includes `cached_tokens`: those whose prefix the trace says was seen before (whether a replica still
    holds it is the engine model's to say).
    """

    name: str
    at_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    completion_tokens: NDArray[np.int32]
    cached_tokens: NDArray[np.int32]
    model: NDArray[np.int16]
    """Index into `models`, or ANY."""
    tenant: NDArray[np.int32]
    """Index into `tenants`, or ANY."""
    models: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    began_at: datetime | None = None
    """UTC, where the trace knows."""
    notes: tuple[str, ...] = field(default=())
    """What a reader should know: sampled, tokens estimated from characters, where it comes from."""

    def __len__(self) -> int:
        return len(self.at_s)

    @property
    def duration_s(self) -> float:
        return float(self.at_s[-1]) if len(self) else 0.0
