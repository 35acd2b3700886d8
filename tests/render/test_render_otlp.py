"""`global.observability.otlp`: who sends where, with which headers, and who may reach it."""

from typing import Any

import pytest
import yaml

from stoker.base.errors import InvalidInput, SpecInvalid
from stoker.render.run import render
from stoker.spec import loads

Json = dict[str, Any]
SENDS = "global: {observability: {otlp: {endpoint: 'http://collector.watch:4318', headersFromSecret: true}}}\n"
ENGINES = SENDS.replace("}}}", ", engines: true}}}")
FLAG = "--otlp-traces-endpoint"
MODELS = "llm: {models: {general: {}}}\n"


def containers(text: str) -> dict[str, Json]:
    """Of pods, by `file/container`."""
    found: dict[str, Json] = {}
    for file, rendered in render(loads(text)).items():
        if not file.endswith(".yaml") or file.startswith(("composition/", "kro/")):
            continue
        for each in yaml.safe_load_all(rendered):
            spec = ((each or {}).get("spec") or {}).get("template") or {}
            for container in (spec.get("spec") or {}).get("containers", ()) if isinstance(spec, dict) else ():
                found[f"{each['metadata']['name']}/{container['name']}"] = container
    return found


def env_of(container: Json) -> Json:
    return {
        each["name"]: each.get("value") or each["valueFrom"]["secretKeyRef"]
        for each in container.get("env", ())
        if each["name"].startswith("OTEL_")
    }


def test_nobody_sends_unless_it_is_said() -> None:
    assert {name for name, each in containers(MODELS).items() if env_of(each)} == set()
    assert not any(FLAG in str(each) for each in containers(MODELS).values())


def test_each_process_that_makes_spans_is_told_where_they_go() -> None:
    ours = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.watch:4318",
        "OTEL_EXPORTER_OTLP_HEADERS": {"name": "otlp", "key": "headers"},
    }
    made = containers(f"{SENDS}{MODELS}agents: {{enabled: true}}\n")
    assert {name: env_of(each) for name, each in made.items() if env_of(each)} == {
        "gateway/gateway": ours,
        "model-general/worker": ours,
        "agents/agents": ours,
        "agent-worker/agent-worker": ours,
    }
    assert FLAG not in str(made)  # vLLM without OpenTelemetry in its image would not start


def test_vllm_sends_over_http_where_its_image_can() -> None:
    engine = containers(ENGINES + MODELS)["model-general/engine"]
    at = engine["args"].index(FLAG)
    assert engine["args"][at + 1] == "http://collector.watch:4318/v1/traces"
    assert env_of(engine) == {
        "OTEL_SERVICE_NAME": "stoker-engine",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_HEADERS": {"name": "otlp", "key": "headers"},
    }


def test_the_headers_come_from_a_secret_alone() -> None:
    files = render(loads(SENDS + MODELS))
    [secret] = [each for each in yaml.safe_load_all(files["base/secrets.yaml"]) if each["metadata"]["name"] == "otlp"]
    assert [each["secretKey"] for each in secret["spec"]["data"]] == ["headers"]
    made = [each["spec"]["name"] for each in yaml.safe_load_all(files["aws/secrets.yaml"])]
    assert "agentic-ai-cluster/otlp" in made


SENDERS = ("gateway", "models", "agents", "agent-worker")


@pytest.mark.parametrize(
    ("endpoint", "ports"),
    [
        ("http://c.watch:4318", {key: [4318] for key in SENDERS}),
        ("http://c.watch", {key: [80] for key in SENDERS}),
        ("https://c.example.com/x", {"agents": [443], "agent-worker": [443]}),  # the others reach the world as it is
    ],
)
def test_pods_may_reach_it(endpoint: str, ports: dict[str, list[int]]) -> None:
    text = SENDS.replace("http://collector.watch:4318", endpoint) + MODELS + "agents: {enabled: true}\n"
    before, after = (_egress(each) for each in (f"{MODELS}agents: {{enabled: true}}\n", text))
    new = {name: [rule for rule in rules if rule not in before[name]] for name, rules in after.items()}
    assert {name: _ports(rules) for name, rules in new.items() if rules} == ports


def _egress(text: str) -> dict[str, list[Json]]:
    policies = yaml.safe_load_all(render(loads(text))["network/agentic-ai.yaml"])
    return {each["metadata"]["name"]: each["spec"].get("egress", []) for each in policies}


def _ports(rules: list[Json]) -> list[int]:
    return [port["port"] for rule in rules for port in rule["ports"]]


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(SpecInvalid, match=r"otlp\.engines: there is no endpoint"):
        loads("global: {observability: {otlp: {engines: true}}}")
    with pytest.raises(SpecInvalid, match=r"otlp\.headersFromSecret: there is no endpoint"):
        loads("global: {observability: {otlp: {headersFromSecret: true}}}")
    with pytest.raises(InvalidInput, match="localhost, which in a pod is the pod itself"):
        render(loads("global: {observability: {otlp: {endpoint: 'http://localhost:4318'}}}"))
