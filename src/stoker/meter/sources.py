"""A file with a bill, recognised by what is in it; what the simulator says; and a bill without a platform."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from stoker.base.errors import InvalidInput, NotFound
from stoker.meter import cost_explorer, costs, usage_report
from stoker.meter.bill import NOBODY, PARTS, Cell, Line, attribute
from stoker.meter.bill_lines import MOST_LINES, Amount, Bill, moment
from stoker.meter.costs import Asked
from stoker.meter.ledger import Ledger
from stoker.meter.lives import Lives
from stoker.meter.money import dollars

MOST_JSON_BYTES = 256 << 20
OF_MACHINES = ("nodepool", "capacity", "type", "zone", "item", "day")
"""What a bill says without a platform."""
OF_SIMULATOR = ("tenant", "model", "nodepool", "capacity", "type", "zone", "item", "part")
"""What a report of the simulator says."""
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
    except (ValueError, RecursionError) as error:
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


def of_simulator(found: Mapping[str, Any], by: str, most_rows: int = 1000) -> dict[str, Any]:
    """As `costs.report` answers, from `stoker simulate --json`. Raises InvalidInput for keys that it does not have."""
    keys = costs.keys_of(by)
    wrong = [key for key in keys if key not in OF_SIMULATOR]
    if wrong:
        raise InvalidInput(
            f"the simulator's report has no {', '.join(wrong)}; it has {', '.join(OF_SIMULATOR)}", param="by"
        )
    cells = _cells(found["cost_usd"].get("cells"))
    began = moment(found.get("began_at"), "began_at")
    ended_s = found.get("ended_at_s")
    if not _is_time(ended_s):
        raise InvalidInput(f"ended_at_s is {ended_s!r}; it must be seconds", param="ended_at_s")
    dimensions, of_who = costs.dimensions_of(keys)
    totals = costs.Totals(dimensions, of_who)
    totals.add(cells)
    return costs.as_json(totals, {}, sum(cells.values()), Asked(keys, began, began + ended_s, most_rows), "simulator")


def _cells(said: Any) -> dict[Cell, int]:
    """Of the simulator's report; who is its tenant. Raises InvalidInput."""
    if not isinstance(said, list) or len(said) > MOST_LINES:
        raise InvalidInput(
            f"cost_usd.cells must be a list of at most {MOST_LINES} parts of the bill",
            param="cost_usd.cells",
            hint="run `stoker simulate --json` again: earlier versions did not write it",
        )
    found: dict[Cell, int] = {}
    for i, each in enumerate(said):
        cell, nano = _cell(each, f"cost_usd.cells[{i}]")
        found[cell] = found.get(cell, 0) + nano
    return found


def _cell(said: Any, where: str) -> tuple[Cell, int]:
    texts: dict[str, Any] = {key: said.get(key) if isinstance(said, dict) else None for key in OF_SIMULATOR}
    wrong = [key for key, text in texts.items() if not isinstance(text, str)]
    if wrong:
        raise InvalidInput(f"{where}.{wrong[0]} must be a text", param=f"{where}.{wrong[0]}")
    if texts["part"] not in PARTS:
        raise InvalidInput(f"{where}.part is {texts['part']!r}; it must be one of {', '.join(PARTS)}", param=where)
    if type(said.get("nano_usd")) is not int:
        raise InvalidInput(f"{where}.nano_usd is {said.get('nano_usd')!r}; it must be a whole number", param=where)
    tenant, pool = texts.pop("tenant"), texts.pop("nodepool")
    return Cell(day=0, pool=pool, who=(tenant,) if texts["part"] == "work" else NOBODY, **texts), said["nano_usd"]


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
