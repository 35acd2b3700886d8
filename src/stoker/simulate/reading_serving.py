"""Which model the pods of a workload serve, how, and what they load before they are ready."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from stoker.manifests.node_pools import container_requests
from stoker.manifests.objects import look, whole
from stoker.manifests.workloads import Workload
from stoker.policy.pod_resources import ACCELERATORS, GPUS, OF_GPUS
from stoker.simulate.reading_commands import Configs, Engine, engine_of, environment, image, whole_number
from stoker.simulate.reading_notes import Notes
from stoker.simulate.reading_platform import Platform
from stoker.simulate.reading_refused import options_refused
from stoker.simulate.reading_weights import MODEL_VARIABLES, downloaded, weights_from
from stoker.simulate.scenario import Dispatch, Image, Load, Serving

MODEL_LABEL = "stoker.dev/model"
_WORKER = "stoker worker"
_NAME_VARIABLES = ("SERVED_MODEL_NAME",)
_CONCURRENCY_VARIABLES = ("WORKER_CONCURRENCY", "MAX_CONCURRENCY", "CONCURRENCY", "MAX_IN_FLIGHT", "PREFETCH_COUNT")
_SEQUENCES = {"vllm": 256, "sglang": 256, "tgi": 128, "triton": 256, "llama.cpp": 4, "ollama": 4}
"""Requests that run at once where nothing says (the engines' documentation; SGLang computes its own)."""
UNKNOWN_SEQUENCES = 256
"""Of a server that is not known: as vLLM."""
_NOT_SERVERS = ("dcgm-exporter", "device-plugin", "jupyter", "notebook", "ray-head", "stress", "cuda-sample", "nccl")

_GB = 10**9
_IMAGE_SIZES = (
    # (part of the name, compressed, unpacked): priors, see docs/simulate/assumptions.md
    ("vllm/vllm-openai", 9 * _GB, 20 * _GB),
    ("text-generation-inference", 6 * _GB, 13 * _GB),
    ("sglang", 12 * _GB, 27 * _GB),
    ("tritonserver", 9 * _GB, 20 * _GB),
    ("nvcr.io/nim", 10 * _GB, 22 * _GB),
    ("vllm", 9 * _GB, 20 * _GB),
    ("llama.cpp", 2 * _GB, 5 * _GB),
    ("ollama", 2 * _GB, 4 * _GB),
    ("stoker/", _GB // 5, _GB // 2),
)
_WITH_GPU = (8 * _GB, 18 * _GB)
_SMALL = (_GB // 5, _GB // 2)
_GRACEFUL = ("tgi", "sglang", "stoker engine")
"""Engines that finish what runs when they are told to stop. vLLM cuts it off, unless it has `--shutdown-timeout`."""
_ASLEEP = re.compile(r"\bsleep[\s(]+(\d+(?:\.\d+)?)")
_LOOP = re.compile(r"\b(?:while|until|for)\b")
_LOOKS = re.compile(r"curl|wget|urlopen|metrics|num_requests|\b(?:while|until)\b")
"""What a `preStop` script has that waits for requests, and not just for a while."""
_NONE: Mapping[str, str] = MappingProxyType({})
_PROBES = ("startupProbe", "readinessProbe")
_UNPROBED_S = 1.0
"""Without a probe, how often the kubelet looks at a pod."""


@dataclass(frozen=True)
class Pods:
    """The pods of one replica: one template, or a leader's and its workers'."""

    first: Workload
    others: Workload | None
    size: int

    @property
    def counted(self) -> tuple[tuple[Workload, int], ...]:
        """Each template with the number of its pods."""
        if self.others is None:
            return ((self.first, self.size),)
        return ((self.first, 1), (self.others, self.size - 1))


@dataclass(frozen=True)
class Found:
    """What the containers of a replica say before it is known how it is scaled."""

    model: str
    weights: str
    place: str
    """What the engine is told to load: the same name, or where the files are."""
    gpus: int
    engine: Engine | None
    has_worker: bool
    env: Mapping[str, str]


def found_in(
    pods: Pods, configs: Configs, notes: Notes, given: Mapping[str, str] = _NONE, brought: Mapping[str, str] = _NONE
) -> Found | None:
    """None where the pods serve no model, with a note where they look as if they might. `given`: weights by model,
    which go before what is written; `brought`: by place, what somebody brings there."""
    name = str(pods.first.manifest)
    engines: list[Engine] = []
    env: dict[str, str] = {}
    for _, container in pods.first.containers():
        own = environment(container, configs)
        engine = engine_of(container, own)
        # What the engine's container has goes before what its neighbours have.
        env = {**env, **own} if engine is not None and engine.kind != _WORKER else {**own, **env}
        if engine is not None:
            engines.append(engine)
    worker = next((each for each in engines if each.kind == _WORKER), None)
    engine = next((each for each in engines if each.kind != _WORKER), None)
    gpus = gpus_of(pods, notes)
    label = pods.first.manifest.labels.get(MODEL_LABEL) or pods.first.labels.get(MODEL_LABEL, "")
    if engine is None and worker is not None and gpus == 0:
        notes.passed(name, "its workers send what they take to an engine elsewhere, and nothing says how fast that is")
        return None
    if gpus == 0:
        if engine is not None or label:
            notes.passed(name, "it serves a model without a GPU, and no speed is known for that; it is only pods here")
        return None
    if engine is None and any(part in image(each) for _, each in pods.first.containers() for part in _NOT_SERVERS):
        notes.passed(name, "it has GPUs and is no server of a model by its image; it is only pods here")
        return None
    place = _weights(engine, env)
    weights = brought.get(place) or (downloaded(pods.first, configs) if place.startswith("/") else "") or place
    served = engine.text("served-model-name") if engine is not None else ""
    served = served or next((env[key] for key in _NAME_VARIABLES if key in env), "")
    model = label or served or weights or pods.first.manifest.name
    weights = given.get(model, weights)
    if not weights:
        said = "nothing says which weights it loads (no known engine, option or variable names them)"
        notes.say(f"{name}: taken to serve the model {model}, since it has GPUs; {said}")
    if not any(kind in _main(pods.first) for kind in _PROBES):
        said = "Kubernetes sends it requests while it still loads, and those fail; here it is ready when it has loaded"
        notes.say(f"{name}: without a readiness probe, {said}")
    return Found(model, weights, place, _used(engine, gpus, name, notes), engine, worker is not None, env)


def _used(engine: Engine | None, gpus: int, name: str, notes: Notes) -> int:
    """The GPUs that the engine is told to use, of those that its pods have."""
    if engine is None or engine.kind not in ("vllm", "sglang"):
        return gpus
    tensor = _number(engine, "tensor-parallel-size", "tp-size", "tp") or 1
    wanted = tensor * (_number(engine, "pipeline-parallel-size", "pp-size", "pp") or 1)
    wanted *= _number(engine, "data-parallel-size", "dp-size", "dp") or 1
    if wanted > gpus:
        notes.say(
            f"{name}: its engine wants {wanted} GPUs and its pods have {gpus}: it would not start; taken as {gpus}"
        )
    elif wanted < gpus:
        notes.say(f"{name}: its engine uses {wanted} of the {gpus} GPUs that its pods have")
    return min(wanted, gpus)


def serving_of(found: Found, dispatch: Dispatch, platform: Platform, name: str, notes: Notes) -> Serving:
    engine, env = found.engine, found.env
    default = Serving(found.model, found.weights, found.gpus, dispatch, 1)
    context = _number(engine, "max-model-len", "max-total-tokens", "context-length", "context", "ctx-size")
    batched = _number(engine, "max-num-batched-tokens", "max-batch-prefill-tokens", "chunked-prefill-size")
    share = _share(
        engine.text("gpu-memory-utilization", "mem-fraction-static", "cuda-memory-fraction") if engine else ""
    )
    prefix = engine is None or (
        engine.is_on("enable-prefix-caching", otherwise=True) and "disable-radix-cache" not in engine.options
    )
    serving = Serving(
        model=found.model,
        weights=found.weights,
        gpus=found.gpus,
        dispatch=dispatch,
        concurrency=_concurrency(found, dispatch, platform, name, notes),
        max_model_len=context or whole_number(env.get("MAX_MODEL_LEN", "")) or platform.context_tokens.get(found.model),
        max_batched_tokens=batched or default.max_batched_tokens,
        memory_share=share or default.memory_share,
        quantization=(engine.text("quantization", "quantize") if engine else "") or env.get("QUANTIZATION", ""),
        prefix_caching=prefix,
    )
    if engine is not None:
        options_refused(engine, serving, name, notes)
    return serving


def gpus_of(pods: Pods, notes: Notes) -> int:
    """Of one replica. Parts of a GPU count as one: how fast they are is up to the node."""
    total = 0
    for template, times in pods.counted:
        for _, container in template.containers():
            for resource, amount in container_requests(container).items():
                if resource in GPUS or resource.startswith(OF_GPUS):
                    total += amount * times
                elif resource in ACCELERATORS and amount:
                    notes.say(f"{template.manifest}: {resource} is no GPU; no speed is known for it")
    return total


def load_of(pods: Pods, found: Found | None, grace_s: float, configs: Configs) -> Load:
    spec = pods.first.spec
    containers = [each for _, each in pods.first.containers(init=True)]
    with_gpu = found is not None
    images = {image(each): _image(image(each), _has_gpu(each)) for each in containers if image(each)}
    main = _main(pods.first)
    prestop_s, looks = _prestop(main)
    drains = looks or (found is not None and _finishes(found)) or not with_gpu
    return Load(
        images=tuple(images.values()),
        weights_from=weights_from(spec, main, found.place, found.env, configs) if found is not None else "none",
        probe_period_s=_probe_period(main),
        prestop_s=min(prestop_s, grace_s),
        drains=drains,
    )


def _weights(engine: Engine | None, env: Mapping[str, str]) -> str:
    if engine is not None:
        # `$(NAME)` that nothing fills in names no model.
        words = [each for each in engine.words if "$(" not in each and each != "serve"]
        written = engine.text("model", "model-id", "model-path", "hf-repo")
        first = words[0] if words and engine.kind == "vllm" else ""
        if written or first:
            return (first or written).rstrip("/") if (first or written).startswith("s3://") else first or written
    return next((env[key] for key in MODEL_VARIABLES if env.get(key)), "")


def _concurrency(found: Found, dispatch: Dispatch, platform: Platform, name: str, notes: Notes) -> int:
    engine = found.engine
    written = _number(
        engine, "max-num-seqs", "max-running-requests", "max-concurrent-requests", "max-running", "parallel"
    )
    written = written or whole_number(found.env.get("MAX_NUM_SEQS", ""))
    worker = platform.concurrency.get(found.model) if found.has_worker else None
    if worker is None and dispatch == "queue":
        worker = next((n for key in _CONCURRENCY_VARIABLES if (n := whole_number(found.env.get(key, "")))), None)
    if worker is not None:
        return min(worker, written) if written else worker
    if written:
        return written
    kind = engine.kind if engine is not None else ""
    number = _SEQUENCES.get(kind, UNKNOWN_SEQUENCES)
    if engine is None:
        notes.say(f"{name}: nothing says how many requests it has at once; taken as {number}, vLLM's own")
    return number


def _number(engine: Engine | None, *names: str) -> int | None:
    found = engine.number(*names) if engine is not None else None
    return found if found else None


def _share(text: str) -> float | None:
    try:
        share = float(text)
    except ValueError:
        return None
    return share if 0 < share <= 1 else None


def _has_gpu(container: dict[str, Any]) -> bool:
    asked = [resource for resource, amount in container_requests(container).items() if amount]
    return any(resource in ACCELERATORS or resource.startswith(OF_GPUS) for resource in asked)


def has_gpus(workload: Workload) -> bool:
    return any(_has_gpu(each) for _, each in workload.containers())


def _main(workload: Workload) -> dict[str, Any]:
    """The container that serves: the one with the GPUs, else the first."""
    containers = [each for _, each in workload.containers()]
    return next((each for each in containers if _has_gpu(each)), containers[0] if containers else {})


def _image(name: str, has_gpu: bool) -> Image:
    for part, compressed, unpacked in _IMAGE_SIZES:
        if part in name:
            return Image(name, compressed, unpacked)
    return Image(name, *(_WITH_GPU if has_gpu else _SMALL))


def _probe_period(container: dict[str, Any]) -> float:
    for kind in _PROBES:
        probe = container.get(kind)
        if isinstance(probe, dict):
            return float(max(whole(probe.get("periodSeconds")) or 10, 1))
    return _UNPROBED_S


def _prestop(container: dict[str, Any]) -> tuple[float, bool]:
    """How long it waits at least, and whether it then looks for requests that run."""
    hook = look(container, "lifecycle", "preStop")
    seconds = whole(look(hook, "sleep", "seconds"))
    if seconds is not None:
        return float(seconds), False
    command = look(hook, "exec", "command")
    if not isinstance(command, list):
        return 0.0, hook is not None and look(hook, "httpGet") is not None
    text = " ".join(str(each) for each in command)
    asleep, loop = _ASLEEP.search(text), _LOOP.search(text)
    is_first = asleep is not None and (loop is None or asleep.start() < loop.start())
    return float(asleep[1]) if asleep is not None and is_first else 0.0, _LOOKS.search(text) is not None


def _finishes(found: Found) -> bool:
    engine = found.engine
    if found.has_worker or engine is None or engine.kind in _GRACEFUL:
        return True
    return engine.kind == "vllm" and bool(engine.number("shutdown-timeout"))
