"""Machines over time: asked for, launched, booted, ready, drained, gone; and taken away by EC2, with its notice.

Karpenter and the Cluster Autoscaler ask for them and end them; both go through here.
"""

import math
from collections.abc import Callable, Mapping

from stoker.catalog import spot
from stoker.catalog.ec2 import InstanceType
from stoker.catalog.labels import CAPACITY_TYPE, HOSTNAME, NODE_POOL, REGION, WELL_KNOWN, ZONE, labels_of
from stoker.policy import scheduling, terminating
from stoker.policy.cluster import Node, Offering, Pod
from stoker.policy.placement import NodePoolView, allocatable_of, daemon_overhead
from stoker.policy.pod_resources import GPUS, OF_GPUS
from stoker.policy.provisioning import NOMINATED_S
from stoker.policy.requirements import Requirements
from stoker.simulate import gpu_sharing, latencies
from stoker.simulate.kernel import Rank
from stoker.simulate.replicas import Replicas, sharing_of
from stoker.simulate.result import NodeLife
from stoker.simulate.world import World

NOTICE_S = 120.0
"""From a spot interruption notice to the end of the instance (AWS)."""
_EVICT_AGAIN_S = 5.0
"""How often an eviction that a PodDisruptionBudget refused is tried again: between the eviction queue's first back-off
(0.1 s) and its longest (10 s)."""
_UNKNOWN_PER_HOUR = -math.log(1 - 0.10) / 730
"""Interruptions of a spot type that the Spot Instance Advisor does not list: a tenth of them in a month."""
_DETECT_S = (1.0, 3.0)
"""From the notice to Karpenter's having read it from the queue (reference 4.8)."""


class Machines:
    def __init__(self, world: World, replicas: Replicas, priors: latencies.Priors) -> None:
        self.world = world
        self.replicas = replicas
        self.priors = priors
        self.when_ready: Callable[[Node], None] = lambda node: None
        self.when_leaving: Callable[[Node], None] = lambda node: None
        self.when_noticed: Callable[[Node], None] = lambda node: None
        """A spot node's notice has been read."""
        self.when_gone: Callable[[str], None] = lambda name: None
        self.handles_notices = True
        """Whether somebody drains a spot node at its notice: Karpenter does, the Cluster Autoscaler does not."""
        self._ends_by: dict[str, float] = {}
        self._why: dict[str, str] = {}
        self._noticed: set[str] = set()
        self._overheads: dict[str, Mapping[str, int]] = {}
        self._sharing = sharing_of(world.scenario)

    # -- coming --

    def launch(self, pool: NodePoolView, offering: Offering, why: str, wanted: Requirements | None = None) -> Node:
        """It is asked for now; billed once EC2 has answered."""
        world = self.world
        name = world.name(f"{pool.name}-{offering.type.name.replace('.', '-')}")
        node = Node(
            name=name,
            pool=pool.name,
            type=offering.type,
            zone=offering.zone,
            capacity=offering.capacity,
            usd_per_hour=offering.usd_per_hour,
            labels=_labels(pool, offering, name, wanted or {}, world.scenario.region),
            taints=pool.taints,
            allocatable=allocatable_of(offering.type, pool),
            created_at=world.now,
            daemons=self._overhead(pool),
            nominated_until=world.now + NOMINATED_S,
        )
        gpus = offering.type.gpu_count or offering.type.accelerator_count
        devices = gpu_sharing.offered(offering.type, self._sharing.get(pool.name))
        if not devices:
            devices = {key: n for key, n in node.allocatable.items() if _is_other(key, n, offering.type)}
        life = NodeLife(
            *(name, pool.name, offering.type.name, offering.zone, offering.capacity, gpus, offering.usd_per_hour),
            asked_at=world.now,
            why=why,
            devices=devices,
        )
        world.add_node(node, life)
        text = (
            f"{offering.type.name} {offering.capacity} in {offering.zone} at {offering.usd_per_hour:.4f} USD/h: {why}"
        )
        world.journal.say(world.now, "node", name, text, pool=pool.name, type=offering.type.name, zone=offering.zone)
        times = latencies.node_times(offering.type, world.chance("nodes"), self.priors)

        def launched() -> None:
            life.launched_at = world.now
            world.kernel.after(times.boot_s, Rank.WORLD, registered)
            if offering.capacity == "spot":
                self._await_interruption(node)

        def registered() -> None:
            if name in world.nodes:
                life.registered_at = world.now
                world.kernel.after(times.devices_s, Rank.WORLD, ready)

        def ready() -> None:
            if name in world.nodes:
                node.ready_at = life.ready_at = world.now
                node.allocatable = {**node.allocatable, **devices}
                world.version += 1
                took = world.now - life.asked_at
                world.journal.say(world.now, "node", name, f"ready, {took:.0f} s after it was asked for", after_s=took)
                self.when_ready(node)

        world.kernel.after(times.fleet_s, Rank.WORLD, launched)
        return node

    def _overhead(self, pool: NodePoolView) -> Mapping[str, int]:
        if pool.name not in self._overheads:
            self._overheads[pool.name] = daemon_overhead(pool, self.world.scenario.daemons)
        return self._overheads[pool.name]

    # -- going --

    def remove(self, node: Node, why: str, ends_by: float | None = None) -> None:
        """Drain it, then end it; at `ends_by` at the latest, whatever is on it. A second reason may only hasten."""
        world = self.world
        if node.name not in world.nodes:
            return
        if ends_by is not None and ends_by < self._ends_by.get(node.name, float("inf")):
            self._ends_by[node.name] = ends_by
            world.kernel.at(max(ends_by, world.now), Rank.WORLD, lambda: self._end(node, why))
        if world.node_lives[node.name].leaving_at is not None:
            return
        node.leaving_since = node.leaving_since if node.leaving_since is not None else world.now
        world.node_lives[node.name].leaving_at = world.now
        self._why[node.name] = why
        world.version += 1
        world.journal.say(world.now, "node", node.name, f"drained: {why}")
        self.when_leaving(node)
        self._drain(node, why)

    def _drain(self, node: Node, why: str) -> None:
        world = self.world
        if node.name not in world.nodes:
            return
        ends_by = self._ends_by.get(node.name)
        groups = terminating.eviction_groups(list(node.pods.values()))
        turn = groups[0] if groups else ()
        for pod in [*node.pods.values()]:
            if pod.name not in world.pods or pod.leaving_since is not None:
                continue
            if self._has_to_go(pod, ends_by) or (pod in turn and self._may_evict(pod)):
                self.replicas.leave(pod, f"{node.name} is drained: {why}", ends_by)
        if not node.pods:
            self._end(node, why)
        else:
            world.kernel.after(_EVICT_AGAIN_S, Rank.WORLD, lambda: self._drain(node, why))

    def _has_to_go(self, pod: Pod, ends_by: float | None) -> bool:
        """Within a pod's grace of the node's end, budgets, annotations and whose turn it is count no more."""
        grace_s = max(pod.shape.grace_s, terminating.SHORTEST_GRACE_S)
        return ends_by is not None and self.world.now >= ends_by - grace_s

    def _may_evict(self, pod: Pod) -> bool:
        """A drain waits for pods with do-not-disrupt, and evicts none. (karpenter pkg/utils/pod, IsEvictable)"""
        world = self.world
        if pod.shape.do_not_disrupt:
            return False
        return scheduling.may_evict(pod, list(world.pods.values()), world.scenario.budgets)

    def pod_gone(self, name: str | None) -> None:
        """A pod of this node is gone: the last one of a drained node lets it end."""
        node = self.world.nodes.get(name or "")
        if node is not None and not node.pods and self.world.node_lives[node.name].leaving_at is not None:
            self._end(node, self._why[node.name])

    def _end(self, node: Node, why: str) -> None:
        world = self.world
        if node.name not in world.nodes:
            return
        life = world.node_lives[node.name]
        if life.leaving_at is None:
            life.leaving_at = world.now
        node.leaving_since = node.leaving_since if node.leaving_since is not None else world.now
        self._ends_by[node.name] = world.now
        self._why.setdefault(node.name, why)
        for pod in list(node.pods.values()):
            self.replicas.kill(pod, f"{node.name} is gone: {why}")
        if node.name in world.nodes:  # the last pod's end may have ended it already
            world.remove_node(node, why)
            world.journal.say(world.now, "node", node.name, "gone")
            self.when_gone(node.name)

    # -- spot --

    def _await_interruption(self, node: Node) -> None:
        world, options = self.world, self.world.options
        if options.available:
            return  # a recorded market says who goes
        rate = options.interruptions_per_hour
        if rate is None:
            rate = spot.interruptions_per_hour(node.type.name, world.scenario.region)
        if rate is None:
            rate = _UNKNOWN_PER_HOUR
        if rate > 0:
            lives_s = world.chance("interruptions").expovariate(rate / 3600)
            world.kernel.after(lives_s, Rank.WORLD, lambda: self.interrupt(node))
            warned_s = max(0.0, lives_s - options.rebalance_s)
            world.kernel.after(warned_s, Rank.WORLD, lambda: self._recommend(node))

    def _recommend(self, node: Node) -> None:
        """EC2 recommends to rebalance: Karpenter logs it, and does nothing more."""
        world = self.world
        if node.name in world.nodes:
            text = "EC2 recommends to rebalance: an interruption is more likely; nothing acts on it"
            world.journal.say(world.now, "interruption", node.name, text, pool=node.pool)

    def interrupt(self, node: Node, why: str = "spot interruption") -> None:
        """EC2's notice: it is gone in two minutes."""
        world = self.world
        if node.name not in world.nodes or node.name in self._noticed:
            return
        self._noticed.add(node.name)
        world.node_lives[node.name].noticed_at = world.now
        ends_by = world.now + NOTICE_S
        pods = len(node.pods)
        text = f"{why}: gone in {NOTICE_S:.0f} s, with {pods} pods on it"
        world.journal.say(world.now, "interruption", node.name, text, pods=pods, pool=node.pool)
        world.kernel.at(ends_by, Rank.WORLD, lambda: self._end(node, why))
        if self.handles_notices:

            def read() -> None:
                self.when_noticed(node)
                self.remove(node, why, ends_by)

            world.kernel.after(world.chance("notices").uniform(*_DETECT_S), Rank.WORLD, read)


def _is_other(key: str, amount: int, instance: InstanceType) -> bool:
    """Whether it is of GPUs, and not what the type has."""
    return (key in GPUS or key.startswith(OF_GPUS)) and instance.allocatable.get(key, 0) != amount


def _labels(pool: NodePoolView, offering: Offering, name: str, wanted: Requirements, region: str) -> dict[str, str]:
    """What the node carries: its type's labels, its pool's, and of requirements with labels of the user's own the first
    value that is left, as Karpenter fills them in."""
    own = {}
    for key, asked in {**pool.requirements, **wanted}.items():
        if key not in WELL_KNOWN[pool.domain] and not asked.complement and asked.values:
            own[key] = min(asked.values)
    return {
        **labels_of(offering.type, pool.domain),
        **own,
        **pool.labels,
        NODE_POOL: pool.name,
        CAPACITY_TYPE: offering.capacity,
        ZONE: offering.zone,
        REGION: region,
        HOSTNAME: name,
    }
