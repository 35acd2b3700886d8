"""Each key of the spec's cluster sections changes what is rendered: a key that is silently ignored is a lie.

The keys are read from the JSON Schema, so that a new one is held here, too. For each there is one change, from a spec
in which it counts; those that rightly change nothing are named with the reason.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from stoker.render.run import render
from stoker.spec import json_schema, loads

Tree = dict[str, Any]
EVERYTHING = yaml.safe_load((Path(__file__).parents[2] / "examples" / "everything.yaml").read_text())
SECTIONS = ("global", "karpenter", "keda", "llm.inference", "llm.models.*.serving", "redis", "ledger", "training")
SECTIONS += ("edge", "composition", "agents", "costs.alerts")
ARN = "arn:aws:acm:us-west-2:111122223333:certificate/99999999-2222-3333-4444-555555555555"

OFF = object()
"""As a value in `given`: the key is taken out."""

CHANGES: Mapping[str, Any] = {
    "global.cluster.name": "other",
    "global.cluster.region": "us-east-1",
    "global.cluster.account": "444455556666",
    "global.cluster.mode": "auto",
    "global.cluster.zones": ["us-west-2a", "us-west-2b", "us-west-2d"],
    "global.cluster.namespace": "other",
    "global.images.registry": "registry.example.com/other",
    "global.images.tag": "9.9.9",
    "global.tags": {"CostCenter": "other"},
    "global.observability.enabled": False,
    "global.observability.cloudwatch": False,
    "global.observability.prometheus": False,
    "global.observability.prometheusUrl": "http://other.monitoring.svc:9090",
    "global.observability.grafana": False,
    "global.observability.alarmEmail": "other@example.com",
    "global.observability.otlp.endpoint": "http://collector.other:4318",
    "global.observability.otlp.headersFromSecret": True,
    "global.observability.otlp.engines": True,
    "karpenter.enabled": False,
    "karpenter.nodeRole": "OtherRole",
    "karpenter.image": "bottlerocket@v1.55.0",
    "karpenter.interruptionQueue": "other",
    "karpenter.protectedHours.schedule": "0 3 * * *",
    "karpenter.protectedHours.duration": "2h",
    "karpenter.protectedHours.nodes": "3",
    "karpenter.nodePools.*.enabled": False,
    "karpenter.nodePools.*.instanceFamilies": ["g6"],
    "karpenter.nodePools.*.spotEnabled": False,
    "karpenter.nodePools.*.consolidationEnabled": False,
    "karpenter.nodePools.*.use": "training",
    "karpenter.nodePools.*.maxUsdPerHourPerNode": 2,
    "karpenter.nodePools.*.maxUsdPerHour": 150,
    "karpenter.nodePools.*.zones": ["us-west-2c"],
    "karpenter.nodePools.*.volume": "777Gi",
    "karpenter.nodePools.*.capacityReservation": "cr-99999999",
    "karpenter.nodePools.*.placementGroup": "other",
    "keda.enabled": False,
    "keda.scalers.redis": False,
    "keda.scalers.sqs": False,
    "keda.scalers.cloudwatch": False,
    "keda.minReplicaCount": 2,
    "keda.maxReplicaCount": 9,
    "keda.pollingInterval": 33,
    "keda.cooldownPeriod": 333,
    "keda.initialCooldownPeriod": 44,
    "keda.lagCount": 7,
    "keda.activationLagCount": 5,
    "keda.pendingEntriesCount": 9,
    "keda.runningCount": 3,
    "keda.sqsQueue": "other",
    "keda.fallback.failureThreshold": 9,
    "keda.fallback.replicas": 1,
    "keda.fallback.behavior": "static",
    "keda.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.stabilizationWindowSeconds": 11,
    "keda.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.policies": [
        {"type": "Pods", "value": 2, "periodSeconds": 30}
    ],
    "keda.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.selectPolicy": "Min",
    "keda.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.tolerance": 0.3,
    "keda.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.stabilizationWindowSeconds": 111,
    "keda.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.policies": [
        {"type": "Pods", "value": 2, "periodSeconds": 30}
    ],
    "keda.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.selectPolicy": "Disabled",
    "keda.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown.tolerance": 0.3,
    "llm.inference.enabled": False,
    "llm.inference.replicas": 2,
    "llm.inference.image": "registry.example.com/vllm:v9",
    "llm.inference.gpu.count": 2,
    "llm.inference.gpu.memory": "40Gi",
    "llm.inference.gpu.sharing": "mps",
    "llm.inference.gpu.share": 3,
    "llm.inference.gpu.migProfile": "2g.10gb",
    "llm.inference.cpu": "5",
    "llm.inference.memory": "13Gi",
    "llm.inference.cache.kind": "node",
    "llm.inference.cache.bucket": "other-weights",
    "llm.inference.cache.fileSystem": "fs-99999999",
    "llm.inference.cache.size": "77Gi",
    "llm.inference.cache.mountName": "other",
    "llm.inference.autoscaling.enabled": False,
    "llm.inference.autoscaling.minReplicas": 2,
    "llm.inference.autoscaling.maxReplicas": 9,
    "llm.models.*.serving.weights": "Qwen/Qwen3-14B",
    "llm.models.*.serving.image": "registry.example.com/vllm:v9",
    "llm.models.*.serving.gpu.count": 2,
    "llm.models.*.serving.gpu.memory": "40Gi",
    "llm.models.*.serving.gpu.sharing": "mps",
    "llm.models.*.serving.gpu.share": 3,
    "llm.models.*.serving.gpu.migProfile": "2g.10gb",
    "llm.models.*.serving.cpu": "5",
    "llm.models.*.serving.memory": "13Gi",
    "llm.models.*.serving.limits.contextTokens": 16384,
    "llm.models.*.serving.limits.concurrency": 3,
    "llm.models.*.serving.limits.timeoutSeconds": 77,
    "llm.models.*.serving.nodes": 2,
    "llm.models.*.serving.nodePool": "large",
    "llm.models.*.serving.args": ["--enforce-eager"],
    "redis.url": "redis://redis.example.com:6379/0",
    "redis.passwordEnv": None,
    "redis.architecture": "standalone",
    "redis.master.persistence.size": "33Gi",
    "redis.replica.replicaCount": 3,
    "redis.elasticache.enabled": True,
    "redis.elasticache.nodeType": "cache.m7g.large",
    "ledger.url": "postgresql://stoker@db.example.com/ledger",
    "ledger.passwordEnv": None,
    "training.enabled": False,
    "training.kubeflow": False,
    "training.checkpointing.s3Bucket": "other-checkpoints",
    "training.image": "registry.example.com/trainer:9",
    "training.nodes": 3,
    "training.gpus": 4,
    "training.efa": False,
    "training.data": "s3://other/data.jsonl",
    "training.legacyPytorchJob": True,
    "training.storage.enabled": False,
    "training.storage.fileSystem": "fs-99999999",
    "training.storage.mountName": "other",
    "training.storage.size": "2400Gi",
    "training.batch.enabled": False,
    "training.batch.spot": True,
    "training.pipeline.enabled": False,
    "training.pipeline.leastScore": 0.5,
    "training.pipeline.exam": "s3://other/exam.jsonl",
    "edge.enabled": False,
    "edge.host": "other.example.com",
    "edge.scheme": "internal",
    "edge.certificateArn": ARN,
    "edge.wafAclArn": "arn:aws:wafv2:us-west-2:111122223333:regional/webacl/other/9",
    "edge.accessLogsBucket": "other-logs",
    "edge.websocket": False,
    "edge.gatewayApi.enabled": False,
    "edge.gatewayApi.className": "other",
    "composition.ack.enabled": False,
    "composition.ack.rds": False,
    "composition.ack.sagemaker": False,
    "composition.kro": False,
    "composition.argocd.enabled": False,
    "composition.argocd.capability": True,
    "composition.argocd.repository": "https://github.com/example/other",
    "composition.argocd.revision": "other",
    "composition.argocd.path": "other",
    "composition.argocd.clusters": ["east"],
    "composition.canary": False,
    "agents.enabled": False,
    "agents.workers.replicas.min": 1,
    "agents.workers.replicas.max": 3,
    "agents.workers.stepsAtOnce": 16,
    "agents.store.url": "postgresql://agents@other.example.com/agents",
    "agents.store.passwordEnv": None,
    "agents.tools.*.fetch.hosts": ["docs.example.com:8443"],
    "agents.tools.*.fetch.headers": {"Authorization": "OTHER_TOKEN"},
    "agents.tools.*.fetch.allowHttp": True,
    "agents.tools.*.fetch.allowPrivate": True,
    "agents.tools.*.mcp.env": {"TOKEN": "OTHER_TOKEN"},
    "agents.tools.*.mcp.url": "http://tickets.example.com:9000/mcp",
    "agents.tools.*.mcp.headers": {"Authorization": "OTHER_TOKEN"},
    "agents.tools.*.timeoutSeconds": 500,
    "costs.alerts.webhook.secretEnv": "OTHER_SECRET",
    "costs.alerts.webhook.networks": ["192.168.7.0/24"],
    "costs.alerts.sns": "other",
}
"""By key: another value than that of examples/everything.yaml. A `*` is the pool or model of `WHICH`."""

WHICH = {
    "karpenter.nodePools": "gpu",
    "llm.models": "general",
    "agents.definitions": "supervisor",
    "agents.tools": "web",
}
OTHER_ONE = {
    "karpenter.nodePools.*.use": "cpu",
    "karpenter.nodePools.*.maxUsdPerHour": "large",
    "karpenter.nodePools.*.placementGroup": "train",
    "karpenter.nodePools.*.enabled": "train",
    "agents.tools.*.mcp.env": "files",
    "agents.tools.*.mcp.url": "tickets",
    "agents.tools.*.mcp.headers": "tickets",
    "agents.tools.*.mcp.only": "tickets",
    "agents.tools.*.search.path": "handbook",
    "agents.tools.*.search.results": "handbook",
    "agents.tools.*.workspace.maxBytes": "notes",
    "agents.tools.*.agent": "researcher",
    "agents.tools.*.calculator": "sums",
    "agents.tools.*.python": "mine",
    "agents.tools.*.mcp.command": "files",
}

USUAL = {"llm.models.general": {}, "llm.models.code": {}, "llm.models.vision": {}}
SHARED = {"count": 1, "memory": "8Gi", "sharing": "mps"}
BEFORE: Mapping[str, Mapping[str, Any]] = {
    # A region brings its zones and its ARNs along.
    "global.cluster.region": {"global.cluster.zones": OFF, "karpenter.nodePools.train.zones": OFF},
    "llm.inference.replicas": {**USUAL, "llm.inference.autoscaling": {"enabled": False}, "keda.enabled": False},
    "llm.inference.gpu.sharing": {**USUAL, "llm.inference.gpu": {"memory": "8Gi"}},
    "llm.inference.gpu.share": {**USUAL, "llm.inference.gpu": SHARED},
    "llm.inference.gpu.migProfile": {
        **USUAL,
        "llm.inference.gpu": {"count": 1, "memory": "8Gi", "sharing": "mig", "migProfile": "3g.20gb"},
        "karpenter.nodePools.gpu.instanceFamilies": ["p4d"],
        "karpenter.nodePools.gpu.maxUsdPerHourPerNode": OFF,
    },
    "llm.inference.cache.kind": {},
    "llm.inference.cache.fileSystem": {"llm.inference.cache": {"kind": "efs", "fileSystem": "fs-0123abcd"}},
    "llm.inference.cache.mountName": {"llm.inference.cache": {"kind": "fsx", "fileSystem": "fs-0123abcd"}},
    "llm.inference.cache.size": {"llm.inference.cache": {"kind": "efs", "fileSystem": "fs-0123abcd"}},
    "llm.models.*.serving.gpu.migProfile": {
        "llm.models.general.serving.gpu": {"count": 1, "memory": "8Gi", "sharing": "mig", "migProfile": "3g.20gb"},
        "karpenter.nodePools.gpu.instanceFamilies": ["p4d"],
        "karpenter.nodePools.gpu.maxUsdPerHourPerNode": OFF,
    },
    "llm.models.*.serving.gpu.share": {"llm.models.general.serving.gpu": SHARED},
    "llm.models.*.serving.gpu.sharing": {"llm.models.general.serving.gpu": {"count": 1, "memory": "8Gi"}},
    "global.observability.otlp.endpoint": {"global.observability.otlp": {"endpoint": "http://collector:4318"}},
    "global.observability.otlp.headersFromSecret": {"global.observability.otlp": {"endpoint": "http://collector:4318"}},
    "global.observability.otlp.engines": {"global.observability.otlp": {"endpoint": "http://collector:4318"}},
    "redis.passwordEnv": {"redis": {"url": "redis://redis.example.com:6379/0", "passwordEnv": "PASSWORD"}},
    "redis.elasticache.nodeType": {"redis.elasticache": {"enabled": True}},
    "ledger.url": {"composition.ack.rds": False},
    "ledger.passwordEnv": {"ledger": {"url": "postgresql://stoker@db.example.com/ledger", "passwordEnv": "PASSWORD"}},
    "training.enabled": {"training.batch": {"enabled": False}},
    "training.batch.spot": {"training.nodes": 1, "training.efa": False},
    "edge.certificateArn": {},
    "keda.scalers.redis": {"llm.models.code.replicas": {"min": 1, "max": 4}},
    "agents.tools.*.mcp.env": {"agents.tools.files": {"mcp": {"command": ["serve"]}}},
    "agents.tools.*.fetch.allowPrivate": {"agents.tools.tickets": {"mcp": {"command": ["serve"]}}},
}
"""What is different before the change, where the key counts for nothing in examples/everything.yaml."""
for _key in ("gpu.count", "gpu.memory", "cpu", "memory", "autoscaling.enabled", "autoscaling.minReplicas"):
    BEFORE = {**BEFORE, f"llm.inference.{_key}": USUAL}
for _key in ("llm.inference.autoscaling.maxReplicas", "keda.minReplicaCount", "keda.maxReplicaCount"):
    BEFORE = {**BEFORE, _key: USUAL}

EXCEPTIONS = {
    "redis.enabled": "false is refused without redis.url, and with one it says what the url says already",
}

_OF_AGENTS = {
    "description": "Another.",
    "graph": "module:graph",
    "model": "vision",
    "route": "vision",
    "instructions": "Others.",
    "maxOutputTokens": 77,
    "temperature": 0.7,
    "tools": ["tickets"],
    "grants": ["tickets"],
    "grantable": ["researcher", "tickets"],
    "memoryMessages": 77,
    **{f"limits.{key}": 7 for key in ("usd", "tokens", "steps", "wallSeconds", "toolCalls", "depth", "repeats")},
    **{f"budgets.{key}": 7000 for key in ("requestTokens", "requestUsd", "requestsPerMinute", "concurrentRequests")},
    **{f"budgets.tokens{window}": 10**9 for window in ("PerMinute", "PerDay", "PerMonth", "Total")},
    **{f"budgets.usd{window}": 9999 for window in ("PerDay", "PerMonth", "Total")},
}

IN_THE_CONFIG = {
    "ledger.retentionDays": 100,
    "ledger.auditDays": 100,
    "llm.models.*.serving.limits.maxOutputTokens": 300,
    "llm.models.*.serving.limits.promptOverheadTokens": 33,
    "llm.models.*.serving.limits.imageTokens": 333,
    **{f"agents.definitions.*.{key}": value for key, value in _OF_AGENTS.items()},
    "agents.tools.*.fetch.maxBytes": 4444,
    "agents.tools.*.search.path": "other",
    "agents.tools.*.search.results": 4,
    "agents.tools.*.workspace.maxBytes": 4444,
    "agents.tools.*.calculator": True,
    "agents.tools.*.python": "module:function",
    "agents.tools.*.mcp.command": ["serve"],
    "agents.tools.*.mcp.only": ["other"],
    "agents.tools.*.agent": "supervisor",
    "agents.tools.*.description": "Another.",
    "agents.tools.*.effect": "write",
    "agents.tools.*.repeatable": False,
    "agents.tools.*.approval": "always",
    "agents.tools.*.trusted": True,
    "agents.workers.leaseSeconds": 77,
    "agents.retentionDays": 77,
    "costs.alerts.thresholds": [0.7],
    "costs.alerts.webhook.url": "https://other.example.com/budgets",
    "global.observability.cloudwatchTenants": ["platform"],
}
"""Keys that gateway, agents and workers read from the ConfigMap, and nothing else."""


def keys() -> list[str]:
    """The leaves of the schema's cluster sections, `*` for a name that the user gives."""
    schema = json_schema()
    found = [".".join(path) for path in _leaves(schema, schema, ())]
    return [key for key in found if key.startswith(SECTIONS) and _is_in(key)]


def _is_in(key: str) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in SECTIONS)


def _leaves(schema: Tree, node: Tree, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    node = _section(schema, node)
    if "properties" in node:
        for name, inner in node["properties"].items():
            yield from _leaves(schema, inner, (*path, name))
    elif any("$ref" in inner for inner in node.get("patternProperties", {}).values()):
        for inner in node["patternProperties"].values():
            yield from _leaves(schema, inner, (*path, "*"))
    else:
        yield path


def _section(schema: Tree, node: Tree) -> Tree:
    if "$ref" in node:
        return _section(schema, {**schema["$defs"][node["$ref"].rpartition("/")[2]]})
    for inner in (*node.get("anyOf", ()), *node.get("allOf", ())):
        if "$ref" in inner:
            return _section(schema, inner)
    return node


def put(spec: Tree, key: str, value: Any) -> None:
    *above, last = key.split(".")
    for name in above:
        spec = spec.setdefault(name, {})
    if value is OFF:
        spec.pop(last, None)
    else:
        spec[last] = copy.deepcopy(value)


def of(key: str) -> str:
    """The key with the name of a pool or model in place of `*`."""
    above = key.partition(".*.")[0]
    return key.replace("*", OTHER_ONE.get(key, WHICH.get(above, "")))


def test_every_key_has_a_change_or_a_reason() -> None:
    assert sorted(keys()) == sorted([*CHANGES, *IN_THE_CONFIG, *EXCEPTIONS])


@pytest.mark.parametrize("key", CHANGES)
def test_a_key_changes_what_is_rendered(key: str) -> None:
    before = copy.deepcopy(EVERYTHING)
    for other, value in BEFORE.get(key, {}).items():
        put(before, other, value)
    after = copy.deepcopy(before)
    put(after, of(key), CHANGES[key])
    assert _rendered(after) != _rendered(before)


@pytest.mark.parametrize("key", IN_THE_CONFIG)
def test_a_key_of_the_gateway_is_in_its_config(key: str) -> None:
    after = copy.deepcopy(EVERYTHING)
    put(after, of(key), IN_THE_CONFIG[key])
    before = _texts(yaml.safe_dump(EVERYTHING, sort_keys=False))
    changed = {name for name, text in _texts(yaml.safe_dump(after, sort_keys=False)).items() if text != before[name]}
    assert changed >= {"gateway/config.yaml"}


@lru_cache(maxsize=4)
def _texts(spec: str) -> Mapping[str, str]:
    """Kept, since most changes begin from the same spec."""
    return render(loads(spec))


def _rendered(spec: Tree) -> dict[str, str]:
    """Without the ConfigMap that holds the spec itself, in which every key would show, and its digest in pods."""
    texts = _texts(yaml.safe_dump(spec, sort_keys=False))
    own = {name: text for name, text in texts.items() if name != "gateway/config.yaml"}
    return {name: re.sub(r"-sha256: [0-9a-f]{64}", "", text) for name, text in own.items()}
