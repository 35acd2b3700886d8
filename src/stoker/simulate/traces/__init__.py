"""Requests over time: files in many formats, names of traces that ship, lines of text -> `Trace`.

    load        what a person names -> a trace; this module
    formats     one module each for what files look like, and the list of them
    tables      CSV and JSON lines, piece by piece, each fault with its line; `values` says what cells may hold
    synthetic   made up from `poisson:rate=5,...`
    shipped     what lies in `data`
    changing    cut, scaled, sped, merged
    making      columns -> `Trace`

Whatever is wrong is InvalidInput with `param="trace"`. docs/simulate/traces.md is the page for people.
"""

import difflib
import math
from dataclasses import replace
from pathlib import Path

from stoker.base.errors import InvalidInput
from stoker.simulate.trace import Trace
from stoker.simulate.traces import synthetic
from stoker.simulate.traces.changing import cut, merge, scaled, sped
from stoker.simulate.traces.formats import recognised, usage
from stoker.simulate.traces.making import Options
from stoker.simulate.traces.shipped import shipped
from stoker.simulate.traces.tables import Table, fault, head, opened
from stoker.simulate.traces.values import shown

__all__ = ["load", "merge", "shipped"]

_URLS = ("postgresql://", "postgres://", "postgresql+psycopg://", "sqlite:///")
_LEDGER = "ledger.sqlite"
_SPEC = "platform.yaml"


def load(
    what: str,
    *,
    scale: float = 1.0,
    speed: float = 1.0,
    seed: int = 0,
    limit_s: float | None = None,
    tokens_per_char: float = 0.25,
) -> Trace:
    """`what` is a shipped trace's name, a synthetic one such as `poisson:rate=5`, a file, a state directory, or the URL
    of a ledger, in this order. Of it the first `limit_s` seconds, as recorded; of these `scale` times as many requests;
    and then all times divided by `speed`. The same arguments give the same trace.

    Raises InvalidInput; and Unavailable for a ledger whose database does not answer.
    """
    for name, value in (("scale", scale), ("speed", speed), ("limit_s", limit_s), ("tokens_per_char", tokens_per_char)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InvalidInput(f"{name} is {value:g}; it is a number above 0", param=name)
    options = Options(scale=scale, seed=seed, tokens_per_char=tokens_per_char, until_s=limit_s)
    try:
        found = _found(what, options)
    except InvalidInput as error:
        if error.param in (None, "ledger.url"):  # the ledger's own
            error.param = "trace"
        raise
    return sped(found, speed)


def _found(what: str, options: Options) -> Trace:
    if not what.strip():
        raise _nothing(what)
    if what in shipped():
        return _shipped(what, options)
    if synthetic.is_synthetic(what):
        return cut(synthetic.trace(what, options), options.until_s)
    if what.startswith(_URLS):
        return _url(what, options)
    path = Path(what)
    try:
        is_there, is_directory = path.exists(), path.is_dir()
    except (OSError, ValueError):  # longer than names may be; a NUL in it
        is_there = is_directory = False
    if not is_there:
        raise _nothing(what)
    return _file(_ledger_of(path) if is_directory else path, options)


def _shipped(name: str, options: Options) -> Trace:
    which = shipped()[name]
    inner = replace(options, scale=options.scale * which.share)
    trace = replace(_text_file(which.path, inner), name=name)
    return replace(trace, notes=(f"{which.about}; {which.source}, {which.licence}", *trace.notes))


def _file(path: Path, options: Options) -> Trace:
    if not path.is_file():  # a pipe, which could not be read twice: first to see what it is
        raise fault(f"{path} is no regular file")
    beginning = head(path)
    if beginning.startswith(b"SQLite format 3\0"):
        return _recorded(usage.of_file(path), options, path.parent)
    if beginning.startswith(b"PAR1"):
        return _recorded(usage.of_parquet(path), options, path.parent)
    return _text_file(path, options)


def _text_file(path: Path, options: Options) -> Trace:
    with opened(path) as table:
        return _recorded(table, options, path.parent)


def _recorded(table: Table, options: Options, beside: Path) -> Trace:
    form = recognised(table)
    trace = cut(form.read(table, options, beside), options.until_s)
    return trace if form.makes else scaled(trace, options.scale, options)


def _url(url: str, options: Options) -> Trace:
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        if not path.is_file():
            raise fault(f"there is no file {path}")
        return _file(path, options)
    return _recorded(usage.of_url(url), options, Path())


def _ledger_of(state: Path) -> Path:
    """Of a state directory that keeps it where it is kept when nobody says otherwise."""
    if (state / _SPEC).is_file():
        from stoker import spec  # loads pydantic, which no other trace needs

        if spec.load(state / _SPEC).ledger.url:
            raise fault(
                f"the platform of {state} keeps its ledger in a database of its own (ledger.url)",
                "give that URL as the trace; a password can stand in PGPASSWORD",
            )
    ledger = state / _LEDGER
    if not ledger.is_file():
        raise fault(f"{state} is a directory without {_LEDGER}", "name a file, or the state directory of a platform")
    return ledger


def _nothing(what: str) -> InvalidInput:
    near = difflib.get_close_matches(what.partition(":")[0], [*shipped(), *synthetic.KINDS], n=1)
    return fault(
        f"there is no file and no shipped trace {shown(what)}" + (f": {near[0]}?" if near else ""),
        f"shipped: {', '.join(shipped())}; made up: {', '.join(f'{kind}:...' for kind in synthetic.KINDS)}",
    )
