"""What the plan of a deploy says of money: lines that sum, and nodes under a trace by simulation."""

from decimal import Decimal

import pytest

from stoker.base.errors import InvalidInput
from stoker.deploy.costs import as_json, simulated
from stoker.render.estimate import estimate
from stoker.render.plan import Plan
from stoker.render.run import render_objects
from stoker.spec import loads

PLAN = Plan(loads("llm: {models: {general: {}}}"), "auto", "terraform")


def test_low_and_high_are_the_sums_of_the_lines_to_the_cent() -> None:
    found = as_json(estimate(PLAN))
    for end in ("low", "high"):
        assert sum((Decimal(str(line[end])) for line in found["lines"]), Decimal(0)) == Decimal(str(found[end]))
    assert found["low"] > 73.0  # the control plane alone


def test_nodes_under_a_trace_cost_what_their_hours_cost_all_month() -> None:
    trace = "poisson:rate=0.05,seconds=1200"
    found = simulated(render_objects(PLAN), trace, PLAN.region)
    assert found["trace"] == trace
    assert found["usd_per_month"] == round(found["usd_per_hour"] * 730, 2) > 0
    assert found["nodes_at_most"] >= 2
    assert found == simulated(render_objects(PLAN), trace, PLAN.region)


def test_a_trace_that_is_not_there_is_said_to_be() -> None:
    with pytest.raises(InvalidInput, match="no-such-trace"):
        simulated(render_objects(PLAN), "no-such-trace", PLAN.region)
