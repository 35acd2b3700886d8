"""Log groups that agents would make by themselves, and keep for ever: what destroy is to take away is made here.

The agents' own dashboard, alarms and add-on are the component `cloudwatch`'s.
"""

from collections.abc import Iterator

from stoker.render.hcl import Raw
from stoker.render.items import Item
from stoker.render.plan import Plan
from stoker.render.root.parts import resource

_INSIGHTS = ("application", "dataplane", "host", "performance")
"""Source: Amazon CloudWatch user guide, Container-Insights-reference-performance-entries-EKS, logs of Fluent Bit."""
_KEPT_DAYS = 30


def render(plan: Plan) -> Iterator[Item]:
    said = plan.spec.global_.observability
    if not (said.enabled and said.cloudwatch):
        return
    for what in _INSIGHTS:
        attributes = {
            "name": f"/aws/containerinsights/{plan.cluster}/{what}",
            "retention_in_days": _KEPT_DAYS,
            "kms_key_id": Raw("aws_kms_key.main.arn"),
        }
        yield resource("cloudwatch.tf", "aws_cloudwatch_log_group", f"insights_{what}", attributes)
