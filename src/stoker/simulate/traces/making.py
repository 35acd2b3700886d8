"""Columns -> `Trace`: what every format does in the end."""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.simulate.trace import ANY, Trace

Random = np.random.RandomState
"""The older generator of numpy: its streams are promised never to change, so a seed gives the same trace for ever."""

MOST_MODELS = 2**15 - 1


@dataclass(frozen=True)
class Options:
    """What a format may need beside its rows. Those that make requests up (`Format.makes`) obey `scale`."""

    scale: float = 1.0
    seed: int = 0
    tokens_per_char: float = 0.25
    until_s: float | None = None
    """Nothing at or after this time of the trace is wanted."""

    def random(self, purpose: str) -> Random:
        """A stream of its own for each purpose, so that one more draw here changes nothing there."""
        digest = hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()
        return Random(np.frombuffer(digest, dtype="<u4").astype(np.uint32))


def made(
    name: str,
    at_s: NDArray[np.float64],
    prompt: NDArray[Any],
    completion: NDArray[Any],
    cached: NDArray[Any] | None = None,
    *,
    model: NDArray[Any] | None = None,
    tenant: NDArray[Any] | None = None,
    models: tuple[str, ...] = (),
    tenants: tuple[str, ...] = (),
    began_at: datetime | None = None,
    notes: tuple[str, ...] = (),
) -> Trace:
    """A request has at least one token of each kind: an engine reads something, and decides at least once to stop.
    Where the source says 0, 1 is counted, and the notes say how often."""
    count = len(at_s)
    for what, column in (("prompt", prompt), ("completion", completion)):
        none = int(np.count_nonzero(column == 0))
        if none:
            notes = (*notes, f"{none} of {count} requests say 0 {what} tokens; each counts as 1")
    prompt, completion = np.maximum(prompt, 1), np.maximum(completion, 1)
    cached = np.zeros(count) if cached is None else np.minimum(cached, prompt)
    return Trace(
        name=name,
        at_s=at_s.astype(np.float64, copy=False),
        prompt_tokens=prompt.astype(np.int32),
        completion_tokens=completion.astype(np.int32),
        cached_tokens=cached.astype(np.int32),
        model=np.full(count, ANY, np.int16) if model is None else model.astype(np.int16),
        tenant=np.full(count, ANY, np.int32) if tenant is None else tenant.astype(np.int32),
        models=models,
        tenants=tenants,
        began_at=began_at,
        notes=notes,
    )


def since_first(moments: NDArray[np.int64]) -> tuple[NDArray[np.float64], datetime]:
    """Microseconds since the epoch, by time -> seconds since the first, and when that was."""
    return (moments - moments[0]) / 1e6, datetime.fromtimestamp(int(moments[0]) // 1_000_000, UTC).replace(
        microsecond=int(moments[0]) % 1_000_000
    )


def picked(trace: Trace, which: NDArray[Any]) -> Trace:
    """The requests at these places, or where this is true."""
    return replace(
        trace,
        at_s=trace.at_s[which],
        prompt_tokens=trace.prompt_tokens[which],
        completion_tokens=trace.completion_tokens[which],
        cached_tokens=trace.cached_tokens[which],
        model=trace.model[which],
        tenant=trace.tenant[which],
    )
