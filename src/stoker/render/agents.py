"""Agents in the cluster: the API behind the gateway, and the workers that run steps (docs/render/agents.md).

Their command lines are those of `python -m stoker.agents` and `python -m stoker.agents.worker`. Files that tools and
graphs are read from are relative to /etc/stoker, where an image of one's own puts them: platform.yaml is mounted there
as a file, and covers nothing.
"""

import hashlib
import math
from collections.abc import Iterator
from urllib.parse import urlsplit

from stoker.base.errors import InvalidInput
from stoker.policy.scaled import agent_workers, scales_agents
from stoker.render import worker_containers
from stoker.render.base import PLATFORM_PRIORITY, SERVING_PRIORITY
from stoker.render.cluster_spec import AGENTS_PASSWORD, platform_yaml
from stoker.render.connections import redis_env, with_password
from stoker.render.facts import (
    AGENT_TOOLS_SECRET,
    AGENT_WORKER,
    AGENT_WORKER_PORT,
    AGENTS,
    AGENTS_PORT,
    AGENTS_SECRET,
    AGENTS_STORE_SECRET,
    GATEWAY,
    GATEWAY_PORT,
)
from stoker.render.items import Item, Resource
from stoker.render.ledger import ledger_env
from stoker.render.objects import (
    Object,
    from_field,
    from_secret,
    metadata,
    resources,
    restricted_container,
    restricted_pod,
    selector,
    usual_labels,
)
from stoker.render.otlp import otlp_env
from stoker.render.plan import Plan
from stoker.render.secrets import tool_variables

COMPONENT = "agents"
AGENTS_KEY, AGENTS_URL, AGENTS_DB = "STOKER_AGENTS_KEY", "STOKER_AGENTS_URL", "STOKER_AGENTS_DB"
GATEWAY_URL = "STOKER_GATEWAY_URL"
_FOLDER = "/etc/stoker"
_SPEC = f"{_FOLDER}/platform.yaml"
_WORK = "/var/lib/stoker"
_REPLICAS = 2
_UNHEARD_S = 5
"""For which the API goes on answering when it is to leave: until the gateways' nodes have heard of it."""
_API_LEAVES_S = 30

_WHY_API = """\
Two, for the loss of one: runs are in the database, and their steps in Redis. It serves nobody who comes without the \
signed word of the gateway about who calls.
/ready says whether database and Redis answer. It is not the readiness of this pod: an answer that says that they are \
away is better than none."""


def render(plan: Plan) -> Iterator[Item]:
    if not plan.has_agents:
        return
    digest = hashlib.sha256(platform_yaml(plan).encode()).hexdigest()
    file = "agents/agents.yaml"
    yield Resource(file, _deployment(plan, AGENTS, _api_pod(plan), digest, replicas=_REPLICAS), _WHY_API)
    yield Resource(file, _service(plan))
    yield Resource(file, _account(plan, AGENTS))
    yield Resource(file, worker_containers.disruption_budget(plan, AGENTS, COMPONENT))
    file = f"agents/{AGENT_WORKER}.yaml"
    replicas = None if scales_agents(plan.spec) else agent_workers(plan.spec)
    workers = _deployment(plan, AGENT_WORKER, _worker_pod(plan), digest, replicas=replicas)
    yield Resource(file, workers, _why_workers(plan, replicas))
    yield Resource(file, _account(plan, AGENT_WORKER))
    yield Resource(file, worker_containers.disruption_budget(plan, AGENT_WORKER, COMPONENT))


def gateway_env(plan: Plan) -> list[Object]:
    """What the gateway is told of agents."""
    url = f"http://{AGENTS}.{plan.namespace}.svc.cluster.local:{AGENTS_PORT}"
    return [from_secret(AGENTS_KEY, AGENTS_SECRET, "key"), {"name": AGENTS_URL, "value": url}]


def _why_workers(plan: Plan, replicas: int | None) -> str:
    lines = [
        f"A step may go on for {_grace_s(plan)} s after SIGTERM; then another worker takes it from its checkpoint.",
        "The files of a run (workspace) are in an emptyDir: they are gone with the pod.",
    ]
    if replicas is None:
        lines.append("How many replicas there are is KEDA's.")
    elif replicas == 1 and plan.pools and worker_containers.general_may_be_on_spot(plan):
        lines.append("stoker:ignore STK-DISRUPTION-020 one replica is what platform.yaml asks for")
    return "\n".join(lines)


def _deployment(plan: Plan, name: str, pod: Object, digest: str, *, replicas: int | None) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(plan, name, COMPONENT, namespace=plan.namespace),
        "spec": {
            **({} if replicas is None else {"replicas": replicas}),
            "revisionHistoryLimit": 3,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": selector(name)},
            "template": {
                "metadata": {
                    "labels": {**selector(name), **usual_labels(COMPONENT)},
                    # So that a changed platform.yaml starts new pods.
                    "annotations": {"stoker.dev/platform-sha256": digest},
                },
                "spec": pod,
            },
        },
    }


def _pod(plan: Plan, name: str, container: Object) -> Object:
    return {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": restricted_pod(),
        **plan.general_placement(),
        "topologySpreadConstraints": [
            _spread(name, key) for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
        "containers": [container],
    }


def _spread(name: str, key: str) -> Object:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(name)},
    }


def _container(plan: Plan, name: str, port: int) -> Object:
    """What both have."""
    return {
        "name": name,
        "image": plan.image("agents"),
        "workingDir": _FOLDER,
        "ports": [{"name": "http", "containerPort": port}],
        # The first one waits for PostgreSQL to let it in, and makes the tables.
        "startupProbe": {**_HEALTH, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**_HEALTH, "periodSeconds": 5, "failureThreshold": 2},
        "livenessProbe": {**_HEALTH, "periodSeconds": 10, "failureThreshold": 6},
        "securityContext": restricted_container(),
    }


_HEALTH: Object = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 5}
_SPEC_MOUNT: Object = {"name": "platform", "mountPath": _SPEC, "subPath": "platform.yaml", "readOnly": True}
_TMP_MOUNT: Object = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - an empty volume of the pod's own


def _api_pod(plan: Plan) -> Object:
    container = {
        **_container(plan, AGENTS, AGENTS_PORT),
        "command": ["python", "-m", "stoker.agents"],
        "args": ["--spec", _SPEC, "--host", "0.0.0.0", "--port", str(AGENTS_PORT)],  # noqa: S104 - of its pod
        "env": _env(plan),
        "lifecycle": {"preStop": {"sleep": {"seconds": _UNHEARD_S}}},
        "resources": resources("250m", "512Mi"),
        "volumeMounts": [_SPEC_MOUNT, _TMP_MOUNT],
    }
    return {
        **_pod(plan, AGENTS, container),
        "priorityClassName": PLATFORM_PRIORITY,
        "terminationGracePeriodSeconds": _UNHEARD_S + _API_LEAVES_S,
        "volumes": [worker_containers.SPEC_VOLUME, worker_containers.TMP_VOLUME],
    }


def _worker_pod(plan: Plan) -> Object:
    gateway = f"http://{GATEWAY}.{plan.namespace}.svc.cluster.local:{GATEWAY_PORT}"
    tools = [from_secret(variable, AGENT_TOOLS_SECRET, variable) for variable in tool_variables(plan)]
    arguments = {
        "--spec": _SPEC,
        "--name": "$(POD_NAME)",
        "--folder": _WORK,
        "--health-port": str(AGENT_WORKER_PORT),
        "--grace": str(_grace_s(plan)),
    }
    container = {
        **_container(plan, AGENT_WORKER, AGENT_WORKER_PORT),
        "command": ["python", "-m", "stoker.agents.worker"],
        "args": [part for pair in arguments.items() for part in pair],
        "env": [
            from_field("POD_NAME", "metadata.name"),
            *_env(plan),
            {"name": GATEWAY_URL, "value": gateway},
            *tools,
        ],
        "resources": resources("500m", "1Gi"),
        "volumeMounts": [_SPEC_MOUNT, {"name": "work", "mountPath": _WORK}, _TMP_MOUNT],
    }
    work = {"name": "work", "emptyDir": {"sizeLimit": "5Gi"}}
    return {
        **_pod(plan, AGENT_WORKER, container),
        "priorityClassName": SERVING_PRIORITY,
        "terminationGracePeriodSeconds": _grace_s(plan) + worker_containers.HAND_BACK_S,
        "volumes": [worker_containers.SPEC_VOLUME, work, worker_containers.TMP_VOLUME],
    }


def _grace_s(plan: Plan) -> int:
    """How long running steps go on after SIGTERM: as long as one may take, if the node is there so long."""
    return worker_containers.at_most(
        math.ceil(plan.spec.step_seconds), may_be_on_spot=worker_containers.general_may_be_on_spot(plan)
    )


def _env(plan: Plan) -> list[Object]:
    secret = from_secret(AGENTS_KEY, AGENTS_SECRET, "key")
    return [*redis_env(plan), *_store_env(plan), secret, *otlp_env(plan)]


def _store_env(plan: Plan) -> list[Object]:
    """STOKER_AGENTS_DB, after whatever it is made of. Raises InvalidInput for a file, which pods do not share."""
    url = plan.spec.agents.store.url
    if url is None:
        return ledger_env(plan, AGENTS_DB)
    if urlsplit(url).scheme == "sqlite":
        raise InvalidInput(
            f"agents.store.url is {url}, a file, and the pods of a cluster do not share one",
            param="agents.store.url",
            hint="write postgresql://USER@HOST/DATABASE, or leave agents.store.url out for the ledger's database",
        )
    if plan.spec.agents.store.password_env is None:
        return [{"name": AGENTS_DB, "value": url}]
    return with_password(AGENTS_DB, url, AGENTS_PASSWORD, AGENTS_STORE_SECRET)


def _service(plan: Plan) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(plan, AGENTS, COMPONENT, namespace=plan.namespace),
        "spec": {
            "selector": selector(AGENTS),
            "ports": [{"name": "http", "port": AGENTS_PORT, "targetPort": "http", "appProtocol": "http"}],
        },
    }


def _account(plan: Plan, name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(plan, name, COMPONENT, namespace=plan.namespace),
        "automountServiceAccountToken": False,
    }
