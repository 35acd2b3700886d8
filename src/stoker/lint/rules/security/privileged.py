"""A container runs privileged.

It has every capability and every device of the node: whoever gets into it has the node, with the node's role and all
pods on it. Few things need that: CSI drivers that mount for others, drivers. An exporter of GPU metrics needs one
capability.

Symptom: a compromised exporter reads every Secret of its node

Wrong:

    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: gpu-metrics}
    spec:
      selector: {matchLabels: {app: gpu-metrics}}
      template:
        metadata: {labels: {app: gpu-metrics}}
        spec:
          containers:
          - name: exporter
            image: registry.example.com/exporter:4.1
            securityContext: {privileged: true}

Right:

    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: gpu-metrics}
    spec:
      selector: {matchLabels: {app: gpu-metrics}}
      template:
        metadata: {labels: {app: gpu-metrics}}
        spec:
          containers:
          - name: exporter
            image: registry.example.com/exporter:4.1
            securityContext: {capabilities: {add: [SYS_ADMIN]}}

Source: Kubernetes documentation, Pod Security Standards: baseline, privileged containers
"""

from collections.abc import Iterator
from typing import Any

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._views import containers, named
from stoker.manifests.objects import look, sections

_DEVICE_PLUGINS = "/var/lib/kubelet/device-plugins"


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload, path, container in containers(cluster):
        if look(container, "securityContext", "privileged") is True:
            needed = _needs_it(container)
            yield Problem(
                workload.manifest,
                (*path, "securityContext", "privileged"),
                f"{named(container)} is privileged: it has all devices and capabilities of the node"
                + (f", which its {needed} needs" if needed else ""),
                hint="" if needed else "the one capability or device that it needs",
                severity=Severity.INFO if needed else None,
            )


def _needs_it(container: dict[str, Any]) -> str:
    """The API server demands it for mounts that others see; a device plugin passes on the devices of the node."""
    mounts = [mount for _i, mount in sections(container.get("volumeMounts"))]
    if any(mount.get("mountPropagation") == "Bidirectional" for mount in mounts):
        return "Bidirectional mount"
    if any(str(mount.get("mountPath")).startswith(_DEVICE_PLUGINS) for mount in mounts):
        return "device plugin"
    return ""


RULE = Rule("STK-SECURITY-001", Severity.WARNING, "A container runs privileged", check, __name__)
