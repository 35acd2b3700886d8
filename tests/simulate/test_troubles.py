"""What stood in the way, when, for how long and what would help: stories of whole runs, and spans by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results import a_result
from worlds import CERTAIN, Object, model, pool, run, scaler, trace

from stoker.simulate import report, telling, troubles
from stoker.simulate.page import page
from stoker.simulate.result import Event, Result
from stoker.simulate.troubles import Kind, Trouble, merged, without


def found(result: Result, kind: Kind) -> list[Trouble]:
    return [each for each in troubles.troubles(result) if each.kind == kind]


def plain_model(**spec: Any) -> Object:
    return model(replicas=1, **spec)


def test_a_model_whose_only_replica_goes_with_its_node_had_none_until_the_next_was_ready() -> None:
    result = run(pool(expireAfter="45m"), plain_model(), hours=1, warm_up_s=600.0)
    (one,) = found(result, "no replica")
    old, new = (each for each in result.replicas)
    assert (one.about, one.subject) == ("model", "general")
    assert (one.from_s, one.to_s) == (old.leaving_at, new.ready_at)
    assert one.text.startswith("general had no replica ready for ")
    assert "had to leave (gpu-g6-xlarge-1 is drained: expired after 0.75 h)" in one.text
    assert "; of the next one, general-2, pulling took " in one.text
    assert one.hint.startswith("a minimum of 2 replicas with a PodDisruptionBudget")
    (told,) = [each for each in report.as_json(result)["troubles"] if each["kind"] == "no replica"]
    assert list(told) == ["kind", "model", "from_s", "to_s", "text", "hint"]
    assert any(one.text in line and one.hint in line for line in telling.lines(result, report.as_json(result)))


def test_two_replicas_of_which_one_stays_are_no_trouble() -> None:
    result = run(pool(), model(replicas=2), hours=1)
    assert troubles.troubles(result) == []


def test_a_spot_node_that_is_taken_is_named_as_the_reason() -> None:
    result = run(
        pool(capacity="spot"),
        plain_model(grace=100),
        requests=trace(*np.arange(200) * 10.0, answer=10),
        available=((0.0, 1), (1000.0, 0), (1060.0, 1)),
        timeout_s=3600,
    )
    (one,) = found(result, "no replica")
    assert "the recorded market has 0 spot nodes" in one.text
    assert "on-demand nodes for the first one" in one.hint
    (none,) = found(result, "no capacity")
    assert (none.about, none.subject) == ("pool", "gpu")
    asked = [each.at for each in result.journal if each.kind == "no capacity"]
    assert none.from_s == asked[0]
    assert none.to_s == result.nodes[-1].asked_at
    assert "asked 1 time: gpu: EC2 has no spot capacity for g6.xlarge" in none.text


def test_from_zero_the_first_request_waits_for_all_of_it_and_that_is_said() -> None:
    result = run(pool(), model(), scaler(minReplicaCount=0, maxReplicaCount=2), requests=trace(600.0))
    (none,) = found(result, "no replica")
    pod = result.replicas[-1]
    assert (none.from_s, none.to_s) == (pod.created_at, pod.ready_at)
    assert "it was at none, and the first one had to come up" in none.text
    assert none.hint.startswith("a minimum of 1 replica (minReplicaCount)")
    (cold,) = found(result, "cold start")
    assert (cold.from_s, cold.to_s) == (600.0, result.outcomes.first_at[0])
    assert cold.text.startswith("1 request of general waited ")
    assert " for its first token, while replicas came up; a replica took " in cold.text
    assert "most of it pulling" in cold.text
    assert "SOCI" in cold.hint


def test_what_dominates_decides_what_would_help() -> None:
    asked = {"requests": trace(600.0), "hours": 1}
    story = [pool(), model(), scaler(minReplicaCount=0, maxReplicaCount=2)]
    slow = run(*story, priors={**CERTAIN, "engine_start_s": 2000.0}, timeout_s=9999, **asked)
    (cold,) = found(slow, "cold start")
    assert "most of it starting" in cold.text
    assert cold.hint.startswith("an engine that starts faster")


def test_how_long_the_maximum_was_in_the_way_and_what_was_asked_for() -> None:
    result = run(
        pool(),
        plain_model(),
        scaler(minReplicaCount=1, maxReplicaCount=2),
        requests=trace(*np.arange(400) * 0.05, answer=2000),
        timeout_s=3600,
    )
    (one,) = found(result, "maximum")
    (spell,) = result.spells
    assert (spell.subject, spell.limit) == ("Deployment ai/general", 2)
    assert (one.from_s, one.to_s) == (spell.from_s, spell.to_s)
    assert one.to_s - one.from_s > 60
    assert f"general was at its maximum of 2 replicas for " in one.text  # noqa: F541
    assert one.text.endswith(f"its metrics asked for up to {spell.asked}")
    assert spell.asked > 50
    assert one.hint.startswith("a higher maximum of ScaledObject ai/general than 2")


def test_where_nothing_scales_a_model_requests_wait_for_as_many_as_there_are() -> None:
    """A Service spreads them, and they wait in the engine: eight run, the others after them."""
    result = run(pool(), plain_model(), requests=trace(*[0.0] * 60, answer=500))
    (few,) = found(result, "too few")
    assert [each.kind for each in troubles.troubles(result)] == ["too few"]
    assert few.text.startswith("52 requests of general waited more than 30 s for their first token (half of them ")
    assert few.text.endswith(" or more), while 1 replica had all that it takes")
    assert few.hint.startswith("a scaler: nothing scales it")
    assert few.from_s == 0.0


def test_a_group_of_pods_is_one_replica_and_ready_when_all_its_pods_are() -> None:
    group = model(replicas=2)
    template = group["spec"].pop("template")
    group |= {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet"}
    group["spec"] = {"replicas": 2, "leaderWorkerTemplate": {"size": 2, "workerTemplate": template}}
    result = run(pool(), group, requests=trace(0.0), hours=0.5, cold=True)
    figures = report.as_json(result)
    assert len(result.replicas) == 4
    assert figures["replicas"]["general"]["peak"] == 2
    assert len(figures["scale_ups"]) == 2
    leader, worker = result.replicas[:2]
    assert leader.ready_at == max(leader.ready_at or 0.0, worker.ready_at or 0.0)


def test_pods_that_a_limit_keeps_out_are_told_with_the_pool() -> None:
    result = run(pool(limits={"nvidia.com/gpu": 1}), model(replicas=3), hours=0.5, cold=True)
    (never,) = found(result, "never placed")
    assert never.text.startswith(
        "general-2 and 1 more of Deployment ai/general had no node at the end: gpu: its limits"
    )
    assert never.hint == "a higher limit (spec.limits) of NodePool gpu, or a lower maximum of what it is for"
    assert (never.about, never.subject, never.to_s) == ("pod", "general-2", 1800.0)


def test_pods_that_no_pool_takes_are_told_with_what_every_pool_has_against_them() -> None:
    other = pool("cpu", types="m6i.large")
    result = run(pool(), other, plain_model(nodeSelector={"pool": "none"}), hours=0.2, cold=True)
    (never,) = found(result, "never placed")
    assert "gpu: pool is gpu, the pod wants none" in never.text
    assert "cpu: pool is cpu, the pod wants none" in never.text


def test_pods_that_were_placed_late_are_one_trouble_of_their_workload() -> None:
    made = a_result()
    why = (
        "no node for it: other: the taint x is not tolerated\ngpu: its limits are reached; nvidia.com/gpu: 0 of 8 left"
    )
    said = [Event(at, "provision", pod, why) for at, pod in ((605.0, "model-code-c1"), (920.0, "model-general-a3"))]
    kept = found(replace(made, journal=(*made.journal, *said)), "limit")
    assert [(each.subject, each.from_s, each.to_s) for each in kept] == [
        ("model-code-c1", 605.0, 668.0),
        ("model-general-a3", 920.0, 981.0),
    ]
    assert kept[0].text == (
        "a pod of Deployment agentic-ai/model-code found no node for up to 1 min 03 s: gpu: its limits are reached; "
        "nvidia.com/gpu: 0 of 8 left; other: the taint x is not tolerated"
    )


def test_the_page_has_them() -> None:
    result = run(pool(expireAfter="45m"), plain_model(), hours=1, warm_up_s=600.0)
    (one,) = found(result, "no replica")
    text = page(result)
    assert '<h2 id="h-troubles">Troubles</h2>' in text
    assert one.hint in text
    assert "h-troubles" not in page(run(pool(), model(replicas=2), hours=0.2))


SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)).map(lambda each: (each[0], each[0] + each[1])))


@given(SPANS, SPANS)
def test_what_is_left_of_spans_is_each_moment_of_them_that_the_others_have_not(
    some: list[tuple[float, float]], others: list[tuple[float, float]]
) -> None:
    left = without(merged(some), merged(others))

    def has(spans: list[tuple[float, float]], at: float) -> bool:
        return any(start <= at < stop for start, stop in spans)

    for at in range(50):
        assert has(left, at) == (has(some, at) and not has(others, at))
    assert left == sorted(left)


def test_touching_spans_are_one() -> None:
    assert merged([(3.0, 4.0), (0.0, 1.0), (1.0, 2.0)]) == [(0.0, 2.0), (3.0, 4.0)]


def test_of_each_kind_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(troubles, "MOST_OF_A_KIND", 0)
    assert troubles.troubles(run(pool(expireAfter="45m"), plain_model(), hours=1, warm_up_s=600.0)) == []
