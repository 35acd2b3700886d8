"""The monthly budget: AWS tells of it by mail when it is nearly spent, and when it is."""

from collections.abc import Iterator

from stoker.render.hcl import Block, Raw
from stoker.render.items import Item, Variable
from stoker.render.plan import Plan
from stoker.render.root.parts import resource

_PERCENT = (80, 100)


def render(plan: Plan) -> Iterator[Item]:
    """Costs of what has the tag Project, which an account's owner has to switch on as a cost allocation tag once."""
    dollars, email = plan.spec.deploy.monthly_budget_usd, plan.spec.global_.observability.alarm_email
    if dollars is None:
        return
    yield Variable("monthly_budget_usd", "number", "Dollars a month that the platform may cost.", dollars)
    filter_ = Block("cost_filter", (), {"name": "TagKeyValue", "values": [f"user:Project${plan.cluster}"]})
    told = [
        Block(
            "notification",
            (),
            {
                "comparison_operator": "GREATER_THAN",
                "threshold": percent,
                "threshold_type": "PERCENTAGE",
                "notification_type": "ACTUAL",
                "subscriber_email_addresses": [email],
            },
        )
        for percent in (_PERCENT if email is not None else ())
    ]
    attributes = {
        "name": plan.name_in_region("monthly"),
        "budget_type": "COST",
        "limit_amount": Raw("tostring(var.monthly_budget_usd)"),
        "limit_unit": "USD",
        "time_unit": "MONTHLY",
    }
    why = (
        "Counts what has the tag Project, once the account's billing has it as a cost allocation tag."
        if email is not None
        else "Counts what has the tag Project. Nobody is told: global.observability.alarmEmail is not said."
    )
    yield resource("budgets.tf", "aws_budgets_budget", "monthly", attributes, filter_, *told, comment=why)
