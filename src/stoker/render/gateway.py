"""The gateway: platform.yaml in its ConfigMap, the pods that read it, and how many there are.

With `composition.canary` an Argo Rollout takes the Deployment's place (`canary`).
"""

import hashlib
from collections.abc import Iterator

from stoker.base.errors import InvalidInput
from stoker.base.process import CLOUDWATCH_ENV, ENGINE_KEY
from stoker.render import canary, iam, secrets
from stoker.render.agents import gateway_env
from stoker.render.base import PLATFORM_PRIORITY, disruption_budget
from stoker.render.cluster_spec import platform_yaml
from stoker.render.connections import redis_env
from stoker.render.facts import (
    ENGINE_SECRET,
    GATEWAY,
    GATEWAY_PORT,
    PLATFORM_CONFIG,
    UNHEARD_S,
    WRITING_DOWN_S,
)
from stoker.render.items import Item, Resource
from stoker.render.ledger import ledger_env
from stoker.render.objects import (
    Object,
    from_secret,
    metadata,
    resources,
    restricted_container,
    restricted_pod,
    selector,
)
from stoker.render.otlp import otlp_env
from stoker.render.plan import Plan

_FILE = "gateway/gateway.yaml"
_SPEC = "/etc/stoker/platform.yaml"
_STATE = "/var/lib/stoker"
_LEAST, _MOST, _CPU_PERCENT = 2, 10, 70
_WHY = """\
/ready says whether each model has a replica. It is not the readiness of this pod: a model whose nodes are still \
starting would take all gateways out of service, and with them the queue in which its requests wait. So a pod is ready \
when it answers.
Its journal of what is in flight is in an emptyDir: it outlives the process and a restart of the container, which read \
it. When the pod itself is gone, what it had set aside counts as spent (docs/budgets.md); a volume for each pod would \
keep it, and tie each to a zone and a number.
The environment is that of the pod's start: after a change of a Secret, restart it."""

_WHY_CPU = "by CPU, for it only passes on: models are scaled by their queues"


def render(plan: Plan) -> Iterator[Item]:
    text = platform_yaml(plan)
    yield Resource("gateway/config.yaml", _config(plan, text), "platform.yaml as the processes in the cluster read it")
    template = _template(plan, text)
    if plan.spec.composition.canary:
        yield Resource(_FILE, canary.rollout(plan, template), f"{_WHY}\n{canary.WHY}")
        yield from canary.analysis(plan)
    else:
        yield Resource(_FILE, _deployment(plan, template), _WHY)
    yield Resource(_FILE, _service(plan))
    yield Resource(_FILE, _account(plan))
    yield Resource(_FILE, disruption_budget(plan, GATEWAY, "gateway"))
    yield Resource(_FILE, _scaler(plan), _WHY_CPU)


def _config(plan: Plan, text: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(plan, PLATFORM_CONFIG, "gateway", namespace=plan.namespace),
        "data": {"platform.yaml": text},
    }


def _deployment(plan: Plan, template: Object) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(plan, GATEWAY, "gateway", namespace=plan.namespace),
        "spec": {
            "selector": {"matchLabels": selector(GATEWAY)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": template,
        },
    }


def _template(plan: Plan, text: str) -> Object:
    return {
        "metadata": {
            "labels": metadata(plan, GATEWAY, "gateway")["labels"],
            # So that a changed platform.yaml starts new pods.
            "annotations": {"stoker.dev/platform-sha256": hashlib.sha256(text.encode()).hexdigest()},
        },
        "spec": _pod(plan),
    }


def _pod(plan: Plan) -> Object:
    return {
        "serviceAccountName": GATEWAY,
        "automountServiceAccountToken": False,
        "priorityClassName": PLATFORM_PRIORITY,
        "terminationGracePeriodSeconds": UNHEARD_S + plan.drain_s + WRITING_DOWN_S,
        "securityContext": restricted_pod(),
        **plan.general_placement(stateful=True),  # it drains for longer than a spot notice
        "topologySpreadConstraints": [
            _spread(key) for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
        "containers": [_container(plan)],
        "volumes": [
            {"name": "platform", "configMap": {"name": PLATFORM_CONFIG}},
            {"name": "state", "emptyDir": {"sizeLimit": "1Gi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        ],
    }


def _spread(key: str) -> Object:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(GATEWAY)},
    }


def _container(plan: Plan) -> Object:
    health = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 5}
    return {
        "name": "gateway",
        "image": plan.image("gateway"),
        "command": ["python", "-m", "stoker.gateway"],
        "args": [
            *("--spec", _SPEC, "--host", "0.0.0.0", "--port", str(GATEWAY_PORT)),  # noqa: S104 - of its pod
            *("--journals", f"{_STATE}/journals", "--grace", str(plan.drain_s)),
        ],
        "env": _env(plan),
        "ports": [{"name": "http", "containerPort": GATEWAY_PORT}],
        # It answers when PostgreSQL has let it in; on a first start that one may still be pulling its image.
        "startupProbe": {**health, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**health, "periodSeconds": 5, "failureThreshold": 2},
        "livenessProbe": {**health, "periodSeconds": 10, "failureThreshold": 6},
        "lifecycle": {"preStop": {"sleep": {"seconds": UNHEARD_S}}},
        "resources": resources("1", "1Gi"),
        "securityContext": restricted_container(),
        "volumeMounts": [
            {"name": "platform", "mountPath": "/etc/stoker", "readOnly": True},
            {"name": "state", "mountPath": _STATE},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of the container
        ],
    }


def _env(plan: Plan) -> list[Object]:
    """Raises InvalidInput for a variable that would have two values."""
    found = [
        *redis_env(plan),
        *ledger_env(plan),
        *otlp_env(plan),
        from_secret(ENGINE_KEY, ENGINE_SECRET, "key"),
        from_secret("STOKER_ADMIN_KEY", secrets.ADMIN_SECRET, "key"),
        *(from_secret(variable, secret, "key") for variable, secret in secrets.hosted_keys(plan).items()),
        *(gateway_env(plan) if plan.has_agents else ()),
        *([{"name": CLOUDWATCH_ENV, "value": "on"}] if iam.puts_metrics(plan) else ()),
    ]
    taken = {each["name"] for each in found}
    for name, tenant in plan.spec.tenants.items():
        if tenant.callback_secret_env in taken:
            raise InvalidInput(
                f"{tenant.callback_secret_env} is the gateway's own already, for another purpose",
                param=f"tenants.{name}.callbackSecretEnv",
                hint="name another variable, such as CALLBACK_SECRET",
            )
    webhook = plan.spec.costs.alerts.webhook
    if webhook is not None and webhook.secret_env in taken:
        raise InvalidInput(
            f"{webhook.secret_env} is the gateway's own already, for another purpose",
            param="costs.alerts.webhook.secretEnv",
            hint="name another variable, such as ALERTS_SECRET",
        )
    signs = secrets.callback_variables(plan)
    return [*found, *(from_secret(variable, secrets.CALLBACKS_SECRET, variable) for variable in signs)]


def _service(plan: Plan) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(plan, GATEWAY, "gateway", namespace=plan.namespace),
        "spec": {
            "selector": selector(GATEWAY),
            "ports": [{"name": "http", "port": GATEWAY_PORT, "targetPort": "http", "appProtocol": "http"}],
        },
    }


def _account(plan: Plan) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(plan, GATEWAY, "gateway", namespace=plan.namespace),
        "automountServiceAccountToken": False,
    }


def _scaler(plan: Plan) -> Object:
    target = canary.REFERENCE if plan.spec.composition.canary else {"apiVersion": "apps/v1", "kind": "Deployment"}
    utilization = {"type": "Utilization", "averageUtilization": _CPU_PERCENT}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(plan, GATEWAY, "gateway", namespace=plan.namespace),
        "spec": {
            "scaleTargetRef": {**target, "name": GATEWAY},
            "minReplicas": _LEAST,
            "maxReplicas": _MOST,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": utilization}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
        },
    }
