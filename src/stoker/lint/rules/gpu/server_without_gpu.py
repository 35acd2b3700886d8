"""A model server for GPUs asks for none.

The image is built for NVIDIA GPUs, and the container has no `nvidia.com/gpu` limit. It is scheduled to any node that
has room, and ends there because it finds no device.

Symptom: "RuntimeError: Failed to infer device type"
Symptom: the server crashes in a loop, on a node without GPUs

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.11.0
        args: [--model, Qwen/Qwen3-8B]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.11.0
        args: [--model, Qwen/Qwen3-8B]
        resources: {limits: {nvidia.com/gpu: 1}}

Source: Kubernetes documentation, tasks/manage-gpus/scheduling-gpus
Source: vLLM documentation, deployment/k8s
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import has_device
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.gpu._views import servers
from stoker.manifests.objects import look

_ON_CPU = re.compile(r"--device[= ]cpu|\bbench\b|benchmark|router")
_SERVES = re.compile(r"vllm|sglang|api_server|launch_server|text-generation-launcher|\bserve\b")


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload, path, container in servers(cluster):
        command, args = (look(container, key, default=[]) for key in ("command", "args"))
        text = " ".join(str(each) for words in (command, args) if isinstance(words, list) for each in words)
        if has_device(container) or _ON_CPU.search(text) or (command and not _SERVES.search(text)):
            continue
        yield Problem(
            workload.manifest,
            (*path, "resources", "limits", "nvidia.com/gpu"),
            f"container {container.get('name', '')} serves models on GPUs and asks for none",
            hint="resources.limits: {nvidia.com/gpu: 1}",
        )


RULE = Rule("STK-GPU-009", Severity.WARNING, "A model server for GPUs asks for none", check, __name__, guide=("S22",))
