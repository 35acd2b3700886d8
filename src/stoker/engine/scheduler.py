"""What one step of the engine computes: which waiting requests join, and how much of which prompt.

A pure decision; `Runner` acts on it. First come, first served: a request joins as soon as a slot is free, and the
prompt that began first is computed first. While others are generating, a step takes a bounded piece of prompt, so that
a long prompt delays their next token by no more than that piece.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stoker.nn.decoder import BLOCK


@dataclass(frozen=True)
class Limits:
    max_running: int
    """Requests in the batch at once; each has a slot of the key-value cache."""
    max_waiting: int
    """Requests that may wait for a slot; one more is refused with 503."""
    busy_prefill: int = 256
    """Prompt tokens in a step that also generates."""
    idle_prefill: int = 1024
    """Prompt tokens in a step that does not."""
    busy_embedding: int = 64
    """Tokens of texts to embed in a step that also generates, prompts aside."""
    idle_embedding: int = 512
    """Tokens of texts to embed in a step that does nothing else."""


@dataclass(frozen=True)
class Plan:
    join: int
    """So many of the waiting requests, from the front, get a slot now."""
    chunks: list[tuple[int, int]]
    """(which of the unfinished prompts, how many tokens of it); an index past the joined ones never occurs."""


def plan(limits: Limits, generating: int, unfinished: Sequence[int], waiting: Sequence[int]) -> Plan:
    """`unfinished`: tokens left of each prompt that has a slot, oldest first. `waiting`: length of each prompt that has
    none, oldest first. Indices of `chunks` count through `unfinished` and then the joining ones.
    """
    join = min(len(waiting), limits.max_running - generating - len(unfinished))
    budget = limits.busy_prefill if generating else limits.idle_prefill
    chunks: list[tuple[int, int]] = []
    for index, left in enumerate([*unfinished, *waiting[: max(join, 0)]]):
        count = left if left <= budget else budget // BLOCK * BLOCK
        if count == 0:
            break
        chunks.append((index, count))
        budget -= count
    return Plan(max(join, 0), chunks)
