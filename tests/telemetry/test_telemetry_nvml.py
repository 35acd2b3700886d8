"""This machine's GPUs by NVML, and the exporter that serves them as DCGM's does."""

import http.client
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from stoker.base.errors import NotFound, PortTaken
from stoker.policy.gpu_health import Gpu, Holder
from stoker.telemetry import dcgm, nvml
from stoker.telemetry.gpu_exporter import Exporter, server, text
from stoker.testing.nvml import MIB, FakeGpu, FakeNvml, NVMLError

BUSY = FakeGpu(
    "GPU-1",
    utilization=93,
    used=20000 * MIB,
    free=3028 * MIB,
    temperature=71,
    power=231_418,
    reasons=4,
    heat_ns=1_500,
    ecc={0: 7, 1: 1},
    rows=(2, 1, 0, 0),
    processes=(4321,),
)


def test_all_that_nvml_says_of_a_gpu_and_whose_process_is_on_it() -> None:
    """The process on the GPU is a child of the platform's."""
    parents = {4321: 4300, 4300: 4242, 4242: 1}
    found = nvml.gpus(
        FakeNvml(BUSY), "here", {4242: Holder("general-0", model="general")}, {"GPU-1": 13}, lambda pid: parents[pid]
    )
    assert found == [
        Gpu(
            node="here",
            index="0",
            uuid="GPU-1",
            name="NVIDIA A10G",
            pci_bus_id="00000000:00:1E.0",
            holders=(Holder("general-0", model="general"),),
            utilization=93.0,
            memory_used_mib=20000.0,
            memory_free_mib=3028.0,
            temperature_c=71.0,
            power_w=231.418,
            power_limit_w=300.0,
            clock_reasons=4,
            heat_slowed=1500.0,
            ecc_corrected=7.0,
            ecc_uncorrected=1.0,
            rows_corrected=2.0,
            rows_uncorrected=1.0,
            remap_failed=False,
            xid=13,
        )
    ]


def test_somebody_elses_process_is_named_by_its_id() -> None:
    [gpu] = nvml.gpus(FakeNvml(BUSY), "here", {}, {}, lambda pid: 1)
    assert gpu.holders == (Holder("pid 4321"),)


def test_a_parent_is_found_and_nobody_has_none() -> None:
    assert nvml.parent(os.getpid()) == os.getppid()
    assert nvml.parent(2**30) == 0


def test_what_a_gpu_does_not_have_is_not_there() -> None:
    plain = FakeGpu("GPU-2", utilization=None, temperature=None, power=None, reasons=None, heat_ns=None)
    plain.ecc, plain.rows, plain.power_limit = None, None, None
    [gpu] = nvml.gpus(FakeNvml(plain), "here")
    assert (gpu.utilization, gpu.temperature_c, gpu.power_w, gpu.clock_reasons) == (None, None, None, None)
    assert (gpu.ecc_corrected, gpu.rows_replaced, gpu.remap_failed, gpu.xid) == (None, None, None, None)


def test_a_lost_gpu_is_there_with_its_xid() -> None:
    lost, well = nvml.gpus(FakeNvml(FakeGpu("GPU-1", is_lost=True), FakeGpu("GPU-2")), "here")
    assert lost == Gpu("here", "0", xid=79)
    assert (well.index, well.uuid) == ("1", "GPU-2")


def test_a_lost_gpu_whose_uuid_the_driver_still_knows() -> None:
    assert nvml.gpus(FakeNvml(FakeGpu("GPU-1", is_silent=True)), "here") == [Gpu("here", "0", uuid="GPU-1", xid=79)]


class OldDriver(FakeNvml):
    """Before 535: reasons have another name, and memory has one version. A container was not given GPU-0."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name == "nvmlDeviceGetCurrentClocksEventReasons":
            raise AttributeError(name)
        if name == "nvmlDeviceGetCurrentClocksThrottleReasons":
            return lambda gpu: gpu.reasons
        if name == "nvmlDeviceGetMemoryInfo":
            return self.memory
        return super().__getattr__(name)

    def memory(self, gpu: FakeGpu, version: int | None = None) -> Any:
        if version is not None:
            raise NVMLError(13, "Function Not Found")
        return super().__getattr__("nvmlDeviceGetMemoryInfo")(gpu)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:  # noqa: N802
        if self.gpus[index].uuid == "GPU-0":
            raise NVMLError(self.NVML_ERROR_NO_PERMISSION, "Insufficient Permissions")
        return super().nvmlDeviceGetHandleByIndex(index)


def test_an_old_driver_and_a_gpu_that_a_container_was_not_given() -> None:
    [gpu] = nvml.gpus(OldDriver(FakeGpu("GPU-0"), BUSY), "here")
    assert (gpu.index, gpu.clock_reasons, gpu.memory_used_mib) == ("1", 4, 20000.0)


def test_mig_instances_in_place_of_their_gpu() -> None:
    def part(used: int) -> FakeGpu:
        return FakeGpu("MIG-x", name="NVIDIA A100-SXM4-40GB MIG 3g.20gb", used=used * MIB, free=100 * MIB)

    whole = FakeGpu("GPU-1", name="NVIDIA A100-SXM4-40GB", parts={1: part(5), 2: part(6)})
    found = nvml.gpus(FakeNvml(whole), "here")
    assert [(gpu.key, gpu.mig_profile, gpu.memory_used_mib, gpu.utilization) for gpu in found] == [
        (("here", "0", "1"), "3g.20gb", 5.0, None),
        (("here", "0", "2"), "3g.20gb", 6.0, None),
    ]


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (None, "this machine's GPUs cannot be read: nvidia-ml-py is not installed"),
        (FakeNvml(fails="Driver Not Loaded"), "this machine has no GPU that can be read: Driver Not Loaded"),
    ],
)
def test_without_a_driver_one_line_says_why(monkeypatch: pytest.MonkeyPatch, module: object, says: str) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", module)  # None: cannot be imported
    with pytest.raises(NotFound) as raised:
        nvml.load()
    assert raised.value.message == says


# --- the exporter -----------------------------------------------------------------------------------------------------


@contextmanager
def exporting(driver: FakeNvml) -> Iterator[int]:
    with server(Exporter(driver, "here", lambda: {4321: Holder("general-0", model="general")}), "127.0.0.1", 0) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made.server_port
        finally:
            made.shutdown()
            thread.join()


def get(port: int, path: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


def test_the_exporters_page_has_dcgms_names_and_labels() -> None:
    with exporting(FakeNvml(BUSY)) as port:
        status, kind, said = get(port, "/metrics")
        assert get(port, "/health")[::2] == (200, "OK")
        assert get(port, "/else")[0] == 404
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert said.splitlines()[:3] == [
        "# HELP DCGM_FI_DEV_GPU_UTIL Time in which a kernel ran (in %).",
        "# TYPE DCGM_FI_DEV_GPU_UTIL gauge",
        'DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",pci_bus_id="00000000:00:1E.0",device="nvidia0",'
        'modelName="NVIDIA A10G",Hostname="here",container="",namespace="",pod="general-0",model="general"} 93',
    ]


def test_what_is_exported_is_read_back_as_it_was() -> None:
    """Also a name that would end its label, and an instance of MIG."""
    parts = {1: FakeGpu("MIG", name="A MIG 1g.5gb")}
    made = nvml.gpus(FakeNvml(BUSY, FakeGpu("GPU-2", name='A "x\\y"\n', parts=parts)), "here")
    assert made[1].name == 'A "x\\y"\n'
    assert dcgm.read(text(made), "there") == [made[0], made[1]]


def test_an_xid_that_happens_is_the_last_one_from_then_on() -> None:
    first, second = FakeGpu("GPU-1"), FakeGpu("GPU-2")
    driver = FakeNvml(first, second)
    with exporting(driver) as port:
        before = dcgm.read(get(port, "/metrics")[2], "there")
        driver.xid(second, 31)
        driver.xid(second, 48)
        after = dcgm.read(get(port, "/metrics")[2], "there")
    assert [gpu.xid for gpu in before] == [0, 0]
    assert [gpu.xid for gpu in after] == [0, 48]


def test_a_driver_that_fails_is_no_page_and_no_end_of_the_exporter() -> None:
    driver = FakeNvml(BUSY)
    with exporting(driver) as port:
        driver.is_broken = True
        broken = get(port, "/metrics")
        driver.is_broken = False
        assert get(port, "/metrics")[0] == 200
    assert broken[::2] == (503, "this machine's GPUs cannot be counted: Unknown Error")


def test_a_port_that_is_taken_is_told() -> None:
    with exporting(FakeNvml(BUSY)) as port, pytest.raises(PortTaken, match=f"cannot listen on 127.0.0.1:{port}"):
        server(Exporter(FakeNvml(), "here", dict), "127.0.0.1", port)
