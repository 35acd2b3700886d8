"""The watcher of nodes and pods, which writes their lives into the ledger: `python -m stoker.nodes`."""

from collections.abc import Iterator

from stoker.render.base import PLATFORM_PRIORITY
from stoker.render.facts import NODE_WATCHER
from stoker.render.items import Item, Resource
from stoker.render.ledger import ledger_env
from stoker.render.objects import Object, metadata, resources, restricted_container, restricted_pod, selector
from stoker.render.plan import Plan

COMPONENT = "node-watcher"
_FILE = "node-watcher/node-watcher.yaml"
_BY_HAND = "argocd/node-watcher.yaml"
_RBAC = "rbac.authorization.k8s.io"
_RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("", ("nodes", "pods", "events")),
    ("karpenter.sh", ("nodeclaims",)),
    ("karpenter.k8s.aws", ("ec2nodeclasses",)),
    ("eks.amazonaws.com", ("nodeclasses",)),
)

_WHY = """\
What machines cost, for whom, and how they started (docs/telemetry/starts.md). One, and none beside it while it is \
replaced: all it knows is in the ledger, and what it did not see meanwhile it reads from the times that objects have. \
Without it nothing stops but the report of costs. It has the gateway's image."""

_WHY_BY_HAND = """\
Applied with the project, and not delivered: who pushes to the repository is to give nobody rights in the cluster. \
Until it is there, the watcher says that it may not list nodes."""


def render(plan: Plan) -> Iterator[Item]:
    yield Resource(_FILE, _deployment(plan), _WHY)
    yield Resource(_FILE, _account(plan))
    file, why = _FILE, "It reads, and changes nothing."
    if plan.spec.composition.argocd.enabled:
        file, why = _BY_HAND, f"{why}\n{_WHY_BY_HAND}"
    yield Resource(file, _role(plan), why)
    yield Resource(file, _binding(plan))


def _deployment(plan: Plan) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(plan, NODE_WATCHER, COMPONENT, namespace=plan.namespace),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": selector(NODE_WATCHER)},
            "strategy": {"type": "Recreate"},
            "template": {
                "metadata": {"labels": metadata(plan, NODE_WATCHER, COMPONENT)["labels"]},
                "spec": {
                    "serviceAccountName": NODE_WATCHER,
                    "automountServiceAccountToken": True,
                    "priorityClassName": PLATFORM_PRIORITY,
                    "terminationGracePeriodSeconds": 30,
                    "securityContext": restricted_pod(),
                    **plan.general_placement(stateful=False),
                    "containers": [_container(plan)],
                    "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
                },
            },
        },
    }


def _container(plan: Plan) -> Object:
    namespaces = [plan.namespace, *([plan.training_namespace] if plan.spec.training.enabled else [])]
    return {
        "name": "watcher",
        "image": plan.image("gateway"),
        "command": ["python", "-m", "stoker.nodes"],
        "args": [word for name in namespaces for word in ("--namespace", name)],
        "env": ledger_env(plan),
        "resources": resources("50m", "256Mi"),
        "securityContext": restricted_container(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - of the container
    }


def _account(plan: Plan) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(plan, NODE_WATCHER, COMPONENT, namespace=plan.namespace),
        "automountServiceAccountToken": False,
    }


def _name(plan: Plan) -> str:
    """What is in no namespace says whose it is."""
    return f"{plan.namespace}-{NODE_WATCHER}"


def _role(plan: Plan) -> Object:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": metadata(plan, _name(plan), COMPONENT),
        "rules": [
            {"apiGroups": [group], "resources": list(kinds), "verbs": ["get", "list"]} for group, kinds in _RULES
        ],
    }


def _binding(plan: Plan) -> Object:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": metadata(plan, _name(plan), COMPONENT),
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": _name(plan)},
        "subjects": [{"kind": "ServiceAccount", "name": NODE_WATCHER, "namespace": plan.namespace}],
    }
