"""The Gateway API: a route to the gateway, and a pool with a picker for each model on GPUs."""

from typing import Any

import yaml

from stoker.render import edge, models
from stoker.render.items import Resource
from stoker.render.plan import Plan
from stoker.spec import loads

ON = "edge: {enabled: false, gatewayApi: {enabled: true}}"


def objects(text: str = ON) -> list[dict[str, Any]]:
    return [item.object for item in edge.render(Plan(loads(text), "karpenter")) if isinstance(item, Resource)]


def one(kind: str, name: str, text: str = ON) -> dict[str, Any]:
    (found,) = [each for each in objects(text) if each["kind"] == kind and each["metadata"]["name"] == name]
    assert found["metadata"]["namespace"] == "agentic-ai"
    return found


def names(kind: str, text: str) -> list[str]:
    return [each["metadata"]["name"] for each in objects(text) if each["kind"] == kind]


def test_it_is_off_until_asked_for() -> None:
    assert [each["kind"] for each in objects("")] == ["Ingress"]


def test_the_gateway_is_of_the_class_said_and_internal() -> None:
    spec = one("Gateway", "edge", "edge: {enabled: false, gatewayApi: {enabled: true, className: istio}}")["spec"]
    assert spec["gatewayClassName"] == "istio"
    scheme = "service.beta.kubernetes.io/aws-load-balancer-scheme"
    assert spec["infrastructure"]["annotations"][scheme] == "internal"
    (listener,) = spec["listeners"]
    assert (listener["protocol"], listener["port"]) == ("HTTP", 80)
    assert one("Gateway", "edge")["spec"]["gatewayClassName"] == "agentgateway"


def test_an_answer_may_take_what_the_gateway_allows_and_a_websocket_any_time() -> None:
    """Proxies end a request after 15 s where a route says nothing."""
    rules = one("HTTPRoute", "gateway", ON + "\ngateway: {timeouts: {totalSeconds: 600}}")["spec"]["rules"]
    assert {rule["matches"][0]["path"]["value"]: rule["timeouts"]["request"] for rule in rules} == {
        "/v1/ws": "0s",
        "/v1": "630s",
    }
    assert all(rule["backendRefs"] == [{"name": "gateway", "port": 8080}] for rule in rules)


def test_a_pool_selects_the_replicas_of_its_model() -> None:
    assert one("InferencePool", "model-code")["spec"] == {
        "selector": {"matchLabels": {"stoker.dev/model": "code"}},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {"name": "picker-code", "port": {"number": 9002}, "failureMode": "FailOpen"},
    }


def test_of_a_replica_over_several_nodes_only_the_first_answers() -> None:
    text = ON + "\nllm: {models: {big: {serving: {nodes: 2, gpu: {count: 8}}}}}"
    assert one("InferencePool", "model-big", text)["spec"]["selector"]["matchLabels"] == {
        "stoker.dev/model": "big",
        "stoker.dev/role": "leader",
    }


def test_models_without_a_gpu_and_hosted_ones_have_no_pool() -> None:
    text = (
        ON
        + """
llm:
  models:
    general: {}
    small: {serving: {gpu: {count: 0}}}
    hosted: {engine: {url: "https://api.example.com/v1"}}
"""
    )
    assert names("InferencePool", text) == ["model-general"]
    assert names("HTTPRoute", text) == ["gateway", "model-general"]


def test_a_model_s_path_is_taken_off_before_its_engine_sees_it() -> None:
    (rule,) = one("HTTPRoute", "model-code")["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/models/code"}}]
    assert rule["filters"] == [
        {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}
    ]
    assert rule["timeouts"] == {"request": "330s"}
    assert rule["backendRefs"] == [
        {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "model-code"}
    ]


def test_batch_work_gives_way() -> None:
    spec = one("InferenceObjective", "model-code-batch")["spec"]
    assert spec == {"priority": -10, "poolRef": {"name": "model-code"}}


def test_a_picker_is_told_its_pool_and_may_watch_what_it_needs() -> None:
    (container,) = one("Deployment", "picker-code")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.k8s.io/gateway-api-inference-extension/epp:v1.4.0"
    flags = dict(flag.removeprefix("--").split("=") for flag in container["args"])
    assert flags["pool-name"] == "model-code"
    assert flags["pool-namespace"] == "agentic-ai"
    assert flags["config-file"] == "/config/picker.yaml"
    ports = {each["name"]: str(each["containerPort"]) for each in container["ports"]}
    assert ports == {"grpc": flags["grpc-port"], "grpc-health": flags["grpc-health-port"]}
    watched = {kind for rule in one("Role", "picker-code")["rules"] for kind in rule["resources"]}
    assert watched == {"pods", "inferencepools", "inferenceobjectives", "inferencemodelrewrites"}
    (subject,) = one("RoleBinding", "picker-code")["subjects"]
    assert subject["name"] == one("Deployment", "picker-code")["spec"]["template"]["spec"]["serviceAccountName"]


def test_what_a_picker_weighs_names_only_plugins_that_it_has_loaded() -> None:
    config = yaml.safe_load(one("ConfigMap", "picker-code")["data"]["picker.yaml"])
    loaded = [each["type"] for each in config["plugins"]]
    assert loaded == ["queue-scorer", "kv-cache-utilization-scorer", "prefix-cache-scorer"]
    (profile,) = config["schedulingProfiles"]
    assert [each["pluginRef"] for each in profile["plugins"]] == loaded
    assert [each["weight"] for each in profile["plugins"]] == [2, 2, 3]  # a prefix that is there counts most


def test_one_picker_may_always_be_drained() -> None:
    assert one("Deployment", "picker-code")["spec"]["replicas"] == 2
    assert one("PodDisruptionBudget", "picker-code")["spec"]["maxUnavailable"] == 1


def test_only_the_gateway_s_proxy_asks_a_picker_and_both_reach_the_replicas() -> None:
    picker = one("NetworkPolicy", "picker-code")["spec"]
    proxy = {"podSelector": {"matchLabels": {"gateway.networking.k8s.io/gateway-name": "edge"}}}
    assert picker["ingress"] == [{"from": [proxy], "ports": [{"port": 9002}]}]
    (allowed,) = one("NetworkPolicy", "model-code-from-gateway")["spec"]["ingress"]
    own = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "picker-code"}}}
    assert allowed == {"from": [proxy, own], "ports": [{"port": 8000}]}


def test_nobody_reads_a_picker_s_metrics() -> None:
    """No monitor asks for them, so they are not offered, and the endpoint keeps its own check of tokens."""
    (container,) = one("Deployment", "picker-code")["spec"]["template"]["spec"]["containers"]
    assert not [each for each in container["args"] if each.startswith("--metrics-endpoint-auth")]
    assert [each["name"] for each in one("Service", "picker-code")["spec"]["ports"]] == ["grpc"]
    assert "monitoring" not in str(objects())


def test_the_gateway_s_proxy_is_called_by_its_load_balancer_and_from_any_namespace() -> None:
    spec = one("NetworkPolicy", "edge")["spec"]
    assert spec["podSelector"]["matchLabels"] == {"gateway.networking.k8s.io/gateway-name": "edge"}
    assert (spec["ingress"], spec["egress"]) == ([{}], [{}])


def test_a_model_may_be_called_like_another_s_picker() -> None:
    text = ON + "\nllm: {models: {general: {}, general-picker: {}, picker: {}}}"
    every = [*edge.render(Plan(loads(text), "karpenter")), *models.render(Plan(loads(text), "karpenter"))]
    found = [item.object for item in every if isinstance(item, Resource)]
    called = [f"{each['kind']} {each['metadata']['name']}" for each in found]
    assert len(called) == len(set(called))
    assert {"Deployment model-general-picker", "Deployment picker-general"} <= set(called)
