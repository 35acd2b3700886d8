"""Expiry, the order of evictions, and where patience ends (reference 4.5 and 4.7)."""

import pytest
from disrupting import node, shape

from stoker.policy.cluster import Disruption, Pod
from stoker.policy.terminating import eviction_groups, expires_at, forced_at, gives_up_after_s


def test_a_node_expires_thirty_days_after_it_was_made_whatever_runs_on_it() -> None:
    held = node("n", created_at=1000.0, pods=[shape(do_not_disrupt=True)])
    assert expires_at(held, Disruption()) == 1000 + 720 * 3600
    assert expires_at(held, Disruption(expire_after_s=60.0)) == 1060
    assert expires_at(held, Disruption(expire_after_s=None)) is None


def test_pods_go_in_four_groups() -> None:
    critical = {"priority_class": "system-cluster-critical"}
    daemon = "DaemonSet kube-system/cni"
    pods = {
        "node critical daemon": shape(view={"priority_class": "system-node-critical"}, owner=daemon),
        "critical": shape(view=critical),
        "daemon": shape(owner=daemon),
        "other": shape(owner="Deployment llm/model"),
        "prioritised": shape(view={"priority": 2_000_000_000}),
    }
    groups = eviction_groups(Pod(name, of, 0.0) for name, of in pods.items())

    names = [[each.name for each in group] for group in groups]
    assert names == [["other", "prioritised"], ["daemon"], ["critical"], ["node critical daemon"]]
    assert eviction_groups([]) == ()


@pytest.mark.parametrize(("grace_s", "at"), [(30.0, 1000 + 3600 - 30), (0.0, 1000 + 3600 - 1), (7200.0, 1000 - 3600)])
def test_with_a_termination_grace_period_a_pod_is_stopped_in_time_for_its_own(grace_s: float, at: float) -> None:
    pod = Pod("p", shape(grace_s=grace_s), 0.0)
    assert forced_at(pod, 1000.0, Disruption(termination_grace_s=3600.0)) == at
    assert forced_at(pod, 1000.0, Disruption()) is None


@pytest.mark.parametrize(
    ("commands", "seconds"), [(1, 600), (7500, 600), (10_000, 800), (45_000, 3600), (90_000, 3600)]
)
def test_a_command_gives_up_after_ten_minutes_to_an_hour(commands: int, seconds: float) -> None:
    assert gives_up_after_s(commands) == seconds
