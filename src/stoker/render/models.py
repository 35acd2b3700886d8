"""The models that the cluster runs: an engine and Stoker's worker in each pod, and what goes with them.

A Deployment; or, where a replica spans several nodes, a LeaderWorkerSet, whose leader serves. The worker announces the
pod's own address, and gateways call the engine there; the Service is for whoever measures, and for the Gateway API.
"""

from collections.abc import Iterator

from stoker.base.process import ENGINE_KEY
from stoker.render import models_weights
from stoker.render.base import SERVING_PRIORITY
from stoker.render.facts import ENGINE_PORT, MODEL, MODELS_ACCOUNT, ROLE, Served
from stoker.render.items import Item, Resource
from stoker.render.models_engine import engine_container, follower_container, key_env, startup_s, volumes
from stoker.render.objects import Object, metadata, restricted_pod, selector, usual_labels
from stoker.render.plan import Plan
from stoker.render.sharing import has_other_count
from stoker.render.types import why_not
from stoker.render.worker_containers import (
    ENGINE_ENDS_S,
    HAND_BACK_S,
    SPEC_VOLUME,
    TMP_VOLUME,
    disruption_budget,
    grace_s,
    may_be_on_spot,
    worker_container,
)

_WHOLE_NODE = 8
_NODE_COMES_S = 900
"""A node for a pod that has none yet, with its image."""


def render(plan: Plan) -> Iterator[Item]:
    if not plan.served:
        return
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(plan, MODELS_ACCOUNT, "models", namespace=plan.namespace),
        "automountServiceAccountToken": False,
    }
    yield Resource("models/account.yaml", account, "Pod Identity lets it read the models' bucket, if there is one.")
    yield from models_weights.render(plan)
    for served in plan.served:
        file = f"models/{served.workload}.yaml"
        workload = _leader_worker_set(plan, served) if served.spans_nodes else _deployment(plan, served)
        yield Resource(file, workload, _why(plan, served))
        yield Resource(file, _service(plan, served))
        yield Resource(file, disruption_budget(plan, served.workload, "models"))


def grace_of(plan: Plan, served: Served) -> int:
    return grace_s(plan, served.name, may_be_on_spot=may_be_on_spot(plan, served))


def _why(plan: Plan, served: Served) -> str:
    grace = grace_of(plan, served)
    lines = [
        f"Weights: {models_weights.streamed_from(plan, served) or served.weights}."
        if served.is_on_gpu
        else "gpu.count is 0: the embedded engine, on the CPU.",
        f"A running task may go on for {grace} s after SIGTERM"
        + (", since a spot node is taken away after 120 s." if may_be_on_spot(plan, served) else "."),
    ]
    if served.is_scaled:
        lines.append("How many replicas there are is KEDA's.")
    elif _unscaled(served) == 1 and plan.pools and may_be_on_spot(plan, served) and not served.spans_nodes:
        lines.append("stoker:ignore STK-DISRUPTION-020 one replica is what platform.yaml asks for")
    if served.spans_nodes and _could_have_efa(plan, served):
        reason = "pipeline parallelism passes little between nodes, and vLLM's image has no libfabric for EFA"
        lines.append(f"stoker:ignore STK-TRAINING-001 {reason}")
    if _leaves_gpus_idle(plan, served):
        lines.append("stoker:ignore STK-FIT-014 its pool allows nothing smaller (instanceFamilies)")
    return "\n".join(lines)


def _leaves_gpus_idle(plan: Plan, served: Served) -> bool:
    """Whether all its replicas, and of one over several nodes the leaders, need no more than half of the smallest node
    that one fits.
    The linter counts no GPUs where NodeOverlays say how many there are, whoever shares them."""
    most = (served.replicas.max if served.is_scaled else _unscaled(served)) * served.gpu.count
    types = [each for pool in plan.pools_of(served) for each in pool.types if each.gpu_count >= most * 2]
    if not served.is_on_gpu or not types or any(has_other_count(pool) for pool in plan.pools):
        return False
    able = [each for pool in plan.pools_of(served) for each in pool.types if not why_not(each, served)]
    return bool(able) and most * 2 <= min(each.gpu_count for each in able)


def _could_have_efa(plan: Plan, served: Served) -> bool:
    if not plan.pools:
        return served.gpu.count >= _WHOLE_NODE
    return any(each.efa_count for pool in plan.pools_of(served) for each in pool.types)


def _labels(served: Served) -> dict[str, str]:
    return {**selector(served.workload), **usual_labels("models"), MODEL: served.name}


def _replicas(served: Served) -> Object:
    return {} if served.is_scaled else {"replicas": _unscaled(served)}


def _unscaled(served: Served) -> int:
    """Replicas of what KEDA does not scale: one at least, as `stoker up` has it."""
    return max(1, served.replicas.min)


def _deployment(plan: Plan, served: Served) -> Object:
    spec = _replicas(served)
    spec |= {
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": startup_s(plan, served) + _NODE_COMES_S,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": selector(served.workload)},
        "template": {"metadata": {"labels": _labels(served)}, "spec": _leader_pod(plan, served)},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(plan, served.workload, "models", namespace=plan.namespace, labels={MODEL: served.name}),
        "spec": spec,
    }


def _leader_worker_set(plan: Plan, served: Served) -> Object:
    """Source: kubernetes-sigs/lws v0.10 docs, the example with vLLM; a group is made again as a whole."""
    leader = {**_labels(served), ROLE: "leader"}
    follower = {**_labels(served), ROLE: "follower"}
    spec = _replicas(served)
    spec |= {
        "leaderWorkerTemplate": {
            "size": served.serving.nodes,
            "restartPolicy": "RecreateGroupOnPodRestart",
            "leaderTemplate": {"metadata": {"labels": leader}, "spec": _leader_pod(plan, served)},
            "workerTemplate": {"metadata": {"labels": follower}, "spec": _follower_pod(plan, served)},
        },
        "rolloutStrategy": {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": {"maxSurge": 0, "maxUnavailable": 1},
        },
        "startupPolicy": "LeaderCreated",
    }
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": metadata(plan, served.workload, "models", namespace=plan.namespace, labels={MODEL: served.name}),
        "spec": spec,
    }


def _pod(plan: Plan, served: Served) -> Object:
    stays = grace_of(plan, served) + HAND_BACK_S
    return {
        "serviceAccountName": MODELS_ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": SERVING_PRIORITY,
        "terminationGracePeriodSeconds": stays + ENGINE_ENDS_S,
        "securityContext": restricted_pod(),
        **plan.placement(served),
    }


def _leader_pod(plan: Plan, served: Served) -> Object:
    grace = grace_of(plan, served)
    suffix = "/v1" if served.is_on_gpu else ""
    worker = worker_container(
        plan,
        served.name,
        url=f"http://$(POD_IP):{ENGINE_PORT}{suffix}",
        grace=grace,
        env=[key_env(ENGINE_KEY)],
    )
    spread = {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": serving_pods(served)},
    }
    return {
        **_pod(plan, served),
        "topologySpreadConstraints": [spread],
        # The engine stays until its worker is gone: what gateways sent straight to it goes on as long, too.
        "containers": [engine_container(plan, served, stays_s=grace + HAND_BACK_S), worker],
        "volumes": [SPEC_VOLUME, TMP_VOLUME, *volumes(plan, served)],
    }


def _follower_pod(plan: Plan, served: Served) -> Object:
    stays = grace_of(plan, served) + HAND_BACK_S
    return {
        **_pod(plan, served),
        "containers": [follower_container(plan, served, stays_s=stays)],
        "volumes": volumes(plan, served),
    }


def serving_pods(served: Served) -> dict[str, str]:
    """What selects the pods that answer: all of a Deployment, the leaders of a LeaderWorkerSet."""
    found = selector(served.workload)
    return {**found, ROLE: "leader"} if served.spans_nodes else found


def _service(plan: Plan, served: Served) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(plan, served.workload, "models", namespace=plan.namespace, labels={MODEL: served.name}),
        "spec": {
            "type": "ClusterIP",
            "selector": serving_pods(served),
            "ports": [{"name": "http", "port": ENGINE_PORT, "targetPort": "http"}],
        },
    }
