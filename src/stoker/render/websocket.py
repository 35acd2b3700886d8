"""An API Gateway WebSocket API in front of the gateway's HTTP endpoints, for who wants AWS's own sign-in, throttling
and access logs on it. Stoker's own WebSocket, /v1/ws, goes through the load balancer end to end and streams; this does
not.

API Gateway ends the WebSocket itself and makes an HTTP request of each message. It reaches private addresses through a
VPC link of REST APIs (V1) to a Network Load Balancer; the links of HTTP APIs (V2) do not do for WebSocket APIs.
Source: API Gateway developer guide, "Set up data mapping for WebSocket APIs", "Private integration using VPC links V1",
quotas of WebSocket APIs (29 s for an integration, 128 KiB for a message, 2 h for a connection);
terraform-aws-modules/terraform-aws-apigateway-v2 issue 151.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stoker.render.facts import EDGE, GATEWAY, GATEWAY_NLB, GATEWAY_PORT, short
from stoker.render.hcl import Block, Json, Raw
from stoker.render.items import Item, Resource, Terraform, Variable
from stoker.render.objects import metadata, pairs, selector, tags_in_annotation
from stoker.render.plan import Plan
from stoker.render.surroundings import log_key

_FILE = "terraform/websocket.tf"
_OURS = "stoker-load-balancer"
"""Tag by which Terraform finds the load balancer that the controller makes."""
_NLB = "service.beta.kubernetes.io/aws-load-balancer-"
_COUNT = Raw("length(data.aws_lbs.gateway.arns)")
"""Everything is made once the load balancer is there, and nothing before: Terraform runs before the manifests, too."""
_WAIT_S = 20
"""How long the gateway may keep a message waiting; beyond it the answer is a task. API Gateway gives up after 29 s."""
_AS_WRITTEN = "body"
_KEY = {"integration.request.header.Authorization": "route.request.body.key"}
_JSON = {"integration.request.header.Content-Type": "'application/json'"}
# A connection is a session: it keeps its replica, and its budget.
_SESSION = {"integration.request.header.X-Session-Id": "context.connectionId"}


@dataclass(frozen=True)
class _Action:
    """What a message with this `action` becomes."""

    name: str
    method: str
    path: str
    parameters: Mapping[str, str]
    takes_body: bool = True


_ACTIONS = (
    _Action(
        "chat",
        "POST",
        "/v1/chat/completions",
        {**_JSON, **_SESSION, "integration.request.header.Prefer": f"'respond-async, wait={_WAIT_S}'"},
    ),
    _Action("task", "POST", "/v1/tasks", {**_JSON, **_SESSION}),
    _Action(
        "result",
        "GET",
        "/v1/tasks/{id}",
        {
            "integration.request.path.id": "route.request.body.id",
            "integration.request.querystring.wait": f"'{_WAIT_S}'",
        },
        takes_body=False,
    ),
)


def render(plan: Plan) -> Iterator[Item]:
    yield Resource(f"edge/{GATEWAY_NLB}.yaml", _service(plan), "API Gateway's way in: its VPC link ends here.")
    yield from (Terraform(_FILE, block) for block in _load_balancer(plan))
    yield from (Terraform(_FILE, block) for block in _api(plan))
    yield from (Terraform(_FILE, block) for block in _connecting())
    for action in _ACTIONS:
        yield from (Terraform(_FILE, block) for block in _action(action))
    yield from (Terraform(_FILE, block) for block in _otherwise())
    yield from (Terraform(_FILE, block) for block in _stage(plan))
    yield Terraform(_FILE, _output())
    yield Variable("websocket_rate_limit", "number", "Messages a second that the WebSocket API lets through.", 100)
    yield Variable("websocket_burst_limit", "number", "Messages at once that the WebSocket API lets through.", 200)


def _name(plan: Plan) -> str:
    return short(plan.cluster, plan.namespace, "websocket")


def _tag(plan: Plan) -> dict[str, str]:
    return {_OURS: f"{plan.cluster}/{plan.namespace}/{GATEWAY_NLB}"}


def _service(plan: Plan) -> dict[str, Any]:
    """Source: AWS Load Balancer Controller 3.x, Service annotations; Amazon EKS user guide, auto-configure-nlb."""
    said = {
        "scheme": "internal",
        "nlb-target-type": "ip",
        "healthcheck-protocol": "HTTP",
        "healthcheck-path": "/health",
        "healthcheck-port": "traffic-port",
        "target-group-attributes": pairs({"deregistration_delay.timeout_seconds": str(plan.deregistration_s)}),
        # What comes through the link has an address of AWS's own, which no rule could name.
        "inbound-sg-rules-on-private-link-traffic": "off",
        "additional-resource-tags": f"{tags_in_annotation(plan)},{pairs(_tag(plan))}",
    }
    by_auto_mode = plan.mode != "karpenter"
    annotations = {_NLB + key: value for key, value in said.items()}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(plan, GATEWAY_NLB, EDGE, namespace=plan.namespace, annotations=annotations),
        "spec": {
            "type": "LoadBalancer",
            "loadBalancerClass": "eks.amazonaws.com/nlb" if by_auto_mode else "service.k8s.aws/nlb",
            "allocateLoadBalancerNodePorts": False,
            "selector": selector(GATEWAY),
            "ports": [{"name": "http", "port": GATEWAY_PORT, "targetPort": "http"}],
        },
    }


def _load_balancer(plan: Plan) -> Iterator[Block]:
    yield Block("data", ("aws_lbs", "gateway"), {"tags": _tag(plan)})
    yield Block("data", ("aws_lb", "gateway"), {"count": _COUNT, "arn": Raw("one(data.aws_lbs.gateway.arns)")})
    yield _resource(
        "aws_api_gateway_vpc_link",
        "websocket",
        {"name": _name(plan), "target_arns": [Raw("data.aws_lb.gateway[0].arn")], "tags": plan.tags},
    )


def _api(plan: Plan) -> Iterator[Block]:
    yield _resource(
        "aws_apigatewayv2_api",
        "websocket",
        {
            "name": _name(plan),
            "protocol_type": "WEBSOCKET",
            "route_selection_expression": "$request.body.action",
            "tags": plan.tags,
        },
    )


def _connecting() -> Iterator[Block]:
    """Who connects signs the handshake, and needs execute-api:Invoke. Each message has a key of Stoker's, too."""
    yield _mock("connect", {"200": '{"statusCode": 200}'}, "200")
    yield _route("connect", "$connect", {"authorization_type": "AWS_IAM"})


def _action(action: _Action) -> Iterator[Block]:
    templates = {_AS_WRITTEN: "$input.json('$.body')" if action.takes_body else "{}"}
    yield _resource(
        "aws_apigatewayv2_integration",
        action.name,
        {
            "api_id": _of("api"),
            "integration_type": "HTTP",
            "integration_method": action.method,
            "integration_uri": f"http://${{data.aws_lb.gateway[0].dns_name}}:{GATEWAY_PORT}{action.path}",
            "connection_type": "VPC_LINK",
            "connection_id": Raw("aws_api_gateway_vpc_link.websocket[0].id"),
            "request_parameters": {**_KEY, **action.parameters},
            "request_templates": templates,
            "template_selection_expression": _AS_WRITTEN,
            "passthrough_behavior": "NEVER",
            "timeout_milliseconds": 29000,
        },
    )
    yield from _answered(action.name, action.name)


def _otherwise() -> Iterator[Block]:
    """A message of no known action is told so; without this route it would be dropped."""
    yield _mock("otherwise", {"200": '{"statusCode": 200}'}, "200")
    known = ", ".join(action.name for action in _ACTIONS)
    told = '{"error": {"message": "action has to be one of: ' + known + '", "code": "unknown_action"}}'
    yield from _answered(
        "otherwise", "$default", {"response_templates": {"200": told}, "template_selection_expression": "200"}
    )


def _answered(name: str, key: str, response: Mapping[str, Any] | None = None) -> Iterator[Block]:
    """A route whose answers go back over the connection."""
    yield _route(name, key, {"route_response_selection_expression": "$default"})
    yield _resource(
        "aws_apigatewayv2_route_response",
        name,
        {"api_id": _of("api"), "route_id": _of("route", name), "route_response_key": "$default"},
    )
    yield _resource(
        "aws_apigatewayv2_integration_response",
        name,
        {
            "api_id": _of("api"),
            "integration_id": _of("integration", name),
            "integration_response_key": "$default",
            **(response or {}),
        },
    )


def _route(name: str, key: str, more: Mapping[str, Any]) -> Block:
    target = f"integrations/${{aws_apigatewayv2_integration.{name}[0].id}}"
    return _resource("aws_apigatewayv2_route", name, {"api_id": _of("api"), "route_key": key, "target": target, **more})


def _mock(name: str, templates: Mapping[str, str], chosen: str) -> Block:
    return _resource(
        "aws_apigatewayv2_integration",
        name,
        {
            "api_id": _of("api"),
            "integration_type": "MOCK",
            "request_templates": dict(templates),
            "template_selection_expression": chosen,
        },
    )


def _stage(plan: Plan) -> Iterator[Block]:
    """A deployment is a copy of the routes as they are: it is made anew when one of them changes."""
    names = [action.name for action in _ACTIONS] + ["connect", "otherwise"]
    parts = [Raw(f"aws_apigatewayv2_{kind}.{name}") for kind in ("integration", "route") for name in names]
    answers = [
        Raw(f"aws_apigatewayv2_{kind}.{name}")
        for kind in ("integration_response", "route_response")
        for name in names
        if name != "connect"
    ]
    yield _resource(
        "aws_apigatewayv2_deployment",
        "websocket",
        {
            "api_id": _of("api"),
            "triggers": {"routes": Raw(f"sha1(jsonencode([{', '.join(each.text for each in parts + answers)}]))")},
        },
        [Block("lifecycle", (), {"create_before_destroy": True})],
    )
    yield _resource(
        "aws_cloudwatch_log_group",
        "websocket",
        {"name": f"/aws/apigateway/{_name(plan)}", "retention_in_days": 30, **log_key(plan), "tags": plan.tags},
    )
    yield _resource(
        "aws_apigatewayv2_stage",
        "websocket",
        {
            "api_id": _of("api"),
            "name": "v1",
            "deployment_id": _of("deployment"),
            "tags": plan.tags,
        },
        [
            Block(
                "access_log_settings",
                (),
                {"destination_arn": Raw("aws_cloudwatch_log_group.websocket[0].arn"), "format": Json(_log_line())},
            ),
            Block(
                "default_route_settings",
                (),
                {
                    "throttling_rate_limit": Raw("var.websocket_rate_limit"),
                    "throttling_burst_limit": Raw("var.websocket_burst_limit"),
                    "detailed_metrics_enabled": True,
                    "logging_level": "ERROR",
                    "data_trace_enabled": False,  # messages hold keys
                },
            ),
        ],
    )
    yield _resource(
        "aws_iam_policy",
        "websocket",
        {
            "name": _name(plan),
            "description": "May connect to the WebSocket API of Stoker.",
            "policy": Json(
                {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Action": ["execute-api:Invoke"],
                            "Resource": ["${aws_apigatewayv2_api.websocket[0].execution_arn}/v1/$connect"],
                        }
                    ],
                }
            ),
            "tags": plan.tags,
        },
    )


def _log_line() -> dict[str, str]:
    kept = {
        "time": "requestTime",
        "request": "requestId",
        "connection": "connectionId",
        "event": "eventType",
        "route": "routeKey",
        "status": "status",
        "address": "identity.sourceIp",
        "caller": "identity.caller",
        "error": "error.message",
        "integration_error": "integrationErrorMessage",
        "integration_ms": "integrationLatency",
    }
    return {name: f"$context.{variable}" for name, variable in kept.items()}


def _output() -> Block:
    value = Raw("one(aws_apigatewayv2_stage.websocket[*].invoke_url)")
    return Block(
        "output",
        ("websocket_url",),
        {"description": "Where clients connect; null until there is a load balancer.", "value": value},
    )


def _of(kind: str, name: str = "websocket") -> Raw:
    return Raw(f"aws_apigatewayv2_{kind}.{name}[0].id")


def _resource(kind: str, name: str, attributes: Mapping[str, Any], blocks: list[Block] | None = None) -> Block:
    return Block("resource", (kind, name), {"count": _COUNT, **attributes}, blocks or [])
