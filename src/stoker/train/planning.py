"""Before anything starts: does it fit, how long does a save take, which guarantee holds, what will it cost. No torch.

Pure but for `measure`, which writes a file to see how fast the place of checkpoints is. What the run would cost on
which machines is in `buying`.
"""

import math
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from stoker.nn.config import dimension
from stoker.registry.shards import Piece, write_shard
from stoker.registry.stores import Store
from stoker.spec.run import Run
from stoker.train.accounting import Save
from stoker.train.buying import Option, Size, choose_capacity, options

LEAST_INTERVAL_S, MOST_INTERVAL_S = 30.0, 3600.0
LEAST_SAVE_S = 0.1
_MEASURE_S, _LONG_S, _SHORT_S = 120.0, 30.0, 3.0
WRITES_IN_ORDER = 3
"""Of a commit, which wait for each other: a shard, the manifest, HEAD. Each costs the fixed seconds of a small
write."""

# --- the size of a model ----------------------------------------------------------------------------------------------

_QKV_BIAS = ("qwen2",)
_HEAD_NORMS = ("qwen3",)


def size_of(config: Mapping[str, Any], run: Run) -> Size:
    """Of a model by the numbers of its config.json (Llama, Qwen2, Qwen3), tuned as the run says. Raises InvalidInput
    for a number that is missing, or larger than that of any model."""
    shape = _Shape(config)
    parameters = shape.parameters
    trained = parameters if run.method == "full" else run.lora.rank * sum(map(sum, shape.matrices_of(run.lora.targets)))
    # Forward 2, backward 2 for activations and 2 for weights, of each parameter that is multiplied with; attention as
    # torchtitan counts it (train_spec's get_num_flop_per_token): 12 * layers * query width * length.
    multiplied = shape.in_layers + shape.hidden * shape.vocab
    attention = shape.layers * shape.queries * run.dataset.max_length
    flops = (
        6.0 * multiplied + 12.0 * attention
        if run.method == "full"
        else 4.0 * multiplied + 6.0 * trained + 12.0 * attention
    )
    if run.recompute:
        flops += 2.0 * multiplied + 4.0 * attention
    return Size(
        parameters=parameters,
        trained=trained,
        checkpoint_bytes=12 * trained,
        flops_per_token=flops,
        hidden=shape.hidden,
        layers=shape.layers,
    )


class _Shape:
    def __init__(self, config: Mapping[str, Any]) -> None:
        self.hidden = _number(config, "hidden_size")
        self.layers = _number(config, "num_hidden_layers")
        self.vocab = _number(config, "vocab_size")
        between = _number(config, "intermediate_size")
        heads = _number(config, "num_attention_heads")
        of_keys = _number(config, "num_key_value_heads", heads)
        width = _number(config, "head_dim", self.hidden // heads)
        self.queries, keys = heads * width, of_keys * width
        self._matrices = {
            "q_proj": (self.hidden, self.queries),
            "k_proj": (self.hidden, keys),
            "v_proj": (self.hidden, keys),
            "o_proj": (self.queries, self.hidden),
            "gate_proj": (self.hidden, between),
            "up_proj": (self.hidden, between),
            "down_proj": (between, self.hidden),
        }
        self.in_layers = self.layers * sum(a * b for a, b in self._matrices.values())
        of_kind = str(config.get("model_type", "llama"))
        small = 2 * self.hidden  # two norms
        small += self.queries + 2 * keys if of_kind in _QKV_BIAS else 0
        small += 2 * width if of_kind in _HEAD_NORMS else 0
        tables = 1 if config.get("tie_word_embeddings", True) else 2
        self.parameters = self.in_layers + self.layers * small + self.hidden + tables * self.vocab * self.hidden

    def matrices_of(self, targets: tuple[str, ...]) -> list[tuple[int, int]]:
        """In and out of each matrix that gets an update, over all layers."""
        return [self._matrices[name] for name in targets] * self.layers


def _number(config: Mapping[str, Any], name: str, otherwise: int | None = None) -> int:
    value = config.get(name)
    return dimension(name, otherwise if value is None else value)


# --- how long a save takes --------------------------------------------------------------------------------------------


def save_seconds(checkpoint_bytes: int, *, bytes_per_s: float, writers: int, fixed_s: float) -> float:
    """How long a save takes, from the step's end until HEAD names it; `writers` write at once, each at that speed."""
    if bytes_per_s <= 0:
        return math.inf
    return checkpoint_bytes / (bytes_per_s * max(1, writers)) + WRITES_IN_ORDER * fixed_s


def measure(
    store: Store, *, bytes_at_most: int = 64 << 20, seconds: Callable[[], float] = time.perf_counter
) -> tuple[float, float]:
    """Bytes per second of a save, which copies the state and hashes it as it is written, and the fixed seconds of a
    small write. Leaves nothing behind. Writes four times as much each time, up to `bytes_at_most`, or until the next
    might take 30 s: small ones go through one connection, and say nothing of what several of them come to."""
    prefix = f"measured/{uuid.uuid4().hex}/"
    noise = os.urandom(1 << 20)  # what cannot be compressed
    keys: list[str] = []

    def took(mib: int) -> float:
        keys.append(f"{len(keys)}")
        state = noise * mib
        begun_at = seconds()
        if mib:
            copied = memoryview(bytearray(state))
            parts = [copied[at << 20 : (at + 1) << 20] for at in range(mib)]
            pieces = [Piece(f"{at}", "F32", (1 << 18,), (1 << 18,), (0,), part) for at, part in enumerate(parts)]
            write_shard(store, prefix, keys[-1], pieces, timeout_s=_MEASURE_S)
        else:
            store.put(prefix + keys[-1], [b"."])
        return seconds() - begun_at

    try:
        fixed_s = median(took(0) for _ in range(3))
        mib = 4
        while True:
            mib = max(1, min(mib, bytes_at_most >> 20))
            lasted_s = took(mib)
            if mib >= bytes_at_most >> 20 or 4 * lasted_s > _LONG_S:
                if lasted_s < _SHORT_S:  # once more, since the first large write opens connections and makes room
                    lasted_s = min(lasted_s, took(mib))
                return (mib << 20) / max(lasted_s - fixed_s, 1e-6), fixed_s
            mib *= 4
    finally:
        store.delete([prefix + key for key in keys])


def seen(saves: Sequence[Save], *, nodes: int) -> tuple[float, float] | None:
    """As `measure`, by the last saves of the run's record, which say how long all of a save took: the middle one of
    three. None where there is none."""
    took = [each.bytes / each.seconds / nodes for each in saves[-3:] if each.bytes > 0 and each.seconds > 0]
    return (median(took), 0.0) if took else None


@dataclass(frozen=True)
class Guarantee:
    """`holds`: a save that begins with a notice is durable within the grace. `words` say it with the figures, and what
    would be right where it does not."""

    holds: bool
    predicted_s: float
    grace_s: float
    words: str


def guarantee(run: Run, size: Size, *, bytes_per_s: float, fixed_s: float, step_s: float) -> Guarantee:
    """One step is finished first. Each process writes its share, those of one node through the same disk or network: so
    nodes write at once, each at the speed that was measured on one."""
    grace_s = run.spot.grace_seconds
    writing_s = save_seconds(size.checkpoint_bytes, bytes_per_s=bytes_per_s, writers=run.nodes, fixed_s=fixed_s)
    predicted_s = step_s + writing_s
    step = f"a step of {_span(step_s)} and " if step_s else ""
    figures = (
        f"{step}a save of {_bytes(size.checkpoint_bytes)} at {_bytes(bytes_per_s)}/s from "
        f"{run.nodes} node{'s' * (run.nodes > 1)}: {_span(predicted_s)} in all, of {_span(grace_s)} of grace"
    )
    if predicted_s <= grace_s:
        return Guarantee(True, predicted_s, grace_s, f"a notice loses no step: {figures}")
    left_s = grace_s - step_s - WRITES_IN_ORDER * fixed_s
    needed = size.checkpoint_bytes / left_s if left_s > 0 else math.inf
    if math.isinf(needed):
        right = "steps have to be shorter: fewer batch.rows, or more GPUs"
    else:
        nodes = math.ceil(needed / bytes_per_s) if bytes_per_s > 0 else 0
        ways = [f"{_bytes(needed / run.nodes)}/s from each node"]
        ways += [f"{nodes} nodes"] * (0 < nodes <= 1024)
        ways += ["method lora, which saves far less"] * (run.method == "full")
        right = f"it would with {', or '.join(ways)}"
    words = f"a notice can lose what was done since the last checkpoint: {figures}. {right[0].upper()}{right[1:]}"
    return Guarantee(False, predicted_s, grace_s, words)


def interval_s(save_s: float, interruptions_per_hour: float) -> float:
    """Young's: sqrt(2 * seconds of a save * mean seconds between failures) (Young 1974; arXiv 2410.18124 repeats it),
    30 s at least, an hour at most. `save_s` is what a save costs training, at least 0.1 s."""
    if interruptions_per_hour <= 0:
        return MOST_INTERVAL_S
    between_s = 3600.0 / interruptions_per_hour
    return min(max(math.sqrt(2.0 * max(save_s, LEAST_SAVE_S) * between_s), LEAST_INTERVAL_S), MOST_INTERVAL_S)


def _span(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:,.0f} s"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


__all__ = [
    "Guarantee",
    "Option",
    "Size",
    "choose_capacity",
    "guarantee",
    "interval_s",
    "measure",
    "options",
    "save_seconds",
    "size_of",
]
