"""A training run as one page: a file that needs nothing else. Drawn as pages of `stoker simulate` are."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stoker.cli import show
from stoker.simulate.page_frame import whole
from stoker.simulate.page_plots import Plot, Row, Series, Values, bars, data, escaped, figure, gantt, shown, table
from stoker.train.progress import dollars, short, span
from stoker.train.record import CAUSES, Summary

if TYPE_CHECKING:
    from stoker.cli.runs import Found

MOST_POINTS = 600
MOST_LAUNCHES = 100
MEANINGS = {
    "useful": "steps that count",
    "start": "from a process's start to its first step",
    "restore": "reading a checkpoint",
    "recompute": "steps that were lost",
    "save": "training stalled by saves",
    "data": "waiting for data",
    "evaluate": "measuring the validation loss",
    "idle": "the rest",
}


def page(found: "Found") -> str:
    """The whole HTML text."""
    summary = found.summary
    plots = list(_plots(summary))
    sections = [
        ("Loss", "".join(figure(plot, i) for i, plot in enumerate(plots))),
        ("Time and money", _money(summary)),
        ("Launches", _launches(summary)),
        ("Checkpoints", _checkpoints(found)),
    ]
    there = [(name, body) for name, body in sections if body]
    body = "".join(
        f'<section id="s{i}" aria-labelledby="h{i}"><h2 id="h{i}">{escaped(name)}</h2>{text}</section>'
        for i, (name, text) in enumerate(there)
    )
    links = "".join(f'<li><a href="#s{i}">{escaped(name)}</a></li>' for i, (name, _) in enumerate(there))
    return whole(
        f"stoker runs: {found.name}",
        f'{_head(found)}<nav aria-label="Sections"><ul>{links}</ul></nav><main>{body}</main>'
        f"<footer>Made by <code>stoker runs show</code>, {escaped(show.local_time(found.now))}.</footer>",
        data(plots),
    )


def _head(found: "Found") -> str:
    summary = found.summary
    last = list(summary.losses.values())[-1] if summary.losses else None
    paid_s = sum(summary.seconds.values())
    tiles = [
        ("Steps", f"{summary.steps:,}", f"of {summary.steps_of_all:,}", False),
        ("Loss", "-" if last is None else f"{last:.4g}", _validation(summary), last is not None and math.isnan(last)),
        ("Goodput", _percent(summary.goodput), f"of {span(paid_s)} that were paid for", (summary.goodput or 1.0) < 0.8),
        (
            "Cost",
            "-" if summary.usd is None else dollars(summary.usd),
            "no price is known" if summary.usd is None else _unpriced(summary),
            summary.usd is not None and bool(summary.unpriced_s),
        ),
        (
            "Lost work",
            span(summary.lost_work_s),
            f"{summary.lost_steps:,} steps were done again, or are lost",
            summary.lost_steps > 0,
        ),
        ("Launches", f"{summary.launches:,}", f"{len(summary.interruptions):,} interruptions", False),
        ("Tokens", short(summary.tokens), f"{short(_rate(summary))} per second of useful time", False),
        ("Checkpoints", f"{len(found.checkpoints):,}", f"{summary.checkpoints:,} were written", bool(found.trouble)),
    ]
    drawn = "".join(
        f"<div{' class=bad' * bad}><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd><dd>{escaped(more)}</dd></div>"
        for name, value, more, bad in tiles
    )
    told = "".join(
        f"<li>{escaped(each)}</li>" for each in [*summary.interruptions[-10:], *filter(None, [found.trouble])]
    )
    return (
        f'<header><h1>{escaped(found.name)}</h1><p class="muted">{escaped(summary.state)}; {escaped(found.url)}</p>'
        f'<dl class="tiles">{drawn}</dl>' + (f'<ul class="telling">{told}</ul>' if told else "") + "</header>"
    )


def _plots(summary: Summary) -> "Sequence[Plot]":
    if not summary.losses:
        return []
    steps, losses = thinned(list(summary.losses), list(summary.losses.values()))
    end = float(max(summary.steps_of_all, steps[-1]))
    joined = math.ceil(len(summary.losses) / len(steps))
    what = "Loss of each step" if joined == 1 else f"Loss, the mean of up to {joined} steps"
    found = [Plot("Training loss by step", what, steps, end, [Series("loss", losses, 0, "line")], "rate", axis="count")]
    if len(summary.validation) > 1:
        at, values = thinned(list(summary.validation), list(summary.validation.values()))
        series = [Series("validation loss", values, 1, "line")]
        found.append(
            Plot("Validation loss by step", "Loss on the validation data", at, end, series, "rate", axis="count")
        )
    return found


def thinned(steps: Sequence[int], losses: Sequence[float]) -> tuple[list[float], Values]:
    """At most MOST_POINTS: neighbours become one, at the step of the last, with the mean of those that are numbers."""
    count = min(len(steps), MOST_POINTS)
    at: list[float] = []
    values: list[float | None] = []
    for i in range(count):
        begin, end = i * len(steps) // count, (i + 1) * len(steps) // count
        known = [each for each in losses[begin:end] if math.isfinite(each)]
        at.append(float(steps[end - 1]))
        values.append(sum(known) / len(known) if known else None)
    return at, values


def _money(summary: Summary) -> str:
    times = {
        name: summary.seconds.get(name, 0.0) for name in CAUSES
    }  # all, so that each has its colour of the timeline
    if not any(times.values()):
        return ""
    cards = [bars("Where the time went", times, unit="seconds")]
    if summary.usd:
        cards.append(bars("Where the money went", {name: summary.usd_by_cause.get(name, 0.0) for name in times}))
    meant = "".join(f"<li>{escaped(name)}: {escaped(MEANINGS[name])}</li>" for name in times)
    drawn = "".join(f'<div class="card">{each}</div>' for each in cards)
    return f'<div class="pair">{drawn}</div><ul class="plain muted">{meant}</ul>'


def _launches(summary: Summary) -> str:
    if not summary.lives:
        return ""
    kept = summary.lives[-MOST_LAUNCHES:]
    rows = [
        Row(
            name=f"launch {each.epoch}",
            detail=f"{show.local_time(each.began_at)}, steps {each.from_step} to {each.to_step}",
            phases=[(name, each.seconds[name]) for name in CAUSES if each.seconds.get(name)],
            open_s=None,
            told=f"{span(each.ended_at - each.began_at)}, {each.state}",
        )
        for each in kept
    ]
    cells = [
        [
            each.epoch,
            show.local_time(each.began_at),
            ", ".join(sorted({str(node.get("type") or "-") for node in each.nodes})) or "-",
            f"{each.state}: {each.why}" if each.why else each.state,
            shown(each.ended_at - each.began_at, "seconds"),
            "-" if each.usd is None else dollars(each.usd),
        ]
        for each in kept
    ]
    told = f"<p>The newest {len(kept)} of {len(summary.lives)}.</p>" if len(kept) < len(summary.lives) else ""
    listed = table(
        ["launch", "began", "machines", "ended", "lasted", "cost"], cells, words=(0, 1, 2, 3), name="Launches"
    )
    return f'{told}<div class="card">{gantt(rows, CAUSES)}</div><div class="card">{listed}</div>'


def _checkpoints(found: "Found") -> str:
    if not found.checkpoints:
        return ""
    rows = [
        [
            each.name,
            show.local_time(each.created_at),
            "pinned" if each.pinned else "",
            f"{each.step:,}",
            f"{each.size_bytes / 1e6:,.1f} MB",
            "-" if each.loss is None else f"{each.loss:.4g}",
        ]
        for each in reversed(found.checkpoints)
    ]
    heads = ["checkpoint", "when", "", "step", "size", "validation"]
    return f'<div class="card">{table(heads, rows, words=(0, 1, 2), name="Checkpoints, the newest first")}</div>'


def _validation(summary: Summary) -> str:
    return f"validation {list(summary.validation.values())[-1]:.4g}" if summary.validation else "of the last step"


def _unpriced(summary: Summary) -> str:
    return f"without {span(summary.unpriced_s)} that have no price" if summary.unpriced_s else "of all machines"


def _rate(summary: Summary) -> float:
    return summary.tokens / max(summary.seconds.get("useful", 0.0), 1e-9)


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{100 * part:.0f} %"
