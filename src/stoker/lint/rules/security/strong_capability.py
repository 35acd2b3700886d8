"""A container is given a capability that is as good as root on the node.

With SYS_ADMIN one mounts, with SYS_MODULE one loads kernel code, with SYS_PTRACE, DAC_READ_SEARCH or BPF one reads
others' memory or files. For agents on each node that may be the smallest that works.

Symptom: an escape from a container that was not privileged

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: api}
    spec:
      containers:
      - name: api
        image: registry.example.com/api:1.0
        securityContext: {capabilities: {add: [SYS_ADMIN]}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: api}
    spec:
      containers:
      - name: api
        image: registry.example.com/api:1.0
        securityContext: {capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}

Source: Linux manual, capabilities(7)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.security._views import containers, named
from stoker.manifests.objects import look

_STRONG = {
    "ALL": "everything",
    "SYS_ADMIN": "mounting, and half of what root may",
    "SYS_MODULE": "loading kernel code",
    "SYS_PTRACE": "reading the memory of other processes",
    "SYS_RAWIO": "reading and writing devices",
    "SYS_BOOT": "restarting the node",
    "DAC_READ_SEARCH": "reading any file",
    "BPF": "programs in the kernel",
    "NET_ADMIN": "changing the network",
}


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload, path, container in containers(cluster):
        added = look(container, "securityContext", "capabilities", "add")
        for i, name in enumerate(added if isinstance(added, list) else ()):
            means = _STRONG.get(name.removeprefix("CAP_")) if isinstance(name, str) else None
            if means:
                agent = workload.kind == "DaemonSet"
                yield Problem(
                    workload.manifest,
                    (*path, "securityContext", "capabilities", "add", i),
                    f"{named(container)} has {name}: {means}",
                    hint="" if agent else "leave it out, or the smaller capability that it needs",
                    severity=Severity.INFO if agent else None,
                )


RULE = Rule(
    "STK-SECURITY-013",
    Severity.WARNING,
    "A container is given a capability that is as good as root on the node",
    check,
    __name__,
)
