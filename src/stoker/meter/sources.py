"""A file with a bill, recognised by what is in it; what the simulator says; and a bill without a platform."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from stoker.base.errors import InvalidInput, NotFound
from stoker.meter import cost_explorer, costs, usage_report
from stoker.meter.bill import Line, attribute
from stoker.meter.bill_lines import MOST_LINES, Amount, Bill
from stoker.meter.costs import Asked
from stoker.meter.ledger import Ledger
from stoker.meter.lives import Lives
from stoker.meter.money import dollars

MOST_JSON_BYTES = 256 << 20
OF_MACHINES = ("nodepool", "capacity", "type", "zone", "item", "day")
"""What a bill says without a platform."""
_OF_SIMULATOR: Mapping[str, str] = {
    "tenant": "by_tenant",
    "model": "by_model",
    "nodepool": "by_pool",
    "capacity": "by_capacity",
    "type": "by_node_type",
    "item": "by_part",
}
_TEXTS = ("item", "machine", "pool", "capacity", "type", "zone")


def read(path: Path, amount: Amount, cluster: str, *, take_all: bool = False) -> Bill | dict[str, Any]:
    """A bill, or the report of `stoker simulate --json`. Raises NotFound and InvalidInput."""
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    with path.open("rb") as file:
        begins = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if begins[:1] not in (b"{", b"["):
        return usage_report.bill_of(path, amount, cluster, take_all=take_all)
    if path.stat().st_size > MOST_JSON_BYTES:
        raise InvalidInput(f"{path} has {path.stat().st_size} bytes; at most {MOST_JSON_BYTES} are read", param="bill")
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise InvalidInput(f"{path} is no JSON: {error}", param="bill") from error
    if cost_explorer.is_answer(found):
        return cost_explorer.bill_of(found, amount)
    if isinstance(found, dict) and isinstance(found.get("cost_usd"), dict) and "total" in found["cost_usd"]:
        return found
    raise InvalidInput(
        f"{path} is no bill that is known",
        param="bill",
        hint="give the JSON of `aws ce get-cost-and-usage` or of `stoker simulate --json`, or a cost and usage report",
    )


def of_simulator(found: Mapping[str, Any], by: str) -> dict[str, Any]:
    """As `costs.report` answers, from `stoker simulate --json`. Raises InvalidInput for keys that it does not have."""
    bill = found["cost_usd"]
    has = [key for key, name in _OF_SIMULATOR.items() if isinstance(bill.get(name), dict)]
    if by not in has:
        raise InvalidInput(f"the simulator's report has no {by}; it has {', '.join(has)}, one at a time", param="by")
    nano = {str(key): round(usd * 1e9) for key, usd in bill[_OF_SIMULATOR[by]].items()}
    total = sum(nano.values())
    return {
        "by": [by],
        "since": None,
        "until": None,
        "source": "simulator",
        "rows": [
            {
                "key": key,
                by: key,
                "usd": dollars(each),
                "nano_usd": each,
                "work_usd": 0.0,
                "idle_usd": 0.0,
                "start_up_usd": 0.0,
            }
            for key, each in sorted(nano.items(), key=lambda item: (-item[1], item[0]))
        ],
        "total_usd": dollars(total),
        "bill_usd": bill["total"],
        "bill_nano_usd": round(bill["total"] * 1e9),
    }


def of_file_alone(asked: Asked, bill: Bill) -> dict[str, Any]:
    """As `costs.report`, with no platform: only what the bill itself says. Raises InvalidInput."""
    wrong = [key for key in asked.by if key not in OF_MACHINES]
    if wrong:
        raise InvalidInput(
            f"by {', '.join(wrong)}: a bill alone does not say it, since it has no requests; "
            f"it says {', '.join(OF_MACHINES)}",
            param="by",
            hint="name the platform with --state DIR, or with --url and --key",
        )
    dimensions, of_who = costs.dimensions_of(asked.by)
    totals = costs.Totals(dimensions, of_who)
    totals.add(attribute(bill.lines, [], [], {}))
    return costs.as_json(totals, {}, bill.nano_usd, asked, bill.source)


def of_platform(asked: Asked, bill: Bill, ledger: Ledger, lives: Lives) -> dict[str, Any]:
    """As `costs.report`, of the bill and those of its `if_known` of machines that the ledger knows. Raises
    Unavailable."""
    taken = known_of(asked, bill, lives)
    return with_left_out(costs.report(asked, ledger, lives, lines=taken.lines, source=taken.source), taken)


def known_of(asked: Asked, bill: Bill, lives: Lives) -> Bill:
    """The bill with those of its `if_known` that are of machines of the ledger. Raises Unavailable."""
    return bill.known_to({machine.id for machine in lives.machines(since=asked.since, until=asked.until)})


def with_left_out(report: dict[str, Any], bill: Bill) -> dict[str, Any]:
    return {
        **report,
        "left_out_usd": dollars(bill.left_out_nano_usd),
        "left_out_rows": bill.left_out_rows,
    }


def line_as_json(line: Line) -> dict[str, Any]:
    said = {name: value for name in _TEXTS if (value := getattr(line, name))}
    shared = {"is_shared": True} if line.is_shared else {}
    return {"nano_usd": line.nano_usd, "began_at": line.began_at, "ended_at": line.ended_at, **said, **shared}


def lines_of_json(found: Any, name: str) -> list[Line]:
    """Raises InvalidInput with the line that is wrong."""
    if not isinstance(found, list) or len(found) > MOST_LINES:
        raise InvalidInput(f"{name} must be a list of at most {MOST_LINES} lines of a bill", param=name)
    return [_line(each, f"{name}[{i}]") for i, each in enumerate(found)]


def _line(said: Any, where: str) -> Line:
    if not isinstance(said, dict):
        raise InvalidInput(f"{where} is {type(said).__name__}; it must be an object", param=where)
    unknown = sorted(set(said) - {"nano_usd", "began_at", "ended_at", "is_shared", *_TEXTS})
    if unknown:
        raise InvalidInput(f"{where} has the unknown key {unknown[0]}", param=f"{where}.{unknown[0]}")
    nano, began, ended = said.get("nano_usd"), said.get("began_at"), said.get("ended_at")
    if type(nano) is not int or abs(nano) >= 2**63:
        raise InvalidInput(f"{where}.nano_usd is {nano!r}; it must be a whole number", param=f"{where}.nano_usd")
    if not (_is_time(began) and _is_time(ended)):
        raise InvalidInput(f"{where} is from {began!r} to {ended!r}; both must be seconds", param=where)
    texts = {name: said.get(name, "") for name in _TEXTS if name in said}
    wrong = [name for name, value in texts.items() if not isinstance(value, str) or len(value) > 256]
    if wrong:
        raise InvalidInput(f"{where}.{wrong[0]} must be a text of at most 256 characters", param=f"{where}.{wrong[0]}")
    is_shared = said.get("is_shared", False)
    if not isinstance(is_shared, bool):
        raise InvalidInput(f"{where}.is_shared is {is_shared!r}; it must be true or false", param=f"{where}.is_shared")
    return Line(nano, float(began), float(max(began, ended)), is_shared=is_shared, **texts)


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e12
