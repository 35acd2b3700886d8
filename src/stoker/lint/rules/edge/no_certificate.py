"""An HTTPS listener has no certificate.

Without `certificate-arn` the controller looks for a certificate in ACM by the hosts of the rules and of `tls`. Where
there is no host either, it finds none, and the load balancer is not built.

Symptom: FailedBuildModel: no certificate found for host

Wrong:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      annotations:
        alb.ingress.kubernetes.io/target-type: ip
        alb.ingress.kubernetes.io/listen-ports: '[{"HTTPS": 443}]'
    spec:
      ingressClassName: alb
      defaultBackend: {service: {name: chat, port: {number: 8080}}}

Right:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      annotations:
        alb.ingress.kubernetes.io/target-type: ip
        alb.ingress.kubernetes.io/listen-ports: '[{"HTTPS": 443}]'
    spec:
      ingressClassName: alb
      tls: [{hosts: [api.example.com]}]
      defaultBackend: {service: {name: chat, port: {number: 8080}}}

Source: AWS Load Balancer Controller documentation, Certificate discovery
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import ALB, albs, at, is_grouped, listeners
from stoker.manifests.objects import sections

_GIVES_ONE = (ALB + "certificate-arn", ALB + "create-acm-cert")


def check(cluster: Cluster) -> Iterator[Problem]:
    for ingress in albs(cluster):
        if is_grouped(ingress) or any(each in ingress.annotations for each in _GIVES_ONE):
            continue
        if not any(protocol == "HTTPS" for protocol, _ in listeners(ingress) or ()):
            continue
        has_host = any(rule.get("host") for _, rule in sections(ingress.get("spec", "rules")))
        if not has_host and not any(each.get("hosts") for _, each in sections(ingress.get("spec", "tls"))):
            yield Problem(
                ingress,
                at("listen-ports"),
                "HTTPS without certificate-arn, and no host to find one by: the load balancer is not built",
                hint=f"{ALB}certificate-arn, or a host",
            )


RULE = Rule("STK-EDGE-007", Severity.ERROR, "An HTTPS listener has no certificate", check, __name__)
