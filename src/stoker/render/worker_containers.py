"""Stoker's worker as a container: beside an engine (`models`), or alone for a server elsewhere (`workers`).

Its arguments are those of `python -m stoker.worker`; the URL that it is given is the one that it announces, and
gateways call the engine there.
"""

import math
from collections.abc import Sequence

from stoker.render.connections import redis_env
from stoker.render.facts import PLATFORM_CONFIG, WORKER, WORKER_METRICS_PORT, Served
from stoker.render.objects import Object, from_field, metadata, resources, restricted_container, selector
from stoker.render.otlp import otlp_env
from stoker.render.plan import Plan

HAND_BACK_S = 5
"""From the end of `--grace` until Redis has heard of what is handed back (docs/leaving.md)."""
ENGINE_ENDS_S = 10
"""What an engine gets between SIGTERM and SIGKILL, when its worker is gone: the embedded one drains for 8 s."""

_ON_SPOT_S = 90
"""Grace at most where a node may be taken away: of the 120 s of a notice, 5 are how late it is seen, 5 go by until pods
are evicted, 5 to hand back and 10 for the engine."""
_ELSEWHERE_S = 600
"""Grace at most on other nodes: a rollout and a drain wait that long for each pod."""

_SPEC_FOLDER = "/etc/stoker"
SPEC_VOLUME: Object = {"name": "platform", "configMap": {"name": PLATFORM_CONFIG}}
TMP_VOLUME: Object = {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}


def grace_s(plan: Plan, model: str, *, may_be_on_spot: bool) -> int:
    """How long running tasks go on after SIGTERM: as long as one may take, if the node is there so long."""
    return at_most(math.ceil(plan.spec.cluster_limits(model).timeout_seconds), may_be_on_spot=may_be_on_spot)


def at_most(longest_s: int, *, may_be_on_spot: bool) -> int:
    """Grace of a worker whose tasks take so long."""
    return min(longest_s, _ON_SPOT_S if may_be_on_spot else _ELSEWHERE_S)


def may_be_on_spot(plan: Plan, served: Served) -> bool:
    """Whether a pool that it is placed on has spot nodes. Nodes of somebody else may be."""
    if not plan.spec.karpenter.enabled:
        return True
    return any("spot" in pool.capacity for pool in plan.pools_of(served))


def general_may_be_on_spot(plan: Plan) -> bool:
    if not plan.spec.karpenter.enabled:
        return True
    return any("spot" in pool.capacity for pool in plan.pools if pool.use == "general")


def worker_container(plan: Plan, model: str, *, url: str, grace: int, env: Sequence[Object]) -> Object:
    """`env`: the key of its engine. POD_NAME and POD_IP are set for `url`."""
    arguments = {
        "--spec": f"{_SPEC_FOLDER}/platform.yaml",
        "--model": model,
        "--replica": "$(POD_NAME)",
        "--engine-url": url,
        "--grace": str(grace),
        "--metrics-port": str(WORKER_METRICS_PORT),
    }
    return {
        "name": "worker",
        "image": plan.image("worker"),
        "command": ["python", "-m", "stoker.worker"],
        "args": [part for pair in arguments.items() for part in pair],
        "env": [
            from_field("POD_NAME", "metadata.name"),
            from_field("POD_IP", "status.podIP"),
            *redis_env(plan),
            *otlp_env(plan),
            *env,
        ],
        "resources": resources(WORKER["cpu"], WORKER["memory"]),
        "securityContext": restricted_container(),
        "volumeMounts": [
            {"name": "platform", "mountPath": _SPEC_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an empty volume of the pod's own
        ],
    }


def disruption_budget(plan: Plan, name: str, component: str) -> Object:
    """One pod at a time; one that still loads, or cannot, may always be moved."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(plan, name, component, namespace=plan.namespace),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(name)},
        },
    }
