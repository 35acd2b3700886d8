"""Stoker's own schema, documented in docs/simulate/traces.md: CSV or JSON lines, by time."""

from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stoker.simulate.trace import Trace
from stoker.simulate.traces.formats.base import Format, required, unused
from stoker.simulate.traces.making import MOST_MODELS, Options, made, since_first
from stoker.simulate.traces.tables import Columns, Table, at, read
from stoker.simulate.traces.values import Column, Count, Moment, Seconds, Text

_SESSION = Column("session", Text(), is_required=False)
"""Taken and not used: what a session shares is in `cached_tokens`."""


def _columns(time: Column) -> tuple[Column, ...]:
    return (
        time,
        Column("prompt_tokens", Count()),
        Column("completion_tokens", Count()),
        Column("cached_tokens", Count(), default=0, is_required=False),
        # New ones for each reading: they collect the names.
        Column("model", Text(MOST_MODELS), is_required=False),
        Column("tenant", Text(), is_required=False),
    )


def _with_seconds() -> tuple[Column, ...]:
    return _columns(Column("at_s", Seconds()))


def _with_moments() -> tuple[Column, ...]:
    return _columns(Column("timestamp", Moment()))


def _read(table: Table, options: Options, _beside: Path) -> Trace:
    columns = _with_seconds()
    found = read(table, columns, rising="at_s", until=options.until_s)
    return _replayed(table, found, found.values["at_s"], unused(table, (*columns, _SESSION)))


def _read_moments(table: Table, options: Options, _beside: Path) -> Trace:
    columns = _with_moments()
    found = read(table, columns, rising="timestamp", until=options.until_s)
    at_s, began_at = since_first(found.values["timestamp"])
    return _replayed(table, found, at_s, unused(table, (*columns, _SESSION)), began_at)


def _replayed(
    table: Table,
    found: Columns,
    at_s: NDArray[np.float64],
    notes: tuple[str, ...],
    began_at: datetime | None = None,
) -> Trace:
    values = found.values
    cached = values.get("cached_tokens")
    if cached is not None and (cached > values["prompt_tokens"]).any():
        place = int(np.argmax(cached > values["prompt_tokens"]))
        raise at(
            table,
            int(found.lines[place]),
            f"cached_tokens is {cached[place]}, and prompt_tokens, which includes them, only "
            f"{values['prompt_tokens'][place]}",
        )
    return made(
        table.name,
        at_s,
        values["prompt_tokens"],
        values["completion_tokens"],
        cached,
        model=values.get("model"),
        tenant=values.get("tenant"),
        models=found.texts.get("model", ()),
        tenants=found.texts.get("tenant", ()),
        began_at=began_at,
        notes=notes,
    )


FORMAT = Format("Stoker's own", required(_with_seconds()), _read)
WITH_MOMENTS = Format("Stoker's own", required(_with_moments()), _read_moments)
