"""A model is split over more GPUs, or fewer, than the container has.

`--tensor-parallel-size` times `--pipeline-parallel-size` is the number of GPUs that one copy of the model takes. More
than the container has cannot start, unless the server is told to reach other nodes. Fewer leaves the rest idle and
paid for; without the option vLLM and SGLang use one GPU.

Symptom: "World size (8) is larger than the number of available GPUs (4)"
Symptom: nvidia-smi shows GPUs without any memory in use

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.11.0
        args: [--model, Qwen/Qwen3-32B, --tensor-parallel-size, "8"]
        resources: {limits: {nvidia.com/gpu: 4}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.11.0
        args: [--model, Qwen/Qwen3-32B, --tensor-parallel-size, "4"]
        resources: {limits: {nvidia.com/gpu: 4}}

Source: vLLM documentation, serving/parallelism_scaling
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import Command, commands, gpus, image
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import is_open
from stoker.spec.faults import Path

_TENSOR = re.compile(r"(?:^|\s)(?:--tensor-parallel-size|--tp-size|--tp|-tp|--num-shard)[=\s]+\"?(\d{1,4})(?!\S*[.\w])")
_PIPELINE = re.compile(r"(?:^|\s)(?:--pipeline-parallel-size|--pp-size|-pp)[=\s]+\"?(\d{1,4})(?!\S*[.\w])")
_NAMED = re.compile(r"tensor-parallel|(?:^|\s)(?:--tp-size|--tp|-tp|--num-shard)\b")
_OVER_NODES = re.compile(r"\bray\b|--nnodes|--dist-init-addr|--node-rank|external_launcher|multi-node")
_MORE_COPIES = re.compile(r"data-parallel|--dp-size|--dp\b|-dp\b|--config")
_SERVES = re.compile(r"vllm|sglang|text-generation|api_server|launch_server")
_ONE_BY_DEFAULT = ("vllm/vllm-openai", "lmsysorg/sglang")


def check(cluster: Cluster) -> Iterator[Problem]:
    for command in commands(cluster):
        held = gpus(command.container)
        text = command.text
        if not held or command.place != "main" or command.workload is None or is_open(command.manifest, text):
            continue
        if not _SERVES.search(f"{image(command.container)} {text}"):
            continue
        over_nodes = _OVER_NODES.search(text) or command.workload.kind in ("LeaderWorkerSet", "JobSet", "MPIJob")
        tensor, pipeline = _TENSOR.search(text), _PIPELINE.search(text)
        split = int(tensor[1]) * (int(pipeline[1]) if pipeline else 1) if tensor else 1
        if tensor is None and (_NAMED.search(text) or not _is_one(command)):
            continue
        if split > held and not over_nodes:
            message = f"the model is split over {split} GPUs and the container has {held}: it cannot start"
            hint = f"{split} GPUs in limits, or a tensor parallel size of {held}"
            yield Problem(command.manifest, _place(command), message, hint=hint, severity=Severity.ERROR)
        elif split < held and not over_nodes and not _MORE_COPIES.search(text):
            message = f"the model is split over {split} of the container's {held} GPUs: the rest is idle"
            yield Problem(command.manifest, _place(command), message, hint=f"--tensor-parallel-size {held}")


def _is_one(command: Command) -> bool:
    """Whether a server that is not told uses one GPU."""
    return not command.has_program and any(each in image(command.container) for each in _ONE_BY_DEFAULT)


def _place(command: Command) -> Path:
    for path, word in command.words:
        if _NAMED.search(word):
            return path
    return (*command.path, "resources", "limits", "nvidia.com/gpu")


RULE = Rule(
    "STK-GPU-011", Severity.WARNING, "A model is split over more GPUs, or fewer, than there are", check, __name__
)
