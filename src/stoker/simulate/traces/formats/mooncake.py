"""Mooncake's traces: milliseconds, and for each prompt the ids of its blocks of 512 tokens. Equal ids at the beginning
are an equal prefix."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stoker.simulate.trace import Trace
from stoker.simulate.traces.formats.base import Format, required, unused
from stoker.simulate.traces.making import Options, made
from stoker.simulate.traces.tables import Table, read
from stoker.simulate.traces.values import Blocks, Column, Count, Seconds

BLOCK_TOKENS = 512

_COLUMNS = (
    Column("timestamp", Seconds(per_second=1000)),
    Column("input_length", Count()),
    Column("output_length", Count()),
    Column("hash_ids", Blocks(), is_required=False),
)


def seen_before(prompts: Sequence[list[int]]) -> NDArray[np.int64]:
    """How many blocks at the beginning of each prompt an earlier one had. Every block stays known for ever."""
    known: set[int] = set()
    counts = np.zeros(len(prompts), dtype=np.int64)
    for place, blocks in enumerate(prompts):
        count = 0
        for block in blocks:
            if block not in known:
                break
            count += 1
        known.update(blocks)
        counts[place] = count
    return counts


def _read(table: Table, options: Options, _beside: Path) -> Trace:
    found = read(table, _COLUMNS, rising="timestamp", until=options.until_s)
    values: dict[str, NDArray[Any]] = found.values
    prompt = values["input_length"]
    cached = None
    notes = unused(table, _COLUMNS)
    if "hash_ids" in values:
        # The last block of a prompt may not be full.
        cached = np.minimum(seen_before(list(values["hash_ids"])) * BLOCK_TOKENS, prompt)
        notes = (*notes, "cached tokens: blocks of a prompt's beginning that any earlier prompt had")
    return made(table.name, values["timestamp"], prompt, values["output_length"], cached, notes=notes)


FORMAT = Format("Mooncake", required(_COLUMNS), _read)
