"""More stories about the control plane, one rule each: groups of pods, node groups, spot markets, ends of nodes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import CERTAIN, budget, model, pool, run, said, scaler, scenario, trace

from stoker.simulate import node_groups
from stoker.simulate.options import Options
from stoker.simulate.result import SERVED, Result
from stoker.simulate.run import simulate
from stoker.simulate.scenario import Scenario, Workload


def simulated(of: Scenario, *at: float, **options: Any) -> Result:
    asked = {"priors": CERTAIN, "warm_up_s": 1800.0, "interruptions_per_hour": 0.0, **options}
    return simulate(of, trace(*at), Options(**asked))


def changed(of: Scenario, **fields: Any) -> Scenario:
    """With other fields of its one workload."""
    only: Workload = of.workloads[0]
    return replace(of, workloads=(replace(only, **fields),))


def grouped(of: Scenario, *groups: str) -> Scenario:
    return node_groups.with_groups(of, [node_groups.parse(each, of) for each in groups])


def test_a_group_of_pods_serves_when_the_last_of_them_is_ready() -> None:
    found = simulated(changed(scenario(pool(), model(replicas=1)), pods_per_replica=2), 0.0, cold=True, priors={})
    ready = [each.ready_at or 0.0 for each in found.replicas]
    assert len(ready) == 2
    assert ready[0] != ready[1]
    assert found.outcomes.started_at[0] == max(ready)


def test_pods_on_one_node_pull_an_image_once() -> None:
    found = run(
        pool(types="g6.12xlarge"),
        model(),
        scaler(minReplicaCount=1, maxReplicaCount=2),
        hours=1.0,
        requests=trace(*np.arange(60) * 0.1, answer=1500),
    )
    first, second = found.replicas[:2]
    assert first.node == second.node
    assert (first.pulled_at or 0) - (first.bound_at or 0) > 30
    assert (second.pulled_at or 0) == second.bound_at


@pytest.mark.parametrize(("drains", "prestop_s", "gone_after_s"), [(True, 20.0, 20.0), (False, 20.0, 21.0)])
def test_an_idle_pod_is_gone_after_its_hook(drains: bool, prestop_s: float, gone_after_s: float) -> None:
    of = scenario(pool(expireAfter="35m"), model(replicas=1))
    load = replace(of.workloads[0].load, drains=drains, prestop_s=prestop_s)
    found = simulated(changed(of, load=load), 0.0, hours=0.5)
    first = found.replicas[0]
    assert (first.gone_at or 0) - (first.leaving_at or 0) == pytest.approx(gone_after_s)


@pytest.mark.parametrize("ends", ["expires", "drifts"])
def test_a_grace_of_the_node_ends_it_whatever_budgets_say(ends: str) -> None:
    """Nothing may be evicted; within a pod's grace (60 s) of the node's end the budget counts no more."""
    expires = {"expireAfter": "35m"} if ends == "expires" else {}
    cluster = pool(terminationGracePeriod="5m", disruption={"budgets": [{"nodes": "1"}]}, **expires)
    asked: dict[str, Any] = {"drift_at": 300.0} if ends == "drifts" else {}
    found = run(cluster, model(replicas=1), budget(maxUnavailable=0), hours=0.5, **asked)
    node, pod = found.nodes[0], found.replicas[0]
    assert node.leaving_at is not None
    assert pod.leaving_at == pytest.approx(node.leaving_at + 240, abs=5.0)
    assert node.gone_at is not None
    assert node.gone_at <= node.leaving_at + 300


def test_without_a_grace_a_budget_keeps_an_expired_node() -> None:
    found = run(pool(expireAfter="35m"), model(replicas=1), budget(maxUnavailable=0), hours=1)
    assert found.nodes[0].leaving_at is not None
    assert found.nodes[0].gone_at is None


# -- spot --


def test_of_a_market_that_shrinks_the_newest_node_goes_once() -> None:
    """And no other is taken by chance, however high the rate."""
    found = run(
        pool(capacity="spot"),
        model(replicas=1),
        scaler(minReplicaCount=1, maxReplicaCount=2, advanced={"horizontalPodAutoscalerConfig": {"behavior": {}}}),
        requests=trace(*np.arange(300) * 3.0, answer=1500),
        available=((0.0, 2), (900.0, 1), (910.0, 1)),
        interruptions_per_hour=1000.0,
        hours=0.3,
    )
    assert len([each for each in found.nodes if each.asked_at < 890]) == 2
    (subject,) = {each.subject for each in found.journal if each.kind == "interruption"}
    assert subject == found.nodes[1].name
    assert len(said(found, "interruption")) == 1


def test_where_the_spot_market_is_empty_on_demand_is_bought() -> None:
    found = run(pool(capacity="spot on-demand"), model(replicas=1), available=((0.0, 0),), hours=0.5, cold=True)
    assert {each.capacity for each in found.nodes} == {"on-demand"}


def test_what_was_refused_may_be_there_ten_minutes_later() -> None:
    """Drawn anew every ten minutes: with half of it gone at any time, somebody gets a node in an hour."""
    seeds = [
        run(pool(types="g6.xlarge"), model(replicas=1), no_capacity=0.9, hours=2, cold=True, seed=seed)
        for seed in range(4)
    ]
    first = [each.nodes[0].asked_at for each in seeds if each.nodes]
    assert any(at > 600 for at in first)


def test_a_node_costs_what_it_costs_when_it_is_launched(tmp_path: Path) -> None:
    prices = tmp_path / "prices.csv"
    rows = [f"g6.xlarge,us-east-1{zone},on-demand,{usd},{at}" for zone in "ab" for usd, at in ((0.5, 0), (0.7, 600))]
    prices.write_text("\n".join(["type,zone,capacity,usd_per_hour,at_s", *rows]))
    found = run(
        pool(), model(), scaler(minReplicaCount=0, maxReplicaCount=1), requests=trace(900.0), prices=str(prices)
    )
    assert found.nodes[-1].usd_per_hour == 0.7


# -- node groups --


def test_a_group_takes_turns_in_the_zones_and_keeps_its_minimum() -> None:
    """A spot node that is taken away is not drained before, and another takes its place at once."""
    of = grouped(scenario(pool(capacity="spot"), model(replicas=2)), "g6.xlarge,min=2,max=2,spot,pool=gpu")
    found = simulated(of, 0.0, available=((0.0, 2), (1000.0, 1), (1050.0, 2)), hours=0.5)
    first, second, third = found.nodes
    assert [first.zone, second.zone] == ["us-east-1a", "us-east-1b"]
    assert first.gone_at == 1120.0  # of two as old the first by name
    assert third.asked_at == 1120.0
    pod = next(each for each in found.replicas if each.node == first.name)
    assert pod.leaving_at is None


def test_pods_of_a_higher_priority_take_the_place_of_others_once() -> None:
    low, high = model("low", replicas=1), model("high", replicas=0)
    of = scenario(pool(), low, high, scaler("high", minReplicaCount=0, maxReplicaCount=1))
    workloads = tuple(
        replace(each, shape=replace(each.shape, view=replace(each.shape.view, priority=1000)))
        if each.name.endswith("high")
        else each
        for each in of.workloads
    )
    fixed = grouped(replace(of, workloads=workloads, default_model="high"), "g6.xlarge,min=1,max=1,pool=gpu")
    found = simulated(fixed, 0.0)
    ((at, text),) = said(found, "preempted")
    assert text == "for high-1 of priority 1000"
    by_name = {each.name: each for each in found.replicas}
    assert by_name["low-1"].leaving_at == pytest.approx(at, abs=0.01)
    assert by_name["high-1"].bound_at == by_name["low-1"].gone_at
    assert list(found.outcomes.state) == [SERVED]


def test_the_run_ends_half_an_hour_after_the_last_request_at_the_latest() -> None:
    found = run(pool(), model(replicas=0), requests=trace(0.0, 60.0), timeout_s=1e6, after_s=900.0)
    assert found.ended_at_s == 960.0
