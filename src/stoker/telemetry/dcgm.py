"""GPUs as NVIDIA's DCGM exporter tells of them: its exposition, and the same series out of Prometheus.

Turns samples into `policy.gpu_health` GPUs. Labels of the exporter: gpu, UUID, pci_bus_id, device, modelName, Hostname;
GPU_I_PROFILE and GPU_I_ID for a MIG instance; pod, namespace and container where the kubelet says who has the GPU.
Prometheus adds those of `render`'s PodMonitor: node, model, instance_type.
Source: NVIDIA/dcgm-exporter, internal/pkg/rendermetrics and internal/pkg/collector, 3.3 to 4.8.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from stoker.base.errors import InvalidInput
from stoker.policy.gpu_health import Gpu, Holder, Look

Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]

QUERY = (
    '{__name__=~"DCGM_FI_DEV_(GPU_UTIL|FB_USED|FB_FREE|GPU_TEMP|POWER_USAGE|POWER_MGMT_LIMIT|CLOCKS_EVENT_REASONS|'
    "CLOCK_THROTTLE_REASONS|THERMAL_VIOLATION|ECC_SBE_VOL_TOTAL|ECC_DBE_VOL_TOTAL|UNCORRECTABLE_REMAPPED_ROWS|"
    'CORRECTABLE_REMAPPED_ROWS|ROW_REMAP_FAILURE|XID_ERRORS)|DCGM_FI_PROF_GR_ENGINE_ACTIVE"} '
    'or up{job=~".*dcgm-exporter.*"}'
)
"""What to ask Prometheus for: all of it, and which exporters answer."""

FIELDS = {
    "DCGM_FI_DEV_GPU_UTIL": "utilization",
    "DCGM_FI_DEV_FB_USED": "memory_used_mib",
    "DCGM_FI_DEV_FB_FREE": "memory_free_mib",
    "DCGM_FI_DEV_GPU_TEMP": "temperature_c",
    "DCGM_FI_DEV_POWER_USAGE": "power_w",
    "DCGM_FI_DEV_POWER_MGMT_LIMIT": "power_limit_w",
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": "clock_reasons",
    "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS": "clock_reasons",  # its name before DCGM 3.3
    "DCGM_FI_DEV_THERMAL_VIOLATION": "heat_slowed",
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": "ecc_corrected",
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": "ecc_uncorrected",
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": "rows_corrected",
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": "rows_uncorrected",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": "remap_failed",
    "DCGM_FI_DEV_XID_ERRORS": "xid",
}
ENGINE = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
_BLANKS = frozenset(blank + why for blank in (0x7FFFFFF0, 2.0**47) for why in range(4)) | {2.0**63}
"""What DCGM has where there is no value: nobody asked, not found, not supported, not permitted (dcgm_structs.h:
DCGM_INT32_BLANK, DCGM_FP64_BLANK, DCGM_INT64_BLANK and the three after each; as floats the last four are one)."""
_MODEL_POD = re.compile(r"model-(.+?)(?:-[a-z0-9]{6,10}-[a-z0-9]{5}|-\d+(?:-\d+)?)")
"""Pods of our models: of a Deployment, or numbered."""


def read(text: str, source: str) -> list[Gpu]:
    """GPUs out of an exposition. `source` is what errors call it. Raises
    InvalidInput when it is no exposition, or one without a GPU."""
    try:
        samples = [
            # The parser gives counters the suffix that DCGM does not, and whole numbers as they are.
            (sample.name.removesuffix("_total"), sample.labels, float(sample.value))
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith("DCGM_FI_")
        ]
    except (ValueError, KeyError, IndexError) as error:
        raise InvalidInput(
            f"{source} is not a page of metrics as Prometheus reads them",
            hint="name what the exporter serves, such as http://NODE:9400/metrics, or a file with that",
        ) from error
    found = gpus(samples)
    if not found:
        raise InvalidInput(
            f"{source} has no GPU: no DCGM_FI_* metric is in it",
            hint="the DCGM exporter usually serves http://NODE:9400/metrics; other exporters have other names",
        )
    return found


def gpus(samples: Iterable[Sample]) -> list[Gpu]:
    """One for each GPU and MIG instance, by node and number; who shares it stands in its holders."""
    made: dict[tuple[str, str, str], _Made] = {}
    for name, labels, value in samples:
        # What is counted of links and switches has labels of its own, and may have that of a GPU.
        if "gpu" not in labels or not (name in FIELDS or name == ENGINE):
            continue
        key = (_node(labels), labels["gpu"], labels.get("GPU_I_ID", ""))
        made.setdefault(key, _Made(key, labels)).take(name, labels, value)
    return [made[key].gpu() for key in sorted(made, key=_by_number)]


def _by_number(key: tuple[str, str, str]) -> tuple[str, int, str, int, str]:
    node, index, mig = key
    return node, len(index), index, len(mig), mig


class _Made:
    def __init__(self, key: tuple[str, str, str], labels: Labels) -> None:
        self._key, self._labels = key, labels
        self._values: dict[str, Any] = {}
        self._engine: float | None = None
        self._holders: dict[Holder, None] = {}

    def take(self, name: str, labels: Labels, value: float) -> None:
        holder = _holder(labels)
        if holder is not None:
            self._holders[holder] = None
        if not math.isfinite(value) or value in _BLANKS:
            return
        if name == ENGINE:
            self._engine = value * 100
        elif name in FIELDS:
            field = FIELDS[name]
            kind = {"xid": int, "clock_reasons": int, "remap_failed": bool}.get(field, float)
            self._values[field] = kind(value)

    def gpu(self) -> Gpu:
        node, index, mig = self._key
        labels = self._labels
        if self._engine is not None:
            self._values.setdefault("utilization", self._engine)  # a MIG instance has no other
        return Gpu(
            node=node,
            index=index,
            uuid=labels.get("UUID") or labels.get("uuid", ""),
            name=labels.get("modelName", ""),
            pci_bus_id=labels.get("pci_bus_id", ""),
            mig_id=mig,
            mig_profile=labels.get("GPU_I_PROFILE", ""),
            instance_type=labels.get("instance_type", ""),
            holders=tuple(self._holders),
            **self._values,
        )


def _node(labels: Labels) -> str:
    return labels.get("node") or labels.get("Hostname") or labels.get("instance", "")


def _holder(labels: Labels) -> Holder | None:
    # Prometheus renames what a target says itself to exported_*, unless it is told to keep it.
    said = {name: labels.get(f"exported_{name}") or labels.get(name, "") for name in ("pod", "namespace", "container")}
    model = labels.get("model") or _model_of(said["pod"])
    if not said["pod"] and not model:
        return None
    return Holder(said["pod"], said["namespace"], said["container"], model)


def _model_of(pod: str) -> str:
    found = _MODEL_POD.fullmatch(pod)
    return found[1] if found else ""


# --- out of Prometheus ------------------------------------------------------------------------------------------------


def looks(answer: object, source: str) -> list[Look]:
    """Of the answer to `/api/v1/query` (one look) or `/api/v1/query_range` (one for each step), oldest first. Raises
    InvalidInput when it is not such an answer, or Prometheus says that it failed."""
    try:
        return _looks(answer)
    except _Failed as failed:
        raise InvalidInput(f"{source} says: {failed}") from failed
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InvalidInput(
            f"{source} does not answer as Prometheus does",
            hint="name its root, such as http://prometheus:9090, to which /api/v1/query is added",
        ) from error


class _Failed(Exception):
    pass


def _looks(answer: Any) -> list[Look]:
    if answer["status"] != "success":
        raise _Failed(str(answer.get("error", "error"))[:300])
    at: dict[float, list[Sample]] = {}
    for series in answer["data"]["result"]:
        labels = {str(name): str(value) for name, value in series["metric"].items()}
        values = series["values"] if "values" in series else [series["value"]]
        for time, value in values:
            at.setdefault(float(time), []).append((labels["__name__"], labels, float(value)))
    return [_look(time, samples) for time, samples in sorted(at.items())]


def _look(at: float, samples: Sequence[Sample]) -> Look:
    found = gpus(samples)
    up = {_node(labels) for name, labels, value in samples if name == "up" and value == 1}
    return Look(at, found, frozenset(up | {gpu.node for gpu in found}))
