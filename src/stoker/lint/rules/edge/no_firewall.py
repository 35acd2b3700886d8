"""A load balancer faces the internet without a web application firewall.

Anybody can send requests, and each one that reaches a model costs GPU time. AWS WAF limits the rate by address before
that.

Symptom: a scanner's requests fill the queue

Wrong:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      annotations:
        alb.ingress.kubernetes.io/target-type: ip
        alb.ingress.kubernetes.io/scheme: internet-facing
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
        alb.ingress.kubernetes.io/scheme: internet-facing
        alb.ingress.kubernetes.io/wafv2-acl-arn: arn:aws:wafv2:us-west-2:111122223333:regional/webacl/edge/0f0f0f0f
    spec:
      ingressClassName: alb
      defaultBackend: {service: {name: chat, port: {number: 8080}}}

Source: AWS Load Balancer Controller documentation, annotations (wafv2-acl-arn); AWS WAF developer guide, rate-based
  rules
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import ALB, alb, albs, at, is_grouped

_GUARDS = tuple(ALB + each for each in ("wafv2-acl-arn", "wafv2-acl-name", "waf-acl-id", "web-acl-id", "inbound-cidrs"))


def check(cluster: Cluster) -> Iterator[Problem]:
    for ingress in albs(cluster):
        is_open = (alb(ingress, "scheme") or "").strip() == "internet-facing"
        if is_open and not is_grouped(ingress) and not any(each in ingress.annotations for each in _GUARDS):
            yield Problem(
                ingress,
                at("scheme"),
                "internet-facing without a web ACL: nothing limits who sends how much",
                hint=f"{ALB}wafv2-acl-arn",
            )


RULE = Rule("STK-EDGE-008", Severity.INFO, "A load balancer faces the internet without a firewall", check, __name__)
