"""`costs`: what machines are priced at where nobody sends a bill, and who is told when budgets are being used up."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from stoker.catalog import ec2
from stoker.spec.faults import Fault
from stoker.spec.section import EnvName, Expected, Section, Usd, decimal_as_written

InstanceName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9-]{1,30}\.[a-z0-9-]{1,20}$"),
    Expected("an EC2 instance type, such as m7i.xlarge"),
]


class Machine(Section):
    """The price of the machine on which `stoker up` runs. In a cluster nodes have their own prices."""

    instance_type: InstanceName | None = None
    """EC2 type whose on-demand price it has. null takes the cheapest one with as many cores and as much memory."""

    usd_per_hour: Usd | None = None
    """US dollars per hour, where no EC2 price fits: a lease, or power and depreciation. null takes the type's price."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.instance_type is not None:
            known = ec2.find(self.instance_type)
            if known is None or not known.prices.get(ec2.REGION):
                fault = f'"{self.instance_type}" is no EC2 type whose price the catalogue has; one is m7i.xlarge'
                yield Fault(("instanceType",), fault)
        if self.instance_type is not None and self.usd_per_hour is not None:
            yield Fault(("usdPerHour",), "instanceType says the price already; write one of the two")
        if self.usd_per_hour is not None and self.usd_per_hour == Decimal(0):
            yield Fault(("usdPerHour",), "must be above 0: nothing could be told of a machine that costs nothing")


Threshold = Annotated[
    Decimal,
    BeforeValidator(decimal_as_written),
    Field(gt=0, le=1, decimal_places=6, allow_inf_nan=False),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
    Expected("a part of a budget above 0 and at most 1 with at most 6 decimals, such as 0.8"),
]


Network = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-fA-F.:]{2,45}(/[0-9]{1,3})?$"),
    Expected("an address or a network, such as 10.0.0.0/8"),
]


class Webhook(Section):
    """An address that is told of budgets, signed as Standard Webhooks are."""

    url: Annotated[
        str,
        StringConstraints(pattern=r"^https?://[!-~]{1,1000}$"),
        Expected("an http or https URL, such as https://hooks.example.com/budgets"),
    ]
    """Where each alert is posted. Without TLS only this machine itself is told."""

    secret_env: EnvName
    """Environment variable with the secret that signs: whsec_ and 24 to 64 bytes in base64."""

    networks: Annotated[tuple[Network, ...], Field(strict=False, max_length=20)] = ()
    """Private addresses or networks that the host may have, such as 10.0.0.0/8. Without them it has to be public."""


class Alerts(Section):
    """Who is told when a budget of a tenant, team, key or agent (of a day, a month, or in all) is being used up."""

    thresholds: Annotated[tuple[Threshold, ...], Field(strict=False, min_length=1, max_length=10)] = (
        Decimal("0.5"),
        Decimal("0.8"),
        Decimal("1"),
    )
    """Parts of a budget. Each is told once, when so much of it is spent: in each day or month, and of each limit."""

    webhook: Webhook | None = None
    """Told by a signed POST. null: no webhook."""

    sns: (
        Annotated[
            str,
            StringConstraints(pattern=r"^(arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:)?[A-Za-z0-9_-]{1,256}$"),
            Expected("the name of a topic that Terraform makes, or the ARN of one that is there"),
        ]
        | None
    ) = None
    """SNS topic that is told: a name, which Terraform makes, or the ARN of one that is there. null: none."""

    @property
    def is_on(self) -> bool:
        return self.webhook is not None or self.sns is not None


class Costs(Section):
    machine: Machine = Machine()
    """The price of this machine, for `stoker cost` on a laptop."""

    alerts: Alerts = Alerts()
    """Who is told when budgets are being used up."""
