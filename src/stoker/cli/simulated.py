"""The report of `stoker simulate` in a terminal: what a person reads in twenty seconds."""

import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from stoker.base.terminal import printable
from stoker.cli import show

if TYPE_CHECKING:
    from stoker.simulate.comparison import Row, Unit
    from stoker.simulate.result import Result

_LEVELS = " ▁▂▃▄▅▆▇█"
_COLUMNS = 40
_MOST_MODELS = 12
_MOST_NOTES = 6


def print_report(result: "Result", figures: Mapping[str, Any]) -> None:
    """Requests and latencies, replicas over time, nodes, money, and what is worth knowing."""
    _heading(_summary(result, figures))
    _latencies(figures)
    _over_time(result, figures)
    _nodes(figures)
    _money(result)
    _worth_knowing(result, figures)


def print_comparison(
    rows: Sequence["Row"], first: str, second: str, unlike: Sequence[str] = (), notes: Sequence[str] = ()
) -> None:
    """`notes` are those of the second set."""
    from stoker.simulate.page import change
    from stoker.simulate.page_plots import shown

    _heading("\nCompared")
    heads = ["", printable(first), printable(second), "change"]
    _table(
        heads,
        [[row.name, shown(row.first, row.unit), shown(row.second, row.unit), change(row)] for row in rows],
        right=heads[1:],
    )
    for each in [*unlike, *notes[:_MOST_NOTES]]:
        click.echo(f"- {printable(each)}")
    if len(notes) > _MOST_NOTES:
        left = len(notes) - _MOST_NOTES
        click.echo(f"- {printable(second)}: {left} more note{'s' * (left != 1)}: --json and --html have all")


def print_seeds(seeds: Mapping[str, Any], first: str, second: str = "") -> None:
    """What each figure was at the lowest, in the middle and at the highest. `second` names the other manifests."""
    from stoker.simulate import chance

    last = seeds["first_seed"] + seeds["count"] - 1
    _heading(f"\n{seeds['count']} runs, of the seeds {seeds['first_seed']} to {last}")
    tables = [(first if second else "", seeds)]
    if second:
        tables += [(second, seeds["compared"]), (f"{second} less {first}, seed by seed", seeds["differences"])]
    _table(
        ["", "lowest", "median", "highest"],
        [
            row
            for name, ranges in tables
            for row in ([[printable(name), "", "", ""]] if name else []) + chance.rows(ranges, _of_chance)
        ],
        right=["lowest", "median", "highest"],
    )


def _of_chance(value: float | None, unit: "Unit | None") -> str:
    from stoker.simulate.page_plots import shown

    if value is None:
        return "-"
    if unit == "count":
        return f"{value:g}"  # a median may be a half
    return f"{value:.2f}" if unit is None else shown(value, unit)


def sparkline(values: Sequence[float], most: float | None = None) -> str:
    """The highest of each stretch, in at most 40 columns; anything above 0 is seen."""
    if not len(values):
        return ""
    columns = min(_COLUMNS, len(values))
    edges = [i * len(values) // columns for i in range(columns + 1)]
    highest = [max(values[a:b]) for a, b in pairwise(edges)]
    top = max(highest) if most is None else most
    return "".join(_LEVELS[max(int(each > 0), round(8 * each / top)) if top > 0 else 0] for each in highest)


def _summary(result: "Result", figures: Mapping[str, Any]) -> str:
    from stoker.meter.money import spoken
    from stoker.simulate import moments
    from stoker.simulate.page import KIND_NAMES

    requests, bill = figures["requests"], figures["cost_usd"]
    what = f"{requests['arrived']:,} requests of {printable(result.trace.name)} over {moments.span(result.ended_at_s)}"
    return (
        f"{what}: {requests['served']:,} served, "
        f"{requests['rejected']:,} rejected, {requests['in_flight']:,} in flight; {spoken(bill['total'])}, "
        f"{KIND_NAMES[result.kind]}"
    )


def _latencies(figures: Mapping[str, Any]) -> None:
    """Three percentiles to a column, so that it fits a terminal."""
    keys = (("ttft_s", "first token"), ("tpot_s", "per token"), ("e2e_s", "whole answer"))
    models = figures["requests"]["by_model"]
    heads = ["model", "arrived", "served", *(f"{words} p50 p95 p99" for _, words in keys)]

    def row(name: str, requests: Mapping[str, Any], of: Mapping[str, Any]) -> list[show.Cell]:
        latencies = ["".join(f"{short(of[key][p]):>7}" for p in ("p50", "p95", "p99")).strip() for key, _ in keys]
        return [printable(name), f"{requests['arrived']:,}", f"{requests['served']:,}", *latencies]

    rows = [
        row(name, models[name], {key: figures[key]["by_model"][name] for key, _ in keys})
        for name in list(models)[:_MOST_MODELS]
    ]
    rows.append(row("all", figures["requests"], figures))
    _table(heads, rows, right=heads[1:])


def short(seconds: float | None) -> str:
    """`18ms`, `4.14s`, `1:08`, `2:03:04`"""
    from stoker.simulate import moments

    if seconds is None:
        return "-"
    if seconds < 59.95:
        return moments.span(seconds).replace(" ", "")
    return moments.clock(seconds).removeprefix("0:").removeprefix("0")


def _over_time(result: "Result", figures: Mapping[str, Any]) -> None:
    """Replicas that were ready, and requests that waited, each with its highest value."""
    from stoker.simulate.page_series import Steps

    steps = Steps(result)
    replicas = figures["replicas"]
    drawn = list(replicas)[:_MOST_MODELS]
    rows: list[list[show.Cell]] = []
    for name in drawn:
        of = replicas[name]
        ready, waiting = (steps.highest(each[name]) for each in (result.timeline.ready, result.timeline.waiting))
        made = f"{of['mean']:.2f} on the mean, {of['cold_starts']} made"
        rows.append([printable(name), "ready", f"{of['peak']}", sparkline(ready), made])
        if any(waiting):
            rows.append(["", "waiting", f"{max(waiting):,.0f}", sparkline(waiting), ""])
    _table(["replicas", "", "most", "over time", ""], rows, right=["most"])
    if len(replicas) > len(drawn):
        click.echo(f"and {len(replicas) - len(drawn)} more models: --json and --html have all")


def _nodes(figures: Mapping[str, Any]) -> None:
    from stoker.meter.money import spoken
    from stoker.simulate import moments

    nodes = figures["nodes"]
    rows = [
        [printable(name), of["peak"], moments.span(of["seconds"]), spoken(of["usd"])]
        for name, of in sorted(nodes["by_type"].items(), key=lambda each: -each[1]["usd"])
    ]
    rows.append(["all", nodes["peak"], moments.span(nodes["seconds"]), spoken(figures["cost_usd"]["total"])])
    _table(["nodes", "most", "time", "dollars"], rows, right=["time", "dollars"])


def _money(result: "Result") -> None:
    """Lines of cents that sum to the total."""
    from stoker.meter.money import shown_by, spoken

    costs = result.costs
    for name, parts in (
        ("by model", costs.by_model),
        ("by tenant", costs.by_tenant),
        ("by capacity", costs.by_capacity),
    ):
        shown = list(shown_by(parts).items())
        told = [f"{printable(each)} {spoken(usd)}" for each, usd in shown[:6]]
        if len(shown) > len(told):
            told.append(f"{len(shown) - len(told)} more {spoken(sum(usd for _, usd in shown[6:]))}")
        click.echo(f"{name:<12} {'  '.join(told)}")


def _worth_knowing(result: "Result", figures: Mapping[str, Any]) -> None:
    from stoker.meter.money import spoken
    from stoker.simulate import chance, telling

    bill = figures["cost_usd"]
    prices = {"per hour": bill["per_hour"], "per 1,000 requests": bill["per_1000_requests"]}
    prices["per million tokens"] = bill["per_million_tokens"]["all"]
    click.echo(
        f"{'prices':<12} {'  '.join(f'{spoken(usd)} {name}' for name, usd in prices.items() if usd is not None)}"
    )
    lines = telling.lines(result, figures)
    notes = list(result.notes)[: max(0, _MOST_NOTES - len(lines))]
    click.echo("")
    for each in [*([] if "seeds" in figures else [chance.ONE_RUN]), *lines, *notes]:
        click.echo(f"- {printable(each)}")
    left = len(result.notes) - len(notes)
    if left:
        click.echo(f"- {left} more note{'s' * (left != 1)}: --json and --html have all")


def _table(headers: Sequence[str], rows: Sequence[Sequence[show.Cell]], *, right: Sequence[str]) -> None:
    """A drawn one brings its own distance."""
    show.table(headers, rows, right=right)
    if not sys.stdout.isatty():
        click.echo("")


def _heading(text: str) -> None:
    click.echo(f"{text}\n")
