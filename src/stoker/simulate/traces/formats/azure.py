"""Azure's LLM inference traces of 2023: as published, and as seconds since the first row."""

from pathlib import Path

from stoker.simulate.trace import Trace
from stoker.simulate.traces.formats.base import Format, required, unused
from stoker.simulate.traces.making import Options, made, since_first
from stoker.simulate.traces.tables import Table, read
from stoker.simulate.traces.values import Column, Count, Moment, Seconds

_SECONDS = (Column("t_s", Seconds()), Column("input_tokens", Count()), Column("output_tokens", Count()))
_ORIGINAL = (
    # Published without a zone; which one it is does not matter for what comes after what.
    Column("TIMESTAMP", Moment(naive_is_utc=True)),
    Column("ContextTokens", Count()),
    Column("GeneratedTokens", Count()),
)


def _read(table: Table, options: Options, _beside: Path) -> Trace:
    found = read(table, _SECONDS, rising="t_s", until=options.until_s)
    at_s, prompt, completion = (found.values[each.name] for each in _SECONDS)
    return made(table.name, at_s, prompt, completion, notes=unused(table, _SECONDS))


def _read_original(table: Table, options: Options, _beside: Path) -> Trace:
    found = read(table, _ORIGINAL, rising="TIMESTAMP", until=options.until_s)
    moments, prompt, completion = (found.values[each.name] for each in _ORIGINAL)
    at_s, began_at = since_first(moments)
    notes = ("TIMESTAMP names no zone and is taken as UTC", *unused(table, _ORIGINAL))
    return made(table.name, at_s, prompt, completion, began_at=began_at, notes=notes)


FORMAT = Format("Azure 2023, rebased", required(_SECONDS), _read)
ORIGINAL = Format("Azure 2023", required(_ORIGINAL), _read_original)
