"""An Ingress sends to a Service that is not there.

A request for that path is answered with 503 by the load balancer. With the AWS Load Balancer Controller one missing
Service is worse: the whole Ingress is not built, until it is there.

Symptom: FailedBuildModel: Service not found
Symptom: 503 for one path

Wrong:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata: {name: edge, namespace: ai}
    spec:
      ingressClassName: nginx
      rules:
      - http:
          paths:
          - {path: /v1, pathType: Prefix, backend: {service: {name: chat, port: {number: 8080}}}}

Right:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata: {name: edge, namespace: ai}
    spec:
      ingressClassName: nginx
      rules:
      - http:
          paths:
          - {path: /v1, pathType: Prefix, backend: {service: {name: chat, port: {number: 8080}}}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: chat, namespace: ai}
    spec:
      selector: {app: chat}
      ports: [{port: 8080}]

Source: Kubernetes documentation, Ingress; kubernetes-sigs/aws-load-balancer-controller pkg/ingress/model_builder.go
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import backends, ingresses, service_of
from stoker.lint.rules.match._references import looks_whole


def check(cluster: Cluster) -> Iterator[Problem]:
    for ingress in ingresses(cluster):
        for backend in backends(ingress):
            if service_of(cluster, backend) is not None:
                continue
            if cluster.exists("Service", backend.name, ingress.namespace):
                continue
            elsewhere = cluster.find("Service", backend.name)
            sure = elsewhere is not None or looks_whole(cluster, "Service", ingress.namespace)
            yield Problem(
                ingress,
                backend.name_at,
                f"no Service {backend.name} is in sight for {backend.route or 'this path'}: requests there fail",
                hint=f"a Service in namespace {ingress.namespace}: that of {elsewhere.namespace} is not looked at"
                if elsewhere is not None
                else f"a Service {backend.name}",
                severity=None if sure else Severity.INFO,
            )


RULE = Rule(
    "STK-EDGE-001", Severity.WARNING, "An Ingress sends to a Service that is not there", check, __name__, guide=("R07",)
)
