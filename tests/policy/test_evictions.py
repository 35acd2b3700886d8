"""What PodDisruptionBudgets allow, and whom the Eviction API would let go."""

from collections.abc import Mapping
from typing import Any

import pytest

from stoker.policy.cluster import DisruptionBudget, Pod, PodShape
from stoker.policy.evictions import Room, room
from stoker.policy.placement import PodView
from stoker.policy.requirements import of_labels
from stoker.policy.scheduling import may_evict, selects

WEB = {"app": "web"}
ANY_WEB = of_labels(WEB)


def shape(labels: Mapping[str, str], namespace: str = "default") -> PodShape:
    return PodShape(PodView(), namespace=namespace, labels=labels)


def web_pods(ready: int, unready: int = 0, leaving: int = 0, waiting: int = 0) -> list[Pod]:
    web = shape(WEB)
    made = [Pod(f"r{i}", web, 0.0, "n", 1.0, 2.0) for i in range(ready)]
    made += [Pod(f"u{i}", web, 0.0, "n", 1.0) for i in range(unready)]
    made += [Pod(f"l{i}", web, 0.0, "n", 1.0, 2.0, leaving_since=9.0) for i in range(leaving)]
    return made + [Pod(f"w{i}", web, 0.0) for i in range(waiting)]


@pytest.mark.parametrize(
    ("budget", "pods", "expected"),
    [
        ({"max_unavailable": 1}, (3,), Room(3, 3, 2, 1)),
        ({"max_unavailable": 1}, (2, 1), Room(3, 2, 2, 0)),
        ({"max_unavailable": 1}, (2, 0, 0, 1), Room(3, 2, 2, 0)),
        ({"max_unavailable": 1}, (2, 0, 1), Room(2, 2, 1, 1)),
        ({"max_unavailable": 5}, (3,), Room(3, 3, 0, 3)),
        ({"max_unavailable": 0}, (3,), Room(3, 3, 3, 0)),
        ({"max_unavailable": 30, "is_percent": True}, (5,), Room(5, 5, 3, 2)),  # 1.5 is rounded up
        ({"max_unavailable": 25, "is_percent": True}, (4,), Room(4, 4, 3, 1)),
        ({"max_unavailable": 1, "is_percent": True}, (7,), Room(7, 7, 6, 1)),
        ({"min_available": 2}, (3,), Room(3, 3, 2, 1)),
        ({"min_available": 2}, (2, 1), Room(3, 2, 2, 0)),
        ({"min_available": 3}, (2,), Room(2, 2, 3, 0)),
        ({"min_available": 50, "is_percent": True}, (7,), Room(7, 7, 4, 3)),  # 3.5 is rounded up
        ({"min_available": 50, "is_percent": True}, (6, 1), Room(7, 6, 4, 2)),
        ({"min_available": 100, "is_percent": True}, (3,), Room(3, 3, 3, 0)),
        ({"min_available": 0}, (0,), Room(0, 0, 0, 0)),
        ({}, (3,), Room(0, 3, 0, 0)),
    ],
)
def test_what_a_budget_allows(budget: dict[str, Any], pods: tuple[int, ...], expected: Room) -> None:
    of = DisruptionBudget("b", "default", ANY_WEB, **budget)
    others = [Pod("other", shape({"app": "other"}), 0.0, "n", 1.0, 2.0)]
    assert room(of, [*web_pods(*pods), *others]) == expected


def test_a_budget_is_about_pods_of_its_namespace_that_its_selector_matches() -> None:
    budget = DisruptionBudget("b", "default", ANY_WEB)
    assert selects(budget, shape({**WEB, "more": "x"}))
    assert not selects(budget, shape({"app": "other"}))
    assert not selects(budget, shape(WEB, namespace="other"))
    assert selects(DisruptionBudget("all", "default", {}), shape({}))


def test_who_may_be_evicted() -> None:
    strict = DisruptionBudget("strict", "default", ANY_WEB, min_available=3)
    loose = DisruptionBudget("loose", "default", ANY_WEB, min_available=2)
    elsewhere = DisruptionBudget("elsewhere", "default", of_labels({"app": "x"}), max_unavailable=0)
    pods = web_pods(3, leaving=1)
    assert may_evict(pods[0], pods, [])
    assert may_evict(pods[0], pods, [elsewhere])
    assert may_evict(pods[0], pods, [loose, elsewhere])
    assert not may_evict(pods[0], pods, [strict])
    assert not may_evict(pods[0], pods, [loose, DisruptionBudget("second", "default", {}, min_available=0)])
    assert may_evict(pods[3], pods, [strict])  # it is leaving
    waiting = web_pods(3, waiting=1)
    assert may_evict(waiting[3], waiting, [strict])


@pytest.mark.parametrize(
    ("least", "may"),
    [
        (2, True),  # two are healthy, and two have to be: one more away would not be, but the unhealthy one may go
        (3, False),
        (0, True),
    ],
)
def test_one_that_is_not_ready_may_go_while_enough_are(least: int, may: bool) -> None:
    budget = DisruptionBudget("b", "default", ANY_WEB, min_available=least)
    pods = web_pods(2, unready=1)
    assert may_evict(pods[2], pods, [budget]) is may


def test_where_none_has_to_be_ready_one_that_is_not_may_not_go_before_one_is() -> None:
    """As upstream has it: nothing is allowed while none is healthy; the exception is for budgets that ask for some."""
    budget = DisruptionBudget("b", "default", ANY_WEB, min_available=0)
    assert not may_evict(web_pods(0, unready=1)[0], web_pods(0, unready=1), [budget])
    pods = web_pods(1, unready=1)
    assert may_evict(pods[1], pods, [budget])
