"""What a format is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stoker.simulate.trace import Trace
from stoker.simulate.traces.making import Options
from stoker.simulate.traces.tables import Table
from stoker.simulate.traces.values import Column


@dataclass(frozen=True, eq=False)
class Format:
    """`read` makes a trace of a table and the directory in which it lies. With `makes`, requests are made up from what
    the file says, and `Options.scale` is obeyed there."""

    about: str
    required: tuple[str, ...]
    read: Callable[[Table, Options, Path], Trace]
    makes: bool = False


def required(columns: Sequence[Column]) -> tuple[str, ...]:
    return tuple(each.name for each in columns if each.is_required)


def unused(table: Table, used: Sequence[Column]) -> tuple[str, ...]:
    """A note, where there is something to say: a misspelt column would be passed over in silence."""
    names = {each.name for each in used}
    left = [name for name in table.columns if name not in names]
    return (f"columns that are not used: {', '.join(left[:20])}",) if left else ()
