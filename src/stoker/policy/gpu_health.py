"""What is wrong with a GPU: idle and paid for, memory that runs out, hot, slowed down, broken.

The rules and their thresholds, once: `stoker gpus` applies them to what it sees (`warnings`), and `render` makes
Prometheus alerts and CloudWatch alarms of the same thresholds under the same names. An alert waits until what it says
has lasted (`Rule.lasts`); a warning says it at once, with how long it was looked at.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from stoker.catalog.xids import HARDWARE_XIDS, XIDS, meaning

Severity = Literal["critical", "warning"]

HOT_C = 88
"""Data centre GPUs slow down from 85 to 90 C on."""
IDLE_PERCENT = 3
HELD_MIB = 256
"""Less is the driver's own."""
MEMORY_PART = 0.98
"""vLLM takes nine tenths at its start and keeps them, so that 90 % is no news; beyond this, allocation fails."""
AHEAD_S = 1800
"""How far the line through the memory of the last AHEAD_WINDOW_S is drawn."""
AHEAD_WINDOW_S = 900
AHEAD_RECENT_S = 300
"""In this, too, memory has to grow: a server that takes its memory at its start makes a step, and no line."""
THERMAL_WINDOW_S = 300
XID_WINDOW_S = 900

SOFTWARE_THERMAL, HARDWARE_THERMAL, POWER_BRAKE = 0x20, 0x40, 0x80
"""Bits of why clocks are low that say that something is wrong. Others (idle, a power cap under load) are usual.
Source: NVML, nvmlClocksEventReasons; DCGM_FI_DEV_CLOCKS_EVENT_REASONS has the same."""
SLOWDOWNS: Mapping[int, str] = MappingProxyType(
    {0x4: "power cap", 0x8: "slowdown", SOFTWARE_THERMAL: "heat", HARDWARE_THERMAL: "heat", POWER_BRAKE: "power brake"}
)

_REPLACE = "kubectl cordon and drain the node and delete its NodeClaim: a new one comes."
_UNUSED = (
    "Write replicas.min 0 for a model that is not always used, or see what keeps Karpenter from removing the node."
)


@dataclass(frozen=True, slots=True)
class Rule:
    severity: Severity
    lasts: str
    """How long an alert waits."""
    advice: str


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "GpuMissing": Rule("critical", "5m", _REPLACE),
        "GpuBroken": Rule("critical", "0m", _REPLACE),
        "GpuMemoryErrors": Rule("critical", "0m", _REPLACE),
        "GpuXid": Rule(
            "warning",
            "0m",
            "Look the code up in NVIDIA's list; 13, 31, 43 and 45 are mostly the program's: see the pod's log.",
        ),
        "GpuMemoryAhead": Rule(
            "warning",
            "10m",
            "Find what grows: a cache without a bound, longer prompts, a second process; restart it before it fails.",
        ),
        "GpuMemoryFull": Rule(
            "warning",
            "15m",
            "Lower gpu-memory-utilization of the server, or see whether a second process holds memory.",
        ),
        "GpuHot": Rule(
            "warning", "15m", "When others of its type are cooler under the same load, delete its NodeClaim."
        ),
        "GpuThrottled": Rule(
            "warning",
            "10m",
            "It is slower than what is paid for: see its fans and neighbours, or delete its NodeClaim.",
        ),
        "GpuPowerBrake": Rule(
            "warning",
            "10m",
            "The machine's power supply slows it down, and nothing in the cluster: delete its NodeClaim.",
        ),
        "GpuIdle": Rule("warning", "1h", _UNUSED),
        "GpuSliceIdle": Rule("warning", "1h", _UNUSED),
    }
)
"""By the name that the alert has, worst first."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a GPU. Empty: not known."""

    pod: str = ""
    namespace: str = ""
    container: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a MIG instance of one, at one moment. None: nobody says."""

    node: str
    index: str
    uuid: str = ""
    name: str = ""
    pci_bus_id: str = ""
    mig_id: str = ""
    mig_profile: str = ""
    instance_type: str = ""
    holders: tuple[Holder, ...] = ()
    utilization: float | None = None
    """Per cent of the time in which something ran."""
    memory_used_mib: float | None = None
    memory_free_mib: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    clock_reasons: int | None = None
    """Bits of why clocks are low."""
    heat_slowed: float | None = None
    """Time slowed down by heat since boot, in whatever unit the source has."""
    ecc_corrected: float | None = None
    ecc_uncorrected: float | None = None
    """Since the driver was loaded."""
    rows_corrected: float | None = None
    rows_uncorrected: float | None = None
    """Rows of memory that were replaced by spare ones, after errors that ECC could correct, or could not."""
    remap_failed: bool | None = None
    xid: int | None = None
    """The last one; 0: none."""
    is_simulated: bool = False
    cache_part: float | None = None
    """Of the KV cache in use: what a simulated one has instead of bytes of memory."""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.node, self.index, self.mig_id)

    @property
    def memory_part(self) -> float | None:
        """Of what can be used: what the driver keeps for itself does not count."""
        if self.memory_used_mib is None or self.memory_free_mib is None:
            return None
        total = self.memory_used_mib + self.memory_free_mib
        return self.memory_used_mib / total if total > 0 else None

    @property
    def rows_replaced(self) -> float | None:
        if self.rows_corrected is None and self.rows_uncorrected is None:
            return None
        return (self.rows_corrected or 0) + (self.rows_uncorrected or 0)

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.model for each in self.holders if each.model))

    @property
    def pods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.pod for each in self.holders if each.pod))


@dataclass(frozen=True, slots=True)
class Look:
    """All GPUs at one moment. `answered`: the nodes whose exporter answered, also where it has no GPU any more."""

    at: float
    gpus: Sequence[Gpu]
    answered: frozenset[str]


@dataclass(frozen=True, slots=True)
class Warned:
    """`rule`: a key of RULES. `threshold`: what the rule asks for, `seen`: the values that it saw."""

    rule: str
    gpu: Gpu
    threshold: str
    seen: str

    @property
    def severity(self) -> Severity:
        return RULES[self.rule].severity

    @property
    def advice(self) -> str:
        return RULES[self.rule].advice


def warnings(looks: Sequence[Look]) -> list[Warned]:
    """What the rules say of the GPUs at the last look, with the ones before it for what changes; worst first. The same
    GPU has several warnings when several rules hold. Simulated GPUs have none."""
    if not looks:
        return []
    last = looks[-1]
    found: list[Warned] = []
    seen: dict[tuple[str, str, str], list[tuple[float, Gpu]]] = {}
    for look in looks:
        for gpu in look.gpus:
            seen.setdefault(gpu.key, []).append((look.at, gpu))
    for gpu in last.gpus:
        if not gpu.is_simulated:
            found += _of_one(gpu, seen[gpu.key])
    found += [_gone(gpu, last.at - seen[gpu.key][-1][0]) for gpu in missing(looks)]
    order = list(RULES)
    return sorted(found, key=lambda each: (order.index(each.rule), each.gpu.key))


def missing(looks: Sequence[Look]) -> list[Gpu]:
    """Those that a node had at an earlier look and has not at the last, though its exporter answered; as last seen."""
    last = looks[-1]
    there = {gpu.key[:2] for gpu in last.gpus}  # whole ones: MIG instances come and go
    seen = {gpu.key: gpu for look in looks[:-1] for gpu in look.gpus if not gpu.is_simulated}
    return [gpu for gpu in seen.values() if gpu.key[:2] not in there and gpu.node in last.answered]


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Least squares: value at the last time, and growth a second; as Prometheus' predict_linear has them. At least two
    different times."""
    end = points[-1][0]
    times = [at - end for at, _ in points]
    mean_time = sum(times) / len(times)
    mean_value = sum(value for _, value in points) / len(points)
    spread = sum((time - mean_time) ** 2 for time in times)
    slope = (
        sum((time - mean_time) * (value - mean_value) for time, (_, value) in zip(times, points, strict=True)) / spread
    )
    return mean_value - slope * mean_time, slope


_Seen = Sequence[tuple[float, Gpu]]


def _of_one(gpu: Gpu, seen: _Seen) -> Iterator[Warned]:
    yield from _broken(gpu, seen)
    yield from _memory(gpu, seen)
    yield from _slow(gpu, seen)
    yield from _idle(gpu, seen)


def _broken(gpu: Gpu, seen: _Seen) -> Iterator[Warned]:
    if gpu.xid in HARDWARE_XIDS:
        threshold = f"the last XID is one of the hardware's: {', '.join(str(code) for code in HARDWARE_XIDS)}"
        yield Warned("GpuBroken", gpu, threshold, _xid(gpu.xid))
    recent = [each.xid for at, each in seen if each.xid is not None and at >= seen[-1][0] - XID_WINDOW_S]
    if gpu.xid and any(one != other for one, other in itertools.pairwise(recent)):
        threshold = f"another XID than before, within {XID_WINDOW_S // 60} minutes"
        yield Warned("GpuXid", gpu, threshold, f"{_xid(gpu.xid)}; before it {recent[0]}")
    uncorrected, failed = gpu.ecc_uncorrected or 0, bool(gpu.remap_failed)
    if uncorrected > 0 or failed:
        seen_text = [f"{uncorrected:.0f} errors that ECC cannot correct"] if uncorrected > 0 else []
        seen_text += ["a row that could not be replaced"] if failed else []
        threshold = "one error that ECC cannot correct, or one row that could not be replaced"
        yield Warned("GpuMemoryErrors", gpu, threshold, ", ".join(seen_text))


def _xid(code: int) -> str:
    known = XIDS.get(code)
    return f"XID {code}: {meaning(code)}" + (f" (NVIDIA: {known.action})" if known is not None else "")


def _memory(gpu: Gpu, seen: _Seen) -> Iterator[Warned]:
    part, used, free = gpu.memory_part, gpu.memory_used_mib, gpu.memory_free_mib
    if part is None or used is None or free is None:
        return
    if part > MEMORY_PART:
        yield Warned(
            "GpuMemoryFull",
            gpu,
            f"more than {MEMORY_PART * 100:g} % of memory used",
            f"{part * 100:.1f} %: {used:.0f} of {used + free:.0f} MiB",
        )
    points = [(at, each.memory_free_mib) for at, each in seen if each.memory_free_mib is not None]
    window = [point for point in points if point[0] >= points[-1][0] - AHEAD_WINDOW_S]
    recent = _recent(window)
    if len(recent) < 2 or len(window) < 3:
        return
    (now, slope), (_, slope_now) = line(window), line(recent)
    if free > 0 and slope_now < 0 and now + slope * AHEAD_S < 0:
        yield Warned(
            "GpuMemoryAhead",
            gpu,
            f"at this growth full within {AHEAD_S // 60} minutes",
            f"{free:.0f} MiB free, {-slope * 60:.0f} MiB less each minute, over {_span(window)}: "
            f"full in {_minutes(now / -slope)}",
        )


def _recent(window: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """The last third, which is AHEAD_RECENT_S of a whole window, and two points at least."""
    span = window[-1][0] - window[0][0]
    since = window[-1][0] - span * AHEAD_RECENT_S / AHEAD_WINDOW_S
    recent = [point for point in window if point[0] >= since]
    return recent if len(recent) > 1 else window[-2:]


def _slow(gpu: Gpu, seen: _Seen) -> Iterator[Warned]:
    if gpu.temperature_c is not None and gpu.temperature_c > HOT_C:
        yield Warned("GpuHot", gpu, f"hotter than {HOT_C} C", f"{gpu.temperature_c:.0f} C")
    reasons = gpu.clock_reasons or 0
    slowed = [
        each.heat_slowed for at, each in seen if each.heat_slowed is not None and at >= seen[-1][0] - THERMAL_WINDOW_S
    ]
    grew = slowed[-1] - slowed[0] if len(slowed) > 1 else 0
    if reasons & (SOFTWARE_THERMAL | HARDWARE_THERMAL) or grew > 0:
        by_bits = [SLOWDOWNS[bit] for bit in (SOFTWARE_THERMAL, HARDWARE_THERMAL) if reasons & bit]
        what = f"clocks held down by {by_bits[0]}" if by_bits else "time slowed down by heat has grown"
        hot = "" if gpu.temperature_c is None else f", at {gpu.temperature_c:.0f} C"
        yield Warned("GpuThrottled", gpu, "slowed down by heat", what + hot)
    if reasons & POWER_BRAKE:
        power = "" if gpu.power_w is None else f", at {gpu.power_w:.0f} W"
        yield Warned("GpuPowerBrake", gpu, "slowed down by the machine's power supply", f"power brake{power}")


def _idle(gpu: Gpu, seen: _Seen) -> Iterator[Warned]:
    values = [(at, each.utilization) for at, each in seen if each.utilization is not None]
    if not values or gpu.utilization is None:
        return
    mean = sum(value for _, value in values) / len(values)
    if mean >= IDLE_PERCENT:
        return
    over = f"on average over {_span(values)}" if len(values) > 1 else "at this one look"
    held = f", while {' and '.join(gpu.models or gpu.pods)} has it" if gpu.models or gpu.pods else ", and nobody has it"
    if (gpu.memory_used_mib or 0) >= HELD_MIB:
        held += f" and {gpu.memory_used_mib:.0f} MiB are held"
    rule = "GpuSliceIdle" if gpu.mig_id else "GpuIdle"
    yield Warned(rule, gpu, f"used less than {IDLE_PERCENT} % of the time", f"{mean:.1f} % {over}{held}")


def _gone(gpu: Gpu, ago_s: float) -> Warned:
    return Warned("GpuMissing", gpu, "a GPU that was there before is not", f"last seen {_seconds(ago_s)} ago")


def _span(points: Sequence[tuple[float, object]]) -> str:
    return f"{_seconds(points[-1][0] - points[0][0])} ({len(points)} looks)"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else _minutes(seconds)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else "less than a minute"
