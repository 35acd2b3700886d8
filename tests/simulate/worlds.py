"""Small clusters for stories about the control plane: manifests as text, times without chance."""

from typing import Any

import numpy as np
import yaml

from stoker.manifests.reading import read_text
from stoker.simulate.options import Options
from stoker.simulate.reading import read_scenario
from stoker.simulate.result import Result
from stoker.simulate.run import simulate
from stoker.simulate.scenario import Scenario
from stoker.simulate.trace import ANY, Trace

_SPREADS = ("fleet", "boot", "devices", "pull", "load", "engine_start", "server_start")
CERTAIN = {
    **{f"{name}_spread": 0.0 for name in _SPREADS},
    "fleet_s": 2.0,
    "boot_s": 50.0,
    "boot_gpu_more_s": 0.0,
    "devices_s": 40.0,
}
"""A node is ready 92 s after it was asked for."""

Object = dict[str, Any]


def pool(name: str = "gpu", *, types: str = "g6.xlarge", capacity: str = "on-demand", **spec: Any) -> Object:
    def among(key: str, values: str) -> Object:
        return {"key": key, "operator": "In", "values": values.split()}

    node: Object = {
        "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
        "requirements": [
            among("node.kubernetes.io/instance-type", types),
            among("karpenter.sh/capacity-type", capacity),
            among("topology.kubernetes.io/zone", "us-east-1a us-east-1b"),
        ],
        "expireAfter": spec.pop("expireAfter", "Never"),
    }
    node |= {key: spec.pop(key) for key in ("terminationGracePeriod", "taints") if key in spec}
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": name},
        "spec": {"template": {"metadata": {"labels": {"pool": name}}, "spec": node}, **spec},
    }


def model(name: str = "general", *, replicas: int | None = None, grace: int = 60, **pod: Any) -> Object:
    """vLLM with one GPU."""
    containers = [
        {
            "name": "engine",
            "image": "vllm/vllm-openai:v0.11.2",
            "args": ["--model", "Qwen/Qwen3-8B", "--served-model-name", name, "--max-num-seqs", "8"],
            "resources": {"requests": {"cpu": "2", "memory": "10Gi"}, "limits": {"nvidia.com/gpu": 1}},
            "startupProbe": {"periodSeconds": 10, "httpGet": {"path": "/health", "port": 8000}},
            "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "sleep 5; wait-until-idle"]}}},
        }
    ]
    spec = {"nodeSelector": {"pool": "gpu"}, "terminationGracePeriodSeconds": grace, "containers": containers, **pod}
    labels = {"app": name}
    found: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "ai"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }
    if replicas is not None:
        found["spec"]["replicas"] = replicas
    return found


def scaler(name: str = "general", *, trigger: Object | None = None, **spec: Any) -> Object:
    """On the lag of the model's stream, four tasks to a replica."""
    streams = {"stream": f"stoker:tasks:{name}", "consumerGroup": "workers", "lagCount": "4", "address": "redis:6379"}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name, "namespace": "ai"},
        "spec": {
            "scaleTargetRef": {"name": name},
            "triggers": [trigger or {"type": "redis-streams", "name": "waiting", "metadata": streams}],
            **spec,
        },
    }


def budget(name: str = "general", **spec: Any) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "ai"},
        "spec": {"selector": {"matchLabels": {"app": name}}, **spec},
    }


def scenario(*objects: Object) -> Scenario:
    return read_scenario(read_text(yaml.safe_dump_all(objects)).manifests, region="us-east-1")


def trace(*at: float, prompt: int = 100, answer: int = 50) -> Trace:
    n = len(at)
    return Trace(
        name="story",
        at_s=np.array(at, float),
        prompt_tokens=np.full(n, prompt, np.int32),
        completion_tokens=np.full(n, answer, np.int32),
        cached_tokens=np.zeros(n, np.int32),
        model=np.full(n, ANY, np.int16),
        tenant=np.full(n, ANY, np.int32),
    )


def run(*objects: Object, requests: Trace | None = None, **options: Any) -> Result:
    asked = Options(**{"priors": CERTAIN, "warm_up_s": 1800.0, "interruptions_per_hour": 0.0, **options})
    return simulate(scenario(*objects), trace(0.0) if requests is None else requests, asked)


def said(result: Result, kind: str, subject: str = "") -> list[tuple[float, str]]:
    """The journal of a kind, from 0 on."""
    return [
        (round(each.at, 3), each.text)
        for each in result.journal
        if each.kind == kind and each.at >= 0 and (not subject or each.subject == subject)
    ]
