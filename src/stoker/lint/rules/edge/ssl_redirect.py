"""Requests are redirected to a port that is not open.

`ssl-redirect` sends every HTTP request to HTTPS on this port. It has to be one of `listen-ports`, with HTTPS; without
`listen-ports` the load balancer has HTTP 80, or with a certificate HTTPS 443 alone.

Symptom: FailedBuildModel: listener does not exist for SSLRedirect port
Symptom: http:// times out instead of being redirected

Wrong:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      annotations:
        alb.ingress.kubernetes.io/target-type: ip
        alb.ingress.kubernetes.io/listen-ports: '[{"HTTP": 80}]'
        alb.ingress.kubernetes.io/ssl-redirect: "443"
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
        alb.ingress.kubernetes.io/listen-ports: '[{"HTTP": 80}, {"HTTPS": 443}]'
        alb.ingress.kubernetes.io/certificate-arn: arn:aws:acm:us-west-2:111122223333:certificate/0f0f0f0f
        alb.ingress.kubernetes.io/ssl-redirect: "443"
    spec:
      ingressClassName: alb
      defaultBackend: {service: {name: chat, port: {number: 8080}}}

Source: AWS Load Balancer Controller documentation, annotations (ssl-redirect, listen-ports)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import alb, albs, at, is_grouped, listeners, whole
from stoker.spec.faults import shown


def check(cluster: Cluster) -> Iterator[Problem]:
    for ingress in albs(cluster):
        written, open_ = alb(ingress, "ssl-redirect"), listeners(ingress)
        if written is None or open_ is None or is_grouped(ingress):
            continue
        port, path = whole(written), at("ssl-redirect")
        if port is None:
            yield Problem(ingress, path, f"ssl-redirect is {shown(written)}, which is no port", hint='"443"')
        elif ("HTTPS", port) not in open_:
            told = f"ssl-redirect goes to {port}, where there is no HTTPS listener: the load balancer is not built"
            yield Problem(ingress, path, told, hint=f'listen-ports: \'[{{"HTTP": 80}}, {{"HTTPS": {port}}}]\'')
        elif not any(protocol == "HTTP" for protocol, _ in open_):
            told = "there is no HTTP listener whose requests could be redirected"
            right = f'listen-ports: \'[{{"HTTP": 80}}, {{"HTTPS": {port}}}]\''
            yield Problem(ingress, path, told, hint=right, severity=Severity.WARNING)


RULE = Rule("STK-EDGE-006", Severity.ERROR, "Requests are redirected to a port that is not open", check, __name__)
