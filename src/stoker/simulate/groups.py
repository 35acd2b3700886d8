"""Node groups over time: fixed ones, and those that the Cluster Autoscaler moves (`policy.cluster_autoscaler`)."""

from collections.abc import Sequence

from stoker.base.errors import InvalidInput
from stoker.catalog import ec2
from stoker.policy import cluster_autoscaler
from stoker.policy.cluster import Offering
from stoker.simulate.capacity import Capacity
from stoker.simulate.kernel import Rank
from stoker.simulate.machines import Machines
from stoker.simulate.scenario import NodeGroup
from stoker.simulate.world import World


class Groups:
    def __init__(self, world: World, machines: Machines, capacity: Capacity) -> None:
        """Raises InvalidInput for a group whose type is not sold in the scenario's zones."""
        self.world = world
        self.machines = machines
        self.capacity = capacity
        self.state = cluster_autoscaler.State()
        self._offerings = {group.view.name: self._offered(group) for group in world.scenario.groups}
        self._of = {group.view.name: self._as_policy(group) for group in world.scenario.groups}
        self._turn: dict[str, int] = dict.fromkeys(self._of, 0)
        self._is_scaled = any(group.minimum < group.maximum for group in world.scenario.groups)

    def begin(self) -> None:
        for name, group in self._of.items():
            for _ in range(group.minimum):
                self._launch(name, f"group {name} has at least {group.minimum}")
        if self._is_scaled:
            self.world.kernel.after(cluster_autoscaler.SCAN_S, Rank.NODES, self._scan)

    def keep(self) -> None:
        """An Auto Scaling group replaces what it has lost below its minimum."""
        for name, group in self._of.items():
            there = sum(node.leaving_since is None for node in self.world.nodes_of(name))
            for _ in range(group.minimum - there):
                self._launch(name, f"group {name} has at least {group.minimum}")

    def _scan(self) -> None:
        world = self.world
        self.state, decision = cluster_autoscaler.scan(
            *(self.state, world.helpless(), list(world.nodes.values()), list(self._of.values()), world.now),
            daemons=world.scenario.daemons,
            budgets=world.scenario.budgets,
        )
        reasons = dict(decision.why)
        for subject, why in decision.why:
            if subject not in decision.remove:
                world.journal.say_once(world.now, "provision", subject, why)
        for name, many in decision.grow.items():
            for _ in range(many):
                self._launch(name, f"group {name} grows by {many}")
        for name in decision.remove:
            if name in world.nodes:
                why = reasons.get(name, "unneeded")
                world.journal.say(world.now, "disrupt", name, why)
                self.machines.remove(world.nodes[name], why)
        world.kernel.after(cluster_autoscaler.SCAN_S, Rank.NODES, self._scan)

    def _launch(self, name: str, why: str) -> None:
        """The zones take turns, as an Auto Scaling group balances them."""
        offerings = self._offerings[name]
        there = self.capacity.at(self.world.now, offerings)
        for step in range(len(offerings)):
            each = offerings[(self._turn[name] + step) % len(offerings)]
            if there[each.type.name, each.zone, each.capacity]:
                self._turn[name] += step + 1
                self.machines.launch(self._of[name].view, self._priced(each), why)
                return
        self.world.journal.say_once(self.world.now, "no capacity", name, f"EC2 has no {offerings[0].type.name}")
        self.state = cluster_autoscaler.failed(self.state, name, self.world.now)

    def _priced(self, offering: Offering) -> Offering:
        """At the price of the moment."""
        of_type = self.world.market.get(offering.type.name, ())
        return next(
            (each for each in of_type if (each.zone, each.capacity) == (offering.zone, offering.capacity)), offering
        )

    def _offered(self, group: NodeGroup) -> Sequence[Offering]:
        capacity = "spot" if "spot" in group.view.capacity_types else "on-demand"
        zones = group.view.zones or self.world.scenario.zones
        found = [
            each for each in self.world.market.get(group.type, ()) if each.capacity == capacity and each.zone in zones
        ]
        if not found:
            raise InvalidInput(
                f"node group {group.view.name}: {group.type} is not sold as {capacity} in {', '.join(zones)}",
                param="node-group",
                hint="`--region` says where; `stoker simulate --help` shows the form of a group",
            )
        return found

    def _as_policy(self, group: NodeGroup) -> cluster_autoscaler.Group:
        offered = self._offerings[group.view.name]
        return cluster_autoscaler.Group(
            group.view,
            ec2.instance_types()[group.type],
            tuple(each.zone for each in offered),
            group.minimum,
            group.maximum,
            min(each.usd_per_hour for each in offered),
        )
