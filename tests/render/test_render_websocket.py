"""The WebSocket API of API Gateway: what a message becomes, and who may send one."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stoker.gateway import openapi
from stoker.render import edge
from stoker.render.hcl import Block, Json, Raw
from stoker.render.items import Item, Resource, Terraform
from stoker.render.plan import Plan
from stoker.render.run import render
from stoker.spec import Mode, loads

ON = "edge: {enabled: false, websocket: true}"


def items(text: str = ON, mode: Mode = "karpenter") -> list[Item]:
    return list(edge.render(Plan(loads(text), mode)))


def block(*labels: str, text: str = ON) -> Block:
    (found,) = [each.block for each in items(text) if isinstance(each, Terraform) and each.block.labels == labels]
    return found


def resource(kind: str, name: str, text: str = ON) -> dict[str, Any]:
    return dict(block(kind, name, text=text).attributes)


def service(text: str = ON, mode: Mode = "karpenter") -> dict[str, Any]:
    (found,) = [each.object for each in items(text, mode) if isinstance(each, Resource) and "nlb" in each.file]
    return found


@pytest.mark.parametrize(
    ("action", "method", "path"),
    [
        ("chat", "POST", "/v1/chat/completions"),
        ("task", "POST", "/v1/tasks"),
        ("result", "GET", "/v1/tasks/{id}"),
    ],
)
def test_a_message_becomes_a_request_to_the_gateway(action: str, method: str, path: str) -> None:
    """By the VPC link, to a path that the gateway has."""
    found = resource("aws_apigatewayv2_integration", action)
    assert found["integration_method"] == method
    assert found["integration_uri"] == f"http://${{data.aws_lb.gateway[0].dns_name}}:8080{path}"
    assert found["connection_type"] == "VPC_LINK"
    assert found["connection_id"] == Raw("aws_api_gateway_vpc_link.websocket[0].id")
    assert method.lower() in openapi.document(loads(""))["paths"][path]
    route = resource("aws_apigatewayv2_route", action)
    assert route["route_key"] == action
    assert route["target"] == f"integrations/${{aws_apigatewayv2_integration.{action}[0].id}}"
    assert route["route_response_selection_expression"] == "$default"


def test_a_message_is_chosen_by_its_action_and_carries_its_key() -> None:
    assert resource("aws_apigatewayv2_api", "websocket")["route_selection_expression"] == "$request.body.action"
    for action in ("chat", "task", "result"):
        found = resource("aws_apigatewayv2_integration", action)
        assert found["request_parameters"]["integration.request.header.Authorization"] == "route.request.body.key"
        # The key is in no body: what is in `body` goes on, and nothing of a message that has no template.
        assert found["request_templates"] == {"body": "{}" if action == "result" else "$input.json('$.body')"}
        assert found["template_selection_expression"] == "body"
        assert found["passthrough_behavior"] == "NEVER"


def test_no_message_waits_for_longer_than_api_gateway_does() -> None:
    chat, result = (resource("aws_apigatewayv2_integration", each) for each in ("chat", "result"))
    assert chat["request_parameters"]["integration.request.header.Prefer"] == "'respond-async, wait=20'"
    assert result["request_parameters"]["integration.request.querystring.wait"] == "'20'"
    assert chat["timeout_milliseconds"] == result["timeout_milliseconds"] == 29000


def test_a_connection_is_a_session() -> None:
    parameters = resource("aws_apigatewayv2_integration", "chat")["request_parameters"]
    assert parameters["integration.request.header.X-Session-Id"] == "context.connectionId"


def test_only_who_signs_the_handshake_is_let_in() -> None:
    assert resource("aws_apigatewayv2_route", "connect")["route_key"] == "$connect"
    assert resource("aws_apigatewayv2_route", "connect")["authorization_type"] == "AWS_IAM"
    policy = resource("aws_iam_policy", "websocket")["policy"]
    assert isinstance(policy, Json)
    (statement,) = policy.value["Statement"]
    assert statement["Action"] == ["execute-api:Invoke"]
    assert statement["Resource"] == ["${aws_apigatewayv2_api.websocket[0].execution_arn}/v1/$connect"]


def test_who_names_no_known_action_is_told_those_there_are() -> None:
    assert resource("aws_apigatewayv2_route", "otherwise")["route_key"] == "$default"
    (told,) = resource("aws_apigatewayv2_integration_response", "otherwise")["response_templates"].values()
    assert json.loads(told)["error"]["message"] == "action has to be one of: chat, task, result"


def test_what_is_sent_is_throttled_and_logged_without_the_messages() -> None:
    log, limits = block("aws_apigatewayv2_stage", "websocket").blocks
    assert log.attributes["destination_arn"] == Raw("aws_cloudwatch_log_group.websocket[0].arn")
    assert limits.attributes["throttling_rate_limit"] == Raw("var.websocket_rate_limit")
    assert limits.attributes["throttling_burst_limit"] == Raw("var.websocket_burst_limit")
    assert limits.attributes["data_trace_enabled"] is False
    written = render(loads(ON), only=["edge"])["terraform/variables.tf"]
    assert 'variable "websocket_rate_limit"' in written
    assert 'variable "websocket_burst_limit"' in written


def test_the_load_balancer_is_found_by_the_tag_that_its_service_gives_it() -> None:
    text = "{edge: {websocket: true}, global: {cluster: {name: prod, namespace: ai}, tags: {Team: x}}}"
    tags = service(text)["metadata"]["annotations"][
        "service.beta.kubernetes.io/aws-load-balancer-additional-resource-tags"
    ]
    assert tags == "Project=prod,ManagedBy=stoker,Team=x,stoker-load-balancer=prod/ai/gateway-nlb"
    assert block("aws_lbs", "gateway", text=text).attributes == {
        "tags": {"stoker-load-balancer": "prod/ai/gateway-nlb"}
    }
    tagged = {"Project": "prod", "ManagedBy": "stoker", "Team": "x"}
    assert resource("aws_apigatewayv2_api", "websocket", text)["tags"] == tagged


def test_nothing_is_made_before_there_is_a_load_balancer() -> None:
    """Terraform runs before the manifests, too: it would fail for a load balancer that is not there."""
    made = [each.block for each in items() if isinstance(each, Terraform) and each.block.type == "resource"]
    assert len(made) == 24
    assert {str(each.attributes["count"]) for each in made} == {str(Raw("length(data.aws_lbs.gateway.arns)"))}


def test_the_load_balancer_is_internal_and_leads_to_the_gateway_s_pods() -> None:
    found = service()
    assert found["metadata"]["annotations"]["service.beta.kubernetes.io/aws-load-balancer-scheme"] == "internal"
    assert found["spec"]["selector"] == {"app.kubernetes.io/name": "gateway"}
    assert found["spec"]["ports"] == [{"name": "http", "port": 8080, "targetPort": "http"}]


@pytest.mark.parametrize(
    ("mode", "made_by"),
    [("karpenter", "service.k8s.aws/nlb"), ("auto", "eks.amazonaws.com/nlb"), ("hybrid", "eks.amazonaws.com/nlb")],
)
def test_who_makes_the_load_balancer(mode: Mode, made_by: str) -> None:
    assert service(mode=mode)["spec"]["loadBalancerClass"] == made_by


def test_it_is_off_until_asked_for() -> None:
    assert not any(isinstance(each, Terraform) for each in items(""))


@pytest.mark.skipif(shutil.which("terraform") is None, reason="no terraform on PATH")
def test_terraform_would_write_it_the_same(tmp_path: Path) -> None:
    for name, text in render(loads(ON), only=["edge"]).items():
        if name.endswith(".tf"):
            (tmp_path / Path(name).name).write_text(text)
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
