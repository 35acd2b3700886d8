"""Plots as text: inline SVG for what is drawn, HTML for what is read.

The drawing is stretched to the width there is, and letters would be, too: so every label is HTML beside it, placed in
per cent. All plots over time have one axis, from 0 to the run's end; others count from 0 on.
Everything written passes through `escaped`.
"""

import html
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stoker.meter import money
from stoker.simulate import moments

Unit = Literal["count", "seconds", "usd", "rate"]
Shape = Literal["steps", "line", "area"]
Axis = Literal["time", "count"]
"""What `Plot.at` is: seconds, or the number of something, such as a step of training."""
WIDTH, HEIGHT = 1000, 200
_TABLE_ROWS = 48
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""With those that turn the direction of writing."""
_X_STEPS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400, 172800, 432000, 864000)

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Series:
    """`colour` is a number of the palette; None in `values` is a gap."""

    name: str
    values: Values
    colour: int
    shape: Shape = "steps"
    is_dashed: bool = False
    is_pale: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """`at` are the moments of all series. A stack's series are drawn one on top of the other. `mean` says what a value
    stands for, where steps were joined."""

    title: str
    what: str
    at: Sequence[float]
    end: float
    series: Sequence[Series]
    unit: Unit = "count"
    is_stack: bool = False
    may_be_log: bool = False
    axis: Axis = "time"


def escaped(text: object) -> str:
    """Neither markup nor control characters: those are shown as escapes."""
    return html.escape(_CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text)), quote=True)


def shown(value: float | None, unit: Unit) -> str:
    if value is None:
        return "-"
    if unit == "seconds":
        return moments.span(value)
    if unit == "usd":
        return money.spoken(value)
    return f"{value:,.0f}" if unit == "count" else f"{value:,.3g}"


# -- over time --


def figure(plot: Plot, number: int) -> str:
    """One plot with its legend, which is where the values under the pointer are told, and its table."""
    scale = _scale(plot)
    drawn = _stacked(plot, scale) if plot.is_stack else [_drawn(each, plot, scale) for each in plot.series]
    grid = "".join(
        f'<path class="grid" d="M0 {_n(HEIGHT * (1 - at))}H{WIDTH}" vector-effect="non-scaling-stroke"/>'
        for at, _ in scale.ticks
    )
    name = f"plot-{number}"
    return (
        f'<figure class="plot" id="{name}" data-plot="{number}" tabindex="0" aria-label="{escaped(plot.title)}">'
        f'<figcaption><h3>{escaped(plot.title)}</h3><ul class="legend">{_legend(plot)}</ul></figcaption>'
        f'<div class="frame"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-labelledby="{name}-t {name}-d"><title id="{name}-t">{escaped(plot.title)}</title>'
        f'<desc id="{name}-d">{escaped(plot.what)}</desc>{grid}{"".join(drawn)}</svg>'
        f'{_y_labels(scale)}{_x_labels(plot.end, plot.axis)}<div class="cross" hidden></div></div>'
        f"<details><summary>{escaped(plot.what)} <u>Figures</u></summary>{_table(plot)}</details></figure>"
    )


def data(plots: Sequence[Plot]) -> list[dict[str, Any]]:
    """What the pointer reads: of each plot its moments and values."""
    return [
        {
            "unit": plot.unit,
            **({"axis": plot.axis} if plot.axis != "time" else {}),
            "end": round(plot.end, 3),
            "at": [round(at, 1) for at in plot.at],
            "values": [_thin(s.values) for s in plot.series],
        }
        for plot in plots
    ]


@dataclass(frozen=True, slots=True)
class _Scale:
    place: Callable[[float], float]
    """0 is the bottom, 1 the top."""
    ticks: Sequence[tuple[float, str]]


def _scale(plot: Plot) -> _Scale:
    values = _totals(plot) if plot.is_stack else [v for each in plot.series for v in each.values if v is not None]
    most = max(values, default=0.0)
    positive = [each for each in values if each > 0]
    if plot.may_be_log and positive and most / min(positive) > 50:
        return _log_scale(min(positive), most, plot.unit)
    step = _nice(most / 4, whole=plot.unit == "count") if most > 0 else 1.0
    top = step * max(1, math.ceil(most / step - 1e-9))
    ticks = [(i * step / top, _label(i * step, plot.unit)) for i in range(round(top / step) + 1)]
    return _Scale(lambda value: value / top, ticks)


def _log_scale(least: float, most: float, unit: Unit) -> _Scale:
    low, high = math.floor(math.log10(least) + 1e-9), math.ceil(math.log10(most) - 1e-9)
    low = max(low, high - 5)
    ticks = [((each - low) / (high - low), _label(10.0**each, unit)) for each in range(low, high + 1)]
    return _Scale(lambda value: max(0.0, (math.log10(max(value, 10.0**low)) - low) / (high - low)), ticks)


def _nice(step: float, *, whole: bool) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    found = next((each * power for each in (1, 2, 5) if each * power >= step - 1e-12), 10 * power)
    return max(1.0, found) if whole else found


def _label(value: float, unit: Unit) -> str:
    if unit == "usd":
        return f"${value:,.10g}"
    if unit != "seconds":
        return f"{value:,.10g}" if value < 10_000 else f"{value / 1000:,.10g}k"
    if value == 0 or value >= 1:
        return f"{value:,.10g} s"
    return f"{value * 1000:.10g} ms"


def _drawn(series: Series, plot: Plot, scale: _Scale) -> str:
    line = _path(series, plot, scale.place)
    if not line:
        return ""
    kind = f"c{series.colour}" + " dashed" * series.is_dashed
    below = f'<path class="area c{series.colour}" d="{_area(series, plot, scale.place)}"/>'
    return f"{below * (series.shape == 'area')}{_line(kind, line)}"


def _line(kind: str, path: str) -> str:
    return f'<path class="line {kind}" d="{path}" vector-effect="non-scaling-stroke"/>'


def _path(series: Series, plot: Plot, place: Callable[[float], float]) -> str:
    """Steps hold their value until the next moment; a line goes straight to it."""
    parts: list[str] = []
    is_open, last = False, ""
    for at, value in zip(plot.at, series.values, strict=True):
        if value is None:
            if is_open and series.shape != "line":
                parts.append(f"H{_x(at, plot.end)}")
            is_open = False
            continue
        x, y = _x(at, plot.end), _n(HEIGHT * (1 - place(value)))
        if not is_open:
            parts.append(f"M{x} {y}")
            if series.shape == "line":
                parts.append("h.1")
        elif series.shape == "line":
            parts.append(f"L{x} {y}")
        elif y != last:
            parts.append(f"H{x}V{y}")
        is_open, last = True, y
    if is_open and series.shape != "line":
        parts.append(f"H{WIDTH}")
    return "".join(parts)


def _area(series: Series, plot: Plot, place: Callable[[float], float]) -> str:
    """Below steps without gaps."""
    values = [0.0 if each is None else each for each in series.values]
    solid = Series(series.name, values, series.colour)
    return f"{_path(solid, plot, place)}V{HEIGHT}H{_x(plot.at[0], plot.end)}Z" if values else ""


def _stacked(plot: Plot, scale: _Scale) -> list[str]:
    """Each band between the sum below it and the sum with it."""
    below = [0.0] * len(plot.at)
    drawn = []
    for series in plot.series:
        above = [base + (value or 0.0) for base, value in zip(below, series.values, strict=True)]
        if any(value for value in series.values):
            kind = f"c{series.colour}" + " pale" * series.is_pale
            drawn.append(f'<path class="band {kind}" d="{_band(plot, below, above, scale)}"/>')
        below = above
    return drawn


def _band(plot: Plot, below: Sequence[float], above: Sequence[float], scale: _Scale) -> str:
    """There along the upper edge, back along the lower one."""
    edges = [*plot.at[1:], plot.end]
    there = _path(Series("", above, 0), plot, scale.place)
    back, last = [], ""
    for i in range(len(plot.at) - 1, -1, -1):
        y = _n(HEIGHT * (1 - scale.place(below[i])))
        if y != last:
            back.append(f"H{_x(edges[i], plot.end)}V{y}")
        last = y
    return f"{there}{''.join(back)}H{_x(plot.at[0], plot.end)}Z"


def _totals(plot: Plot) -> list[float]:
    return [sum(value or 0.0 for value in column) for column in zip(*(s.values for s in plot.series), strict=True)]


def _x(at: float, end: float) -> str:
    return _n(WIDTH * min(max(at / end if end else 0.0, 0.0), 1.0))


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _y_labels(scale: _Scale) -> str:
    return "".join(
        f'<span class="y" style="top:{_n(100 * (1 - at))}%" aria-hidden="true">{escaped(text)}</span>'
        for at, text in scale.ticks
    )


def _x_labels(end: float, axis: Axis) -> str:
    """At most eight; every other one goes where the page is narrow."""
    if axis == "count":
        step = _nice(max(end, 1.0) / 8, whole=True)
    else:
        step = next((each for each in _X_STEPS if end / each <= 8), max(1.0, end / 8))
    marks = [i * step for i in range(int(end // step) + 1)]
    return "".join(
        f'<span class="x{" odd" * (i % 2)}{" last" * (at > 0.97 * end)}" style="left:{_n(100 * at / end)}%" '
        f'aria-hidden="true">{escaped(moments.clock(at)[:-3] if axis == "time" else f"{at:,.0f}")}</span>'
        for i, at in enumerate(marks)
        if end
    )


def _legend(plot: Plot) -> str:
    return "".join(
        f'<li><i class="key c{each.colour}{" dashed" * each.is_dashed}{" pale" * each.is_pale}"></i>'
        f"{escaped(each.name)} <output></output></li>"
        for each in plot.series
    )


def _table(plot: Plot) -> str:
    """Every so many-th moment, so that there are at most 48."""
    every = max(1, math.ceil(len(plot.at) / _TABLE_ROWS))
    rows = [
        [
            moments.clock(plot.at[i]) if plot.axis == "time" else f"{plot.at[i]:,.0f}",
            *(shown(each.values[i], plot.unit) for each in plot.series),
        ]
        for i in range(0, len(plot.at), every)
    ]
    return table(["at" if plot.axis == "time" else "number", *(each.name for each in plot.series)], rows)


def _thin(values: Values) -> list[float | int | None]:
    return [None if v is None else int(v) if v == int(v) else float(f"{v:.4g}") for v in values]


# -- everything else --


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    words: Collection[int] = (0,),
    name: str = "",
    groups: Sequence[tuple[str, int]] = (),
) -> str:
    """Columns of `words` stand to the left, numbers to the right. `groups` are headers over so many columns each. It
    scrolls by itself where it is wider than the page."""
    over = "".join(f'<th scope="colgroup" colspan="{span}">{escaped(each)}</th>' for each, span in groups)
    head = "".join(f'<th scope="col"{_kind(i, words)}>{escaped(each)}</th>' for i, each in enumerate(headers))
    body = "".join(f"<tr>{''.join(_cell(i, cell, words) for i, cell in enumerate(row))}</tr>" for row in rows)
    caption = f"<caption>{escaped(name)}</caption>" if name else ""
    return (
        f'<div class="scroll" tabindex="0"><table>{caption}<thead>{f"<tr>{over}</tr>" if groups else ""}<tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _cell(column: int, cell: object, words: Collection[int]) -> str:
    if column == 0:
        return f'<th scope="row"><span>{escaped(cell)}</span></th>'
    return f"<td{_kind(column, words)}>{escaped(cell)}</td>"


def _kind(column: int, words: Collection[int]) -> str:
    return "" if column in words else ' class="number"'


def bars(title: str, parts: Mapping[str, float], note: str = "", *, unit: Unit = "usd") -> str:
    """Parts of a sum, each with its share of it; a table that is drawn."""
    total = sum(parts.values())
    most = max(parts.values(), default=0.0) or 1.0
    rows = "".join(
        f'<tr><th scope="row"><span>{escaped(name)}</span></th><td class="bar">'
        f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="c{_colour(name, i)}" width="{_n(100 * max(usd, 0) / most)}" height="10"/>'
        f'</svg></td><td class="number">{escaped(shown(usd, unit))}</td>'
        f'<td class="number muted">{100 * usd / total if total else 0:.0f} %</td></tr>'
        for i, (name, usd) in enumerate(parts.items())
    )
    told = f'<p class="muted">{escaped(note)}</p>' if note else ""
    head = f'<div class="bars"><table class="wide"><caption>{escaped(title)}</caption>'
    return f"{head}<tbody>{rows}</tbody></table>{told}</div>"


def _colour(name: str, place: int) -> int | str:
    """What is nobody's is grey."""
    return "grey" if name.startswith("(") else place % 8


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the timeline of scale-ups. `phases` without those that did not end; `open_s` is how long the one that
    did not has lasted."""

    name: str
    detail: str
    phases: Sequence[tuple[str, float]]
    open_s: float | None
    told: str


def gantt(rows: Sequence[Row], phases: Sequence[str]) -> str:
    """All rows begin at 0: the moment at which the replica was asked for is in its label. The axis is for those that
    came to their end; one that did not goes to its edge at most, or it would leave no room for the others."""
    ended = [sum(spent for _, spent in row.phases) for row in rows if row.open_s is None]
    waited = [sum(spent for _, spent in row.phases) + (row.open_s or 0.0) for row in rows]
    most = 1.05 * max(ended or waited, default=0.0) or 1.0
    keys = "".join(f'<li><i class="key c{i}"></i>{escaped(name)}</li>' for i, name in enumerate(phases))
    lines = "".join(_gantt_row(row, phases, most) for row in rows)
    step = _nice_time(most)
    axis = "".join(
        f'<span style="left:{_n(100 * i * step / most)}%">{escaped(_minutes(i * step))}</span>'
        for i in range(int(most // step) + 1)
        if i * step <= 0.94 * most
    )
    return (
        f'<ul class="legend">{keys}<li><i class="key open"></i>not finished</li></ul>'
        f'<div class="gantt" role="list">{lines}<div class="axis" aria-hidden="true"><div>{axis}</div></div></div>'
    )


def _gantt_row(row: Row, phases: Sequence[str], most: float) -> str:
    x, drawn = 0.0, []
    for name, seconds in row.phases:
        wide = min(1000 * seconds / most, 1000 - x)
        drawn.append(
            f'<rect class="c{phases.index(name)}" x="{_n(x)}" width="{_n(wide)}" height="20">'
            f"<title>{escaped(name)} {escaped(moments.span(seconds))}</title></rect>"
        )
        x += wide
    if row.open_s is not None:
        drawn.append(
            f'<rect class="open" x="{_n(x)}" width="{_n(min(1000 * row.open_s / most, 1000 - x))}" height="20"/>'
        )
    return (
        f'<div class="row" role="listitem"><div class="name"><b>{escaped(row.name)}</b> '
        f'<span class="muted">{escaped(row.detail)}</span></div><svg viewBox="0 0 1000 20" preserveAspectRatio="none" '
        f'role="img" aria-label="{escaped(row.told)}">{"".join(drawn)}</svg>'
        f'<div class="total">{escaped(row.told)}</div></div>'
    )


def _minutes(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s" if seconds else "0"
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"


def _nice_time(most: float) -> float:
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)
    return float(next((each for each in steps if most / each <= 5), 864000))
