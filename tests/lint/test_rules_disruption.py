"""STK-DISRUPTION: the edges of its rules, beside the examples in their docstrings."""

from typing import Any

import pytest
from linted import budget, container, deployment, job, messages, node_class, pod, pool, pytorch_job, said, service

from stoker.spec.faults import written

DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"
SPOT = {"karpenter.sh/capacity-type": "spot"}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"maxUnavailable": 0}, "spec.maxUnavailable"),
        ({"maxUnavailable": "0%"}, "spec.maxUnavailable"),
        ({"minAvailable": "100%"}, "spec.minAvailable"),
    ],
)
def test_a_budget_that_allows_nothing(spec: dict[str, Any], path: str) -> None:
    assert said("STK-DISRUPTION-001", budget(**spec)) == [("PodDisruptionBudget ai/chat", path, "warning")]


@pytest.mark.parametrize("spec", [{"maxUnavailable": 1}, {"maxUnavailable": "1%"}, {"minAvailable": 0}])
def test_a_budget_that_allows_something(spec: dict[str, Any]) -> None:
    assert said("STK-DISRUPTION-001", budget(**spec)) == []


@pytest.mark.parametrize(
    ("kept", "replicas", "is_tight"),
    [
        (1, 1, True),
        (2, 3, False),
        (3, 3, True),
        (4, 3, True),
        ("50%", 1, True),  # half a pod is rounded up
        ("50%", 2, False),
        ("67%", 3, True),
        ("66%", 3, False),
    ],
)
def test_a_budget_against_the_replicas(kept: Any, replicas: int, is_tight: bool) -> None:
    found = said("STK-DISRUPTION-002", budget(minAvailable=kept), deployment(replicas=replicas))
    assert found == ([("PodDisruptionBudget ai/chat", "spec.minAvailable", "warning")] if is_tight else [])


def test_a_budget_against_the_least_of_an_autoscaler() -> None:
    scaler = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "chat", "namespace": "ai"},
        "spec": {"scaleTargetRef": {"name": "chat"}, "minReplicaCount": 0, "maxReplicaCount": 9},
    }
    found = messages("STK-DISRUPTION-002", budget(minAvailable=1), deployment(), scaler)
    assert found == [
        "minAvailable: 1 keeps the only pod of Deployment ai/chat, so no node with one can be drained"
        " while it is at its smallest"
    ]
    assert said("STK-DISRUPTION-002", budget(minAvailable=1), deployment()) == []  # replicas are not known


def test_a_budget_over_two_workloads_is_not_judged() -> None:
    both = budget(minAvailable=1, selector={"matchExpressions": [{"key": "app", "operator": "Exists"}]})
    assert said("STK-DISRUPTION-002", both, deployment(replicas=1), deployment(name="code", replicas=1)) == []


def test_two_budgets_in_two_namespaces_do_not_meet() -> None:
    other = budget("all", maxUnavailable=1, selector={"matchLabels": {"app": "chat"}})
    assert said("STK-DISRUPTION-003", deployment(), budget(maxUnavailable=1), other) == [
        ("PodDisruptionBudget ai/all", "spec.selector", "warning")
    ]
    other["metadata"]["namespace"] = "other"
    assert said("STK-DISRUPTION-003", deployment(), budget(maxUnavailable=1), other) == []


def test_a_budget_whose_pods_are_elsewhere_is_a_note() -> None:
    assert said("STK-DISRUPTION-004", budget("redis", maxUnavailable=1), deployment()) == [
        ("PodDisruptionBudget ai/redis", "spec.selector", "info")
    ]
    meant = budget("chat", maxUnavailable=1, selector={"matchLabels": {"app": "Chat"}})
    assert said("STK-DISRUPTION-004", meant, deployment()) == [
        ("PodDisruptionBudget ai/chat", "spec.selector", "warning")
    ]


def test_a_budget_for_every_pod_of_the_namespace() -> None:
    everything = budget("all", maxUnavailable=1)
    everything["spec"]["selector"] = {}
    assert said("STK-DISRUPTION-004", everything, deployment()) == []
    del everything["spec"]["selector"]
    assert said("STK-DISRUPTION-004", everything, deployment()) == [
        ("PodDisruptionBudget ai/all", "spec.selector", "warning")
    ]


@pytest.mark.parametrize(("value", "is_said"), [("true", True), ("false", False), ("30m", False)])
def test_do_not_disrupt_on_a_deployment(value: str, is_said: bool) -> None:
    """A time after which it ends protects a slow start, and nothing for good."""
    found = said("STK-DISRUPTION-006", deployment(annotations={DO_NOT_DISRUPT: value}))
    path = written(("spec", "template", "metadata", "annotations", DO_NOT_DISRUPT))
    assert found == ([("Deployment ai/chat", path, "warning")] if is_said else [])


def test_do_not_disrupt_on_a_job_is_right() -> None:
    task = job(container("train", gpus=1))
    task["spec"]["template"]["metadata"]["annotations"] = {DO_NOT_DISRUPT: "true"}
    assert said("STK-DISRUPTION-006", task) == []


@pytest.mark.parametrize(
    ("hook", "grace", "severity"),
    [
        ({"sleep": {"seconds": 31}}, None, "error"),
        ({"sleep": {"seconds": 30}}, None, "warning"),
        ({"sleep": {"seconds": 29}}, None, ""),
        ({"exec": {"command": ["sleep", "60"]}}, 60, "warning"),
        ({"exec": {"command": ["sh", "-c", "sleep 20; nginx -s quit; sleep 20"]}}, 40, "warning"),
        ({"exec": {"command": ["sh", "-c", "sleep 1m"]}}, 90, ""),
        ({"exec": {"command": ["sh", "-c", "while [ -e /busy ]; do sleep 1; done"]}}, None, ""),
    ],
)
def test_a_hook_and_the_grace_period(hook: dict[str, Any], grace: int | None, severity: str) -> None:
    spec = {} if grace is None else {"terminationGracePeriodSeconds": grace}
    found = said("STK-DISRUPTION-008", pod(container(lifecycle={"preStop": hook}), **spec))
    assert [how for _, _, how in found] == ([severity] if severity else [])


def test_the_default_grace_period_on_spot_nodes() -> None:
    on_spot = deployment(container(gpus=1))
    spot, on_demand = pool(bought=("spot", "on-demand")), pool(bought=("on-demand",))
    path = "spec.template.spec.terminationGracePeriodSeconds"
    assert said("STK-DISRUPTION-009", on_spot, spot) == [("Deployment ai/chat", path, "warning")]
    assert said("STK-DISRUPTION-009", on_spot, on_demand) == []
    assert said("STK-DISRUPTION-009", deployment(container()), spot) == []  # without GPUs
    assert said("STK-DISRUPTION-009", deployment(container(gpus=1), terminationGracePeriodSeconds=45), spot) == []
    wants = {"karpenter.sh/capacity-type": "on-demand"}
    assert said("STK-DISRUPTION-009", deployment(container(gpus=1), nodeSelector=wants), spot) == []


def test_a_pool_that_is_tainted_against_the_pods_is_not_theirs() -> None:
    tainted = pool(bought=("spot",), taints=({"key": "training", "effect": "NoSchedule"},))
    assert said("STK-DISRUPTION-009", deployment(container(gpus=1)), tainted) == []


@pytest.mark.parametrize(
    ("bought", "severity"), [(("spot",), "warning"), (("spot", "on-demand"), "info"), (("on-demand",), "")]
)
def test_a_grace_period_beyond_the_notice(bought: tuple[str, ...], severity: str) -> None:
    long = deployment(container(), terminationGracePeriodSeconds=600)
    found = said("STK-DISRUPTION-010", long, pool(bought=bought))
    assert [how for _, _, how in found] == ([severity] if severity else [])


def test_the_handler_without_karpenter_is_right() -> None:
    handler = container("handler", image="public.ecr.aws/aws-ec2/aws-node-termination-handler:v1.25.0")
    daemon = deployment(handler, name="handler", kind="DaemonSet", tolerations=[{"operator": "Exists"}])
    assert said("STK-DISRUPTION-011", daemon) == []
    assert said("STK-DISRUPTION-011", daemon, pool()) == [("DaemonSet ai/handler", "spec.template.spec", "warning")]
    assert said(
        "STK-DISRUPTION-012", daemon, pool(bought=("spot",), taints=({"key": "a", "effect": "NoSchedule"},))
    ) == [("DaemonSet ai/handler", "spec.template.spec.serviceAccountName", "info")]


@pytest.mark.parametrize(
    ("env", "is_said"),
    [
        ([{"name": "INTERRUPTION_QUEUE", "value": ""}], True),
        ([{"name": "INTERRUPTION_QUEUE", "value": "atelier"}], False),
        ([{"name": "INTERRUPTION_QUEUE", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}}], False),
    ],
)
def test_the_interruption_queue(env: list[Any], is_said: bool) -> None:
    controller = container("controller", image="public.ecr.aws/karpenter/controller:1.14.1", env=env)
    found = said("STK-DISRUPTION-013", deployment(controller, name="karpenter"), pool(bought=("spot",)))
    path = "spec.template.spec.containers[0].env[0].value"
    assert found == ([("Deployment ai/karpenter", path, "warning")] if is_said else [])
    assert said("STK-DISRUPTION-013", deployment(controller, name="karpenter"), pool(bought=("on-demand",))) == []


def test_one_lost_node_and_a_pytorch_job() -> None:
    lost = pytorch_job(worker={"containers": [container("pytorch", gpus=1)], "nodeSelector": SPOT}, workers=2)
    assert said("STK-DISRUPTION-014", lost) == []
    lost["spec"]["pytorchReplicaSpecs"]["Worker"]["restartPolicy"] = "Never"
    path = "spec.pytorchReplicaSpecs.Worker.restartPolicy"
    assert said("STK-DISRUPTION-014", lost) == [("PyTorchJob ai/train", path, "warning")]


def test_a_job_that_ignores_disruption() -> None:
    policy = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}
    counts = job(container("train"), nodeSelector=SPOT)
    assert said("STK-DISRUPTION-015", counts) == [("Job ai/train", "spec.podFailurePolicy", "info")]
    assert (
        said("STK-DISRUPTION-015", job(container("train"), job_spec={"podFailurePolicy": policy}, nodeSelector=SPOT))
        == []
    )
    assert said("STK-DISRUPTION-015", job(container("train"))) == []


def test_a_pool_that_leaves_training_alone() -> None:
    training = pytorch_job(worker={"containers": [container("pytorch", gpus=1)]})
    path = written(("spec", "pytorchReplicaSpecs", "Worker", "template", "metadata", "annotations", DO_NOT_DISRUPT))
    quiet = {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "5m"}
    drift = {"nodes": "0", "reasons": ["Drifted"]}
    assert said("STK-DISRUPTION-016", training, pool()) == [("PyTorchJob ai/train", path, "warning")]
    assert said("STK-DISRUPTION-016", training, pool(disruption={**quiet, "budgets": [drift]})) == []
    by_day = {**drift, "schedule": "0 8 * * *", "duration": "8h"}
    assert len(said("STK-DISRUPTION-016", training, pool(disruption={**quiet, "budgets": [by_day]}))) == 1
    assert said("STK-DISRUPTION-016", training) == []  # no Karpenter in sight


@pytest.mark.parametrize(
    ("strategy", "replicas", "severity"),
    [
        ({"type": "Recreate"}, 3, "warning"),
        ({"type": "Recreate"}, 1, "info"),
        ({"rollingUpdate": {"maxUnavailable": "100%"}}, 3, "warning"),
        ({"rollingUpdate": {"maxUnavailable": 3}}, 3, "warning"),
        ({"rollingUpdate": {"maxUnavailable": 1}}, 1, "info"),
        ({"rollingUpdate": {"maxUnavailable": "50%"}}, 3, ""),
        (None, 3, ""),
    ],
)
def test_a_rollout_behind_a_service(strategy: Any, replicas: int, severity: str) -> None:
    found = said("STK-DISRUPTION-017", deployment(replicas=replicas, strategy=strategy), service())
    assert [how for _, _, how in found] == ([severity] if severity else [])
    assert said("STK-DISRUPTION-017", deployment(replicas=replicas, strategy=strategy)) == []


@pytest.mark.parametrize(
    ("limit", "replicas", "rolling", "is_said"),
    [
        (2, 2, None, True),
        (3, 2, None, False),
        (4, 4, None, False),  # a quarter of four is one
        (2, 2, {"maxSurge": 0}, False),  # then Kubernetes lets one go
        (2, 2, {"maxUnavailable": 0, "maxSurge": 1}, True),
        (None, 2, None, False),
    ],
)
def test_a_rollout_that_needs_one_more(limit: int | None, replicas: int, rolling: Any, is_said: bool) -> None:
    limits = {} if limit is None else {"limits": {"nvidia.com/gpu": limit}}
    strategy = None if rolling is None else {"rollingUpdate": rolling}
    server = deployment(container(gpus=1), replicas=replicas, strategy=strategy)
    path = "spec.strategy.rollingUpdate.maxUnavailable"
    found = said("STK-DISRUPTION-018", server, pool(**limits))
    assert found == ([("Deployment ai/chat", path, "warning")] if is_said else [])


def test_one_replica_on_spot_and_none_on_demand() -> None:
    one = deployment(replicas=1, nodeSelector=SPOT)
    assert said("STK-DISRUPTION-020", one, service()) == [("Deployment ai/chat", "spec.replicas", "info")]
    assert said("STK-DISRUPTION-020", one) == []
    assert said("STK-DISRUPTION-020", deployment(replicas=2, nodeSelector=SPOT), service()) == []


def test_a_node_class_in_sight_changes_nothing_of_this() -> None:
    spot = pool(bought=("spot",))
    assert said("STK-DISRUPTION-020", deployment(replicas=1), service(), spot, node_class()) == [
        ("Deployment ai/chat", "spec.replicas", "info")
    ]


@pytest.mark.parametrize(
    ("budgets", "said_of"),
    [
        ([], True),
        ([{"nodes": "0", "reasons": ["Drifted"]}], False),
        ([{"nodes": "0"}], False),
        ([{"nodes": "0", "reasons": ["Empty"]}], True),
        ([{"nodes": "0", "reasons": ["Drifted"], "schedule": "0 9 * * *", "duration": "8h"}], True),
    ],
)
def test_a_grace_period_matters_where_a_budget_allows_drift(budgets: list[dict[str, Any]], said_of: bool) -> None:
    training = pytorch_job(master={"containers": [container(gpus=1)]})
    template = training["spec"]["pytorchReplicaSpecs"]["Master"]["template"]
    template["metadata"] = {"annotations": {DO_NOT_DISRUPT: "true"}}
    nodes = pool(types=("g6.12xlarge",), disruption={"consolidationPolicy": "WhenEmpty", "budgets": budgets})
    nodes["spec"]["template"]["spec"]["terminationGracePeriod"] = "24h"
    assert bool(said("STK-DISRUPTION-022", training, nodes)) is said_of
