"""Lines of somebody else's bill: summed exactly while a file is read, and what the words of AWS mean for them.

Facts: usage types and purchase options are those of "Understanding AWS usage types" and of Cost Explorer's dimension
PURCHASE_TYPE; tags are those that Karpenter and EKS put on instances (karpenter.sh/nodepool, eks:nodegroup-name,
eks:cluster-name, eks:eks-cluster-name, kubernetes.io/cluster/NAME).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Literal

from stoker.base.errors import InvalidInput
from stoker.meter.bill import DAY_S, Line
from stoker.meter.money import shared_out

Amount = Literal["unblended", "net-unblended", "blended", "amortized", "net-amortized"]
AMOUNTS: tuple[Amount, ...] = ("unblended", "net-unblended", "blended", "amortized", "net-amortized")
MOST_LINES = 200_000
"""Of one bill, after it is summed by day."""
POOL_TAGS = ("karpenter_sh_nodepool", "eks_nodegroup_name")
CLUSTER_TAGS = ("eks_cluster_name", "eks_eks_cluster_name", "karpenter_sh_discovery")
MOST_USD = 10**12
"""Of one amount."""
_NANO_DIGITS, _DIGITS = 9, 18
# The usage types of machines: `USE1-BoxUsage:m5.large`, `SpotUsage:g5.xlarge`; without a type it is m1.small.
_MACHINE = re.compile(r"(?:[A-Z0-9]+-)?(BoxUsage|SpotUsage|DedicatedUsage|HeavyUsage|ReservedUsage)(?::(.+))?")
# In this order: the first that is found in a usage type or service says what was bought.
_ITEMS = (
    ("eks-auto", "auto mode"),
    ("ebs:snapshot", "snapshots"),
    ("ebs:", "volumes"),
    ("ebsoptimized", "volumes"),
    ("natgateway", "NAT gateway"),
    ("loadbalancer", "load balancers"),
    ("lcuusage", "load balancers"),
    ("elastic load balancing", "load balancers"),
    ("amazoneks", "control plane"),
    ("kubernetes", "control plane"),
    ("extendedsupport", "control plane"),
    ("percluster", "control plane"),
    ("datatransfer", "data"),
    ("-bytes", "data"),
    ("publicipv4", "public addresses"),
    ("elasticip", "public addresses"),
    ("timedstorage", "storage"),
    ("simple storage", "storage"),
    ("elasticache", "cache"),
    ("cloudwatch", "monitoring"),
)


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of machines of one type on one day, and what they cost."""

    began_at: float
    capacity: str
    type: str
    hours: float
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Bill:
    """`lines` are this platform's. `if_known` are those of machines that nothing says whose they are: this platform's
    where it knows the machine. `left_out_nano_usd` is the rest of the file."""

    source: str
    lines: list[Line]
    if_known: list[Line] = field(default_factory=list)
    left_out_nano_usd: int = 0
    left_out_rows: int = 0
    hours: Sequence[Hours] = ()
    """Where the bill says them."""

    @property
    def nano_usd(self) -> int:
        return sum(line.nano_usd for line in self.lines)

    def within(self, since: float | None, until: float | None) -> "Bill":
        """Only lines and hours that began in this time."""

        def is_in(each: Line | Hours) -> bool:
            return (since is None or each.began_at >= since) and (until is None or each.began_at < until)

        return replace(
            self,
            lines=[each for each in self.lines if is_in(each)],
            if_known=[each for each in self.if_known if is_in(each)],
            hours=[each for each in self.hours if is_in(each)],
        )

    def known_to(self, machines: set[str]) -> "Bill":
        ours = [line for line in self.if_known if line.machine in machines]
        others = [line for line in self.if_known if line.machine not in machines]
        return replace(
            self,
            lines=[*self.lines, *ours],
            if_known=[],
            left_out_nano_usd=self.left_out_nano_usd + sum(line.nano_usd for line in others),
            left_out_rows=self.left_out_rows + len(others),
        )


class HoursSums:
    """Hours of machines and their dollars, by day, capacity and type."""

    def __init__(self) -> None:
        self._of: dict[tuple[float, str, str], tuple[Decimal, Decimal]] = {}

    def add(self, what: Line, hours: Decimal, usd: Decimal) -> None:
        key = what.began_at, what.capacity, what.type
        had = self._of.get(key, (Decimal(), Decimal()))
        self._of[key] = had[0] + hours, had[1] + usd

    @property
    def all(self) -> list[Hours]:
        return [Hours(*key, float(hours), usd) for key, (hours, usd) in self._of.items()]


class Sums:
    """Exact sums of dollars by what a line says. `lines` are whole nano-dollars that sum to the rounded sum."""

    def __init__(self) -> None:
        self._of: dict[Line, Decimal] = {}

    def add(self, what: Line, usd: Decimal) -> None:
        """`what` has no money yet. Raises TooLarge, as InvalidInput, beyond MOST_LINES different ones."""
        if not usd:
            return
        self._of[what] = self._of.get(what, Decimal()) + usd
        if len(self._of) > MOST_LINES:
            raise InvalidInput(f"the bill has more than {MOST_LINES} lines by machine and day; give a shorter time")

    @property
    def usd(self) -> Decimal:
        return sum(self._of.values(), Decimal())

    def lines(self) -> list[Line]:
        exact = {str(i): int(usd.scaleb(_DIGITS)) for i, usd in enumerate(self._of.values())}
        nano = shared_out(exact, 10 ** (_DIGITS - _NANO_DIGITS))
        return [replace(line, nano_usd=nano[str(i)]) for i, line in enumerate(self._of) if nano[str(i)]]


def nano_of(usd: Decimal) -> int:
    return int(usd.scaleb(_NANO_DIGITS).to_integral_value())


def decimal(value: object, where: str) -> Decimal:
    """Empty is 0. Raises InvalidInput, also beyond MOST_USD."""
    if value is None or value == "":
        return Decimal()
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        found = Decimal("nan")
    if not found.is_finite():
        raise InvalidInput(f"{where}: the amount is {value!r}; it must be a number")
    if abs(found) > MOST_USD:
        raise InvalidInput(f"{where}: the amount is {str(value)[:40]}; it must be at most {MOST_USD:,}")
    return found


def moment(value: object, where: str) -> float:
    """Seconds since the epoch; without a zone it is UTC, as in all bills of AWS. Raises InvalidInput."""
    if isinstance(value, datetime):
        found = value
    else:
        try:
            found = datetime.fromisoformat(str(value))
        except ValueError as error:
            raise InvalidInput(f"{where}: the time is {value!r}; it must be ISO 8601") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def day_of(at: float) -> tuple[float, float]:
    began = at // DAY_S * DAY_S
    return began, began + DAY_S


def machine_of(usage_type: str) -> tuple[str, str] | None:
    """Capacity and type of a machine's usage type; None for what is no machine."""
    found = _MACHINE.fullmatch(usage_type)
    if found is None:
        return None
    return "spot" if found[1] == "SpotUsage" else "on-demand", found[2] or "m1.small"


def item_of(usage_type: str, service: str = "") -> str:
    """What a line that is no machine's was for, in few words; the service's name where nothing else tells."""
    for text in (usage_type.lower(), service.lower()):
        for part, item in _ITEMS:
            if part in text:
                return item
    return service or usage_type or "other"


def tag_name(name: str) -> str:
    """`user:karpenter.sh/nodepool` and `user_karpenter_sh_nodepool` -> karpenter_sh_nodepool."""
    return re.sub(r"[^a-z0-9]", "_", re.sub(r"^(user|aws)[:_]", "", name.lower()))


def is_of_cluster(tags: Mapping[str, str], cluster: str) -> bool | None:
    """None: no tag tells. `tags` by `tag_name`."""
    said = [tags[name] for name in CLUSTER_TAGS if tags.get(name)]
    owned = [name for name, value in tags.items() if value and name.startswith("kubernetes_io_cluster_")]
    if not said and not owned:
        return None
    return cluster in said or "kubernetes_io_cluster_" + tag_name(cluster) in owned
