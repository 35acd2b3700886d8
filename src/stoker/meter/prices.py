"""Prices over time: what `aws ec2 describe-spot-price-history` prints, or a table of one's own.

The simulator pays with them, with seconds since its trace began, and `stoker runs`, with seconds since the epoch. Rows
of one offering are steps: each price holds until the next; the first also before it.
"""

import bisect
import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.base.errors import InvalidInput, NotFound
from stoker.policy.cluster import Market

if TYPE_CHECKING:
    from stoker.meter.machines import PriceStep

Key = tuple[str, str, str]
"""Type, zone, capacity type."""
_COLUMNS = ("type", "zone", "capacity", "usd_per_hour")
_MAX_BYTES = 256 << 20
_LINUX = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")


@dataclass(frozen=True, eq=False)
class Prices:
    """`steps`: by offering, (seconds since a moment of the caller's, USD per hour), by time."""

    steps: Mapping[Key, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def at(self, key: Key, now: float, otherwise: float) -> float:
        """USD per hour at a moment; `otherwise` where nothing is known of the offering."""
        steps = self.steps.get(key)
        if not steps:
            return otherwise
        return steps[max(0, bisect.bisect_right(steps, (now, math.inf)) - 1)][1]

    def pieces(self, key: Key, began: float, ended: float, otherwise: float) -> list[tuple[float, float]]:
        """Seconds and USD per hour of each piece of [began, ended] with one price; the seconds sum to its length."""
        bounds = [began, *(at for at, _ in self.steps.get(key, ()) if began < at < ended), ended]
        return [(until - since, self.at(key, since, otherwise)) for since, until in pairwise(bounds)]

    def changes(self) -> list[float]:
        """The moments after 0 at which any price changes."""
        return sorted({at for steps in self.steps.values() for at, _ in steps if at > 0})

    def applied(self, market: Market, now: float) -> Market:
        """The market with the prices of a moment."""
        named = {name for name, _, _ in self.steps}
        return {
            name: offerings
            if name not in named
            else tuple(
                replace(each, usd_per_hour=self.at((name, each.zone, each.capacity), now, each.usd_per_hour))
                for each in offerings
            )
            for name, offerings in market.items()
        }


def recorded(steps: "Iterable[PriceStep]") -> Prices:
    """What the ledger has of prices, in nano-dollars; moments are seconds since the epoch."""
    found: dict[Key, list[tuple[float, float]]] = {}
    for step in steps:
        key = step.type, step.zone, step.capacity
        found.setdefault(key, []).append((step.at, float(step.nano_usd_per_hour)))
    return Prices({key: tuple(sorted(of)) for key, of in found.items()})


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_prices(path: str, began_at: datetime, *, may_move: bool = True) -> Prices:
    """A file of spot price history (JSON of the AWS CLI), or CSV with the columns type, zone, capacity, usd_per_hour
    and, for prices that change, at_s (seconds since `began_at`) or time (ISO 8601 with zone).

    Where all times are on other days than `began_at`, they are moved by whole days, and a note says so; not without
    `may_move`. Raises NotFound, and InvalidInput with the row."""
    file = Path(path)
    if not file.is_file():
        raise NotFound(f"there is no file of prices {path}")
    if file.stat().st_size > _MAX_BYTES:
        raise InvalidInput(f"{path} has {file.stat().st_size} bytes; at most {_MAX_BYTES} are read", param="prices")
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is no text in UTF-8: {error.reason}", param="prices") from error
    rows = _history(text, path) if text.lstrip().startswith("{") else _table(text, path)
    return _prices(rows, began_at, may_move=may_move)


Row = tuple[Key, "float | datetime | None", float]


def _history(text: str, path: str) -> list[Row]:
    try:
        listed = json.loads(text).get("SpotPriceHistory")
    except ValueError as error:
        raise InvalidInput(f"{path} is no JSON: {error}", param="prices") from error
    if not isinstance(listed, list):
        raise _wrong(path, 1, "no list SpotPriceHistory", "the output of `aws ec2 describe-spot-price-history`")
    found: list[Row] = []
    for i, each in enumerate(listed, 1):
        said = each if isinstance(each, dict) else {}
        if said.get("ProductDescription", _LINUX[0]) in _LINUX:
            key = str(said.get("InstanceType", "")), str(said.get("AvailabilityZone", "")), "spot"
            found.append((key, _moment(said.get("Timestamp"), path, i), _price(said.get("SpotPrice"), path, i)))
    return found


def _table(text: str, path: str) -> list[Row]:
    reader = csv.DictReader(io.StringIO(text))
    columns = reader.fieldnames or []
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise _wrong(path, 1, f"no column {', '.join(missing)}", f"columns {', '.join(_COLUMNS)}, and at_s or time")
    found: list[Row] = []
    for row in reader:
        line = reader.line_num
        capacity = (row["capacity"] or "").strip()
        if capacity not in ("spot", "on-demand", "reserved"):
            raise _wrong(path, line, f"capacity {capacity!r}", "spot, on-demand or reserved")
        at: float | datetime | None = None
        if row.get("at_s"):
            at = _number(row["at_s"], path, line, "at_s")
        elif row.get("time"):
            at = _moment(row["time"], path, line)
        key = (row["type"] or "").strip(), (row["zone"] or "").strip(), capacity
        found.append((key, at, _price(row["usd_per_hour"], path, line)))
    return found


def _prices(rows: Iterable[Row], began_at: datetime, *, may_move: bool) -> Prices:
    held = list(rows)
    moments = [at for _, at, _ in held if isinstance(at, datetime)]
    notes: list[str] = []
    moved = timedelta()
    if may_move and moments and not min(moments) <= began_at <= max(moments) + timedelta(days=1):
        moved = timedelta(days=(began_at - min(moments)).days)
        notes.append(
            f"prices of {min(moments):%Y-%m-%d} are taken for those of {began_at:%Y-%m-%d}: moved by whole days"
        )
    steps: dict[Key, dict[float, float]] = {}
    for key, at, usd in held:
        seconds = (at + moved - began_at).total_seconds() if isinstance(at, datetime) else (at or 0.0)
        steps.setdefault(key, {})[seconds] = usd
    return Prices({key: tuple(sorted(of.items())) for key, of in steps.items()}, tuple(notes))


def _price(value: Any, path: str, row: int) -> float:
    usd = _number(value, path, row, "the price")
    if usd < 0:
        raise _wrong(path, row, f"the price {value}", "0 or more")
    return usd


def _number(value: Any, path: str, row: int, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(path, row, f"{what} is {value!r}", "a number")
    return number


def _moment(value: Any, path: str, row: int) -> datetime:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise _wrong(path, row, f"the time {value!r}", "ISO 8601 with its zone: 2026-11-02T08:00:00Z")
    return found.astimezone(UTC)


def _wrong(path: str, row: int, said: str, right: str) -> InvalidInput:
    return InvalidInput(f"{path}, row {row}: {said}", param="prices", hint=f"what would do: {right}")
