"""How fast one replica answers: a table of decode steps by batch size, and rates, per GPU and model.

The first engine model: `rates` may be replaced by a better one behind the same data.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stoker.catalog.ec2 import InstanceType
from stoker.simulate.scenario import Serving


@dataclass(frozen=True, eq=False)
class Rates:
    """Of one replica on one kind of node. A decode step gives each running sequence one token."""

    step_s: NDArray[np.float64]
    """By number of sequences that decode, from 0 (unused) to the most: seconds of one step with empty contexts."""
    step_s_per_kv_token: float
    """More for each token of context that the step reads, over all sequences."""
    prefill_s_per_token: float
    prefill_s_fixed: float
    """Of each request, before its first token, beside its tokens."""
    chunk_tokens: int
    """Tokens of one step, of prompts and decoding together."""
    kv_tokens: int
    """Tokens that fit the cache; a request is let in when its prompt and its answer fit."""
    after_s: float = 0.0
    """From the last token to the client."""
    source: str = ""
    """Where it comes from, for the report: `table: 8B on L40S` or `computed: ...`."""


def rates(serving: Serving, instance: InstanceType) -> Rates:
    """Raises InvalidInput when the weights cannot fit the GPUs of the replica, or nothing is known of either."""
    raise NotImplementedError


def weights_bytes(serving: Serving) -> int:
    """Of the model's files, to be loaded by each replica; 0 where nothing is known."""
    raise NotImplementedError


def kv_bytes_per_token(serving: Serving) -> int:
    raise NotImplementedError
