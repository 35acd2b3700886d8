"""A query asks for a GPU metric that nobody publishes.

dcgm-exporter publishes DCGM's field names, in capitals: DCGM_FI_DEV_GPU_UTIL, DCGM_FI_DEV_FB_USED. The names in small
letters were those of its first version, before 2.0; CloudWatch's Container Insights has container_gpu_*, pod_gpu_*
and node_gpu_*. A query for a name that does not exist gives no data: the alarm never fires, and the scaler never
scales.

Symptom: a panel or an alarm shows "no data"
Symptom: a Prometheus trigger stays at 0

Wrong:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat, namespace: ai}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metadata:
          serverAddress: http://prometheus.watch:9090
          query: avg(dcgm_gpu_utilization{pod=~"chat.*"})
          threshold: "80"

Right:

    apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: chat, namespace: ai}
    spec:
      scaleTargetRef: {name: chat}
      triggers:
      - type: prometheus
        metadata:
          serverAddress: http://prometheus.watch:9090
          query: avg(DCGM_FI_DEV_GPU_UTIL{pod=~"chat.*"})
          threshold: "80"

Source: NVIDIA/dcgm-exporter@4.2.3-4.1.3 etc/default-counters.csv
Source: Amazon CloudWatch user guide, Container Insights metrics for NVIDIA GPUs
"""

import difflib
import re
from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import Manifest
from stoker.spec.faults import Path

_KINDS = ("ScaledObject", "ScaledJob", "HorizontalPodAutoscaler", "PrometheusRule", "AnalysisTemplate", "ConfigMap")
_NAMES = re.compile(
    r"(?<![\w.])(?:DCGM_FI_[A-Z0-9_]+|dcgm_(?:gpu|fb|mem|memory|sm|power|enc|dec|pcie|xid)_\w+)(?![\w.])"
)
_DEV = (
    *(
        "SM_CLOCK",
        "MEM_CLOCK",
        "MEMORY_TEMP",
        "GPU_TEMP",
        "POWER_USAGE",
        "TOTAL_ENERGY_CONSUMPTION",
        "POWER_MGMT_LIMIT",
    ),
    *("PCIE_TX_THROUGHPUT", "PCIE_RX_THROUGHPUT", "PCIE_REPLAY_COUNTER", "GPU_UTIL", "MEM_COPY_UTIL", "ENC_UTIL"),
    *("DEC_UTIL", "XID_ERRORS", "POWER_VIOLATION", "THERMAL_VIOLATION", "SYNC_BOOST_VIOLATION", "LOW_UTIL_VIOLATION"),
    *("BOARD_LIMIT_VIOLATION", "RELIABILITY_VIOLATION", "FB_FREE", "FB_USED", "FB_TOTAL", "FB_RESERVED"),
    *("FB_USED_PERCENT", "ECC_SBE_VOL_TOTAL", "ECC_DBE_VOL_TOTAL", "ECC_SBE_AGG_TOTAL", "ECC_DBE_AGG_TOTAL"),
    *("RETIRED_SBE", "RETIRED_DBE", "RETIRED_PENDING", "UNCORRECTABLE_REMAPPED_ROWS", "CORRECTABLE_REMAPPED_ROWS"),
    *("ROW_REMAP_FAILURE", "NVLINK_BANDWIDTH_TOTAL", "VGPU_LICENSE_STATUS", "CLOCK_THROTTLE_REASONS"),
)
_PROF = (
    *("GR_ENGINE_ACTIVE", "SM_ACTIVE", "SM_OCCUPANCY", "PIPE_TENSOR_ACTIVE", "PIPE_FP64_ACTIVE", "PIPE_FP32_ACTIVE"),
    *("PIPE_FP16_ACTIVE", "DRAM_ACTIVE", "PCIE_TX_BYTES", "PCIE_RX_BYTES", "NVLINK_TX_BYTES", "NVLINK_RX_BYTES"),
)
KNOWN = frozenset([*(f"DCGM_FI_DEV_{each}" for each in _DEV), *(f"DCGM_FI_PROF_{each}" for each in _PROF)])
"""What dcgm-exporter publishes by default, or after a line in its list is no longer commented out."""
_OLD = {
    "dcgm_gpu_utilization": "DCGM_FI_DEV_GPU_UTIL",
    "dcgm_gpu_util": "DCGM_FI_DEV_GPU_UTIL",
    "dcgm_fb_used": "DCGM_FI_DEV_FB_USED",
    "dcgm_fb_free": "DCGM_FI_DEV_FB_FREE",
    "dcgm_gpu_temp": "DCGM_FI_DEV_GPU_TEMP",
    "dcgm_memory_temp": "DCGM_FI_DEV_MEMORY_TEMP",
    "dcgm_mem_copy_utilization": "DCGM_FI_DEV_MEM_COPY_UTIL",
    "dcgm_power_usage": "DCGM_FI_DEV_POWER_USAGE",
    "dcgm_sm_clock": "DCGM_FI_DEV_SM_CLOCK",
    "dcgm_xid_errors": "DCGM_FI_DEV_XID_ERRORS",
}


def check(cluster: Cluster) -> Iterator[Problem]:
    recorded = {
        text
        for rule in cluster.of("PrometheusRule")
        for path, text in _texts(rule.get("spec"), ("spec",))
        if path[-1] == "record"
    }
    for manifest in cluster.of(*_KINDS):
        for root in ("spec", "data"):
            for path, text in _texts(manifest.get(root), (root,)):
                if "dcgm" in text.lower():
                    yield from _problems(manifest, path, text, recorded)


def _problems(manifest: Manifest, path: Path, text: str, recorded: set[str]) -> Iterator[Problem]:
    for name in sorted(set(_NAMES.findall(text)) - recorded):
        if name.startswith("dcgm_"):
            right = _OLD.get(name, "DCGM_FI_DEV_GPU_UTIL and the like; container_gpu_* in CloudWatch")
            yield Problem(manifest, path, f"no exporter since 2.0 publishes {name}, so there is no data", hint=right)
        elif name not in KNOWN:
            # DCGM has some hundreds of fields, and an exporter may be told to publish any: only a misspelling is said.
            near = difflib.get_close_matches(name, KNOWN, 1, 0.85)
            if near:
                message = f"{name} is not among the metrics that dcgm-exporter publishes unless it is told to"
                yield Problem(manifest, path, message, hint=f"{near[0]}?", severity=Severity.INFO)


def _texts(tree: Any, path: Path) -> Iterator[tuple[Path, str]]:
    todo: list[tuple[Path, Any]] = [(path, tree)]
    while todo:
        here, value = todo.pop()
        if isinstance(value, str):
            yield here, value
        elif isinstance(value, dict):
            todo += [((*here, key), each) for key, each in value.items() if isinstance(key, str)]
        elif isinstance(value, list):
            todo += [((*here, i), each) for i, each in enumerate(value)]


RULE = Rule(
    "STK-GPU-004",
    Severity.WARNING,
    "A query asks for a GPU metric that nobody publishes",
    check,
    __name__,
    guide=("S02",),
)
