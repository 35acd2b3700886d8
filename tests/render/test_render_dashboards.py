"""Grafana's dashboards."""

import itertools
import json
from typing import Any

import pytest
from seeing_parts import one, only

from stoker.render import dashboards, monitoring
from stoker.render.dashboards import COLUMNS
from stoker.render.plan import Plan
from stoker.spec import loads

PLANS = [
    Plan(loads(text), "karpenter")
    for text in ("", "global: {observability: {cloudwatch: true}}", "keda: {enabled: false}")
]

TRAINING = Plan(
    loads('global: {cluster: {account: "111122223333"}}\ntraining: {enabled: true}\nagents: {enabled: true}'),
    "karpenter",
)


def boards(plan: Plan) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in dashboards.texts(plan).items()}


def titles(plan: Plan, name: str) -> list[str]:
    return [panel["title"] for panel in boards(plan)[name]["panels"]]


@pytest.mark.parametrize("plan", PLANS)
def test_panels_lie_within_the_page_and_not_on_each_other(plan: Plan) -> None:
    for board in boards(plan).values():
        places = [panel["gridPos"] for panel in board["panels"]]
        assert all(place["x"] >= 0 and place["x"] + place["w"] <= COLUMNS for place in places)
        for a, b in itertools.combinations(places, 2):
            apart_x = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
            apart_y = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
            assert apart_x or apart_y


@pytest.mark.parametrize("plan", PLANS)
def test_each_panel_and_query_has_an_id_of_its_own_and_the_chosen_datasource(plan: Plan) -> None:
    for board in boards(plan).values():
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        chosen = {"type": "prometheus", "uid": "${datasource}"}
        assert board["templating"]["list"][0]["name"] == "datasource"
        for panel in board["panels"]:
            assert panel["datasource"] == chosen
            refs = [target["refId"] for target in panel["targets"]]
            assert len(set(refs)) == len(refs)
            assert all(target["datasource"] == chosen for target in panel["targets"])


@pytest.mark.parametrize("plan", PLANS)
def test_what_a_query_takes_from_the_head_of_the_page_is_there(plan: Plan) -> None:
    for board in boards(plan).values():
        there = {each["name"] for each in board["templating"]["list"]}
        used = {
            name
            for panel in board["panels"]
            for target in panel["targets"]
            for name in ("model", "node")
            if f"${name}" in target["expr"]
        }
        assert used <= there


def test_the_boards() -> None:
    found = boards(PLANS[0])
    assert {name: (board["uid"], board["title"]) for name, board in found.items()} == {
        "platform": ("stoker-platform", "Stoker / Platform"),
        "gpus": ("stoker-gpus", "Stoker / GPUs"),
        "cost": ("stoker-cost", "Stoker / Cost"),
        "scaling": ("stoker-scaling", "Stoker / Queue and scaling"),
    }
    assert set(boards(TRAINING)) == {*found, "training"}
    assert {board["schemaVersion"] for board in found.values()} == {41}


def test_they_are_found_by_grafanas_sidecar() -> None:
    items = list(monitoring.render(PLANS[0]))
    marked = [each for each in only(items, "ConfigMap") if each["metadata"]["labels"].get("grafana_dashboard") == "1"]
    assert [each["metadata"]["name"] for each in marked] == [
        "dashboard-platform",
        "dashboard-gpus",
        "dashboard-cost",
        "dashboard-scaling",
    ]
    assert {each["metadata"]["namespace"] for each in marked} == {"agentic-ai-monitoring"}
    (text,) = one(items, "ConfigMap", "dashboard-cost")["data"].values()
    assert json.loads(text)["uid"] == "stoker-cost"


def test_a_panel_that_could_show_nothing_is_left_out() -> None:
    usual, cloudwatch, unscaled = PLANS
    assert "Last XID error" in titles(usual, "gpus")
    assert "Last XID error" not in titles(cloudwatch, "gpus"), "the add-on's exporter has no XID errors"
    assert "Utilization" in titles(cloudwatch, "gpus")
    assert "What KEDA reads" in titles(usual, "scaling")
    assert "What KEDA reads" not in titles(unscaled, "scaling")
    unrecorded = Plan(loads("global: {observability: {prometheus: false}}"), "karpenter")
    assert titles(unrecorded, "cost") == [
        "Machines by pool, USD per hour",
        "Machines by model, USD per hour",
        "Billed by list price, USD per hour",
        "Budgets that are nearly used up, or are",
        "Budgets by how much of them is spent",
        "Set aside, USD",
        "Set aside, tokens",
        "Tokens of the last day",
    ]
    no_gpu = Plan(loads("llm: {inference: {gpu: {count: 0}}}"), "karpenter")
    assert "gpus" not in boards(no_gpu)


def test_each_cluster_has_the_panels_of_what_runs_in_it() -> None:
    theirs = {"Steps of agents that wait and run", "Steps of agents per minute, by how they ended"}
    assert theirs <= set(titles(TRAINING, "scaling"))
    assert not theirs & set(titles(PLANS[0], "scaling"))
    assert "Save of a checkpoint, mean of an hour" in titles(TRAINING, "training")


def test_one_machine_has_boards_of_its_own() -> None:
    """With what its supervisor says, and without what only a cluster has."""
    found = {name: json.loads(text) for name, text in dashboards.texts(PLANS[0], is_local=True).items()}
    assert set(found) == {"platform", "cost", "scaling", "training"}
    shown = {panel["title"] for panel in found["scaling"]["panels"]}
    assert {"Replicas, and why so many", "Processes begun again in an hour", "Age of the oldest task"} <= shown
    assert not shown & {"What KEDA reads", "Memory of Redis", "Pods that wait for a node"}
    assert "Replicas, and why so many" not in titles(PLANS[0], "scaling"), "there KEDA and the HPA say it"
