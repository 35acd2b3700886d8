"""The Gateway API beside the Ingress: a Gateway within the cluster, a route to Stoker's gateway, and for each model on
GPUs an InferencePool whose endpoint picker chooses the replica by its queue and its caches.

What goes to a pool goes past Stoker's gateway: no budgets, no queue, no usage. It is for callers of the cluster that
hold the engines' key, and each model's path says that it is another way: /models/NAME/v1/...
"""

from collections.abc import Iterator
from typing import Any

from stoker.render.facts import (
    EDGE,
    ENGINE_PORT,
    GATEWAY,
    GATEWAY_PORT,
    MODEL,
    ROLE,
    Served,
    short,
)
from stoker.render.items import Item, Resource
from stoker.render.objects import (
    from_field,
    metadata,
    resources,
    restricted_container,
    restricted_pod,
    selector,
    usual_labels,
)
from stoker.render.plan import Plan

_GATEWAYS = "gateway.networking.k8s.io/v1"
_POOLS = "inference.networking.k8s.io"
_OBJECTIVES = "inference.networking.x-k8s.io"
_OF_GATEWAY = {"gateway.networking.k8s.io/gateway-name": EDGE}
"""On the pods that a controller makes for the Gateway. Source: Gateway API, GEP-1762 (in-cluster deployments)."""
_IMAGE = "registry.k8s.io/gateway-api-inference-extension/epp:v1.4.0"
"""The inference extension's own picker. v1.5.0, its last, fails to read a vLLM that serves no LoRA adapters
(llm-d-router issue 926); since then it is llm-d's router. Source: README of kubernetes-sigs' extension."""
_PORT, _HEALTH_PORT, _METRICS_PORT = 9002, 9003, 9090
_CONFIG = "picker.yaml"
_PLUGINS = """\
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
    weight: 2
  - pluginRef: kv-cache-utilization-scorer
    weight: 2
  - pluginRef: prefix-cache-scorer
    weight: 3
"""
"""Scorers and weights that the extension's chart has, too; the metrics that they read are vLLM's."""
_PROXY = "The proxy that the controller runs for the Gateway: it makes the pods, and gives them this label."
_SPARE_S, _LONGEST_S = 30, 99_999


def render(plan: Plan) -> Iterator[Item]:
    yield Resource("edge/gateway.yaml", _gateway(plan), _why_http(plan))
    yield Resource("edge/route.yaml", _route(plan))
    yield Resource("edge/gateway-network.yaml", _proxy_policy(plan), _PROXY)
    for served in plan.served:
        if served.is_on_gpu:
            yield from _for_model(plan, served)


def _why_http(plan: Plan) -> str:
    lines = ["HTTP within the cluster; the Ingress has the certificate, which is in ACM and not in a Secret."]
    if plan.spec.edge.gateway_api.class_name == "kgateway":
        lines.append("kgateway's own proxy knows no InferencePool since 2.2: its class for them is agentgateway.")
    return "\n".join(lines)


def _gateway(plan: Plan) -> dict[str, Any]:
    """Most controllers make a Service of type LoadBalancer for it: the annotations keep that one internal."""
    internal = {
        "service.beta.kubernetes.io/aws-load-balancer-scheme": "internal",
        "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type": "ip",
    }
    listener: dict[str, Any] = {
        "name": "http",
        "port": 80,
        "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": "Same"}},
    }
    return {
        "apiVersion": _GATEWAYS,
        "kind": "Gateway",
        "metadata": metadata(plan, EDGE, EDGE, namespace=plan.namespace),
        "spec": {
            "gatewayClassName": plan.spec.edge.gateway_api.class_name,
            "infrastructure": {"annotations": internal},
            "listeners": [listener],
        },
    }


def _route(plan: Plan) -> dict[str, Any]:
    """Proxies end a request after 15 s where a route says nothing. A WebSocket is never ended for its age."""
    to_gateway = [{"name": GATEWAY, "port": GATEWAY_PORT}]
    return _http_route(
        plan,
        GATEWAY,
        [
            {"matches": [_under("/v1/ws")], "timeouts": {"request": "0s"}, "backendRefs": to_gateway},
            {"matches": [_under("/v1")], "timeouts": {"request": _longest(plan)}, "backendRefs": to_gateway},
        ],
    )


def _model_route(plan: Plan, served: Served) -> dict[str, Any]:
    """The engine knows /v1 and not the prefix, which is taken off."""
    without_prefix = {"type": "URLRewrite", "urlRewrite": {"path": _prefix_replaced("/")}}
    rule = {
        "matches": [_under(f"/models/{served.name}")],
        "filters": [without_prefix],
        "timeouts": {"request": _longest(plan)},
        "backendRefs": [{"group": _POOLS, "kind": "InferencePool", "name": served.workload}],
    }
    return _http_route(plan, served.workload, [rule])


def _http_route(plan: Plan, name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": _GATEWAYS,
        "kind": "HTTPRoute",
        "metadata": metadata(plan, name, EDGE, namespace=plan.namespace),
        "spec": {"parentRefs": [{"name": EDGE}], "rules": rules},
    }


def _under(path: str) -> dict[str, Any]:
    return {"path": {"type": "PathPrefix", "value": path}}


def _prefix_replaced(by: str) -> dict[str, str]:
    return {"type": "ReplacePrefixMatch", "replacePrefixMatch": by}


def _longest(plan: Plan) -> str:
    return f"{min(plan.drain_s + _SPARE_S, _LONGEST_S)}s"


def _for_model(plan: Plan, served: Served) -> Iterator[Item]:
    file = f"edge/{served.workload}.yaml"
    picker = _picker_name(served)
    yield Resource(file, _pool(plan, served, picker), "Where the picker is away, any replica is taken.")
    yield Resource(file, _objective(plan, served), _objective_comment(served))
    yield Resource(file, _model_route(plan, served))
    file = f"edge/{picker}.yaml"
    yield Resource(file, _account(plan, picker))
    yield from (Resource(file, each) for each in _rights(plan, picker))
    yield Resource(file, _config(plan, picker))
    yield Resource(file, _picker(plan, served, picker))
    yield Resource(file, _service(plan, picker))
    yield Resource(file, _budget(plan, picker))
    yield from (Resource(file, each) for each in _policies(plan, served, picker))


def _picker_name(served: Served) -> str:
    """Beginning with what no model's objects begin with: `model-NAME-picker` may be a model's own."""
    return f"picker-{served.name}"


def _replicas_of(served: Served) -> dict[str, str]:
    """The pods that listen: of a replica that spans nodes only the first."""
    leader = {ROLE: "leader"} if served.spans_nodes else {}
    return {MODEL: served.name, **leader}


def _pool(plan: Plan, served: Served, picker: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{_POOLS}/v1",
        "kind": "InferencePool",
        "metadata": metadata(plan, served.workload, EDGE, namespace=plan.namespace),
        "spec": {
            "selector": {"matchLabels": _replicas_of(served)},
            "targetPorts": [{"number": ENGINE_PORT}],
            "endpointPickerRef": {"name": picker, "port": {"number": _PORT}, "failureMode": "FailOpen"},
        },
    }


def _objective_comment(served: Served) -> str:
    return (
        f"A request with the header x-gateway-inference-objective: {_objective_name(served)} is the first to be "
        "refused when every replica is full; one without has priority 0."
    )


def _objective_name(served: Served) -> str:
    return short(served.workload, "batch")


def _objective(plan: Plan, served: Served) -> dict[str, Any]:
    return {
        "apiVersion": f"{_OBJECTIVES}/v1alpha2",
        "kind": "InferenceObjective",
        "metadata": metadata(plan, _objective_name(served), EDGE, namespace=plan.namespace),
        "spec": {"priority": -10, "poolRef": {"name": served.workload}},
    }


def _account(plan: Plan, picker: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(plan, picker, EDGE, namespace=plan.namespace),
        "automountServiceAccountToken": False,
    }


def _rights(plan: Plan, picker: str) -> Iterator[dict[str, Any]]:
    """What it watches, in this namespace. Source: the extension's chart `inferencepool`, templates/rbac.yaml."""
    watched = [
        ("", ["pods"]),
        (_POOLS, ["inferencepools"]),
        (_OBJECTIVES, ["inferenceobjectives", "inferencemodelrewrites"]),
    ]
    named = metadata(plan, picker, EDGE, namespace=plan.namespace)
    api = "rbac.authorization.k8s.io"
    yield {
        "apiVersion": f"{api}/v1",
        "kind": "Role",
        "metadata": named,
        "rules": [
            {"apiGroups": [group], "resources": kinds, "verbs": ["get", "list", "watch"]} for group, kinds in watched
        ],
    }
    yield {
        "apiVersion": f"{api}/v1",
        "kind": "RoleBinding",
        "metadata": named,
        "roleRef": {"apiGroup": api, "kind": "Role", "name": picker},
        "subjects": [{"kind": "ServiceAccount", "name": picker, "namespace": plan.namespace}],
    }


def _config(plan: Plan, picker: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(plan, picker, EDGE, namespace=plan.namespace),
        "data": {_CONFIG: _PLUGINS},
    }


def _picker(plan: Plan, served: Served, picker: str) -> dict[str, Any]:
    """Two that both pick: what each has learnt about prefixes is its own, so a prefix may be cached twice, and the loss
    of a node stops nothing. Its own election of a leader would leave one never ready, which blocks every drain."""
    pod = {
        "serviceAccountName": picker,
        "automountServiceAccountToken": True,  # it watches pods and pools
        "terminationGracePeriodSeconds": 60,
        "securityContext": restricted_pod(65532),
        **plan.general_placement(),
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(picker)},
            }
        ],
        "containers": [_container(plan, served)],
        "volumes": [{"name": "config", "configMap": {"name": picker}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(plan, picker, EDGE, namespace=plan.namespace),
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": selector(picker)},
            "template": {
                "metadata": {"labels": {**selector(picker), **usual_labels(EDGE)}},
                "spec": pod,
            },
        },
    }


def _container(plan: Plan, served: Served) -> dict[str, Any]:
    """Source: the extension v1.4.0, cmd/epp/runner/options.go (flags, ports) and health.go (with no election, every
    service of the health check says whether the pool is known)."""
    asked = {"grpc": {"port": _HEALTH_PORT}}
    return {
        "name": "picker",
        "image": _IMAGE,
        "args": [
            f"--pool-name={served.workload}",
            f"--pool-namespace={plan.namespace}",
            f"--pool-group={_POOLS}",
            f"--config-file=/config/{_CONFIG}",
            f"--grpc-port={_PORT}",
            f"--grpc-health-port={_HEALTH_PORT}",
            # Nothing scrapes it: it asks for a token and has no role to review one by, and policies let nobody in.
            f"--metrics-port={_METRICS_PORT}",
            "--enable-pprof=false",
            "--tracing=false",
            "--zap-encoder=json",
        ],
        "env": [from_field("NAMESPACE", "metadata.namespace"), from_field("POD_NAME", "metadata.name")],
        "ports": [
            {"name": "grpc", "containerPort": _PORT},
            {"name": "grpc-health", "containerPort": _HEALTH_PORT},
        ],
        "startupProbe": {**asked, "periodSeconds": 2, "failureThreshold": 30},
        "readinessProbe": {**asked, "periodSeconds": 2},
        "livenessProbe": {**asked, "periodSeconds": 10},
        "resources": resources("500m", "1Gi"),
        "securityContext": restricted_container(),
        "volumeMounts": [{"name": "config", "mountPath": "/config", "readOnly": True}],
    }


def _service(plan: Plan, picker: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(plan, picker, EDGE, namespace=plan.namespace),
        "spec": {
            "selector": selector(picker),
            "ports": [{"name": "grpc", "port": _PORT, "targetPort": "grpc"}],
        },
    }


def _budget(plan: Plan, picker: str) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(plan, picker, EDGE, namespace=plan.namespace),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(picker)},
        },
    }


def _proxy_policy(plan: Plan) -> dict[str, Any]:
    """From anywhere: a load balancer has an address and no label, callers are in any namespace, and on which port its
    pods listen is the controller's to choose. It gets its configuration from the controller, wherever that is."""
    return _policy(
        plan,
        EDGE,
        _OF_GATEWAY,
        {
            "ingress": [{}],
            "egress": [{}],
        },
    )


def _policies(plan: Plan, served: Served, picker: str) -> Iterator[dict[str, Any]]:
    """From the proxy to the picker and the replicas; from the picker to the replicas' metrics and the API server."""
    proxy = {"podSelector": {"matchLabels": _OF_GATEWAY}}
    replicas = {"podSelector": {"matchLabels": _replicas_of(served)}}
    own = {"podSelector": {"matchLabels": selector(picker)}}
    api_server = {"ports": [{"port": 443}]}
    names = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}]}
    yield _policy(
        plan,
        picker,
        selector(picker),
        {
            "ingress": [{"from": [proxy], "ports": [{"port": _PORT}]}],
            "egress": [{"to": [replicas], "ports": [{"port": ENGINE_PORT}]}, api_server, names],
        },
    )
    yield _policy(
        plan,
        short(served.workload, "from-gateway"),
        _replicas_of(served),
        {"ingress": [{"from": [proxy, own], "ports": [{"port": ENGINE_PORT}]}]},
    )


def _policy(plan: Plan, name: str, pods: dict[str, str], allowed: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(plan, name, EDGE, namespace=plan.namespace),
        "spec": {
            "podSelector": {"matchLabels": pods},
            "policyTypes": [kind.capitalize() for kind in allowed],
            **allowed,
        },
    }
