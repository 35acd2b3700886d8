"""What the platform cost and for whom: lives and usage records out of the store, attributed by `bill`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.meter.bill import DAY_S, Cell, Line, Sums, Who, attribute, end_of, rows
from stoker.meter.cost import Prices
from stoker.meter.ledger import Ledger, SpanRow
from stoker.meter.lives import Lives, MachineLife, PriceStep
from stoker.meter.money import MICRO, dollars, shared_out
from stoker.meter.timelines import Span, Timeline
from stoker.spec import Platform, ServerEngine

_OF_WHO: Mapping[str, tuple[str, ...]] = {
    "tenant": ("tenant",),
    "team": ("tenant", "team"),
    "key": ("tenant", "key_id"),
    "session": ("tenant", "session"),
    "run": ("tenant", "run"),
    "agent": ("agent",),
}
"""Names that are one tenant's own come with the tenant's."""
_OF_MACHINES: Mapping[str, str] = {
    "model": "model",
    "nodepool": "pool",
    "capacity": "capacity",
    "type": "type",
    "zone": "zone",
    "item": "item",
    "part": "part",
    "day": "day",
}
KEYS = (*_OF_WHO, *_OF_MACHINES)
MOST_KEYS = 3
EC2_LEAST_S = 60.0
"""EC2 bills Linux instances by the second, for a minute at least (EC2 User Guide, "On-Demand Instances")."""
LOCAL = "local"
"""The capacity of a machine that nobody bought by the hour."""
PROVIDER = "provider"
"""The item, pool and capacity of what others ask for tokens of models that they run."""
_UNPRICED = (1.0, 0.1, 4.0)


@dataclass(frozen=True, slots=True)
class Asked:
    """A time, in seconds since the epoch, and by which of `KEYS`. Beyond the `most_rows` largest, all others are one.
    `prices` are those of the platform's models; `elsewhere` are those of them that somebody else runs and bills by
    token."""

    by: tuple[str, ...]
    since: float
    until: float
    most_rows: int = 1000
    prices: Mapping[str, Prices] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()


@dataclass(slots=True)
class Used:
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def add(self, row: SpanRow) -> None:
        self.requests += 1
        self.prompt_tokens += row.prompt_tokens
        self.cached_tokens += row.cached_tokens
        self.completion_tokens += row.completion_tokens


def keys_of(text: str) -> tuple[str, ...]:
    """`tenant,model` -> both. Raises InvalidInput."""
    found = tuple(part.strip() for part in text.split(","))
    wrong = [part for part in found if part not in KEYS]
    if wrong or len(found) > MOST_KEYS or len(set(found)) < len(found):
        raise InvalidInput(
            f"by is {text!r}; it must be one to {MOST_KEYS} different ones of {', '.join(KEYS)}, with commas between",
            param="by",
        )
    return found


def check_times(since: float, until: float) -> None:
    """Raises InvalidInput."""
    if since >= until:
        raise InvalidInput(f"since is {since:g} and until {until:g}; since must be before until", param="since")


def asked_of(platform: Platform, *, by: str, since: float, until: float, most_rows: int = 1000) -> Asked:
    """Raises InvalidInput."""
    check_times(since, until)
    models = platform.llm.models
    return Asked(
        by=keys_of(by),
        since=since,
        until=until,
        most_rows=most_rows,
        prices={name: model.prices for name, model in models.items()},
        elsewhere=frozenset(name for name, model in models.items() if isinstance(model.engine, ServerEngine)),
    )


def report(
    asked: Asked, ledger: Ledger, lives: Lives, *, lines: Sequence[Line] | None = None, source: str = "platform"
) -> dict[str, Any]:
    """The cost of a time as JSON. `lines`: somebody else's bill; without it, node-time at its prices. Raises
    Unavailable."""
    dimensions, of_who = dimensions_of(asked.by)
    machines = lives.machines(since=asked.since, until=asked.until)
    stays = lives.stays(since=asked.since, until=asked.until)
    at_prices = machine_lines(machines, lives.prices(until=asked.until), since=asked.since, until=asked.until)
    ours = {stay.model for stay in stays if stay.model}
    elsewhere = asked.elsewhere - ours
    spans, used, paid = _read(ledger.spans(since=asked.since, until=asked.until), asked, of_who, dimensions, elsewhere)
    timelines = {replica: Timeline(each) for replica, each in spans.items()}
    cells = attribute(at_prices if lines is None else lines, machines, stays, timelines)
    bill = sum(line.nano_usd for line in (at_prices if lines is None else lines))
    if lines is None:
        for cell, nano in paid.items():
            cells[cell] = cells.get(cell, 0) + nano
            bill += nano
    return as_json(cells, used, bill, asked, dimensions, of_who, source)


def dimensions_of(by: Sequence[str]) -> tuple[list[str], list[str]]:
    """Fields of cells to sum by, and the names of `who`."""
    of_who = list(dict.fromkeys(name for key in by for name in _OF_WHO.get(key, ())))
    dimensions = list(dict.fromkeys(name for key in by for name in _OF_WHO.get(key) or (_OF_MACHINES[key],)))
    return dimensions, of_who


def machine_lines(
    machines: Iterable[MachineLife], prices: Iterable[PriceStep], *, since: float, until: float
) -> list[Line]:
    """Node-time at its prices, within a time: a line for each machine, day (UTC) and price. Rounded once each, a half
    up."""
    steps: dict[tuple[str, str, str], list[tuple[float, int]]] = {}
    for step in prices:
        steps.setdefault((step.type, step.zone, step.capacity), []).append((step.at, step.nano_usd_per_hour))
    found = []
    for machine in machines:
        began, ended = max(machine.began_at, since), min(_billed_until(machine), until)
        if ended <= began:
            continue
        of_this = steps.get((machine.type, machine.zone, machine.capacity), [])
        bounds = {began, ended, *(at for at, _ in of_this if began < at < ended), *_midnights(began, ended)}
        for from_, to in pairwise(sorted(bounds)):
            rate = next((nano for at, nano in reversed(of_this) if at <= from_), machine.nano_usd_per_hour)
            for item, per_hour in (("instance", rate), ("extra", machine.extra_nano_usd_per_hour)):
                nano = _nano(per_hour, to - from_)
                if nano:
                    found.append(Line(nano, from_, to, item, machine.id))
    return found


def _billed_until(machine: MachineLife) -> float:
    if machine.ended_at is None or machine.capacity == LOCAL:
        return end_of(machine)
    return max(machine.ended_at, machine.began_at + EC2_LEAST_S)


def _midnights(began: float, ended: float) -> Iterator[float]:
    day = int(began // DAY_S) + 1
    while day * DAY_S < ended:
        yield float(day * DAY_S)
        day += 1


def _nano(per_hour: int, seconds: float) -> int:
    return (2 * per_hour * round(seconds * 1e6) + 3_600_000_000) // (2 * 3_600_000_000)


def _read(
    rows_: Iterable[SpanRow],
    asked: Asked,
    of_who: Sequence[str],
    dimensions: Sequence[str],
    elsewhere: frozenset[str],
) -> tuple[dict[str, list[Span[Who]]], dict[tuple[str, ...], Used], dict[Cell, int]]:
    """Spans by replica; what was used, by those of `dimensions` that a request has; and what providers ask."""
    weigh = {model: _weights(prices) for model, prices in asked.prices.items()}
    spans: dict[str, list[Span[Who]]] = {}
    used: dict[tuple[str, ...], Used] = {}
    paid: dict[Cell, int] = {}
    names: dict[tuple[str | None, ...], Who] = {}
    get = _getter(of_who)
    for row in rows_:
        values = get(row)
        who = names.setdefault(values, tuple(value or "" for value in values))
        has_ended = asked.since <= row.ended_at < asked.until
        if has_ended:
            key = tuple(_used_value(row, name, of_who, who) for name in dimensions)
            used.setdefault(key, Used()).add(row)
        if row.model in elsewhere:
            if has_ended and row.nano_usd:
                day = int(row.ended_at // DAY_S)
                cell = Cell(day, "work", PROVIDER, PROVIDER, PROVIDER, PROVIDER, PROVIDER, row.model, who)
                paid[cell] = paid.get(cell, 0) + row.nano_usd
        elif row.replica:
            spans.setdefault(row.replica, []).append(
                Span(who, row.started_at, row.ended_at, work_of(row, weigh.get(row.model, _UNPRICED)))
            )
    return spans, used, paid


def _getter(of_who: Sequence[str]) -> Callable[[SpanRow], tuple[str | None, ...]]:
    def get(row: SpanRow) -> tuple[str | None, ...]:
        return tuple(_of_row(row, name) for name in of_who)

    return get


def _of_row(row: SpanRow, name: str) -> str | None:
    if name == "run":  # with all below it
        return row.run.partition(".")[0] if row.run and row.agent else row.run
    value: str | None = getattr(row, name)
    return value


def _used_value(row: SpanRow, name: str, of_who: Sequence[str], who: Who) -> str:
    if name in of_who:
        return who[of_who.index(name)]
    if name == "day":
        return datetime.fromtimestamp(row.ended_at, UTC).date().isoformat()
    return row.model if name == "model" else ""


def _weights(prices: Prices) -> tuple[float, float, float]:
    found = (
        float(prices.input_usd_per_million_tokens),
        float(prices.cached_input_usd_per_million_tokens),
        float(prices.output_usd_per_million_tokens),
    )
    return found if any(found) else _UNPRICED


def work_of(row: SpanRow, weights: tuple[float, float, float]) -> float:
    """What its tokens took of an engine, in units of its model: a token of prompt, one that was in the cache and one of
    the answer count as they are priced, since that is what an operator has said of them."""
    prompt, cached, completion = weights
    return (
        (row.prompt_tokens - row.cached_tokens) * prompt
        + row.cached_tokens * cached
        + row.completion_tokens * completion
    )


# --- as JSON ----------------------------------------------------------------------------------------------------------


def as_json(
    cells: Mapping[Cell, int],
    used: Mapping[tuple[str, ...], Used],
    bill: int,
    asked: Asked,
    dimensions: Sequence[str],
    of_who: Sequence[str],
    source: str,
) -> dict[str, Any]:
    """`{"rows", "total_usd", "bill_usd", ...}`: micro-dollars that sum, and the exact nano-dollars beside them."""
    sums = _largest(rows(cells, dimensions, of_who), asked.most_rows)
    shown = shared_out({"\0".join(key): each.nano_usd for key, each in sums.items()}, MICRO)
    has_requests = set(dimensions) <= {*of_who, "model", "day"} and set(dimensions) != {"day"}
    ordered = sorted(sums.items(), key=lambda item: (-item[1].nano_usd, item[0]))
    return {
        "by": list(asked.by),
        "since": asked.since,
        "until": asked.until,
        "source": source,
        "rows": [
            _row(key, each, shown["\0".join(key)], dimensions, asked.by, used if has_requests else {})
            for key, each in ordered
        ],
        "total_usd": dollars(sum(each.nano_usd for each in sums.values())),
        "bill_usd": dollars(bill),
        "bill_nano_usd": bill,
        "parts": {part: dollars(each.nano_usd) for (part,), each in sorted(rows(cells, ["part"], of_who).items())},
        "items": {item: dollars(each.nano_usd) for (item,), each in sorted(rows(cells, ["item"], of_who).items())},
    }


def _largest(sums: Mapping[tuple[str, ...], Sums], most: int) -> dict[tuple[str, ...], Sums]:
    """All of them, or the largest and one more that all others are in."""
    ordered = sorted(sums.items(), key=lambda item: (-item[1].nano_usd, item[0]))
    kept = dict(ordered[:most])
    if len(ordered) > most:
        others = Sums()
        for _, each in ordered[most:]:
            others.nano_usd += each.nano_usd
            others.work += each.work
            others.idle += each.idle
            others.start_up += each.start_up
        kept[(f"({len(ordered) - most} others)",) * len(ordered[0][0])] = others
    return kept


def _row(
    key: tuple[str, ...],
    sums: Sums,
    micro_usd: int,
    dimensions: Sequence[str],
    by: Sequence[str],
    used: Mapping[tuple[str, ...], Used],
) -> dict[str, Any]:
    named = dict(zip(dimensions, key, strict=True))
    shown = [named[(_OF_WHO.get(each) or (_OF_MACHINES[each],))[-1]] for each in by]
    found: dict[str, Any] = {
        "key": ", ".join(shown),
        **{name: value for name, value in named.items() if name != "pool"},
        **({"nodepool": named["pool"]} if "pool" in named else {}),
        "usd": micro_usd / 1e6,
        "nano_usd": sums.nano_usd,
        "work_usd": dollars(sums.work),
        "idle_usd": dollars(sums.idle),
        "start_up_usd": dollars(sums.start_up),
    }
    if used:
        mine = used.get(tuple("" if value.startswith("(") else value for value in key), Used())
        tokens = mine.prompt_tokens + mine.completion_tokens
        found |= {
            "requests": mine.requests,
            "prompt_tokens": mine.prompt_tokens,
            "cached_tokens": mine.cached_tokens,
            "completion_tokens": mine.completion_tokens,
            "usd_per_million_tokens": float(round(Decimal(sums.nano_usd) / tokens / 1000, 6)) if tokens else None,
        }
    return found
