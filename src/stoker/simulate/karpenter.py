"""Karpenter over time: batches of pods, launches, refusals; passes of disruption and their commands; expiry, drift.

What is decided is `policy.provisioning`'s, `launching`'s and `disruption`'s.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from stoker.catalog.labels import NODE_POOL
from stoker.policy import candidates, disruption, launching, provisioning
from stoker.policy.cluster import Disruption, Market, Node, Offering, Pod, PodShape
from stoker.policy.placement import NodePoolView, PodView
from stoker.policy.provisioning import BATCH_IDLE_S, BATCH_MAX_S, NOMINATED_S, Claim
from stoker.policy.requirements import of_labels
from stoker.policy.stock import whole
from stoker.policy.taints import Toleration
from stoker.simulate.capacity import Capacity
from stoker.simulate.kernel import Rank
from stoker.simulate.machines import Machines
from stoker.simulate.scenario import Pool
from stoker.simulate.world import World

_RETRY_S = 10.0
"""After how long pods that found no place trigger the provisioner again."""
_MINUTE_S = 60.0
_AT_ONCE_S = 0.1
"""Between a pass that acted and the next: "at once", and yet later."""


@dataclass(eq=False)
class _Running:
    """A command that is being carried out: `waits_for` are the nodes that have to be ready first."""

    command: disruption.Command
    waits_for: set[str] = field(default_factory=set)


class Karpenter:
    def __init__(self, world: World, machines: Machines, capacity: Capacity) -> None:
        self.world = world
        self.machines = machines
        self.capacity = capacity
        self.pools: Mapping[str, Pool] = {pool.view.name: pool for pool in world.scenario.pools}
        self.views: Mapping[str, NodePoolView] = {name: pool.view for name, pool in self.pools.items()}
        self.settings: Mapping[str, Disruption] = {name: pool.disruption for name, pool in self.pools.items()}
        self.full_market: Market = world.market
        self._refused: dict[tuple[str, str, str], float] = {}
        """Until when an offering is not asked for again."""
        self._window_began: float | None = None
        self._deadline = 0.0
        self._in_window: set[str] = set()
        self._tried: tuple[int, frozenset[str]] | None = None
        self._onto: frozenset[str] = frozenset()
        self._running: list[_Running] = []
        self._quiet_version = -1
        self._quiet_until = world.now
        self.refusals: dict[str, tuple[float, str]] = {}
        """By node: when it was last looked at, and why it was left."""

    def begin(self) -> None:
        """Static pools get their nodes; the passes begin."""
        self.keep_static()
        if self.pools:
            self.world.kernel.after(disruption.PASS_S, Rank.NODES, self._pass)
        if self.world.options.drift_at is not None:
            self.world.kernel.at(max(self.world.options.drift_at, self.world.now), Rank.WORLD, self._drift)

    # -- provisioning --

    def trigger(self, pods: list[Pod]) -> None:
        """Pods that kube-scheduler found no node for. The window closes BATCH_IDLE_S after the last new one."""
        new = {pod.name for pod in pods} - self._in_window
        if not new or not self.pools:
            return
        world = self.world
        self._in_window |= new
        if self._window_began is None:
            self._window_began = world.now
            self._deadline = world.now + BATCH_IDLE_S
            world.kernel.at(self._deadline, Rank.NODES, self._close)
        else:
            self._deadline = min(self._window_began + BATCH_MAX_S, world.now + BATCH_IDLE_S)

    def _close(self) -> None:
        world = self.world
        if world.now < self._deadline:
            world.kernel.at(self._deadline, Rank.NODES, self._close)
            return
        self._window_began = None
        self._in_window.clear()
        self._provision()

    def _provision(self) -> None:
        world = self.world
        pods = world.helpless()
        pods += [
            pod for node in world.nodes.values() if node.leaving_since is not None for pod in self._coming_off(node)
        ]
        if not pods:
            return
        key = world.version, frozenset(pod.name for pod in pods)
        if self._tried == key:  # nothing has changed since
            self._nominate()
            world.kernel.after(_RETRY_S, Rank.NODES, lambda: self._again(pods))
            return
        found = provisioning.plan(
            pods,
            list(world.nodes.values()),
            list(self.views.values()),
            world.market,
            daemons=world.scenario.daemons,
        )
        self._onto = frozenset(found.onto.values())
        self._nominate()
        launched = [self._launch(claim, _for(claim.pods)) for claim in found.claims]
        for name in sorted(found.unplaced):
            world.journal.say_once(world.now, "provision", name, f"no node for it: {found.unplaced[name]}")
        # What was refused is another market: the same pods may find something else in it, such as on demand for spot.
        self._tried = None if None in launched else (world.version, key[1])
        if found.unplaced:
            again = [world.pods[name] for name in found.unplaced if name in world.pods]
            world.kernel.after(_RETRY_S, Rank.NODES, lambda: self._again(again))

    def _nominate(self) -> None:
        """Nodes that pods are expected on are not taken away."""
        for name in self._onto:
            if name in self.world.nodes:
                node = self.world.nodes[name]
                node.nominated_until = max(node.nominated_until, self.world.now + NOMINATED_S)

    def _again(self, pods: list[Pod]) -> None:
        """Pods that still wait, or still have to leave where they are."""
        there = [pod for pod in pods if pod.name in self.world.pods and pod.leaving_since is None]
        self.trigger([pod for pod in there if pod.node is None or self.world.nodes[pod.node].leaving_since is not None])

    def node_leaving(self, node: Node) -> None:
        """Its pods need another place: the provisioner counts them, again and again until they have left."""
        staying = self._coming_off(node)
        if node.name in self.world.nodes and staying:
            self.trigger(staying)
            self.world.kernel.after(_RETRY_S, Rank.NODES, lambda: self.node_leaving(node))

    def _coming_off(self, node: Node) -> list[Pod]:
        """Its pods that have to go and may: for those that nothing evicts no room is made."""
        budgets = self.world.scenario.budgets
        here = (pod for pod in node.pods.values() if pod.leaving_since is None)
        return [pod for pod in here if not candidates.is_kept(pod.shape, budgets)]

    def _launch(self, claim: Claim, why: str) -> Node | None:
        world = self.world
        over = self._over_limits(claim.pool)
        if over:
            world.journal.say_once(world.now, "provision", claim.pool.name, f"nothing is launched: {over}")
            self._later(claim)
            return None
        asked = launching.request(claim, world.market)
        if asked is None:
            text = f"{claim.pool.name}: nothing of {', '.join(each.name for each in claim.types[:5])} is to be had now"
            world.journal.say_once(world.now, "no capacity", claim.pool.name, text)
            self._later(claim)
            return None
        offering = launching.fleet(asked, self.capacity.at(world.now, asked.offerings), world.chance("fleet"))
        if offering is None:
            self._refuse(asked.offerings, claim)
            self._later(claim)
            return None
        considered = [
            {"type": each.type.name, "zone": each.zone, "usd_per_hour": each.usd_per_hour}
            for each in asked.offerings[:10]
        ]
        text = (
            f"{len(claim.pods)} pods, {len(claim.types)} types fit; of {len(asked.offerings)} {asked.capacity} "
            f"offerings {offering.type.name} in {offering.zone} at {offering.usd_per_hour:.4f} USD/h"
        )
        dropped = dict(asked.dropped[:20])
        world.journal.say(world.now, "provision", claim.pool.name, text, considered=considered, dropped=dropped)
        node = self.machines.launch(claim.pool, offering, why, claim.requirements)
        self._expire(node)
        return node

    def _over_limits(self, pool: NodePoolView) -> str:
        """What the nodes of the pool have more of than they may, as after a replacement was launched that the limits
        have room for only once what it replaces is gone; then nothing more is launched.
        (karpenter pkg/controllers/provisioning/provisioner.go, Create)"""
        for key, limit in pool.limits.items():
            there = sum(whole(node.type).get(key, 0) for node in self.world.nodes_of(pool.name))
            if there > limit:
                return f"its nodes have {there} of {key}, and may have {limit}"
        return ""

    def node_noticed(self, node: Node) -> None:
        """Where a spot node is being taken there is thought to be no more for a while.
        (karpenter-provider-aws pkg/controllers/interruption, handleNodeClaim)"""
        self._leave_alone([(node.type.name, node.zone, node.capacity)])

    def _leave_alone(self, keys: Iterable[tuple[str, str, str]]) -> None:
        world = self.world
        self._refused |= dict.fromkeys(keys, world.now + launching.UNAVAILABLE_S)
        self._remarket()
        world.kernel.after(launching.UNAVAILABLE_S, Rank.WORLD, self._remarket)

    def _refuse(self, offerings: tuple[Offering, ...], claim: Claim) -> None:
        world = self.world
        self._leave_alone((each.type.name, each.zone, each.capacity) for each in offerings)
        kinds = sorted({each.type.name for each in offerings})
        text = f"{claim.pool.name}: EC2 has no {offerings[0].capacity} capacity for {', '.join(kinds[:5])}"
        world.journal.say(world.now, "no capacity", claim.pool.name, text, types=kinds)

    def _later(self, claim: Claim) -> None:
        waiting = [pod for pod in claim.pods if pod.node is None]
        self.world.kernel.after(_RETRY_S, Rank.NODES, lambda: self._again(waiting))
        self._tried = None

    def reprice(self, market: Market) -> None:
        """Prices have changed."""
        self.full_market = market
        self._remarket()

    def _remarket(self) -> None:
        """The market as Karpenter knows it: without what was refused in the last minutes."""
        now = self.world.now
        self._refused = {key: until for key, until in self._refused.items() if until > now}
        market = dict(self.full_market)
        for name in {key[0] for key in self._refused} & set(self.full_market):
            market[name] = tuple(
                replace(each, is_available=(name, each.zone, each.capacity) not in self._refused)
                for each in self.full_market[name]
            )
        self.world.market = market
        self.world.version += 1

    def keep_static(self) -> None:
        """Static pools get the nodes that they lack; where there is no capacity, once more later."""
        for name, pool in self.pools.items():
            there = sum(node.leaving_since is None for node in self.world.nodes_of(name))
            for _ in range((pool.view.replicas or 0) - there):
                if not self._launch_static(name):
                    self.world.kernel.after(_RETRY_S, Rank.NODES, self.keep_static)
                    break

    def _launch_static(self, pool: str) -> bool:
        """One node of a pool that has a number of them whatever pods there are: as for a pod that asks for nothing."""
        view = self.views[pool]
        any_of_it = PodView(pool, (of_labels({NODE_POOL: pool}),), (Toleration(operator="Exists"),))
        nobody = Pod(f"{pool} itself", PodShape(any_of_it), self.world.now)
        found = provisioning.plan([nobody], [], [replace(view, replicas=None)], self.world.market).claims
        why = f"NodePool {pool} is to have {view.replicas} nodes"
        return any(self._launch(replace(claim, pods=()), why) is not None for claim in found)

    # -- disruption --

    def _expire(self, node: Node) -> None:
        after_s = self.settings[node.pool].expire_after_s
        if after_s is not None:
            grace_s = self.settings[node.pool].termination_grace_s

            def expired() -> None:
                ends_by = None if grace_s is None else self.world.now + grace_s
                self.machines.remove(node, f"expired after {after_s / 3600:g} h", ends_by)

            self.world.kernel.after(after_s, Rank.NODES, expired)

    def _drift(self) -> None:
        for node in self.world.nodes.values():
            node.is_drifted = True
        self.world.version += 1

    def _pass(self) -> None:
        """One look; the next follows after PASS_S, or at once where this one acted: where a command has to be validated
        Karpenter waits for that, and looks at nothing else meanwhile.

        A look that came to nothing is not repeated until something can make a difference, as Karpenter does not. Where
        a budget's schedule stood in the way Karpenter looks again at every pass; the answer can only differ when the
        minute does, so here that is when.
        """
        world = self.world
        next_s = disruption.PASS_S
        if world.version != self._quiet_version or world.now >= self._quiet_until:
            found = disruption.look(self._view())
            for name in sorted(found.refused):
                if name in world.nodes:
                    self.refusals[name] = (world.now, found.refused[name])
            if found.command is not None:
                if self._take(found.command):
                    next_s = _AT_ONCE_S + (disruption.VALIDATION_S if found.command.needs_validation else 0.0)
            else:
                self._rest(found)
        world.kernel.after(next_s, Rank.NODES, self._pass)

    def _rest(self, found: disruption.Pass) -> None:
        """Nothing was found: not before something changes."""
        now = self.world.now
        moments = [now + disruption.MEMO_S]
        if found.next_change_at is not None:
            moments.append(found.next_change_at)
        if found.is_blocked_by_budget:
            moments.append(now + _MINUTE_S - now % _MINUTE_S)
        self._quiet_version, self._quiet_until = self.world.version, min(moments)

    def _view(self) -> disruption.View:
        world = self.world
        return disruption.View(
            now=world.now,
            clock_utc=world.clock_utc,
            nodes=list(world.nodes.values()),
            waiting=world.helpless(),
            pools=self.views,
            settings=self.settings,
            market=world.market,
            budgets=world.scenario.budgets,
            daemons=world.scenario.daemons,
            disrupting=frozenset(name for each in self._running for name in each.command.nodes),
            spot_to_spot=world.options.spot_to_spot,
        )

    def _take(self, command: disruption.Command) -> bool:
        """False where it was given up at once, since what it is replaced by could not be launched."""
        running = _Running(command)
        self._running.append(running)
        world = self.world
        subject = ", ".join(command.nodes)
        world.journal.say(
            *(world.now, "disrupt", subject, f"{command.reason}: {command.why}"),
            reason=command.reason,
            saves_usd_per_hour=command.saves_usd_per_hour,
        )
        if command.needs_validation:
            world.kernel.after(disruption.VALIDATION_S, Rank.NODES, lambda: self._validate(running))
            return True
        return self._carry_out(running)

    def _validate(self, running: _Running) -> None:
        world, command = self.world, running.command
        self._running.remove(running)
        there = all(name in world.nodes for name in command.nodes)
        again = disruption.look(self._view(), only=frozenset(command.nodes)).command if there else None
        if again is None or not disruption.still_holds(command, again):
            said = f"dropped after {disruption.VALIDATION_S:.0f} s: no longer so"
            world.journal.say(world.now, "disrupt", ", ".join(command.nodes), said)
            return
        running = _Running(again)
        self._running.append(running)
        self._carry_out(running)

    def _carry_out(self, running: _Running) -> bool:
        world, command = self.world, running.command
        for name in command.nodes:
            world.nodes[name].leaving_since = world.now
        world.version += 1
        claims = () if command.replacement is None else (command.replacement, *command.others)
        for claim in claims:
            node = self._launch(claim, f"in place of {', '.join(command.nodes)}")
            if node is None:
                self._give_up(running, "the replacement is not to be had")
                return False
            running.waits_for.add(node.name)
        if not claims:
            self._finish(running)
        return True

    def node_ready(self, node: Node) -> None:
        for running in list(self._running):
            if node.name in running.waits_for:
                running.waits_for.remove(node.name)
                node.nominated_until = self.world.now + NOMINATED_S
                if not running.waits_for:
                    self._finish(running)

    def node_gone(self, name: str) -> None:
        for running in list(self._running):
            if name in running.waits_for:
                self._give_up(running, f"its replacement {name} is gone")

    def _finish(self, running: _Running) -> None:
        self._running.remove(running)
        for name in running.command.nodes:
            node = self.world.nodes.get(name)
            if node is not None:
                grace_s = self.settings[node.pool].termination_grace_s
                ends_by = None if grace_s is None else self.world.now + grace_s
                self.machines.remove(node, f"{running.command.reason.lower()}: {running.command.why}", ends_by)

    def _give_up(self, running: _Running, why: str) -> None:
        self._running.remove(running)
        for name in running.command.nodes:
            node = self.world.nodes.get(name)
            if node is not None and self.world.node_lives[name].leaving_at is None:
                node.leaving_since = None
        self.world.version += 1
        self.world.journal.say(self.world.now, "disrupt", ", ".join(running.command.nodes), f"given up: {why}")


def _for(pods: tuple[Pod, ...]) -> str:
    names = [pod.name for pod in pods[:3]]
    more = f" and {len(pods) - 3} more" if len(pods) > 3 else ""
    return f"for {', '.join(names)}{more}"
