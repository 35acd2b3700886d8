"""A pod mounts a path of the node.

What it writes there outlives it and is seen by all pods of that node; what it reads may be the credentials of others.
The socket of the container runtime, or `/`, is the node itself. Agents that run on every node read a few known paths,
which is what such mounts are for.

Symptom: files of one pod turn up in another; a pod that moved to another node has lost its data

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: builder}
    spec:
      containers:
      - name: build
        image: registry.example.com/build:1.0
        volumeMounts: [{name: docker, mountPath: /var/run/docker.sock}]
      volumes:
      - name: docker
        hostPath: {path: /var/run/docker.sock}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: builder}
    spec:
      containers:
      - name: build
        image: registry.example.com/build:1.0
        volumeMounts: [{name: work, mountPath: /work}]
      volumes:
      - name: work
        emptyDir: {}

Source: Kubernetes documentation, Volumes: hostPath
"""

import posixpath
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._views import mounts, volumes
from stoker.manifests.objects import filled_in_later, look
from stoker.manifests.workloads import Workload

# What agents on each node are made to read: devices, and what the kubelet and the kernel say of pods.
_KNOWN = (
    *("/dev", "/proc", "/sys", "/run/nvidia", "/var/log", "/etc/localtime", "/etc/os-release", "/etc/machine-id"),
    *("/lib/modules", "/usr/src", "/run/udev", "/var/lib/kubelet/pod-resources", "/var/lib/kubelet/device-plugins"),
    *("/var/lib/kubelet/plugins", "/var/lib/kubelet/plugins_registry", "/var/lib/kubelet/pods", "/opt/cni", "/etc/cni"),
    *("/var/run/aws-node", "/run/xtables.lock", "/sys/fs/bpf", "/sys/fs/cgroup"),
)
_SOCKETS = ("docker.sock", "containerd.sock", "crio.sock", "dockershim.sock")
_NODE = ("/", "/etc", "/root", "/home", "/var", "/var/run", "/run", "/var/lib", "/var/lib/kubelet", "/etc/kubernetes")


_EFA = "/opt/amazon/efa"  # has a rule of its own: STK-TRAINING-004


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for path, volume in volumes(workload):
            where = look(volume, "hostPath", "path")
            if isinstance(where, str) and not filled_in_later(where) and not where.startswith(_EFA):
                consequence, severity, hint = _judged(workload, str(volume.get("name", "")), posixpath.normpath(where))
                yield Problem(
                    workload.manifest,
                    (*path, "hostPath", "path"),
                    f"{where} of the node is mounted: {consequence}",
                    hint=hint,
                    severity=severity,
                )


def _judged(workload: Workload, volume: str, where: str) -> tuple[str, Severity | None, str]:
    if where.endswith(_SOCKETS):
        return "whoever has the socket of the runtime is root on the node", None, "no socket: build with a builder"
    if where in _NODE:
        return "it holds credentials and configuration of the node and of all its pods", None, "the one path needed"
    if workload.kind == "DaemonSet" and _is_known(where):
        read_only = all(mount.get("readOnly") is True for mount in mounts(workload, volume))
        if read_only:
            return "an agent on each node may need that", Severity.INFO, ""
        return (
            "an agent on each node may need that, and could write to it as well",
            Severity.INFO,
            "readOnly: true in its volumeMounts, where it only reads",
        )
    if where == "/dev/shm":  # noqa: S108  - the path that a manifest mounts; nothing is written here
        return "all pods of the node share its shared memory", None, "emptyDir: {medium: Memory, sizeLimit: 16Gi}"
    if where.startswith("/dev/"):
        hint = "the resource of its device plugin (nvidia.com/gpu, vpc.amazonaws.com/efa)"
        return "the device is not counted: two pods may have it, and a node without it may be chosen", None, hint
    return (
        "it is another directory on each node, outlives the pod, and is shared with every pod that mounts it",
        None,
        "emptyDir, or a PersistentVolumeClaim",
    )


def _is_known(where: str) -> bool:
    return any(where == each or where.startswith(f"{each}/") for each in _KNOWN)


RULE = Rule("STK-SECURITY-002", Severity.WARNING, "A pod mounts a path of the node", check, __name__)
