"""A result as figures: what scripts read, and that it sums."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results import a_result

from stoker.meter import money
from stoker.simulate import comparison, lives, telling
from stoker.simulate.report import Targets, as_json, figures, plain, rank
from stoker.simulate.result import IN_FLIGHT, LOST, SERVED, TIMED_OUT, NodeLife, ReplicaLife, Result


def three_requests() -> Result:
    """At 0, 10 and 20 s: served in 1 and 5 s, served in one token, lost."""
    made = a_result(requests=3)
    return replace(
        made,
        trace=replace(
            made.trace,
            at_s=np.array([0.0, 10.0, 20.0]),
            prompt_tokens=np.array([100, 100, 100], np.int32),
            completion_tokens=np.array([9, 1, 50], np.int32),
        ),
        outcomes=replace(
            made.outcomes,
            state=np.array([SERVED, SERVED, LOST], np.int8),
            model=np.array([0, 1, 0], np.int16),
            started_at=np.array([0.5, 10.0, 21.0]),
            first_at=np.array([1.0, 12.0, 22.0]),
            done_at=np.array([5.0, 12.0, np.nan]),
            completion_tokens=np.array([5, 1, 0], np.int32),
            attempts=np.array([1, 2, 1], np.int16),
        ),
    )


def test_latencies_are_those_that_a_client_sees_of_requests_that_were_served() -> None:
    report = as_json(three_requests())

    assert (report["ttft_s"]["p50"], report["ttft_s"]["max"], report["ttft_s"]["mean"]) == (1.0, 2.0, 1.5)
    assert (report["e2e_s"]["p50"], report["e2e_s"]["p99"]) == (2.0, 5.0)
    assert report["tpot_s"] == {
        **dict.fromkeys(("p50", "p95", "p99", "mean", "max"), 1.0),  # 4 s for 4 tokens; the answer of one has none
        "by_model": {
            "general": dict.fromkeys(("p50", "p95", "p99", "mean", "max"), 1.0),
            "code": dict.fromkeys(("p50", "p95", "p99", "mean", "max")),
            "vision": dict.fromkeys(("p50", "p95", "p99", "mean", "max")),
        },
    }
    assert report["queue_s"]["by_model"]["general"]["p50"] == 0.5


def test_requests_say_what_became_of_each() -> None:
    requests = as_json(three_requests(), Targets(ttft_s=1.5))["requests"]

    assert requests == {
        "arrived": 3,
        "served": 2,
        "rejected": 1,
        "in_flight": 0,
        "rejected_by": {"too_long": 0, "timed_out": 0, "no_replica": 0, "lost": 1},
        "lost": 1,
        "late": 1,
        "cut": 1,
        "retried": 1,
        "prompt_tokens": 200,
        "completion_tokens": 6,
        "by_model": {
            "general": {"arrived": 2, "served": 1, "rejected": 1, "in_flight": 0},
            "code": {"arrived": 1, "served": 1, "rejected": 0, "in_flight": 0},
            "vision": {"arrived": 0, "served": 0, "rejected": 0, "in_flight": 0},
        },
    }


@pytest.mark.parametrize(
    ("targets", "late"), [(Targets(), None), (Targets(ttft_s=0.9), 2), (Targets(e2e_s=4.0), 1), (Targets(9, 9), 0)]
)
def test_nothing_is_late_where_nothing_was_promised(targets: Targets, late: int | None) -> None:
    assert as_json(three_requests(), targets)["requests"]["late"] == late


def test_what_would_come_after_the_end_did_not_arrive() -> None:
    made = three_requests()
    states = np.array([SERVED, SERVED, IN_FLIGHT], np.int8)
    cut = replace(made, ended_at_s=15.0, outcomes=replace(made.outcomes, state=states))

    assert as_json(cut)["requests"]["arrived"] == 2
    assert as_json(replace(cut, ended_at_s=20.0))["requests"]["in_flight"] == 1


def test_every_request_is_counted_once() -> None:
    requests = as_json(a_result())["requests"]

    assert requests["arrived"] == 3000
    assert requests["served"] + requests["rejected"] + requests["in_flight"] == 3000
    assert sum(requests["rejected_by"].values()) == requests["rejected"] > 0
    for key in ("arrived", "served", "rejected", "in_flight"):
        assert sum(each[key] for each in requests["by_model"].values()) == requests[key]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from([50, 95, 99]))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(values: list[float], percent: int) -> None:
    found = figures(np.array(values))[f"p{percent}"]
    exact = sorted(values)[rank(percent, len(values))]

    assert found == round(exact, 6)
    assert sum(each <= exact for each in values) * 100 >= percent * len(values)
    assert sum(each < exact for each in values) * 100 < percent * len(values)


def test_without_data_there_is_no_percentile() -> None:
    assert figures(np.array([np.nan])) == {"p50": None, "p95": None, "p99": None, "mean": None, "max": None}


# -- money --


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 10**13), max_size=12), st.sampled_from([1000, 10_000_000]))
def test_parts_in_units_sum_to_the_sum_in_units_and_are_off_by_less_than_one(parts: dict[str, int], unit: int) -> None:
    shown = money.shared_out(parts, unit)

    assert sum(shown.values()) == money.in_units(sum(parts.values()), unit)
    assert list(shown) == list(parts)
    assert all(abs(shown[name] * unit - nano) < unit for name, nano in parts.items())


def test_the_missing_cents_go_to_the_largest_remainders_then_by_name() -> None:
    third = {"c": 3_333_333_333, "a": 3_333_333_333, "b": 3_333_333_334}

    assert money.dollars_by(third, money.CENT) == {"b": 3.34, "a": 3.33, "c": 3.33}


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (0, "$0.00"),
        (1234.5, "$1,234.50"),
        (0.1, "$0.10"),
        (0.054043, "$0.054"),
        (0.0523, "$0.0523"),
        (0.05, "$0.05"),
        (0.00543, "$0.0054"),
        (0.005, "$0.005"),
        (0.00996, "$0.01"),
        (0.0000123, "$0.000012"),
        (-0.0123, "$-0.0123"),
    ],
)
def test_a_small_amount_is_told_by_its_own_digits(usd: float, text: str) -> None:
    assert money.spoken(usd) == text


def test_a_small_part_is_not_rounded_to_cents_first() -> None:
    parts = {"small": 54_043_000, "large": 3_345_957_000, "none": 0}

    shown = money.shown_by(parts)
    assert list(shown.items()) == [("large", 3.35), ("small", 0.054043), ("none", 0.0)]
    assert [money.spoken(each) for each in shown.values()] == ["$3.35", "$0.054", "$0.00"]


def test_costs_sum_whichever_way_they_are_split() -> None:
    costs = as_json(a_result())["cost_usd"]

    assert costs["total"] == 5.0216
    for name in ("by_node_type", "by_capacity", "by_model", "by_tenant", "by_pool", "by_part"):
        assert abs(sum(costs[name].values()) - costs["total"]) < 1e-9
    assert costs["by_capacity"] == {"on-demand": 2.862353, "spot": 2.159247}


def test_prices_are_per_hour_request_and_token() -> None:
    made = three_requests()
    costs = as_json(replace(made, ended_at_s=1800.0))["cost_usd"]
    total, general = made.costs.total / 1e9, made.costs.by_model["general"] / 1e9

    assert costs["per_hour"] == round(total * 2, 6)
    assert costs["per_1000_requests"] == round(total * 500, 6)
    assert costs["per_million_tokens"]["all"] == round(total / 206 * 1e6, 6)
    assert costs["per_million_tokens"]["by_model"]["general"] == round(general / 105 * 1e6, 6)
    assert costs["per_million_tokens"]["by_model"]["vision"] is None


# -- nodes, replicas, scale-ups --


def test_nodes_and_replicas_are_counted_by_their_lives_within_the_run() -> None:
    report = as_json(a_result())

    assert report["nodes"]["peak"] == 6
    assert report["nodes"]["launched"] == 4
    assert report["nodes"]["by_type"]["g6.2xlarge"] == {"peak": 3, "seconds": 3600.0 + 2040 + 2080, "usd": 1.436751}
    assert report["nodes"]["seconds"] == sum(each["seconds"] for each in report["nodes"]["by_type"].values())
    assert report["replicas"] == {
        "general": {"peak": 4, "mean": 3.094167, "seconds": 11139.0, "cold_starts": 3},
        "code": {"peak": 1, "mean": 0.569444, "seconds": 2050.0, "cold_starts": 2},
        "vision": {"peak": 1, "mean": 1.0, "seconds": 3600.0, "cold_starts": 0},
    }


def test_one_that_ends_as_another_begins_is_not_there_with_it() -> None:
    assert lives.most_at_once([(0.0, 5.0), (5.0, 9.0), (8.0, 10.0)]) == 2
    assert lives.most_at_once([(0.0, 5.0), (5.0, 9.0)]) == 1
    assert lives.most_at_once([]) == 0


def test_a_scale_up_is_told_by_phase_and_the_phases_sum() -> None:
    first, *_, last = as_json(a_result())["scale_ups"]

    assert first == {
        "replica": "model-code-c1",
        "workload": "Deployment agentic-ai/model-code",
        "model": "code",
        "node": "node-4",
        "node_type": "g5.xlarge",
        "capacity": "spot",
        "asked_at_s": 600.0,
        "total_s": 330.0,
        "decide_s": 11.0,
        "node_s": 4.0,
        "boot_s": 53.0,
        "image_s": 142.0,
        "weights_s": 52.0,
        "start_s": 68.0,
    }
    assert sum(first[f"{name}_s"] for name in lives.PHASES) == first["total_s"]
    assert (last["replica"], last["total_s"], last["boot_s"], last["image_s"]) == ("model-code-c2", None, 56.0, None)


def life(created: float, bound: float | None, node: str | None = "n") -> ReplicaLife:
    return ReplicaLife("p", "w", "m", created, node, bound, bound, bound, bound)


def machine(asked: float, launched: float, ready: float | None) -> NodeLife:
    return NodeLife("n", "pool", "t", "z", "spot", 1, 1.0, asked, launched, launched, ready)


@pytest.mark.parametrize(
    ("replica", "node", "spent"),
    [
        pytest.param(life(100, 160), machine(110, 115, 158), (10.0, 5.0, 45.0), id="its own node"),
        pytest.param(life(100, 160), machine(60, 65, 158), (0.0, 0.0, 60.0), id="a node on its way"),
        pytest.param(life(100, 160), machine(0, 5, 50), (60.0, 0.0, 0.0), id="room on a node that was there"),
        pytest.param(life(100, 160, None), None, (60.0, 0.0, 0.0), id="a node that nobody knows"),
        pytest.param(life(100, None, None), None, (None, None, None), id="never bound"),
    ],
)
def test_where_the_time_before_the_node_went(
    replica: ReplicaLife, node: NodeLife | None, spent: tuple[float | None, ...]
) -> None:
    phases, total = lives.phases_of(replica, node)

    assert tuple(phases[name] for name in ("decide", "node", "boot")) == spent
    assert total == (None if replica.bound_at is None else 60.0)


# -- bytes --


def test_the_same_result_gives_the_same_bytes_but_for_the_wall_clock() -> None:
    first, second = a_result(), replace(a_result(), wall_s=99.0)
    texts = [json.dumps({**as_json(each), "wall_s": 0}, allow_nan=False) for each in (first, second)]

    assert texts[0] == texts[1]
    assert as_json(second)["wall_s"] == 99.0


def test_data_of_any_kind_becomes_json() -> None:
    data = {"b": np.int32(3), "a": (np.float64("nan"), {"x"}), 3: Targets}

    assert plain(data) == {"3": str(Targets), "a": [None, ["x"]], "b": 3}


# -- what to tell first, and comparisons --


def test_what_went_wrong_is_told_first() -> None:
    made = a_result()
    states = made.outcomes.state.copy()
    states[:10] = TIMED_OUT
    lines = telling.lines(replace(made, outcomes=replace(made.outcomes, state=states)), as_json(made, Targets(30.0)))

    assert lines[0].startswith("38 of 3,000 requests were rejected: 31 waited longer than they may; 3 had more tokens")
    assert lines[1].startswith("95 answers were late (3.2 %")
    assert lines[2].startswith("From 0:10:00 (and once more): code had no replica ready for 5 min 30 s")
    assert lines[3].startswith("From 0:10:11: 48 requests of code waited more than 30 s for their first token")
    assert len(lines) <= telling.MOST


def test_pods_that_never_got_a_node_are_told_with_the_reason() -> None:
    made = a_result()
    stuck = replace(made.replicas[3], bound_at=None, node=None, ready_at=None, gone_at=None)
    held = replace(made, replicas=(stuck,))
    lines = telling.lines(held, as_json(held))

    assert any("model-code-c1 of Deployment agentic-ai/model-code had no node at the end" in each for each in lines)


def test_a_comparison_has_differences_in_per_cent_of_the_first() -> None:
    first = as_json(a_result())
    second = json.loads(json.dumps(first))
    second["cost_usd"]["total"] *= 1.25
    second["cost_usd"]["by_capacity"] = {"on-demand": 9.0}
    second["requests"]["lost"] = 0
    second["ttft_s"]["p95"] = None
    rows = {row.name: row for row in comparison.compare(first, second)}

    assert rows["dollars"].change == pytest.approx(25.0)
    assert rows["lost"].change == -100.0
    assert rows["served"].change == 0.0
    assert rows["time to first token p95"].change is None
    assert (rows["dollars of spot"].first, rows["dollars of spot"].second) == (2.159247, 0.0)
    assert "late" not in rows  # neither was promised anything


def test_runs_that_served_other_requests_are_not_like_with_like() -> None:
    first = a_result()
    state = first.outcomes.state.copy()
    served = np.flatnonzero(state == SERVED)
    state[served[:29]] = TIMED_OUT
    second = replace(first, outcomes=replace(first.outcomes, state=state.copy()))
    assert comparison.unlike(first, second, ("us-east-1", "us-east-1")) == []  # 29 of 2,959 are less than 1 %

    state[served[29]] = TIMED_OUT
    second = replace(first, outcomes=replace(first.outcomes, state=state))
    assert comparison.unlike(first, second, ("us-east-1", "eu-west-1")) == [
        "not like with like: the first is in us-east-1, the second in eu-west-1",
        "not like with like: 30 requests were served by the first alone, 0 by the second alone, of 2,959; latencies "
        "and dollars are of different requests",
    ]
