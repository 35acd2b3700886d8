"""An Ingress sends to a port that its Service does not have.

The port is that of the Service, by number or by name, and not the one on which the container listens.

Symptom: FailedBuildModel: unable to find port on service
Symptom: 503 although the pods are ready

Wrong:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata: {name: edge, namespace: ai}
    spec:
      ingressClassName: nginx
      defaultBackend: {service: {name: chat, port: {number: 8080}}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{name: http, port: 80, targetPort: 8080}]

Right:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata: {name: edge, namespace: ai}
    spec:
      ingressClassName: nginx
      defaultBackend: {service: {name: chat, port: {number: 80}}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{name: http, port: 80, targetPort: 8080}]

Source: Kubernetes API reference, ServiceBackendPort
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import backends, has_port, ingresses, ports_shown, service_of
from stoker.manifests.objects import is_open, sections


def check(cluster: Cluster) -> Iterator[Problem]:
    for ingress in ingresses(cluster):
        for backend in backends(ingress):
            service = service_of(cluster, backend)
            if service is None or backend.port is None or not sections(service.get("spec", "ports")):
                continue
            if is_open(ingress, backend.port) or service.templated or has_port(service, backend.port):
                continue
            yield Problem(
                ingress,
                backend.port_at,
                f"{service} has no port {backend.port}: requests for {backend.route or 'this path'} fail",
                hint=f"number: {ports_shown(service)}",
            )


RULE = Rule(
    "STK-EDGE-002", Severity.ERROR, "An Ingress sends to a port that its Service does not have", check, __name__
)
