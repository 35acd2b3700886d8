"""The container that computes: vLLM on GPUs, or the embedded engine on the CPU.

vLLM's arguments are those of its command line (vLLM 0.11.2: vllm/engine/arg_utils.py, entrypoints/openai/cli_args.py;
the key by VLLM_API_KEY: entrypoints/openai/api_server.py); what stands in `serving.args` comes last, and so has the
last word.
"""

import json
import math
from typing import Any

from stoker.base.process import ENGINE_KEY
from stoker.manifests.quantities import bytes_of
from stoker.render import otlp
from stoker.render.facts import ENGINE_PORT, ENGINE_SECRET, GPU, Served
from stoker.render.models_scripts import DRAIN, RAY_LEADER, RAY_WORKER
from stoker.render.models_weights import FOLDER, VOLUME, hub_env, stream_env, streamed_from, volume
from stoker.render.objects import Object, from_field, from_secret, resources, restricted_container
from stoker.render.plan import Plan

_MIB = 1024**2
_SCRATCH = "/scratch"
_SHM_OF_GPU = 2 * 1024 * _MIB
_USED = 0.9
"""vLLM's own default of --gpu-memory-utilization."""
_IMAGE_TOKENS = 1024
"""What an image may count as at a server, unless the spec says otherwise (spec/llm.py)."""
_PIXELS_OF_TOKEN = 28 * 28
"""Qwen2-VL and Qwen2.5-VL: patches of 14 pixels, four of them a token (their preprocessor_config.json)."""

_LEAST_MIB_S = {"hub": 100, "s3": 250, "efs": 100, "fsx": 250}
"""Slowest loading that is not taken for a hang, in MiB a second."""
_ENGINE_STARTS_S = 300
"""Import, compilation, memory profile, CUDA graphs: 40 to 90 s as a rule (docs/render/models.md)."""
_GROUP_GATHERS_S = 900
"""For the other nodes of a replica to come, and their images."""
_CPU_STARTS_S = 60
_PERIOD_S = 10


def engine_container(plan: Plan, served: Served, *, stays_s: int) -> Object:
    """`stays_s`: how long it may go on when its pod is told to end, until its worker is gone."""
    container = _vllm(plan, served) if served.is_on_gpu else _embedded(plan, served)
    return {**container, **_served(served, startup_s(plan, served)), "lifecycle": _stays(stays_s)}


def follower_container(plan: Plan, served: Served, *, stays_s: int) -> Object:
    """Of the further nodes of a replica that spans several: its GPUs, by Ray, at the leader's disposal."""
    container = {**_on_gpu(plan, served), "command": ["bash", "-ec", RAY_WORKER]}
    return {**container, "lifecycle": _stays(stays_s)}


def startup_s(plan: Plan, served: Served) -> int:
    """From the container's start to the first answer, at the longest. Weights are not larger than the GPUs' memory."""
    if not served.is_on_gpu:
        return _CPU_STARTS_S
    source = "s3" if streamed_from(plan, served) else "hub" if plan.cache in ("node", "s3") else plan.cache
    loading = math.ceil(bytes_of(served.gpu.memory) / _MIB / _LEAST_MIB_S[source])
    return loading + _ENGINE_STARTS_S + (_GROUP_GATHERS_S if served.spans_nodes else 0)


def volumes(plan: Plan, served: Served) -> list[Object]:
    if not served.is_on_gpu:
        return []
    found: list[Object] = [{"name": "scratch", "emptyDir": {"sizeLimit": "20Gi"}}]
    if _has_own_shm(served):
        limit = f"{_shm(served) // _MIB}Mi"
        found.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": limit}})
    weights = volume(plan, served)
    return [*found, weights] if weights is not None else found


def key_env(variable: str) -> Object:
    return from_secret(variable, ENGINE_SECRET, "key")


def _stays(seconds: int) -> Object:
    return {"preStop": {"exec": {"command": ["python3", "-c", DRAIN, str(seconds)]}}}


def _served(served: Served, starts_s: int) -> Object:
    health = {"httpGet": {"path": "/health", "port": "http"}}
    return {
        "ports": [{"name": "http", "containerPort": ENGINE_PORT}],
        "startupProbe": {**health, "periodSeconds": _PERIOD_S, "failureThreshold": math.ceil(starts_s / _PERIOD_S)},
        "readinessProbe": {**health, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 3},
        # Slower to judge: a full engine answers late, and a restart costs all that it has loaded.
        "livenessProbe": {**health, "periodSeconds": 20, "timeoutSeconds": 10, "failureThreshold": 6},
    }


def _embedded(plan: Plan, served: Served) -> Object:
    limits = served.model.limits
    arguments: dict[str, Any] = {
        "--model": served.name,
        "--task": served.model.task,
        "--host": "0.0.0.0",  # noqa: S104 - the pod's own address; NetworkPolicies say who reaches it
        "--port": ENGINE_PORT,
        "--context": limits.context_tokens,
        "--max-running": limits.concurrency,
    }
    return {
        "name": "engine",
        "image": served.image,
        "command": ["python", "-m", "stoker.engine"],
        "args": [*_flat(arguments), *served.serving.args],
        "env": [key_env(ENGINE_KEY), *otlp.otlp_env(plan)],
        "resources": resources(served.cpu, served.memory),
        "securityContext": restricted_container(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - an empty volume of the pod's own
    }


def _vllm(plan: Plan, served: Served) -> Object:
    container = _on_gpu(plan, served)
    if served.spans_nodes:
        # $0 of the script is the word after it.
        return {**container, "command": ["bash", "-ec", RAY_LEADER, "vllm"], "args": vllm_args(plan, served)}
    return {**container, "command": ["vllm", "serve"], "args": vllm_args(plan, served)}


def _on_gpu(plan: Plan, served: Served) -> Object:
    mounts = [{"name": "scratch", "mountPath": _SCRATCH}]
    if _has_own_shm(served):
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108 - of the container
    if volume(plan, served) is not None:
        mounts.append({"name": VOLUME, "mountPath": FOLDER})
    return {
        "name": "engine",
        "image": served.image,
        "env": _env(plan, served),
        "resources": resources(served.cpu, served.memory, devices={GPU: served.gpu.count}),
        # Its image expects to write beside its own files (compiled kernels, Ray's sockets in /tmp).
        "securityContext": restricted_container(read_only=False),
        "volumeMounts": mounts,
    }


def vllm_args(plan: Plan, served: Served) -> list[str]:
    limits = served.model.limits
    url = streamed_from(plan, served)
    arguments: dict[str, Any] = {
        "--served-model-name": served.name,
        "--port": ENGINE_PORT,
        "--max-model-len": limits.context_tokens,
        "--max-num-seqs": limits.concurrency,
        "--tensor-parallel-size": served.gpu.count,
    }
    if served.spans_nodes:
        arguments["--pipeline-parallel-size"] = served.serving.nodes
        arguments["--distributed-executor-backend"] = "ray"
    if served.gpu.sharing in ("time-slicing", "mps"):
        # Each replica counts with the memory of the whole GPU, so its share has to be told.
        arguments["--gpu-memory-utilization"] = f"{_USED / served.gpu.share:.3f}"
    if url is not None:
        arguments["--load-format"] = "runai_streamer"
    if served.model.task == "vision":
        arguments |= _vision(served)
    arguments |= otlp.vllm_args(plan)
    return [url or served.weights, *_flat(arguments), *served.serving.args]


def _vision(served: Served) -> dict[str, str]:
    """Images as large, and as many, as the context holds beside the longest answer. What one may count as at most is
    part of the bound on what a request costs, so a model that is known to scale images is told it."""
    limits = served.model.limits
    tokens = limits.image_tokens or _IMAGE_TOKENS
    images = max(1, (limits.context_tokens - limits.max_output_tokens) // tokens)
    found = {"--limit-mm-per-prompt": json.dumps({"image": images, "video": 0})}
    if "Qwen2-VL" in served.weights or "Qwen2.5-VL" in served.weights:
        found["--mm-processor-kwargs"] = json.dumps({"max_pixels": tokens * _PIXELS_OF_TOKEN})
    return found


def _env(plan: Plan, served: Served) -> list[Object]:
    """HOME and the caches on an empty volume, since the image's own are root's; USER because torch asks for the name of
    a user that the image does not know (getpass.getuser)."""
    cache = f"{_SCRATCH}/cache"
    plain = {
        "HOME": _SCRATCH,
        "USER": "vllm",
        "XDG_CACHE_HOME": cache,
        "VLLM_CACHE_ROOT": f"{cache}/vllm",
        "TRITON_CACHE_DIR": f"{cache}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        "VLLM_NO_USAGE_STATS": "1",
    }
    found: list[Object] = [{"name": name, "value": value} for name, value in plain.items()]
    found += [key_env("VLLM_API_KEY"), *otlp.vllm_env(plan)]
    if streamed_from(plan, served) is not None:
        found += stream_env(plan.region)
    else:
        found += hub_env()
    if served.spans_nodes:
        found += [from_field("POD_IP", "status.podIP"), {"name": "VLLM_HOST_IP", "value": "$(POD_IP)"}]
    return found


def _has_own_shm(served: Served) -> bool:
    """With MPS the device plugin mounts there what clients share with the daemon (NVIDIA/k8s-device-plugin,
    internal/plugin/mps.go), and a volume of the pod would cover it: the kubelet adds the pod's mounts after the
    plugin's (kubernetes, pkg/kubelet/kubelet_pods.go, GenerateRunContainerOptions)."""
    return served.gpu.sharing != "mps"


def _shm(served: Served) -> int:
    """It counts as memory of the container: at most a quarter of that."""
    return min(bytes_of(served.memory) // 4, _SHM_OF_GPU * served.gpu.count) // _MIB * _MIB


def _flat(arguments: dict[str, Any]) -> list[str]:
    return [part for name, value in arguments.items() for part in (name, str(value))]
