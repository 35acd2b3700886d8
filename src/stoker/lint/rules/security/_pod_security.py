"""What the Pod Security levels `baseline` and `restricted` forbid, as the API server's admission decides it.

`violations` says each with its path in the pod's spec. What is filled in later is not judged.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from stoker.manifests.objects import filled_in_later, look, sections, texts
from stoker.spec.faults import Path

BASELINE, RESTRICTED = "baseline", "restricted"

_CAPABILITIES = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)
_SYSCTLS = frozenset(
    [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    ]
)
_SELINUX = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_VOLUMES = frozenset(
    [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ]
)
_SECCOMP = ("RuntimeDefault", "Localhost")
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")

Violation = tuple[Path, str]


def violations(spec: Mapping[str, Any], annotations: Mapping[str, str], level: str) -> Iterator[Violation]:
    """What a pod asks for that the level forbids: the path in its spec, and what it is. Nothing for another level."""
    if level in (BASELINE, RESTRICTED):
        yield from _baseline(spec, annotations)
    if level == RESTRICTED:
        yield from _restricted(spec)


def unset(spec: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, str]:
    """What `restricted` demands and neither the container nor its pod says: field -> what to write."""
    pod, own = look(spec, "securityContext"), look(container, "securityContext")
    missing = {}
    if look(spec, "os", "name") == "windows":
        return {}
    if look(own, "allowPrivilegeEscalation") is None:
        missing["allowPrivilegeEscalation"] = "allowPrivilegeEscalation: false"
    if look(own, "runAsNonRoot") is None and look(pod, "runAsNonRoot") is None and spec.get("hostUsers") is not False:
        missing["runAsNonRoot"] = "runAsNonRoot: true"
    if look(own, "capabilities", "drop") is None:
        missing["capabilities.drop"] = "capabilities: {drop: [ALL]}"
    if look(own, "seccompProfile", "type") is None and look(pod, "seccompProfile", "type") is None:
        missing["seccompProfile"] = "seccompProfile: {type: RuntimeDefault}"
    return missing


def containers_of(spec: Mapping[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for key in _CONTAINERS:
        for i, container in sections(spec.get(key)):
            yield (key, i), container
    if "containers" not in spec:
        for key in ("container", "script"):  # a template of an Argo Workflow
            own = spec.get(key)
            if isinstance(own, dict):
                yield (key,), own


def _baseline(spec: Mapping[str, Any], annotations: Mapping[str, str]) -> Iterator[Violation]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key) is True:
            yield (key,), f"{key}: true"
    for i, volume in sections(spec.get("volumes")):
        if "hostPath" in volume:
            yield ("volumes", i, "hostPath"), "a hostPath volume"
    for i, sysctl in sections(look(spec, "securityContext", "sysctls")):
        name = sysctl.get("name")
        if isinstance(name, str) and name not in _SYSCTLS and not filled_in_later(name):
            yield ("securityContext", "sysctls", i, "name"), f"the sysctl {name}"
    for name, value in annotations.items():
        if name.startswith("container.apparmor.security.beta.kubernetes.io/") and value == "unconfined":
            yield (), f"AppArmor unconfined ({name})"
    yield from _context(("securityContext",), spec.get("securityContext"))
    for path, container in containers_of(spec):
        own = container.get("securityContext")
        yield from _context((*path, "securityContext"), own)
        if look(own, "privileged") is True:
            yield (*path, "securityContext", "privileged"), "privileged: true"
        for i, name in enumerate(_list(look(own, "capabilities", "add"))):
            if isinstance(name, str) and name.removeprefix("CAP_") not in _CAPABILITIES and not filled_in_later(name):
                yield (*path, "securityContext", "capabilities", "add", i), f"the capability {name}"
        if look(own, "procMount") not in (None, "Default"):
            yield (*path, "securityContext", "procMount"), f"procMount: {look(own, 'procMount')}"
        for i, port in sections(container.get("ports")):
            if isinstance(port.get("hostPort"), int) and port["hostPort"] != 0:
                yield (*path, "ports", i, "hostPort"), f"the port {port['hostPort']} of the node"


def _context(path: Path, context: Any) -> Iterator[Violation]:
    """What a pod's and a container's security context have in common."""
    if look(context, "windowsOptions", "hostProcess") is True:
        yield (*path, "windowsOptions", "hostProcess"), "hostProcess: true"
    for key in ("seccompProfile", "appArmorProfile"):
        if look(context, key, "type") == "Unconfined":
            yield (*path, key, "type"), f"{key} Unconfined"
    options = texts(look(context, "seLinuxOptions"))
    if options.get("type", "") not in _SELINUX:
        yield (*path, "seLinuxOptions", "type"), f"the SELinux type {options['type']}"
    for key in ("user", "role"):
        if options.get(key):
            yield (*path, "seLinuxOptions", key), f"an SELinux {key}"


def _restricted(spec: Mapping[str, Any]) -> Iterator[Violation]:
    for i, volume in sections(spec.get("volumes")):
        for kind in volume:
            if isinstance(kind, str) and kind not in _VOLUMES and kind not in ("name", "hostPath"):
                yield ("volumes", i, kind), f"a volume of type {kind}"
    yield from _user(("securityContext",), spec.get("securityContext"), spec)
    windows = look(spec, "os", "name") == "windows"
    for path, container in containers_of(spec):
        own = container.get("securityContext")
        here = (*path, "securityContext")
        yield from _user(here, own, spec)
        if not windows:
            yield from _linux(here, own)
        missing = unset(spec, container)
        if missing:
            yield here, f"no {', no '.join(missing)}"


def _linux(path: Path, own: Any) -> Iterator[Violation]:
    if look(own, "allowPrivilegeEscalation") is True:
        yield (*path, "allowPrivilegeEscalation"), "allowPrivilegeEscalation: true"
    drop = look(own, "capabilities", "drop")
    if drop is not None and "ALL" not in _list(drop) and not filled_in_later(drop):
        yield (*path, "capabilities", "drop"), "capabilities that are not all dropped"
    for i, name in enumerate(_list(look(own, "capabilities", "add"))):
        if isinstance(name, str) and name != "NET_BIND_SERVICE" and name in _CAPABILITIES:
            yield (*path, "capabilities", "add", i), f"the capability {name}"


def _user(path: Path, context: Any, spec: Mapping[str, Any]) -> Iterator[Violation]:
    if spec.get("hostUsers") is False:
        return  # root of a user namespace is nobody on the node
    if look(context, "runAsNonRoot") is False:
        yield (*path, "runAsNonRoot"), "runAsNonRoot: false"
    if look(context, "runAsUser") == 0 and look(context, "runAsUser") is not False:
        yield (*path, "runAsUser"), "runAsUser: 0"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
