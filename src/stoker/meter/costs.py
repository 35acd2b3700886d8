"""What the platform cost and for whom: lives and usage records out of the store, attributed by `bill`."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import itemgetter
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.meter.bill import DAY_S, NONE, Cell, Line, Sums, Who, attribute, by_days, day_of, end_of, rows
from stoker.meter.ledger import Ledger, SpanRow
from stoker.meter.lives import LOCAL, Lives, MachineLife, PriceStep
from stoker.meter.money import MICRO, dollars, shared_out
from stoker.meter.prices import recorded
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
PROVIDER = "provider"
"""The item, pool and capacity of what others ask for tokens of models that they run."""
PROMPT_WORK, CACHED_WORK, COMPLETION_WORK = 1.0, 0.02, 12.0
"""What a token takes of an engine: one of a prompt, one of a prompt that is in the cache, one of an answer. On GPUs a
prompt is computed at once and an answer waits for memory, token by token. With these, tenants' shares of an engine's
time are 4 points of a hundred off; with list prices as weights 15 (benchmarks/cost/fairness.py, the median)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A time, in seconds since the epoch, and by which of `KEYS`. Beyond the `most_rows` largest, all others are one.
    `elsewhere` are the models that somebody else runs and bills by token."""

    by: tuple[str, ...]
    since: float
    until: float
    most_rows: int = 1000
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

    def include(self, other: "Used") -> None:
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.cached_tokens += other.cached_tokens
        self.completion_tokens += other.completion_tokens


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


def asked_of(platform: Platform, *, by: str, since: float, until: float, most_rows: int = 1000) -> Asked:
    """Raises InvalidInput. Where `since` is not before `until` there is nothing to tell."""
    models = platform.llm.models
    return Asked(
        by=keys_of(by),
        since=since,
        until=until,
        most_rows=most_rows,
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
    if lines is None:
        paid_for = machine_lines(machines, lives.prices(until=asked.until), since=asked.since, until=asked.until)
        elsewhere = asked.elsewhere - {stay.model for stay in stays if stay.model}
    else:
        paid_for, elsewhere = list(lines), frozenset()
    of_days, provider = by_days(paid_for, machines), 0
    longest_s = ledger.longest(since=asked.since, until=asked.until)
    sums = Totals(dimensions, of_who)
    used: dict[tuple[str, ...], Used] = {}
    # Day by day: of a month only the sums are kept.
    for began, ended in _days(asked, of_days, ledger.days()):
        read = _Read(asked, of_who, dimensions, elsewhere, began, ended)
        read.all(ledger.spans(since=began, until=ended, longest_s=longest_s))
        timelines = {replica: Timeline(each) for replica, each in read.spans.items()}
        sums.add(attribute(of_days.get(int(began // DAY_S), ()), machines, stays, timelines))
        sums.add(read.paid)
        for key, each in read.used.items():
            used.setdefault(key, Used()).include(each)
        provider += sum(read.paid.values())
    bill = sum(line.nano_usd for line in paid_for) + provider
    return as_json(sums, used, bill, asked, source)


class Totals:
    """Sums of cells by some dimensions, by part and by item."""

    def __init__(self, dimensions: Sequence[str], of_who: Sequence[str]) -> None:
        self.dimensions, self.of_who = dimensions, of_who
        self.rows: dict[tuple[str, ...], Sums] = {}
        self.parts: dict[tuple[str, ...], Sums] = {}
        self.items: dict[tuple[str, ...], Sums] = {}

    def add(self, cells: Mapping[Cell, int]) -> None:
        for found, dimensions in ((self.rows, self.dimensions), (self.parts, ["part"]), (self.items, ["item"])):
            for key, sums in rows(cells, dimensions, self.of_who).items():
                found.setdefault(key, Sums()).include(sums)


def _days(asked: Asked, of_days: Iterable[int], recorded: tuple[int, int] | None) -> Iterator[tuple[float, float]]:
    """Those of the time for which there are records (`recorded`: the first and the last day) or money: the first and
    the last cut to it."""
    first, last = int(asked.since // DAY_S), math.ceil(asked.until / DAY_S) - 1
    of_records = () if recorded is None else range(max(first, recorded[0]), min(last, recorded[1]) + 1)
    for day in sorted({*of_records, *of_days}):
        began, ended = float(day * DAY_S), float((day + 1) * DAY_S)
        yield (max(began, asked.since), min(ended, asked.until)) if first <= day <= last else (began, ended)


def dimensions_of(by: Sequence[str]) -> tuple[list[str], list[str]]:
    """Fields of cells to sum by, and the names of `who`."""
    of_who = list(dict.fromkeys(name for key in by for name in _OF_WHO.get(key, ())))
    dimensions = list(dict.fromkeys(name for key in by for name in _OF_WHO.get(key) or (_OF_MACHINES[key],)))
    return dimensions, of_who


def machine_lines(
    machines: Iterable[MachineLife], prices: Iterable[PriceStep], *, since: float, until: float
) -> list[Line]:
    """Node-time at its prices, within a time: a line for each machine and price. Rounded once each, a half up."""
    history, found = recorded(prices), []
    for machine in machines:
        began, ended = max(machine.began_at, since), min(_billed_until(machine), until)
        if ended <= began:
            continue
        offering = machine.type, machine.zone, machine.capacity
        for seconds, rate in history.pieces(offering, began, ended, machine.nano_usd_per_hour):
            until_then = min(began + seconds, ended)
            for item, per_hour in (("instance", int(rate)), ("extra", machine.extra_nano_usd_per_hour)):
                nano = _nano(per_hour, seconds)
                if nano:
                    found.append(Line(nano, began, until_then, item, machine.id))
            began = until_then
    return found


def _billed_until(machine: MachineLife) -> float:
    if machine.ended_at is None or machine.capacity == LOCAL:
        return end_of(machine)
    return max(machine.ended_at, machine.began_at + EC2_LEAST_S)


def _nano(per_hour: int, seconds: float) -> int:
    return (2 * per_hour * round(seconds * 1e6) + 3_600_000_000) // (2 * 3_600_000_000)


class _Read:
    """Usage records of a part of the time: spans by replica; what was used, by those of `dimensions` that a request
    has; and what providers ask."""

    def __init__(
        self,
        asked: Asked,
        of_who: Sequence[str],
        dimensions: Sequence[str],
        elsewhere: frozenset[str],
        began: float,
        ended: float,
    ) -> None:
        self._since, self._until = max(began, asked.since), min(ended, asked.until)
        self._of_who, self._dimensions, self._elsewhere = of_who, dimensions, elsewhere
        self._day = day_of(int(began // DAY_S))
        self.spans: dict[str, list[Span[Who]]] = {}
        self._used: dict[tuple[str, ...], Used] = {}
        self.paid: dict[Cell, int] = {}

    def all(self, rows_: Iterable[SpanRow]) -> None:
        """Of a million rows each word costs a second or so: what is the same for many of them is worked out once."""
        alike = itemgetter(*(SpanRow._fields.index(name) for name in ("model", "agent", *self._of_who)))
        known: dict[Any, tuple[Who, Used]] = {}
        for row in rows_:
            found = known.get(alike(row))
            if found is None:
                who = tuple([_of_row(row, name) or "" for name in self._of_who])
                key = tuple([self._value(row, name, who) for name in self._dimensions])
                found = known[alike(row)] = who, self._used.setdefault(key, Used())
            who, used = found
            has_ended = self._since <= row.ended_at < self._until
            if has_ended:
                used.add(row)
            if row.model in self._elsewhere:
                if has_ended and row.nano_usd:
                    day = int(row.ended_at // DAY_S)
                    cell = Cell(day, "work", PROVIDER, PROVIDER, PROVIDER, PROVIDER, PROVIDER, row.model, who)
                    self.paid[cell] = self.paid.get(cell, 0) + row.nano_usd
            elif row.replica:
                span = Span(who, row.started_at, row.ended_at, work_of(row))
                self.spans.setdefault(row.replica, []).append(span)

    @property
    def used(self) -> dict[tuple[str, ...], Used]:
        return {key: each for key, each in self._used.items() if each.requests}

    def _value(self, row: SpanRow, name: str, who: Who) -> str:
        if name in self._of_who:
            return who[self._of_who.index(name)]
        if name == "day":
            return self._day
        return row.model if name == "model" else ""


def _of_row(row: SpanRow, name: str) -> str | None:
    if name == "run":  # with all below it
        return row.run.partition(".")[0] if row.run and row.agent else row.run
    value: str | None = getattr(row, name)
    return value


def work_of(row: SpanRow) -> float:
    """What its tokens took of an engine, in tokens of a prompt."""
    return (
        (row.prompt_tokens - row.cached_tokens) * PROMPT_WORK
        + row.cached_tokens * CACHED_WORK
        + row.completion_tokens * COMPLETION_WORK
    )


# --- as JSON ----------------------------------------------------------------------------------------------------------


def as_json(
    totals: Totals, used: Mapping[tuple[str, ...], Used], bill: int, asked: Asked, source: str
) -> dict[str, Any]:
    """`{"rows", "total_usd", "bill_usd", ...}`: micro-dollars that sum, and the exact nano-dollars beside them."""
    dimensions = totals.dimensions
    has_requests = set(dimensions) <= {*totals.of_who, "model", "day"} and set(dimensions) != {"day"}
    of_rows = _used_of_rows(totals, used) if has_requests else {}
    # Whoever has asked something has a row, also where no machine is known that it ran on.
    rows = {**{key: Sums() for key in of_rows}, **totals.rows}
    sums = _largest(rows, asked.most_rows)
    for others in sums.keys() - rows.keys() if of_rows else ():  # of all that are not among the largest
        of_rows[others] = Used()
        for key in of_rows.keys() - sums.keys():
            of_rows[others].include(of_rows[key])
    shown = shared_out({"\0".join(key): each.nano_usd for key, each in sums.items()}, MICRO)
    ordered = sorted(sums.items(), key=lambda item: (-item[1].nano_usd, item[0]))
    return {
        "by": list(asked.by),
        "since": asked.since,
        "until": asked.until,
        "source": source,
        "rows": [_row(key, each, shown["\0".join(key)], dimensions, asked.by, of_rows) for key, each in ordered],
        "total_usd": dollars(sum(each.nano_usd for each in sums.values())),
        "bill_usd": dollars(bill),
        "bill_nano_usd": bill,
        "parts": {part: dollars(each.nano_usd) for (part,), each in sorted(totals.parts.items())},
        "items": {item: dollars(each.nano_usd) for (item,), each in sorted(totals.items.items())},
    }


def _largest(sums: Mapping[tuple[str, ...], Sums], most: int) -> dict[tuple[str, ...], Sums]:
    """All of them, or the largest and one more that all others are in."""
    ordered = sorted(sums.items(), key=lambda item: (-item[1].nano_usd, item[0]))
    kept = dict(ordered[:most])
    if len(ordered) > most:
        others = Sums()
        for _, each in ordered[most:]:
            others.include(each)
        kept[(f"({len(ordered) - most} others)",) * len(ordered[0][0])] = others
    return kept


def _used_of_rows(totals: Totals, used: Mapping[tuple[str, ...], Used]) -> dict[tuple[str, ...], Used]:
    """By the keys that rows have."""
    is_who = [name in totals.of_who for name in totals.dimensions]
    found: dict[tuple[str, ...], Used] = {}
    for names, each in used.items():
        key = tuple(NONE if of_who and not name else name for name, of_who in zip(names, is_who, strict=True))
        found.setdefault(key, Used()).include(each)
    return found


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
        mine = used.get(key, Used())
        tokens = mine.prompt_tokens + mine.completion_tokens
        found |= {
            "requests": mine.requests,
            "prompt_tokens": mine.prompt_tokens,
            "cached_tokens": mine.cached_tokens,
            "completion_tokens": mine.completion_tokens,
            "usd_per_million_tokens": float(round(Decimal(sums.nano_usd) / tokens / 1000, 6)) if tokens else None,
        }
    return found
