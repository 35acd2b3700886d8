"""The Ingress: who may come in, and how a request is carried."""

from typing import Any

import pytest

from stoker.base.errors import InvalidInput
from stoker.lint.config import Config
from stoker.lint.run import lint
from stoker.manifests.reading import read_text
from stoker.render import edge, gateway
from stoker.render.items import Resource
from stoker.render.plan import Plan
from stoker.render.run import render
from stoker.spec import Mode, loads

ALB = "alb.ingress.kubernetes.io/"
CERTIFICATE = "arn:aws:acm:us-west-2:111122223333:certificate/0f0f0f0f-1111-2222-3333-444444444444"
ACL = "arn:aws:wafv2:us-west-2:111122223333:regional/webacl/edge/0f0f0f0f"
PUBLIC = f"edge: {{scheme: internet-facing, certificateArn: '{CERTIFICATE}'"


def objects(text: str = "", mode: Mode = "karpenter") -> list[dict[str, Any]]:
    return [item.object for item in edge.render(Plan(loads(text), mode)) if isinstance(item, Resource)]


def ingress(text: str = "") -> dict[str, Any]:
    (found,) = [each for each in objects(text) if each["kind"] == "Ingress"]
    return found


def annotation(text: str, key: str) -> str | None:
    return ingress(text)["metadata"]["annotations"].get(ALB + key)


def attributes(text: str, key: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in str(annotation(text, key)).split(","))


def test_everything_under_v1_goes_to_the_gateway_as_it_is_and_nothing_else_comes_in() -> None:
    assert ingress("global: {cluster: {namespace: ai}}")["metadata"]["namespace"] == "ai"
    assert ingress()["spec"] == {
        "ingressClassName": "alb",
        "rules": [
            {
                "http": {
                    "paths": [
                        {
                            "path": "/v1",
                            "pathType": "Prefix",
                            "backend": {"service": {"name": "gateway", "port": {"number": 8080}}},
                        }
                    ]
                }
            }
        ],
    }


def test_a_host_is_the_only_one_that_is_answered() -> None:
    (rule,) = ingress("edge: {host: api.example.com}")["spec"]["rules"]
    assert rule["host"] == "api.example.com"


def test_no_ingress_where_it_is_switched_off() -> None:
    assert objects("edge: {enabled: false}") == []
    assert objects("edge: {enabled: false}", mode="auto") == []


def test_without_a_certificate_it_is_plain_http_within_the_vpc() -> None:
    assert annotation("", "scheme") == "internal"
    assert annotation("", "target-type") == "ip"
    assert annotation("", "listen-ports") == '[{"HTTP": 80}]'
    for key in ("ssl-redirect", "certificate-arn", "ssl-policy", "wafv2-acl-arn"):
        assert annotation("", key) is None


def test_with_a_certificate_http_is_redirected_and_old_tls_refused() -> None:
    text = PUBLIC + "}"
    assert annotation(text, "scheme") == "internet-facing"
    assert annotation(text, "certificate-arn") == CERTIFICATE
    assert annotation(text, "listen-ports") == '[{"HTTP": 80}, {"HTTPS": 443}]'
    assert annotation(text, "ssl-redirect") == "443"
    assert annotation(text, "ssl-policy") == "ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09"


def test_the_firewall_of_the_spec_is_put_before_it() -> None:
    assert annotation(f"{PUBLIC}, wafAclArn: '{ACL}'}}", "wafv2-acl-arn") == ACL


def test_who_chose_no_firewall_has_the_linter_s_remark_silenced_with_a_reason() -> None:
    """And nobody else: a remark that is silenced for nothing would be one itself."""
    firewall = "STK-EDGE-008"
    (open_, guarded, internal) = (
        render(loads(text), only=["edge"])["edge/ingress.yaml"]
        for text in (PUBLIC + "}", f"{PUBLIC}, wafAclArn: '{ACL}'}}", "")
    )
    assert [firewall in text for text in (open_, guarded, internal)] == [True, False, False]
    config = Config(only=frozenset([firewall, "STK-LINT-001", "STK-LINT-002"]))
    assert lint(read_text(open_), config).findings == ()
    assert [each.rule for each in lint(read_text(open_.replace("stoker:ignore", "")), config).findings] == [firewall]


def test_the_load_balancer_waits_longer_for_an_answer_than_the_gateway() -> None:
    idle = "idle_timeout.timeout_seconds"
    assert attributes("", "load-balancer-attributes")[idle] == "330"
    assert attributes("gateway: {timeouts: {totalSeconds: 900.5}}", "load-balancer-attributes")[idle] == "931"
    assert attributes("gateway: {timeouts: {totalSeconds: 86400}}", "load-balancer-attributes")[idle] == "4000"


def test_a_gateway_that_leaves_may_end_what_runs() -> None:
    delay = "deregistration_delay.timeout_seconds"
    assert attributes("", "target-group-attributes")[delay] == "315"
    assert attributes("gateway: {timeouts: {totalSeconds: 100}}", "target-group-attributes")[delay] == "115"
    assert attributes("gateway: {timeouts: {totalSeconds: 86400}}", "target-group-attributes")[delay] == "3600"


@pytest.mark.parametrize("seconds", [100, 300, 7200])
def test_the_pod_outlives_what_the_load_balancer_waits_for(seconds: int) -> None:
    """Two components: what the gateway's pod is given, and what the load balancer is told."""
    text = f"gateway: {{timeouts: {{totalSeconds: {seconds}}}}}"
    (pod,) = [
        item.object["spec"]["template"]["spec"]
        for item in gateway.render(Plan(loads(text), "karpenter"))
        if isinstance(item, Resource) and item.object["kind"] == "Deployment"
    ]
    delay = int(attributes(text, "target-group-attributes")["deregistration_delay.timeout_seconds"])
    assert delay < pod["terminationGracePeriodSeconds"]


def test_a_browser_stays_with_its_gateway_for_an_hour() -> None:
    found = attributes("", "target-group-attributes")
    assert found["stickiness.enabled"] == "true"
    assert found["stickiness.lb_cookie.duration_seconds"] == "3600"


def test_a_gateway_is_well_when_it_answers_whether_or_not_each_model_has_a_replica() -> None:
    assert annotation("", "healthcheck-path") == "/health"


def test_access_logs_go_to_the_bucket_each_platform_in_a_folder_of_its_own() -> None:
    assert "access_logs.s3.enabled" not in attributes("", "load-balancer-attributes")
    found = attributes(
        "{edge: {accessLogsBucket: logs}, global: {cluster: {namespace: ai}}}", "load-balancer-attributes"
    )
    assert found["access_logs.s3.enabled"] == "true"
    assert found["access_logs.s3.bucket"] == "logs"
    assert found["access_logs.s3.prefix"] == "ai"


def test_tags_are_those_of_every_aws_resource() -> None:
    text = "global: {cluster: {name: prod}, tags: {CostCenter: a=b}}"
    assert annotation(text, "tags") == "Project=prod,ManagedBy=stoker,CostCenter=a=b"


def test_a_tag_that_an_annotation_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r'the key "a=b"'):
        objects("global: {tags: {a=b: c}}")


@pytest.mark.parametrize("mode", ["auto", "hybrid"])
def test_auto_mode_needs_its_class_and_elsewhere_the_controller_s_chart_brings_one(mode: Mode) -> None:
    (found,) = [each for each in objects(mode=mode) if each["kind"] == "IngressClass"]
    assert found["metadata"]["name"] == "alb"
    assert found["spec"] == {"controller": "eks.amazonaws.com/alb"}
    assert [each["kind"] for each in objects(mode="karpenter")] == ["Ingress"]
