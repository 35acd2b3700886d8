"""Who reaches whom: policies as something that enforces them would judge."""

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from deployed_parts import objects
from rendered import Object, plan_of

from stoker.render import network
from stoker.render.items import Resource
from stoker.spec import Mode

AI, MONITORING, TRAINING = "agentic-ai", "agentic-ai-monitoring", "agentic-ai-training"
METADATA, POD_IDENTITY, SOMEWHERE = "169.254.169.254", "169.254.170.23", "203.0.113.7"


@dataclass(frozen=True)
class Pod:
    namespace: str
    labels: dict[str, str] = field(default_factory=dict)


GATEWAY = Pod(AI, {"app.kubernetes.io/name": "gateway"})
REDIS = Pod(AI, {"app.kubernetes.io/name": "redis"})
COPY = Pod(AI, {"app.kubernetes.io/name": "redis-replica"})
LEDGER = Pod(AI, {"app.kubernetes.io/name": "ledger"})
MODEL = Pod(AI, {"app.kubernetes.io/name": "model-general", "stoker.dev/model": "general"})
ANOTHER = Pod(AI, {"app.kubernetes.io/name": "another"})
KEDA, PROMETHEUS, ELSEWHERE = Pod("keda"), Pod("monitoring"), Pod("default")
OUR_EXPORTER, RANK = Pod(MONITORING), Pod(TRAINING)
DNS = Pod("kube-system", {"k8s-app": "kube-dns"})


class Network:
    def __init__(self, text: str = "", mode: Mode = "karpenter") -> None:
        items = network.render(plan_of(text, mode))
        self.policies: list[Object] = [item.object for item in items if isinstance(item, Resource)]

    def lets(self, source: Pod | str, target: Pod | str, port: int) -> bool:
        """Both ends have to allow it. Text is the address of something that is no pod."""
        leaves = isinstance(source, str) or self._allowed(source, "egress", target, port)
        return leaves and (isinstance(target, str) or self._allowed(target, "ingress", source, port))

    def _allowed(self, pod: Pod, way: str, peer: Pod | str, port: int) -> bool:
        about = [
            each["spec"]
            for each in self.policies
            if each["metadata"]["namespace"] == pod.namespace
            and way.capitalize() in each["spec"]["policyTypes"]
            and _selects(each["spec"]["podSelector"], pod.labels)
        ]
        return not about or any(
            _rule(rule, way, pod.namespace, peer, port) for each in about for rule in each.get(way, [])
        )


def _rule(rule: Object, way: str, namespace: str, peer: Pod | str, port: int) -> bool:
    if "ports" in rule and not any(each["port"] <= port <= each.get("endPort", each["port"]) for each in rule["ports"]):
        return False
    peers = rule.get("from" if way == "ingress" else "to")
    return peers is None or any(_peer(each, namespace, peer) for each in peers)


def _peer(said: Object, namespace: str, peer: Pod | str) -> bool:
    if isinstance(peer, str):
        block = said.get("ipBlock")
        if block is None:
            return False
        inside = ip_address(peer) in ip_network(block["cidr"])
        return inside and not any(ip_address(peer) in ip_network(each) for each in block.get("except", []))
    if "ipBlock" in said:
        return False  # addresses of pods are not counted on
    if "namespaceSelector" in said:
        if not _selects(said["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace}):
            return False
    elif peer.namespace != namespace:
        return False
    return _selects(said.get("podSelector", {}), peer.labels)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    same = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return same and all(each["key"] in labels for each in selector.get("matchExpressions", []))


@pytest.mark.parametrize(
    ("source", "target", "port", "is_let"),
    [
        (GATEWAY, REDIS, 6379, True),
        (GATEWAY, LEDGER, 5432, True),
        (GATEWAY, MODEL, 8000, True),
        (GATEWAY, SOMEWHERE, 443, True),  # hosted servers, webhooks
        (GATEWAY, METADATA, 80, False),
        (GATEWAY, METADATA, 443, False),
        (GATEWAY, SOMEWHERE, 25, False),
        (MODEL, REDIS, 6379, True),
        (MODEL, LEDGER, 5432, False),
        (MODEL, GATEWAY, 5432, False),
        (MODEL, SOMEWHERE, 443, True),  # weights
        (MODEL, METADATA, 80, True),  # spot notices
        (MODEL, POD_IDENTITY, 80, True),  # S3
        (COPY, REDIS, 6379, True),
        (KEDA, REDIS, 6379, True),
        (KEDA, LEDGER, 5432, False),
        (ELSEWHERE, REDIS, 6379, False),
        (ANOTHER, REDIS, 6379, False),
        (ANOTHER, LEDGER, 5432, False),
        (ELSEWHERE, MODEL, 8000, False),
        (ANOTHER, MODEL, 8000, False),
        (SOMEWHERE, GATEWAY, 8080, True),  # the load balancer
        (SOMEWHERE, MODEL, 8000, False),
        (SOMEWHERE, REDIS, 6379, False),
        (PROMETHEUS, REDIS, 9121, True),
        (PROMETHEUS, COPY, 9121, True),
        (PROMETHEUS, REDIS, 6379, False),
        (PROMETHEUS, MODEL, 8000, True),
        (PROMETHEUS, GATEWAY, 8080, True),
        (PROMETHEUS, OUR_EXPORTER, 9400, True),
        (OUR_EXPORTER, GATEWAY, 8080, True),
        (OUR_EXPORTER, MODEL, 8000, True),
        (OUR_EXPORTER, LEDGER, 5432, False),
        (REDIS, SOMEWHERE, 443, False),
        (LEDGER, SOMEWHERE, 443, False),
        (REDIS, METADATA, 80, False),
    ],
)
def test_exactly_what_is_needed(source: Pod | str, target: Pod | str, port: int, is_let: bool) -> None:
    assert Network().lets(source, target, port) is is_let


AGENTS = Pod(AI, {"app.kubernetes.io/name": "agents"})
AGENT_WORKER = Pod(AI, {"app.kubernetes.io/name": "agent-worker"})


@pytest.mark.parametrize(
    ("source", "target", "port", "is_let"),
    [
        (GATEWAY, AGENTS, 8081, True),
        (AGENT_WORKER, AGENTS, 8081, False),  # the gateway alone says who calls
        (ANOTHER, AGENTS, 8081, False),
        (PROMETHEUS, AGENTS, 8081, True),
        (PROMETHEUS, AGENT_WORKER, 8082, True),
        (GATEWAY, AGENT_WORKER, 8082, False),
        (AGENTS, REDIS, 6379, True),
        (AGENTS, LEDGER, 5432, True),
        (AGENTS, SOMEWHERE, 443, False),
        (AGENT_WORKER, REDIS, 6379, True),
        (AGENT_WORKER, LEDGER, 5432, True),
        (AGENT_WORKER, GATEWAY, 8080, True),
        (AGENT_WORKER, MODEL, 8000, False),  # but through the gateway, which counts
        (AGENT_WORKER, SOMEWHERE, 443, True),  # tools
        (AGENT_WORKER, SOMEWHERE, 80, False),
        (AGENT_WORKER, "10.0.0.9", 443, False),
        (AGENT_WORKER, METADATA, 80, False),
        (AGENT_WORKER, METADATA, 443, False),
    ],
)
def test_exactly_what_agents_need(source: Pod | str, target: Pod | str, port: int, is_let: bool) -> None:
    assert Network("agents: {enabled: true}").lets(source, target, port) is is_let


def test_agents_that_do_not_run_open_nothing() -> None:
    assert not Network().lets(AGENTS, REDIS, 6379)
    assert not Network().lets(AGENT_WORKER, LEDGER, 5432)


@pytest.mark.parametrize(
    ("tool", "open_to", "closed_to"),
    [
        ("{fetch: {hosts: ['docs.example.com:8443'], allowHttp: true}}", [(SOMEWHERE, 8443), (SOMEWHERE, 80)], 8444),
        ("{fetch: {hosts: [a.example.com], allowPrivate: true}}", [("10.0.0.9", 443)], 80),
        ("{mcp: {url: 'http://tools.other.svc:9000/mcp'}}", [("10.0.0.9", 9000), (SOMEWHERE, 443)], 80),
    ],
)
def test_workers_reach_the_ports_that_tools_name(tool: str, open_to: list[tuple[str, int]], closed_to: int) -> None:
    network = Network(f"agents: {{enabled: true, tools: {{mine: {tool}}}}}")
    assert all(network.lets(AGENT_WORKER, where, port) for where, port in open_to)
    assert not network.lets(AGENT_WORKER, SOMEWHERE, closed_to)
    assert not network.lets(AGENT_WORKER, METADATA, 443)


def test_a_store_of_agents_elsewhere_is_reached_by_its_port_and_the_ledger_is_not() -> None:
    network = Network("agents: {enabled: true, store: {url: 'postgresql://me@db.example.com:5433/agents'}}")
    assert network.lets(AGENTS, SOMEWHERE, 5433)
    assert network.lets(AGENT_WORKER, SOMEWHERE, 5433)
    assert not network.lets(AGENT_WORKER, LEDGER, 5432)


@pytest.mark.parametrize("pod", [GATEWAY, REDIS, LEDGER, MODEL, OUR_EXPORTER])
def test_everybody_finds_names(pod: Pod) -> None:
    assert Network().lets(pod, DNS, 53)
    assert not Network().lets(pod, Pod("kube-system"), 53)
    # Auto Mode has no pods that answer; it is each node.
    assert Network(mode="auto").lets(pod, DNS, 53)
    assert Network(mode="auto").lets(pod, "10.0.0.9", 53)


def test_without_an_edge_only_neighbours_and_prometheus_reach_the_gateway() -> None:
    without = Network("edge: {enabled: false}")
    assert not without.lets(SOMEWHERE, GATEWAY, 8080)
    assert not without.lets(ELSEWHERE, GATEWAY, 8080)
    assert without.lets(ANOTHER, GATEWAY, 8080) is False  # it may not leave
    assert without.lets(PROMETHEUS, GATEWAY, 8080)
    assert Network("edge: {enabled: false, websocket: true}").lets(SOMEWHERE, GATEWAY, 8080)


def test_nobody_looks_for_notices_where_the_spec_says_so() -> None:
    assert not Network("spot: {watch: false}").lets(MODEL, METADATA, 80)


def test_keda_reaches_redis_only_where_it_scales() -> None:
    assert not Network("keda: {enabled: false}").lets(KEDA, REDIS, 6379)


def test_dead_letters_to_sqs_need_credentials() -> None:
    assert not Network().lets(GATEWAY, POD_IDENTITY, 80)
    assert Network("keda: {scalers: {sqs: true}}").lets(GATEWAY, POD_IDENTITY, 80)


def test_prometheus_is_where_the_spec_says() -> None:
    other = Network("global: {observability: {prometheusUrl: 'http://prometheus.watch.svc.cluster.local:9090'}}")
    assert other.lets(Pod("watch"), MODEL, 8000)
    assert not other.lets(PROMETHEUS, MODEL, 8000)
    outside = Network("global: {observability: {prometheusUrl: 'https://aps.example.com/x'}}")
    assert outside.lets(OUR_EXPORTER, MODEL, 8000)
    assert not outside.lets(Pod("example"), MODEL, 8000)


def test_nobody_reads_metrics_where_nothing_is_observed() -> None:
    without = Network("global: {observability: {enabled: false}}")
    assert not without.lets(PROMETHEUS, MODEL, 8000)
    assert not without.lets(PROMETHEUS, REDIS, 9121)
    assert {each["metadata"]["namespace"] for each in without.policies} == {AI}


def test_ranks_of_training_reach_each_other_and_nothing_of_the_platform() -> None:
    found = Network("training: {enabled: true}")
    assert found.lets(RANK, RANK, 29500)
    assert found.lets(RANK, SOMEWHERE, 443)
    assert found.lets(RANK, POD_IDENTITY, 80)
    assert not found.lets(RANK, REDIS, 6379)
    assert not found.lets(ELSEWHERE, RANK, 29500)


def test_servers_of_your_own_are_reached_by_their_ports() -> None:
    text = """\
redis: {url: "rediss://redis.example.com:6380"}
ledger: {url: "postgresql://me@db.example.com:5433/x"}
llm:
  models:
    far: {engine: {url: "https://api.example.com:8443/v1"}}
    near: {engine: {url: "http://vllm.other.svc:8001/v1"}}
"""
    found = Network(text)
    reached = [port for port in (443, 5432, 5433, 6379, 6380, 8001, 8443) if found.lets(GATEWAY, ELSEWHERE, port)]
    assert reached == [5433, 6380, 8001, 8443]
    worker = Pod(AI, {"stoker.dev/model": "far"})
    assert [port for port in (5433, 6380, 8001, 8443) if found.lets(worker, ELSEWHERE, port)] == [6380, 8001, 8443]


CALLED_BACK = "tenants: {acme: {callbackSecretEnv: ACME_SECRET, callbackHosts: [%s]}}"


def test_receivers_of_callbacks_are_called_on_any_port() -> None:
    found = Network(CALLED_BACK % "hooks.example.com, '2001:db8::/32', 10.9.0.0/16")
    assert [port for port in (80, 443, 8443, 65535) if found.lets(GATEWAY, SOMEWHERE, port)] == [80, 443, 8443, 65535]
    assert found.lets(GATEWAY, "10.9.0.1", 8443)  # which the tenant lists
    private = ("10.8.0.1", "100.64.0.1", "172.16.0.1", "192.168.0.1", METADATA, POD_IDENTITY)
    assert [address for address in private if found.lets(GATEWAY, address, 8443)] == []
    assert not found.lets(MODEL, SOMEWHERE, 8443)
    assert not Network().lets(GATEWAY, SOMEWHERE, 8443)
    assert not Network("tenants: {acme: {callbackHosts: [hooks.example.com]}}").lets(GATEWAY, SOMEWHERE, 8443)


def test_a_network_that_a_tenant_lists_does_not_open_the_metadata_service() -> None:
    assert not Network(CALLED_BACK % "169.254.0.0/16").lets(GATEWAY, METADATA, 80)
    assert Network(CALLED_BACK % "169.254.0.0/16").lets(GATEWAY, "169.254.1.1", 80)


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("redis: {elasticache: {enabled: true}}", {"redis", "redis-replica"}),
        ("redis: {architecture: standalone}", {"redis-replica"}),
        ("composition: {ack: {rds: true}}", {"ledger"}),
        ("llm: {inference: {enabled: false}}", {"models"}),
    ],
)
def test_no_policy_for_pods_that_are_not_there(text: str, gone: set[str]) -> None:
    names = {each["metadata"]["name"] for each in Network().policies}
    assert names - {each["metadata"]["name"] for each in Network(text).policies} == gone


def test_replicas_that_span_nodes_talk_to_each_other() -> None:
    assert not Network().lets(MODEL, MODEL, 29500)
    many = "llm: {models: {general: {serving: {nodes: 2, gpu: {count: 8}}}}}\nkarpenter: {enabled: false}"
    assert Network(many).lets(MODEL, MODEL, 29500)


@pytest.mark.parametrize(
    "text",
    [
        "llm: {models: {general: {}, far: {engine: {url: 'https://api.example.com/v1'}}}}",
        "llm: {models: {small: {serving: {gpu: {count: 0}}}}}\ncomposition: {canary: true}",
    ],
)
def test_pods_reach_what_their_environment_names(text: str) -> None:
    """Over all components: a pod that is told where Redis or the ledger is may go there."""
    found, told = Network(text), 0
    for workload in objects(plan_of(text)):
        template = workload.get("spec", {}).get("template", {})
        spec = template.get("spec", {})
        for container in [*spec.get("initContainers", []), *spec.get("containers", [])]:
            pod = Pod(workload["metadata"]["namespace"], template["metadata"]["labels"])
            names = {each["name"] for each in container.get("env", [])}
            for variable, target, port in (("STOKER_REDIS_URL", REDIS, 6379), ("STOKER_LEDGER_URL", LEDGER, 5432)):
                if variable in names:
                    assert found.lets(pod, target, port), (workload["kind"], workload["metadata"]["name"], variable)
                    told += 1
    assert told >= 2  # the gateway at least
