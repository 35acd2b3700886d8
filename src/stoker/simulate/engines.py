"""How fast one replica answers: a table of decode steps by batch size, and rates, per GPU and model.

The first engine model: `rates` may be replaced by a better one behind the same data. Times of kernels come from bytes
and flops over the rates that a GPU was seen to reach (`catalog.gpus`), corrected by measured steps where there are some
for this size of model, GPU and number of GPUs (`engine_tables`); communication and the engine's own work come on top.
It knows nothing of queues: what requests make of these rates is `serving`'s.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stoker.base.errors import InvalidInput
from stoker.catalog import gpus, models
from stoker.catalog.ec2 import InstanceType
from stoker.catalog.gpus import WHOLE, Gpu, Share
from stoker.catalog.models import Model
from stoker.simulate import engine_tables, weight_formats
from stoker.simulate.scenario import Serving

MIB, GB = 2**20, 1e9

LAYER_S = 12e-6
"""Of attention in one layer, whatever it reads: 11 to 13 us in the operator tables."""
SEQUENCE_S = 5e-6
"""Of the sampler, for each sequence."""
STEP_FIXED_S = 0.2e-3
"""Of one step, with CUDA graphs: 0 to 0.2 ms."""
STEP_PER_SEQUENCE_S = 10e-6
"""Of scheduler and detokeniser, for each sequence: 0 to 20 us, by the host's CPU."""
API_S = 15.563e-3
"""Of the API server for each request, before the engine has it (BLIS alpha0); the engine's clock does not stop for it,
but the client waits."""
AFTER_S = 0.777e-3
"""From the last token to the client (BLIS alpha1)."""
SKEW = 1.1
"""Attention takes so much longer when contexts differ: 5 % of what it would read more were all as long as the longest,
which is 3 times the mean (2.5 and 3.2 in two recorded runs)."""
JOIN = 4
"""Of memory time and compute time: the norm that is between their maximum and their sum."""
PROMPT_TOKENS = 2048
"""The length of prompt that prompt rates are for: attention grows with it."""
LINKS = {  # bytes per second and seconds of one hop, of an all-reduce
    "nvlink": (300e9, 4.5e-6),
    "pcie3": (8e9, 20e-6),
    "pcie4": (16e9, 20e-6),
    "pcie5": (32e9, 20e-6),
}
STAGE_S = 0.1e-3
"""From the GPUs of one node to those of the next, for each step."""
OVERHEAD_BYTES = 1.24 * GB
"""Of GPU memory, beside weights and cache: activations, graphs. Measured on an RTX 4090 with steps of 2,048 tokens."""
NCCL_BYTES = 0.37 * GB
"""More of it, with several GPUs."""
VISIBLE = 0.99
"""Of a GPU's memory as EC2 lists it, what CUDA can see."""
BLOCK_TOKENS = 16
KV_BYTES = 2.0
SAME_SIZE = 1.15
"""A measured row is for models whose step reads that much more or less at most."""

CPU_BANDWIDTH_PER_VCPU, CPU_BANDWIDTH = 2e9, 150e9
"""Bytes per second: of each vCPU, and of all together at most."""
CPU_FLOPS_PER_VCPU = 100e9
CPU_KV_BYTES = 4 * 2**30
"""vLLM's default for a CPU."""


@dataclass(frozen=True, eq=False)
class Rates:
    """Of one replica on one kind of node. A decode step gives each running sequence one token."""

    step_s: NDArray[np.float64]
    """By number of sequences that decode, up to the most: seconds of one step with empty contexts. At 0 what a step
    takes that holds prompts alone, beside their tokens: it reads the weights, too."""
    step_s_per_kv_token: float
    """More for each token of context that the step reads, over all sequences."""
    prefill_s_per_token: float
    prefill_s_fixed: float
    """Of each request, before its first token, beside its tokens."""
    chunk_tokens: int
    """Tokens of one step, of prompts and decoding together."""
    kv_tokens: int
    """Tokens that fit the cache; a request is let in when its prompt and its answer fit."""
    after_s: float = 0.0
    """From the last token to the client."""
    source: str = ""
    """Where it comes from, for the report: `table: 8B on L40S` or `computed: ...`."""


@dataclass(frozen=True, eq=False)
class Replica:
    """A model on the processors of one replica, and what those reach with it."""

    model: Model
    layer_bytes: float
    """Of one weight of a layer."""
    tp: int
    """GPUs that share each layer."""
    stages: int
    """Nodes, each with a part of the layers, one after the other."""
    weights_rate: float
    """Bytes per second of one GPU, as are the next three."""
    kv_rate: float
    flops: float
    memory_bytes: float
    link: str = "nvlink"


def rates(serving: Serving, instance: InstanceType, *, share: Share = WHOLE, use_tables: bool = True) -> Rates:
    """`share`: what the replica has of each of its GPUs (MIG, time-slicing). Without `use_tables` all is computed,
    which tells how good the formulas are.

    Raises InvalidInput when the weights cannot fit the GPUs of the replica, or nothing is known of either."""
    model = _model(serving)
    layer_bytes, format_note = _format(serving, model)
    if serving.gpus == 0:
        return _cpu_rates(serving, instance, model, layer_bytes)
    gpu = _gpu(serving, instance)
    replica = _replica(serving, instance, model, layer_bytes, gpu, share)
    kv_tokens = _kv_tokens(serving, instance, replica)
    row = _row(replica, gpu, share) if use_tables else None
    steps = np.array([_step_s(replica, row, n) for n in range(serving.concurrency + 1)])
    notes = [format_note, _type_note(gpu), _context_note(serving, model, kv_tokens)]
    return Rates(
        step_s=steps,
        step_s_per_kv_token=SKEW * _kv_s_per_token(replica),
        prefill_s_per_token=_prompt_s_per_token(replica, row),
        prefill_s_fixed=API_S,
        chunk_tokens=serving.max_batched_tokens,
        kv_tokens=kv_tokens,
        after_s=AFTER_S,
        source="; ".join([_source(serving, replica, gpu, row, share), *(note for note in notes if note)]),
    )


def weights_bytes(serving: Serving) -> int:
    """Of the model's files, to be loaded by each replica; 0 where nothing is known."""
    model = _found(serving)
    if model is None:
        return 0
    return model.weights_bytes_at(_format(serving, model)[0])


def kv_bytes_per_token(serving: Serving) -> int:
    """Of one token in the cache, over all GPUs of a replica that split it; 0 where nothing is known."""
    model = _found(serving)
    return 0 if model is None else model.kv_bytes_per_token(KV_BYTES)


# What serves, and on what


def _found(serving: Serving) -> Model | None:
    return models.find(serving.weights) or models.find(serving.model)


def _model(serving: Serving) -> Model:
    model = _found(serving)
    if model is None:
        raise InvalidInput(
            f"nothing is known of the weights {serving.weights or '(none named)'!r} that serve {serving.model!r}",
            param="weights",
            hint="name a known model (Qwen/Qwen3-8B), or one whose name has its size (my-org/chat-7B)",
        )
    return model


def _format(serving: Serving, model: Model) -> tuple[float, str]:
    return weight_formats.layer_bytes(serving.quantization, serving.weights or serving.model, model)


def _gpu(serving: Serving, instance: InstanceType) -> Gpu:
    gpu = gpus.find(instance.gpu_name, instance.gpu_memory_mib) if instance.gpu_name else None
    if gpu is not None and instance.gpu_count > 0:
        return gpu
    what = instance.gpu_name or instance.accelerator_name
    has = f"has {what}, of which nothing is known here" if what else "has no GPU"
    if gpu is not None:
        has = f"has a part of an {gpu.key} only, which pods cannot ask for"
    raise InvalidInput(
        f"{serving.model!r} needs {serving.gpus} GPU{'s' * (serving.gpus > 1)} per replica, and {instance.name} {has}",
        param="instance",
        hint=f"known are {', '.join(sorted({name for each in gpus.gpus().values() for name in each.names}))}",
    )


def _replica(
    serving: Serving, instance: InstanceType, model: Model, layer_bytes: float, gpu: Gpu, share: Share
) -> Replica:
    stages = math.ceil(serving.gpus / instance.gpu_count)
    is_fast_8_bit = layer_bytes == 1.0 and gpu.fp8_flops > 0
    flops = gpu.prefill_flops * (gpu.fp8_flops / gpu.flops if is_fast_8_bit else 1.0)
    billions = model.parameters * layer_bytes / 2.0 / 1e9
    return Replica(
        model=model,
        layer_bytes=layer_bytes,
        tp=math.ceil(serving.gpus / stages),
        stages=stages,
        weights_rate=gpu.weights_rate(billions) * float(share.bandwidth),
        kv_rate=gpu.kv_rate * float(share.bandwidth),
        flops=flops * float(share.compute),
        memory_bytes=instance.gpu_memory_mib * MIB * VISIBLE * float(share.memory),
        link=gpu.link,
    )


# Times of kernels


def _kernels_s(replica: Replica, sequences: float) -> float:
    """Of one decode step over all layers, with empty contexts."""
    return _layers_s(replica, sequences) + replica.model.layers * LAYER_S + _output_s(replica, sequences)


def _layers_s(replica: Replica, tokens: float) -> float:
    model = replica.model
    memory = model.layer_bytes_touched(tokens, replica.layer_bytes) / (replica.tp * replica.weights_rate)
    compute = 2 * model.layers_per_token * tokens / (replica.tp * replica.flops)
    return float((memory**JOIN + compute**JOIN) ** (1 / JOIN))


def _output_s(replica: Replica, sequences: float) -> float:
    read = replica.model.head_parameters * 2.0 / (replica.tp * replica.weights_rate)
    return read + SEQUENCE_S * sequences


def _kv_bytes_per_gpu(replica: Replica) -> float:
    """Of one token, over all layers: a head is never split, and a latent cache is on every GPU."""
    whole = replica.model.kv_bytes_per_token(KV_BYTES)
    split = 1 if replica.model.latent_kv else min(replica.tp, replica.model.kv_heads)
    return whole / split


def _kv_s_per_token(replica: Replica) -> float:
    """Where all contexts are of one length. With several nodes, each reads those of its share of the sequences at the
    same time."""
    return _kv_bytes_per_gpu(replica) / replica.kv_rate / replica.stages


def overheads_s(model: Model, tp: int, link: str, sequences: float) -> float:
    """Of one decode step, beside kernels: communication, and the engine's own work."""
    return _all_reduce_s(model, tp, link, sequences) + STEP_FIXED_S + STEP_PER_SEQUENCE_S * sequences


def _all_reduce_s(model: Model, tp: int, link: str, tokens: float) -> float:
    """Two of each layer."""
    if tp == 1:
        return 0.0
    rate, hop = LINKS[link]
    hops = 2 * (tp - 1)
    return 2 * model.layers * (hops * hop + hops / tp * tokens * model.hidden * 2 / rate)


# Steps and prompts


def _step_s(replica: Replica, row: engine_tables.Row | None, sequences: int) -> float:
    """Of one step in which so many decode; at 0, of one that has prompts alone: it reads the weights, too.

    With several nodes the sequences go through them in as many groups, and each gets one token per round."""
    group = max(1.0, sequences / replica.stages)
    kernels = _kernels_s(replica, group) * (1.0 if row is None else _correction(row, replica, group))
    others = STEP_PER_SEQUENCE_S * (sequences - group) if sequences > group else 0.0
    overheads = overheads_s(replica.model, replica.tp, replica.link, group) + others
    return kernels + overheads + (replica.stages - 1) * STAGE_S


def _prompt_s_per_token(replica: Replica, row: engine_tables.Row | None) -> float:
    model = replica.model
    compute = 2 * model.layers_per_token / (replica.tp * replica.flops)
    attention = 4 * model.layers * model.heads * model.head_dim * PROMPT_TOKENS / 2 / (replica.tp * replica.flops)
    kernels = compute + attention
    if row is not None and row.prompt_tokens_per_ms is not None:
        reference = models.models()[row.reference]
        kernels = model.layers_per_token / reference.layers_per_token / row.prompt_tokens_per_ms / 1e3
    with_one, without = (_all_reduce_s(model, replica.tp, replica.link, tokens) for tokens in (1, 0))
    return (kernels + with_one - without) / replica.stages


# Measured rows


def _row(replica: Replica, gpu: Gpu, share: Share) -> engine_tables.Row | None:
    """The measured row of the nearest size; none for mixtures, other formats, and parts of GPUs."""
    model = replica.model
    if model.is_mixture or replica.layer_bytes != 2.0 or not share.is_whole:
        return None
    there = [each for each in engine_tables.ROWS if each.gpu == gpu.key and each.tp == replica.tp]
    apart = {each.reference: abs(math.log(_read(model) / _read(models.models()[each.reference]))) for each in there}
    near = [each for each in there if apart[each.reference] <= math.log(SAME_SIZE)]
    return min(near, key=lambda each: apart[each.reference], default=None)


def _read(model: Model) -> int:
    """Parameters that a decode step reads."""
    return model.always_read + model.head_parameters


def _correction(row: engine_tables.Row, replica: Replica, sequences: float) -> float:
    """Measured over computed, for the row's own model: exact at the batch sizes that were measured, straight lines
    between them, and as at the nearest beyond."""
    if not row.decode_ms:
        return 1.0
    sizes = sorted(row.decode_ms)
    return float(np.interp(sequences, sizes, [_measured_over_computed(row, replica, size) for size in sizes]))


def _measured_over_computed(row: engine_tables.Row, replica: Replica, sequences: int) -> float:
    gpu = gpus.gpus()[row.gpu]
    reference = models.models()[row.reference]
    same = Replica(
        model=reference,
        layer_bytes=2.0,
        tp=row.tp,
        stages=1,
        weights_rate=gpu.weights_rate(reference.parameters / 1e9),
        kv_rate=replica.kv_rate,
        flops=replica.flops,
        memory_bytes=replica.memory_bytes,
    )
    contexts = sequences * engine_tables.CONTEXT * _kv_s_per_token(same)
    return (row.decode_ms[sequences] / 1e3 - contexts) / _kernels_s(same, sequences)


# Memory


def _kv_tokens(serving: Serving, instance: InstanceType, replica: Replica) -> int:
    split = replica.tp * replica.stages
    weights = replica.model.weights_bytes_at(replica.layer_bytes)
    overhead = OVERHEAD_BYTES + (NCCL_BYTES if split > 1 else 0.0)
    usable = serving.memory_share * replica.memory_bytes
    free = usable - weights / split - overhead
    block = BLOCK_TOKENS * _kv_bytes_per_gpu(replica) / replica.stages
    blocks = math.floor(free / block)
    if blocks < 1:
        raise _does_not_fit(serving, instance, weights, split, usable, overhead)
    return blocks * BLOCK_TOKENS


def _does_not_fit(
    serving: Serving, instance: InstanceType, weights: float, split: int, usable: float, overhead: float
) -> InvalidInput:
    room = max(usable - overhead, 0.0)
    enough = next((n for n in (1, 2, 4, 8, 16, 32) if n > split and weights / n < 0.9 * room), None)
    least = (weights / split + overhead) / serving.memory_share / GB
    hints = [f"{enough} GPUs of this kind" if enough else "", f"GPUs with more than {least:.0f} GB"]
    if not serving.quantization:
        hints.append("weights in 8 or 4 bits (--quantization)")
    return InvalidInput(
        f"the weights of {serving.weights or serving.model} are {weights / GB:.1f} GB, and {instance.name} leaves "
        f"{split * room / GB:.1f} GB for them and the cache ({split} GPU{'s' * (split > 1)} of "
        f"{instance.gpu_memory_mib / 1024:.0f} GiB, --gpu-memory-utilization {serving.memory_share:g})",
        param="gpus",
        hint="what would do: " + ", or ".join(hint for hint in hints if hint),
    )


def _type_note(gpu: Gpu) -> str:
    return "" if gpu.has_bf16 else f"{gpu.key} has no bf16: vLLM starts with --dtype half"


def _context_note(serving: Serving, model: Model, kv_tokens: int) -> str:
    """vLLM does not start when one request of the longest length would not fit the cache."""
    longest = serving.max_model_len or model.context
    if longest <= kv_tokens:
        return ""
    return f"vLLM will not start with --max-model-len {longest}: the cache has room for {kv_tokens} tokens"


# Without GPUs


def _cpu_rates(serving: Serving, instance: InstanceType, model: Model, layer_bytes: float) -> Rates:
    """Very roughly: bandwidth and flops by vCPU, nothing measured."""
    weights = model.weights_bytes_at(layer_bytes)
    room = instance.allocatable.get("memory", instance.memory_mib * MIB) - CPU_KV_BYTES
    if weights > room:
        raise InvalidInput(
            f"the weights of {serving.weights or serving.model} are {weights / GB:.1f} GB, and {instance.name} leaves "
            f"{max(room, 0) / GB:.1f} GB of memory for them, without a GPU",
            param="gpus",
            hint="ask for nvidia.com/gpu, or take a smaller model, weights in fewer bits, or a larger type",
        )
    bandwidth = min(instance.vcpu * CPU_BANDWIDTH_PER_VCPU, CPU_BANDWIDTH)
    replica = Replica(
        model=model,
        layer_bytes=layer_bytes,
        tp=1,
        stages=1,
        weights_rate=bandwidth,
        kv_rate=bandwidth,
        flops=instance.vcpu * CPU_FLOPS_PER_VCPU,
        memory_bytes=0.0,
    )
    blocks = math.floor(CPU_KV_BYTES / (BLOCK_TOKENS * _kv_bytes_per_gpu(replica)))
    return Rates(
        step_s=np.array([_step_s(replica, None, n) for n in range(serving.concurrency + 1)]),
        step_s_per_kv_token=SKEW * _kv_s_per_token(replica),
        prefill_s_per_token=_prompt_s_per_token(replica, None),
        prefill_s_fixed=API_S,
        chunk_tokens=serving.max_batched_tokens,
        kv_tokens=blocks * BLOCK_TOKENS,
        after_s=AFTER_S,
        source=f"computed: {model.name} without a GPU on {instance.vcpu} vCPUs, rough",
    )


def _source(serving: Serving, replica: Replica, gpu: Gpu, row: engine_tables.Row | None, share: Share) -> str:
    on = f"{replica.tp * replica.stages} x {gpu.key}" if replica.tp * replica.stages > 1 else gpu.key
    if not share.is_whole:
        on = f"{float(share.compute):.2g} of {on}"
    as_model = replica.model.name if replica.model.name.lower() != serving.weights.lower() else ""
    what = f"{serving.weights or serving.model} as {as_model}" if as_model else serving.weights
    if row is not None and row.decode_ms:
        return f"table: {what} on {on}, by {row.reference}"
    measured = "rates measured on it" if gpu.is_measured else "shares of its data sheet, +-15 %"
    return f"computed: {what} on {on}, {measured}"
