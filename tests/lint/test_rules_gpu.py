"""STK-GPU: the edges of its rules, beside the examples in their docstrings."""

from typing import Any

import pytest
from linted import container, deployment, messages, pod, pool, said

from stoker.lint import fixing
from stoker.lint.config import Config
from stoker.manifests.reading import read_text
from stoker.spec.faults import written

EXPORTER = "nvcr.io/nvidia/k8s/dcgm-exporter:4.2.3-4.1.3-ubuntu22.04"
VLLM = "vllm/vllm-openai:v0.11.0"


def exporter(name: str = "gpu-metrics", **spec: Any) -> dict[str, Any]:
    return deployment(container("exporter", image=EXPORTER), name=name, kind="DaemonSet", **spec)


def test_an_agent_on_the_only_kind_of_gpu_nodes_there_is() -> None:
    selects = exporter(nodeSelector={"karpenter.sh/capacity-type": "on-demand"})
    path = written(("spec", "template", "spec", "nodeSelector", "karpenter.sh/capacity-type"))
    assert said("STK-GPU-001", selects, pool(bought=("on-demand",))) == []
    assert said("STK-GPU-001", selects, pool(bought=("on-demand", "spot"))) == [
        ("DaemonSet ai/gpu-metrics", path, "warning")
    ]
    # a pool without GPUs, bought otherwise, is none of the agent's
    cpu = pool("cpu", types=("m7i.large",), bought=("spot",))
    assert said("STK-GPU-001", selects, pool(bought=("on-demand",)), cpu) == []


def test_an_agent_by_capacity_type_in_its_affinity() -> None:
    line = {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [line]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    assert len(said("STK-GPU-001", exporter(affinity=affinity))) == 1
    line["values"] = ["spot", "on-demand"]
    assert said("STK-GPU-001", exporter(affinity=affinity), pool(bought=("spot", "on-demand"))) == []


def test_a_second_exporter_of_our_own() -> None:
    assert said("STK-GPU-002", exporter(), exporter("dcgm")) == [
        ("DaemonSet ai/dcgm", "spec.template.spec.containers[0].image", "warning")
    ]
    assert said("STK-GPU-002", exporter(), exporter("dcgm", nodeSelector={"pool": "b"})) == []
    assert said("STK-GPU-002", exporter()) == []


def test_an_add_on_whose_exporter_is_off() -> None:
    addon = {
        "apiVersion": "eks.services.k8s.aws/v1alpha1",
        "kind": "Addon",
        "metadata": {"name": "observability"},
        "spec": {"name": "amazon-cloudwatch-observability", "clusterName": "atelier"},
    }
    assert len(said("STK-GPU-002", exporter(), addon)) == 1
    addon["spec"]["configurationValues"] = '{"dcgmExporter": {"enabled": false}}'
    assert said("STK-GPU-002", exporter(), addon) == []


def test_an_agent_that_is_meant_for_another_pool() -> None:
    tainted = pool(taints=({"key": "training", "effect": "NoSchedule"},))
    tainted["spec"]["template"]["metadata"] = {"labels": {"team": "training"}}
    assert messages("STK-GPU-003", exporter(), tainted) == [
        "does not tolerate training:NoSchedule, so the GPU nodes of gpu have no such agent"
    ]
    assert said("STK-GPU-003", exporter(nodeSelector={"team": "serving"}), tainted) == []
    soft = pool(taints=({"key": "training", "effect": "PreferNoSchedule"},))
    assert said("STK-GPU-003", exporter(), soft) == []


def config_map(text: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rules"}, "data": {"rules.yaml": text}}


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        ("avg(DCGM_FI_DEV_GPU_UTIL) > 80", ""),
        ("avg(dcgm_fb_used)", "warning"),
        ("avg(DCGM_FI_DEV_GPU_UTILS)", "info"),
        ("DCGM_FI_DEV_NVSWITCH_TEMPERATURE_LIMIT_SLOWDOWN", ""),  # one of hundreds that an exporter may be told to give
        ("container_gpu_utilization", ""),
        ("dcgm_exporter_up", ""),
    ],
)
def test_names_of_metrics(text: str, severity: str) -> None:
    assert [how for _, _, how in said("STK-GPU-004", config_map(text))] == ([severity] if severity else [])


def test_a_metric_that_a_rule_records() -> None:
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "gpu"},
        "spec": {
            "groups": [{"name": "a", "rules": [{"record": "dcgm_gpu_util", "expr": "avg(DCGM_FI_DEV_GPU_UTIL)"}]}]
        },
    }
    assert said("STK-GPU-004", rule, config_map("dcgm_gpu_util > 80")) == []


def test_a_limit_is_written_by_fix() -> None:
    text = """\
apiVersion: v1
kind: Pod
metadata: {name: chat}
spec:
  containers:
  - name: server
    image: example.com/chat:v1
    resources:
      requests:
        nvidia.com/gpu: 1  # one
      limits:
        memory: 24Gi
"""
    fixed = fixing.fix(read_text(text, "some.yaml"), Config())
    assert fixed.reading.texts["some.yaml"] == text + "        nvidia.com/gpu: 1\n"


@pytest.mark.parametrize(
    ("rule", "resources", "path"),
    [
        ("STK-GPU-005", {"requests": {"nvidia.com/gpu": 1}}, "requests"),
        ("STK-GPU-005", {"limits": {"nvidia.com/gpu": 1}}, ""),
        ("STK-GPU-006", {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": 1}}, ""),
        ("STK-GPU-006", {"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": 2}}, "requests"),
        ("STK-GPU-007", {"limits": {"nvidia.com/gpu": 0.5}}, "limits"),
        ("STK-GPU-007", {"limits": {"nvidia.com/gpu": "2000m"}}, ""),  # which is two
    ],
)
def test_numbers_of_gpus(rule: str, resources: dict[str, Any], path: str) -> None:
    place = written(("spec", "containers", 0, "resources", path, "nvidia.com/gpu"))
    found = said(rule, pod(container(resources=resources)))
    assert found == ([("Pod ai/chat", place, "error")] if path else [])


def test_an_agent_may_see_all_gpus() -> None:
    sees = container(env=[{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}])
    assert said("STK-GPU-008", pod(sees)) == [("Pod ai/chat", "spec.containers[0].env[0].value", "warning")]
    assert said("STK-GPU-008", deployment(sees, kind="DaemonSet")) == []


@pytest.mark.parametrize(
    ("more", "is_said"),
    [
        ({"image": VLLM}, True),
        ({"image": VLLM, "resources": {"limits": {"nvidia.com/mig-3g.40gb": 1}}}, False),
        ({"image": VLLM, "resources": {"claims": [{"name": "gpu"}]}}, False),
        ({"image": VLLM, "args": ["--device", "cpu", "--model", "m"]}, False),
        ({"image": VLLM, "command": ["python3", "-m", "http.server"]}, False),
        ({"image": "vllm/vllm-openai-cpu:v0.11.0"}, False),
        ({"image": "ghcr.io/huggingface/text-generation-inference:3.3.4"}, True),
        ({"image": "example.com/chat:v1"}, False),
    ],
)
def test_a_server_without_a_gpu(more: dict[str, Any], is_said: bool) -> None:
    assert (said("STK-GPU-009", pod(container(**more))) != []) is is_said


@pytest.mark.parametrize(
    ("more", "is_said"),
    [
        ({}, True),
        ({"args": ["--port", "8000"]}, True),
        ({"args": ["--model=Qwen/Qwen3-8B"]}, False),
        ({"args": ["Qwen/Qwen3-8B", "--port", "8000"]}, False),
        ({"args": ["--config", "/etc/vllm.yaml"]}, False),
        ({"command": ["sh", "-c", "exec vllm serve $MODEL_PATH"]}, False),
    ],
)
def test_a_model_that_is_named(more: dict[str, Any], is_said: bool) -> None:
    assert (said("STK-GPU-010", pod(container(gpus=1, image=VLLM, **more))) != []) is is_said


@pytest.mark.parametrize(
    ("args", "gpus", "severity"),
    [
        (["--model", "m", "--tensor-parallel-size", "4"], 4, ""),
        (["--model", "m", "--tensor-parallel-size=8"], 4, "error"),
        (["--model", "m", "-tp", "2", "-pp", "2"], 4, ""),
        (["--model", "m", "-tp", "2"], 4, "warning"),
        (["--model", "m", "-tp", "2", "--data-parallel-size", "2"], 4, ""),
        (["--model", "m"], 4, "warning"),
        (["--model", "m"], 1, ""),
        (["--model", "m", "-tp", "8", "--distributed-executor-backend", "ray"], 4, ""),
        (["--model", "m", "-tp", "$(GPUS)"], 4, ""),
    ],
)
def test_a_model_over_several_gpus(args: list[str], gpus: int, severity: str) -> None:
    found = said("STK-GPU-011", pod(container(gpus=gpus, image=VLLM, args=args)))
    assert [how for _, _, how in found] == ([severity] if severity else [])


def test_shared_memory_by_the_host() -> None:
    assert said("STK-GPU-012", pod(container(gpus=2))) == [
        ("Pod ai/chat", "spec.containers[0].volumeMounts", "warning")
    ]
    assert said("STK-GPU-012", pod(container(gpus=2), hostIPC=True)) == []
    assert said("STK-GPU-012", pod(container(gpus=1))) == []
    mounted = container(gpus=2, volumeMounts=[{"name": "shm", "mountPath": "/dev/shm/"}])
    assert said("STK-GPU-012", pod(mounted)) == []


@pytest.mark.parametrize(
    ("size", "limit", "severity"),
    [("16Gi", "16Gi", "warning"), ("16Gi", "32Gi", ""), (None, "32Gi", "info"), ("16Gi", None, "")],
)
def test_a_volume_in_memory(size: str | None, limit: str | None, severity: str) -> None:
    limits = {"limits": {"memory": limit}} if limit else {}
    writer = container(resources=limits, volumeMounts=[{"name": "shm", "mountPath": "/dev/shm"}])
    volume = {"name": "shm", "emptyDir": {"medium": "Memory", **({"sizeLimit": size} if size else {})}}
    found = said("STK-GPU-013", pod(writer, volumes=[volume]))
    assert [how for _, _, how in found] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("limits", "is_said"),
    [
        ({"nvidia.com/gpu.shared": 1}, False),
        ({"nvidia.com/gpu.shared": 2}, True),
        ({"nvidia.com/mig-1g.10gb": 1}, False),
        ({"nvidia.com/mig-1g.10gb.me": 1}, False),
        ({"nvidia.com/mig-1g-10gb": 1}, True),
        ({"nvidia.com/mig-1g.10gb": 1, "nvidia.com/gpu": 1}, True),
    ],
)
def test_shares_of_a_gpu(limits: dict[str, int], is_said: bool) -> None:
    assert (said("STK-GPU-014", pod(container(resources={"limits": limits}))) != []) is is_said


def test_a_limit_range_gives_what_is_left_out() -> None:
    ranges = {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "a", "namespace": "ai"},
        "spec": {"limits": []},
    }
    assert messages("STK-GPU-016", pod(container(gpus=1))) == [
        "1 GPU and no request of cpu and memory: the cheapest node with the GPUs is taken, and filled with others"
    ]
    assert said("STK-GPU-016", pod(container(gpus=1)), ranges) == []


@pytest.mark.parametrize(
    ("selector", "gpus", "is_said"),
    [
        ({"node.kubernetes.io/instance-type": "g5.16xlarge"}, 2, True),
        ({"node.kubernetes.io/instance-type": "g5.48xlarge"}, 8, False),
        ({"karpenter.k8s.aws/instance-family": "g5"}, 8, False),
        ({"karpenter.k8s.aws/instance-family": "trn1"}, 1, True),
        ({"karpenter.k8s.aws/instance-family": "zz9"}, 1, False),  # not in the catalogue: nothing is known
    ],
)
def test_gpus_that_a_type_has_not(selector: dict[str, str], gpus: int, is_said: bool) -> None:
    assert (said("STK-GPU-018", pod(container(gpus=gpus), nodeSelector=selector)) != []) is is_said


def test_gpus_and_neuron_in_one_pod() -> None:
    limits = {"nvidia.com/gpu": 1, "aws.amazon.com/neuron": 1}
    path = written(("spec", "containers", 0, "resources", "limits", "aws.amazon.com/neuron"))
    assert said("STK-GPU-018", pod(container(resources={"limits": limits}))) == [("Pod ai/chat", path, "error")]
