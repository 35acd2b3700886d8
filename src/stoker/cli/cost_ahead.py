"""`stoker cost --savings`, `--forecast` and `--anomalies`: asked of the platform, and told in lines."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stoker.cli import api, show, stopped, target

if TYPE_CHECKING:
    from stoker.local.state import StateDirectory

_DAY_S = 86400.0
_LOOKS_BACK_S = 35 * _DAY_S


def savings(found: target.Target, since: float, until: float) -> Any:
    """Raises Unavailable."""
    times = {"since": repr(since), "until": repr(until)}

    def of_ledger(state: "StateDirectory") -> Any:
        from stoker.meter import savings
        from stoker.meter.lives import Lives

        with stopped.store_of(state) as store:
            return savings.of_lives(Lives(store), since=since, until=until)

    return stopped.ask(found, lambda: api.call(found, "GET", "/admin/v1/cost/savings", params=times), of_ledger)


def outlook(
    what: str, ask: Callable[[float], Any], by: Sequence[str], since: float | None, until: float
) -> dict[str, Any]:
    """`ask` gives the report by day and `by` from a moment on. Anomalies are of days from `since` (a week ago) on."""
    from stoker.meter import outlook as days

    since = until - 7 * _DAY_S if since is None else since
    begins = (until if what == "forecast" else since) - _LOOKS_BACK_S
    report = ask(begins // _DAY_S * _DAY_S)
    of = days.days_of(report["rows"], by)
    if what == "forecast":
        rows = [{"key": key, **days.forecast(each, until)} for key, each in of.items()]
        rows.sort(key=lambda row: -(row["forecast_usd"] or 0))
        return {"by": list(by), "total": days.forecast(days.total(of.values()), until), "rows": rows}
    return {"by": list(by), "rows": days.anomalies(of, since=_date(since), until=_date(until))}


def show_as_text(what: str, report: dict[str, Any]) -> None:
    {"savings": _savings, "forecast": _forecast, "anomalies": _anomalies}[what](report)


def _savings(report: dict[str, Any]) -> None:
    from stoker.meter.money import spoken

    for name in ("spot", "scaling", "consolidation"):
        said = report.get(name)
        if said is not None:
            saved = "not known" if said["saved_usd"] is None else spoken(said["saved_usd"])
            print(f"{name}: {saved} ({said['how']})")
    if report["spot"]["without_a_price"]:
        show.note(f"no on-demand price is known of {', '.join(report['spot']['without_a_price'])}")
    for item, usd in report.get("plans", {}).items():
        print(f"{item}: {spoken(usd)} paid")


def _forecast(report: dict[str, Any]) -> None:
    from stoker.meter.money import spoken

    total = report["total"]
    show.note(f"{total['month']}, from {total['days_known']} days ({total['method']})")
    if total["back_test_error_percent"] is not None:
        show.note(f"weeks that are over would have been forecast with an error of {total['back_test_error_percent']} %")
    names = ("so_far_usd", "forecast_usd", "low_usd", "high_usd")
    show.table(
        ["key", "so far", "forecast", "low", "high"],
        [
            [row["key"], *("" if row[name] is None else spoken(row[name]) for name in names)]
            for row in [*report["rows"], {"key": "total", **total}]
        ],
        right=["so far", "forecast", "low", "high"],
    )


def _anomalies(report: dict[str, Any]) -> None:
    from stoker.meter.money import spoken

    if not report["rows"]:
        print("no day stands out")
    for row in report["rows"]:
        print(f"{row['day']}  {row['key']}: {spoken(row['usd'])}, usually {spoken(row['usual_usd'])}")
        for each in row["changed"]:
            print(f"    {each['what']}: {each['is']:,.6g}, usually {each['usual']:,.6g}")


def _date(at: float) -> Any:
    return datetime.fromtimestamp(at, UTC).date()
