"""A result as one page: a file that needs nothing else, neither a network nor, to be read, its script.

Names in it come from manifests and traces of anyone, see `page_frame`.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.meter import money
from stoker.simulate import comparison, explain, lives, moments, page_series, report, telling
from stoker.simulate.page_frame import whole
from stoker.simulate.page_plots import Plot, Row, bars, data, escaped, figure, gantt, shown, table
from stoker.simulate.report import Targets
from stoker.simulate.result import Event, Result

MOST_OF_A_KIND = 200
MOST_SCALE_UPS = 24
MOST_STUCK = 6
"""Of the scale-ups that are shown, at most so many that never were ready."""
MOST_TENANTS = 12
_MOST_DATA = 300
_SMALLEST = 0.05
"""Per cent: what is less is no difference."""

KIND_NAMES = {
    "karpenter": "nodes by Karpenter",
    "groups": "nodes by the Cluster Autoscaler",
    "none": "no nodes: no NodePool and no node group",
    "fixed": "nodes that are always there",
}


Draw = Callable[..., str]
"""Plots to their HTML; what it draws gets the next numbers of the page."""


@dataclass(frozen=True, eq=False)
class Other:
    """A second run of the same requests, to be shown beside the first."""

    name: str
    result: Result
    unlike: Sequence[str] = ()
    """Why it is not like with like."""


def page(result: Result, *, title: str = "", targets: Targets | None = None, other: Other | None = None) -> str:
    """The whole HTML text. `title` is what was simulated, as the person named it."""
    asked = targets or Targets()
    figures = report.as_json(result, asked)
    seen = report.Seen(result)
    drawn: list[Plot] = []

    def draw(*plots: Plot) -> str:
        drawn.extend(plots)
        start = len(drawn) - len(plots)
        return "".join(figure(plot, start + i) for i, plot in enumerate(plots))

    sections = [
        ("Comparison", _comparison(result, figures, other, asked, title, draw) if other else ""),
        ("Requests", _requests(seen, figures, draw)),
        ("Replicas", _replicas(result, figures, draw)),
        ("Nodes", _nodes(result, figures, draw)),
        ("Money", _money(result, figures, draw)),
        ("Scale-ups", _scale_ups(result)),
        ("Troubles", _troubles(figures["troubles"])),
        ("Journal", _journal(result.journal)),
        ("Notes", _notes(result, other)),
    ]
    there = [(name, body) for name, body in sections if body]
    head = _head(result, figures, asked, title)
    links = "".join(f'<li><a href="#{_anchor(name)}">{escaped(name)}</a></li>' for name, _ in there)
    body = "".join(
        f'<section id="{_anchor(name)}" aria-labelledby="h-{_anchor(name)}">'
        f'<h2 id="h-{_anchor(name)}">{escaped(name)}</h2>{text}</section>'
        for name, text in there
    )
    return whole(
        f"stoker simulate: {title or result.trace.name}",
        f'{head}<nav aria-label="Sections"><ul>{links}</ul></nav><main>{body}</main>'
        f"<footer>Made by <code>stoker simulate</code>, seed {result.seed}. Times are since the trace began, "
        f"{escaped(moments.date(0, result.began_at))}, in hours:minutes:seconds.</footer>",
        data(drawn),
    )


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


# -- sections --


def _head(result: Result, figures: Mapping[str, Any], targets: Targets, title: str) -> str:
    requests, bill, nodes = figures["requests"], figures["cost_usd"], figures["nodes"]
    told = "".join(f"<li>{escaped(line)}</li>" for line in telling.lines(result, figures))
    arrived = requests["arrived"]
    share = f"{100 * requests['served'] / arrived:.2f} %" if arrived else "-"
    peak = sum(each["peak"] for each in figures["replicas"].values())
    lost = requests["rejected"] + (requests["late"] or 0)
    promised = _promises(targets)
    per_million = _usd(bill["per_million_tokens"]["all"])
    tiles = [
        ("Cost of the run", _usd(bill["total"]), f"{_usd(bill['per_hour'])} per hour", False),
        ("Per million tokens", per_million, f"{_usd(bill['per_1000_requests'])} per 1,000 requests", False),
        ("Served", share, f"{requests['served']:,} of {arrived:,} requests", requests["served"] < 0.99 * arrived),
        (
            "Rejected or late" if targets.are_set else "Rejected",
            f"{lost:,}",
            promised or f"{requests['lost']:,} lost with their replica",
            lost > 0,
        ),
        ("First token, p95", shown(figures["ttft_s"]["p95"], "seconds"), _median(figures["ttft_s"]), False),
        ("Whole answer, p95", shown(figures["e2e_s"]["p95"], "seconds"), _median(figures["e2e_s"]), False),
        ("Replicas, at most", f"{peak:,}", f"of {len(result.models)} models, peaks summed", False),
        ("Nodes, at most", f"{nodes['peak']:,}", f"{nodes['launched']:,} launched", False),
    ]
    drawn = "".join(
        f"<div{' class=bad' * bad}><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd><dd>{escaped(more)}</dd></div>"
        for name, value, more, bad in tiles
    )
    return (
        f"<header><h1>{escaped(title or 'What would happen')}</h1>"
        f'<p class="muted">{arrived:,} requests of {escaped(result.trace.name)} over '
        f"{escaped(moments.span(result.ended_at_s))} from {escaped(moments.date(0, result.began_at))}; "
        f"{escaped(KIND_NAMES[result.kind])}; seed {result.seed}</p>"
        f'<dl class="tiles">{drawn}</dl>' + (f'<ul class="telling">{told}</ul>' if told else "") + "</header>"
    )


def _requests(seen: report.Seen, figures: Mapping[str, Any], draw: Draw) -> str:
    ttft = page_series.of_latency(seen, "ttft_s", "Time to first token")
    e2e = page_series.of_latency(seen, "e2e_s", "Whole answer")
    return (
        draw(page_series.of_requests(seen))
        + f'<div class="pair">{draw(ttft, e2e)}</div>'
        + f'<div class="card">{_latencies(figures)}</div>'
        + f'<div class="card">{_outcomes(figures)}</div>'
    )


def _latencies(figures: Mapping[str, Any]) -> str:
    shares: dict[str, tuple[str, ...]] = {}
    shares |= {"ttft_s": ("p50", "p95", "p99"), "tpot_s": ("p50", "p95", "p99"), "e2e_s": ("p50", "p95", "p99")}
    shares["queue_s"] = ("p50", "p95")
    heads = ["model", *(each for of in shares.values() for each in of)]
    groups = [("", 1), ("first token", 3), ("per token", 3), ("whole answer", 3), ("in the queue", 2)]

    def row(name: str, of: Mapping[str, Mapping[str, float | None]]) -> list[object]:
        return [name, *(shown(of[key][each], "seconds") for key, each_of in shares.items() for each in each_of)]

    rows = [row("all", {key: figures[key] for key in shares})]
    for model in figures["requests"]["by_model"]:
        rows.append(row(model, {key: figures[key]["by_model"][model] for key in shares}))
    return table(heads, rows, name="Latencies as clients see them, of requests that were served", groups=groups)


def _outcomes(figures: Mapping[str, Any]) -> str:
    requests = figures["requests"]
    rows = [
        [name, *(f"{each[key]:,}" for key in ("arrived", "served", "rejected", "in_flight"))]
        for name, each in [("all", requests), *requests["by_model"].items()]
    ]
    by = requests["rejected_by"]
    more = (
        f"Rejected: {by['too_long']:,} too long, {by['timed_out']:,} waited too long, {by['no_replica']:,} without a "
        f"replica, {by['lost']:,} lost with theirs. Cut short by their model's length: {requests['cut']:,}. "
        f"Run again: {requests['retried']:,}."
    )
    if requests["late"] is not None:
        more += f" Late: {requests['late']:,} ({_promises(Targets(**figures['targets']))})."
    heads = ["model", "arrived", "served", "rejected", "in flight"]
    return table(heads, rows, name="What became of the requests") + f'<p class="muted">{escaped(more)}</p>'


def _replicas(result: Result, figures: Mapping[str, Any], draw: Draw) -> str:
    steps = page_series.Steps(result)
    arrived = {name: each["arrived"] for name, each in figures["requests"]["by_model"].items()}
    drawn = page_series.models_to_draw(result, arrived)
    pairs = "".join(f'<div class="pair">{draw(*page_series.of_model(result, steps, model))}</div>' for model in drawn)
    rows = [
        [name, f"{of['peak']:,}", f"{of['mean']:.2f}", moments.span(of["seconds"]), f"{of['cold_starts']:,}"]
        for name, of in figures["replicas"].items()
    ]
    heads = ["model", "at most", "on the mean", "ready for", "made in the run"]
    left = len(result.models) - len(drawn)
    told = f"Drawn are the {len(drawn)} models with the most requests; {left} more are in the table." if left else ""
    return (
        pairs + f'<div class="card">{table(heads, rows, name="Replicas that were ready")}</div>' + _muted(told)
    ) + _muted(page_series.rule(steps))


def _nodes(result: Result, figures: Mapping[str, Any], draw: Draw) -> str:
    nodes = figures["nodes"]
    rows = [
        [name, f"{of['peak']:,}", moments.span(of["seconds"]), _usd(of["usd"])] for name, of in nodes["by_type"].items()
    ]
    rows.append(["all", f"{nodes['peak']:,}", moments.span(nodes["seconds"]), _usd(figures["cost_usd"]["total"])])
    heads = ["type", "at most", "node time", "dollars"]
    drawn = draw(page_series.of_nodes(result, page_series.Steps(result)))
    return f'{drawn}<div class="card">{table(heads, rows, name="Nodes by type")}</div>'


def _money(result: Result, figures: Mapping[str, Any], draw: Draw) -> str:
    bill, costs = figures["cost_usd"], result.costs
    tenants = money.shown_by(_folded(costs.by_tenant, MOST_TENANTS))
    splits = [
        bars("By model", money.shown_by(costs.by_model), _IN_BRACKETS),
        bars("By tenant", tenants),
        bars("By node type", money.shown_by(costs.by_node_type)),
        bars("By capacity type", money.shown_by(costs.by_capacity)),
        bars("By pool", money.shown_by(costs.by_pool)) if costs.by_pool else "",
        bars("By part", money.shown_by(costs.by_part)) if costs.by_part else "",
    ]
    cards = "".join(f'<div class="card">{each}</div>' for each in splits if each)
    rows = [[name, _usd(usd)] for name, usd in [("all", bill["per_million_tokens"]["all"])]]
    rows += [[name, _usd(usd)] for name, usd in bill["per_million_tokens"]["by_model"].items()]
    per_token = table(["model", "per million tokens"], rows, name="Dollars per million tokens, prompt and answer")
    return (
        f'<div class="pair">{draw(*page_series.of_money(result, page_series.Steps(result)))}</div>'
        f'<div class="pair">{cards}</div><div class="card">{per_token}'
        f"{_muted('A model by its own part of the bill; all by the whole of it, with what was idle.')}</div>"
    )


_IN_BRACKETS = (
    "In brackets: (platform) pods that serve no model, (start-up) nodes before they could run anything, (idle) what no "
    "pod had of a node."
)


def _scale_ups(result: Result) -> str:
    ups = lives.scale_ups(result)
    if not ups:
        return "<p>No replica was made while the trace ran.</p>"

    def lasted(up: lives.ScaleUp) -> float:
        gone = result.ended_at_s if up.life.gone_at is None else up.life.gone_at
        return gone - up.life.created_at if up.total_s is None else up.total_s

    by_time = sorted(ups, key=lambda up: -lasted(up))
    stuck = [id(up) for up in by_time if up.total_s is None][:MOST_STUCK]
    slowest = {*stuck, *[id(up) for up in by_time if up.total_s is not None][: MOST_SCALE_UPS - len(stuck)]}
    kept = [up for up in ups if id(up) in slowest]
    left = (
        f"Of {len(ups):,} the {len(kept)} slowest, at most {MOST_STUCK} of them never ready; the table is of all. "
        if len(kept) < len(ups)
        else ""
    )
    by = report.phase_figures(ups)
    rows = [
        [name, *(shown(by[name][p], "seconds") for p in ("p50", "p95", "max", "mean"))]
        for name in (*lives.PHASES, "total")
    ]
    phases = table(["phase", "p50", "p95", "max", "mean"], rows, name="Phases over all scale-ups")
    meant = "".join(f"<li>{escaped(name)}: {escaped(means)}</li>" for name, means in lives.PHASE_MEANS.items())
    return (
        f"<p>{escaped(left)}From the moment a replica was asked for until it was ready.</p>"
        f'<div class="card">{gantt([_row(up, lasted(up)) for up in kept], lives.PHASES)}</div>'
        f'<div class="card">{phases}<ul class="plain muted">{meant}</ul></div>'
    )


def _row(up: lives.ScaleUp, lasted: float) -> Row:
    ended = [(name, seconds) for name in lives.PHASES if (seconds := up.phases[name]) is not None]
    where = "no node" if up.node is None else f"{up.node.type} {up.node.capacity}"
    spent = sum(seconds for _, seconds in ended)
    return Row(
        name=up.life.name,
        detail=f"{moments.clock(up.life.created_at)} {up.life.model}, {where}",
        phases=ended,
        open_s=max(0.0, lasted - spent) if up.total_s is None else None,
        told=_ended(up, lasted),
    )


def _ended(up: lives.ScaleUp, lasted: float) -> str:
    if up.total_s is not None:
        return moments.span(up.total_s)
    return f"{'waits' if up.life.gone_at is None else 'left after'} {moments.span(lasted)}"


def _journal(journal: Sequence[Event]) -> str:
    if not journal:
        return "<p>Nothing was decided.</p>"
    kept, left_out = _newest(journal)
    kinds = sorted({each.kind for each in kept})
    choices = "".join(f'<option value="{escaped(each)}">{escaped(each)}</option>' for each in kinds)
    rows = "".join(_journal_row(each) for each in kept)
    told = (
        f"Of each kind the newest {MOST_OF_A_KIND} are here; left out: "
        + ", ".join(f"{count:,} of {kind}" for kind, count in sorted(left_out.items()))
        + ". `stoker simulate --explain TIME` has them all."
        if left_out
        else ""
    )
    return (
        f"{_muted(told)}"
        f'<div class="filter" hidden><label>Kind <select><option value="">all</option>{choices}</select></label>'
        '<input type="search" aria-label="Words that a line must have" placeholder="pod, node, words…">'
        '<output class="muted" aria-live="polite"></output></div>'
        '<div class="card"><div class="journal" tabindex="0"><table><thead><tr><th scope="col">at</th>'
        '<th scope="col">kind</th><th scope="col">about</th><th scope="col">what</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def _journal_row(event: Event) -> str:
    more = explain.said(event.data) if event.data else ""
    more = more if len(more) <= _MOST_DATA else more[:_MOST_DATA] + " …"
    return (
        f'<tr data-kind="{escaped(event.kind)}"><th scope="row">{escaped(moments.clock(event.at))}</th>'
        f"<td>{escaped(event.kind)}</td><td>{escaped(event.subject)}</td><td>{escaped(event.text)}"
        + (f'<span class="muted">{escaped(more)}</span>' if more else "")
        + "</td></tr>"
    )


def _newest(journal: Sequence[Event]) -> tuple[list[Event], dict[str, int]]:
    """Of each kind the newest so many, in order of time; and how many of each are left out."""
    by_kind: defaultdict[str, int] = defaultdict(int)
    kept = []
    for each in reversed(journal):
        by_kind[each.kind] += 1
        if by_kind[each.kind] <= MOST_OF_A_KIND:
            kept.append(each)
    left_out = {kind: n - MOST_OF_A_KIND for kind, n in by_kind.items() if n > MOST_OF_A_KIND}
    return kept[::-1], left_out


def _troubles(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [moments.clock(each["from_s"]), moments.span(each["to_s"] - each["from_s"]), each["text"], each["hint"]]
        for each in found
    ]
    if not rows:
        return ""
    headers = ["from", "for", "what stood in the way", "what would help"]
    return f'<div class="card">{table(headers, rows, words=(2, 3), name="What stood in the way")}</div>'


def _notes(result: Result, other: Other | None) -> str:
    said = list(dict.fromkeys([*result.trace.notes, *result.notes]))
    said += [] if other is None else comparison.notes_of_second(result, other.result, other.name)
    listed = "".join(f"<li>{escaped(each)}</li>" for each in said)
    assumed = [[name, _assumed(value)] for name, value in report.plain(result.assumptions).items()]
    return (f'<ul class="plain">{listed}</ul>' if said else "<p>None.</p>") + (
        f'<div class="card">{_two_columns(assumed)}</div>' if assumed else ""
    )


def _two_columns(rows: Sequence[Sequence[object]]) -> str:
    return table(["assumption", "value"], rows, words=(0, 1), name="What was assumed")


def _assumed(value: Any) -> str:
    return explain.said(value) if isinstance(value, dict) else explain.said({"": value}).strip()


def _comparison(
    result: Result, figures: Mapping[str, Any], other: Other, targets: Targets, title: str, draw: Draw
) -> str:
    rows = comparison.compare(figures, report.as_json(other.result, targets))
    names = (title or "this", other.name)
    body = "".join(
        f'<tr><th scope="row">{escaped(row.name)}</th><td class="number">{escaped(shown(row.first, _unit(row)))}</td>'
        f'<td class="number">{escaped(shown(row.second, _unit(row)))}</td>'
        f'<td class="number {_judged(row)}">{escaped(change(row))}</td></tr>'
        for row in rows
    )
    head = "".join(
        f'<th scope="col"{" class=number" * (i > 0)}>{escaped(each)}</th>'
        for i, each in enumerate(("", *names, "change"))
    )
    drawn = draw(page_series.of_both_bills(result, other.result, names))
    told = "".join(f"<p>{escaped(each)}</p>" for each in other.unlike)
    return (
        f'{told}{drawn}<div class="card"><div class="scroll" tabindex="0"><table class="compared">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></div>"
    )


def change(row: comparison.Row) -> str:
    return "-" if row.change is None else f"{row.change:+.1f} %" if abs(row.change) >= _SMALLEST else "same"


def _judged(row: comparison.Row) -> str:
    """Of everything but what was served, less is better; what arrived is nobody's merit."""
    if (
        row.change is None
        or abs(row.change) < _SMALLEST
        or row.name == "requests arrived"
        or row.name.startswith("dollars of")
    ):
        return ""
    less_is_better = row.name != "served"
    return "better" if (row.change < 0) == less_is_better else "worse"


def _unit(row: comparison.Row) -> Any:
    return row.unit


def _folded(parts: Mapping[str, int], most: int) -> dict[str, int]:
    """The largest so many, the others as one."""
    order = sorted(parts, key=lambda name: (-parts[name], name))
    found = {name: parts[name] for name in order[:most]}
    rest = order[most:]
    return {**found, f"({len(rest):,} others)": sum(parts[name] for name in rest)} if rest else found


def _promises(targets: Targets) -> str:
    said = [("first token", targets.ttft_s), ("whole answer", targets.e2e_s)]
    return " or ".join(f"{words} later than {moments.span(most)}" for words, most in said if most is not None)


def _median(figures: Mapping[str, Any]) -> str:
    return f"p50 {shown(figures['p50'], 'seconds')}, p99 {shown(figures['p99'], 'seconds')}"


def _usd(usd: float | None) -> str:
    return "-" if usd is None else money.spoken(usd)


def _muted(text: str) -> str:
    return f'<p class="muted">{escaped(text)}</p>' if text else ""
