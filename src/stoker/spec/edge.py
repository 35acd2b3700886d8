"""`edge`: how requests come into the cluster."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import StringConstraints

from stoker.spec.faults import Fault
from stoker.spec.guide import BucketName
from stoker.spec.section import Expected, Name, Section

Arn = Annotated[
    str,
    StringConstraints(pattern=r"^arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{12}:[!-~]{1,512}$"),
    Expected("an ARN of AWS: arn:aws:service:region:account:resource"),
]


class GatewayApi(Section):
    enabled: bool = False
    """Render a Gateway, HTTPRoutes and an InferencePool for each model, where a controller of the Gateway API with the
    inference extension (agentgateway, Istio, ...) runs."""

    class_name: Name = "agentgateway"
    """GatewayClass of that controller. kgateway's own proxy, the class kgateway, knows no InferencePool since 2.2;
    agentgateway, which it hands them to, does."""


class Edge(Section):
    enabled: bool = True
    """Render an Ingress for the AWS Load Balancer Controller."""

    host: (
        Annotated[
            str,
            StringConstraints(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,24}$"),
            Expected("a host name in lower case, such as api.example.com"),
        ]
        | None
    ) = None
    """Host name of the API. null: whatever name the load balancer is called by."""

    scheme: Literal["internal", "internet-facing"] = "internal"
    """Who reaches it. internet-facing needs certificateArn."""

    certificate_arn: Arn | None = None
    """Certificate in ACM. null: plain HTTP, within the VPC."""

    waf_acl_arn: Arn | None = None
    """Web ACL of WAF. null: none."""

    access_logs_bucket: BucketName | None = None
    """Bucket of access logs. null: none are written."""

    websocket: bool = False
    """Render an API Gateway WebSocket API with a VPC link (`terraform/websocket.tf`)."""

    gateway_api: GatewayApi = GatewayApi()
    """The Gateway API beside the Ingress."""

    def broken_rules(self) -> Iterator[Fault]:
        for key, arn, service in (
            ("certificateArn", self.certificate_arn, "acm"),
            ("wafAclArn", self.waf_acl_arn, "wafv2"),
        ):
            if arn is not None and arn.split(":")[2] != service:
                yield Fault((key,), f"{arn} is of {arn.split(':')[2]}; must be an ARN of {service}")
        if self.waf_acl_arn is not None and ":global/" in self.waf_acl_arn:
            yield Fault(
                ("wafAclArn",), f"{self.waf_acl_arn} is for CloudFront; a load balancer takes a regional web ACL"
            )
        if self.scheme == "internet-facing" and self.certificate_arn is None:
            yield Fault(
                ("certificateArn",), "null, and scheme is internet-facing: keys would cross the internet in clear"
            )
