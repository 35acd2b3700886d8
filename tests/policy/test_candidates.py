"""Pods that nothing evicts: Karpenter makes no room for them elsewhere."""

from dataclasses import replace
from typing import Any

import pytest
from disrupting import FREELY, node, shape, view

from stoker.policy.candidates import is_kept
from stoker.policy.cluster import DisruptionBudget
from stoker.policy.disruption import look
from stoker.policy.requirements import of_labels

WEB = of_labels({"app": "web"})


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"max_unavailable": 0}, True),
        ({"max_unavailable": 0, "is_percent": True}, True),
        ({"max_unavailable": 1}, False),
        ({"min_available": 100, "is_percent": True}, True),
        ({"min_available": 99, "is_percent": True}, False),
        ({"min_available": 100}, False),  # of how many is not said: it may have room one day
    ],
)
def test_budgets_that_let_nobody_go(budget: dict[str, Any], expected: bool) -> None:
    of_web = DisruptionBudget("b", "default", WEB, **budget)
    assert is_kept(shape(labels={"app": "web"}), [of_web]) is expected
    assert not is_kept(shape(labels={"app": "other"}), [of_web])


def test_do_not_disrupt_is_enough() -> None:
    assert is_kept(shape(do_not_disrupt=True), [])
    assert not is_kept(shape(), [])


def test_a_drifted_node_whose_pods_are_kept_until_its_end_needs_no_replacement() -> None:
    held = node("n", is_drifted=True, pods=[shape(0.5, do_not_disrupt=True), shape(0.25)])
    settings = replace(FREELY, consolidate_after_s=None, termination_grace_s=3600.0)
    command = look(view([held], settings=settings)).command
    assert command is not None
    assert command.replacement is not None
    assert [each.shape.do_not_disrupt for each in command.replacement.pods] == [False]
