"""A variable or a file takes a field of the pod that cannot be had.

The downward API gives a few fields only: names, labels, annotations, the node's name, addresses, requests and limits.
The API server refuses any other.

Symptom: valueFrom.fieldRef.fieldPath: Unsupported value, or "field label not supported"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      containers:
      - name: server
        image: chat:v1
        env: [{name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostName}}}]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      containers:
      - name: server
        image: chat:v1
        env: [{name: HOST, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]

Source: Kubernetes documentation, Downward API (available fields)
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import holds_open
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import look, sections
from stoker.manifests.workloads import Workload
from stoker.spec.faults import Path

_OF_FILES = ("metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations")
_OF_VARIABLES = (
    *("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName"),
    *("status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"),
)
_ONE_OF_MANY = re.compile(r"metadata\.(labels|annotations)\['[^']+'\]")


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for path, allowed in _references(workload):
            field = workload.manifest.get(*path)
            if not isinstance(field, str) or field in allowed or _ONE_OF_MANY.fullmatch(field):
                continue
            if not holds_open(workload.manifest, field):
                yield Problem(
                    workload.manifest,
                    path,
                    f"{field}: the downward API has no such field here, and the pod is refused",
                    hint=f"one of {', '.join(allowed)}, metadata.labels['...'], metadata.annotations['...']",
                )


def _references(workload: Workload) -> Iterator[tuple[Path, tuple[str, ...]]]:
    end = ("fieldRef", "fieldPath")
    for path, container in workload.containers(init=True):
        for i, _ in sections(container.get("env")):
            yield (*path, "env", i, "valueFrom", *end), _OF_VARIABLES
    for i, volume in sections(workload.spec.get("volumes")):
        here = (*workload.path, "volumes", i)
        for j, _ in sections(look(volume, "downwardAPI", "items")):
            yield (*here, "downwardAPI", "items", j, *end), _OF_FILES
        for k, source in sections(look(volume, "projected", "sources")):
            for j, _ in sections(look(source, "downwardAPI", "items")):
                yield (*here, "projected", "sources", k, "downwardAPI", "items", j, *end), _OF_FILES


RULE = Rule("STK-MATCH-038", Severity.ERROR, "A field of the pod is asked for that cannot be had", check, __name__)
