"""`costs`: what machines are priced at where nobody sends a bill."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated

from pydantic import StringConstraints

from stoker.catalog import ec2
from stoker.spec.faults import Fault
from stoker.spec.section import Expected, Section, Usd

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


class Costs(Section):
    machine: Machine = Machine()
    """The price of this machine, for `stoker cost` on a laptop."""
