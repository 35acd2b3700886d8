"""GPUs: what their data sheets say, and what engines were seen to get out of them.

As of the day in `data/gpus/SOURCES.md`. Read once, when first asked for.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

_DATA = Path(__file__).with_name("data") / "gpus" / "gpus.json"

WEIGHTS_SHARE, KV_SHARE, PREFILL_SHARE = 0.78, 0.72, 0.65
"""Of data-sheet bandwidth and flops, where nobody measured."""

Link = Literal["nvlink", "pcie3", "pcie4", "pcie5"]


@dataclass(frozen=True, eq=False)
class Gpu:
    key: str
    names: tuple[str, ...]
    """As the EC2 catalogue writes it (`InstanceType.gpu_name`)."""
    memory_gib: float
    """As sold."""
    flops: float
    """Per second, dense, bf16 (fp16 where it has no bf16), by the data sheet."""
    bandwidth: float
    """Bytes per second, by the data sheet."""
    link: Link
    source: str
    fp8_flops: float = 0.0
    """0: no faster than bf16."""
    has_bf16: bool = True
    weights_rates: Mapping[float, float] = field(default_factory=dict)
    """Billions of parameters -> bytes of weights per second in decode steps. Empty: nobody measured."""
    kv_rate: float = 0.0
    """Bytes of cache per second that attention reads in large batches."""
    prefill_flops: float = 0.0
    """Per second, with prompts of 2,000 to 4,000 tokens."""
    confirmed: bool = True

    def weights_rate(self, billions: float) -> float:
        """Bytes of weights per second for a model of that size: of the nearest size that was measured."""
        if not self.weights_rates:
            return WEIGHTS_SHARE * self.bandwidth
        nearest = min(self.weights_rates, key=lambda each: abs(math.log(each / billions)))
        return self.weights_rates[nearest]

    @property
    def is_measured(self) -> bool:
        return bool(self.weights_rates)


@dataclass(frozen=True, slots=True)
class Share:
    """What one replica has of each of its GPUs."""

    compute: Fraction = Fraction(1)
    bandwidth: Fraction = Fraction(1)
    memory: Fraction = Fraction(1)

    @property
    def is_whole(self) -> bool:
        return self.compute == self.bandwidth == self.memory == 1


WHOLE = Share()


def gpus() -> Mapping[str, Gpu]:
    """All GPUs by key."""
    return _gpus()


def find(name: str, memory_mib: int = 0) -> Gpu | None:
    """The GPU that the EC2 catalogue calls so; of several (A100) the one whose memory is nearest."""
    candidates = [each for each in _gpus().values() if name in each.names or name == each.key]
    return min(candidates, key=lambda each: abs(each.memory_gib * 1024 - memory_mib), default=None)


def time_sliced(replicas: int) -> Share:
    """One of several pods that take turns on a GPU, all of them busy. Memory is not kept apart: what a pod may take is
    its `--gpu-memory-utilization`, so all of it counts here."""
    return Share(compute=Fraction(1, replicas), bandwidth=Fraction(1, replicas))


def mig_share(resource: str, gpu: Gpu) -> Share | None:
    """Of the device that a pod asks for as `nvidia.com/mig-3g.40gb`: 3 of 7 compute slices, and memory (with its
    bandwidth) in eighths; None for a resource of another kind."""
    found = re.fullmatch(r"(?:nvidia\.com/)?mig-([1-7])g\.(\d+)gb", resource)
    if found is None:
        return None
    memory = min(Fraction(1), Fraction(max(1, round(int(found[2]) / gpu.memory_gib * 8)), 8))
    return Share(compute=Fraction(int(found[1]), 7), bandwidth=memory, memory=memory)


@cache
def _gpus() -> Mapping[str, Gpu]:
    read = json.loads(_DATA.read_text(encoding="utf-8"))
    return MappingProxyType({row["key"]: _gpu(row) for row in read["gpus"]})


def _gpu(row: Mapping[str, Any]) -> Gpu:
    return Gpu(
        key=row["key"],
        names=tuple(row["names"]),
        memory_gib=row["memory_gib"],
        flops=row["bf16_tflops"] * 1e12,
        bandwidth=row["bandwidth_gbs"] * 1e9,
        link=row["link"],
        source=row["source"],
        fp8_flops=row.get("fp8_tflops", 0) * 1e12,
        has_bf16=row.get("has_bf16", True),
        weights_rates={float(size): rate * 1e9 for size, rate in row.get("weights_gbs", {}).items()},
        kv_rate=row.get("kv_gbs", row["bandwidth_gbs"] * KV_SHARE) * 1e9,
        prefill_flops=row.get("prefill_tflops", row["bf16_tflops"] * PREFILL_SHARE) * 1e12,
        confirmed=row.get("confirmed", True),
    )
