"""Stories about the control plane: what happens when, by the clocks and rules of the controllers."""

from itertools import pairwise

import numpy as np
import pytest
from worlds import budget, model, pool, run, said, scaler, trace

from stoker.meter.attribution import IDLE, STARTING
from stoker.simulate.result import LOST, SERVED

G6_USD = 0.8048
VOLUME_USD = 20 * 0.08 / 730


def test_an_hour_of_nothing_costs_the_minimum_for_an_hour() -> None:
    found = run(pool(), model(replicas=2), requests=trace(0.0), hours=1)
    assert len(found.nodes) == 2
    assert found.costs.total == 2 * (round(G6_USD * 1e9) + round(VOLUME_USD * 1e9))
    assert found.costs.by_capacity == {"on-demand": found.costs.total}
    assert found.costs.by_model == {"general": found.costs.total}
    assert found.costs.by_part["volumes"] == 2 * round(VOLUME_USD * 1e9)
    assert found.ended_at_s == 3600.0


def test_from_a_request_to_its_answer_through_an_empty_cluster() -> None:
    """KEDA's poll, a batch of one second, 92 s of a machine; image, weights and engine, seen by the next probe."""
    found = run(pool(), model(), scaler(minReplicaCount=0, maxReplicaCount=2), requests=trace(0.0))
    (woken_at, why), *_ = said(found, "scale")
    assert why == "0 -> 1: woken by waiting"
    assert 0 <= woken_at <= 30  # the next poll
    pod = found.replicas[-1]
    node = found.nodes[-1]
    assert pod.created_at == pytest.approx(woken_at, abs=1e-3)
    assert node.asked_at == pod.created_at + 1  # the batch closes a second after the last pod
    assert node.launched_at == node.asked_at + 2
    assert node.registered_at == node.launched_at + 50
    assert node.ready_at == node.registered_at + 40
    assert pod.bound_at == node.ready_at
    assert pod.pulled_at is not None
    assert pod.loaded_at is not None
    assert pod.ready_at is not None
    assert pod.bound_at < pod.pulled_at < pod.loaded_at < pod.ready_at
    after_pull_s = pod.ready_at - pod.pulled_at
    assert after_pull_s == pytest.approx(round(after_pull_s / 10) * 10)  # probes come every ten seconds
    assert found.outcomes.started_at[0] == pod.ready_at
    assert found.outcomes.first_at[0] > pod.ready_at
    assert found.costs.by_model[STARTING] == pytest.approx(90 / 3600 * (G6_USD + VOLUME_USD) * 1e9, rel=1e-6)


def test_without_a_poll_from_zero_nothing_comes_up_and_the_request_waits_in_vain() -> None:
    """An HPA alone does not start the first replica: pods at zero stay at zero."""
    found = run(pool(), model(replicas=0), requests=trace(0.0), timeout_s=60)
    assert not [each for each in found.nodes if each.gone_at is None]
    assert list(found.outcomes.state) != [SERVED]


def test_the_hpa_goes_up_by_its_policies_and_no_further_than_its_maximum() -> None:
    times = np.arange(400) * 0.05
    found = run(
        pool(),
        model(replicas=1),
        scaler(minReplicaCount=1, maxReplicaCount=9, advanced={"horizontalPodAutoscalerConfig": {"behavior": {}}}),
        requests=trace(*times, answer=2000),
    )
    steps = [text.partition(":")[0] for _, text in said(found, "scale") if "->" in text]
    assert steps[:2] == ["1 -> 5", "5 -> 9"]
    moments = [at for at, text in said(found, "scale") if "->" in text]
    assert moments[1] - moments[0] == pytest.approx(15.0)


def test_what_the_hpa_cannot_read_counts_towards_the_fallback_as_a_poll_does() -> None:
    """Three readings in 30 s, two of them by the HPA: more than three failures after 45 s, where polls alone would take
    two minutes."""
    unknown = {"type": "prometheus", "name": "unknown", "metadata": {"query": "made_up_by_nobody", "threshold": "1"}}
    unknown["metadata"] |= {"ignoreNullValues": "false"}  # type: ignore[operator]
    found = run(
        pool(),
        model(replicas=1),
        scaler(trigger=unknown, minReplicaCount=1, fallback={"failureThreshold": 3, "replicas": 2}),
        cold=True,
        hours=0.1,
    )
    (at, text), *_ = said(found, "scale", "Deployment ai/general")
    assert text.startswith("stays at 1: unknown cannot be read")
    ((grown_at, grown),) = [(at, text) for at, text in said(found, "scale") if "1 -> 2" in text]
    assert "unknown" in grown
    assert at < grown_at <= 60


def test_who_waits_with_the_higher_priority_is_bound_first() -> None:
    """One node is all there may be."""
    first, important = model("first", replicas=1), model("important", replicas=1)
    important["spec"]["template"]["spec"]["priorityClassName"] = "system-cluster-critical"
    found = run(pool(limits={"nvidia.com/gpu": 1}), first, important, cold=True, hours=0.1)
    assert [each.name for each in found.replicas if each.bound_at is not None] == ["important-1"]
    assert not said(found, "preempted")


def test_a_pod_that_has_to_make_room_ends_what_it_has_first() -> None:
    """`first` is in the middle of an answer when `important` is woken; Karpenter launches nothing for a pod that others
    make room for, only for the one that lost its place."""
    first, important = model("first", replicas=1), model("important")
    important["spec"]["template"]["spec"]["priorityClassName"] = "system-cluster-critical"
    found = run(
        pool(disruption={"consolidateAfter": "5m"}),
        first,
        important,
        scaler("important", minReplicaCount=0, maxReplicaCount=1),
        requests=trace(*np.arange(400) * 1.0, answer=400),
        shares={"first": 1.0, "important": 1.0},
        timeout_s=3600,
        hours=0.5,
    )
    (preempted_at, _), *_ = said(found, "preempted")
    victim = next(each for each in found.replicas if each.workload.endswith("first") and each.leaving_at is not None)
    taker = next(each for each in found.replicas if each.workload.endswith("important") and each.bound_at is not None)
    assert victim.leaving_at == pytest.approx(preempted_at, abs=1e-3)
    assert victim.gone_at is not None
    assert 5 <= victim.gone_at - preempted_at <= 60  # its preStop hook and its answers, within its grace
    assert taker.bound_at == victim.gone_at
    assert max(found.outcomes.attempts) == 1
    new = found.nodes[-1]
    assert new.why == "for first-2"


def test_down_again_after_the_window_and_the_nodes_go_with_the_pods() -> None:
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 60}}
    found = run(
        pool(
            disruption={"consolidateAfter": "30s", "consolidationPolicy": "WhenEmpty", "budgets": [{"nodes": "100%"}]}
        ),
        model(replicas=1),
        scaler(
            minReplicaCount=1,
            maxReplicaCount=3,
            advanced={"horizontalPodAutoscalerConfig": {"behavior": behavior}},
        ),
        requests=trace(*np.arange(240) * 0.1, answer=1000),
        timeout_s=3600,
        hours=1,
    )
    assert max(found.timeline.ready["general"]) == 3
    assert found.timeline.ready["general"][-1] == 1
    gone = [each for each in found.nodes if each.gone_at is not None and each.gone_at > 0]
    assert [each.why_gone.partition(":")[0] for each in gone] == ["empty", "empty"]
    emptied = sorted(each.gone_at for each in found.replicas if each.gone_at is not None and each.gone_at > 0)
    for node, at in zip(sorted(each.gone_at or 0 for each in gone), emptied, strict=True):
        # thirty seconds without a pod, the next pass, fifteen seconds of validation
        assert 30 + 15 <= node - at <= 30 + 10 + 15 + 1


def test_a_spot_node_is_gone_two_minutes_after_its_notice_and_its_pods_are_made_anew_at_once() -> None:
    found = run(
        pool(capacity="spot"),
        model(replicas=1, grace=100),
        scaler(minReplicaCount=1, maxReplicaCount=1),
        requests=trace(*np.arange(200) * 10.0, answer=400),
        available=((0.0, 1), (1000.0, 0), (1060.0, 1)),
        timeout_s=3600,
    )
    ((noticed_at, text),) = said(found, "interruption")
    assert noticed_at == 1000.0
    assert text == "the recorded market has 0 spot nodes: gone in 120 s, with 1 pods on it"
    first, second = (each for each in found.replicas if each.gone_at is None or each.gone_at > 0)
    assert first.leaving_at is not None
    assert 1001 <= first.leaving_at <= 1003  # Karpenter reads its queue
    assert second.created_at == first.leaving_at
    assert first.gone_at is not None
    assert first.gone_at < 1100  # it finished what it had, within its grace
    old, new = (each for each in found.nodes if each.gone_at is None or each.gone_at > 0)
    assert old.gone_at == first.gone_at
    assert new.asked_at > 1060  # there was no capacity before, and a refusal holds for three minutes
    assert set(found.outcomes.state) == {SERVED}
    assert max(found.outcomes.attempts) == 1


def test_where_a_spot_node_was_taken_none_is_asked_for_during_three_minutes() -> None:
    """Both zones cost the same; whichever lost a node is out, so the next node is in the other."""
    for seed in range(4):
        found = run(
            pool(capacity="spot"),
            model(replicas=1),
            available=((0.0, 1), (1000.0, 0), (1000.5, 2)),
            hours=0.5,
            seed=seed,
        )
        old, new = (each for each in found.nodes if each.gone_at is None or each.gone_at > 0)
        assert 1001 < new.asked_at < 1010
        assert (new.type, new.capacity) == (old.type, "spot")
        assert new.zone != old.zone


def test_a_pod_that_may_not_be_evicted_ends_with_its_spot_node_and_is_made_anew() -> None:
    """Its budget allows no eviction, and its grace is so short that nobody asks again within it."""
    found = run(
        *(pool(capacity="spot"), model(replicas=1, grace=1), budget(maxUnavailable=0)),
        available=((0.0, 1), (1000.0, 0), (1200.0, 1)),
        requests=trace(0.0, 1500.0),
        timeout_s=3600,
    )
    first, second = (each for each in found.replicas if each.gone_at is None or each.gone_at > 0)
    assert (first.leaving_at, first.gone_at) == (None, 1120.0)
    assert second.created_at == 1120.0
    assert set(found.outcomes.state) == {SERVED}


def test_without_draining_requests_are_lost_or_run_again() -> None:
    """The grace of one second is not enough for an answer of many."""
    story = [pool(capacity="spot"), model(replicas=1, grace=1)]
    asked = {
        "requests": trace(990.0, answer=3000),
        "available": ((0.0, 1), (1000.0, 0), (1010.0, 1)),
    }
    lost = run(*story, retries=False, **asked)
    assert list(lost.outcomes.state) == [LOST]
    assert [text.partition(":")[0] for _, text in said(lost, "lost")] == ["1 requests were cut off"]
    again = run(*story, retries=True, timeout_s=3600, **asked)
    assert list(again.outcomes.state) == [SERVED]
    assert list(again.outcomes.attempts) == [2]


def test_a_disruption_budget_lets_one_pod_go_after_the_other() -> None:
    """Both nodes drift; each replacement is ready before the next pod goes."""
    found = run(
        pool(disruption={"budgets": [{"nodes": "100%"}]}),
        model(replicas=2),
        budget(maxUnavailable=1),
        drift_at=100.0,
        hours=1,
    )
    leaving = sorted(each.leaving_at for each in found.replicas if each.leaving_at is not None)
    assert len(leaving) == 2
    assert min(found.timeline.ready["general"]) >= 1
    assert sum(each.gone_at is None for each in found.nodes) == 2
    assert [each.why_gone.partition(":")[0] for each in found.nodes if each.gone_at is not None] == ["drifted"] * 2


def test_a_limit_is_overshot_by_one_replacement_and_then_nothing_more_is_launched() -> None:
    """Karpenter plans a replacement without what it replaces, and launches nothing while there is too much already."""
    found = run(
        pool(disruption={"budgets": [{"nodes": "100%"}]}, limits={"nvidia.com/gpu": 2}),
        model(replicas=2),
        drift_at=100.0,
        hours=1,
    )
    first, second, third, fourth = found.nodes
    assert third.asked_at == pytest.approx(100.0, abs=10.1)
    assert first.gone_at is not None
    assert fourth.asked_at == pytest.approx(first.gone_at, abs=10.1)
    assert fourth.asked_at >= first.gone_at
    assert second.gone_at is not None
    assert {text for _, text in said(found, "provision") if "nothing" in text} == {
        "nothing is launched: its nodes have 3 of nvidia.com/gpu, and may have 2"
    }
    given_up = [at for at, text in said(found, "disrupt") if text == "given up: the replacement is not to be had"]
    assert min(b - a for a, b in pairwise(given_up)) == pytest.approx(10.0)


def test_an_expired_node_goes_without_a_replacement_made_first() -> None:
    found = run(pool(expireAfter="45m"), model(replicas=1), hours=1, warm_up_s=600.0)
    (why,) = {each.why_gone for each in found.nodes if each.gone_at is not None}
    assert why == "expired after 0.75 h"
    old, new = found.nodes
    assert old.leaving_at == old.asked_at + 2700
    assert new.asked_at > old.leaving_at
    assert min(found.timeline.ready["general"]) == 0


def protected(**spec: object) -> list[dict[str, object]]:
    """A pod with do-not-disrupt on a node that expires after half an hour."""
    kept = model(replicas=1)
    kept["spec"]["template"]["metadata"]["annotations"] = {"karpenter.sh/do-not-disrupt": "true"}
    return [pool(expireAfter="30m", **spec), kept]


def test_an_expired_node_waits_for_a_pod_that_is_not_to_be_disrupted() -> None:
    found = run(*protected(), hours=1, cold=True)
    (node,) = found.nodes  # none is launched for a pod that nothing evicts
    assert node.leaving_at == node.asked_at + 1800
    assert node.gone_at is None
    (pod,) = found.replicas
    assert pod.leaving_at is None


def test_no_room_is_made_for_pods_whose_disruption_budget_lets_nobody_go() -> None:
    found = run(pool(expireAfter="30m"), model(replicas=1), budget(maxUnavailable=0), hours=1, cold=True)
    (node,) = found.nodes
    assert node.leaving_at is not None
    assert node.gone_at is None


def test_a_termination_grace_period_ends_that_in_time_for_the_pods_own_grace() -> None:
    found = run(*protected(terminationGracePeriod="10m"), hours=1, cold=True)
    node = found.nodes[0]
    pod = found.replicas[0]
    assert node.leaving_at is not None
    assert pod.leaving_at is not None
    assert 540 <= pod.leaving_at - node.leaving_at <= 545  # ten minutes less its grace of one, tried every 5 s
    assert node.gone_at is not None
    assert node.gone_at <= node.leaving_at + 600


def test_critical_pods_of_a_node_are_evicted_when_the_others_are_gone() -> None:
    on_cpus = {"requests": {"cpu": "500m", "memory": "1Gi"}}
    plain, critical = model("plain", replicas=1, grace=30), model("critical", replicas=1, grace=30)
    for each in (plain, critical):
        each["spec"]["template"]["spec"]["containers"][0] |= {"image": "busybox", "args": [], "resources": on_cpus}
        each["spec"]["template"]["spec"]["containers"][0]["command"] = ["sleep"]
    critical["spec"]["template"]["spec"]["priorityClassName"] = "system-cluster-critical"
    found = run(pool(types="g6.2xlarge", expireAfter="30m"), model(replicas=1), plain, critical, hours=0.7, cold=True)
    node = found.nodes[0]
    on_it = {
        each.workload.rpartition("/")[2].rpartition(" ")[2]: each for each in found.replicas if each.node == node.name
    }
    assert set(on_it) == {"general", "plain", "critical"}
    others = [on_it["general"], on_it["plain"]]
    assert {each.leaving_at for each in others} == {node.leaving_at}
    assert all(each.gone_at is not None for each in others)
    assert on_it["critical"].leaving_at >= max(each.gone_at for each in others)


def test_refused_offerings_are_left_alone_for_three_minutes() -> None:
    found = run(pool(), model(replicas=1), no_capacity=1.0, hours=0.5, cold=True)
    refusals = [at for at, _ in said(found, "no capacity")]
    assert len(refusals) > 3
    said_of_ec2 = [at for at, text in said(found, "no capacity") if "EC2 has no" in text]
    assert min(b - a for a, b in pairwise(said_of_ec2)) >= 180
    assert not found.nodes
    assert found.costs.total == 0


def test_while_a_command_is_validated_no_other_is_looked_for() -> None:
    """Five nodes become empty within one polling interval; Karpenter waits 15 s for each command before it looks on."""
    names = ("general", "b", "c", "d", "e")
    resting = [scaler(name, minReplicaCount=0, maxReplicaCount=1, initialCooldownPeriod=600) for name in names]
    found = run(
        pool(disruption={"consolidateAfter": "0s", "consolidationPolicy": "WhenEmpty", "budgets": [{"nodes": "100%"}]}),
        *(model(name, replicas=1) for name in names),
        *resting,
        requests=trace(7200.0),
        cold=True,
        hours=0.5,
    )
    emptied = sorted(each.gone_at for each in found.replicas if each.gone_at is not None)
    assert len(emptied) == 5
    assert emptied[-1] - emptied[0] < 31
    decided = [at for at, text in said(found, "disrupt") if text.startswith("Empty")]
    assert len(decided) > 1
    assert min(b - a for a, b in pairwise(decided)) >= 15
    assert all(each.gone_at is not None for each in found.nodes)


def test_a_static_pool_has_its_nodes_whatever_runs() -> None:
    found = run(pool(replicas=3), model(replicas=1), hours=1)
    assert len(found.nodes) == 3
    assert found.costs.by_model[IDLE] == 2 * found.costs.by_model["general"]


def test_weights_that_do_not_fit_never_serve_and_it_is_said_why() -> None:
    small = model(replicas=1)
    small["spec"]["template"]["spec"]["containers"][0]["args"][1] = "Qwen/Qwen3-32B"
    found = run(pool(), small, requests=trace(0.0), timeout_s=60, hours=0.5)
    ((_, text),) = [(each.at, each.text) for each in found.journal if each.kind == "broken"]
    assert "Qwen/Qwen3-32B" in text
    assert max(found.timeline.ready["general"]) == 0
    assert list(found.outcomes.state) != [SERVED]


def test_the_same_seed_gives_the_same_and_another_seed_another() -> None:
    story = [pool(capacity="spot on-demand", types="g6.xlarge g5.xlarge"), model(replicas=3)]
    requests = trace(*np.arange(300) * 3.0)
    asked = {"priors": {}, "interruptions_per_hour": 2.0, "requests": requests}
    first, again, other = (run(*story, seed=seed, **asked) for seed in (1, 1, 2))
    assert first.journal == again.journal
    assert first.costs == again.costs
    assert np.array_equal(first.outcomes.done_at, again.outcomes.done_at, equal_nan=True)
    assert first.journal != other.journal


def test_a_static_pool_gets_a_node_for_each_that_it_lost() -> None:
    found = run(
        pool(replicas=2, capacity="spot"), model(replicas=1), available=((0.0, 2), (600.0, 1), (700.0, 2)), hours=1
    )
    (at, _), *_ = said(found, "interruption")
    assert at == 600.0
    assert len(found.nodes) == 3
    assert sum(each.gone_at is None for each in found.nodes) == 2
    # the offering is left alone for three minutes after the notice
    assert found.nodes[-1].asked_at >= 780


def test_a_recommendation_to_rebalance_is_said_and_changes_nothing() -> None:
    story = [pool(capacity="spot"), model(replicas=1)]
    found = run(*story, interruptions_per_hour=1.0, hours=3)
    notices = [(at, text) for at, text in said(found, "interruption") if text.startswith("spot interruption")]
    warned = [(at, text) for at, text in said(found, "interruption") if text.startswith("EC2 recommends")]
    assert notices
    assert {round(at + 900, 3) for at, _ in warned} >= {at for at, _ in notices if at > 900}
    silent = run(*story, interruptions_per_hour=1.0, hours=3, rebalance_s=0.0)
    assert [each.gone_at for each in silent.nodes] == [each.gone_at for each in found.nodes]


def test_pods_of_one_node_share_one_pull_of_their_image() -> None:
    """The second waits for the pull that goes on; one that comes later finds the image there."""
    found = run(pool(types="g6.12xlarge"), model(replicas=2), cold=True, hours=0.5)
    first, second = found.replicas
    assert first.node == second.node
    assert first.bound_at == second.bound_at
    assert second.pulled_at == first.pulled_at
    assert first.pulled_at is not None
    assert first.bound_at is not None
    assert first.pulled_at - first.bound_at > 60


def test_pods_without_a_namespace_are_named_after_what_makes_them() -> None:
    one = model(replicas=1)
    del one["metadata"]["namespace"]
    found = run(pool(), one, hours=0.1)
    assert [each.name for each in found.replicas] == ["general-1"]


def test_keda_looks_as_often_as_its_polling_interval_says() -> None:
    """Its first look is at the same share of the interval, and the cluster began whole intervals before the request."""
    woken = []
    for interval in (30, 120):
        found = run(pool(), model(), scaler(minReplicaCount=0, maxReplicaCount=1, pollingInterval=interval))
        (at, text), *_ = said(found, "scale")
        assert text == "0 -> 1: woken by waiting"
        woken.append(at)
    assert woken[1] == pytest.approx(4 * woken[0], abs=0.01)
    assert woken[1] > 30
