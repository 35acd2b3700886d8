"""How commands print: data to stdout, everything else to stderr."""

import json
import sys
from collections.abc import Collection, Sequence
from datetime import datetime

import click

Cell = str | int | float | None


def as_json(value: object) -> None:
    click.echo(json.dumps(value))


def note(text: str) -> None:
    """A word to the person, which no script reads."""
    click.echo(text, err=True)


def help_hint() -> str | None:
    """Where the person who asked the running command wrongly finds what can be asked."""
    context = click.get_current_context(silent=True)
    return None if context is None else f"`{context.command_path} --help` shows what can be asked"


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell]], *, right: Collection[str] = ()) -> None:
    """A table for people: drawn on a terminal, columns of plain text anywhere else. Columns of numbers, and those that
    `right` names, end at their right edge."""
    cells = [[text(cell) for cell in row] for row in rows]
    is_number = [
        header in right or (bool(rows) and all(isinstance(row[i], int | float | None) for row in rows))
        for i, header in enumerate(headers)
    ]
    if sys.stdout.isatty():
        _draw(headers, cells, is_number)
    else:
        click.echo(plain_table(headers, cells, is_number))


def plain_table(headers: Sequence[str], cells: Sequence[Sequence[str]], is_number: Sequence[bool]) -> str:
    widths = [max(len(row[i]) for row in [headers, *cells]) for i in range(len(headers))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        ).rstrip()
        for row in [headers, *cells]
    ]
    return "\n".join(lines)


def text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def money(usd: float) -> str:
    """US dollars with all the digits that count: they have nine decimals, and most amounts need two."""
    whole, _, decimals = f"{usd:.9f}".partition(".")
    return f"${whole}.{decimals.rstrip('0').ljust(2, '0')}"


def size(count: int) -> str:
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} B"


def fields(lines: Sequence[tuple[str, Cell]], width: int) -> None:
    """One thing, a line for each of its fields; `-` for what it does not have."""
    for name, value in lines:
        click.echo(f"{name:<{width}} {text(value or None)}")


def local_time(seconds: object) -> str:
    """Seconds since the epoch as a person here reads them; `-` for none, `?` where no calendar has them."""
    if not isinstance(seconds, int | float):
        return "-"
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "?"


def _draw(headers: Sequence[str], cells: Sequence[Sequence[str]], is_number: Sequence[bool]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD)
    for header, right in zip(headers, is_number, strict=True):
        drawn.add_column(header, justify="right" if right else "left")
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    Console().print(drawn)
