"""Two rules of an Ingress are for the same host and path.

The first one gets all requests, and the backend of the second gets none.

Symptom: a new Service gets no requests

Wrong:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata: {name: edge}
    spec:
      ingressClassName: nginx
      rules:
      - http:
          paths:
          - {path: /v1, pathType: Prefix, backend: {service: {name: chat, port: {number: 8080}}}}
          - {path: /v1, pathType: Prefix, backend: {service: {name: code, port: {number: 8080}}}}

Right:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata: {name: edge}
    spec:
      ingressClassName: nginx
      rules:
      - http:
          paths:
          - {path: /v1, pathType: Prefix, backend: {service: {name: chat, port: {number: 8080}}}}
          - {path: /code, pathType: Prefix, backend: {service: {name: code, port: {number: 8080}}}}

Source: Kubernetes documentation, Ingress (multiple matches); AWS Load Balancer Controller documentation, Ingress
  specification
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import ingresses, text
from stoker.manifests.objects import is_open, look, sections


def check(cluster: Cluster) -> Iterator[Problem]:
    for ingress in ingresses(cluster):
        if any(".kubernetes.io/conditions." in key or ".canary" in key for key in ingress.annotations):
            continue  # these tell rules apart by more than host and path
        seen: set[tuple[str, str, str]] = set()
        for i, rule in sections(ingress.get("spec", "rules")):
            for j, each in sections(look(rule, "http", "paths")):
                host, path = text(rule.get("host")), text(each.get("path"))
                key = (host, path, text(each.get("pathType")))
                if key in seen and not is_open(ingress, host) and not is_open(ingress, path):
                    told = f"{host or 'any host'}{path} is there already: this backend gets no requests"
                    yield Problem(ingress, ("spec", "rules", i, "http", "paths", j, "path"), told, hint="another path")
                seen.add(key)


RULE = Rule("STK-EDGE-021", Severity.WARNING, "Two rules of an Ingress are for the same host and path", check, __name__)
