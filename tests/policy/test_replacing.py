"""What replaces spot nodes, or nodes on demand by spot ones, and what minValues ask for (reference 4.5)."""

from dataclasses import replace
from typing import Any

import pytest
from disrupting import (
    SMALL,
    A,
    B,
    no,
    node,
    offer,
    only_spot,
    pool,
    roomy,
    shape,
    taken,
    view,
    with_spot,
)

from stoker.policy.disruption import look
from stoker.policy.placement import NodePoolView

ANY = ("spot", "on-demand")


def test_a_node_on_demand_becomes_spot_and_nothing_else() -> None:
    """An m5.xlarge costs 0.096 as spot at most, an m5.2xlarge 0.192 in zone b, as much as the node. On demand, should
    there be no spot, it would save nothing."""
    held = [node("n", "m5.xlarge", [shape(3)])]
    found = taken(view(held, pool(capacities=ANY, zones=[A, B]), market=with_spot()))

    assert found.replacement is not None
    assert [each.name for each in found.replacement.types] == ["m5.xlarge"]
    assert only_spot(found.replacement.requirements)
    assert found.saves_usd_per_hour == pytest.approx(0.192 - 0.048)


def test_a_spot_node_is_not_replaced_by_a_spot_node() -> None:
    held = [node("n", "m5.4xlarge", [shape(3), shape(0.1)], capacity="spot")]
    market = with_spot()
    # On demand nothing is cheaper, so that nobody plans; with something cheaper on demand, it is still no.
    assert no(view(held, pool(capacities=ANY), market=market), "n") == (
        "nothing that holds its pods costs less than $0.192/h"
    )
    cheap = {**market, "m5.xlarge": (offer("m5.xlarge", A, "on-demand", 0.1), offer("m5.xlarge", A, "spot", 0.05))}
    assert no(view(held, pool(capacities=ANY), market=cheap), "n") == (
        "a spot node is not replaced by a spot node: SpotToSpotConsolidation is off"
    )
    assert taken(view(held, pool(capacities=["on-demand"]), market=cheap)).nodes == ("n",)


def test_a_spot_node_may_go_where_others_have_room() -> None:
    held = node("n", "m5.4xlarge", [SMALL], capacity="spot")
    assert taken(view([held, roomy()], pool(capacities=ANY), market=with_spot())).replacement is None


CHEAPER = (
    *("c5.large", "c6i.large", "c7i.large", "m5.large", "m6a.large", "m6i.large", "m7a.large", "m7i.large"),
    *("m8i.large", "r5.large", "r6i.large", "r7i.large", "c5.xlarge", "c6i.xlarge", "m5.xlarge", "r5.xlarge"),
)


def spot_market(count: int) -> tuple[NodePoolView, dict[str, Any]]:
    """This many types that are cheaper than the m5.4xlarge that there is, each by a cent dearer than the one before."""
    prices = {name: (i + 1) / 100 for i, name in enumerate(CHEAPER[:count])} | {"m5.4xlarge": 0.5}
    market = {name: (offer(name, A, "spot", usd), offer(name, A, "on-demand", 9.0)) for name, usd in prices.items()}
    return pool(types=tuple(prices), capacities=ANY), market


@pytest.mark.parametrize(("count", "asked"), [(14, None), (15, 15), (16, 15)])
def test_spot_for_spot_takes_15_cheaper_types_and_asks_for_the_15_cheapest(count: int, asked: int | None) -> None:
    own, market = spot_market(count)
    held = [node("n", "m5.4xlarge", [shape(0.5)], capacity="spot")]
    found = look(view(held, own, market=market, spot_to_spot=True))

    if asked is None:
        assert found.refused["n"] == "spot for spot takes 15 cheaper types, and there are 14"
    else:
        assert found.command is not None
        assert found.command.replacement is not None
        assert [each.name for each in found.command.replacement.types] == list(CHEAPER[:asked])
        assert only_spot(found.command.replacement.requirements)


def test_min_values_ask_for_more_than_15_types() -> None:
    own, market = spot_market(16)
    own = replace(own, min_values={"node.kubernetes.io/instance-type": 16})
    held = [node("n", "m5.4xlarge", [shape(0.5)], capacity="spot")]
    found = taken(view(held, own, market=market, spot_to_spot=True))

    assert found.replacement is not None
    assert len(found.replacement.types) == 16


def test_several_spot_nodes_become_one_without_15_types() -> None:
    own, market = spot_market(2)
    nodes = [node(name, "m5.4xlarge", [shape(0.5)], capacity="spot") for name in ("a", "b")]
    found = taken(view(nodes, own, market=market, spot_to_spot=True))

    assert found.nodes == ("a", "b")
    assert found.replacement is not None
    assert [each.name for each in found.replacement.types] == ["c5.large", "c6i.large"]


def test_what_is_left_of_the_types_still_has_to_meet_min_values() -> None:
    least = pool(types=["m5.xlarge", "m5.2xlarge", "m5.4xlarge"], min_values={"node.kubernetes.io/instance-type": 3})
    assert no(view([node("n", "m5.4xlarge", [shape(3)])], least), "n") == (
        "too few types cost less than $0.768/h for minValues of NodePool cpu"
    )
