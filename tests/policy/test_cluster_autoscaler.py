"""The classic Cluster Autoscaler, scan by scan. Machines are those of the catalogue."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.catalog.ec2 import instance_types
from stoker.policy.cluster import DisruptionBudget, Node, Pod, PodShape, PodTerm, Spread
from stoker.policy.cluster_autoscaler import (
    AFTER_ADD_S,
    BACKOFF_S,
    MAX_PROVISION_S,
    RECHECK_S,
    SCAN_S,
    UNNEEDED_S,
    Decision,
    Group,
    State,
    failed,
    node_of,
    scan,
    utilization,
)
from stoker.policy.fitting import asked
from stoker.policy.placement import NodePoolView, PodView
from stoker.policy.requirements import of_labels
from stoker.policy.taints import Taint, Toleration

TYPES = instance_types()
GI = 1024**3
GPU = "nvidia.com/gpu"
ZONE = "topology.kubernetes.io/zone"
WEB = {"app": "web"}


def group(
    name: str, of: str = "m5.large", minimum: int = 0, maximum: int = 10, *, usd: float = 0.1, **more: Any
) -> Group:
    """m5.large: 1930 m, some 6.9 Gi; m5.xlarge: 3920 m; g5.xlarge: 3920 m and one GPU."""
    return Group(NodePoolView(name, **more), TYPES[of], ("us-east-1b", "us-east-1a"), minimum, maximum, usd)


def shape(cpu: int = 1500, memory: int = GI, *, gpus: int = 0, **more: Any) -> PodShape:
    view = PodView(
        requirements=more.pop("requirements", ({},)),
        tolerations=more.pop("tolerations", ()),
        requests={"cpu": cpu, "memory": memory} | ({GPU: gpus} if gpus else {}),
        priority=more.pop("priority", None),
    )
    return PodShape(view, **{"owner": "Deployment default/web", "labels": WEB, **more})


def waiting(of: PodShape, count: int, created_at: float = 0.0) -> list[Pod]:
    return [Pod(f"w{i:02}", of, created_at) for i in range(count)]


def node(of: Group, number: int, *shapes: PodShape, ready_at: float | None = 0.0, zone: str = "us-east-1a") -> Node:
    made = node_of(of, f"{of.name}-{number}", zone, 0.0)
    made.ready_at = ready_at
    for i, each in enumerate(shapes):
        put(made, Pod(f"{made.name}-p{i}", each, 0.0, made.name, 1.0, 2.0))
    return made


def put(on: Node, pod: Pod) -> None:
    pod.node = on.name
    on.pods[pod.name] = pod
    for key, amount in asked(pod.shape):
        on.used[key] = on.used.get(key, 0) + amount


def grown(pods: list[Pod], groups: list[Group], nodes: list[Node] | None = None, **more: Any) -> Mapping[str, int]:
    return scan(State(), pods, nodes or [], groups, 100.0, **more)[1].grow


# --- more nodes -------------------------------------------------------------------------------------------------------


def test_pods_are_packed_onto_new_nodes() -> None:
    """1930 m hold three of 600 m, so seven need three nodes."""
    assert grown(waiting(shape(600), 7), [group("a")]) == {"a": 3}
    assert grown(waiting(shape(600), 7), [group("a")], daemons=(PodView(requests={"cpu": 200}),)) == {"a": 4}


def test_why_it_grows() -> None:
    state, decision = scan(State(), waiting(shape(600), 4), [], [group("a")], 100.0)
    assert decision.why == (("a", "2 more for 4 pods, w00 first"),)
    assert state == State(last_add_at=100.0)


def test_large_pods_are_packed_first() -> None:
    """In the order in which they wait 1200, 700, 1200, 700 need two nodes; so do they sorted, but 700, 700, 1200, 1200
    would need three without sorting."""
    pods = [*waiting(shape(700), 2), *(replace(pod, name=f"x{pod.name}") for pod in waiting(shape(1200), 2, 1.0))]
    assert grown(pods, [group("a")]) == {"a": 2}


def test_what_fits_on_nodes_that_are_there_or_coming_needs_no_more() -> None:
    a = group("a")
    there, coming = node(a, 1, shape(1500)), node(a, 2, ready_at=None)
    assert grown(waiting(shape(400), 1), [a], [there]) == {}
    assert grown(waiting(shape(1500), 2), [a], [there, coming]) == {"a": 1}
    there.leaving_since = 50.0
    assert grown(waiting(shape(400), 1), [a], [there]) == {"a": 1}


def test_the_group_that_wastes_least_grows() -> None:
    """One pod of 3500 m and 12 Gi: of an m5.xlarge (4 cores, 16 Gi) it leaves 1/8 + 1/4, of an r5.xlarge (32 Gi) 1/8 +
    5/8; m5.large does not take it."""
    pods = waiting(shape(3500, 12 * GI), 1)
    groups = [group("r", "r5.xlarge", usd=0.01), group("small"), group("x", "m5.xlarge")]
    assert grown(pods, groups) == {"x": 1}


def test_of_equal_waste_the_cheapest_then_the_first_by_name() -> None:
    pods = waiting(shape(600), 3)
    assert grown(pods, [group("a", usd=0.2), group("b", usd=0.1)]) == {"b": 1}
    assert grown(pods, [group("b"), group("a")]) == {"a": 1}


def test_waste_is_of_machines_that_all_pods_need() -> None:
    """Two of 1500 m: two m5.large waste 1/4 of cpu, one m5.xlarge the same; of the memory each the same. Three: three
    m5.large still 1/4, two m5.xlarge 7/16."""
    groups = [group("large"), group("xlarge", "m5.xlarge")]
    assert grown(waiting(shape(1500, 2 * GI), 3), groups) == {"large": 3}


def test_one_group_grows_at_a_time() -> None:
    gpu, cpu = shape(1000, gpus=1), shape(1900)
    groups = [group("cpu"), group("gpu", "g5.xlarge")]
    pods = [*waiting(cpu, 1), Pod("g", gpu, 0.0)]
    state, first = scan(State(), pods, [], groups, 100.0)
    assert first.grow == {"cpu": 1}
    _, second = scan(state, pods, [node(groups[0], 1, ready_at=None)], groups, 110.0)
    assert second.grow == {"gpu": 1}


def test_never_beyond_the_maximum() -> None:
    a = group("a", maximum=3)
    there = [node(a, 1, shape(1900)), node(a, 2, shape(1900))]
    assert grown(waiting(shape(1900), 5), [a], there) == {"a": 1}
    there[0].leaving_since = 50.0  # until it is gone, it is one of them
    assert grown(waiting(shape(1900), 5), [a], there) == {"a": 1}
    decision = scan(State(), waiting(shape(1900), 1), [*there, node(a, 3, shape(1900))], [a], 100.0)[1]
    assert decision.grow == {}
    assert decision.why == (("w00", "no group helps: a: at its maximum of 3"),)


def test_why_no_group_helps() -> None:
    tainted = group("t", "g5.xlarge", taints=(Taint(GPU, "true"),))
    pods = waiting(shape(1000, gpus=2), 1)
    pods[0].created_at = -100.0
    decision = scan(State(), pods, [], [group("a"), tainted], 100.0)[1]
    reason = "no group helps: a: Insufficient nvidia.com/gpu; t: node(s) had untolerated taint {nvidia.com/gpu: true}"
    assert decision.grow == {}
    assert decision.why == (("w00", reason),)
    assert scan(State(), pods, [], [], 100.0)[1].why == (("w00", "no group helps: there is none"),)


def test_labels_and_taints_of_the_group_are_those_of_its_new_nodes() -> None:
    wants = shape(
        1000,
        gpus=1,
        tolerations=(Toleration(GPU, "Exists"),),
        requirements=(of_labels({"team": "x", "node.kubernetes.io/instance-type": "g5.xlarge"}),),
    )
    groups = [
        group("a", "g5.xlarge", taints=(Taint(GPU, "true"),), labels={"team": "y"}),
        group("b", "g5.xlarge", taints=(Taint(GPU, "true"),), labels={"team": "x"}),
    ]
    assert grown(waiting(wants, 2), groups) == {"b": 2}


def test_a_new_node_is_taken_to_be_like_those_that_are_there() -> None:
    """An empty group is thought to grow in its first zone; one with nodes in theirs."""
    a = group("a")
    in_b = shape(600, requirements=(of_labels({ZONE: "us-east-1b"}),))
    assert grown(waiting(in_b, 1), [a]) == {}
    assert grown(waiting(in_b, 1), [a], [node(a, 1, shape(1900), zone="us-east-1b")]) == {"a": 1}


def test_anti_affinity_needs_a_node_each_and_a_spread_over_zones_that_one_zone_does_not_help_ends_it() -> None:
    alone = shape(100, anti_affinity=(PodTerm("kubernetes.io/hostname", of_labels(WEB), ("default",)),))
    assert grown(waiting(alone, 3), [group("a")]) == {"a": 3}
    spread = shape(100, spread=(Spread(ZONE, 1, of_labels(WEB)),))
    a = group("a")
    there = [node(a, 1, spread, spread, zone="us-east-1a"), node(a, 2, spread, shape(1800), zone="us-east-1b")]
    # Zone b has room for one more, on a node that is full; new nodes are thought to be in zone a, which has too many.
    assert grown(waiting(spread, 2), [a], there) == {}


@pytest.mark.parametrize(("age", "gpus", "grows"), [(1.0, 0, False), (2.0, 0, True), (29.0, 1, False), (30.0, 1, True)])
def test_new_pods_are_waited_for(age: float, gpus: int, grows: bool) -> None:
    pods = waiting(shape(1000, gpus=gpus), 1, created_at=100.0 - age)
    state, decision = scan(State(), pods, [], [group("g", "g5.xlarge")], 100.0)
    assert decision.grow == ({"g": 1} if grows else {})
    assert state.last_add_at == (100.0 if grows else None)


def test_pods_that_are_worth_no_node() -> None:
    assert grown(waiting(shape(priority=-11), 1), [group("a")]) == {}
    assert grown(waiting(shape(priority=-10), 1), [group("a")]) == {"a": 1}


def test_a_group_has_its_minimum() -> None:
    a = group("a", minimum=2)
    assert grown([], [a]) == {"a": 2}
    assert grown([], [a], [node(a, 1, ready_at=None)]) == {"a": 1}
    assert grown(waiting(shape(1900), 1), [a]) == {"a": 2}
    full = group("a", minimum=2, maximum=2)
    nodes = [node(full, 1), node(full, 2)]
    nodes[0].leaving_since = 50.0
    assert grown([], [full], nodes) == {}
    assert scan(failed(State(), "a", 90.0), [], [], [a], 100.0)[1].grow == {}


# --- groups that fail -------------------------------------------------------------------------------------------------


def test_a_group_that_failed_is_left_alone_for_longer_each_time() -> None:
    state = failed(State(), "a", 0.0)
    assert state.failed_until == {"a": 300.0}
    state = failed(state, "a", 301.0)
    assert state.failed_until == {"a": 901.0}
    state = failed(state, "a", 902.0)
    assert state.failed_until == {"a": 902.0 + 1200}
    state = failed(state, "a", 3000.0)
    state = failed(state, "a", 6000.0)
    assert state.failed_until == {"a": 6000.0 + 1800}
    again = failed(state, "a", 6100.0)  # while it is left alone
    assert again.failed_until == {"a": 6400.0}
    assert failed(state, "a", 6000.0 + 3 * 3600 + 1).failed_until == {"a": 6001.0 + 3 * 3600 + 300}


def test_another_group_grows_for_one_that_failed() -> None:
    groups = [group("a"), group("b", "m5.xlarge")]
    pods = waiting(shape(1900), 1)
    state = failed(State(), "a", 100.0)
    assert scan(state, pods, [], groups, 110.0)[1].grow == {"b": 1}
    said = scan(state, pods, [], groups[:1], 110.0)[1].why
    assert said == (("w00", "no group helps: a: failed, and is left alone for 290 s"),)
    assert scan(state, pods, [], groups[:1], 100.0 + BACKOFF_S)[1].grow == {"a": 1}


def test_a_node_that_does_not_come_is_given_up_and_its_group_fails() -> None:
    a, b = group("a"), group("b")
    coming = node(a, 1, ready_at=None)
    pods = waiting(shape(1900), 1)
    assert scan(State(), pods, [coming], [a, b], MAX_PROVISION_S)[1].remove == ()
    state, decision = scan(State(), pods, [coming], [a, b], MAX_PROVISION_S + 1)
    assert decision.remove == ("a-1",)
    assert decision.grow == {"b": 1}
    assert decision.why[0] == ("a-1", "has not come in 900 s")
    assert state.failed_until == {"a": MAX_PROVISION_S + 1 + BACKOFF_S}


def test_a_node_that_does_not_come_is_not_given_up_below_the_minimum_but_not_counted_on() -> None:
    a = group("a", minimum=1)
    coming = node(a, 1, ready_at=None)
    pods = waiting(shape(1900), 1)
    state, decision = scan(State(), pods, [coming], [a, group("b")], 1000.0)
    assert decision.remove == ()
    assert decision.grow == {"b": 1}
    assert scan(state, pods, [coming], [a], 1010.0)[0].failed_until == state.failed_until


def test_a_group_that_a_node_came_to_since_has_not_failed() -> None:
    a = group("a")
    state = failed(State(), "a", 50.0)
    came = node_of(a, "a-9", "us-east-1a", 60.0)
    came.ready_at = 90.0
    assert scan(state, [], [came], [a], 100.0)[0].failed_until == {}
    assert scan(state, [], [node(a, 1)], [a], 100.0)[0].failed_until == {"a": 350.0}


# --- fewer nodes ------------------------------------------------------------------------------------------------------


def test_utilization_is_the_larger_part_and_of_gpus_alone_where_there_are_some() -> None:
    a, g = group("a"), group("g", "g5.xlarge")
    one = node(a, 1, shape(965, GI))
    assert one.allocatable["cpu"] == 1930
    assert utilization(one) == 0.5
    one.daemons = {"cpu": 193}
    assert utilization(one) == pytest.approx(0.6)
    assert utilization(node(g, 1, shape(3900, GI))) == 0.0
    assert utilization(node(g, 1, shape(100, GI, gpus=1))) == 1.0


def run(
    nodes: list[Node], groups: list[Group], *, until: float, state: State | None = None, begin: float = 0.0, **more: Any
) -> tuple[State, list[tuple[float, Decision]]]:
    """Scans every 10 s; what is removed is gone at once. Returns what was decided."""
    state = State() if state is None else state
    told = []
    now = begin
    while now <= until:
        state, decision = scan(state, [], nodes, groups, now, **more)
        if decision.remove or decision.grow:
            told.append((now, decision))
        nodes[:] = [each for each in nodes if each.name not in decision.remove]
        now += SCAN_S
    return state, told


def test_an_empty_node_goes_after_ten_minutes() -> None:
    a = group("a")
    nodes = [node(a, 1), node(a, 2, shape(1500))]
    _, told = run(nodes, [a], until=700.0, begin=40.0)
    assert [(now, decision.remove) for now, decision in told] == [(640.0, ("a-1",))]
    assert told[0][1].why == (("a-1", "not needed for 600 s"),)


def test_used_to_one_half_it_stays() -> None:
    a = group("a")
    roomy = node(group("other"), 2)
    state, told = run([node(a, 1, shape(965, GI)), roomy], [a], until=700.0)
    assert told == []
    assert state.unneeded_since == {}
    _, told = run([node(a, 1, shape(900, GI)), roomy], [a], until=700.0)
    assert [decision.remove for _, decision in told] == [("a-1",)]


def test_its_pods_must_fit_elsewhere_and_it_is_asked_again_after_five_minutes() -> None:
    a = group("a")
    small, full = node(a, 1, shape(900, GI)), node(a, 2, shape(1500))
    state, decision = scan(State(), [], [small, full], [a], 0.0)
    assert decision.why == (("a-1", "little used, but its pods do not fit elsewhere"),)
    assert state.unremovable_until == {"a-1": RECHECK_S}
    roomy = node(a, 3, shape(970, GI))
    state, _ = scan(state, [], [small, full, roomy], [a], 290.0)
    assert state.unneeded_since == {}
    state, _ = scan(state, [], [small, full, roomy], [a], 300.0)
    assert state.unneeded_since == {"a-1": 300.0}


def test_nodes_that_are_coming_are_no_place_for_its_pods() -> None:
    a = group("a")
    small, coming = node(a, 1, shape(900, GI)), node(group("other"), 2, ready_at=None)
    assert scan(State(), [], [small, coming], [a], 0.0)[0].unneeded_since == {}
    coming.ready_at = 5.0
    assert scan(State(), [], [small, coming], [a], 10.0)[0].unneeded_since == {"a-1": 10.0}


def test_empty_ones_are_tried_first() -> None:
    """The other way round a-1 would move to a-2, which would have to stay."""
    a = group("a")
    state, _ = scan(State(), [], [node(a, 1, shape(900, GI)), node(a, 2)], [a], 0.0)
    assert state.unneeded_since == {"a-2": 0.0}


def test_those_that_were_not_needed_before_are_tried_before_others() -> None:
    a = group("a")
    nodes = [node(a, 1, shape(900, GI)), node(a, 2, shape(900, GI))]
    state, _ = scan(State(unneeded_since={"a-2": 0.0}), [], nodes, [a], 10.0)
    assert state.unneeded_since == {"a-2": 0.0}


def test_of_two_that_could_take_each_other_one_stays() -> None:
    """Each could move to the other; with one moved, the other is what holds both."""
    a = group("a")
    nodes = [node(a, 1, shape(900, GI)), node(a, 2, shape(900, GI))]
    _, told = run(nodes, [a], until=3000.0)
    assert [decision.remove for _, decision in told] == [("a-1",)]
    assert [each.name for each in nodes] == ["a-2"]


def test_the_time_begins_anew_when_it_was_needed_in_between() -> None:
    a = group("a")
    one = node(a, 1)
    state, _ = run([one], [a], until=590.0)
    assert state.unneeded_since == {"a-1": 0.0}
    busy = node(a, 1, shape(1500))
    state, _ = scan(state, [], [busy], [a], 600.0)
    assert state.unneeded_since == {}
    state, decision = scan(state, [], [one], [a], 610.0)
    assert state.unneeded_since == {"a-1": 610.0}
    assert decision.remove == ()


def test_for_ten_minutes_after_a_group_grew_none_goes_but_the_time_runs() -> None:
    a = group("a")
    state = State(last_add_at=300.0)
    _, told = run([node(a, 1)], [a], until=1000.0, state=state)
    assert [now for now, _ in told] == [300.0 + AFTER_ADD_S]


def test_in_a_scan_that_adds_none_goes() -> None:
    a = group("a")
    state = State(unneeded_since={"a-1": 0.0})
    pods = waiting(shape(1900), 2)
    _, decision = scan(state, pods, [node(a, 1)], [a], 700.0)
    assert (decision.grow, decision.remove) == ({"a": 1}, ())


def test_never_below_the_minimum() -> None:
    a = group("a", minimum=2)
    nodes = [node(a, i) for i in range(5)]
    _, told = run(nodes, [a], until=3000.0)
    assert [decision.remove for _, decision in told] == [("a-0", "a-1", "a-2")]


def test_empty_nodes_go_ten_at_once_and_others_one_at_a_time() -> None:
    a = group("a", maximum=20)
    nodes = [node(a, i) for i in range(12)]
    _, told = run(nodes, [a], until=610.0)
    assert [(now, len(decision.remove)) for now, decision in told] == [(600.0, 10), (610.0, 2)]
    used = [node(a, i, shape(300, GI)) for i in range(3)] + [node(a, 9, shape(965, GI))]
    _, told = run(used, [a], until=620.0)
    assert [(now, decision.remove) for now, decision in told] == [
        (600.0, ("a-0",)),
        (610.0, ("a-1",)),
        (620.0, ("a-2",)),
    ]


def test_those_that_are_going_count_towards_the_ten() -> None:
    a = group("a", maximum=20)
    nodes = [node(a, i) for i in range(12)]
    for each in nodes[:4]:
        each.leaving_since = 590.0
    state = State(unneeded_since={each.name: 0.0 for each in nodes})
    assert len(scan(state, [], nodes, [a], 600.0)[1].remove) == 6


def test_while_pods_are_new_none_goes() -> None:
    a = group("a")
    state = State(unneeded_since={"a-1": 0.0})
    young = waiting(shape(5000), 1, 699.0)
    state, decision = scan(state, young, [node(a, 1)], [a], 700.0)
    assert decision.remove == ()
    assert scan(state, young, [node(a, 1)], [a], 710.0)[1].remove == ("a-1",)


def test_pods_that_are_leaving_do_not_hold_their_node_but_need_a_place() -> None:
    a = group("a")
    held = node(a, 1, shape(300, GI, do_not_disrupt=True))
    held.pods["a-1-p0"].leaving_since = 5.0
    assert scan(State(), [], [held], [a], 10.0)[0].unneeded_since == {}
    assert scan(State(), [], [held, node(group("other"), 1)], [a], 10.0)[0].unneeded_since == {"a-1": 10.0}


def test_while_one_is_drained_no_other_is_and_empty_ones_still_go() -> None:
    a = group("a")
    draining = node(a, 1, shape(300, GI))
    draining.leaving_since = 590.0
    nodes = [draining, node(a, 2, shape(300, GI)), node(a, 3, shape(965, GI)), node(a, 4)]
    state = State(unneeded_since={"a-2": 0.0, "a-4": 0.0})
    assert scan(state, [], nodes, [a], 600.0)[1].remove == ("a-4",)
    assert scan(state, [], nodes[1:], [a], 600.0)[1].remove == ("a-4", "a-2")


def test_nodes_of_other_pools_are_left_alone_and_are_places() -> None:
    a, other = group("a"), group("other")
    nodes = [node(a, 1, shape(300, GI)), node(other, 1)]
    _, told = run(nodes, [a], until=700.0)
    assert [decision.remove for _, decision in told] == [("a-1",)]


BUDGET = DisruptionBudget("web", "default", of_labels(WEB), max_unavailable=1)


@pytest.mark.parametrize(
    ("pods", "budgets", "why"),
    [
        ([shape(300, do_not_disrupt=True)], (), "a-1-p0 is not to be disrupted"),
        ([shape(300, owner="")], (), "nobody would make a-1-p0 again"),
        ([shape(300, owner="Pod default/x")], (), "nobody would make a-1-p0 again"),
        ([shape(300, namespace="kube-system")], (), "a-1-p0 is of kube-system, without a disruption budget"),
        ([shape(300)], (replace(BUDGET, max_unavailable=0),), "a disruption budget holds a-1-p0"),
        ([shape(300), shape(300)], (BUDGET,), "disruption budget web does not allow 2 of its pods to go"),
        ([shape(300)], (BUDGET,), None),
        ([shape(300), shape(300)], (replace(BUDGET, max_unavailable=2),), None),
        ([shape(300, namespace="kube-system")], (replace(BUDGET, namespace="kube-system"),), None),
    ],
)
def test_its_pods_must_be_free_to_go(pods: list[PodShape], budgets: tuple[DisruptionBudget, ...], why: str) -> None:
    a = group("a")
    nodes = [node(a, 1, *pods), node(a, 2, shape(1000, labels={"app": "other"}))]
    state, decision = scan(State(), [], nodes, [a], 0.0, budgets=budgets)
    assert decision.why == ((("a-1", why),) if why else ())
    assert (state.unneeded_since == {"a-1": 0.0}) is (why is None)


def test_a_node_that_a_waiting_pod_will_go_to_is_not_empty() -> None:
    """It fits on a-1 alone; in the next scan it may be bound."""
    a = group("a")
    nodes = [node(a, 1), node(a, 2, shape(1500))]
    state = State(unneeded_since={"a-1": 0.0})
    new_state, decision = scan(state, waiting(shape(600), 1, 695.0), nodes, [a], 700.0)
    assert decision.remove == ()
    assert new_state.unneeded_since == {}


# --- whatever happens -------------------------------------------------------------------------------------------------


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Group], list[Node], list[Pod]]:
    sizes = st.sampled_from([100, 400, 900, 1500, 3000])
    groups = []
    for name, of in (("a", "m5.large"), ("b", "m5.xlarge")):
        least = draw(st.integers(0, 2))
        groups.append(group(name, of, least, least + draw(st.integers(0, 3))))
    spreads: list[tuple[Spread, ...]] = [(), (), (Spread(ZONE, 1, of_labels(WEB)),)]
    shapes = [
        shape(draw(sizes), GI, spread=draw(st.sampled_from(spreads)), do_not_disrupt=draw(st.integers(0, 5)) == 0)
        for _ in range(3)
    ]
    nodes = []
    for each in groups:
        for i in range(draw(st.integers(each.minimum, each.maximum))):
            zone = draw(st.sampled_from(each.zones))
            made = node(each, i, ready_at=draw(st.sampled_from([0.0, 0.0, 0.0, None])), zone=zone)
            for k, one in enumerate(draw(st.lists(st.sampled_from(shapes), max_size=3)) if made.ready_at == 0 else []):
                if all(made.free[key] >= amount for key, amount in asked(one)):
                    put(made, Pod(f"{made.name}-p{k}", one, 0.0, made.name, 1.0, 2.0))
            nodes.append(made)
    pods = [
        Pod(f"w{i}", draw(st.sampled_from(shapes)), draw(st.sampled_from([0.0, 5.0])))
        for i in range(draw(st.integers(0, 4)))
    ]
    return groups, nodes, pods


def places_for(pods: list[Pod], nodes: list[Node]) -> list[Node] | None:
    """A node that is ready for each pod, so that all have room by cpu: every way is tried."""
    free = {each.name: each.free["cpu"] for each in nodes if each.ready_at is not None}

    def place(left: list[Pod]) -> list[str] | None:
        if not left:
            return []
        cpu = left[0].shape.requests["cpu"]
        for name, room in list(free.items()):
            if room >= cpu:
                free[name] -= cpu
                rest = place(left[1:])
                free[name] += cpu
                if rest is not None:
                    return [name, *rest]
        return None

    by_name = {each.name: each for each in nodes}
    found = place(pods)
    return None if found is None else [by_name[name] for name in found]


@settings(max_examples=examples(50), deadline=None)
@given(worlds(), st.integers(0, 3))
def test_within_its_bounds_and_never_without_room_for_the_pods(
    world: tuple[list[Group], list[Node], list[Pod]], budget: int
) -> None:
    """Runs on for half an hour: nodes come after a minute, pods that wait are bound by nobody, those of a removed node
    go where there is room."""
    groups, nodes, pods = world
    budgets = [DisruptionBudget("b", "default", of_labels(WEB), max_unavailable=budget)] if budget else []
    state, now, made = State(), 100.0, 0
    while now < 2000.0:
        before = {each.name for each in nodes}
        state, decision = scan(state, pods, nodes, groups, now, budgets=budgets)
        gone = set(decision.remove)
        assert gone <= before
        for each in groups:
            own = [one for one in nodes if one.pool == each.name]
            assert len(own) + decision.grow.get(each.name, 0) <= each.maximum
            left = len([one for one in own if one.name not in gone])
            assert left >= each.minimum or not any(one.name in gone for one in own)
        leaving = [one for one in nodes if one.name in gone]
        assert not any(pod.shape.do_not_disrupt for one in leaving for pod in one.pods.values())
        assert sum(bool(one.pods) for one in leaving) <= 1
        assert not (decision.grow and any(one.ready_at is not None for one in leaving))
        nodes = [one for one in nodes if one.name not in gone]
        moving = [pod for one in leaving for pod in one.pods.values()]
        places = places_for(moving, nodes)
        assert places is not None
        for pod, to in zip(moving, places, strict=True):
            put(to, pod)
        for each in groups:
            for _ in range(decision.grow.get(each.name, 0)):
                made += 1
                fresh = node_of(each, f"new-{made}", each.zones[0], now)
                nodes.append(fresh)
        for one in nodes:
            if one.ready_at is None and one.created_at + 60 <= now and one.name.startswith("new"):
                one.ready_at = now
        now += 50.0


def test_twice_the_same_is_the_same() -> None:
    groups = [group("a"), group("b", "m5.xlarge")]
    nodes = [node(groups[0], 1, shape(300)), node(groups[1], 1)]
    pods = waiting(shape(1900), 3)
    first = scan(State(), pods, nodes, groups, 100.0)
    second = scan(State(), pods, list(reversed(nodes)), list(reversed(groups)), 100.0)
    assert (first[0], first[1].grow, first[1].remove, first[1].why) == (
        second[0],
        second[1].grow,
        second[1].remove,
        second[1].why,
    )
    assert [len(each.pods) for each in nodes] == [1, 0]
    assert UNNEEDED_S == 600.0
