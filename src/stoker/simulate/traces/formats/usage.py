"""What a running platform recorded: an export of `stoker usage export` (CSV, Parquet), its records as JSON lines, or
the ledger itself. Every request that was let in counts, whatever became of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stoker.meter import arrivals
from stoker.simulate.trace import Trace
from stoker.simulate.traces.formats.base import Format
from stoker.simulate.traces.making import MOST_MODELS, Options, made, picked, since_first
from stoker.simulate.traces.tables import Rows, Table, read
from stoker.simulate.traces.values import Column, Count, Moment, Text
from stoker.spec import AGENT_STEPS


def _columns() -> tuple[Column, ...]:
    return (
        Column("started_at", Moment(takes_epoch=True)),
        Column("prompt_tokens", Count()),
        Column("completion_tokens", Count()),
        Column("cached_tokens", Count(), default=0, is_required=False),
        Column("model", Text(MOST_MODELS), is_required=False),
        Column("tenant", Text(), is_required=False),
    )


def _read(table: Table, _options: Options, _beside: Path) -> Trace:
    found = read(table, _columns())
    values = _requests(found.values, found.texts.get("model", ()))
    # By the end, as they were written. Requests of one moment stay in that order.
    order = np.argsort(values["started_at"], kind="stable")
    at_s, began_at = since_first(values["started_at"][order])
    trace = made(
        table.name,
        np.zeros(len(at_s)),
        values["prompt_tokens"],
        values["completion_tokens"],
        values.get("cached_tokens"),
        model=values.get("model"),
        tenant=values.get("tenant"),
        models=found.texts.get("model", ()),
        tenants=found.texts.get("tenant", ()),
        began_at=began_at,
        notes=("what was recorded when it began: a task when a worker took it, not when it was submitted",),
    )
    return replace(picked(trace, order), at_s=at_s)


def _requests(values: Mapping[str, Any], models: Sequence[str]) -> Mapping[str, Any]:
    """Without the steps of agents' runs, which are records of their own and ask no model."""
    if AGENT_STEPS not in models:
        return values
    kept = values["model"] != list(models).index(AGENT_STEPS)
    return {name: column[kept] for name, column in values.items()}


FORMAT = Format("Stoker's usage", ("started_at", "prompt_tokens", "completion_tokens"), _read)


def of_parquet(path: Path) -> Table:
    columns = arrivals.parquet_columns(path)
    wanted = tuple(each for each in arrivals.COLUMNS if each in columns)
    return Rows(path.name, columns, arrivals.from_parquet(path, wanted))


def of_file(path: Path) -> Table:
    return Rows(path.name, arrivals.COLUMNS, arrivals.from_file(path))


def of_url(url: str) -> Table:
    return Rows("the ledger", arrivals.COLUMNS, arrivals.from_url(url))
