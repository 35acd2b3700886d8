"""`stoker cost --aws` of whatever Cost Explorer (moto's server) says, on whatever fleet and traffic: each day sums to
the export, and each row is what counting hour by hour comes to."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from explorer import DAY, FIRST, page, seed
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stoker.cli import bill_cost, target
from stoker.local.state import Credentials, StateDirectory
from stoker.meter.bill import PARTS
from stoker.meter.ledger import Ledger
from stoker.meter.lives import Lives, MachineLife, StayLife
from stoker.meter.store import Store
from stoker.meter.usage import UsageRecord
from stoker.testing.aws import CREDENTIALS

DAYS = 3
HOURS = 24 * DAYS
ROUNDED = 50
"""Nano-dollars that a row may be off: each line is rounded over its machines, and each of these over who was on it."""


class Cell(NamedTuple):
    """What has no model or tenant has none."""

    day: int
    part: str
    item: str = "instance"
    capacity: str = ""
    model: str = ""
    tenant: str = ""


MACHINES = {
    ("SpotUsage:g5.xlarge", "Spot Instances"): ("spot", "g5.xlarge"),
    ("USW2-BoxUsage:g5.xlarge", "On Demand Instances"): ("on-demand", "g5.xlarge"),
    ("BoxUsage:m5.large", "Savings Plans"): ("on-demand", "m5.large"),
    ("BoxUsage:r5.large", "On Demand Instances"): ("on-demand", "r5.large"),  # nobody has one
}
OTHERS = {
    ("NatGateway-Hours", "On Demand Instances"): "NAT gateway",
    ("USW2-EBS:VolumeUsage.gp3", ""): "volumes",
    ("DataTransfer-Out-Bytes", ""): "data",
}
HAD = (("spot", "g5.xlarge"), ("on-demand", "g5.xlarge"), ("on-demand", "m5.large"))


@dataclass(frozen=True)
class Machine:
    capacity: str
    type: str
    began: int
    usable: int | None
    ended: int


@dataclass(frozen=True)
class Stay:
    machine: int
    model: str
    share: float
    began: int
    ready: int | None
    ended: int


@dataclass(frozen=True)
class Request:
    replica: int
    tenant: str
    began: int
    ended: int
    tokens: tuple[int, int, int]
    """Of the prompt, of these in the cache, of the answer."""

    @property
    def pace(self) -> float:
        prompt, cached, answer = self.tokens
        return (prompt - cached + 0.02 * cached + 12 * answer) / (self.ended - self.began)


@dataclass(frozen=True)
class Case:
    """Times are hours since FIRST. `bill`: nano-dollars by day and by what Cost Explorer groups by."""

    machines: list[Machine]
    stays: list[Stay]
    requests: list[Request]
    bill: dict[tuple[int, tuple[str, str]], int]


@st.composite
def spans(draw: st.DrawFn, began: int = 0, ended: int = HOURS) -> tuple[int, int]:
    """Within a time, or over its end."""
    since = draw(st.integers(began, max(began, ended - 2)))
    return since, min(HOURS, since + draw(st.integers(1, 30)))


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    (began, ended), had = draw(spans()), draw(st.sampled_from(HAD))
    return Machine(*had, began, draw(st.sampled_from([began, began, began + 1, began + 3, None])), ended)


@st.composite
def stays(draw: st.DrawFn, of: list[Machine]) -> Stay:
    machine = draw(st.integers(0, len(of) - 1))
    began, ended = draw(spans(of[machine].began, of[machine].ended))
    ready = draw(st.sampled_from([began, began, began + 2, began - 1, None]))
    model, share = draw(st.sampled_from(["general", "code", ""])), draw(st.sampled_from([0.25, 0.5, 0.75, 1.0]))
    return Stay(machine, model, share, began, ready, ended)


@st.composite
def requests(draw: st.DrawFn, of: list[Stay]) -> Request:
    replica = draw(st.integers(0, len(of) - 1))
    began, ended = draw(st.just((of[replica].began, of[replica].ended)) | spans(of[replica].began, of[replica].ended))
    prompt, cached, answer = draw(st.tuples(st.integers(1, 2000), st.integers(1, 4), st.integers(0, 500)))
    return Request(replica, draw(st.sampled_from(["acme", "globex"])), began, ended, (prompt, prompt // cached, answer))


LINES = st.tuples(st.integers(0, DAYS - 1), st.sampled_from([*MACHINES, *OTHERS]))
NANO = st.integers(-(10**10), 10**12).filter(bool)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    fleet = draw(st.lists(machines(), max_size=4))
    pods = draw(st.lists(stays(fleet), min_size=1, max_size=5)) if fleet else []
    traffic = draw(st.lists(requests(pods), min_size=2 * len(pods), max_size=10)) if pods else []
    bill = draw(st.dictionaries(LINES, NANO, min_size=1, max_size=12))
    of_fleet = [
        (hour // 24, next(what for what, had in MACHINES.items() if had == (machine.capacity, machine.type)))
        for machine in fleet
        for hour in (machine.began, machine.ended - 1)
    ]
    return Case(fleet, pods, traffic, bill | {line: draw(NANO) for line in of_fleet})


# -- what it should come to, hour by hour --


def expected(case: Case) -> dict[Cell, float]:
    found: dict[Cell, float] = defaultdict(float)
    for (day, what), nano in case.bill.items():
        if what in OTHERS:
            found[Cell(day, "shared", OTHERS[what])] += nano
            continue
        hours = [
            (i, machine, hour)
            for i, machine in enumerate(case.machines)
            if (machine.capacity, machine.type) == MACHINES[what]
            for hour in range(max(machine.began, 24 * day), min(machine.ended, 24 * day + 24))
        ]
        if not hours:
            found[Cell(day, "unmatched", capacity=MACHINES[what][0])] += nano
        for i, machine, hour in hours:
            for (part, model, tenant), share in shares(case, i, machine, hour).items():
                found[Cell(day, part, "", machine.capacity, model, tenant)] += nano / len(hours) * share
    return found


def shares(case: Case, i: int, machine: Machine, hour: int) -> dict[tuple[str, str, str], float]:
    """Of an hour of a machine."""
    if machine.usable is None or hour < machine.usable:
        return {("start-up", "", ""): 1.0}
    found: dict[tuple[str, str, str], float] = defaultdict(float)
    here = [(n, stay) for n, stay in enumerate(case.stays) if stay.machine == i and stay.began <= hour < stay.ended]
    of_all = sum(stay.share for _, stay in here)
    found["idle", "", ""] = max(0.0, 1 - of_all)
    for n, stay in here:
        share = stay.share / max(1.0, of_all)
        running = [each for each in case.requests if each.replica == n and each.began <= hour < each.ended]
        if not stay.model:
            found["platform", "", ""] += share
        elif stay.ready is None or hour < stay.ready:
            found["start-up", stay.model, ""] += share
        elif not running:
            found["idle", stay.model, ""] += share
        for each in running if stay.model and stay.ready is not None and hour >= stay.ready else ():
            found["work", stay.model, each.tenant] += share * each.pace / sum(one.pace for one in running)
    return found


# -- what it comes to --


def write(case: Case, folder: Path) -> Path:
    """The state directory of a platform that has ended."""
    state = StateDirectory(folder)
    state.create()
    state.write_credentials(Credentials("http://127.0.0.1:1", "user-key", "admin-key", 7))
    state.write_spec("global:\n  cluster:\n    name: prod\n")
    store = Store(f"sqlite:///{state.ledger}")
    Lives(store).write(
        machines_seen=[
            MachineLife(
                id=f"i-{i}",
                pool="gpu",
                capacity=each.capacity,
                type=each.type,
                zone="us-west-2a",
                nano_usd_per_hour=10**9,
                began_at=at(each.began),
                usable_at=None if each.usable is None else at(each.usable),
                seen_at=at(each.ended),
                ended_at=at(each.ended),
            )
            for i, each in enumerate(case.machines)
        ],
        stays_seen=[
            StayLife(
                id=f"pod-{i}",
                machine=f"i-{each.machine}",
                workload="w",
                model=each.model,
                replica=f"r-{i}",
                share=each.share,
                began_at=at(each.began),
                ready_at=None if each.ready is None else at(each.ready),
                seen_at=at(each.ended),
            )
            for i, each in enumerate(case.stays)
        ],
    )
    Ledger(store).append([record(i, each, case.stays[each.replica].model) for i, each in enumerate(case.requests)])
    store.close()
    return state.path


def record(number: int, request: Request, model: str) -> UsageRecord:
    prompt, cached, answer = request.tokens
    return UsageRecord(
        id=f"req_{number}",
        kind="request",
        status="done",
        tenant=request.tenant,
        key_id="k",
        model=model,
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=answer,
        nano_usd=1,
        started_at=at(request.began),
        first_token_at=None,
        ended_at=at(request.ended),
        replica=f"r-{request.replica}",
    )


def at(hour: int) -> float:
    return FIRST + 3600.0 * hour


def usd(nano: int) -> str:
    """All nine digits, as Cost Explorer writes them."""
    return f"{'-' * (nano < 0)}{abs(nano) // 10**9}.{abs(nano) % 10**9:09}"


def pages(case: Case) -> list[dict[str, Any]]:
    of_days: dict[int, dict[tuple[str, str], str]] = {day: {} for day in range(DAYS)}
    for (day, what), nano in case.bill.items():
        of_days[day][what] = usd(nano)
    return [page(day + 1, groups, f"after-{day}" if day + 1 < DAYS else None) for day, groups in of_days.items()]


def date(day: int) -> str:
    return f"2026-11-0{day + 1}"


def by_names(cells: dict[Cell, float], by: tuple[str, ...]) -> dict[tuple[str, ...], float]:
    """As rows are named: what has no value is under its part, or what is shared under what it is."""
    found: dict[tuple[str, ...], float] = defaultdict(float)
    for cell, nano in cells.items():
        nothing = f"({cell.item if cell.part == 'shared' else cell.part})"
        named = {"day": date(cell.day), "part": cell.part}
        named |= {key: getattr(cell, key) or nothing for key in ("capacity", "model", "tenant")}
        found[tuple(named[key] for key in by)] += nano
    return found


def nearly(found: dict[tuple[str, ...], int], should: dict[tuple[str, ...], float]) -> bool:
    """To a few nano-dollars: each line is rounded at each of its steps."""
    assert {key for key, nano in found.items() if abs(nano) > ROUNDED} <= set(should)
    off = {key: (found.get(key, 0), nano) for key, nano in should.items() if abs(found.get(key, 0) - nano) > ROUNDED}
    assert not off
    return True


def test_each_day_sums_to_the_export_and_each_row_is_what_its_hours_cost(
    moto_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": moto_url}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    numbers, seen = count(), Counter[str]()
    which = bill_cost.Which(None, "unblended", None, False, FIRST, FIRST + DAYS * DAY, FIRST + DAYS * DAY)

    @settings(
        max_examples=18,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def one(case: Case) -> None:
        state = write(case, tmp_path / str(next(numbers)))

        def rows(*by: str) -> dict[tuple[str, ...], int]:
            seed(moto_url, *pages(case))
            found = bill_cost.report(which, target.Asked(None, None, state), ",".join(by), 1000)
            assert found["bill_nano_usd"] == sum(case.bill.values())
            return {tuple(row[key] for key in by): row["nano_usd"] for row in found["rows"]}

        should = expected(case)
        for by in (("day", "part", "tenant"), ("day", "capacity", "model")):
            found = rows(*by)
            for day in range(DAYS):
                of_day = sum(nano for (its_day, _), nano in case.bill.items() if its_day == day)
                assert sum(nano for key, nano in found.items() if key[0] == date(day)) == of_day
            assert nearly(found, by_names(should, by))
            seen.update(key[1] for key in found if by[1] == "part")

    one()
    assert set(seen) == set(PARTS), f"parts of all reports: {seen}"
