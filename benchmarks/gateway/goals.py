"""The table of the issue: what was measured of each target, Stoker's ratio to the others, and whether it is enough.
Pure: rows in, text out.

Ratios are taken within a round, where all targets met the same machine, and the median of the rounds counts.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from windows import SCENARIOS, Row

OURS, PEER, PROXY, LIMIT = "stoker", "litellm", "nginx", "direct"
# Requests/s of two windows of one process differ by so much on a quiet machine: less is no fall.
NO_FALL = 0.97


@dataclass
class Measured:
    """All that one run came to. `starts_s`: each start of a target until its first answer. Memory in MB: after the
    first answer, and at the end of all loads; of what Stoker needs beside its gateway at the end."""

    rows: list[Row] = field(default_factory=list)
    starts_s: dict[str, list[float]] = field(default_factory=dict)
    idle_mb: dict[str, float] = field(default_factory=dict)
    loaded_mb: dict[str, float] = field(default_factory=dict)
    beside_mb: dict[str, float] = field(default_factory=dict)

    def of(self, scenario: str, target: str) -> dict[int, Row]:
        """By round."""
        return {row.round: row for row in self.rows if row.scenario == scenario and row.target == target}

    @property
    def targets(self) -> list[str]:
        return list(dict.fromkeys([row.target for row in self.rows] + list(self.starts_s)))

    def wrong(self, target: str) -> dict[str, int]:
        total: dict[str, int] = {}
        for row in self.rows:
            if row.target == target:
                for what, count in row.wrong.items():
                    total[what] = total.get(what, 0) + count
        return total


@dataclass(frozen=True)
class Bar:
    """A figure of ours, one for each round, and what it has to be. `go` may be judged by another figure (`go_by`)."""

    what: str
    rounds: Sequence[float]
    reach: float
    go: float
    is_least: bool = True
    """Whether it has to be at least that, or at most."""
    unit: str = "x"
    go_by: Sequence[float] | None = None
    go_unit: str | None = None

    @property
    def is_reached(self) -> bool | None:
        return self._meets(self.rounds, self.reach, self.is_least)

    @property
    def is_gone_for(self) -> bool | None:
        if self.go_by is not None:
            return self._meets(self.go_by, self.go, is_least=False)
        return self._meets(self.rounds, self.go, self.is_least)

    @staticmethod
    def _meets(rounds: Sequence[float], bound: float, is_least: bool) -> bool | None:
        if not rounds:
            return None
        middle = statistics.median(rounds)
        return middle >= bound if is_least else middle <= bound

    def text(self) -> str:
        return f"{self.what}: {span(self.rounds, self.unit)}"


@dataclass(frozen=True)
class Goal:
    title: str
    values: Mapping[str, str]
    """By target."""
    bars: Sequence[Bar]


# --- figures of a round -----------------------------------------------------------------------------------------------

Figure = Callable[[Row], float | None]


def per_s(row: Row) -> float | None:
    return row.per_s or None


def per_core(row: Row) -> float | None:
    """Requests for each second that the gateway computed: what it would do with the whole core."""
    return 1e6 / row.cpu_us if row.cpu_us else None


def cpu_us(row: Row) -> float | None:
    return row.cpu_us


def figures(measured: Measured, scenario: str, target: str, figure: Figure) -> list[float]:
    found = [figure(row) for row in measured.of(scenario, target).values()]
    return [value for value in found if value is not None]


def ratios(measured: Measured, scenario: str, above: str, below: str, figure: Figure) -> list[float]:
    tops, bottoms = measured.of(scenario, above), measured.of(scenario, below)
    pairs = [(figure(tops[each]), figure(bottoms[each])) for each in tops if each in bottoms]
    return [top / bottom for top, bottom in pairs if top is not None and bottom]


def added(measured: Measured, scenario: str, target: str, figure: Figure) -> dict[int, float]:
    """What a target adds to asking the mock itself, by round."""
    direct, through = measured.of(scenario, LIMIT), measured.of(scenario, target)
    pairs = {each: (figure(through[each]), figure(direct[each])) for each in through if each in direct}
    return {each: ours - limit for each, (ours, limit) in pairs.items() if ours is not None and limit is not None}


def added_ratios(measured: Measured, scenario: str, figure: Figure) -> list[float]:
    ours, theirs = added(measured, scenario, OURS, figure), added(measured, scenario, PROXY, figure)
    # Where nginx adds nothing that can be measured, there is no ratio.
    return [ours[each] / theirs[each] for each in ours if theirs.get(each, 0.0) > 0.0]


# --- the goals --------------------------------------------------------------------------------------------------------


def goals(measured: Measured) -> list[Goal]:
    return [
        _throughput(measured),
        Goal(
            "CPU per request, 16 clients",
            _values(measured, "c16", lambda row: row.cpu_us, "us"),
            [Bar("LiteLLM / Stoker", ratios(measured, "c16", PEER, OURS, cpu_us), 50, 120)],
        ),
        _latency(measured),
        _streams(measured),
        Goal(
            "220 KB prompt, CPU",
            _values(measured, "prompt", lambda row: row.cpu_us, "us"),
            [Bar("LiteLLM / Stoker", ratios(measured, "prompt", PEER, OURS, cpu_us), 25, 60)],
        ),
        _crowd(measured),
        *_footprint(measured),
    ]


def _throughput(measured: Measured) -> Goal:
    values = {}
    for target in measured.targets:
        made = span(figures(measured, "c16", target, per_s), "/s")
        core = figures(measured, "c16", target, per_core)
        values[target] = made + (f" ({middle(core):,.0f} per busy core)" if core else "")
    bars = []
    for name, other, reach, go in (("LiteLLM", PEER, 50, 100), ("nginx", PROXY, 0.12, 0.25)):
        for what, figure in (("as measured", per_s), ("per busy core", per_core)):
            bars.append(Bar(f"Stoker / {name}, {what}", ratios(measured, "c16", OURS, other, figure), reach, go))
    return Goal("requests/s per core, 16 clients", values, bars)


def _latency(measured: Measured) -> Goal:
    figures_of: tuple[tuple[str, Figure], ...] = (("p50", lambda row: row.p50_s), ("p99", lambda row: row.p99_s))
    values = {
        target: "; ".join(
            f"{name} {_milliseconds(_latencies(measured, target, of), target)}" for name, of in figures_of
        )
        for target in measured.targets
    }
    bars = [
        Bar(f"Stoker / nginx, {name}", added_ratios(measured, "c1", of), 3, 1.5, is_least=False)
        for name, of in figures_of
    ]
    return Goal("added latency, 1 client", values, bars)


def _milliseconds(values: Sequence[float], target: str) -> str:
    """What a gateway adds has a sign."""
    return ("" if target == LIMIT or not values else "+") + span([1e3 * value for value in values], " ms")


def _latencies(measured: Measured, target: str, of: Figure) -> list[float]:
    if target == LIMIT:
        return figures(measured, "c1", target, of)
    return list(added(measured, "c1", target, of).values())


def _streams(measured: Measured) -> Goal:
    values = _values(measured, "stream", lambda row: row.cpu_us, "us")
    for target in measured.targets:
        first = added(measured, "paced", target, lambda row: row.first_p50_s).values()
        if target != LIMIT and first:
            values[target] += f"; first token {_milliseconds(list(first), target)}"
    ours = [1e3 * each for each in added(measured, "paced", OURS, lambda row: row.first_p50_s).values()]
    return Goal(
        "CPU per 20-chunk stream, 16 clients; added time to first token",
        values,
        [
            Bar("LiteLLM / Stoker", ratios(measured, "stream", PEER, OURS, cpu_us), 80, 150),
            Bar("added by Stoker", ours, 5, 1, is_least=False, unit=" ms"),
        ],
    )


def _crowd(measured: Measured) -> Goal:
    values = {}
    mine: list[float] = []
    for target in measured.targets:
        few, many = measured.of("c16", target), measured.of("c64", target)
        of = [many[each].per_s / few[each].per_s for each in many if each in few and few[each].per_s]
        mine = of if target == OURS else mine
        made = figures(measured, "c64", target, per_s)
        values[target] = f"{span(made, '/s')}: {span(of, 'x')}" if made else "-"
    return Goal("64 clients against 16, requests/s", values, [Bar("64 / 16", mine, NO_FALL, 1.0)])


def _footprint(measured: Measured) -> list[Goal]:
    memory = {each: f"{measured.idle_mb[each]:.0f} -> {measured.loaded_mb[each]:.0f} MB" for each in measured.loaded_mb}
    smaller = _share(measured.loaded_mb.get(PEER), measured.loaded_mb.get(OURS))
    starts = {each: span(seconds, " s") for each, seconds in measured.starts_s.items()}
    theirs, ours = measured.starts_s.get(PEER, []), measured.starts_s.get(OURS, [])
    sooner = [there / here for there, here in zip(theirs, ours, strict=False)]
    return [
        Goal("memory, first answer -> after all loads", memory, [Bar("LiteLLM / Stoker", smaller, 4, 6)]),
        Goal(
            "cold start, until the first answer",
            starts,
            [Bar("LiteLLM / Stoker", sooner, 10, 0.7, go_by=ours, go_unit=" s")],
        ),
    ]


def _share(above: float | None, below: float | None) -> list[float]:
    return [above / below] if above and below else []


def _values(measured: Measured, scenario: str, figure: Figure, unit: str) -> dict[str, str]:
    return {each: span(figures(measured, scenario, each, figure), " " + unit) for each in measured.targets}


# --- text -------------------------------------------------------------------------------------------------------------


def middle(values: Sequence[float]) -> float:
    return statistics.median(values)


def span(values: Sequence[float], unit: str) -> str:
    """The median, and from where to where."""
    values = list(values)
    if not values:
        return "-"
    if len(values) == 1:
        return f"{number(values[0])}{unit}"
    return f"{number(middle(values))}{unit} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    """Three figures."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def goals_table(measured: Measured) -> str:
    targets = measured.targets
    heads = [each + (" (!)" if measured.wrong(each) else "") for each in targets]
    lines = [
        f"| | {' | '.join(heads)} | ratio | reach | go for |",
        "|---|" + "---|" * (len(targets) + 3),
    ]
    for goal in goals(measured):
        if all(set(value) <= set("- ;p509") for value in goal.values.values()):
            continue  # it was not measured
        values = [goal.values.get(each, "-") for each in targets]
        said = "<br>".join(bar.text() for bar in goal.bars)
        reach = "<br>".join(_verdict(bar, bar.reach, bar.unit, bar.is_reached, bar.is_least) for bar in goal.bars)
        go = "<br>".join(
            _verdict(bar, bar.go, bar.go_unit or bar.unit, bar.is_gone_for, bar.is_least and bar.go_by is None)
            for bar in goal.bars
        )
        lines.append(f"| {goal.title} | {' | '.join(values)} | {said} | {reach} | {go} |")
    return "\n".join(lines)


def _verdict(bar: Bar, bound: float, unit: str, is_met: bool | None, is_least: bool) -> str:
    met = "not judged" if is_met is None else "**met**" if is_met else "not met"
    return f"{'>=' if is_least else '<='} {bound:g}{unit}: {met}"


def rows_table(measured: Measured) -> str:
    """Everything, median and span of the rounds."""
    columns = (
        "requests/s | CPU us | p50 ms | p99 ms | first p50 ms | first p99 ms | core busy | others | beside, CPU us"
    )
    lines = [f"| load | target | {columns} | wrong |", "|---|---|" + "---|" * 10]
    for scenario in SCENARIOS.values():
        for target in measured.targets:
            rows = list(measured.of(scenario.short, target).values())
            if rows:
                lines.append(f"| {scenario.title} | {target} | {' | '.join(_cells(rows))} |")
    return "\n".join(lines)


def _cells(rows: Sequence[Row]) -> list[str]:
    def ms(figure: Figure) -> str:
        return span([1e3 * value for value in map(figure, rows) if value is not None], "")

    beside = [
        f"{name} {number(middle([row.beside_us[name] for row in rows if name in row.beside_us]))}"
        for name in rows[0].beside_us
    ]
    return [
        span([row.per_s for row in rows], ""),
        span([row.cpu_us for row in rows if row.cpu_us is not None], ""),
        ms(lambda row: row.p50_s),
        ms(lambda row: row.p99_s),
        ms(lambda row: row.first_p50_s),
        ms(lambda row: row.first_p99_s),
        f"{middle([row.busy for row in rows]):.0%}",
        f"{middle([row.others for row in rows]):.0%}",
        ", ".join(beside) or "-",
        str(sum(sum(row.wrong.values()) for row in rows)),
    ]
