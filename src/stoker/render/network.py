"""NetworkPolicies: nothing is allowed in each namespace, and then what the platform does.

They hold where something enforces them: the VPC CNI with its network policy agent, Auto Mode's own, Calico, Cilium.
Peers that only AWS knows by address (load balancers, ElastiCache, RDS, servers elsewhere) are named by their port. What
the edge's own pods need stands in `edge`.
"""

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from urllib.parse import urlsplit

from stoker.catalog.labels import AUTO_MODE
from stoker.policy import callbacks
from stoker.render import iam, models_weights, redis, secrets
from stoker.render.facts import (
    AGENT_WORKER,
    AGENT_WORKER_PORT,
    AGENTS,
    AGENTS_PORT,
    ENGINE_PORT,
    GATEWAY,
    GATEWAY_PORT,
    LEDGER,
    LEDGER_PORT,
    MODEL,
    NODE_WATCHER,
    REDIS,
    REDIS_PORT,
    ROLE,
    TRAINER_METRICS_PORT,
    WORKER_METRICS_PORT,
)
from stoker.render.items import Item, Resource
from stoker.render.objects import Object, metadata, selector
from stoker.render.plan import Plan
from stoker.spec import ServerEngine

METADATA = "169.254.169.254/32"
"""Instance metadata: spot notices, and the credentials of the node, which no other pod is to have."""
POD_IDENTITY = "169.254.170.23/32"
"""Where pods get credentials of their own (EKS user guide, "EKS Pod Identity": the agent's link-local address)."""
KEDA_NAMESPACE = "keda"
_METADATA = IPv4Network(METADATA)
_NOT_PUBLIC = ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
"""Where pods, nodes and what AWS serves on a link are: none is called back unless a tenant lists it."""

_PODS_OF_MODELS: Object = {"matchExpressions": [{"key": MODEL, "operator": "Exists"}]}
_EVERYBODY: Object = {}


def render(plan: Plan) -> Iterator[Item]:
    for namespace in _namespaces(plan):
        file = f"network/{namespace}.yaml"
        deny = {"policyTypes": ["Ingress", "Egress"], "podSelector": _EVERYBODY}
        yield Resource(file, _object(plan, "default-deny", namespace, deny), "what is not allowed below is not allowed")
        yield Resource(file, _policy(plan, "allow-dns", namespace, _EVERYBODY, egress=[_dns(plan)]), _why_dns(plan))
    yield from _platform(plan)
    if plan.spec.training.enabled:
        yield Resource(f"network/{plan.training_namespace}.yaml", _training(plan), _WHY_TRAINING)
    if plan.spec.global_.observability.enabled:
        yield Resource(f"network/{plan.monitoring_namespace}.yaml", _monitoring(plan), _WHY_MONITORING)


_WHY_TRAINING = "ranks talk to each other on ports of their choice; data, weights and checkpoints come by HTTPS"
_WHY_AGENT_WORKERS = """\
To Redis, the database, the gateway, and by HTTPS to public addresses, for tools. Not to instance metadata, whatever a \
page or a tool may say. What a function of yours needs besides is a NetworkPolicy of yours: they add up."""
_WHY_NODE_WATCHER = "To the ledger, and by HTTPS to the API server, whose address no label tells, and to EC2's API."
_WHY_MONITORING = "exporters are read by Prometheus"
_WHY_MODELS = """\
Pods of models and workers. The metadata service is for spot notices (spot.watch); it also gives out the node's role, \
so that one should be allowed little."""


def _namespaces(plan: Plan) -> Iterator[str]:
    yield plan.namespace
    if plan.spec.training.enabled:
        yield plan.training_namespace
    if plan.spec.global_.observability.enabled:
        yield plan.monitoring_namespace


def _platform(plan: Plan) -> Iterator[Item]:
    file = f"network/{plan.namespace}.yaml"
    yield Resource(file, _gateway(plan), _why_gateway(plan))
    yield Resource(file, _node_watcher(plan), _WHY_NODE_WATCHER)
    if plan.served or plan.hosted:
        yield Resource(file, _models(plan), _WHY_MODELS)
    if plan.has_agents:
        yield Resource(file, _agents(plan), "the gateway alone says who calls, and it signs what it says")
        yield Resource(file, _agent_workers(plan), _WHY_AGENT_WORKERS)
    if models_weights.has_jobs(plan):
        yield Resource(file, _weights(plan), "Jobs that fetch weights from the hub, and put them into S3.")
    if plan.redis == "cluster":
        yield Resource(file, _redis(plan))
        if redis.replicas(plan):
            yield Resource(file, _redis_replicas(plan))
    if plan.ledger == "cluster":
        stores = [_pods(AGENTS), _pods(AGENT_WORKER)] if plan.has_agents and plan.agents_store == "ledger" else []
        asks = [_from([_pods(GATEWAY), _pods(NODE_WATCHER), *stores], LEDGER_PORT)]
        yield Resource(file, _policy(plan, LEDGER, plan.namespace, _pod_selector(LEDGER), ingress=asks))


# --- who may do what --------------------------------------------------------------------------------------------------


def _gateway(plan: Plan) -> Object:
    callers = [{"ports": [_port(GATEWAY_PORT)]}] if _is_open(plan) else [_from(_callers(plan), GATEWAY_PORT)]
    egress = [_to_redis(plan), _to_ledger(plan), *_to_hosted(plan), _to_the_world()]
    if plan.served:
        egress.append(_to([{"podSelector": _PODS_OF_MODELS}], ENGINE_PORT))
    if plan.has_agents:
        egress.append(_to([_pods(AGENTS)], AGENTS_PORT))
    if plan.spec.keda.scalers.sqs or iam.puts_metrics(plan) or plan.spec.costs.alerts.sns is not None:
        egress.append(_to_address(POD_IDENTITY, 80))
    if secrets.callback_variables(plan):
        egress.append(_to_receivers(plan))
    return _policy(plan, GATEWAY, plan.namespace, _pod_selector(GATEWAY), ingress=callers, egress=egress)


def _node_watcher(plan: Plan) -> Object:
    egress = [_to_ledger(plan), _to_the_world(), _to_address(POD_IDENTITY, 80)]
    return _policy(plan, NODE_WATCHER, plan.namespace, _pod_selector(NODE_WATCHER), egress=egress)


def _is_open(plan: Plan) -> bool:
    """Whether something outside of the cluster calls: the Ingress' load balancer, or that of the VPC link."""
    return plan.spec.edge.enabled or plan.spec.edge.websocket


def _why_gateway(plan: Plan) -> str:
    if _is_open(plan):
        return "from anywhere: a load balancer has no label and an address of the VPC; its security group says who"
    return "no edge: from the platform's own namespace and Prometheus"


def _callers(plan: Plan) -> list[Object]:
    return [{"podSelector": {}}, *watchers(plan)]


def _models(plan: Plan) -> Object:
    """Replicas and workers. Pods of one model talk to each other freely: a replica may span nodes, and vLLM takes what
    ports it finds."""
    ingress: list[Object] = []
    if plan.served:
        ingress.append(_from([_pods(GATEWAY), *watchers(plan)], ENGINE_PORT))
    if seen := watchers(plan):
        ingress.append(_from(seen, WORKER_METRICS_PORT))
    egress = [_to_redis(plan), *_to_hosted(plan), _to_the_world(), _to_address(POD_IDENTITY, 80)]
    if any(each.spans_nodes for each in plan.served):
        ingress.append({"from": [{"podSelector": _PODS_OF_MODELS}]})
        egress.append({"to": [{"podSelector": _PODS_OF_MODELS}]})
    if plan.spec.spot.watch is not False:
        egress.append(_to_address(METADATA, 80))
    return _policy(plan, "models", plan.namespace, _PODS_OF_MODELS, ingress=ingress, egress=egress)


def _agents(plan: Plan) -> Object:
    ingress = [_from([_pods(GATEWAY), *watchers(plan)], AGENTS_PORT)]
    egress = [_to_redis(plan), _to_agents_store(plan), *_to_collector(plan)]
    return _policy(plan, AGENTS, plan.namespace, _pod_selector(AGENTS), ingress=ingress, egress=egress)


def _agent_workers(plan: Plan) -> Object:
    seen = watchers(plan)
    egress = [_to_redis(plan), _to_agents_store(plan), _to([_pods(GATEWAY)], GATEWAY_PORT), *_to_tools(plan)]
    egress += _to_collector(plan)
    return _policy(
        plan,
        AGENT_WORKER,
        plan.namespace,
        _pod_selector(AGENT_WORKER),
        ingress=[_from(seen, AGENT_WORKER_PORT)] if seen else [],
        egress=egress,
    )


def _weights(plan: Plan) -> Object:
    fills: Object = {"matchLabels": {ROLE: models_weights.FILLS}}
    egress = [_to_the_world(), _to_address(POD_IDENTITY, 80)]
    return _policy(plan, "weights", plan.namespace, fills, egress=egress)


def _redis(plan: Plan) -> Object:
    asking: list[Object] = [_pods(GATEWAY)]
    if plan.served or plan.hosted:
        asking.append({"podSelector": _PODS_OF_MODELS})
    if plan.has_agents:
        asking += [_pods(AGENTS), _pods(AGENT_WORKER)]
    if redis.replicas(plan):
        asking.append(_pods(redis.REPLICA))
    if plan.spec.keda.enabled:
        asking.append(_in_namespace(KEDA_NAMESPACE))
    ingress = [_from(asking, REDIS_PORT)]
    if redis.has_exporter(plan):
        ingress.append(_from(watchers(plan), redis.METRICS_PORT))
    return _policy(plan, REDIS, plan.namespace, _pod_selector(REDIS), ingress=ingress)


def _redis_replicas(plan: Plan) -> Object:
    ingress = [_from(watchers(plan), redis.METRICS_PORT)] if redis.has_exporter(plan) else []
    egress = [_to([_pods(REDIS)], REDIS_PORT)]
    return _policy(plan, redis.REPLICA, plan.namespace, _pod_selector(redis.REPLICA), ingress=ingress, egress=egress)


def _training(plan: Plan) -> Object:
    each_other: Object = {"podSelector": {}}
    egress = [{"to": [each_other]}, _to_the_world(), _to_address(POD_IDENTITY, 80), _to_address(METADATA, 80)]
    ingress: list[Object] = [{"from": [each_other]}]
    if seen := watchers(plan):
        ingress.append(_from(seen, TRAINER_METRICS_PORT))
    return _policy(plan, "training", plan.training_namespace, _EVERYBODY, ingress=ingress, egress=egress)


def _monitoring(plan: Plan) -> Object:
    egress = [
        {"to": [{"podSelector": {}}, _in_namespace(plan.namespace)]},
        _to_the_world(),
        _to_address(POD_IDENTITY, 80),
    ]
    return _policy(
        plan,
        "monitoring",
        plan.monitoring_namespace,
        _EVERYBODY,
        ingress=[{"from": watchers(plan)}] if watchers(plan) else [],
        egress=egress,
    )


# --- where to ---------------------------------------------------------------------------------------------------------


def _to_redis(plan: Plan) -> Object:
    if plan.redis == "cluster":
        return _to([_pods(REDIS)], REDIS_PORT)
    return {"ports": [_port(_port_of(plan.spec.redis.url, REDIS_PORT))]}


def _to_ledger(plan: Plan) -> Object:
    if plan.ledger == "cluster":
        return _to([_pods(LEDGER)], LEDGER_PORT)
    return {"ports": [_port(_port_of(plan.spec.ledger.url, LEDGER_PORT))]}


def _to_agents_store(plan: Plan) -> Object:
    if plan.agents_store == "ledger":
        return _to_ledger(plan)
    return {"ports": [_port(_port_of(plan.spec.agents.store.url, LEDGER_PORT))]}


def _to_tools(plan: Plan) -> Iterator[Object]:
    """HTTPS to public addresses, and the ports that tools name. Private addresses only for those that are told to reach
    some: `fetch.allowPrivate`, and servers of MCP, which may be in the cluster. Which hosts, a worker checks itself."""
    public, anywhere = {443}, set()
    for tool in plan.spec.agents.tools.values():
        if tool.mcp is not None and tool.mcp.url is not None:
            anywhere.add(_http_port(tool.mcp.url))
        if tool.fetch is not None:
            ports = {int(port) for host in tool.fetch.hosts if (port := host.partition(":")[2])}
            ports |= {443, 80} if tool.fetch.allow_http else {443}
            (anywhere if tool.fetch.allow_private else public).update(ports)
    for ports, kept_out in ((public - anywhere, list(_NOT_PUBLIC)), (anywhere, [METADATA])):
        if ports:
            block = {"ipBlock": {"cidr": "0.0.0.0/0", "except": kept_out}}
            yield {"to": [block], "ports": [_port(port) for port in sorted(ports)]}


def _to_hosted(plan: Plan) -> list[Object]:
    """Ports of servers elsewhere, and of the collector, that are not everybody's 443, wherever they are."""
    urls = [model.engine.url for model in plan.spec.llm.models.values() if isinstance(model.engine, ServerEngine)]
    if (collector := plan.spec.global_.observability.otlp.endpoint) is not None:
        urls.append(collector)
    ports = {_http_port(url) for url in urls}
    return [{"ports": [_port(port)]} for port in sorted(ports - {443})]


def _to_collector(plan: Plan) -> list[Object]:
    """The port of `global.observability.otlp`, wherever it is, for those who do not reach the world."""
    endpoint = plan.spec.global_.observability.otlp.endpoint
    if endpoint is None:
        return []
    port = _http_port(endpoint)
    return [_to_the_world() if port == 443 else {"ports": [_port(port)]}]


def _to_the_world() -> Object:
    """HTTPS: APIs of AWS, weights, servers elsewhere."""
    return {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [METADATA]}}], "ports": [_port(443)]}


def _to_receivers(plan: Plan) -> Object:
    """Of callbacks and alerts, which may be on any port (policy/callbacks.py): public addresses, and those that tenants
    and `costs.alerts` list. What a name leads to the gateway checks itself, at each call."""
    webhook = plan.spec.costs.alerts.webhook
    said = [entry for tenant in plan.spec.tenants.values() for entry in tenant.callback_hosts]
    said += [] if webhook is None else webhook.networks
    listed = {network for entry in said if (network := callbacks.network_of(entry)) is not None}
    blocks = [{"cidr": "0.0.0.0/0", "except": list(_NOT_PUBLIC)}, *(_block(each) for each in sorted(listed, key=str))]
    return {"to": [{"ipBlock": each} for each in blocks], "ports": [{**_port(1), "endPort": 65535}]}


def _block(network: IPv4Network | IPv6Network) -> Object:
    """Without the metadata service, unless it is just that which is listed."""
    holds_more = isinstance(network, IPv4Network) and network != _METADATA and _METADATA.subnet_of(network)
    return {"cidr": str(network), **({"except": [METADATA]} if holds_more else {})}


def _dns(plan: Plan) -> Object:
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    if plan.domain("general") == AUTO_MODE:
        return {"ports": ports}
    peer = {**_in_namespace("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    return {"to": [peer], "ports": ports}


def _why_dns(plan: Plan) -> str:
    return "Auto Mode answers names on each node, not in pods" if plan.domain("general") == AUTO_MODE else ""


def watchers(plan: Plan) -> list[Object]:
    """Those who read metrics: the namespace of our monitoring, and that of the Prometheus that the spec names."""
    seen = plan.spec.global_.observability
    if not seen.enabled:
        return []
    host = (urlsplit(seen.prometheus_url).hostname or "").split(".")
    # SERVICE.NAMESPACE, SERVICE.NAMESPACE.svc and longer; a name of the internet says nothing about a namespace.
    inside = len(host) == 2 or (len(host) > 2 and host[2] == "svc")
    names = {plan.monitoring_namespace, *([host[1]] if inside and seen.prometheus else [])}
    return [_in_namespace(name) for name in sorted(names)]


# --- parts ------------------------------------------------------------------------------------------------------------


def _port_of(url: str | None, usual: int) -> int:
    return (urlsplit(url).port if url else None) or usual


def _http_port(url: str) -> int:
    return _port_of(url, 443 if url.startswith("https:") else 80)


def _pod_selector(name: str) -> Object:
    return {"matchLabels": selector(name)}


def _pods(name: str) -> Object:
    return {"podSelector": _pod_selector(name)}


def _in_namespace(name: str) -> Object:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _port(number: int) -> Object:
    return {"protocol": "TCP", "port": number}


def _from(peers: list[Object], port: int) -> Object:
    return {"from": peers, "ports": [_port(port)]}


def _to(peers: list[Object], port: int) -> Object:
    return {"to": peers, "ports": [_port(port)]}


def _to_address(cidr: str, port: int) -> Object:
    return _to([{"ipBlock": {"cidr": cidr}}], port)


def _policy(
    plan: Plan,
    name: str,
    namespace: str,
    pods: Object,
    *,
    ingress: list[Object] | None = None,
    egress: list[Object] | None = None,
) -> Object:
    """`default-deny` has taken everything, so a direction without rules needs none."""
    allowed = {kind: rules for kind, rules in (("ingress", ingress), ("egress", egress)) if rules}
    kinds = [kind.capitalize() for kind in allowed]
    return _object(plan, name, namespace, {"podSelector": pods, "policyTypes": kinds, **allowed})


def _object(plan: Plan, name: str, namespace: str, spec: Object) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(plan, name, "network", namespace=namespace),
        "spec": spec,
    }
