"""Which nodes Karpenter takes away, method by method (reference 4.5 and 4.6)."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from disrupting import (
    AT,
    FREELY,
    NOW,
    SHUT,
    SMALL,
    A,
    B,
    add,
    no,
    node,
    offer,
    on_demand,
    pool,
    roomy,
    shape,
    taken,
    view,
    with_spot,
)

from stoker.catalog.labels import CAPACITY_TYPE
from stoker.policy import provisioning
from stoker.policy.candidates import Candidate, aged_cost, consolidatable_at, disruption_cost, eviction_cost
from stoker.policy.cluster import Budget, Disruption, DisruptionBudget, Node, NodeTerm, Pod, Spread
from stoker.policy.disruption import UNLIMITED, Reason, View, allowed, look, still_holds
from stoker.policy.provisioning import Plan
from stoker.policy.requirements import of_labels
from stoker.policy.taints import Toleration

TENTH = Budget(10, is_percent=True)


# -- budgets (4.6) --


@pytest.mark.parametrize(
    ("budgets", "reason", "total", "away", "left"),
    [
        pytest.param([Budget(20, is_percent=True)], "Empty", 19, 0, 4, id="19 nodes, 20 %: rounded up"),
        pytest.param([TENTH], "Empty", 1, 0, 1, id="the default lets one of one go"),
        pytest.param([TENTH], "Empty", 10, 0, 1, id="10 of 10 %"),
        pytest.param([TENTH], "Empty", 11, 0, 2, id="11 of 10 %"),
        pytest.param([TENTH], "Empty", 11, 1, 1, id="one is away"),
        pytest.param([TENTH], "Empty", 11, 5, 0, id="more are away than may be"),
        pytest.param([Budget(0)], "Drifted", 50, 0, 0, id="none"),
        pytest.param([Budget(0, is_percent=True)], "Drifted", 50, 0, 0, id="0 %"),
        pytest.param([Budget(5)], "Underutilized", 3, 0, 5, id="a number is not bound by the nodes there are"),
        pytest.param([Budget(5), Budget(2), TENTH], "Empty", 30, 0, 2, id="the tightest counts"),
        pytest.param([Budget(1, reasons=("Drifted",)), Budget(7)], "Drifted", 30, 0, 1, id="of this reason"),
        pytest.param([Budget(1, reasons=("Drifted",)), Budget(7)], "Empty", 30, 0, 7, id="of another reason"),
        pytest.param([Budget(1, reasons=("Drifted",))], "Empty", 30, 3, UNLIMITED - 3, id="none of this reason"),
        pytest.param([], "Empty", 30, 0, UNLIMITED, id="no budgets"),
        pytest.param([Budget(9, schedule="0 9 * *", duration_s=60)], "Empty", 30, 0, 0, id="a broken schedule"),
        pytest.param(
            [Budget(9, reasons=("Drifted",), schedule="0 9 * *", duration_s=60)],
            "Empty",
            30,
            0,
            0,
            id="even of another",
        ),
        pytest.param(
            [Budget(0, schedule="0 9 * * *", duration_s=4 * 3600), Budget(3)], "Empty", 9, 0, 0, id="in force"
        ),
        pytest.param([Budget(0, schedule="0 9 * * *", duration_s=3 * 3600), Budget(3)], "Empty", 9, 0, 3, id="over"),
    ],
)
def test_budgets(budgets: Sequence[Budget], reason: Reason, total: int, away: int, left: int) -> None:
    """At noon of a Friday."""
    assert allowed(budgets, reason, total, away, AT) == left


def test_the_budget_counts_initialised_nodes_and_those_that_go_already() -> None:
    """20 nodes, two of them not ready: 18, of which 10 % are 2. One is leaving, so one more may go."""
    nodes = [node(f"n{i:02}") for i in range(16)]
    nodes += [node("coming", ready_at=None), node("starting", ready_at=None)]
    nodes += [node("leaving", leaving_since=1.0), node("full", pods=[shape(3.5)])]
    usual = view(nodes, settings=Disruption())

    assert taken(usual).nodes == ("n00",)
    assert look(replace(usual, disrupting=frozenset({"full"}))).command is None


# -- who is a candidate (4.5) --


@pytest.mark.parametrize(
    ("of", "why"),
    [
        ({"leaving_since": 5.0}, "it is being taken away already"),
        ({"ready_at": None}, "it is not ready yet"),
        ({"nominated_until": NOW + 1}, "pods are expected on it"),
        ({"pool": "gone"}, "it is of no NodePool"),
        ({"last_pod_event_at": NOW - 20}, "its consolidateAfter has 10 s to go"),
        ({"ready_at": NOW - 29}, "its consolidateAfter has 1 s to go"),
    ],
)
def test_a_node_that_may_not_be_touched(of: dict[str, Any], why: str) -> None:
    patient = Disruption(consolidate_after_s=30, budgets=FREELY.budgets)
    assert no(view([node("n", **of)], settings=patient), "n") == why


def test_what_a_command_goes_on_about_is_left_alone() -> None:
    assert no(view([node("n")], disrupting=frozenset({"n"})), "n") == "it is being taken away already"


def test_a_nomination_ends() -> None:
    assert taken(view([node("n", nominated_until=NOW)])).nodes == ("n",)


def test_consolidate_after_never() -> None:
    never = Disruption(consolidate_after_s=None, budgets=FREELY.budgets)
    assert no(view([node("n")], settings=never), "n") == "NodePool cpu has consolidateAfter: Never"


def test_nodes_of_a_static_pool_stay() -> None:
    assert no(view([node("n")], pool(replicas=3)), "n") == "NodePool cpu is static"


def test_the_clock_of_consolidate_after_starts_with_the_last_pod_event() -> None:
    settings = Disruption(consolidate_after_s=30)
    assert consolidatable_at(node("n", ready_at=100.0), settings) == 130
    assert consolidatable_at(node("n", ready_at=100.0, last_pod_event_at=500.0), settings) == 530
    assert consolidatable_at(node("n", ready_at=None), settings) is None

    at_the_end = view([node("n", last_pod_event_at=NOW - 30)], settings=replace(FREELY, consolidate_after_s=30))
    assert taken(at_the_end).nodes == ("n",)


def test_when_something_changes_by_itself_is_said() -> None:
    settings = replace(FREELY, consolidate_after_s=30)
    nodes = [
        node("a", last_pod_event_at=NOW - 10),
        node("b", nominated_until=NOW + 15, last_pod_event_at=0.0),
        node("c", pods=[shape(3)]),
    ]
    assert look(view(nodes, settings=settings)).next_change_at == NOW + 15
    assert look(view(nodes[2:], settings=settings)).next_change_at is None


def test_a_pod_with_do_not_disrupt_keeps_its_node_until_it_leaves() -> None:
    held = node("n", "m5.4xlarge")
    pod = add(held, shape(0.5, do_not_disrupt=True))
    nodes = [held, roomy()]

    assert no(view(nodes), "n") == "pod n-0 has karpenter.sh/do-not-disrupt"
    pod.leaving_since = NOW - 1
    assert taken(view(nodes)).reason == "Empty"


# -- disruption budgets of pods --


LLM = {"app": "llm"}


def keeps(least: int, name: str = "llm") -> DisruptionBudget:
    return DisruptionBudget(name, "default", of_labels(LLM), min_available=least)


def test_a_disruption_budget_that_lets_no_pod_go_keeps_the_node() -> None:
    nodes = [node("n", "m5.4xlarge", [shape(0.5, labels=LLM)]), roomy()]

    assert no(view(nodes, budgets=[keeps(1)]), "n") == "PodDisruptionBudget default/llm keeps pod n-0"
    assert taken(view(nodes, budgets=[keeps(0)])).nodes == ("n",)


def test_a_pod_under_two_disruption_budgets_keeps_its_node() -> None:
    nodes = [node("n", "m5.4xlarge", [shape(0.5, labels=LLM)]), roomy()]
    why = no(view(nodes, budgets=[keeps(0), keeps(0, "other")]), "n")
    assert why == "pod n-0 is under 2 PodDisruptionBudgets, and may be under one"


def test_a_pod_that_a_drain_leaves_alone_is_not_asked() -> None:
    tolerant = shape(0.5, labels=LLM, view={"tolerations": (Toleration(operator="Exists"),)})
    assert taken(view([node("n", "m5.4xlarge", [tolerant]), roomy()], budgets=[keeps(1)])).nodes == ("n",)


# -- cost and order --


@pytest.mark.parametrize(
    ("deletion_cost", "priority", "cost"),
    [
        (0, 0, 1.0),
        (2**27, 0, 2.0),
        (-(2**26), 0, 0.5),
        (0, 2**25, 2.0),
        (0, 2**24, 1.5),
        (0, 2_000_000_000, 10.0),
        (2**31 - 1, 2**30, 10.0),
        (-(2**31), -(2**30), -10.0),
    ],
)
def test_the_cost_of_evicting_a_pod(deletion_cost: int, priority: int, cost: float) -> None:
    assert eviction_cost(shape(deletion_cost=deletion_cost, view={"priority": priority})) == cost


def test_the_cost_of_a_node_is_one_and_its_pods_of_which_none_counts_below_nothing() -> None:
    pods = [SMALL, SMALL, shape(deletion_cost=-(2**28)), shape(view={"priority": 2**25})]
    assert disruption_cost(node("n", pods=pods).pods.values()) == 1 + 1 + 1 + 0 + 2
    assert disruption_cost([]) == 1.0


def test_releases_up_to_1_13_weigh_the_cost_by_the_life_that_is_left() -> None:
    old = node("n", pods=[SMALL, SMALL], created_at=0.0)
    assert aged_cost(old.pods.values(), old, Disruption(expire_after_s=400.0), now=100.0) == 2 * 0.75
    assert aged_cost(old.pods.values(), old, Disruption(expire_after_s=400.0), now=500.0) == 0.0
    assert aged_cost(old.pods.values(), old, Disruption(expire_after_s=None), now=1e9) == 2.0


def test_the_node_that_saves_most_for_what_it_disturbs_comes_first() -> None:
    """0.384 / 3 before 0.192 / 2 and 0.768 / 9; and by cost, the least first."""
    nodes = [
        node("large", "m5.4xlarge", [SMALL] * 8),
        node("middle", "m5.2xlarge", [SMALL] * 2),
        node("small", "m5.xlarge", [SMALL]),
        roomy(),
    ]
    one = replace(FREELY, budgets=(Budget(1),))

    assert taken(view(nodes, settings=one)).nodes == ("middle",)
    assert taken(view(nodes, settings=one, order="cost")).nodes == ("small",)


def test_equal_candidates_come_by_name() -> None:
    nodes = [node(name, pods=[SMALL]) for name in ("c", "a", "b")]
    one = replace(FREELY, budgets=(Budget(1),))
    assert taken(view([*nodes, roomy()], settings=one)).nodes == ("a",)


# -- emptiness --


def test_all_empty_nodes_go_at_once() -> None:
    found = taken(view([node("a"), node("b", "m5.2xlarge"), node("c", pods=[shape(3)])]))

    assert (found.reason, found.nodes, found.replacement) == ("Empty", ("b", "a"), None)
    assert found.saves_usd_per_hour == pytest.approx(0.384 + 0.192)
    assert found.needs_validation
    assert (
        found.why == "b (m5.2xlarge, on-demand, $0.384/h), a (m5.xlarge, on-demand, $0.192/h): no pods; saves $0.576/h"
    )


def test_empty_nodes_go_as_far_as_the_budgets_allow() -> None:
    """Of 19 nodes, 20 % are 4; and one that is drifted as well goes for being empty first."""
    nodes = [node(f"n{i:02}", is_drifted=i == 0) for i in range(19)]
    fifth = Disruption(budgets=(Budget(20, is_percent=True),))
    found = look(view(nodes, settings=fifth))

    assert found.command is not None
    assert (found.command.reason, found.command.nodes) == ("Empty", ("n00", "n01", "n02", "n03"))
    assert found.refused["n04"] == "the budgets of NodePool cpu allow no more for Empty now"


def test_a_budget_for_empty_nodes_does_not_let_them_go_as_underused() -> None:
    tight = Disruption(budgets=(Budget(0, reasons=("Empty",)),))
    assert no(view([node("a"), node("b")], settings=tight), "a") == (
        "the budgets of NodePool cpu allow no more for Empty now"
    )


def test_pods_that_are_worth_nothing_do_not_make_a_node_busy() -> None:
    assert taken(view([node("n", pods=[shape(3, deletion_cost=-(2**27))])])).reason == "Empty"


def test_a_pod_of_a_stateful_set_that_leaves_comes_back_and_counts() -> None:
    leaving = node("n")
    add(leaving, shape(0.5, owner="StatefulSet db/pg"), leaving_since=NOW - 5)
    assert taken(view([leaving, roomy()])).reason == "Underutilized"


def test_empty_nodes_of_a_pool_that_only_takes_those_go() -> None:
    empty_only = replace(FREELY, policy="WhenEmpty")
    nodes = [node("busy", pods=[SMALL]), roomy()]

    assert no(view(nodes, settings=empty_only), "busy") == "NodePool cpu consolidates WhenEmpty, and pods run here"
    assert taken(view([node("idle"), *nodes], settings=empty_only)).nodes == ("idle",)


# -- drift --


def test_empty_drifted_nodes_go_together_first() -> None:
    patient = replace(FREELY, consolidate_after_s=None)
    nodes = [
        node("young", created_at=9.0, is_drifted=True),
        node("old", created_at=1.0, is_drifted=True),
        node("busy", created_at=0.0, is_drifted=True, pods=[SMALL]),
        roomy(),
    ]
    found = taken(view(nodes, settings=patient))

    assert (found.reason, found.nodes, found.needs_validation) == ("Drifted", ("old", "young"), False)


def test_of_busy_drifted_nodes_the_oldest_goes_whose_pods_find_room() -> None:
    patient = replace(FREELY, consolidate_after_s=None)
    nodes = [
        node(
            "older", created_at=1.0, is_drifted=True, pods=[shape(0.5, view={"requirements": (of_labels({"a": "b"}),)})]
        ),
        node("old", created_at=2.0, is_drifted=True, pods=[SMALL]),
        node("young", created_at=3.0, is_drifted=True, pods=[SMALL]),
    ]
    found = look(view(nodes, settings=patient))

    assert found.command is not None
    assert (found.command.nodes, found.command.replacement) == (("old",), None)
    assert found.refused["older"].startswith("drifted, but pod older-0 finds no room elsewhere: ")


def test_a_drifted_node_may_be_replaced_by_several_and_by_dearer_ones() -> None:
    """Two pods of 3 CPUs on one m5.2xlarge, and the pool now has m5.xlarge alone."""
    old = node("old", "m5.2xlarge", [shape(3), shape(3)], is_drifted=True)
    dear = {"m5.xlarge": 0.25, "m5.2xlarge": 0.384}
    found = taken(view([old], pool(types=["m5.xlarge"]), market=on_demand(dear)))

    assert found.replacement is not None
    assert len(found.others) == 1
    assert found.saves_usd_per_hour == pytest.approx(0.384 - 0.5)
    assert "costs $0.116/h" in found.why


def test_drift_has_its_own_budget() -> None:
    tight = Disruption(
        consolidate_after_s=None, budgets=(Budget(1, reasons=("Drifted",)), Budget(0, reasons=("Empty",)))
    )
    nodes = [node(name, is_drifted=True, created_at=float(i)) for i, name in enumerate(("a", "b", "c"))]
    found = look(view(nodes, settings=tight))

    assert found.command is not None
    assert (found.command.reason, found.command.nodes) == ("Drifted", ("a",))
    assert look(view(nodes, settings=tight, disrupting=frozenset({"a"}))).command is None


def test_with_a_termination_grace_period_drift_does_not_ask_the_pods() -> None:
    held = node("n", is_drifted=True, pods=[shape(0.5, do_not_disrupt=True)])
    settings = replace(FREELY, consolidate_after_s=None)

    assert look(view([held, roomy()], settings=settings)).command is None
    assert taken(view([held, roomy()], settings=replace(settings, termination_grace_s=3600.0))).reason == "Drifted"


# -- several nodes --


def test_several_nodes_go_together_when_one_holds_their_pods() -> None:
    found = taken(view([node("a", pods=[SMALL]), node("b", pods=[SMALL]), roomy()]))

    assert (found.reason, found.nodes, found.replacement) == ("Underutilized", ("a", "b"), None)
    assert found.saves_usd_per_hour == pytest.approx(0.384)
    assert found.why.endswith("2 pods find room on other nodes; saves $0.384/h")


@pytest.mark.parametrize(("count", "together"), [(2, 2), (7, 7), (100, 100), (101, 101), (150, 101)])
def test_at_most_101_nodes_go_at_once(count: int, together: int) -> None:
    nodes = [node(f"n{i:03}", "m5.large", [shape(0.01, 0.01)]) for i in range(count)]
    assert len(taken(view([*nodes, roomy()], pool(types=["m5.large"]))).nodes) == together


def test_the_most_of_the_first_that_fit_are_found_by_bisection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for four pods: of seven nodes four go together. A fifth would need a node like those that go."""
    tried: list[int] = []
    real = provisioning.plan

    def counted(pods: Sequence[Pod], nodes: Sequence[Node], *rest: Any, **more: Any) -> Plan:
        tried.append(8 - len(nodes))
        return real(pods, nodes, *rest, **more)

    monkeypatch.setattr(provisioning, "plan", counted)
    nodes = [node(f"n{i}", "m5.large", [shape(1.5)]) for i in range(7)]
    found = taken(view([*nodes, roomy(type="m5.2xlarge", pods=[shape(1.5)])], pool(types=["m5.large"])))

    assert found.nodes == ("n0", "n1", "n2", "n3")
    assert found.replacement is None
    assert tried == [4, 6, 5]


def test_two_nodes_become_one_cheaper_one() -> None:
    """Two m5.2xlarge for 0.768 with a pod of 3 CPUs each: an m5.2xlarge would be one of those that go, and two pods do
    not fit on less. With 1.5 CPUs each, an m5.xlarge does."""
    large = [node(name, "m5.2xlarge", [shape(3)]) for name in ("a", "b")]
    small = [node(name, "m5.2xlarge", [shape(1.5)]) for name in ("a", "b")]

    assert taken(view(large)).nodes == ("a",)  # by itself: onto the other
    found = taken(view(small))
    assert found.nodes == ("a", "b")
    assert found.replacement is not None
    assert [each.name for each in found.replacement.types] == ["m5.xlarge"]
    assert found.saves_usd_per_hour == pytest.approx(0.768 - 0.192)


TOLERANT = shape(0.4, view={"tolerations": (Toleration(operator="Exists"),)})


def three_with_little(sold: Sequence[str]) -> View:
    """Two m5.2xlarge and an m5.xlarge with a pod each; an m5.large holds all three pods."""
    kinds = {"a": "m5.2xlarge", "b": "m5.2xlarge", "c": "m5.xlarge"}
    return view([node(name, of, [TOLERANT], taints=SHUT) for name, of in kinds.items()], pool(types=sold, taints=SHUT))


def test_of_types_that_go_and_could_come_only_cheaper_ones_are_left() -> None:
    found = taken(three_with_little(["m5.large", "m5.xlarge", "m5.2xlarge"]))

    assert found.nodes == ("a", "b", "c")
    assert found.replacement is not None
    assert [each.name for each in found.replacement.types] == ["m5.large"]


def test_what_could_come_as_well_as_go_stays() -> None:
    """The replacement of all three would be an m5.xlarge; so the one that is there stays, and takes the pods."""
    found = taken(three_with_little(["m5.xlarge", "m5.2xlarge"]))
    assert (found.nodes, found.replacement) == (("a", "b"), None)


def test_a_budget_of_one_lets_no_two_go() -> None:
    nodes = [node("a", pods=[SMALL]), node("b", pods=[SMALL]), roomy()]
    found = look(view(nodes, settings=replace(FREELY, budgets=(Budget(1),))))

    assert found.command is not None
    assert found.command.nodes == ("a",)
    assert not found.is_blocked_by_budget


def test_nodes_of_several_pools_go_together_each_within_its_own_budget() -> None:
    nodes = [node(f"{of}{i}", pods=[SMALL], pool=of) for of in ("one", "two") for i in range(3)]
    by_pool = {"one": replace(FREELY, budgets=(Budget(1),)), "two": replace(FREELY, budgets=(Budget(2),))}
    found = taken(view([*nodes, roomy()], pool("one"), pool("two"), by_pool=by_pool))

    assert found.nodes == ("one0", "two0", "two1")


def test_a_budget_that_may_open_by_itself_is_said() -> None:
    hours = Budget(0, schedule="0 9 * * *", duration_s=8 * 3600)
    closed = view([node("a", pods=[SMALL]), roomy()], settings=replace(FREELY, budgets=(hours,)))
    always = view([node("a", pods=[SMALL]), roomy()], settings=replace(FREELY, budgets=(Budget(0),)))

    assert look(closed).command is None
    assert look(closed).is_blocked_by_budget
    assert look(always).command is None
    assert not look(always).is_blocked_by_budget
    assert taken(replace(closed, clock_utc=datetime(2026, 2, 27, 17, tzinfo=AT.tzinfo))).nodes == ("a",)


# -- one node --


def test_a_node_is_replaced_by_a_cheaper_one() -> None:
    found = taken(view([node("n", "m5.4xlarge", [shape(3), SMALL])]))

    assert found.replacement is not None
    assert [each.name for each in found.replacement.types] == ["m5.xlarge", "m5.2xlarge"]
    assert [each.name for each in found.replacement.pods] == ["n-0", "n-1"]
    assert found.saves_usd_per_hour == pytest.approx(0.768 - 0.192)
    assert found.why == (
        "n (m5.4xlarge, on-demand, $0.768/h): its 2 pods go to a new m5.xlarge ($0.192/h) or one of 1 other types; "
        "saves $0.576/h"
    )


def test_a_node_that_fits_its_pods_stays() -> None:
    nodes = [node("cpu", "m5.xlarge", [shape(3)]), node("gpu", "g5.xlarge", [shape(3, 10, gpus=1)])]
    found = look(view(nodes))

    assert found.command is None
    assert found.refused == {
        "cpu": "nothing that holds its pods costs less than $0.192/h",
        "gpu": "nothing that holds its pods costs less than $1.006/h",
    }


def test_a_node_whose_pods_need_two_new_ones_stays() -> None:
    """Its pods share no machine but its own kind: the other pool's is cheaper, and holds one of them."""
    one, two = (shape(1.5, view={"requirements": (of_labels({"karpenter.sh/nodepool": of}),)}) for of in ("one", "two"))
    both = node("n", "m5.4xlarge", [one, two], pool="one")
    assert no(view([both], pool("one"), pool("two")), "n") == "it would take more than one new node"


def test_the_dearest_zone_has_to_be_cheaper() -> None:
    """An m5.xlarge in zone b costs as much as the m5.2xlarge. While nothing is to be had there it does not count."""
    held = [node("n", "m5.2xlarge", [shape(3)])]
    both = pool(types=["m5.xlarge", "m5.2xlarge"], zones=[A, B])
    here, there = offer("m5.xlarge", A, "on-demand", 0.192), offer("m5.xlarge", B, "on-demand", 0.384)
    market = {**on_demand(zones=(A, B)), "m5.xlarge": (here, there)}

    assert no(view(held, both, market=market), "n") == "no type that its pods fit on costs less than $0.384/h"
    gone = replace(there, is_available=False)
    assert taken(view(held, both, market={**market, "m5.xlarge": (here, gone)})).nodes == ("n",)


def test_what_a_node_costs_is_what_it_would_cost_now() -> None:
    held = [node("n", "m5.2xlarge", [shape(3)])]
    assert taken(view(held, market=on_demand({"m5.xlarge": 0.3, "m5.2xlarge": 0.4}))).nodes == ("n",)
    assert look(view(held, market=on_demand({"m5.xlarge": 0.3, "m5.2xlarge": 0.2}))).command is None
    unsold = view(held, market=on_demand({"m5.xlarge": 0.3}))
    assert no(unsold, "n") == "the price of m5.2xlarge (on-demand) is not known"


def test_pools_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pool's best first; what fails is passed over."""
    asked: list[str] = []

    def refused(pods: Sequence[Pod], *_: Any, **__: Any) -> Plan:
        asked.append("+".join(str(pod.node) for pod in pods))
        return Plan(unplaced={pod.name: "no" for pod in pods})

    monkeypatch.setattr(provisioning, "plan", refused)
    kinds = {"a1": "m5.xlarge", "a2": "m5.2xlarge", "a3": "m5.4xlarge", "b1": "m5.xlarge", "c1": "m5.4xlarge"}
    nodes = [node(name, of, [SMALL], pool=name[0]) for name, of in kinds.items()]
    one = replace(FREELY, budgets=(Budget(1),))
    found = look(view([*nodes, roomy()], pool("c"), pool("b"), pool("a"), settings=one))

    assert found.command is None
    assert [each for each in asked if "+" not in each] == ["a3", "b1", "c1", "a2", "a1"]
    assert found.refused["b1"] == "pod b1-0 finds no room elsewhere: no"


# -- where pods may go --


def test_a_node_that_is_not_ready_yet_is_no_place_to_go() -> None:
    nodes = [node("n", "m5.xlarge", [shape(3)]), roomy("soon", ready_at=None)]
    assert no(view(nodes), "n") == "pod n-0 would have to wait for soon, which is not ready"


def test_a_node_within_its_consolidate_after_is_no_place_to_go() -> None:
    settings = replace(FREELY, consolidate_after_s=30)
    nodes = [node("n", pods=[shape(3)]), node("fresh", "m5.4xlarge", [shape(8)], last_pod_event_at=NOW - 29)]

    assert look(view(nodes, settings=settings)).command is None
    assert taken(view(nodes, settings=settings, now=NOW + 1)).nodes == ("n",)


def test_pods_that_wait_may_go_there_and_the_others_go_elsewhere() -> None:
    settings = replace(FREELY, consolidate_after_s=30)
    fresh = node("fresh", "m5.xlarge", last_pod_event_at=NOW - 29)
    nodes = [fresh, node("n", "m5.2xlarge", [shape(1)])]
    waiting = [Pod("w", shape(2.9), 0.0)]
    found = taken(view([*nodes, roomy(type="m5.large")], settings=settings, waiting=waiting))
    assert (found.nodes, found.replacement) == (("n",), None)

    # Without the other node they would fit beside the one that waits, and get a new node instead.
    found = taken(view(nodes, settings=settings, waiting=waiting))
    assert found.replacement is not None
    assert [each.name for each in found.replacement.pods] == ["n-0"]


def test_pods_of_nodes_that_go_anyway_need_room_as_well() -> None:
    """The spare node holds one of them, and the other would need a node as dear as its own."""
    nodes = [node("n", pods=[shape(3)]), node("going", pods=[shape(3)], leaving_since=NOW - 1)]
    spare = roomy(type="m5.xlarge")

    assert no(view([*nodes, spare]), "n") == "no type that its pods fit on costs less than $0.192/h"
    assert taken(view([nodes[0], spare])).nodes == ("n",)


def test_a_pod_of_a_node_that_goes_anyway_and_has_no_place_holds_everything_up() -> None:
    lost = shape(view={"requirements": (of_labels({"a": "b"}),)})
    nodes = [node("n", pods=[SMALL]), node("going", pods=[lost], leaving_since=NOW - 1), roomy()]
    assert no(view(nodes), "n").startswith("pod going-0 finds no room elsewhere: ")


def test_pods_that_wait_need_room_first_when_they_are_larger() -> None:
    nodes = [node("n", "m5.large", [shape(1.5)]), roomy(type="m5.large")]
    assert taken(view(nodes)).nodes == ("n",)
    waiting = [Pod("w", shape(1.6), 0.0)]
    assert no(view(nodes, waiting=waiting), "n") == "no type that its pods fit on costs less than $0.096/h"


def test_a_pod_that_waits_without_a_chance_does_not_hold_anything_up() -> None:
    lost = Pod("lost", shape(view={"requirements": (of_labels({"a": "b"}),)}), 0.0)
    assert taken(view([node("n", pods=[SMALL]), roomy()], waiting=[lost])).nodes == ("n",)


# -- Balanced --


@pytest.mark.parametrize(
    ("other", "refused"),
    [
        pytest.param("m5.large", "", id="1/2 of the cost for 3/4 of the disruption"),
        pytest.param(
            "m5.xlarge",
            "NodePool cpu is Balanced: 33.3% of its cost is too little for 75.0% of what could be disturbed",
            id="1/3 for 3/4",
        ),
    ],
)
def test_balanced_takes_what_saves_half_of_what_it_disturbs(other: str, refused: str) -> None:
    """The node with five pods costs 1 + 5 to disturb, the other 1 + 1. That one is not over its consolidateAfter, and
    counts all the same."""
    balanced = replace(FREELY, policy="Balanced", consolidate_after_s=1.0)
    nodes = [node("n", "m5.large", [shape(0.1)] * 5), node("other", other, [shape(0.1)], last_pod_event_at=NOW)]
    found = look(view([*nodes, roomy()], settings=balanced))

    assert (found.command is None) is bool(refused)
    assert found.refused.get("n", "") == refused


def test_each_balanced_pool_is_asked_about_its_own_part_of_the_saving() -> None:
    """Together with the dear node of the other pool the same node still saves 1/3 for 3/4."""
    balanced = replace(FREELY, policy="Balanced", consolidate_after_s=1.0)
    nodes = [
        node("n", "m5.large", [shape(0.1)] * 5, pool="one"),
        node("other", "m5.xlarge", [shape(0.1)], pool="one", last_pod_event_at=NOW),
        node("dear", "m5.4xlarge", [shape(0.1)], pool="two"),
    ]
    own = view([*nodes, roomy()], pool("one"), pool("two"), by_pool={"one": balanced, "two": FREELY})
    assert taken(own).nodes == ("dear",)


def test_balanced_takes_empty_nodes_without_a_score() -> None:
    balanced = replace(FREELY, policy="Balanced")
    nodes = [node("idle", "m5.large"), node("busy", "m5.4xlarge", [shape(14)])]
    assert taken(view(nodes, settings=balanced)).nodes == ("idle",)


# -- validation --


def test_a_command_is_validated_with_its_own_nodes_alone() -> None:
    nodes = [node("a", pods=[SMALL]), node("b", pods=[SMALL]), node("c"), roomy()]
    of = view(nodes)
    first = taken(of)
    assert (first.reason, first.nodes) == ("Empty", ("c",))
    both = taken(of, frozenset({"a", "b"}))
    assert both.nodes == ("a", "b")
    assert still_holds(both, look(of, frozenset({"a", "b"})).command)
    assert taken(of, frozenset({"a"})).nodes == ("a",)


def test_a_command_falls_when_a_pod_came() -> None:
    empty = node("n")
    of = view([empty, roomy()])
    command = taken(of)
    assert still_holds(command, look(of, frozenset(command.nodes)).command)

    add(empty, SMALL)
    again = look(of, frozenset(command.nodes)).command
    assert again is not None
    assert again.reason == "Underutilized"
    assert not still_holds(command, again)


def test_a_command_falls_when_one_of_its_nodes_is_no_candidate_any_more() -> None:
    nodes = [node("a", pods=[SMALL]), node("b", pods=[SMALL]), roomy()]
    command = taken(view(nodes))
    nodes[1].nominated_until = NOW + 20

    assert look(view(nodes), frozenset(command.nodes)).command is None
    assert not still_holds(command, None)


def test_a_command_falls_when_the_budget_shrinks() -> None:
    nodes = [node("a"), node("b")]
    command = taken(view(nodes))
    assert look(view(nodes, settings=replace(FREELY, budgets=(Budget(1),))), frozenset(command.nodes)).command is None
    busy = [node("a", pods=[SMALL]), node("b", pods=[SMALL]), roomy()]
    tight = view(busy, settings=replace(FREELY, budgets=(Budget(1),)))
    assert look(tight, frozenset({"a", "b"})).command is None


def test_a_command_falls_when_what_it_would_launch_would_not_do_any_more() -> None:
    held = node("n", "m5.4xlarge", [shape(1)])
    command = taken(view([held]))
    assert command.replacement is not None
    assert [each.name for each in command.replacement.types] == ["m5.large", "m5.xlarge", "m5.2xlarge"]

    fewer = replace(command, replacement=replace(command.replacement, types=command.replacement.types[1:]))
    assert still_holds(fewer, look(view([held]), frozenset({"n"})).command)
    add(held, shape(2))  # the m5.large is too small now
    again = look(view([held]), frozenset({"n"})).command
    assert not still_holds(command, again)
    assert not still_holds(replace(command, replacement=None), again)


def test_a_candidate_is_empty_at_the_cost_of_a_node() -> None:
    assert Candidate(node("n"), FREELY, (), 1.0, 0.1).is_empty
    assert not Candidate(node("n"), FREELY, (), 1.1, 0.1).is_empty


ANY = ("spot", "on-demand")


@pytest.mark.parametrize("wish", ["prefers it", "spreads over it", "a waiting pod asks for it"])
def test_a_spot_node_becomes_one_on_demand_where_a_pod_sees_to_it(wish: str) -> None:
    """Then the new node can be no spot node, and is the cheaper one."""
    on_demand = of_labels({CAPACITY_TYPE: "on-demand"})
    same = of_labels({"app": "a"})
    asks = {
        "prefers it": {"preferred": (NodeTerm(on_demand, 1),)},
        "spreads over it": {"labels": {"app": "a"}, "spread": (Spread(CAPACITY_TYPE, 1, same),)},
    }
    held = [node("n", "m5.4xlarge", [shape(2.9, **asks.get(wish, {}))], capacity="spot")]
    if wish == "spreads over it":
        held.append(node("other", "m5.large", [shape(1.5, **asks[wish])], capacity="spot"))
    waits = Pod("w", shape(0.2, view={"requirements": (on_demand,)}), 0.0)
    market = with_spot()
    market["m5.xlarge"] = offer("m5.xlarge", A, "on-demand", 0.1), offer("m5.xlarge", A, "spot", 0.05)
    found = taken(
        view(
            held,
            pool(types=["m5.xlarge"], capacities=ANY),
            market=market,
            waiting=[waits] if wish.startswith("a waiting") else [],
        )
    )
    assert found.nodes == ("n",)
    assert found.replacement is not None
    assert [each.name for each in found.replacement.types] == ["m5.xlarge"]
    assert found.saves_usd_per_hour == pytest.approx(0.192 - 0.1)


def test_pods_that_are_too_many_for_the_room_elsewhere_keep_their_node() -> None:
    """One of two finds a place: the other would need a machine, and none that holds it is cheaper."""
    held = node("n", "m5.large", [shape(0.9), shape(0.9)])
    other = node("o", "m5.large", [shape(0.9), shape(0.2)])
    assert no(view([held, other], pool(types=["m5.large"])), "n") == (
        "nothing that holds its pods costs less than $0.096/h"
    )
