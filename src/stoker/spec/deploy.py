"""`deploy`: what `stoker deploy`, `diff`, `status` and `destroy` may act on, and how."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, StringConstraints

from stoker.spec.faults import Fault
from stoker.spec.guide import BucketName
from stoker.spec.section import Expected, Section

Cidr = Annotated[
    str,
    StringConstraints(pattern=r"^([0-9]{1,3}\.){3}[0-9]{1,3}/[0-9]{1,2}$"),
    Expected("a range of IPv4 addresses, such as 10.0.0.0/16"),
]


class Network(Section):
    cidr: Cidr = "10.0.0.0/16"
    """Addresses of the VPC. Each zone gets a private sixteenth of them, which pods and nodes take theirs from, and a
    public 256th for load balancers."""

    nat_per_zone: bool = False
    """A NAT gateway in each zone, so that the loss of one zone leaves the others their way out. false: one for all,
    at a third of the price."""

    public_access: Annotated[tuple[Cidr, ...], Field(strict=False, max_length=40)] = ()
    """Who reaches the cluster's API from the internet. Empty: nobody, only the VPC and what is connected to it."""

    def broken_rules(self) -> Iterator[Fault]:
        for path, cidr in (
            (("cidr",), self.cidr),
            *((("publicAccess", i), c) for i, c in enumerate(self.public_access)),
        ):
            address, _, length = cidr.partition("/")
            if any(int(part) > 255 for part in address.split(".")) or int(length) > 32:
                yield Fault(path, f"{cidr} is no range of IPv4 addresses; such as 10.0.0.0/16")
        if not 16 <= int(self.cidr.partition("/")[2]) <= 18:
            yield Fault(("cidr",), f"{self.cidr} has to be a /16, /17 or /18: subnets of pods are parts of it")


class Deploy(Section):
    context: (
        Annotated[
            str,
            StringConstraints(pattern="^[!-~]{1,253}$"),
            Expected("the name of a context of the kubeconfig"),
        ]
        | None
    ) = None
    """Context of the kubeconfig that may be acted on, for a cluster that is reached by it. null: the cluster that
    Terraform makes, reached with the credentials of global.cluster.account; no kubeconfig is read."""

    terraform: bool = True
    """Make the cluster and what is around it by Terraform. false: it is there; only objects are applied to
    `context`."""

    controllers: bool = True
    """Install by Helm the controllers that the platform's objects need. false: they are there."""

    kubernetes_version: Annotated[
        str, StringConstraints(pattern=r"^1\.[0-9]{2}$"), Expected("a minor version of Kubernetes, such as 1.35")
    ] = "1.35"
    """Version of EKS. What Terraform makes is of it; it is raised one minor at a time."""

    state_bucket: BucketName | None = None
    """S3 bucket of Terraform's state, which has to be there. null: a file in the state directory, for one person."""

    monthly_budget_usd: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Dollars a month of which AWS Budgets tells global.observability.alarmEmail at 80 and 100 percent. null: none."""

    wait_seconds: Annotated[int, Field(ge=1, le=86_400)] = 1800
    """Seconds that each wave may take until its objects are ready."""

    network: Network = Network()
    """The VPC that Terraform makes."""

    def broken_rules(self) -> Iterator[Fault]:
        if not self.terraform and self.context is None:
            yield Fault(
                ("context",), "null, and terraform is false; write the context of the cluster that is to be acted on"
            )
