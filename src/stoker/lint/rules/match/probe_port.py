"""A probe asks a port by a name that its container does not have.

The name is looked up among the ports of the same container. Where it is not found the probe fails every time: the
container is restarted for ever, or never gets traffic.

Symptom: Readiness probe errored: strconv.Atoi: parsing "http": invalid syntax

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      containers:
      - name: server
        image: chat:v1
        ports: [{name: web, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /health, port: http}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat, namespace: ai}
    spec:
      containers:
      - name: server
        image: chat:v1
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /health, port: http}}

Source: Kubernetes documentation, Configure Liveness, Readiness and Startup Probes (use a named port)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import holds_open
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.objects import look, sections

_HANDLERS = (
    *(("livenessProbe",), ("readinessProbe",), ("startupProbe",)),
    *(("lifecycle", "preStop"), ("lifecycle", "postStart")),
)


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload in cluster.workloads:
        for path, container in workload.containers(init=True):
            names = sorted(
                port["name"] for _, port in sections(container.get("ports")) if isinstance(port.get("name"), str)
            )
            for handler in _HANDLERS:
                for kind in ("httpGet", "tcpSocket"):
                    port = look(container, *handler, kind, "port")
                    if (
                        not isinstance(port, str)
                        or port.isdecimal()
                        or port in names
                        or holds_open(workload.manifest, port)
                    ):
                        continue
                    yield Problem(
                        workload.manifest,
                        (*path, *handler, kind, "port"),
                        f"{port}: the container has no port of that name, so {handler[-1]} fails every time",
                        hint=f"one of {', '.join(names)}" if names else "a number, or name the port under ports",
                    )


RULE = Rule("STK-MATCH-036", Severity.ERROR, "A probe asks a port by a name that is not there", check, __name__)
