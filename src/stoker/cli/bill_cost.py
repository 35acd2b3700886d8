"""`stoker cost --bill` and `--aws`: somebody else's bill, split by the platform that is there, or by itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from stoker.base.errors import InvalidInput, NotFound
from stoker.cli import api, show, stopped, target

Amount = Literal["unblended", "net-unblended", "blended", "amortized", "net-amortized"]
"""As in `meter.bill_lines`, which takes a moment to load."""
AMOUNTS: tuple[str, ...] = get_args(Amount)
_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Which:
    """Without `file`: Cost Explorer's. `since` and `until` None: all that a file has, and of AWS the last 30 days."""

    file: Path | None
    amount: Amount
    cluster: str | None
    take_all: bool
    since: float | None
    until: float | None
    now: float


def report(which: Which, asked: target.Asked, by: str, limit: int) -> dict[str, Any]:
    """Raises InvalidInput, NotFound, NotPermitted, Unavailable."""
    from stoker.meter import costs, sources
    from stoker.meter.ledger import Ledger
    from stoker.meter.lives import Lives

    found, state, platform, bill_or_report = _read(which, asked)
    if isinstance(bill_or_report, dict):
        return sources.of_simulator(bill_or_report, by, limit)
    bill = bill_or_report
    times = [at for line in (*bill.lines, *bill.if_known) for at in (line.began_at, line.ended_at)]
    if not times:
        raise InvalidInput(
            f"nothing of the bill is this platform's: {bill.left_out_rows:,} lines are not",
            hint="--cluster NAME names the one whose tags are meant; --all takes all lines",
        )
    since, until = min(times), max(times)
    if found is None:
        of_file = costs.Asked(costs.keys_of(by), since, until, limit)
        return sources.with_left_out(sources.of_file_alone(of_file, bill.known_to(set())), bill.known_to(set()))
    body = {
        "by": by,
        "since": since,
        "until": until,
        "limit": limit,
        "source": bill.source,
        "lines": [sources.line_as_json(line) for line in bill.lines],
        "if_known": [sources.line_as_json(line) for line in bill.if_known],
    }

    def of_platform() -> Any:
        answer: dict[str, Any] = api.call(found, "POST", "/admin/v1/cost", body=body)
        answer["left_out_rows"] += bill.left_out_rows
        answer["left_out_usd"] = round(answer["left_out_usd"] + bill.left_out_nano_usd / 1e9, 6)
        return answer

    def of_ledger(_: object) -> Any:
        of_state = costs.asked_of(platform, by=by, since=since, until=until, most_rows=limit)
        with stopped.store_of(state) as store:
            return sources.of_platform(of_state, bill, Ledger(store), Lives(store))

    split: dict[str, Any] = stopped.ask(found, of_platform, of_ledger)
    return split


def savings(which: Which, asked: target.Asked) -> dict[str, Any]:
    """From the hours that the bill says. Raises as `report`."""
    from stoker.meter import savings

    bill = _read(which, asked)[-1]
    if isinstance(bill, dict):
        raise InvalidInput("the simulator's report has no hours by type", param="savings")
    return savings.of_bill(bill, savings.list_prices())


def _read(which: Which, asked: target.Asked) -> tuple[target.Target | None, Any, Any, Any]:
    """The platform, its state directory, its platform.yaml, and the bill (or the simulator's report)."""
    from stoker import spec
    from stoker.local.state import StateDirectory
    from stoker.meter import sources

    found = _platform(asked)
    state = None if found is None or found.state is None else StateDirectory(found.state)
    platform = None if state is None else spec.load(state.spec)
    cluster = which.cluster or ("" if platform is None else platform.global_.cluster.name)
    if which.file is None:
        return found, state, platform, _of_aws(which, cluster)
    bill = sources.read(which.file, which.amount, cluster, take_all=which.take_all)
    return found, state, platform, bill if isinstance(bill, dict) else bill.within(which.since, which.until)


def _platform(asked: target.Asked) -> target.Target | None:
    """None where none was named and none is in the usual place: a bill says something by itself."""
    try:
        return target.find(asked, admin=True)
    except NotFound:
        if asked.state is not None:
            raise
        return None


def _of_aws(which: Which, cluster: str) -> Any:
    from stoker.aws.cost_explorer import MOST_PAGES, USD_PER_REQUEST, cost_and_usage
    from stoker.meter import cost_explorer

    until = which.now if which.until is None else which.until
    since = until - 30 * _DAY_S if which.since is None else which.since
    if not (which.take_all or cluster):
        raise InvalidInput(
            "which cluster's bill? Nothing says its name", param="cluster", hint="--cluster NAME, or --all for all"
        )
    tags = () if which.take_all else cluster_tags(cluster)
    if tags:
        show.note("only lines with the cluster's tags are asked for; tax, support and what bears no tag: --all")
    show.note(f"Cost Explorer asks ${USD_PER_REQUEST:.2f} for each page of its answer; {MOST_PAGES} pages at most")
    pages = cost_and_usage(since=since, until=until, metric=cost_explorer.METRICS[which.amount], tags=tags)
    for page in pages[:-1]:
        page["NextPageToken"] = None
    if len(pages) > 1:
        show.note(f"{len(pages)} pages: ${len(pages) * USD_PER_REQUEST:.2f}")
    return cost_explorer.bill_of(pages, which.amount)


def cluster_tags(cluster: str) -> tuple[tuple[str, str], ...]:
    """What EKS and Karpenter put on instances; each must have been activated as a cost allocation tag."""
    return (
        ("aws:eks:cluster-name", cluster),
        ("eks:cluster-name", cluster),
        ("eks:eks-cluster-name", cluster),
        (f"kubernetes.io/cluster/{cluster}", "owned"),
    )
