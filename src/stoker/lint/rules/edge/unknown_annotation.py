"""An annotation for the load balancer that no controller reads.

Annotations are free text: a misspelt one is stored and not used, and the default applies.

Symptom: the load balancer is internal although the Ingress says internet-facing

Wrong:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      annotations: {alb.ingress.kubernetes.io/target_type: ip}
    spec:
      ingressClassName: alb
      defaultBackend: {service: {name: chat, port: {number: 8080}}}

Right:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      annotations: {alb.ingress.kubernetes.io/target-type: ip}
    spec:
      ingressClassName: alb
      defaultBackend: {service: {name: chat, port: {number: 8080}}}

Source: kubernetes-sigs/aws-load-balancer-controller@00c019c9 pkg/annotations/constants.go; AWS Load Balancer
  Controller documentation, annotations
"""

from collections.abc import Iterator

from stoker.catalog import keda
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import ALB

OF_INGRESS = frozenset(
    [
        "load-balancer-name", "group.name", "group.order", "tags", "ip-address-type", "scheme", "subnets",
        "customer-owned-ipv4-pool", "load-balancer-attributes", "wafv2-acl-arn", "wafv2-acl-name", "waf-acl-id",
        "web-acl-id", "shield-advanced-protection", "security-groups", "listen-ports", "ssl-redirect", "inbound-cidrs",
        "certificate-arn", "ssl-policy", "target-type", "backend-protocol", "backend-protocol-version",
        "target-group-attributes", "healthcheck-port", "healthcheck-protocol", "healthcheck-path",
        "healthcheck-interval-seconds", "healthcheck-timeout-seconds", "healthy-threshold-count",
        "unhealthy-threshold-count", "success-codes", "auth-type", "auth-idp-cognito", "auth-idp-oidc",
        "auth-on-unauthenticated-request", "auth-scope", "auth-session-cookie", "auth-session-timeout",
        "jwt-validation", "target-node-labels", "manage-backend-security-group-rules", "mutual-authentication",
        "security-group-prefix-lists", "multi-cluster-target-group", "minimum-load-balancer-capacity",
        "ipam-ipv4-pool-id", "enable-frontend-nlb", "use-regex-path-match", "target-control-port", "create-acm-cert",
        "acm-pca-arn", "dry-run-plan",
    ]
)  # fmt: skip
_OPEN = ("actions.", "conditions.", "transforms.", "listener-attributes.", "frontend-nlb-", "rule-")
"""Beginnings that go on with a name of one's own, or with more than is listed here."""


def check(cluster: Cluster) -> Iterator[Problem]:
    for manifest in cluster.of("Ingress", "Service"):
        for key in manifest.annotations:
            suffix = key.removeprefix(ALB)
            if suffix == key or suffix in OF_INGRESS or suffix.startswith(_OPEN):
                continue
            near = keda.nearest(suffix, OF_INGRESS)
            yield Problem(
                manifest,
                ("metadata", "annotations", key),
                f"the AWS Load Balancer Controller is not known to read {key}",
                hint=f"{ALB}{near}" if near else "leave it out",
                key=True,
                severity=None if near else Severity.INFO,
            )


RULE = Rule(
    "STK-EDGE-005", Severity.WARNING, "An annotation for the load balancer that no controller reads", check, __name__
)
