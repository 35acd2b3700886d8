"""Device plugins: each on its nodes, once, and only where nodes have none."""

from typing import Any

import pytest

from stoker.manifests.reading import read_text
from stoker.render.gpus import render
from stoker.render.items import Resource
from stoker.render.plan import Plan
from stoker.spec import Mode, loads


def resources(text: str = "", mode: Mode = "karpenter") -> list[Resource]:
    return [each for each in render(Plan(loads(text), mode)) if isinstance(each, Resource)]


def objects(text: str = "", mode: Mode = "karpenter") -> dict[tuple[str, str], dict[str, Any]]:
    found = [each.object for each in resources(text, mode)]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def pod(name: str, text: str = "") -> dict[str, Any]:
    return objects(text)["DaemonSet", name]["spec"]["template"]["spec"]


def where(pod: dict[str, Any]) -> list[tuple[str, ...]]:
    needed = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = needed["nodeSelectorTerms"]
    return [(each["key"], each["operator"], *each.get("values", [])) for each in term["matchExpressions"]]


def models(**sharing: str) -> str:
    return "llm: {models: {%s}}\n" % ", ".join(  # noqa: UP031 - braces
        f"{name}: {{serving: {{gpu: {{{said}}}}}}}" for name, said in sharing.items()
    )


PLUGIN = "nvidia-device-plugin"
TRAINING = "training: {enabled: true}\n"


def test_nvidias_plugin_runs_on_each_gpu_node() -> None:
    assert list(objects()) == [("DaemonSet", PLUGIN)]
    found = pod(PLUGIN)
    assert where(found) == [
        ("karpenter.k8s.aws/instance-gpu-count", "Exists"),
        ("stoker.dev/gpu-sharing", "DoesNotExist"),
    ]
    assert found["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    (container,) = found["containers"]
    assert container["image"] == "nvcr.io/nvidia/k8s-device-plugin:v0.19.0"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert [each["mountPath"] for each in container["volumeMounts"]] == ["/var/lib/kubelet/device-plugins"]


def test_nvidias_plugin_leaves_the_devices_of_efa_to_efas() -> None:
    for name in (PLUGIN, f"{PLUGIN}-time-slicing-2"):
        text = TRAINING + models(a="sharing: time-slicing, share: 2, memory: 10Gi", b="memory: 20Gi")
        (container,) = pod(name, text)["containers"]
        assert {"name": "MOFED_ENABLED", "value": "false"} in container["env"]


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", "auto"),
        (TRAINING, "auto"),
        ('karpenter: {image: "bottlerocket@v1.55.0"}', "karpenter"),
        ("karpenter: {enabled: false}\n" + TRAINING, "karpenter"),
        ("llm: {inference: {enabled: false}}", "karpenter"),
    ],
)
def test_where_nodes_have_a_plugin_or_no_gpu_there_is_none(text: str, mode: Mode) -> None:
    assert objects(text, mode) == {}


def test_bottlerocket_has_no_plugin_for_efa() -> None:
    text = TRAINING + 'karpenter: {image: "bottlerocket@v1.55.0"}'

    assert list(objects(text)) == [("DaemonSet", "aws-efa-device-plugin")]


def test_efa_is_offered_on_training_nodes_alone() -> None:
    found = pod("aws-efa-device-plugin", TRAINING)

    assert where(found) == [("stoker.dev/serves", "In", "training")]
    assert {each["key"] for each in found["tolerations"]} == {"nvidia.com/gpu", "stoker.dev/serves"}
    assert found["containers"][0]["image"].startswith("602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/aws-efa")
    assert list(objects("training: {enabled: true, efa: false}")) == [("DaemonSet", PLUGIN)]


@pytest.mark.parametrize(
    ("region", "registry"),
    [("us-gov-west-1", "013241004608.dkr.ecr.us-gov-west-1"), ("cn-north-1", "961992271922.dkr.ecr.cn-northwest-1")],
)
def test_other_partitions_have_registries_of_their_own(region: str, registry: str) -> None:
    text = f"{TRAINING}global: {{cluster: {{region: {region}}}}}"

    assert pod("aws-efa-device-plugin", text)["containers"][0]["image"].startswith(registry)


def test_each_way_of_sharing_has_a_plugin_and_no_node_has_two() -> None:
    text = models(
        plain="memory: 8Gi",
        a="sharing: time-slicing, share: 4, memory: 4Gi",
        b="sharing: time-slicing, share: 4, memory: 5Gi",
        c="sharing: mps, share: 2, memory: 10Gi",
        d="sharing: mig",
    )
    labels = {name: where(pod(name, text))[1] for kind, name in objects(text) if kind == "DaemonSet"}

    key = "stoker.dev/gpu-sharing"
    assert labels == {
        PLUGIN: (key, "DoesNotExist"),
        f"{PLUGIN}-time-slicing-4": (key, "In", "time-slicing-4"),
        f"{PLUGIN}-mps-2": (key, "In", "mps-2"),
        f"{PLUGIN}-mps-2-daemon": (key, "In", "mps-2"),
        f"{PLUGIN}-mig": (key, "In", "mig"),
    }


def test_where_all_gpus_are_shared_there_is_no_plain_plugin() -> None:
    assert list(objects(models(a="sharing: mig"))) == [("ConfigMap", f"{PLUGIN}-mig"), ("DaemonSet", f"{PLUGIN}-mig")]


def config(sharing: str, name: str) -> Any:
    text = objects(models(a=sharing))["ConfigMap", f"{PLUGIN}-{name}"]["data"]["config.yaml"]
    (read,) = read_text("apiVersion: v1\nkind: X\nmetadata: {name: x}\n" + text.replace("version: v1\n", "")).manifests
    return {key: read.get(key) for key in ("flags", "sharing") if read.get(key)}


def test_shares_keep_the_name_that_karpenter_knows() -> None:
    resource = [{"name": "nvidia.com/gpu", "replicas": 4}]

    assert config("sharing: time-slicing, share: 4, memory: 4Gi", "time-slicing-4") == {
        "sharing": {
            "timeSlicing": {"failRequestsGreaterThanOne": True, "renameByDefault": False, "resources": resource}
        }
    }
    assert config("sharing: mps, share: 4, memory: 4Gi", "mps-4") == {
        "sharing": {"mps": {"renameByDefault": False, "resources": resource}}
    }
    assert config("sharing: mig", "mig") == {"flags": {"migStrategy": "single"}}


def test_plugins_of_shares_read_their_own_configuration() -> None:
    found = pod(f"{PLUGIN}-mps-2", models(a="sharing: mps, memory: 10Gi"))

    assert {"name": "config", "configMap": {"name": f"{PLUGIN}-mps-2"}} in found["volumes"]
    environment = {each["name"]: each["value"] for each in found["containers"][0]["env"]}
    assert environment["CONFIG_FILE"] == "/config/config.yaml"
    assert environment["MPS_ROOT"] == "/run/nvidia/mps"


def test_mps_has_its_daemon_beside_the_plugin() -> None:
    found = pod(f"{PLUGIN}-mps-2-daemon", models(a="sharing: mps, memory: 10Gi"))

    assert found["initContainers"][0]["command"] == ["mps-control-daemon", "mount-shm"]
    assert found["containers"][0]["command"] == ["mps-control-daemon"]
    mounts = {each["name"]: each["mountPath"] for each in found["containers"][0]["volumeMounts"]}
    assert mounts == {"config": "/config", "mps-root": "/mps", "mps-shm": "/dev/shm"}


def test_slices_are_seen_with_one_capability() -> None:
    found = pod(f"{PLUGIN}-mig", models(a="sharing: mig"))

    assert found["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["SYS_ADMIN"]}


def test_each_object_that_reaches_into_the_node_says_why() -> None:
    text = TRAINING + models(a="memory: 8Gi", b="sharing: mps, memory: 10Gi", c="sharing: mig")

    silent = [each.object["metadata"]["name"] for each in resources(text) if each.object["kind"] == "DaemonSet"
              and not each.comment.startswith("stoker:ignore STK-SECURITY-")]  # fmt: skip
    assert silent == []
