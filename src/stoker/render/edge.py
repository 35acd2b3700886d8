"""How requests come in: the Ingress for an Application Load Balancer; `gateway_api` and `websocket` beside it.

The gateway routes by prefix and by model itself, so there is one backend, and paths reach it as the client wrote them.
"""

from collections.abc import Iterator
from typing import Any

from stoker.render import gateway_api, websocket
from stoker.render.facts import EDGE, GATEWAY, GATEWAY_PORT
from stoker.render.items import Item, Resource
from stoker.render.objects import metadata, pairs, tags_in_annotation
from stoker.render.plan import Plan

ALB = "alb.ingress.kubernetes.io/"
_CLASS = "alb"
_TLS = "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"
"""What the console proposes: TLS 1.2 and 1.3, with post-quantum key exchange for who has it. Without it a controller
gets ELBSecurityPolicy-2016-08. Source: Elastic Load Balancing, Security policies for your Application Load Balancer."""
_SPARE_S, _LONGEST_IDLE_S = 30, 4000
"""What the load balancer waits beyond the gateway's own timeout, so that the client gets the gateway's answer and not a
504; and the most that ELB takes."""
_STICKY_S = 3600
_NO_FIREWALL = (
    "stoker:ignore STK-EDGE-008 edge.wafAclArn is null, and the gateway answers nobody without a key\n"
    "A web ACL with a rate-based rule would limit addresses before that."
)


def render(plan: Plan) -> Iterator[Item]:
    edge = plan.spec.edge
    if edge.enabled:
        if plan.mode != "karpenter":
            yield Resource("edge/ingress-class.yaml", _ingress_class(plan), "EKS Auto Mode's own load balancing.")
        yield Resource("edge/ingress.yaml", _ingress(plan), _comment(plan))
    if edge.gateway_api.enabled:
        yield from gateway_api.render(plan)
    if edge.websocket:
        yield from websocket.render(plan)


def _comment(plan: Plan) -> str:
    edge = plan.spec.edge
    lines = [
        "/v1 carries every prefix of gateway.routes, and /v1/ws. Not let in: /admin/v1, /metrics, /health, /ready.",
        "Sessions keep their replica by X-Session-Id in the gateway; the cookie only keeps a browser at one gateway.",
    ]
    if edge.certificate_arn is None:
        lines.append("No edge.certificateArn: plain HTTP, within the VPC.")
    if edge.scheme == "internet-facing" and edge.waf_acl_arn is None:
        lines.append(_NO_FIREWALL)
    return "\n".join(lines)


def _ingress_class(plan: Plan) -> dict[str, Any]:
    """Without parameters: the Ingress says everything by annotations, which Auto Mode reads. Elsewhere the chart of the
    AWS Load Balancer Controller brings the class along.

    Source: Amazon EKS user guide, auto-configure-alb (controller name, annotations that are not supported)."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": metadata(plan, _CLASS, EDGE),
        "spec": {"controller": "eks.amazonaws.com/alb"},
    }


def _ingress(plan: Plan) -> dict[str, Any]:
    rule: dict[str, Any] = {"http": {"paths": [{"path": "/v1", "pathType": "Prefix", "backend": _backend()}]}}
    if plan.spec.edge.host is not None:
        rule = {"host": plan.spec.edge.host, **rule}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata(plan, EDGE, EDGE, namespace=plan.namespace, annotations=_annotations(plan)),
        "spec": {"ingressClassName": _CLASS, "rules": [rule]},
    }


def _backend() -> dict[str, Any]:
    return {"service": {"name": GATEWAY, "port": {"number": GATEWAY_PORT}}}


def _annotations(plan: Plan) -> dict[str, str]:
    """Source: AWS Load Balancer Controller 3.x, Ingress annotations. None of them is among those that Auto Mode lacks
    (Amazon EKS user guide, auto-configure-alb)."""
    said = {
        "scheme": plan.spec.edge.scheme,
        "target-type": "ip",
        **_listeners(plan),
        **_health(),
        "target-group-attributes": pairs(
            {
                "stickiness.enabled": "true",
                "stickiness.type": "lb_cookie",
                "stickiness.lb_cookie.duration_seconds": str(_STICKY_S),
                "deregistration_delay.timeout_seconds": str(plan.deregistration_s),
            }
        ),
        "load-balancer-attributes": pairs(_attributes(plan)),
        "tags": tags_in_annotation(plan),
    }
    if plan.spec.edge.waf_acl_arn is not None:
        said["wafv2-acl-arn"] = plan.spec.edge.waf_acl_arn
    return {ALB + key: value for key, value in said.items()}


def _listeners(plan: Plan) -> dict[str, str]:
    certificate = plan.spec.edge.certificate_arn
    if certificate is None:
        return {"listen-ports": '[{"HTTP": 80}]'}
    return {
        "listen-ports": '[{"HTTP": 80}, {"HTTPS": 443}]',
        "ssl-redirect": "443",
        "certificate-arn": certificate,
        "ssl-policy": _TLS,
    }


def _health() -> dict[str, str]:
    """/health says that this gateway answers. Not /ready: that is 503 while a model has no replica, and the load
    balancer would take away every gateway at once, with the models that do have one."""
    return {
        "healthcheck-path": "/health",
        "healthcheck-interval-seconds": "15",
        "healthcheck-timeout-seconds": "5",
        "healthy-threshold-count": "2",
        "unhealthy-threshold-count": "2",
    }


def _attributes(plan: Plan) -> dict[str, str]:
    found = {
        "idle_timeout.timeout_seconds": str(_idle_s(plan)),
        "routing.http.drop_invalid_header_fields.enabled": "true",
    }
    if plan.spec.edge.access_logs_bucket is not None:
        found |= {
            "access_logs.s3.enabled": "true",
            "access_logs.s3.bucket": plan.spec.edge.access_logs_bucket,
            "access_logs.s3.prefix": plan.namespace,
        }
    return found


def _idle_s(plan: Plan) -> int:
    """An answer that is not streamed sends nothing until it is whole."""
    return min(plan.drain_s + _SPARE_S, _LONGEST_IDLE_S)
