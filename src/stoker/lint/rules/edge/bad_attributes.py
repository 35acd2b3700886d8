"""The attributes or ports of a load balancer can not be read.

Attributes are `key=value`, separated by commas; line breaks and spaces around them do no harm. `listen-ports` is
JSON: a list of `{"HTTPS": 443}`. What can not be read stops the controller, and a key that the load balancer does not
know is refused by AWS.

Symptom: FailedBuildModel: failed to parse stringMap annotation
Symptom: ValidationError: Load balancer attribute key is not recognized

Wrong:

    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata:
      name: edge
      annotations:
        alb.ingress.kubernetes.io/target-type: ip
        alb.ingress.kubernetes.io/load-balancer-attributes: "idle_timeout.timeout_seconds: 600"
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
        alb.ingress.kubernetes.io/load-balancer-attributes: |
          idle_timeout.timeout_seconds=600,
          routing.http.drop_invalid_header_fields.enabled=true
    spec:
      ingressClassName: alb
      defaultBackend: {service: {name: chat, port: {number: 8080}}}

Source: kubernetes-sigs/aws-load-balancer-controller pkg/annotations/parser.go; Elastic Load Balancing API reference,
  LoadBalancerAttribute, TargetGroupAttribute
"""

from collections.abc import Iterator

from stoker.catalog import keda
from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.edge._views import alb, albs, at, attributes, listeners
from stoker.manifests.objects import Manifest
from stoker.spec.faults import shown

LOAD_BALANCER, TARGET_GROUP = "load-balancer-attributes", "target-group-attributes"
KEYS = {
    LOAD_BALANCER: (
        "access_logs.s3.enabled", "access_logs.s3.bucket", "access_logs.s3.prefix", "connection_logs.s3.enabled",
        "connection_logs.s3.bucket", "connection_logs.s3.prefix", "health_check_logs.s3.enabled",
        "health_check_logs.s3.bucket", "health_check_logs.s3.prefix", "deletion_protection.enabled",
        "idle_timeout.timeout_seconds", "client_keep_alive.seconds", "ipv6.deny_all_igw_traffic",
        "load_balancing.cross_zone.enabled", "routing.http.desync_mitigation_mode",
        "routing.http.drop_invalid_header_fields.enabled", "routing.http.preserve_host_header.enabled",
        "routing.http.x_amzn_tls_version_and_cipher_suite.enabled", "routing.http.xff_client_port.enabled",
        "routing.http.xff_header_processing.mode", "routing.http2.enabled", "waf.fail_open.enabled",
        "zonal_shift.config.enabled",
    ),
    TARGET_GROUP: (
        "deregistration_delay.timeout_seconds", "slow_start.duration_seconds", "stickiness.enabled", "stickiness.type",
        "stickiness.lb_cookie.duration_seconds", "stickiness.app_cookie.cookie_name",
        "stickiness.app_cookie.duration_seconds", "load_balancing.algorithm.type",
        "load_balancing.algorithm.anomaly_mitigation", "load_balancing.cross_zone.enabled",
        "target_group_health.dns_failover.minimum_healthy_targets.count",
        "target_group_health.dns_failover.minimum_healthy_targets.percentage",
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count",
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage",
        "lambda.multi_value_headers.enabled", "preserve_client_ip.enabled", "proxy_protocol_v2.enabled",
    ),
}  # fmt: skip


def check(cluster: Cluster) -> Iterator[Problem]:
    for ingress in albs(cluster):
        for suffix in KEYS:
            yield from _attributes(ingress, suffix)
        if alb(ingress, "listen-ports") is not None and listeners(ingress) is None:
            told = "listen-ports is no list of protocols and ports: the load balancer is not built"
            yield Problem(ingress, at("listen-ports"), told, hint='\'[{"HTTP": 80}, {"HTTPS": 443}]\'')


def _attributes(ingress: Manifest, suffix: str) -> Iterator[Problem]:
    written = alb(ingress, suffix)
    if written is None or not written.strip():
        return
    for part in written.split(","):
        key, sign, _ = part.partition("=")
        if not sign or not key.strip():
            told = f"{suffix} has {shown(part.strip())}, which is no key=value: the load balancer is not built"
            yield Problem(ingress, at(suffix), told, hint="key=value, separated by commas")
            return
    other = TARGET_GROUP if suffix == LOAD_BALANCER else LOAD_BALANCER
    for key in attributes(ingress, suffix):
        if key in KEYS[suffix]:
            continue
        near = keda.nearest(key, KEYS[suffix])
        if key in KEYS[other]:
            yield Problem(ingress, at(suffix), f"{key} is not one of {suffix}: AWS refuses it", hint=f"it in {other}")
        elif near:
            told = f"{suffix} has no {key}: AWS refuses it"
            yield Problem(ingress, at(suffix), told, hint=near, severity=Severity.WARNING)


RULE = Rule(
    "STK-EDGE-013", Severity.ERROR, "The attributes or ports of a load balancer can not be read", check, __name__
)
