"""`stoker simulate PATH... --trace T`: what these manifests will do, and cost, under this traffic."""

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stoker.base.errors import InvalidInput
from stoker.base.terminal import printable
from stoker.cli import show
from stoker.cli.simulate_checks import (
    Number,
    can_be_explained,
    can_be_written,
    is_region,
    named_weights,
    replace,
    to_stdout,
)

if TYPE_CHECKING:
    from stoker.manifests.reading import Reading
    from stoker.simulate.options import Options
    from stoker.simulate.page import Other
    from stoker.simulate.report import Targets
    from stoker.simulate.result import Result
    from stoker.simulate.scenario import NodeGroup, Scenario
    from stoker.simulate.trace import Trace

CLUSTER_AUTOSCALER = "cluster-autoscaler"
_BAR = 30
_MOST_TROUBLES = 5
_READ_ALL_THE_SAME = "duplicate-key"


class _Words(click.Command):
    """`--explain pod NAME` and `--explain node NAME` are two words each, which click has no option for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, joined(args))


def joined(args: Sequence[str]) -> list[str]:
    """`--explain pod NAME` as `--explain "pod NAME"`."""
    found: list[str] = []
    for each in args:
        option, _, word = found[-1].partition("=") if found else ("", "", "")
        if option == "--explain" and word in ("pod", "node"):
            found[-1] += f" {each}"
        elif option == "--explain" and not word:
            found[-1] += f"={each}"
        else:
            found.append(each)
    return found


@dataclass(frozen=True, eq=False)
class Asked:
    """What both runs of a comparison have in common."""

    trace: "Trace"
    options: "Options"
    region: str | None
    default_model: str | None
    weights: Mapping[str, str]


@click.command("simulate", cls=_Words)
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option(
    "--trace",
    "traces",
    multiple=True,
    metavar="T",
    help="The requests: a file, a trace's name, or a load such as poisson:rate=5. Several are laid over one another.",
)
@click.option(
    "--scale",
    type=Number(0, min_open=True),
    default=1.0,
    show_default=True,
    help="So many times as many requests.",
)
@click.option(
    "--speed",
    type=Number(0, min_open=True),
    default=1.0,
    show_default=True,
    help="The trace runs so many times as fast.",
)
@click.option(
    "--hours", type=Number(0, 8784, min_open=True), help="End after so long. Default: when all requests are done."
)
@click.option(
    "--default-model",
    "--to",
    "to",
    metavar="MODEL[=SHARE],...",
    help="Where requests go that name no model of the manifests. Default: the default model.",
)
@click.option(
    "--weights",
    "weights",
    multiple=True,
    metavar="MODEL=WEIGHTS",
    help="Which weights a model has, such as general=Qwen/Qwen3-8B, where the manifests do not say it, or others are "
    "meant.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same report.")
@click.option(
    "--seeds",
    type=click.IntRange(2, 50),
    metavar="N",
    help="Run N seeds, from --seed on, and show how far chance moves the figures: 2 to 50.",
)
@click.option("--start", metavar="DATE", help="When the trace begins, in UTC. Default: as it says, or a Monday, 00:00.")
@click.option("--cold", is_flag=True, help="Begin with no pod and no node, not with a cluster that has been idle.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Number(0, min_open=True),
    metavar="S",
    help="How long a request waits for a replica at most. Default: 600 s.",
)
@click.option(
    "--slo-ttft",
    type=Number(0, min_open=True),
    metavar="S",
    help="An answer whose first token comes later is late.",
)
@click.option("--slo-e2e", type=Number(0, min_open=True), metavar="S", help="An answer that ends later is late.")
@click.option("--region", help="Default: as the manifests say.")
@click.option(
    "--node-group",
    "node_groups",
    multiple=True,
    metavar="TYPE,min=N,max=N[,spot][,pool=NODEPOOL]",
    help="Nodes of one type kept by the Cluster Autoscaler, in place of the NodePools, with the "
    "labels and taints of one of them; with --compare cluster-autoscaler, those of the comparison.",
)
@click.option(
    "--interruptions",
    type=Number(0),
    metavar="RATE",
    help="How often a spot node is taken, per hour. Default: by its type, as the Spot Instance Advisor has it.",
)
@click.option(
    "--spot-trace", metavar="FILE[:N]", help="A recorded spot market: how many spot nodes are to be had, and when."
)
@click.option("--prices", metavar="FILE", help="Prices over time. Default: the catalogue's, which do not change.")
@click.option("--ice", type=Number(0, 1), metavar="SHARE", help="Of all offers, how many have no capacity at a time.")
@click.option("--spot-to-spot", is_flag=True, help="Karpenter's feature gate SpotToSpotConsolidation is on.")
@click.option("--drift", metavar="TIME", help="When all nodes begin to differ from their pools, as by a new image.")
@click.option(
    "--prior",
    "priors",
    multiple=True,
    metavar="NAME=VALUE",
    help="Something that is assumed, as you know it better; docs/simulate/assumptions.md has the names.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as a page that stands alone."
)
@click.option(
    "--explain",
    multiple=True,
    metavar="TIME | pod NAME | node NAME",
    help="Why it did what it did, around a moment (0:34, 2040, 1h30m, a date), or over the life of a pod or a node.",
)
@click.option(
    "--compare", metavar="PATH", help="Other manifests under the same requests; or cluster-autoscaler, for node groups."
)
def simulate(
    paths: tuple[str, ...],
    traces: tuple[str, ...],
    scale: float,
    speed: float,
    hours: float | None,
    to: str | None,
    weights: tuple[str, ...],
    seed: int,
    seeds: int | None,
    start: str | None,
    cold: bool,
    timeout_s: float | None,
    slo_ttft: float | None,
    slo_e2e: float | None,
    region: str | None,
    node_groups: tuple[str, ...],
    interruptions: float | None,
    spot_trace: str | None,
    prices: str | None,
    ice: float | None,
    spot_to_spot: bool,
    drift: str | None,
    priors: tuple[str, ...],
    as_json: bool,
    html: Path | None,
    explain: tuple[str, ...],
    compare: str | None,
) -> int:
    """Run the cluster that these manifests make, on paper, under a trace of requests: replicas, nodes, latencies and
    dollars over time, and why.

    PATH is a file, a folder, or - for stdin: Deployments, ScaledObjects or HPAs, NodePools, PodDisruptionBudgets.
    Nothing is asked of a cluster or a cloud. docs/simulate/index.md has examples.
    """
    if not paths:
        raise click.UsageError("say which manifests: files, folders, or - for stdin")
    if not traces:
        raise click.UsageError("say which requests: --trace FILE, --trace azure-conversation, --trace poisson:rate=5")
    if compare == "-" and "-" in paths:
        raise click.UsageError("stdin can be read once: PATH and --compare cannot both be -")
    from stoker.simulate.comparison import unlike
    from stoker.simulate.page import Other
    from stoker.simulate.report import Targets

    for each in explain:
        can_be_explained(each)
    if html is not None:
        can_be_written(html)
    if region is not None:
        is_region(region)
    began = None if start is None else _began(start)
    reading = _read(paths)
    reading_of_other = None if compare in (None, CLUSTER_AUTOSCALER) else _read([compare], "--compare")
    asked = Asked(
        _trace(traces, scale, speed, seed, hours),
        _options(
            seed=seed,
            hours=hours,
            cold=cold,
            timeout_s=timeout_s,
            began_at=began,
            shares=shares(to),
            interruptions_per_hour=interruptions,
            available=_market(spot_trace),
            prices=prices,
            no_capacity=ice,
            spot_to_spot=spot_to_spot,
            drift_at=None if drift is None else _moment(drift, "--drift"),
            priors=numbers(priors),
        ),
        region,
        next(iter(shares(to)), None),
        named_weights(weights),
    )
    gc.disable()  # what a run makes is kept to its end, and looking for garbage among it takes time
    scenario = _scenario(reading, asked)
    first = _groups(scenario, node_groups) if node_groups and compare != CLUSTER_AUTOSCALER else scenario
    second = None
    if reading_of_other is not None:
        second = _scenario(reading_of_other, asked, f"--compare {compare}: ")
    elif compare is not None:
        second = _groups(scenario, node_groups)
    result = _run(first, asked, "simulating")
    other = None
    if compare is not None and second is not None:
        compared = _run(second, asked, f"simulating {printable(compare)}")
        other = Other(compare, compared, unlike(result, compared, (first.region, second.region)))
    more = None
    if seeds is not None and (as_json or not explain):
        more = _more_seeds(
            range(seed, seed + seeds),
            lambda each: replace_fields(
                asked, trace=_trace(traces, scale, speed, each, hours), options=_with_seed(asked.options, each)
            ),
            [(first, result), *([] if second is None or other is None else [(second, other.result)])],
        )
    return _told(
        result, " ".join(paths), Targets(slo_ttft, slo_e2e), other, more, as_json=as_json, html=html, explain=explain
    )


# -- what was asked for --


def shares(text: str | None) -> dict[str, float]:
    """`code`, or `general=0.7,code=0.3`; what they sum to is taken as the whole. Raises InvalidInput."""
    found: dict[str, float] = {}
    for each in [] if text is None else text.split(","):
        name, _, share = (part.strip() for part in each.partition("="))
        try:
            value = float(share) if share else 1.0
        except ValueError:
            value = 0.0
        if not name or name in found or not 0 < value < float("inf"):
            raise InvalidInput(
                f"--to has {each[:60]!r}", param="--to", hint="MODEL=SHARE,..., such as general=0.7,code=0.3, or MODEL"
            )
        found[name] = value
    return {name: value / sum(found.values()) for name, value in found.items()}


def numbers(texts: Sequence[str]) -> dict[str, float]:
    """`boot_s=60` of --prior; whether there is such a name is for `latencies` to say. Raises InvalidInput."""
    found = {}
    for each in texts:
        name, _, value = each.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError as error:
            raise InvalidInput(
                f"--prior is {each[:60]!r}", param="--prior", hint="NAME=VALUE, such as boot_s=60"
            ) from error
    return found


def _options(**given: Any) -> "Options":
    """What was not said stays as it is without."""
    from stoker.simulate.options import Options

    return Options(**{name: value for name, value in given.items() if value is not None})


def _began(text: str) -> Any:
    from stoker.simulate import moments

    try:
        found = moments.utc(text)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"--start is {text[:60]!r}, which is no date", param="--start", hint="such as 2026-01-05T08:00:00"
        ) from error
    if not 1970 <= found.year < 2200:
        raise InvalidInput(f"--start is {text[:60]!r}", param="--start", hint="a date from 1970 to 2199")
    return found


def _moment(text: str, option: str) -> float:
    from stoker.simulate import moments

    return moments.parse(text, None, option)


def _market(file: str | None) -> Any:
    if file is None:
        return None
    from stoker.simulate.spot_market import read_market

    return read_market(file)


def _trace(named: Sequence[str], scale: float, speed: float, seed: int, hours: float | None) -> "Trace":
    """Of a trace that is longer than the run, only what the run needs is read."""
    from stoker.simulate.traces import load, merge

    limit_s = None if hours is None else hours * 3600 * speed
    found: list[Trace] = [load(each, scale=scale, speed=speed, seed=seed, limit_s=limit_s) for each in named]
    trace: Trace = found[0] if len(found) == 1 else merge(found)
    return trace


def _scenario(reading: "Reading", asked: Asked, whose: str = "") -> "Scenario":
    """`whose` begins what is said of an error, where several sets of manifests are asked for."""
    from stoker.simulate.reading import read_scenario

    try:
        scenario: Scenario = read_scenario(
            reading.manifests, region=asked.region, default_model=asked.default_model, weights=asked.weights
        )
    except InvalidInput as error:
        error.message = f"{whose}{error.message}"
        raise
    return scenario


def _read(paths: Sequence[str], option: str = "PATH") -> "Reading":
    from stoker.manifests import reading

    hint = "name files or folders that exist, or - for stdin"
    if option == "--compare":
        hint += f"; or {CLUSTER_AUTOSCALER}, for node groups in place of NodePools"
    if "" in paths:
        raise InvalidInput(f"{option} is empty", param=option, hint=hint)
    stdin = sys.stdin.buffer.read(reading.MAX_BYTES + 1) if "-" in paths else None
    found = reading.read(paths, stdin=stdin)
    missing = [trouble for trouble in found.troubles if trouble.kind == "missing"]
    if missing:
        raise InvalidInput(f"there is no {missing[0].file}", param=option, hint=hint)
    _say_troubles(found)
    if not found.manifests:
        raise InvalidInput(
            f"there are no manifests in {', '.join(paths)}",
            param=option,
            hint="Kubernetes objects in *.yaml, *.yml or *.json; `stoker render -o DIR` writes some",
        )
    return found


def _say_troubles(reading: "Reading") -> None:
    """What was not read first."""
    troubles = sorted(reading.troubles, key=lambda each: each.kind == _READ_ALL_THE_SAME)
    for each in troubles[:_MOST_TROUBLES]:
        said = "" if each.kind == _READ_ALL_THE_SAME else "not read: "
        show.note(f"{said}{printable(f'{each.file}:{each.line}: {each.message}')}")
    if len(troubles) > _MOST_TROUBLES:
        show.note(f"and {len(troubles) - _MOST_TROUBLES} more: `stoker lint` shows all")


def _groups(scenario: "Scenario", texts: Sequence[str]) -> "Scenario":
    from stoker.simulate import node_groups

    found: list[NodeGroup] = [node_groups.parse(each, scenario) for each in texts]
    return node_groups.with_groups(scenario, found or node_groups.instead_of_pools(scenario))


# -- the run, and what is said of it --


def _run(scenario: "Scenario", asked: Asked, doing: str) -> "Result":
    from stoker.simulate.run import simulate

    progress = _bar(doing) if sys.stderr.isatty() else None
    result: Result = simulate(scenario, asked.trace, asked.options, progress=progress)
    if progress is not None:
        click.echo(f"\r{' ' * (len(doing) + _BAR + 9)}\r", nl=False, err=True)
    return result


def _with_seed(options: "Options", seed: int) -> "Options":
    return type(options)(**{**vars(options), "seed": seed})


def _more_seeds(
    seeds: Sequence[int], asked: Callable[[int], Asked], sets: Sequence[tuple["Scenario", "Result"]]
) -> dict[str, Any]:
    """`sets` have been run with the first of the seeds. Of the others only a few figures are kept: a run is large."""
    from stoker.simulate import chance, report

    found = [[chance.of_run(report.as_json(result))] for _, result in sets]
    for seed in seeds[1:]:
        of_seed = asked(seed)
        for (scenario, _), figures in zip(sets, found, strict=True):
            figures.append(chance.of_run(report.as_json(_run(scenario, of_seed, f"simulating seed {seed}"))))
        gc.collect()
    return chance.as_json(seeds, *found)


def _bar(doing: str) -> Callable[[float], None]:
    """By simulated time. Drawn again only when it has grown by a percent."""
    last = -1

    def progress(fraction: float) -> None:
        nonlocal last
        percent = int(100 * min(max(fraction, 0.0), 1.0))
        if percent != last:
            last = percent
            filled = "█" * (percent * _BAR // 100)
            click.echo(f"\r{doing} {filled:░<{_BAR}} {percent:3} %", nl=False, err=True)

    return progress


def _told(
    result: "Result",
    title: str,
    targets: "Targets",
    other: "Other | None",
    seeds: Mapping[str, Any] | None,
    *,
    as_json: bool,
    html: Path | None,
    explain: Sequence[str],
) -> int:
    from stoker.cli import simulated
    from stoker.simulate import comparison, report
    from stoker.simulate.explain import explain as explained

    said = [explained(result, each) for each in explain]
    figures = report.as_json(result, targets)
    rows = None
    if other is not None:
        second = report.as_json(other.result, targets)
        rows = comparison.compare(figures, second)
        figures["compared"] = comparison.as_json(rows, other.name, second, other.unlike)
    if seeds is not None:
        figures["seeds"] = dict(seeds)
    if html is not None:
        _write(html, result, title, targets, other)
    with to_stdout():
        if as_json:
            show.as_json({**figures, **({"explained": said} if said else {})})
        elif said:
            click.echo("\n\n".join("\n".join(printable(line) for line in each.split("\n")) for each in said))
        else:
            simulated.print_report(result, figures)
            if rows is not None and other is not None:
                notes = comparison.notes_of_second(result, other.result, other.name)
                simulated.print_comparison(rows, title, other.name, other.unlike, notes)
            if seeds is not None:
                simulated.print_seeds(seeds, title, "" if other is None else other.name)
    return 0


def _write(path: Path, result: "Result", title: str, targets: "Targets", other: "Other | None") -> None:
    from stoker.simulate.page import page

    text = page(result, title=title, targets=targets, other=other)
    try:
        if path.exists() and not path.is_file():  # a device or a pipe is written to, and not replaced
            path.write_text(text, encoding="utf-8")
        else:
            replace(path, text)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}", param="--html") from error
    show.note(f"the page is in {printable(str(path))}")
