"""`karpenter`: the nodes of the cluster, whoever makes them. The first four keys of a pool are the guide's."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from stoker.spec.faults import Fault
from stoker.spec.guide import Zone
from stoker.spec.section import Expected, Name, Quantity, Section, Usd

Family = Annotated[
    str,
    StringConstraints(pattern="^[a-z0-9][a-z0-9-]{0,19}$"),
    Expected("an EC2 instance family, such as g5"),
]


Use = Literal["inference", "training", "general"]


class NodePool(Section):
    enabled: bool = True
    """Whether the pool is rendered."""

    instance_families: Annotated[tuple[Family, ...], Field(strict=False, min_length=1, max_length=50)] = (
        "g5",
        "g6",
        "p4d",
        "p5",
    )
    """EC2 instance families that Karpenter may choose from. More families mean fewer waits for capacity."""

    spot_enabled: bool = True
    """Allow spot capacity: cheaper, and taken back at two minutes' notice, which workers survive."""

    consolidation_enabled: bool = True
    """Let Karpenter replace and remove nodes that are not full."""

    use: Use = "inference"
    """What runs on it. inference: models; each gets a NodePool of the types that fit it, and with spot one more that
    all share, of spot alone. training: training jobs. general: everything that needs no GPU."""

    max_usd_per_hour_per_node: Usd | None = None
    """Price ceiling: instance types that cost more than this on demand (in us-east-1, whose prices are known for every
    type) are left out. null: none."""

    max_usd_per_hour: Usd | None = None
    """Cap on what all nodes of the pool cost together in the worst case, by a limit on their number. Prices are those
    on demand in the region where all are known (us-east-1, us-gov-east-1, us-gov-west-1), else in us-east-1. null:
    none."""

    zones: Annotated[tuple[Zone, ...], Field(strict=False, max_length=10)] = ()
    """Zones of the pool's nodes. Empty: those of the cluster, and for training the first of them, since EFA does not
    cross zones."""

    volume: Quantity = "200Gi"
    """Root volume of a node: images, and weights that are not streamed."""

    capacity_reservation: (
        Annotated[
            str,
            StringConstraints(pattern="^cr-[0-9a-f]{8,40}$"),
            Expected("a capacity reservation, such as cr-0123abcd"),
        ]
        | None
    ) = None
    """On-demand capacity reservation or capacity block that the pool uses first."""

    placement_group: (
        Annotated[str, StringConstraints(pattern="^[A-Za-z0-9 ._-]{1,255}$"), Expected("the name of a placement group")]
        | None
    ) = None
    """EC2 placement group of the nodes, for training over several of them."""


class Protected(Section):
    schedule: Annotated[
        str,
        StringConstraints(pattern=r"^[0-9A-Za-z*,/?@-]+( [0-9A-Za-z*,/?-]+){4}$"),
        Expected('a cron expression of five fields in UTC, such as "0 9 * * mon-fri"'),
    ] = "0 9 * * mon-fri"
    """When protected hours begin, in UTC. Budgets do not add up: the lowest that is in force counts, so hours are
    protected by a low one, and not maintained by a high one."""

    duration: Annotated[
        str,
        StringConstraints(pattern="^([0-9]+h)?([0-9]+m)?$", min_length=2),
        Expected("a duration, such as 8h or 1h30m"),
    ] = "8h"
    """How long they last."""

    nodes: Annotated[
        str,
        StringConstraints(pattern="^(100|[1-9]?[0-9])%$|^[0-9]{1,4}$"),
        Expected('nodes, as a number or a part: "1", "10%"'),
    ] = "10%"
    """Nodes of a pool that may be disrupted at once within them."""


class Karpenter(Section):
    enabled: bool = True
    """Render NodePools and node classes; false for a cluster that brings its own nodes."""

    node_role: (
        Annotated[
            str,
            StringConstraints(pattern="^[A-Za-z0-9+=,.@_-]{1,64}$"),
            Expected("the name of an IAM role, not its ARN"),
        ]
        | None
    ) = None
    """IAM role of the nodes. null: KarpenterNodeRole-CLUSTER."""

    image: Annotated[
        str,
        StringConstraints(pattern=r"^(al2023|bottlerocket)@v?[0-9][0-9.]*$"),
        Expected("an image alias with a version, such as al2023@v20260903 or bottlerocket@v1.55.0"),
    ] = "al2023@v20260903"
    """Image of the nodes, pinned, since a floating one replaces nodes whenever AWS publishes. Not for Auto Mode, which
    has its own."""

    interruption_queue: (
        Annotated[
            str,
            StringConstraints(pattern="^[A-Za-z0-9_-]{1,80}$"),
            Expected("the name of an SQS queue: at most 80 letters, digits, hyphens and underscores"),
        ]
        | None
    ) = None
    """SQS queue in which Karpenter hears of spot interruptions. null: the cluster's name."""

    protected_hours: Protected | None = Protected()
    """Hours in which few nodes are replaced. null: all hours are alike."""

    node_pools: Mapping[Name, NodePool] = Field(default={"gpu": NodePool()}, max_length=100)
    """Node pools by name. Where none is for training or general use, and one is needed, there is one of usual types."""

    def broken_rules(self) -> Iterator[Fault]:
        for name, pool in self.node_pools.items():
            ceiling, cap = pool.max_usd_per_hour_per_node, pool.max_usd_per_hour
            if ceiling is not None and cap is not None and ceiling > cap:
                yield Fault(
                    ("nodePools", name, "maxUsdPerHourPerNode"), f"{ceiling} is more than maxUsdPerHour ({cap})"
                )
