"""`deploy`: what `stoker deploy`, `diff`, `status` and `destroy` may act on, and how."""

from collections.abc import Generator, Iterator
from ipaddress import IPv4Network
from typing import Annotated

from pydantic import Field, StringConstraints

from stoker.spec.faults import Fault, Path
from stoker.spec.guide import BucketName
from stoker.spec.section import Expected, Section

Cidr = Annotated[
    str,
    StringConstraints(pattern=r"^([0-9]{1,3}\.){3}[0-9]{1,3}/[0-9]{1,2}$"),
    Expected("a range of IPv4 addresses, such as 10.0.0.0/16"),
]

_NOT_ROUTED = tuple(
    IPv4Network(each)
    for each in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
)
"""Source: RFC 1918, RFC 6598 (carriers' own), RFC 1122 (loopback), RFC 3927 (link-local)."""


class Network(Section):
    cidr: Cidr = "10.0.0.0/16"
    """Addresses of the VPC. Each zone gets a private sixteenth of them, which pods and nodes take theirs from, and a
    public 256th for load balancers."""

    nat_per_zone: bool = False
    """A NAT gateway in each zone, so that the loss of one zone leaves the others their way out. false: one for all,
    at a third of the price."""

    public_access: Annotated[tuple[Cidr, ...], Field(strict=False, max_length=40)] = ()
    """Who reaches the cluster's API from the internet, by public addresses. Empty: nobody, only the VPC and what is
    connected to it."""

    def broken_rules(self) -> Iterator[Fault]:
        vpc = yield from _network(("cidr",), self.cidr)
        if vpc is not None and not 16 <= vpc.prefixlen <= 18:
            yield Fault(("cidr",), f"{vpc} has to be a /16, /17 or /18: subnets of pods are parts of it")
        for index, cidr in enumerate(self.public_access):
            path = ("publicAccess", index)
            public = yield from _network(path, cidr)
            if public is not None and any(public.subnet_of(each) for each in _NOT_ROUTED):
                yield Fault(
                    path,
                    f"{cidr} is no address that the internet routes, so that nobody would come from it; write the "
                    "public one that your network goes out by, such as 203.0.113.7/32",
                )


def _network(path: Path, cidr: str) -> Generator[Fault, None, IPv4Network | None]:
    """The range, or a fault that says what is wrong with its text."""
    try:
        found = IPv4Network(cidr, strict=False)
    except ValueError:
        yield Fault(path, f"{cidr} is no range of IPv4 addresses; such as 10.0.0.0/16")
        return None
    if str(found) != cidr:
        yield Fault(path, f"{cidr} does not begin where a /{found.prefixlen} begins; write {found}")
        return None
    return found


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
