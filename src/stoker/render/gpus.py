"""Device plugins: what tells the kubelet of GPUs, of shares of them, and of EFA. Only where the nodes lack them.

Karpenter's AL2023 nodes have drivers and no plugin. Bottlerocket and EKS Auto Mode carry NVIDIA's (EKS user guide,
ml-eks-optimized-ami and auto-accelerated), and Auto Mode EFA's, too.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from stoker.catalog.labels import AUTO_MODE
from stoker.manifests.writing import to_yaml
from stoker.render.facts import GPU, GPU_TOLERATION, SERVES, TRAINING, TRAINING_TOLERATION, Pool
from stoker.render.items import Item, Resource
from stoker.render.objects import Object, from_field, metadata, resources, selector, usual_labels
from stoker.render.plan import Plan
from stoker.render.sharing import CONFIG_LABEL, config_name
from stoker.spec import Gpu

PLUGIN = "nvidia-device-plugin"
_IMAGE = "nvcr.io/nvidia/k8s-device-plugin:v0.19.0"
_EFA = "aws-efa-device-plugin"
_EFA_REGISTRIES = {
    "aws": "602401143452.dkr.ecr.us-west-2.amazonaws.com",
    "aws-us-gov": "013241004608.dkr.ecr.us-gov-west-1.amazonaws.com",
    "aws-cn": "961992271922.dkr.ecr.cn-northwest-1.amazonaws.com.cn",
}
"""EKS user guide, add-ons-images: one registry of each partition, which all its regions reach."""
_EFA_IMAGE = "eks/aws-efa-k8s-device-plugin:v0.5.20"
_NAMESPACE = "kube-system"
_SOCKETS = "/var/lib/kubelet/device-plugins"
_MPS_ROOT = "/run/nvidia/mps"


def render(plan: Plan) -> Iterator[Item]:
    by_karpenter = [pool for pool in plan.pools if pool.has_gpus and pool.domain != AUTO_MODE]
    if by_karpenter and not plan.spec.karpenter.image.startswith("bottlerocket@"):
        yield from _nvidia(plan, by_karpenter)
    if any(pool.use == "training" for pool in by_karpenter) and plan.training_pods.efa:
        why = "it offers the node's network cards to the kubelet, by a socket in a folder of root's"
        yield Resource(f"gpus/{_EFA}.yaml", _efa_plugin(plan), _silenced("002", "003", "012", why=why))


def _nvidia(plan: Plan, pools: list[Pool]) -> Iterator[Item]:
    ways = {config_name(pool.sharing): pool.sharing for pool in pools if pool.sharing is not None}
    if any(pool.sharing is None for pool in pools):
        others = {"key": CONFIG_LABEL, "operator": "DoesNotExist"}
        yield Resource(f"gpus/{PLUGIN}.yaml", _plugin(plan, PLUGIN, others), _silenced("002", "012", why=_WHY))
    for way, gpu in ways.items():
        name = f"{PLUGIN}-{way}"
        here = {"key": CONFIG_LABEL, "operator": "In", "values": [way]}
        yield Resource(
            f"gpus/{name}.yaml",
            _config(plan, name, gpu),
            "Shares keep the name nvidia.com/gpu: Karpenter launches nodes for no other.",
        )
        rules = ("002", "012", "013") if gpu.sharing == "mig" else ("002", "012")
        yield Resource(f"gpus/{name}.yaml", _plugin(plan, name, here, gpu), _silenced(*rules, why=_WHY))
        if gpu.sharing == "mps":
            yield Resource(
                f"gpus/{name}.yaml",
                _mps_daemon(plan, name, here),
                _silenced("001", "002", why="it starts the MPS servers of the node and mounts the memory they share"),
            )


_WHY = "it offers the node's GPUs to the kubelet, by a socket in a folder of root's"


def _silenced(*rules: str, why: str) -> str:
    return f"stoker:ignore {','.join(f'STK-SECURITY-{each}' for each in rules)} {why}"


def _config(plan: Plan, name: str, gpu: Gpu) -> Object:
    """NVIDIA/k8s-device-plugin, README: configuration file, version v1."""
    content: dict[str, Any] = {"version": "v1"}
    if gpu.sharing == "mig":
        content["flags"] = {"migStrategy": "single"}
    else:
        shared = {"renameByDefault": False, "resources": [{"name": GPU, "replicas": gpu.share}]}
        # Two shares are no larger part of a GPU. MPS refuses more than one by itself.
        only_one = {"failRequestsGreaterThanOne": True} if gpu.sharing == "time-slicing" else {}
        content["sharing"] = {"timeSlicing" if gpu.sharing == "time-slicing" else "mps": {**only_one, **shared}}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(plan, name, "gpus", namespace=_NAMESPACE),
        "data": {"config.yaml": to_yaml(content)},
    }


def _plugin(plan: Plan, name: str, where: Object, gpu: Gpu | None = None) -> Object:
    """As NVIDIA's static manifest has it; with MIG it needs SYS_ADMIN to see all slices, with MPS the daemon's
    directories (NVIDIA/k8s-device-plugin, deployments/helm).

    Since 0.19 it gives every EFA device of the node to each container with a GPU unless it is told not to, over the
    head of EFA's own plugin (EKS user guide, device-management-efa).
    """
    way = gpu.sharing if gpu is not None else "none"
    environment = [{"name": "FAIL_ON_INIT_ERROR", "value": "false"}, {"name": "MOFED_ENABLED", "value": "false"}]
    volumes = {"sockets": ({"hostPath": {"path": _SOCKETS, "type": "Directory"}}, _SOCKETS)}
    if gpu is not None:
        environment.append({"name": "CONFIG_FILE", "value": "/config/config.yaml"})
        volumes["config"] = ({"configMap": {"name": name}}, "/config")
    if way == "mig":
        environment.append({"name": "NVIDIA_MIG_MONITOR_DEVICES", "value": "all"})
    if way == "mps":
        environment.append({"name": "MPS_ROOT", "value": _MPS_ROOT})
        volumes |= _mps_volumes()
    capabilities: Object = {"drop": ["ALL"], **({"add": ["SYS_ADMIN"]} if way == "mig" else {})}
    container = {
        "name": "plugin",
        "image": _IMAGE,
        "command": [PLUGIN],
        "env": environment,
        "resources": resources("50m", "64Mi"),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": capabilities,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return _daemon_set(plan, name, _on_gpu_nodes(plan, where), container, volumes)


def _mps_volumes() -> dict[str, tuple[Object, str]]:
    return {
        "mps-root": ({"hostPath": {"path": _MPS_ROOT, "type": "DirectoryOrCreate"}}, "/mps"),
        "mps-shm": ({"hostPath": {"path": f"{_MPS_ROOT}/shm", "type": "DirectoryOrCreate"}}, "/dev/shm"),  # noqa: S108 - of a container
    }


def _mps_daemon(plan: Plan, name: str, where: Object) -> Object:
    """The MPS control daemon of each GPU (NVIDIA/k8s-device-plugin, templates/daemonset-mps-control-daemon)."""
    container = {
        "name": "daemon",
        "image": _IMAGE,
        "command": ["mps-control-daemon"],
        "env": [
            from_field("NODE_NAME", "spec.nodeName"),
            {"name": "CONFIG_FILE", "value": "/config/config.yaml"},
            {"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"},
            {"name": "NVIDIA_DRIVER_CAPABILITIES", "value": "compute,utility"},
        ],
        "resources": resources("50m", "128Mi"),
        "securityContext": {"privileged": True},
    }
    volumes = {"config": ({"configMap": {"name": name}}, "/config"), **_mps_volumes()}
    found = _daemon_set(plan, f"{name}-daemon", _on_gpu_nodes(plan, where), container, volumes)
    found["spec"]["template"]["spec"]["initContainers"] = [
        {
            "name": "mount-shm",
            "image": _IMAGE,
            "command": ["mps-control-daemon", "mount-shm"],
            "resources": resources("50m", "64Mi"),
            "securityContext": {"privileged": True},
            "volumeMounts": [{"name": "mps-root", "mountPath": "/mps", "mountPropagation": "Bidirectional"}],
        }
    ]
    return found


def _efa_plugin(plan: Plan) -> Object:
    """As AWS' chart has it (aws/eks-charts, aws-efa-k8s-device-plugin)."""
    where = {"key": SERVES, "operator": "In", "values": [TRAINING]}
    container = {
        "name": "plugin",
        "image": f"{_EFA_REGISTRIES[plan.partition]}/{_EFA_IMAGE}",
        "resources": resources("10m", "32Mi"),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    volumes: dict[str, tuple[Object, str]] = {
        "sockets": ({"hostPath": {"path": _SOCKETS, "type": "Directory"}}, _SOCKETS),
        "infiniband": ({"hostPath": {"path": "/dev/infiniband"}}, "/dev/infiniband"),
    }
    chosen = {"affinity": _required([{"matchExpressions": [where]}])}
    placed = {**chosen, "tolerations": [GPU_TOLERATION, TRAINING_TOLERATION]}
    found = _daemon_set(plan, _EFA, placed, container, volumes)
    found["spec"]["template"]["spec"]["hostNetwork"] = True
    return found


def _on_gpu_nodes(plan: Plan, where: Object) -> Object:
    """Where the plan puts what belongs on GPU nodes, of these those with the label."""
    placed = deepcopy(plan.on_gpu_nodes())
    terms = placed["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    for term in terms:
        term["matchExpressions"].append(where)
    return placed


def _required(terms: list[Object]) -> Object:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _daemon_set(
    plan: Plan, name: str, placed: Object, container: Object, volumes: dict[str, tuple[Object, str]]
) -> Object:
    mounts = [
        {"name": each, "mountPath": path, **({"readOnly": True} if each == "config" else {})}
        for each, (_, path) in volumes.items()
    ]
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": metadata(plan, name, "gpus", namespace=_NAMESPACE),
        "spec": {
            "selector": {"matchLabels": selector(name)},
            "template": {
                "metadata": {"labels": {**selector(name), **usual_labels("gpus")}},
                "spec": {
                    **placed,
                    "priorityClassName": "system-node-critical",
                    "automountServiceAccountToken": False,
                    "containers": [{**container, "volumeMounts": mounts}],
                    "volumes": [{"name": each, **source} for each, (source, _) in volumes.items()],
                },
            },
        },
    }
