"""What a platform costs in a month, before it is there: lines from the plan and from the prices of the catalogue.

`stoker deploy` prints it. Low: what runs when nobody asks for anything. High: what the limits let through, all month.
In between lies what is used; `stoker simulate` says how much that is. What is paid by the request or by the gigabyte is
not counted, and named (docs/deploy/cost.md).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any

from stoker.catalog import ec2
from stoker.catalog.aws_prices import auto_mode_share, price
from stoker.catalog.ec2 import InstanceType
from stoker.catalog.labels import AUTO_MODE
from stoker.catalog.spot import spot_usd_per_hour
from stoker.manifests.node_pools import requests_of
from stoker.manifests.quantities import bytes_of
from stoker.policy.pod_resources import added, fits
from stoker.render import aws_secrets, redis, types
from stoker.render.cloudwatch_alarms import alarms
from stoker.render.components import COMPONENTS
from stoker.render.facts import GPU, Pool, Served
from stoker.render.fitting import workloads_on_general_nodes
from stoker.render.items import Resource
from stoker.render.ledger import RDS_CLASS, RDS_GIB, RDS_MOST_GIB, VOLUME
from stoker.render.node_classes import node_class
from stoker.render.plan import Plan
from stoker.render.root.cluster import has_auto_mode
from stoker.render.root.file_systems import capacity_gib, makes_file_system
from stoker.render.root.network import nat_zones
from stoker.render.root.nodes import (
    CONTROLLER_DISK_GIB,
    CONTROLLER_NODES,
    CONTROLLER_TYPES,
    MOST_CONTROLLER_NODES,
)
from stoker.render.sharing import offered

_CENT = Decimal("0.01")
_WHY_FEE = "a part of what its nodes cost on demand: 12 %, with GPUs less"
_FREE_THROUGHPUT = 125
"""MiB/s of a gp3 volume that its price includes (EBS user guide, general-purpose)."""
_GIB = 1024**3


@dataclass(frozen=True)
class Line:
    """`usd_low` is `quantity` times `unit_usd`, times the hours of the month where the unit is an hour, in whole cents;
    `usd_high` the same of the most that the limits allow."""

    what: str
    quantity: Decimal
    unit: str
    unit_usd: Decimal
    usd_low: Decimal
    usd_high: Decimal
    note: str = ""


@dataclass(frozen=True)
class Estimate:
    region: str
    lines: tuple[Line, ...]
    not_included: tuple[str, ...]
    """What costs money, too, and is in no line."""
    notes: tuple[str, ...]
    """Which prices stand in for those of the region."""

    @property
    def usd_low(self) -> Decimal:
        return sum((line.usd_low for line in self.lines), Decimal(0))

    @property
    def usd_high(self) -> Decimal:
        return sum((line.usd_high for line in self.lines), Decimal(0))


@dataclass(frozen=True)
class _Nodes:
    """Of one line: how many at least, of which type, what each costs; and the most USD an hour and nodes at once."""

    what: str
    count: int
    type: InstanceType
    usd: Decimal
    worst_usd: Decimal
    most: int
    pool: Pool
    note: str


def estimate(plan: Plan, *, hours_per_month: float = 730.0) -> Estimate:
    """Raises InvalidInput for a plan that `render` refuses."""
    hours = Decimal(repr(hours_per_month))
    objects = [item.object for part in COMPONENTS.values() for item in part(plan) if isinstance(item, Resource)]
    nodes = [*_general(plan, objects), *_inference(plan), *_training(plan)]
    book = _Book(plan.region, hours)
    _cluster(plan, book)
    _of_nodes(plan, nodes, book)
    _services(plan, book)
    return Estimate(plan.region, tuple(book.lines), tuple(_not_included(plan, book)), tuple(book.notes(nodes)))


class _Book:
    """Lines, and whose prices they were made of."""

    def __init__(self, region: str, hours: Decimal) -> None:
        self.lines: list[Line] = []
        self.unknown: list[str] = []
        self._region, self._hours = region, hours
        self._stand_ins: dict[str, list[str]] = {}

    def add(
        self, what: str, key: str, quantity: int | Decimal, *, most: int | Decimal | None = None, note: str = ""
    ) -> None:
        """`quantity` of what has a price in the catalogue; `most` None: never more than that."""
        found = price(key, self._region)
        if found is None:
            self.unknown.append(f"{what}: no price of it is known here ({key})")
            return
        if found.region != self._region:
            self._stand_ins.setdefault(found.region, []).append(what)
        self.at(what, found.unit, found.usd, quantity, (quantity if most is None else most) * found.usd, note)

    def at(
        self, what: str, unit: str, usd: Decimal, quantity: int | Decimal, most_usd: Decimal, note: str = ""
    ) -> None:
        """`most_usd`: of all of it at most, for an hour where that is the unit."""
        times = self._hours if unit == "hour" else Decimal(1)
        low, high = (each.quantize(_CENT) for each in (quantity * usd * times, most_usd * times))
        self.lines.append(Line(what, Decimal(quantity), unit, usd, low, high, note))

    def notes(self, nodes: Sequence[_Nodes]) -> Iterator[str]:
        if nodes and self._region not in ec2.regions():
            yield f"nodes: prices on demand of {self._region} are not known here; those of {ec2.REGION} stand in"
        for region, what in self._stand_ins.items():
            yield f"prices of {region} stand in for those of {self._region}: {', '.join(dict.fromkeys(what))}"


def _makes_cluster(plan: Plan) -> bool:
    return plan.aws == "terraform" and plan.spec.deploy.terraform


def _cluster(plan: Plan, book: _Book) -> None:
    if not _makes_cluster(plan):
        return
    book.add("EKS control plane", "eks.cluster", 1, note="in standard support, at whose end EKS raises the version")
    gateways = len(nat_zones(plan))
    book.add("NAT gateways", "vpc.nat-gateway", gateways)
    book.add("public addresses of NAT gateways", "vpc.public-ipv4", gateways)
    book.add("KMS key of the cluster", "kms.key", 1)
    if makes_file_system(plan):
        gib = capacity_gib(plan.spec.training.storage.size)
        book.add(
            "FSx for Lustre", "fsx.lustre-persistent-125", gib, note="for the data of training, 125 MB/s for each TiB"
        )
    controllers = ec2.find(CONTROLLER_TYPES[0])
    if has_auto_mode(plan) or controllers is None:
        return
    usd = types.usd_per_hour(plan, controllers)
    note = f"{controllers} on demand"
    book.at("nodes of controllers", "hour", usd, CONTROLLER_NODES, MOST_CONTROLLER_NODES * usd, note)
    least, most = (number * CONTROLLER_DISK_GIB for number in (CONTROLLER_NODES, MOST_CONTROLLER_NODES))
    book.add("disks of nodes of controllers", "ebs.gp3", least, most=most, note="gp3")


def _of_nodes(plan: Plan, nodes: Sequence[_Nodes], book: _Book) -> None:
    for each in nodes:
        book.at(each.what, "hour", each.usd, each.count, each.worst_usd, each.note)
    automatic = [each for each in nodes if each.pool.domain == AUTO_MODE]
    if automatic:
        fees = (
            each.count * auto_mode_share(each.type.name) * types.usd_per_hour(plan, each.type) for each in automatic
        )
        most = (each.worst_usd * max(auto_mode_share(one.name) for one in each.pool.types) for each in automatic)
        book.at("fee of EKS Auto Mode", "hour", sum(fees, Decimal(0)).normalize(), 1, sum(most, Decimal(0)), _WHY_FEE)
    disks = [(each, *_disk(plan, each.pool)) for each in nodes]
    if disks:
        book.add(
            "disks of nodes",
            "ebs.gp3",
            sum(each.count * gib for each, gib, _ in disks),
            most=sum(each.most * gib for each, gib, _ in disks),
            note="gp3, for as long as the node is there",
        )
    if any(extra for _, _, extra in disks):
        book.add(
            "throughput of these disks",
            "ebs.gp3.throughput",
            sum(each.count * extra for each, _, extra in disks),
            most=sum(each.most * extra for each, _, extra in disks),
            note=f"beyond the {_FREE_THROUGHPUT} MiB/s that cost nothing",
        )


def _disk(plan: Plan, pool: Pool) -> tuple[int, int]:
    """GiB of a node's volumes, and MiB/s that are paid for."""
    sharers = [each for each in (*plan.pools, pool) if each.node_class == pool.node_class]
    spec: Mapping[str, Any] = node_class(plan, sharers)["spec"]
    if "ephemeralStorage" in spec:
        volumes = [{"volumeSize": spec["ephemeralStorage"]["size"], **spec["ephemeralStorage"]}]
    else:
        volumes = [each["ebs"] for each in spec["blockDeviceMappings"]]
    gib = sum(bytes_of(each["volumeSize"]) // _GIB for each in volumes)
    return gib, sum(max(each.get("throughput", 0) - _FREE_THROUGHPUT, 0) for each in volumes)


def _inference(plan: Plan) -> Iterator[_Nodes]:
    """Each model as if it had its nodes alone. The most is what the limit of its own pool lets through, which is as
    much as all its replicas need, wherever they run."""
    for served in plan.served:
        pools = plan.pools_of(served) if served.is_on_gpu else ()
        own = next((each for each in pools if each.serves == served.serves), None)
        if own is None:
            continue
        count, chosen, usd, capacity = _cheapest(plan, served, pools)
        worst = types.worst_usd_per_hour(plan, own)
        limit = int(own.limits[GPU])
        yield _Nodes(
            what=f"nodes of the model {served.name}",
            count=count,
            type=chosen,
            usd=usd,
            worst_usd=worst,
            most=ceil(Fraction(limit, min(offered(each, served.gpu) for each in own.types))),
            pool=own,
            note=f"{chosen} {capacity}; at most {limit} GPUs, {worst.normalize():f} an hour on demand",
        )


def _cheapest(plan: Plan, served: Served, pools: Sequence[Pool]) -> tuple[int, InstanceType, Decimal, str]:
    """Nodes for the fewest replicas, and the type that makes them cheapest: on spot where a pool has it, for it comes
    first there."""
    least = served.replicas.min if served.is_scaled else max(1, served.replicas.min)
    pods = least * served.serving.nodes
    spot = _able(served, (each for each in pools if "spot" in each.capacity))
    found = [(each, _spot_usd(plan, each), "on spot") for each in spot]
    offers = [(each, usd, how) for each, usd, how in found if usd is not None]
    if not offers:
        on_demand = _able(served, (each for each in pools if "on-demand" in each.capacity))
        offers = [(each, types.usd_per_hour(plan, each), "on demand") for each in on_demand]
    # Of those that cost the same, as when there are no nodes at all, the one whose place costs least.
    chosen, usd, how = min(
        offers,
        key=lambda offer: (
            _count(served, offer[0], pods) * offer[1],
            offer[1] / types.places_on(served, offer[0]),
            offer[0].name,
        ),
    )
    return _count(served, chosen, pods), chosen, usd, how


def _able(served: Served, pools: Iterable[Pool]) -> list[InstanceType]:
    found = {each.name: each for pool in pools for each in pool.types if not types.why_not(each, served)}
    return list(found.values())


def _count(served: Served, instance: InstanceType, pods: int) -> int:
    return ceil(Fraction(pods, types.places_on(served, instance)))


def _spot_usd(plan: Plan, instance: InstanceType) -> Decimal | None:
    usd = spot_usd_per_hour(instance.name, plan.region)
    return None if usd is None else Decimal(repr(round(usd, 6)))


def _training(plan: Plan) -> Iterator[_Nodes]:
    training = plan.spec.training
    if not training.enabled or not (training.batch.enabled or not training.kubeflow or plan.spec.karpenter.enabled):
        return
    pool = types.training_pool(plan)
    worst = types.worst_usd_per_hour(plan, pool)
    limit = int(pool.limits[GPU])
    cheapest = pool.types[0]
    usd = types.usd_per_hour(plan, cheapest)
    yield _Nodes(
        what="nodes that train",
        count=0,
        type=cheapest,
        usd=usd,
        worst_usd=worst,
        most=ceil(Fraction(limit, min(each.gpu_count for each in pool.types))),
        pool=pool,
        note=f"{cheapest} while a job runs; at most {limit} GPUs, {worst.normalize():f} an hour on demand",
    )


def _general(plan: Plan, objects: Sequence[Mapping[str, Any]]) -> Iterator[_Nodes]:
    """The fewest nodes that hold what always runs and needs no GPU; on demand, since gateways never are on spot."""
    pools = [pool for pool in plan.pools if pool.use == "general"]
    if not pools:
        return
    least = _fewest_replicas(objects)
    asked: list[Mapping[str, int]] = []
    for workload in workloads_on_general_nodes(dict(each) for each in objects):
        usual = workload.replicas if workload.replicas is not None else 1
        requests = {**requests_of(workload), "pods": 1}
        asked += [requests] * least.get((workload.kind, workload.manifest.name), usual)
    total = added(*asked)
    offers = [
        (max(ceil(Fraction(amount, types.free(each)[key])) for key, amount in total.items() if amount), each, pool)
        for pool in pools
        for each in pool.types
        if all(fits(one, types.free(each)) for one in asked)
    ]
    count, chosen, pool = min(
        offers, key=lambda offer: (offer[0] * types.usd_per_hour(plan, offer[1]), offer[1].vcpu, offer[1].name)
    )
    worst = sum((types.worst_usd_per_hour(plan, each) for each in pools), Decimal(0))
    vcpus = sum(int(each.limits["cpu"]) for each in pools)
    yield _Nodes(
        what="nodes of everything else",
        count=count,
        type=chosen,
        usd=types.usd_per_hour(plan, chosen),
        worst_usd=worst,
        most=sum(int(each.limits["cpu"]) // min(one.vcpu for one in each.types) for each in pools),
        pool=pool,
        note=f"{chosen} on demand; at most {vcpus} vCPU, {worst.normalize():f} an hour",
    )


def _fewest_replicas(objects: Sequence[Mapping[str, Any]]) -> Mapping[tuple[str, str], int]:
    """By kind and name, what an autoscaler leaves of it."""
    found = {}
    for each in objects:
        spec = each.get("spec", {})
        if each["kind"] == "HorizontalPodAutoscaler":
            found[spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]] = spec["minReplicas"]
        elif each["kind"] == "ScaledObject":
            target = spec["scaleTargetRef"]
            found[target.get("kind", "Deployment"), target["name"]] = spec["minReplicaCount"]
    return found


def _services(plan: Plan, book: _Book) -> None:
    _redis(plan, book)
    _ledger(plan, book)
    _edge(plan, book)
    secrets = len([*aws_secrets.made(plan), *aws_secrets.given(plan)]) + (plan.redis == "elasticache")
    book.add("secrets in Secrets Manager", "secretsmanager.secret", secrets)
    seen = plan.spec.global_.observability
    if seen.enabled and seen.cloudwatch:
        book.add("KMS key of alarms", "kms.key", 1)
        book.add("alarms of CloudWatch", "cloudwatch.alarm", len(list(alarms(plan))))
        book.add("dashboard of CloudWatch", "cloudwatch.dashboard", 1)
    if plan.by_ack and plan.spec.composition.kro and plan.account is not None:
        book.add("kro as EKS capability", "eks.capability.kro", 1, note="each instance of a graph costs a little more")


def _redis(plan: Plan, book: _Book) -> None:
    copies = 1 + redis.replicas(plan)
    if plan.redis == "elasticache":
        kind = plan.spec.redis.elasticache.node_type
        book.add("ElastiCache nodes", f"elasticache.valkey.{kind}", copies, note=f"{kind}, Valkey")
    elif plan.redis == "cluster":
        gib = Decimal(bytes_of(plan.spec.redis.master.persistence.size)) / _GIB
        book.add("volumes of Redis", "ebs.gp3", copies * gib, note=f"{copies} of {gib.normalize():f} GiB, gp3")


def _ledger(plan: Plan, book: _Book) -> None:
    if plan.ledger == "rds":
        book.add("RDS of the ledger", f"rds.postgres.{RDS_CLASS}", 2, note=f"{RDS_CLASS} in two zones")
        both = "in two zones; it grows by itself"
        book.add("storage of RDS", "rds.gp3", 2 * RDS_GIB, most=2 * RDS_MOST_GIB, note=both)
    elif plan.ledger == "cluster":
        book.add("volume of the ledger", "ebs.gp3", bytes_of(VOLUME) // _GIB, note="gp3")


def _edge(plan: Plan, book: _Book) -> None:
    edge = plan.spec.edge
    if edge.enabled:
        book.add("Application Load Balancer", "elb.application", 1)
        if edge.scheme == "internet-facing":
            book.add("its public addresses", "vpc.public-ipv4", len(plan.zones), note="one in each zone")
    if edge.websocket:
        book.add("Network Load Balancer of the WebSocket API", "elb.network", 1)


def _not_included(plan: Plan, book: _Book) -> Iterator[str]:
    said = plan.spec
    yield from book.unknown
    if not _makes_cluster(plan):
        yield "the cluster, its network and the nodes of its controllers, which are there"
    if not said.karpenter.enabled:
        yield "nodes: karpenter.enabled is false, so that they are somebody else's"
    yield "traffic: out to the internet, between zones, through NAT gateways and load balancers (LCU)"
    yield "objects in S3, images in ECR, lines in CloudWatch Logs, requests of KMS, SQS and Secrets Manager"
    if said.global_.observability.enabled and said.global_.observability.cloudwatch:
        yield "CloudWatch's metrics: Container Insights is paid by what it observes, our own by the metric"
    if plan.ledger == "rds" or plan.redis == "elasticache":
        yield "backups of RDS and ElastiCache beyond what is free"
    of_training = said.training.enabled and said.training.storage.enabled
    if plan.cache in ("efs", "fsx") or (of_training and not (makes_file_system(plan) and _makes_cluster(plan))):
        yield "file systems of EFS and FSx, which are there"
    if plan.hosted:
        yield f"tokens of models on other servers: {', '.join(plan.hosted)}"
    if said.edge.websocket:
        yield "messages and minutes of the WebSocket API"
    if said.edge.waf_acl_arn is not None:
        yield "WAF"
    if said.edge.gateway_api.enabled:
        yield "the load balancer that the controller of the Gateway API makes"
    if plan.stack is not None:
        yield f"the replica of {plan.stack.name} that the instance of AIInferenceStack runs"
    if plan.by_ack and said.composition.ack.sagemaker:
        yield "training jobs and endpoints of SageMaker"
    if any(pool.said.capacity_reservation for pool in plan.pools):
        yield "capacity reservations while nothing runs in them"
    yield "taxes and support; discounts, savings plans and free tiers, which would lower it"
