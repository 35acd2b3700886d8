"""An InferencePool has no pods, no picker, or a port on which nobody listens.

The gateway asks the endpoint picker for a pod of the pool, and sends the request to its `targetPorts`. The picker is
a Service, and the pods are those with all labels of the selector, in the pool's own namespace.

Symptom: 503 for every request; the picker logs no pods

Wrong:

    apiVersion: inference.networking.k8s.io/v1
    kind: InferencePool
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {matchLabels: {app: chat}}
      targetPorts: [{number: 8000}]
      endpointPickerRef: {name: picker, port: {number: 9002}}

Right:

    apiVersion: inference.networking.k8s.io/v1
    kind: InferencePool
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {matchLabels: {app: chat}}
      targetPorts: [{number: 8000}]
      endpointPickerRef: {name: picker, port: {number: 9002}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: picker, namespace: ai}
    spec:
      selector: {app: picker}
      ports: [{port: 9002}]
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {matchLabels: {app: chat}}
      template:
        metadata: {labels: {app: chat}}
        spec:
          containers: [{name: server, image: "chat:v1", ports: [{containerPort: 8000}]}]

Source: kubernetes-sigs/gateway-api-inference-extension documentation, InferencePool
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._routes import POOL, POOL_GROUPS
from stoker.lint.rules.edge._views import has_port, labelled, ports_shown, text
from stoker.manifests.objects import Manifest, is_open, look, sections, texts
from stoker.manifests.workloads import Workload


def check(cluster: Cluster) -> Iterator[Problem]:
    for pool in cluster.of(POOL, group=POOL_GROUPS[0]):
        yield from _picker(cluster, pool)
        selector = texts(pool.get("spec", "selector", "matchLabels"))
        if not selector or any(is_open(pool, each) for each in selector.values()):
            continue
        pods = labelled(cluster, selector, pool.namespace)
        if not pods:
            labels = ", ".join(f"{key}={value}" for key, value in sorted(selector.items()))
            told = f"no pods with {labels} are in sight: the pool is empty"
            yield Problem(pool, ("spec", "selector", "matchLabels"), told, hint="the labels of the model server's pods")
        else:
            yield from _ports(pool, pods)


def _picker(cluster: Cluster, pool: Manifest) -> Iterator[Problem]:
    path = ("spec", "endpointPickerRef")
    ref = pool.get(*path)
    name = text(look(ref, "name"))
    if not name or is_open(pool, name) or look(ref, "kind", default="Service") != "Service":
        return
    service = cluster.find("Service", name, pool.namespace or None)
    port = look(ref, "port", "number")
    if service is None:
        if not cluster.exists("Service", name, pool.namespace):
            told = f"no Service {name} is in sight to pick a pod: no request reaches the pool"
            yield Problem(pool, (*path, "name"), told, hint=f"a Service {name}")
    elif isinstance(port, int) and sections(service.get("spec", "ports")) and not has_port(service, port):
        told = f"{service} has no port {port}: the picker can not be asked"
        right = f"number: {ports_shown(service)}"
        yield Problem(pool, (*path, "port", "number"), told, hint=right, severity=Severity.ERROR)


def _ports(pool: Manifest, pods: list[Workload]) -> Iterator[Problem]:
    """Only where the containers list ports: they need not."""
    listed = {
        port.get("containerPort")
        for workload in pods
        for _, container in workload.containers(init=True)
        for _, port in sections(container.get("ports"))
    }
    for i, each in sections(pool.get("spec", "targetPorts")):
        number = each.get("number")
        if listed and isinstance(number, int) and number not in listed:
            shown = " or ".join(sorted(str(one) for one in listed if isinstance(one, int)))
            told = f"{pods[0]} lists no port {number}, but {shown}"
            yield Problem(pool, ("spec", "targetPorts", i, "number"), told, hint=f"number: {shown}")


RULE = Rule("STK-EDGE-017", Severity.WARNING, "An InferencePool has no pods or no picker", check, __name__)
