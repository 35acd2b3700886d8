"""A bill over machines, replicas and requests: exact values, and sums that hold for whatever happened."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stoker.meter.bill import Cell, Line, Part, Who, attribute, by_days, rows
from stoker.meter.lives import MachineLife, StayLife
from stoker.meter.timelines import Span, Timeline

NODE = MachineLife(
    id="i-1",
    pool="gpu",
    capacity="spot",
    type="g5.xlarge",
    zone="us-east-1a",
    nano_usd_per_hour=3600,
    began_at=0.0,
    usable_at=100.0,
    seen_at=1000.0,
    ended_at=1000.0,
)
STAY = StayLife(
    id="pod-1",
    machine="i-1",
    workload="model-general",
    model="general",
    replica="general-1",
    share=0.5,
    began_at=100.0,
    ready_at=200.0,
    seen_at=1000.0,
)


def by_part(cells: dict[Cell, int]) -> dict[tuple[Part, str, Who], int]:
    found: dict[tuple[Part, str, Who], int] = {}
    for cell, nano in cells.items():
        key = (cell.part, cell.model, cell.who)
        found[key] = found.get(key, 0) + nano
    return found


def test_a_node_is_start_up_then_its_replica_then_whose_requests_ran() -> None:
    """Of 1,000 s the node needs 100 to come, and the replica, which has half of it, 100 more. Then acme runs for 300 s,
    and both at once for 100 s, of which zeta, at three times the pace, has three quarters."""
    timeline = Timeline([Span(("acme",), 300.0, 700.0, 400.0), Span(("zeta",), 600.0, 700.0, 300.0)])
    found = attribute([Line(1000, 0.0, 1000.0, machine="i-1")], [NODE], [STAY], {"general-1": timeline})
    assert by_part(found) == {
        ("start-up", "", ()): 100,
        ("start-up", "general", ()): 50,
        ("work", "general", ("acme",)): 163,  # (300 + 25) s of half of it, and the larger remainder
        ("work", "general", ("zeta",)): 37,
        ("idle", "general", ()): 200,
        ("idle", "", ()): 450,
    }


def test_a_line_of_a_part_of_the_time_pays_for_that_part() -> None:
    timeline = Timeline([Span(("acme",), 300.0, 400.0, 1.0), Span(("zeta",), 800.0, 900.0, 1.0)])
    lines = [Line(100, 300.0, 400.0, machine="i-1"), Line(900, 800.0, 900.0, machine="i-1")]
    found = by_part(attribute(lines, [NODE], [STAY], {"general-1": timeline}))
    assert found == {
        ("work", "general", ("acme",)): 50,
        ("work", "general", ("zeta",)): 450,
        ("idle", "", ()): 500,
    }


def test_a_line_without_a_machine_is_for_those_that_fit_by_what_each_costs() -> None:
    dear = replace(NODE, id="i-2", nano_usd_per_hour=7200 + 1, zone="us-east-1b")
    other = replace(NODE, id="i-3", capacity="on-demand")
    line = Line(3000, 0.0, 1000.0, capacity="spot", type="g5.xlarge")
    found = attribute([line], [NODE, dear, other], [], {})
    assert rows(found, ["zone"], [])[("us-east-1a",)].nano_usd == 1000
    assert rows(found, ["zone"], [])[("us-east-1b",)].nano_usd == 2000


def test_a_line_without_a_machine_goes_by_how_long_each_was_there() -> None:
    """One for all of 1,000 s and one for a quarter of them, at the same price: four fifths and a fifth."""
    short = replace(NODE, id="i-2", ended_at=250.0, zone="us-east-1b")
    found = attribute([Line(1000, 0.0, 1000.0, capacity="spot")], [NODE, short], [], {})
    assert {key: sums.nano_usd for key, sums in rows(found, ["zone"], []).items()} == {
        ("us-east-1a",): 800,
        ("us-east-1b",): 200,
    }


def test_machines_of_the_same_time_are_told_apart() -> None:
    other = replace(NODE, id="i-2", usable_at=400.0)
    lines = [Line(1000, 0.0, 1000.0, item, machine) for machine in ("i-1", "i-2") for item in ("instance", "extra")]
    found = attribute(lines, [NODE, other], [], {})
    assert {key: sums.nano_usd for key, sums in rows(found, ["part", "item"], []).items()} == {
        ("start-up", "instance"): 100 + 400,
        ("idle", "instance"): 900 + 600,
        ("start-up", "extra"): 100 + 400,
        ("idle", "extra"): 900 + 600,
    }


def test_a_machine_that_never_was_usable_is_start_up_and_one_that_serves_no_model_is_the_platforms() -> None:
    never = replace(NODE, id="i-2", usable_at=None)
    gateway = replace(STAY, model="", replica="", workload="gateway", share=0.25, ready_at=None)
    lines = [Line(1000, 0.0, 1000.0, machine="i-1"), Line(70, 0.0, 1000.0, machine="i-2")]
    found = by_part(attribute(lines, [NODE, never], [gateway], {}))
    assert found == {("start-up", "", ()): 100 + 70, ("platform", "", ()): 225, ("idle", "", ()): 675}


def test_what_nobody_is_found_for_is_said() -> None:
    lines = [
        Line(7, 0.0, 10.0, machine="i-9", pool="gpu"),
        Line(5, 0.0, 10.0, capacity="reserved"),
        Line(3, 0.0, 10.0, item="data", is_shared=True),
        Line(-2, 0.0, 1000.0, item="credit", machine="i-1"),
    ]
    found = attribute(lines, [NODE], [], {})
    assert {key: sums.nano_usd for key, sums in rows(found, ["model"], []).items()} == {
        ("(unmatched)",): 12,
        ("(data)",): 3,
        ("(idle)",): -2,
        ("(start-up)",): 0,
    }
    assert {key: sums.nano_usd for key, sums in rows(found, ["pool"], []).items()} == {
        ("gpu",): 5,
        ("(unmatched)",): 5,
        ("(data)",): 3,
    }


def test_who_has_no_team_is_told_from_what_has_no_request() -> None:
    timeline = Timeline([Span(("acme", ""), 200.0, 600.0, 1.0), Span(("acme", "search"), 600.0, 1000.0, 1.0)])
    found = attribute([Line(800, 200.0, 1000.0, machine="i-1")], [NODE], [STAY], {"general-1": timeline})
    assert {key: sums.nano_usd for key, sums in rows(found, ["tenant", "team"], ["tenant", "team"]).items()} == {
        ("acme", "(none)"): 200,
        ("acme", "search"): 200,
        ("(idle)", "(idle)"): 400,
    }


def test_together_they_have_no_more_than_the_machine_and_only_while_they_are_together() -> None:
    both = [
        replace(STAY, share=0.8, began_at=100.0, ready_at=100.0, ended_at=600.0),
        replace(STAY, id="pod-2", model="code", replica="code-1", share=0.8, began_at=100.0, ready_at=100.0),
    ]
    found = by_part(attribute([Line(900, 100.0, 1000.0, machine="i-1")], [NODE], both, {}))
    assert found == {("idle", "general", ()): 250, ("idle", "code", ()): 570, ("idle", "", ()): 80}


def test_a_machine_that_was_paid_for_longer_than_it_was_seen() -> None:
    late = [Line(60, 1000.0, 1060.0, machine="i-1"), Line(5, 0.0, 0.0, machine="i-1")]
    assert by_part(attribute(late, [NODE], [STAY], {})) == {("idle", "", ()): 65}
    never = replace(NODE, usable_at=None)
    assert by_part(attribute(late, [never], [STAY], {})) == {("start-up", "", ()): 65}


def test_days_that_no_calendar_has_and_lines_of_centuries() -> None:
    found = attribute([Line(7, 1e12, 1e12 + 5, machine="i-9")], [NODE], [], {})
    assert {key: sums.nano_usd for key, sums in rows(found, ["day"], []).items()} == {("day 11574074",): 7}
    whole = Line(7, 0.0, 1e12, is_shared=True)
    assert by_days([whole], [NODE]) == {0: [whole]}


def test_a_line_of_several_days_goes_by_what_its_machines_cost_on_each() -> None:
    """The node is there for 1,000 s of the first day: all of it is that day's. Without machines it goes by length."""
    lines = by_days([Line(90, 0.0, 3 * 86400.0, machine="i-1")], [NODE])
    assert {day: sum(line.nano_usd for line in each) for day, each in lines.items()} == {0: 90}
    lines = by_days([Line(90, 43200.0, 3 * 86400.0, is_shared=True)], [NODE])
    assert {day: sum(line.nano_usd for line in each) for day, each in lines.items()} == {0: 18, 1: 36, 2: 36}


_TIMES = st.floats(0, 1e6)
_NAMES = st.sampled_from(["m0", "m1", "m2", "elsewhere", ""])


@given(
    st.lists(st.tuples(st.integers(-(10**12), 10**15), _TIMES, _TIMES, _NAMES, st.booleans()), max_size=8),
    st.lists(st.tuples(_TIMES, _TIMES, st.none() | _TIMES, st.sampled_from(["spot", "on-demand"])), max_size=3),
    st.lists(
        st.tuples(_NAMES, st.sampled_from(["a", "b", ""]), st.floats(0, 1), _TIMES, _TIMES, st.none() | _TIMES),
        max_size=8,
    ),
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from("xyz"), _TIMES, _TIMES, st.floats(0, 1e9)), max_size=8
    ),
)
def test_whatever_happened_each_key_sums_to_the_bill(
    lines: list[tuple[int, float, float, str, bool]],
    machines: list[tuple[float, float, float | None, str]],
    stays: list[tuple[str, str, float, float, float, float | None]],
    spans: list[tuple[str, str, float, float, float]],
) -> None:
    bill = [
        Line(nano, min(a, b), max(a, b), machine=name, capacity="" if name else "spot", is_shared=shared)
        for nano, a, b, name, shared in lines
    ]
    fleet = [
        replace(NODE, id=f"m{i}", began_at=min(a, b), ended_at=max(a, b), usable_at=usable, capacity=capacity)
        for i, (a, b, usable, capacity) in enumerate(machines)
    ]
    there = [
        replace(
            STAY,
            id=str(i),
            machine=name,
            model=model,
            replica=model,
            share=share,
            began_at=min(a, b),
            ended_at=max(a, b),
            ready_at=ready,
        )
        for i, (name, model, share, a, b, ready) in enumerate(stays)
    ]
    timelines = {
        replica: Timeline([Span((who,), min(a, b), max(a, b), work) for r, who, a, b, work in spans if r == replica])
        for replica in ("a", "b")
    }
    cells = attribute(bill, fleet, there, timelines)
    for dimensions in (["tenant"], ["model"], ["pool"], ["capacity"], ["zone"], ["item"], ["day"], ["part", "tenant"]):
        found = rows(cells, dimensions, ["tenant"])
        assert sum(sums.nano_usd for sums in found.values()) == sum(line.nano_usd for line in bill)
