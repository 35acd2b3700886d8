"""Whole runs of whatever cluster (`strategies8`): what holds of every one of them. What is checked is computed here
again from the lives of pods and nodes, without the simulator's sums.

SIMULATE_CASES of them instead of the usual few, other ones each time: `make test-simulate`.
"""

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import strategies8
import worlds
from hypothesis import HealthCheck, Phase, given, settings
from strategies8 import Case

from stoker.catalog import ec2
from stoker.meter.prices import Prices, read_prices
from stoker.policy.placement import allocatable_of, capacity_of, daemon_overhead
from stoker.simulate import compiling, report, serving
from stoker.simulate.moments import utc
from stoker.simulate.options import Options
from stoker.simulate.result import IN_FLIGHT, LOST, SERVED, NodeLife, ReplicaLife, Result
from stoker.simulate.run import simulate

USUAL = 150
CASES = int(os.environ.get("SIMULATE_CASES", "0"))
END = math.inf
VOLUNTARY = ("empty:", "drifted:", "underutilized:")
Change = tuple[float, int, str, float]


def run(case: Case) -> Result:
    return simulate(case.scenario, case.trace, Options(**case.options))


def as_text(result: Result) -> str:
    figures = {**report.as_json(result), "wall_s": 0}
    return json.dumps([figures, [(e.at, e.kind, e.subject, e.text, e.data) for e in result.journal]], default=str)


class TestAnyCluster:
    """What hypothesis makes of `strategies8.cases`."""

    def test_what_holds_of_every_run(self, tmp_path: Path) -> None:
        seen: Counter[str] = Counter()

        @given(case=strategies8.cases(tmp_path))
        @settings(
            max_examples=CASES or USUAL,
            deadline=None,
            derandomize=not CASES,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def one(case: Case) -> None:
            try:
                result = run(case)
                found = [text for check in CHECKS for text in check(case, result)]
            except Exception as error:
                raise AssertionError(case.text) from error
            assert not found, "\n".join([*found[:10], case.text])
            seen.update(happened(result))

        one()
        missing = [each for each in WORTH_SEEING if not seen[each]]
        assert not missing, f"these runs say nothing of {', '.join(missing)}: {dict(seen)}"

    def test_the_same_seed_gives_the_same_bytes(self, tmp_path: Path) -> None:
        @given(case=strategies8.cases(tmp_path))
        @settings(
            max_examples=max(5, CASES // 10),
            deadline=None,
            derandomize=not CASES,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def one(case: Case) -> None:
            assert as_text(run(case)) == as_text(run(case)), case.text

        one()


def test_compiled_and_interpreted_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")

    def story() -> str:
        found = worlds.run(
            *(worlds.pool(capacity="spot on-demand"), worlds.model(replicas=1)),
            worlds.scaler(minReplicaCount=1, maxReplicaCount=3),
            requests=worlds.trace(*np.arange(300) * 2.0, answer=400),
            interruptions_per_hour=6.0,
            retries=True,
        )
        assert max(found.outcomes.attempts) > 1 or LOST not in found.outcomes.state
        return as_text(found)

    monkeypatch.setattr(serving, "WORTH_COMPILING", 0)
    assert compiling.twin() is not None
    compiled = story()
    monkeypatch.setenv(compiling.SWITCH, "1")
    assert compiling.twin() is None
    assert story() == compiled


WORTH_SEEING = (
    *("empty", "drifted", "underutilized", "expired", "spot interruption", "the recorded market"),
    *("served", "in flight", "rejected", "scaled up", "scaled down", "no capacity"),
)


def happened(result: Result) -> Iterator[str]:
    """That the cases come to what the checks are about."""
    for life in result.nodes:
        for why in WORTH_SEEING[:6]:
            if life.why_gone.startswith(why):
                yield why
    states = set(result.outcomes.state.tolist())
    yield from (name for name, state in (("served", SERVED), ("in flight", IN_FLIGHT)) if state in states)
    if states - {SERVED, IN_FLIGHT}:
        yield "rejected"
    for event in result.journal:
        if event.kind == "scale" and "before" in event.data:
            yield "scaled up" if event.data["after"] > event.data["before"] else "scaled down"
        if event.kind == "no capacity":
            yield "no capacity"


# -- requests --


def requests_are_conserved(case: Case, result: Result) -> Iterator[str]:
    figures = report.as_json(result)["requests"]
    has_come = case.trace.at_s <= result.ended_at_s
    for i, model in enumerate(result.models):
        states = result.outcomes.state[(result.outcomes.model == i) & has_come]
        told = figures["by_model"][model]
        counted = (len(states), int((states == SERVED).sum()), int((states > SERVED).sum()))
        if counted != (told["arrived"], told["served"], told["rejected"]):
            yield f"{model}: {counted} are not what is told: {told}"
        if told["arrived"] != told["served"] + told["rejected"] + told["in_flight"]:
            yield f"{model}: {told} does not sum"
    if figures["arrived"] != has_come.sum():
        yield f"{figures['arrived']} of {has_come.sum()} requests arrived"


def times_are_in_order(case: Case, result: Result) -> Iterator[str]:
    done, end = result.outcomes, result.ended_at_s
    columns = [case.trace.at_s, done.started_at, done.first_at, done.done_at]
    for row in range(len(case.trace)):
        times = [float(each[row]) for each in columns]
        there = [each for each in times if not math.isnan(each)]
        if there != sorted(there) or there[-1] > max(end, there[0]):
            yield f"request {row}: {times}, and it ended at {end}"
        if done.state[row] == SERVED:
            if len(there) < 4 or done.replica[row] < 0 or done.completion_tokens[row] < 1 or done.attempts[row] < 1:
                yield f"request {row} was served: {times}, {done.replica[row]}, {done.attempts[row]}"
            life = result.replicas[done.replica[row]]
            if life.ready_at is None or not life.ready_at <= times[1] <= times[3] <= (life.gone_at or END):
                yield f"request {row} was served by {life}: {times}"
            if life.leaving_at is not None and times[1] > life.leaving_at:
                yield f"request {row} began at {times[1]} with {life}"
        if done.state[row] == IN_FLIGHT and not math.isnan(times[3]):
            yield f"request {row} is in flight and done"


def the_journal_goes_forward(case: Case, result: Result) -> Iterator[str]:
    times = [each.at for each in result.journal]
    if times != sorted(times):
        yield "the journal goes back"
    if times and times[-1] > result.ended_at_s:
        yield f"the journal has {times[-1]}, and it ended at {result.ended_at_s}"


# -- money --


def the_bill_is_what_was_alive(case: Case, result: Result) -> Iterator[str]:
    volumes = {each.view.name: each.volume for each in (*case.scenario.pools, *case.scenario.groups)}
    prices = read_prices(case.options["prices"], utc(result.began_at)) if "prices" in case.options else Prices()
    total = 0
    alive_s = 0.0
    for kinds in ("type", "capacity", "pool"):
        sums: dict[str, int] = defaultdict(int)
        for life in result.nodes:
            seconds = [*billed_seconds(prices, life, result.ended_at_s)]
            usd = [price_at(prices, life, at) for at, _ in seconds]
            if is_free(life):
                usd = [0.0] * len(usd)
            nano = sum(nearest(1e9 * each * lasted / 3600) for each, (_, lasted) in zip(usd, seconds, strict=True))
            gp3_month = volumes[life.pool].size_gib * 0.08  # as the pools of these cases have it
            nano += nearest(1e9 * gp3_month / 730 * sum(lasted for _, lasted in seconds) / 3600)
            if nano:
                sums[getattr(life, kinds)] += nano
        told = {"type": result.costs.by_node_type, "capacity": result.costs.by_capacity, "pool": result.costs.by_pool}
        if dict(sums) != {key: amount for key, amount in told[kinds].items() if amount}:
            yield f"by {kinds}: {dict(sums)} are told as {told[kinds]}"
        total = sum(sums.values())
    for name in ("by_node_type", "by_capacity", "by_model", "by_tenant", "by_pool", "by_part"):
        split = getattr(result.costs, name)
        if sum(split.values()) != total or any(each < 0 for each in split.values()):
            yield f"{name} sums to {sum(split.values())}, and the total is {total}: {split}"
    if result.costs.total != total:
        yield f"the total is {result.costs.total}, and should be {total}"
    for life in result.nodes:
        if life.launched_at is not None:
            alive_s += max(0.0, min(life.gone_at or END, result.ended_at_s) - max(0.0, life.launched_at))
    told_s = report.as_json(result)["nodes"]["seconds"]
    if not math.isclose(told_s, alive_s, abs_tol=1e-3):
        yield f"nodes were alive for {alive_s} s, and {told_s} are told"


def billed_seconds(prices: Prices, life: NodeLife, end: float) -> Iterator[tuple[float, float]]:
    """From when, for how long: the pieces between changes of its price."""
    if life.launched_at is None or life.launched_at >= end:
        return
    gone = END if life.gone_at is None else max(life.gone_at, life.launched_at + 60)
    began, ends = max(0.0, life.launched_at), min(gone, end)
    steps = prices.steps.get((life.type, life.zone, life.capacity), ())
    bounds = [began, *(at for at, _ in steps if began < at < ends), ends]
    yield from ((since, until - since) for since, until in pairwise(bounds) if until > since)


def is_free(life: NodeLife) -> bool:
    """A spot machine that lived for less than an hour, and to the end of the two minutes of EC2's notice."""
    if life.capacity != "spot" or None in (life.noticed_at, life.gone_at, life.launched_at):
        return False
    return life.gone_at - life.launched_at < 3600 and life.gone_at >= life.noticed_at + 120  # type: ignore[operator]


def price_at(prices: Prices, life: NodeLife, at: float) -> float:
    steps = prices.steps.get((life.type, life.zone, life.capacity), ())
    found = [usd for since, usd in steps if since <= at]
    return found[-1] if found else steps[0][1] if steps else life.usd_per_hour


def nearest(nano: float) -> int:
    return math.floor(nano + 0.5)


# -- pods and nodes --


def alive(life: NodeLife) -> tuple[float, float]:
    return life.asked_at, END if life.gone_at is None else life.gone_at


def pods_are_where_there_is_a_node(case: Case, result: Result) -> Iterator[str]:
    nodes = {each.name: each for each in result.nodes}
    for pod in result.replicas:
        moments = [
            *(pod.created_at, pod.bound_at, pod.pulled_at, pod.loaded_at, pod.ready_at),
        ]
        there = [each for each in moments if each is not None]
        if there != sorted(there) or there[-1] > (END if pod.gone_at is None else pod.gone_at):
            yield f"{pod}: out of order"
        if pod.leaving_at is not None and pod.gone_at is not None and pod.leaving_at > pod.gone_at:
            yield f"{pod}: gone before it was told to leave"
        if (pod.node is None) != (pod.bound_at is None):
            yield f"{pod}: on a node, and never bound"
        if pod.node is None or pod.bound_at is None:
            continue
        node = nodes[pod.node]
        if node.ready_at is None or pod.bound_at < node.ready_at:
            yield f"{pod} was bound to {node}, which was not ready"
        if node.leaving_at is not None and pod.bound_at > node.leaving_at:
            yield f"{pod} was bound to {node}, which was leaving"
        if (END if pod.gone_at is None else pod.gone_at) > alive(node)[1]:
            yield f"{pod} outlives {node}"
    for node in result.nodes:
        moments = [node.asked_at, node.launched_at, node.registered_at, node.ready_at]
        there = [each for each in moments if each is not None]
        if there != sorted(there) or (node.gone_at is not None and there[-1] > node.gone_at):
            yield f"{node}: out of order"


def nodes_hold_their_pods(case: Case, result: Result) -> Iterator[str]:
    views = {each.view.name: each.view for each in (*case.scenario.pools, *case.scenario.groups)}
    requests = {each.name: each.shape.requests for each in case.scenario.workloads}
    on: dict[str, list[ReplicaLife]] = defaultdict(list)
    for pod in result.replicas:
        on[pod.node or ""].append(pod)
    for node in result.nodes:
        view = views[node.pool]
        room = dict(allocatable_of(ec2.instance_types()[node.type], view))
        for key, amount in daemon_overhead(view, case.scenario.daemons).items():
            room[key] = room.get(key, 0) - amount
        changes: list[Change] = []
        for pod in on[node.name]:
            for key, amount in {**requests[pod.workload], "pods": 1}.items():
                changes.append((pod.bound_at or 0.0, 1, key, amount))
                changes.append((END if pod.gone_at is None else pod.gone_at, 0, key, -amount))
        for at, key, taken in over_time(changes):
            if taken > room.get(key, 0):
                yield f"{node.name} has {room.get(key, 0)} of {key}, and at {at} its pods take {taken}"


def over_time(changes: Iterable[Change]) -> Iterator[tuple[float, str, float]]:
    """What is taken of each key after each moment; what goes at a moment goes before what comes."""
    sums: dict[str, float] = defaultdict(float)
    for at, _, key, amount in sorted(changes):
        sums[key] += amount
        yield at, key, sums[key]


def pools_keep_their_limits(case: Case, result: Result) -> Iterator[str]:
    """Whenever a node is asked for: all that are there and it, but what it takes the place of; and nothing is asked for
    while there is too much."""
    for pool in case.scenario.pools:
        own = [each for each in result.nodes if each.pool == pool.view.name]
        for i, node in enumerate(own):
            there = [each for each in own[:i] if alive(each)[1] > node.asked_at]
            replaced = node.why.removeprefix("in place of ").split(", ") if node.why.startswith("in place of ") else ()
            staying = [each for each in there if each.name not in replaced]
            for key, limit in pool.view.limits.items():
                if sum_of(key, [*staying, node]) > limit or sum_of(key, there) > limit:
                    yield f"{node} is asked for beside {there}: {pool.view.name} may have {limit} of {key}"


def sum_of(key: str, nodes: Iterable[NodeLife]) -> int:
    return sum(capacity_of(ec2.instance_types()[each.type]).get(key, 0) for each in nodes)


def replicas_stay_within_their_bounds(case: Case, result: Result) -> Iterator[str]:
    for scaler in case.scenario.scalers:
        of_it = scaler.scaled.autoscaler if scaler.scaled is not None else scaler.autoscaler
        assert of_it is not None
        least = scaler.scaled.minimum if scaler.scaled is not None else of_it.minimum
        changes: list[Change] = []
        for pod in result.replicas:
            if pod.workload == scaler.target:
                ends = [each for each in (pod.leaving_at, pod.gone_at) if each is not None]
                changes += [(pod.created_at, 1, "pods", 1), (min(ends, default=END), 0, "pods", -1)]
        written = next(each.replicas for each in case.scenario.workloads if each.name == scaler.target)
        for at, _, there in over_time(changes):
            if there > max(of_it.maximum, written):
                yield f"{scaler.name} may have {of_it.maximum}, and has {there} at {at}"
        model = next(
            each.serving.model for each in case.scenario.workloads if each.name == scaler.target and each.serving
        )
        for at, wanted in zip(result.timeline.at, result.timeline.wanted[model], strict=True):
            is_warm = at > (60 if case.options.get("cold") else 0)
            # An HPA alone leaves what is written as 0 alone.
            if is_warm and wanted < least and not (scaler.scaled is None and wanted == 0):
                yield f"{scaler.name} wants {least} at least, and {wanted} at {at}"


def disruption_keeps_to_its_budgets(case: Case, result: Result) -> Iterator[str]:
    """Of the pool's nodes those that go of Karpenter's own accord, at once; budgets with a schedule or reasons are left
    out."""
    for pool in case.scenario.pools:
        own = [each for each in result.nodes if each.pool == pool.view.name]
        most_there = max((there for _, _, there in over_time(spans("there", map(alive, own)))), default=0)
        always = [each for each in pool.disruption.budgets if not each.schedule and not each.reasons]
        most = min(
            (-(-most_there * each.nodes // 100) if each.is_percent else each.nodes for each in always), default=END
        )
        going = [
            (each.leaving_at, END if each.gone_at is None else each.gone_at)
            for each in own
            if each.leaving_at is not None and each.why_gone.startswith(VOLUNTARY)
        ]
        for at, _, away in over_time(spans("away", going)):
            if away > most:
                yield f"{pool.view.name}: {away} nodes are away at {at}, and {most} may be: {always}"


def spans(key: str, of: Iterable[tuple[float, float]]) -> Iterator[Change]:
    for began, ended in of:
        yield began, 1, key, 1
        yield ended, 0, key, -1


def was_noticed(node: NodeLife, at: float) -> bool:
    return node.noticed_at is not None and node.noticed_at <= at


def drains_keep_pod_disruption_budgets(case: Case, result: Result) -> Iterator[str]:
    """Of ready pods that are told to leave by a drain without an end, so many stay ready as the budget says. A notice
    gives an end to a drain that goes on, too."""
    graces = {each.view.name: each.disruption.termination_grace_s for each in case.scenario.pools}
    nodes = {each.name: each for each in result.nodes}
    for budget in case.scenario.budgets:
        own = [each for each in result.replicas if each.workload.endswith(f"/{budget.name}")]
        drained = [
            each
            for each in own
            if each.ready_at is not None
            and each.leaving_at is not None
            and each.node is not None
            and f"{each.node} is drained: " in each.why_gone
            and graces.get(nodes[each.node].pool) is None
            and not was_noticed(nodes[each.node], each.leaving_at)
        ]
        for pod in drained:
            at = pod.leaving_at or 0.0
            ready = sum(
                each.ready_at is not None
                and each.ready_at <= at
                and (each.leaving_at or END) > at
                and (each.gone_at or END) > at
                for each in own
            )
            if budget.max_unavailable == 0 and not budget.is_percent:
                yield f"{pod} was evicted at {at}, and {budget.name} allows none"
            if budget.min_available is not None and not budget.is_percent and ready < budget.min_available:
                yield f"{pod} was evicted at {at}: {ready} are ready, and {budget.min_available} have to be"


CHECKS = (
    requests_are_conserved,
    times_are_in_order,
    the_journal_goes_forward,
    the_bill_is_what_was_alive,
    pods_are_where_there_is_a_node,
    nodes_hold_their_pods,
    pools_keep_their_limits,
    replicas_stay_within_their_bounds,
    disruption_keeps_to_its_budgets,
    drains_keep_pod_disruption_budgets,
)
