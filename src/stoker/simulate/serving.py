"""Requests of one model through its queue and its replicas: the data plane.

The control plane (`run`) adds and takes away replicas, and asks for counts; between its events `advance` moves all
requests on. Compiled where numba is installed, and the same to the bit where it is not.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stoker.simulate.engines import Rates
from stoker.simulate.scenario import Dispatch


@dataclass(frozen=True, eq=False)
class Requests:
    """Columns of the requests of one model, by time."""

    at_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int32]
    completion_tokens: NDArray[np.int32]
    cached_tokens: NDArray[np.int32]


class Counts(NamedTuple):
    """At one moment. `waiting` + `pending` + `engine_waiting`... see each; the last four only grow."""

    waiting: int
    """In the queue: no replica has them."""
    pending: int
    """Taken from the queue (or sent by the balancer) and not finished: `running` and `engine_waiting`."""
    running: int
    engine_waiting: int
    arrived: int
    served: int
    rejected: int
    tokens: int
    """Produced."""


class Plane:
    """One model. Slots are numbers that replicas get in the order they are added; a slot is never used again."""

    def __init__(
        self,
        requests: Requests,
        *,
        dispatch: Dispatch,
        max_model_len: int | None,
        timeout_s: float,
        retries: bool,
        lease_s: float = 60.0,
        seed: int = 0,
    ) -> None:
        """`timeout_s`: a request that waited so long without a replica is rejected (TIMED_OUT). With `retries`, what is
        cut off with its replica goes back to the queue's head after `lease_s`; else it is LOST."""
        raise NotImplementedError

    def add(self, rates: Rates, concurrency: int, now: float) -> int:
        """A replica is ready from now on; returns its slot."""
        raise NotImplementedError

    def drain(self, slot: int, now: float) -> None:
        """It takes no more. `advance` stops when it has finished what it has."""
        raise NotImplementedError

    def kill(self, slot: int, now: float) -> int:
        """It is gone; returns how many requests were cut off."""
        raise NotImplementedError

    def advance(self, until: float) -> tuple[float, int]:
        """Move on; returns the time reached and a draining slot that has become empty, or (`until`, -1). Called again
        with the same `until` it goes on. Never goes back."""
        raise NotImplementedError

    def counts(self) -> Counts:
        raise NotImplementedError

    def busy_s(self) -> NDArray[np.float64]:
        """By slot: seconds in which the replica computed, so far."""
        raise NotImplementedError

    def kv_usage(self) -> float:
        """Share of the replicas' caches that is taken, 0 to 1."""
        raise NotImplementedError

    def has_work(self) -> bool:
        """Whether any request is still to come, waits or runs."""
        raise NotImplementedError

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """`state`, `started_at`, `first_at`, `done_at`, `completion_tokens`, `cached_tokens`, `attempts`, `slot`: as in
        `result.Outcomes`, with the slot for the replica. And `work_s`: seconds of a replica that each request took, a
        step shared by those that ran in it, so that the sum over a slot's requests is its busy time."""
        raise NotImplementedError
