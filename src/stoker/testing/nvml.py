"""NVIDIA's driver for tests: the functions of the module `pynvml` that are used, over GPUs that a test writes down.

Values that are None raise what NVML raises where a GPU does not have something.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

MIB = 1024 * 1024


class NVMLError(Exception):
    def __init__(self, value: int, text: str) -> None:
        super().__init__(text)
        self.value = value


@dataclass
class FakeGpu:
    """Units are NVML's: bytes, milliwatts. `processes`: ids. `parts`: MIG devices, by the id of their instance."""

    uuid: str
    name: str = "NVIDIA A10G"
    bus_id: str = "00000000:00:1E.0"
    utilization: int | None = 0
    used: int = 0
    free: int = 23028 * MIB
    temperature: int | None = 40
    power: int | None = 60_000
    power_limit: int | None = 300_000
    reasons: int | None = 1
    heat_ns: int | None = 0
    ecc: Mapping[int, int] | None = field(default_factory=lambda: {0: 0, 1: 0})
    """Corrected and uncorrected."""
    rows: tuple[int, int, int, int] | None = (0, 0, 0, 0)
    """Replaced after corrected errors, after uncorrected ones, pending, failed."""
    processes: tuple[int, ...] = ()
    parts: Mapping[int, "FakeGpu"] = field(default_factory=dict)
    is_lost: bool = False
    is_silent: bool = False
    """Lost, too, and the driver still knows its UUID."""


class FakeNvml:
    """In place of the module. `fails`: what starting it says. `xid` makes an event happen."""

    NVMLError = NVMLError
    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION = 3, 4
    NVML_ERROR_TIMEOUT, NVML_ERROR_GPU_IS_LOST = 10, 15
    NVML_TEMPERATURE_GPU = 0
    NVML_MEMORY_ERROR_TYPE_CORRECTED, NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 0, 1
    NVML_VOLATILE_ECC = 0
    NVML_PERF_POLICY_THERMAL = 1
    nvmlMemory_v2 = 0x02000028  # noqa: N815 - its name is NVIDIA's, as all below
    nvmlEventTypeXidCriticalError = 8  # noqa: N815

    def __init__(self, *gpus: FakeGpu, fails: str | None = None) -> None:
        self.gpus = list(gpus)
        self._fails = fails
        self.is_broken = False
        self._events: list[tuple[FakeGpu, int]] = []
        self._listened: list[FakeGpu] = []

    def xid(self, gpu: FakeGpu, code: int) -> None:
        if gpu in self._listened:
            self._events.append((gpu, code))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """The functions that have one value of a GPU for an answer."""
        if name not in _VALUES:
            raise AttributeError(name)
        value_of = _VALUES[name]

        def ask(gpu: FakeGpu, *arguments: Any) -> Any:
            if gpu.is_silent and name != "nvmlDeviceGetUUID":
                raise NVMLError(self.NVML_ERROR_GPU_IS_LOST, "GPU is lost")
            value = value_of(gpu, *arguments)
            if value is None:
                raise NVMLError(self.NVML_ERROR_NOT_SUPPORTED, "Not Supported")
            return value

        return ask

    def nvmlInit(self) -> None:  # noqa: N802
        if self._fails is not None:
            raise NVMLError(9, self._fails)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if self.is_broken:
            raise NVMLError(999, "Unknown Error")
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:  # noqa: N802
        if self.gpus[index].is_lost:
            raise NVMLError(self.NVML_ERROR_GPU_IS_LOST, "GPU is lost")
        return self.gpus[index]

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, index: int) -> FakeGpu:  # noqa: N802
        parts = list(gpu.parts.values())
        if index >= len(parts):
            raise NVMLError(6, "Not Found")
        return parts[index]

    def nvmlDeviceGetGpuInstanceId(self, part: FakeGpu) -> int:  # noqa: N802
        return next(id_ for gpu in self.gpus for id_, each in gpu.parts.items() if each is part)

    def nvmlEventSetCreate(self) -> object:  # noqa: N802
        return self._events

    def nvmlDeviceRegisterEvents(self, gpu: FakeGpu, kinds: int, events: object) -> None:  # noqa: N802
        self._listened.append(gpu)

    def nvmlEventSetWait_v2(self, events: object, timeout_ms: int) -> SimpleNamespace:  # noqa: N802
        if not self._events:
            raise NVMLError(self.NVML_ERROR_TIMEOUT, "Timeout")
        gpu, code = self._events.pop(0)
        return SimpleNamespace(device=gpu, eventData=code)


def _one(value: Any) -> Any:
    return None if value is None else SimpleNamespace(**value)


_VALUES: Mapping[str, Callable[..., Any]] = {
    "nvmlDeviceGetUUID": lambda gpu: gpu.uuid,
    "nvmlDeviceGetName": lambda gpu: gpu.name,
    "nvmlDeviceGetPciInfo": lambda gpu: _one({"busId": gpu.bus_id.encode()}),
    "nvmlDeviceGetUtilizationRates": lambda gpu: None if gpu.utilization is None else _one({"gpu": gpu.utilization}),
    "nvmlDeviceGetMemoryInfo": lambda gpu, version=None: _one({"used": gpu.used, "free": gpu.free}),
    "nvmlDeviceGetTemperature": lambda gpu, sensor: gpu.temperature,
    "nvmlDeviceGetPowerUsage": lambda gpu: gpu.power,
    "nvmlDeviceGetPowerManagementLimit": lambda gpu: gpu.power_limit,
    "nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: gpu.reasons,
    "nvmlDeviceGetViolationStatus": lambda gpu, policy: (
        None if gpu.heat_ns is None else _one({"violationTime": gpu.heat_ns})
    ),
    "nvmlDeviceGetTotalEccErrors": lambda gpu, kind, counter: None if gpu.ecc is None else gpu.ecc[kind],
    "nvmlDeviceGetRemappedRows": lambda gpu: gpu.rows,
    "nvmlDeviceGetComputeRunningProcesses": lambda gpu: [SimpleNamespace(pid=pid) for pid in gpu.processes],
    "nvmlDeviceGetMigMode": lambda gpu: (1, 1) if gpu.parts else None,
    "nvmlDeviceGetMaxMigDeviceCount": lambda gpu: 7,
}
