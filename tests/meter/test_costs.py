"""What the platform cost and for whom, out of the store: exact values, on both databases."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from meter_builders import a_record

from stoker import spec
from stoker.base.errors import InvalidInput
from stoker.meter import costs
from stoker.meter.bill import Line
from stoker.meter.ledger import Ledger
from stoker.meter.lives import LOCAL, Lives, MachineLife, PriceStep, StayLife
from stoker.meter.store import Store

HOUR = 3600.0
DAY = 86400.0
USD = 10**9
NODE = MachineLife(
    id="i-1",
    pool="gpu",
    capacity="on-demand",
    type="g5.xlarge",
    zone="us-east-1a",
    nano_usd_per_hour=USD,
    began_at=0.0,
    usable_at=0.0,
    seen_at=10 * HOUR,
)
STAY = StayLife(
    id="pod-1",
    machine="i-1",
    workload="model-general",
    model="general",
    replica="general-1",
    share=1.0,
    began_at=0.0,
    ready_at=0.0,
    seen_at=10 * HOUR,
)


def asked(by: str = "tenant", since: float = 0.0, until: float = 10 * HOUR, **more: Any) -> costs.Asked:
    return costs.asked_of(spec.Platform(), by=by, since=since, until=until, **more)


def a_request(number: int, began_h: float, ended_h: float, **changed: Any) -> Any:
    when = {"started_at": began_h * HOUR, "ended_at": ended_h * HOUR}
    return a_record(number, **{**when, "replica": "general-1", **changed})


def dollars(report: dict[str, Any]) -> dict[str, float]:
    return {row["key"]: row["usd"] for row in report["rows"]}


def test_tenants_pay_for_their_moments_and_idle_is_itself(store: Store) -> None:
    """A dollar an hour, ten hours. acme runs for two; then both for one, in which acme caused three quarters of the
    work: a token of an answer counts as twelve of a prompt."""
    Lives(store).write(machines_seen=[NODE], stays_seen=[STAY])
    tokens = {"prompt_tokens": 0, "cached_tokens": 0}
    Ledger(store).append(
        [
            a_request(1, 1.0, 3.0, **tokens, completion_tokens=7),
            a_request(2, 4.0, 5.0, **tokens, completion_tokens=30),
            a_request(3, 4.0, 5.0, tenant="zeta", prompt_tokens=120, cached_tokens=0, completion_tokens=0),
        ]
    )
    found = costs.report(asked(), Ledger(store), Lives(store))
    assert dollars(found) == {"(idle)": 7.0, "acme": 2.75, "zeta": 0.25}
    assert found["total_usd"] == found["bill_usd"] == 10.0
    assert found["parts"] == {"idle": 7.0, "work": 3.0}
    acme = next(row for row in found["rows"] if row["key"] == "acme")
    assert (acme["requests"], acme["completion_tokens"], acme["usd_per_million_tokens"]) == (2, 37, 74324.324324)


def test_a_prompt_that_is_in_the_cache_takes_a_fiftieth_of_one_that_is_not(store: Store) -> None:
    Lives(store).write(machines_seen=[NODE], stays_seen=[STAY])
    Ledger(store).append(
        [
            a_request(1, 0.0, 3.0, prompt_tokens=100, cached_tokens=100, completion_tokens=0),
            a_request(2, 0.0, 3.0, tenant="zeta", prompt_tokens=4, cached_tokens=0, completion_tokens=0),
        ]
    )
    assert dollars(costs.report(asked(until=3 * HOUR), Ledger(store), Lives(store))) == {"zeta": 2.0, "acme": 1.0}


def test_each_key_of_the_same_time(store: Store) -> None:
    code = replace(STAY, id="pod-2", model="code", replica="code-1", share=0.25)
    general = replace(STAY, share=0.5, began_at=1 * HOUR, ready_at=2 * HOUR)
    Lives(store).write(machines_seen=[NODE], stays_seen=[general, code])
    Ledger(store).append(
        [
            a_request(1, 2.0, 6.0, run="run_1.2.3", agent="assistant"),
            a_request(2, 6.0, 8.0, run="run_1", agent="assistant", session=None),
            a_request(3, 8.0, 9.0, tenant="zeta", team=None, run="own.run", session=None, key_id="key_2"),
            a_request(4, 2.0, 9.0, kind="step", model="agents"),
        ]
    )

    def by(key: str) -> dict[str, float]:
        found = costs.report(asked(key), Ledger(store), Lives(store))
        assert found["bill_usd"] == found["total_usd"] == pytest.approx(sum(dollars(found).values()))
        return dollars(found)

    rest = {"(idle)": 6.0, "(start-up)": 0.5}
    assert by("tenant") == {"acme": 3.0, "zeta": 0.5, **rest}
    assert by("team") == {"search": 3.0, "(none)": 0.5, **rest}
    assert by("key") == {"key_1": 3.0, "key_2": 0.5, **rest}
    assert by("run") == {"run_1": 3.0, "own.run": 0.5, **rest}
    assert by("agent") == {"assistant": 3.0, "(none)": 0.5, **rest}
    assert by("model") == {"general": 4.5, "code": 2.5, "(idle)": 3.0}
    assert by("nodepool") == {"gpu": 10.0}
    assert by("capacity") == {"on-demand": 10.0}
    assert by("type") == {"g5.xlarge": 10.0}
    assert by("zone") == {"us-east-1a": 10.0}
    assert by("item") == {"instance": 10.0}
    assert by("day") == {"1970-01-01": 10.0}
    assert by("part") == {"idle": 6.0, "work": 3.5, "start-up": 0.5}
    assert by("tenant,model") == {
        "acme, general": 3.0,
        "zeta, general": 0.5,
        "(start-up), general": 0.5,
        "(idle), general": 0.5,
        "(idle), code": 2.5,
        "(idle), (idle)": 3.0,
    }
    sessions = costs.report(asked("session"), Ledger(store), Lives(store))["rows"]
    assert {(row["tenant"], row["session"]): row["usd"] for row in sessions} == {
        ("(idle)", "(idle)"): 6.0,
        ("acme", "s"): 2.0,
        ("acme", "(none)"): 1.0,
        ("zeta", "(none)"): 0.5,
        ("(start-up)", "(start-up)"): 0.5,
    }


def test_a_run_of_an_agent_is_told_from_one_that_a_client_named_alike(store: Store) -> None:
    """Below an agent's run are its steps; a name that a client made up is a name, with its point. Requests count, too,
    for each model."""
    code = replace(STAY, id="pod-2", model="code", replica="code-1")
    Lives(store).write(machines_seen=[NODE], stays_seen=[STAY, code])
    times = {"started_at": 2 * HOUR, "ended_at": 3 * HOUR}
    Ledger(store).append(
        [
            a_request(1, 0.0, 1.0, run="a.b", agent="assistant"),
            a_request(2, 1.0, 2.0, run="a.b", agent=None),
            a_record(3, run="a.b", agent=None, model="code", replica="code-1", **times),
        ]
    )
    found = costs.report(asked("run"), Ledger(store), Lives(store))["rows"]
    assert {row["run"]: row["requests"] for row in found} == {"a": 1, "a.b": 2, "(idle)": 0}
    found = costs.report(asked("tenant,model"), Ledger(store), Lives(store))["rows"]
    assert {row["key"]: row["requests"] for row in found if row["tenant"] == "acme"} == {
        "acme, general": 2,
        "acme, code": 1,
    }


def test_prices_by_time_volumes_and_midnight(store: Store) -> None:
    spot = replace(NODE, capacity="spot", extra_nano_usd_per_hour=USD // 10, began_at=22 * HOUR, seen_at=26 * HOUR)
    steps = [
        PriceStep(type="g5.xlarge", zone="us-east-1a", capacity="spot", at=at * HOUR, nano_usd_per_hour=nano)
        for at, nano in ((0.0, 7 * USD), (20.0, 2 * USD), (23.0, 3 * USD), (30.0, 9 * USD))
    ]
    other = replace(steps[0], zone="us-east-1b", at=22.5 * HOUR)
    Lives(store).write(machines_seen=[spot], prices_seen=[*steps, other])
    found = costs.report(asked("day", until=2 * DAY), Ledger(store), Lives(store))
    assert dollars(found) == {"1970-01-01": 5.2, "1970-01-02": 6.2}
    assert found["items"] == {"extra": 0.4, "instance": 11.0}


def test_a_price_holds_before_it_was_first_heard_of(store: Store) -> None:
    spot = replace(NODE, capacity="spot")
    step = PriceStep(type="g5.xlarge", zone="us-east-1a", capacity="spot", at=5 * HOUR, nano_usd_per_hour=2 * USD)
    Lives(store).write(machines_seen=[spot], prices_seen=[step])
    assert costs.report(asked("zone"), Ledger(store), Lives(store))["bill_usd"] == 20.0


def test_ec2_bills_a_minute_at_least_and_a_laptop_does_not(store: Store) -> None:
    short = replace(NODE, id="i-2", seen_at=6.0, ended_at=6.0)
    local = replace(short, id="local-1", capacity=LOCAL)
    Lives(store).write(machines_seen=[short, local])
    found = costs.report(asked("capacity"), Ledger(store), Lives(store))
    assert dollars(found) == {"on-demand": 0.016666, "local": 0.001667}


def test_half_a_nano_dollar_goes_up() -> None:
    """Of 1 nano-dollar an hour: half an hour is one, and a second less is none."""
    dust = replace(NODE, nano_usd_per_hour=1)
    assert [line.nano_usd for line in costs.machine_lines([dust], [], since=0.0, until=1800.0)] == [1]
    assert costs.machine_lines([dust], [], since=0.0, until=1799.0) == []


def test_a_request_counts_in_the_time_in_which_it_ended_and_on_each_of_its_days(store: Store) -> None:
    Lives(store).write(machines_seen=[replace(NODE, seen_at=2 * DAY)], stays_seen=[replace(STAY, seen_at=2 * DAY)])
    Ledger(store).append([a_request(1, 1.0, 2.0), a_request(2, 2.0, 3.0), a_request(3, 30.0, 31.0)])

    def requests(since_h: float, until_h: float) -> list[int]:
        asked_for = asked(since=since_h * HOUR, until=until_h * HOUR)
        found = costs.report(asked_for, Ledger(store), Lives(store))
        return [row.get("requests", 0) for row in found["rows"] if row["key"] == "acme"]

    assert (requests(0, 2), requests(2, 3), requests(0, 3)) == ([0], [1], [1])
    assert requests(0, 48) == [3]


def test_somebody_elses_bill_takes_the_place_of_prices(store: Store) -> None:
    Lives(store).write(machines_seen=[NODE], stays_seen=[STAY])
    Ledger(store).append([a_request(1, 0.0, 5.0)])
    lines = [
        Line(4 * USD, 0.0, 10 * HOUR, capacity="on-demand"),
        Line(USD, 0.0, DAY, item="data", is_shared=True),
        Line(-USD, 0.0, DAY, item="credits", is_shared=True),
    ]
    found = costs.report(asked(), Ledger(store), Lives(store), lines=lines, source="cur")
    assert dollars(found) == {"(idle)": 2.0, "acme": 2.0, "(data)": 1.0, "(credits)": -1.0}
    assert (found["bill_usd"], found["source"]) == (4.0, "cur")


def test_a_model_that_somebody_else_runs_costs_what_its_tokens_cost(store: Store) -> None:
    platform = spec.loads("""
llm:
  models:
    hosted:
      engine: {url: "https://api.example.com/v1"}
      prices: {inputUsdPerMillionTokens: 1, cachedInputUsdPerMillionTokens: 1, outputUsdPerMillionTokens: 2}
""")
    Ledger(store).append(
        [
            a_request(1, 1.0, 2.0, model="hosted", nano_usd=3 * USD),
            a_request(2, 1.0, 2.0, model="hosted", tenant="zeta", nano_usd=USD),
            a_request(3, 1.0, 20.0, model="hosted", nano_usd=50 * USD),  # has not ended by then
        ]
    )
    found = costs.report(costs.asked_of(platform, by="tenant", since=0.0, until=10 * HOUR), Ledger(store), Lives(store))
    assert dollars(found) == {"acme": 3.0, "zeta": 1.0}
    assert found["items"] == {"provider": 4.0}
    assert found["bill_usd"] == found["total_usd"] == 4.0
    # A model of that name on machines of ours is paid for by the machines.
    Lives(store).write(machines_seen=[NODE], stays_seen=[replace(STAY, model="hosted")])
    found = costs.report(costs.asked_of(platform, by="item", since=0.0, until=10 * HOUR), Ledger(store), Lives(store))
    assert dollars(found) == {"instance": 10.0}


def test_all_rows_beyond_the_largest_are_one(store: Store) -> None:
    Lives(store).write(machines_seen=[NODE], stays_seen=[STAY])
    Ledger(store).append([a_request(n, n, n + 1, tenant=f"t{n}") for n in range(9)])
    found = costs.report(asked(most_rows=3), Ledger(store), Lives(store))
    assert dollars(found) == {"(idle)": 1.0, "t0": 1.0, "t1": 1.0, "(7 others)": 7.0}
    assert found["total_usd"] == found["bill_usd"] == 10.0
    assert {row["key"]: row["requests"] for row in found["rows"]} == {"(idle)": 0, "t0": 1, "t1": 1, "(7 others)": 7}


def test_who_asked_what_ran_on_no_machine_that_is_known_has_a_row_all_the_same(store: Store) -> None:
    Lives(store).write(machines_seen=[NODE], stays_seen=[STAY])
    Ledger(store).append([a_request(1, 0, 1), a_request(2, 1, 2, tenant="lost", replica="unheard-of")])
    found = costs.report(asked(), Ledger(store), Lives(store))
    rows = {row["key"]: (row["usd"], row["requests"]) for row in found["rows"]}
    assert rows == {"(idle)": (9.0, 0), "acme": (1.0, 1), "lost": (0.0, 1)}
    few = costs.report(asked(most_rows=1), Ledger(store), Lives(store))
    assert {row["key"]: (row["usd"], row["requests"]) for row in few["rows"]} == {
        "(idle)": (9.0, 0),
        "(2 others)": (1.0, 2),
    }


def test_rows_of_what_requests_do_not_have_say_nothing_of_requests(store: Store) -> None:
    """Nor does the one of all others."""
    Lives(store).write(machines_seen=[NODE, replace(NODE, id="i-2", pool="other")], stays_seen=[STAY])
    Ledger(store).append([a_request(1, 0, 1)])
    for by in ("nodepool", "part"):
        found = costs.report(asked(by, most_rows=1), Ledger(store), Lives(store))
        assert (len(found["rows"]), [row for row in found["rows"] if "requests" in row]) == (2, [])


def test_requests_of_no_agent_are_not_those_of_an_idle_machine(store: Store) -> None:
    Lives(store).write(machines_seen=[NODE], stays_seen=[STAY])
    Ledger(store).append([a_request(1, 0, 1), a_request(2, 1, 2, agent="helper")])
    found = costs.report(asked("agent"), Ledger(store), Lives(store))
    assert {row["key"]: row["requests"] for row in found["rows"]} == {"(idle)": 0, "(none)": 1, "helper": 1}


@pytest.mark.parametrize("by", ["", "tenants", "tenant,tenant", "tenant,model,type,zone", "tenant,"])
def test_keys_that_are_none_are_refused(by: str) -> None:
    with pytest.raises(InvalidInput, match="it must be one to 3 different ones of tenant, team, key") as caught:
        asked(by)
    assert caught.value.param == "by"


@pytest.mark.parametrize(("since", "until"), [(5.0, 5.0), (9.0, 5.0), (0.0, 1e12), (1e11, 1e12)])
def test_a_time_may_be_empty_or_longer_than_anything_is_known_of(store: Store, since: float, until: float) -> None:
    Lives(store).write(machines_seen=[NODE], stays_seen=[STAY])
    Ledger(store).append([a_request(1, 1.0, 3.0)])
    found = costs.report(asked(since=since, until=until), Ledger(store), Lives(store))
    assert dollars(found) == ({"(idle)": 8.0, "acme": 2.0} if since == 0 else {})


_H = st.floats(0, 10)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(_H, _H, st.integers(0, 10**11), st.sampled_from(["spot", "on-demand"])), max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["a", "b"]), st.floats(0, 1), _H, _H, _H), max_size=4),
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.sampled_from(["x", "y"]),
            st.sampled_from(["s", "t", None]),
            _H,
            _H,
            st.integers(0, 10**6),
        ),
        max_size=6,
    ),
    st.lists(st.tuples(_H, st.integers(0, 10**11)), max_size=3, unique_by=lambda step: step[0]),
)
def test_random_fleets_and_traffic_sum_to_the_bill_by_each_key(
    machines: list[Any], stays: list[Any], requests: list[Any], steps: list[Any]
) -> None:
    store = Store("sqlite://")
    lives, ledger = Lives(store), Ledger(store)
    lives.write(
        machines_seen=[
            replace(
                NODE, id=str(i), capacity=kind, nano_usd_per_hour=nano, began_at=min(a, b), seen_at=max(a, b) * HOUR
            )
            for i, (a, b, nano, kind) in enumerate(machines)
        ],
        stays_seen=[
            replace(
                STAY,
                id=str(i),
                machine=str(machine),
                model=model,
                replica=model,
                share=share,
                began_at=min(a, b) * HOUR,
                ready_at=ready * HOUR,
                seen_at=max(a, b) * HOUR,
            )
            for i, (machine, model, share, a, b, ready) in enumerate(stays)
        ],
        prices_seen=[
            PriceStep(type=NODE.type, zone=NODE.zone, capacity="spot", at=at * HOUR, nano_usd_per_hour=nano)
            for at, nano in steps
        ],
    )
    ledger.append(
        [
            a_record(i, replica=replica, model=replica, tenant=tenant, session=session, completion_tokens=tokens)
            if a == b
            else a_record(
                i,
                replica=replica,
                model=replica,
                tenant=tenant,
                session=session,
                completion_tokens=tokens,
                started_at=min(a, b) * HOUR,
                ended_at=max(a, b) * HOUR,
            )
            for i, (replica, tenant, session, a, b, tokens) in enumerate(requests)
        ]
    )
    bills = set()
    for by in costs.KEYS:
        found = costs.report(asked(by), ledger, lives)
        assert sum(row["nano_usd"] for row in found["rows"]) == found["bill_nano_usd"]
        assert abs(sum(Decimal(repr(row["usd"])) for row in found["rows"]) - Decimal(repr(found["bill_usd"]))) < 1e-9
        bills.add(found["bill_nano_usd"])
    assert len(bills) == 1
    store.close()
