"""What `stoker train --check` shows of a run before it begins: its size, the guarantee at a notice, what it would
cost."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from stoker.cli import show

if TYPE_CHECKING:
    from stoker.train.planning import Guarantee, Option, Size

MOST_OPTIONS = 12


def show_size(size: "Size") -> None:
    from stoker.train.progress import short

    trained = 100.0 * size.trained / max(1, size.parameters)
    click.echo(
        f"{short(size.parameters)} parameters, of which {short(size.trained)} ({trained:.3g} %) are trained; "
        f"a checkpoint has {show.size(size.checkpoint_bytes)}"
    )


def show_guarantee(found: "Guarantee") -> None:
    click.echo(f"{'at a spot notice' if found.holds else 'WARNING'}: {found.words}")


def show_options(options: "Sequence[Option]", *, most: int = MOST_OPTIONS) -> None:
    """The cheapest, on demand and on spot: the guide's table, from the catalogue."""
    from stoker.train.progress import span

    if not options:
        click.echo("no machine of the catalogue holds it")
        return
    rows: list[list[show.Cell]] = [
        [
            f"{each.nodes} x {each.instance_type}",
            f"{each.gpus} {each.gpu}",
            each.capacity,
            each.region,
            span(3600.0 * each.hours),
            _interruptions(each.interruptions),
            None if each.usd is None else f"${each.usd:,.2f}",
            None if each.usd_per_million_tokens is None else f"${each.usd_per_million_tokens:.3g}",
            each.note,
        ]
        for each in options[:most]
    ]
    headers = ["machines", "GPUs", "capacity", "region", "time", "interruptions", "cost", "per million tokens", ""]
    show.table(headers, rows, right=["time", "interruptions", "cost", "per million tokens"])
    if len(options) > most:
        show.note(f"and {len(options) - most} more; --json has all")


def _interruptions(expected: float) -> str:
    """How often a machine is likely to be taken away meanwhile."""
    return "0" if not expected else f"{expected:.1f}" if expected >= 0.1 else "rare"


def options_as_dicts(options: "Sequence[Option]") -> list[dict[str, Any]]:
    from dataclasses import asdict

    return [asdict(each) for each in options]
