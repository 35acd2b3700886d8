"""This machine's GPUs under DCGM's names, for machines without DCGM: `stoker gpus export`.

The same metrics and labels as NVIDIA's exporter, so that dashboards, alerts and `stoker gpus --from` read both. What
NVML does not have is left out (DCGM_FI_PROF_*), and so is who of Kubernetes has a GPU: that needs the kubelet's gRPC,
which is what DCGM is for. Processes of a platform on this machine are named instead.
"""

import math
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

from stoker.base.errors import PortTaken, StokerError
from stoker.policy.gpu_health import Gpu, Holder
from stoker.telemetry import nvml as driver
from stoker.telemetry.metrics import CONTENT_TYPE

_Value = Callable[[Gpu], float | None]

METRICS: Mapping[str, tuple[str, str, _Value]] = MappingProxyType(
    {
        "DCGM_FI_DEV_GPU_UTIL": ("gauge", "Time in which a kernel ran (in %).", lambda gpu: gpu.utilization),
        "DCGM_FI_DEV_FB_USED": ("gauge", "Memory used (in MiB).", lambda gpu: gpu.memory_used_mib),
        "DCGM_FI_DEV_FB_FREE": ("gauge", "Memory free (in MiB).", lambda gpu: gpu.memory_free_mib),
        "DCGM_FI_DEV_GPU_TEMP": ("gauge", "Temperature (in C).", lambda gpu: gpu.temperature_c),
        "DCGM_FI_DEV_POWER_USAGE": ("gauge", "Power (in W).", lambda gpu: gpu.power_w),
        "DCGM_FI_DEV_POWER_MGMT_LIMIT": ("gauge", "Power that it may take (in W).", lambda gpu: gpu.power_limit_w),
        "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": ("gauge", "Why clocks are low (bits).", lambda gpu: gpu.clock_reasons),
        "DCGM_FI_DEV_THERMAL_VIOLATION": ("counter", "Time throttled by heat (in ns).", lambda gpu: gpu.heat_slowed),
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": ("counter", "Corrected memory errors.", lambda gpu: gpu.ecc_corrected),
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": ("counter", "Uncorrected memory errors.", lambda gpu: gpu.ecc_uncorrected),
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": (
            "counter",
            "Rows remapped after uncorrectable errors.",
            lambda gpu: gpu.rows_uncorrected,
        ),
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": (
            "counter",
            "Rows remapped after correctable errors.",
            lambda gpu: gpu.rows_corrected,
        ),
        "DCGM_FI_DEV_ROW_REMAP_FAILURE": (
            "gauge",
            "Whether remapping of rows has failed.",
            lambda gpu: None if gpu.remap_failed is None else int(gpu.remap_failed),
        ),
        "DCGM_FI_DEV_XID_ERRORS": ("gauge", "The last XID error since this exporter began.", lambda gpu: gpu.xid),
    }
)
"""DCGM field -> type, help, value."""


def text(gpus: Iterable[Gpu]) -> str:
    """The exposition, as NVIDIA's exporter writes it: a series for each GPU, or MIG instance, and holder."""
    return "".join(_family(name, *METRICS[name], list(gpus)) for name in METRICS) if (gpus := list(gpus)) else ""


def _family(name: str, kind: str, help_text: str, value_of: _Value, gpus: list[Gpu]) -> str:
    lines = [
        f"{name}{{{labels}}} {_number(value)}"
        for gpu in gpus
        if (value := value_of(gpu)) is not None and math.isfinite(value)
        for labels in _labels(gpu, name)
    ]
    if not lines:
        return ""
    return "\n".join([f"# HELP {name} {help_text}", f"# TYPE {name} {kind}", *lines, ""])


def _labels(gpu: Gpu, name: str) -> Iterator[str]:
    pairs = [
        ("gpu", gpu.index),
        ("UUID", gpu.uuid),
        ("pci_bus_id", gpu.pci_bus_id),
        ("device", f"nvidia{gpu.index}"),
        ("modelName", gpu.name),
    ]
    if gpu.mig_id:
        pairs += [("GPU_I_PROFILE", gpu.mig_profile), ("GPU_I_ID", gpu.mig_id)]
    pairs.append(("Hostname", gpu.node))
    if name == "DCGM_FI_DEV_XID_ERRORS":
        pairs.append(("err_code", str(gpu.xid)))
    for holder in gpu.holders or (Holder(),):
        held = [("container", holder.container), ("namespace", holder.namespace), ("pod", holder.pod)]
        held += [("model", holder.model)] if holder.model else []
        whole = [*pairs, *(held if holder != Holder() else [])]
        yield ",".join(f'{label}="{_escaped(value)}"' for label, value in whole)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.6g}"


class Exporter:
    """What a scrape answers. NVML is asked by one at a time."""

    def __init__(self, nvml: Any, node: str, processes: Callable[[], Mapping[int, Holder]]) -> None:
        self._nvml, self._node, self._processes = nvml, node, processes
        self._xids = driver.Xids(nvml)
        self._lock = threading.Lock()

    def page(self) -> bytes:
        """Raises StokerError when the driver does not answer."""
        with self._lock:
            return text(driver.gpus(self._nvml, self._node, self._processes(), self._xids.take())).encode()


def server(exporter: Exporter, host: str, port: int) -> ThreadingHTTPServer:
    """Listens; whoever has it serves. /metrics and /health, as NVIDIA's exporter has them. Raises PortTaken."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # of a client that says nothing

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/health":
                self._say(200, b"OK")
            elif path == "/metrics":
                try:
                    self._say(200, exporter.page())
                except StokerError as error:
                    self._say(503, error.message.encode())
            else:
                self._say(404, b"/metrics and /health are here\n")

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE if status == 200 else "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """A scrape each few seconds is no news."""

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise PortTaken(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="another exporter may be there: --port 0 takes any",
        ) from error


def serve(
    nvml: Any, host: str, port: int, processes: Callable[[], Mapping[int, Holder]], note: Callable[[str], None]
) -> None:
    """Until Ctrl-C."""
    with server(Exporter(nvml, socket.gethostname(), processes), host, port) as listening:
        note(f"GPUs of this machine: http://{host}:{listening.server_port}/metrics, until Ctrl-C")
        listening.serve_forever()
