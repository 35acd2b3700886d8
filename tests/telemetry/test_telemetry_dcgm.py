"""What DCGM exporters say, read: pages as versions 3.3 and 4.8 write them, and the same out of Prometheus."""

import json
from pathlib import Path

import pytest

from stoker.base.errors import InvalidInput
from stoker.policy.gpu_health import Gpu, Holder
from stoker.telemetry import dcgm

RECORDED = Path(__file__).parent / "recorded"


def page(name: str) -> str:
    return (RECORDED / f"{name}.prom").read_text()


def test_a_gpu_of_version_3_with_the_pod_that_has_it() -> None:
    found = dcgm.read(page("dcgm-3.3-hot-idle-failing"), "there")
    assert [gpu.index for gpu in found] == ["0", "1", "2", "3"]
    assert found[3] == Gpu(
        node="ip-10-0-1-23.ec2.internal",
        index="3",
        uuid="GPU-000000a4-4c1d-7a02-b9e1-51f0c2d300a4",
        name="NVIDIA A10G",
        holders=(Holder("model-general-6d5f7c9b48-q9w4r", "agentic-ai", "vllm", "general"),),
        utilization=41.0,
        memory_used_mib=20890.0,
        memory_free_mib=1910.0,
        temperature_c=58.0,
        power_w=142.7,
        clock_reasons=0,
        heat_slowed=0.0,
        ecc_corrected=31.0,
        ecc_uncorrected=2.0,
        rows_corrected=0.0,
        rows_uncorrected=1.0,
        remap_failed=False,
        xid=48,
    )


def test_what_a_lost_gpu_does_not_say_is_not_there() -> None:
    """NaN, Inf and what DCGM writes where there is no value; links are no GPUs."""
    lost, large, free = dcgm.read(page("dcgm-4.8-lost"), "there")
    assert lost == Gpu(
        node="ip-10-0-7-91.us-west-2.compute.internal",
        index="0",
        uuid="GPU-000000b1-4c1d-7a02-b9e1-51f0c2d300b1",
        name="NVIDIA H100 80GB HBM3",
        pci_bus_id="00000000:53:00.0",
        xid=79,
    )
    assert (large.models, large.remap_failed, large.xid, large.clock_reasons) == (("large",), True, 31, 132)
    assert large.power_limit_w == 700.0
    assert free.holders == ()


@pytest.mark.parametrize(
    "blank", ["2147483632", "2147483634", "140737488355328", "140737488355331", "9223372036854775795"]
)
def test_no_value_of_dcgm_is_a_value(blank: str) -> None:
    text = f'DCGM_FI_DEV_GPU_TEMP{{gpu="0"}} {blank}\nDCGM_FI_DEV_ECC_DBE_VOL_TOTAL{{gpu="0"}} {blank}\n'
    assert dcgm.read(text, "there") == [Gpu(node="", index="0")]


def test_mig_instances_are_gpus_of_their_own_as_busy_as_their_engines() -> None:
    found = dcgm.read(page("dcgm-4.8-mig"), "there")
    assert [(gpu.mig_id, gpu.mig_profile, gpu.models, gpu.utilization) for gpu in found] == [
        ("1", "3g.20gb", ("small",), pytest.approx(73.4)),
        ("2", "3g.20gb", ("tiny",), pytest.approx(0.04)),
    ]


def test_pods_that_share_a_gpu_are_its_holders() -> None:
    row = 'DCGM_FI_DEV_FB_USED{{gpu="0",UUID="u",Hostname="n",container="c",namespace="s",pod="{pod}"}} {value}'
    shared = "\n".join([row.format(pod="a", value=7), row.format(pod="b", value=7), ""])
    [gpu] = dcgm.read(shared, "there")
    assert (gpu.pods, gpu.memory_used_mib) == (("a", "b"), 7.0)


@pytest.mark.parametrize(
    "text", ["<html>hello</html>", "{} {} {}", 'DCGM_FI_DEV_GPU_UTIL{gpu="0} 1', "DCGM_FI_DEV_GPU_UTIL", "\x00\xff"]
)
def test_nonsense_is_an_error_that_says_what_to_name(text: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        dcgm.read(text, "http://node:9400/metrics")
    assert raised.value.message == "http://node:9400/metrics is not a page of metrics as Prometheus reads them"


@pytest.mark.parametrize("text", ["", "up 1\n", 'node_cpu_seconds_total{cpu="0"} 4\n', "DCGM_FI_DEV_GPU_UTIL 3\n"])
def test_metrics_without_a_gpu_are_an_error(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"there has no GPU: no DCGM_FI_\* metric is in it"):
        dcgm.read(text, "there")


def series(name: str, value: object, **labels: str) -> dict[str, object]:
    kind = "values" if isinstance(value, list) else "value"
    return {"metric": {"__name__": name, **labels}, kind: value}


def test_prometheus_answers_with_one_look_or_many() -> None:
    here = {"gpu": "0", "node": "n1", "model": "code", "instance_type": "g5.xlarge", "exported_pod": "p", "pod": "dcgm"}
    answer = {
        "status": "success",
        "data": {
            "resultType": "matrix",
            "result": [
                series("DCGM_FI_DEV_FB_USED", [[100, "5"], [160, "6"]], **here),
                series("DCGM_FI_DEV_GPU_UTIL", [[100, "NaN"], [160, "40"]], **here),
                series("up", [[100, "1"], [160, "1"]], node="n1", job="monitoring/dcgm-exporter"),
                series("up", [[100, "1"], [160, "1"]], node="n2", job="monitoring/dcgm-exporter"),
                series("up", [[100, "0"], [160, "0"]], node="n3", job="monitoring/dcgm-exporter"),
            ],
        },
    }
    first, second = dcgm.looks(json.loads(json.dumps(answer)), "there")
    assert (first.at, second.at, second.answered) == (100.0, 160.0, {"n1", "n2"})
    [gpu] = second.gpus
    assert (gpu.memory_used_mib, gpu.utilization, gpu.instance_type) == (6.0, 40.0, "g5.xlarge")
    assert gpu.holders == (Holder("p", "", "", "code"),)
    assert first.gpus[0].utilization is None


def test_what_prometheus_refuses_is_told_in_its_words() -> None:
    with pytest.raises(InvalidInput, match="there says: parse error: unexpected end of input"):
        dcgm.looks({"status": "error", "error": "parse error: unexpected end of input"}, "there")


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"status": "success"}, {"status": "success", "data": {"result": [{"metric": {}}]}}, 3]
)
def test_what_is_no_answer_of_prometheus_is_told(answer: object) -> None:
    with pytest.raises(InvalidInput, match="there does not answer as Prometheus does"):
        dcgm.looks(answer, "there")
