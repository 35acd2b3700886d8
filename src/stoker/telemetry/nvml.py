"""GPUs of this machine as NVIDIA's driver tells of them (NVML), without DCGM.

NVML has no memory for XID errors: who wants them listens while they happen (`Xids`), as the exporter does.
Source: NVIDIA, NVML API reference; nvidia-ml-py, whose module is called pynvml.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stoker.base.errors import NotFound
from stoker.policy.gpu_health import Gpu, Holder

_MIB = 1024 * 1024
_PARENTS = 5
"""How far up a process of the platform is looked for: servers start workers, which start workers."""


def load() -> Any:
    """NVML, ready. Raises NotFound, which says in one line why there is none."""
    try:
        import pynvml as nvml
    except ImportError as error:
        raise NotFound(
            "this machine's GPUs cannot be read: nvidia-ml-py is not installed", hint="pip install 'stoker[gpu]'"
        ) from error
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise NotFound(f"this machine has no GPU that can be read: {error}", hint="NVIDIA's driver has it") from error
    return nvml


def gpus(
    nvml: Any,
    node: str,
    processes: Mapping[int, Holder] = MappingProxyType({}),
    xids: Mapping[str, int] = MappingProxyType({}),
    parent_of: Callable[[int], int] | None = None,
) -> list[Gpu]:
    """All of this machine, MIG instances in place of the GPU that they are parts of. A GPU that is lost is there
    without values, and with XID 79. `processes`: who has which process id. `xids`: the last XID of a UUID, where
    somebody listened."""
    found: list[Gpu] = []
    try:
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        raise NotFound(f"this machine's GPUs cannot be counted: {error}", hint="see dmesg for the driver") from error
    for index in range(count):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = _text(nvml.nvmlDeviceGetUUID(handle))
        except nvml.NVMLError as error:
            if getattr(error, "value", None) == nvml.NVML_ERROR_GPU_IS_LOST:
                found.append(Gpu(node, str(index), xid=79))
                continue
            if getattr(error, "value", None) == nvml.NVML_ERROR_NO_PERMISSION:
                continue  # a container sees what it was given
            raise NotFound(f"GPU {index} cannot be read: {error}") from error
        found += _Device(nvml, handle, node, index, uuid).all(processes, xids, parent_of or parent)
    return found


class _Device:
    def __init__(self, nvml: Any, handle: Any, node: str, index: int, uuid: str) -> None:
        self._nvml, self._handle = nvml, handle
        self._node, self._index, self._uuid = node, index, uuid
        self._is_lost = False

    def all(
        self, processes: Mapping[int, Holder], xids: Mapping[str, int], parent_of: Callable[[int], int]
    ) -> list[Gpu]:
        whole = self._whole(xids)
        if self._is_lost:  # who fell off the bus cannot say so
            whole["xid"] = 79
        parts = self._instances()
        if not parts:
            return [self._with_memory(whole, self._handle, processes, parent_of)]
        made = []
        for part, instance in parts:
            name = _text(self._ask("nvmlDeviceGetName", handle=part) or "")
            one = {**whole, "mig_id": str(instance), "mig_profile": name.rpartition("MIG ")[2], "utilization": None}
            made.append(self._with_memory(one, part, processes, parent_of))
        return made

    def _ask(self, name: str, *arguments: Any, handle: Any = None) -> Any:
        """None where this GPU, this driver or these rights do not have it."""
        function = getattr(self._nvml, name, None)
        if function is None:
            return None
        try:
            return function(self._handle if handle is None else handle, *arguments)
        except self._nvml.NVMLError as error:
            self._is_lost |= getattr(error, "value", None) == self._nvml.NVML_ERROR_GPU_IS_LOST
            return None

    def _whole(self, xids: Mapping[str, int]) -> dict[str, Any]:
        nvml, ask = self._nvml, self._ask
        rates, pci = ask("nvmlDeviceGetUtilizationRates"), ask("nvmlDeviceGetPciInfo")
        rows = ask("nvmlDeviceGetRemappedRows")
        reasons = ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:  # its name before driver 535
            reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        heat = ask("nvmlDeviceGetViolationStatus", nvml.NVML_PERF_POLICY_THERMAL)
        volatile = nvml.NVML_VOLATILE_ECC
        return {
            "node": self._node,
            "index": str(self._index),
            "uuid": self._uuid,
            "name": _text(ask("nvmlDeviceGetName") or ""),
            "pci_bus_id": "" if pci is None else _text(pci.busId),
            "utilization": None if rates is None else float(rates.gpu),
            "temperature_c": _number(ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU)),
            "power_w": _number(ask("nvmlDeviceGetPowerUsage"), 1000),
            "power_limit_w": _number(ask("nvmlDeviceGetPowerManagementLimit"), 1000),
            "clock_reasons": None if reasons is None else int(reasons),
            "heat_slowed": None if heat is None else float(heat.violationTime),
            "ecc_corrected": _number(
                ask("nvmlDeviceGetTotalEccErrors", nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, volatile)
            ),
            "ecc_uncorrected": _number(
                ask("nvmlDeviceGetTotalEccErrors", nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, volatile)
            ),
            "rows_corrected": None if rows is None else float(rows[0]),
            "rows_uncorrected": None if rows is None else float(rows[1]),
            "remap_failed": None if rows is None else bool(rows[3]),
            "xid": xids.get(self._uuid),
        }

    def _instances(self) -> list[tuple[Any, int]]:
        """MIG devices with the id of the GPU instance that each is of."""
        mode = self._ask("nvmlDeviceGetMigMode")
        if not mode or mode[0] != 1:
            return []
        found = []
        for index in range(self._ask("nvmlDeviceGetMaxMigDeviceCount") or 0):
            part = self._ask("nvmlDeviceGetMigDeviceHandleByIndex", index)
            if part is not None:
                found.append((part, self._ask("nvmlDeviceGetGpuInstanceId", handle=part) or 0))
        return found

    def _with_memory(
        self, values: dict[str, Any], handle: Any, processes: Mapping[int, Holder], parent_of: Callable[[int], int]
    ) -> Gpu:
        # Of version 2: what the driver keeps for itself is apart, as DCGM has it.
        memory = self._ask("nvmlDeviceGetMemoryInfo", getattr(self._nvml, "nvmlMemory_v2", None), handle=handle)
        memory = memory or self._ask("nvmlDeviceGetMemoryInfo", handle=handle)
        holders: dict[Holder, None] = {}
        for process in self._ask("nvmlDeviceGetComputeRunningProcesses", handle=handle) or []:
            holders[_holder(int(process.pid), processes, parent_of)] = None
        return Gpu(
            **values,
            memory_used_mib=None if memory is None else memory.used / _MIB,
            memory_free_mib=None if memory is None else memory.free / _MIB,
            holders=tuple(holders),
        )


class Xids:
    """The last XID of each GPU, by UUID, since this was made: what the driver tells whoever listens."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._events: Any = None
        self.last: dict[str, int] = {}
        try:
            self._events = nvml.nvmlEventSetCreate()
            for index in range(nvml.nvmlDeviceGetCount()):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._events)
                self.last[_text(nvml.nvmlDeviceGetUUID(handle))] = 0
        except nvml.NVMLError:
            self._events = None  # not on every GPU, and not in every container

    def take(self) -> Mapping[str, int]:
        """With all that has happened until now."""
        while self._events is not None:
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, 0)
                self.last[_text(self._nvml.nvmlDeviceGetUUID(event.device))] = int(event.eventData)
            except self._nvml.NVMLError:  # none is left: it says that in time none came
                break
        return self.last


def parent(pid: int) -> int:
    """The process that started it; 0 when there is none, or it cannot be seen."""
    try:
        # The name in brackets may hold spaces and brackets.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _holder(pid: int, processes: Mapping[int, Holder], parent_of: Callable[[int], int]) -> Holder:
    at = pid
    for _ in range(_PARENTS):
        if at in processes:
            return processes[at]
        at = parent_of(at)
        if at <= 1:
            break
    return Holder(pod=f"pid {pid}")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _number(value: Any, divisor: float = 1) -> float | None:
    return None if value is None or not math.isfinite(value) else value / divisor
