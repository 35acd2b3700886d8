"""ReplicaSets and pods over time: made, bound, pulling, loading, ready, told to leave, gone.

What a scaler or a drain wants comes in through `scale` and `leave`; replicas that serve are handed to the data plane.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count

from stoker.base.errors import InvalidInput
from stoker.catalog.labels import ZONE
from stoker.policy import scheduling
from stoker.policy.cluster import Node, Pod, PodShape
from stoker.policy.requirements import both, of_labels
from stoker.policy.volumes import Volume
from stoker.simulate import engines, gpu_sharing, latencies
from stoker.simulate.kernel import Rank
from stoker.simulate.result import ReplicaLife
from stoker.simulate.scenario import NodeGroup, Pool, Scenario, Serving, Sharing, Workload
from stoker.simulate.serving import Plane
from stoker.simulate.world import World

_POLL_S = 1.0
"""How often a draining pod looks whether its requests are done: the loop of our preStop hook."""
_QUICK_END_S = 1.0
"""Of a process that has nothing to finish, after SIGTERM."""


@dataclass(eq=False)
class Replica:
    """One unit of scaling: one pod, or the leader and workers of a group, which come and go together."""

    workload: Workload
    pods: list[Pod] = field(default_factory=list)
    slot: int | None = None
    """In the data plane, once it is ready."""
    is_leaving: bool = False
    ordinal: int = 0
    """Of a StatefulSet's."""


class Replicas:
    def __init__(self, world: World, planes: dict[str, Plane], priors: latencies.Priors) -> None:
        self.world = world
        self.planes = planes
        self.priors = priors
        self.wanted: dict[str, int] = {}
        """By workload: `spec.replicas`."""
        self.of: defaultdict[str, list[Replica]] = defaultdict(list)
        self.slots: list[tuple[str, int, str]] = []
        """(model, slot, name of the pod) of each replica that ever was ready."""
        self.drained: set[tuple[str, int]] = set()
        """(model, slot) that have finished all they had, told by `run`."""
        self.when_changed: Callable[[], None] = lambda: None
        self.when_gone: Callable[[str | None], None] = lambda node: None
        self._by_pod: dict[str, Replica] = {}
        self._pulling: defaultdict[str, dict[str, float]] = defaultdict(dict)
        """By node: until when an image is being pulled."""
        self._volumes = volumes_of(world.scenario)
        self._sharing = sharing_of(world.scenario)
        self._zones: dict[tuple[str, int], str] = {}
        """By workload and number: where its volumes are."""
        self._bound_shapes: dict[tuple[str, str], PodShape] = {}
        self._rates: dict[tuple[str, str, str], engines.Rates | None] = {}

    # -- how many --

    def counts(self, workload: Workload) -> tuple[int, int, int]:
        """`spec.replicas`, `status.replicas` (those on their way out are not among them), ready."""
        there = [each for each in self.of[workload.name] if not each.is_leaving]
        ready = sum(all(pod.ready_at is not None for pod in each.pods) for each in there)
        return self.wanted[workload.name], len(there), ready

    def scale(self, workload: Workload, to: int, why: str) -> None:
        self.wanted[workload.name] = to
        self._reconcile(workload, why)

    def _reconcile(self, workload: Workload, why: str) -> None:
        there = [each for each in self.of[workload.name] if not each.is_leaving]
        wanted = self.wanted.get(workload.name, 0)
        for _ in range(self._missing(workload, wanted, len(there))):
            self._make(workload, why)
        if len(there) > wanted:
            for replica in self._first_to_leave(workload, there, len(there) - wanted):
                for each in list(replica.pods):
                    self._stop(each, why)
        self.when_changed()

    def _missing(self, workload: Workload, wanted: int, there: int) -> int:
        """How many are to be made now."""
        if not workload.has_identity:
            return wanted - there
        every = self.of[workload.name]  # those on their way out still have their numbers
        missing = wanted - len(every)
        if workload.in_order and any(pod.ready_at is None or each.is_leaving for each in every for pod in each.pods):
            return 0
        return min(missing, 1) if workload.in_order else missing

    def _first_to_leave(self, workload: Workload, there: list[Replica], many: int) -> list[Replica]:
        if workload.has_identity:
            return sorted(there, key=lambda each: -each.ordinal)[:many]
        leaders = {each.pods[0].name: each for each in there}
        pods = [each.pods[0] for each in there]
        going = scheduling.first_to_leave(pods, self.world.nodes, self.world.now, many)
        return [leaders[pod.name] for pod in going]

    def _shape(self, workload: Workload, ordinal: int) -> PodShape:
        """Where its volumes are already it can only be there."""
        zone = self._zones.get((workload.name, ordinal)) if workload.keeps_zone else None
        if zone is None:
            return workload.shape
        if (workload.name, zone) not in self._bound_shapes:
            view, here = workload.shape.view, of_labels({ZONE: zone})
            bound = replace(view, requirements=tuple(both(each, here) for each in view.requirements))
            self._bound_shapes[workload.name, zone] = replace(workload.shape, view=bound)
        return self._bound_shapes[workload.name, zone]

    def _make(self, workload: Workload, why: str) -> None:
        world = self.world
        taken = {each.ordinal for each in self.of[workload.name]} if workload.has_identity else set()
        replica = Replica(workload, ordinal=next(n for n in count() if n not in taken))
        shape = self._shape(workload, replica.ordinal)
        stem = workload.shape.view.name.split(" ")[1].rpartition("/")[
            2
        ]  # of `Deployment ai/general`, or `Deployment x`
        name = world.name(stem)
        for i in range(workload.pods_per_replica):
            pod = Pod(name if i == 0 else f"{name}-{i}", shape, world.now)
            model = workload.serving.model if workload.serving is not None else ""
            gpus = sum(n for key, n in pod.shape.requests.items() if key.endswith("/gpu"))
            life = ReplicaLife(pod.name, workload.name, model, world.now, gpus=gpus, stands_for_all=i == 0)
            world.add_pod(pod, life)
            replica.pods.append(pod)
            self._by_pod[pod.name] = replica
            world.journal.say(world.now, "pod", pod.name, f"made for {workload.name}: {why}")
        self.of[workload.name].append(replica)

    # -- coming up --

    def begin(self, pod: Pod) -> None:
        """It was bound to a node: pull, load, start."""
        world = self.world
        node = world.nodes[pod.node or ""]
        replica = self._by_pod[pod.name]
        load = replica.workload.load
        self._zones.setdefault((replica.workload.name, replica.ordinal), node.zone)
        volume = self._volumes.get(node.pool, Volume())
        coming = {name: at for name, at in self._pulling[node.name].items() if at > world.now}
        there = frozenset({*world.images[node.name], *coming})
        times = latencies.pod_times(load, node.type, volume, there, world.chance("pods"), self.priors)
        life = world.pod_lives[pod.name]
        # An image that another pod of the node is pulling is not pulled twice: this one waits for it.
        pulled_at = max([world.now + times.pull_s, *(coming[each.name] for each in load.images if each.name in coming)])
        self._pulling[node.name] |= {each.name: pulled_at for each in load.images if each.name not in there}

        def pulled() -> None:
            if node.name in world.nodes:
                world.images[node.name].update(each.name for each in load.images)
            if pod.name in world.pods:
                life.pulled_at = world.now
                world.kernel.after(times.load_s, Rank.WORLD, loaded)

        def loaded() -> None:
            if pod.name in world.pods:
                life.loaded_at = world.now
                running_s = times.load_s + times.start_s
                seen_s = max(1, math.ceil(running_s / load.probe_period_s)) * load.probe_period_s
                world.kernel.after(seen_s - times.load_s, Rank.WORLD, lambda: self._ready(pod))

        world.kernel.at(pulled_at, Rank.WORLD, pulled)

    def _ready(self, pod: Pod) -> None:
        world = self.world
        if pod.name not in world.pods or pod.leaving_since is not None:
            return
        replica = self._by_pod[pod.name]
        serving = replica.workload.serving
        if serving is not None and not self._can_serve(replica.workload, serving, pod):
            return
        pod.ready_at = world.pod_lives[pod.name].ready_at = world.now
        world.version += 1
        after_s = world.now - pod.created_at
        world.journal.say(world.now, "pod", pod.name, f"ready, {after_s:.0f} s after it was made", after_s=after_s)
        if serving is not None and all(each.ready_at is not None for each in replica.pods):
            world.pod_lives[replica.pods[0].name].ready_at = world.now
            self._begin_serving(replica, serving)
        if replica.workload.in_order:
            self._reconcile(replica.workload, "the one before it is ready")
        self.when_changed()

    def _begin_serving(self, replica: Replica, serving: Serving) -> None:
        node = self._node_of(replica.pods[0])
        rates = self._rates[replica.workload.name, node.pool, node.type.name]
        if rates is not None:
            replica.slot = self.planes[serving.model].add(rates, serving.concurrency, self.world.now)
            self.slots.append((serving.model, replica.slot, replica.pods[0].name))

    def _can_serve(self, workload: Workload, serving: Serving, pod: Pod) -> bool:
        """An engine whose weights do not fit ends as it starts, again and again."""
        node = self._node_of(pod)
        instance = node.type
        key = workload.name, node.pool, instance.name
        if key not in self._rates:
            try:
                sharing = self._sharing.get(node.pool)
                share = gpu_sharing.share_on(pod.shape.requests, sharing, instance, node.allocatable)
                self._rates[key] = engines.rates(serving, instance, share=share)
            except InvalidInput as error:
                self._rates[key] = None
                said = {"type": instance.name, **({"hint": error.hint} if error.hint else {})}
                self.world.journal.say(self.world.now, "broken", workload.name, error.message, **said)
        return self._rates[key] is not None

    def _node_of(self, pod: Pod) -> Node:
        return self.world.nodes[pod.node or ""]

    # -- going --

    def leave(self, pod: Pod, why: str, by: float | None = None) -> None:
        """It is evicted: told to stop, and another is made in its place. `by`: it is gone then, whatever its grace."""
        replica = self._by_pod[pod.name]
        if not replica.is_leaving:
            for each in list(replica.pods):
                self._stop(each, why, by)
            self._reconcile(replica.workload, f"in place of {pod.name}")

    def _stop(self, pod: Pod, why: str, by: float | None = None) -> None:
        world = self.world
        if pod.leaving_since is not None:
            return
        replica = self._by_pod[pod.name]
        replica.is_leaving = True
        world.begin_leaving(pod)
        world.journal.say(world.now, "pod", pod.name, f"told to leave: {why}")
        if pod.node is None:
            self._gone(pod, why)
            return
        load = replica.workload.load
        ends_at = world.now + pod.shape.grace_s if by is None else min(by, world.now + pod.shape.grace_s)
        served = _served(replica, pod)
        if served is None:
            self._gone_at(pod, min(ends_at, world.now + _QUICK_END_S), why)
            return
        model, slot = served
        self.planes[model].drain(slot, world.now)
        if load.drains:
            self._gone_at(pod, ends_at, why)
            world.kernel.at(min(ends_at, world.now + max(load.prestop_s, _POLL_S)), Rank.WORLD, self._poll(pod, why))
        else:
            self._gone_at(pod, min(ends_at, world.now + load.prestop_s + _QUICK_END_S), why)

    def _poll(self, pod: Pod, why: str) -> Callable[[], None]:
        def look() -> None:
            if pod.name not in self.world.pods:
                return
            if _served(self._by_pod[pod.name], pod) in self.drained:
                self._gone(pod, why)
            else:
                self.world.kernel.after(_POLL_S, Rank.WORLD, look)

        return look

    def _gone_at(self, pod: Pod, when: float, why: str) -> None:
        self.world.kernel.at(when, Rank.WORLD, lambda: self._gone(pod, why))

    def kill(self, pod: Pod, why: str) -> None:
        """Its node is gone: now, and whatever it had with it."""
        if pod.name in self.world.pods:
            replica = self._by_pod[pod.name]
            first = not replica.is_leaving
            replica.is_leaving = True
            self._gone(pod, why)
            if first:
                for each in replica.pods:  # a group ends as a whole
                    if each.name in self.world.pods:
                        self._stop(each, why)
                self._reconcile(replica.workload, f"in place of {pod.name}")

    def _gone(self, pod: Pod, why: str) -> None:
        world = self.world
        if pod.name not in world.pods:
            return
        replica = self._by_pod[pod.name]
        served = _served(replica, pod)
        if served is not None:
            cut = self.planes[served[0]].kill(served[1], world.now)
            if cut:
                text = f"{cut} requests were cut off: {why}"
                world.journal.say(world.now, "lost", pod.name, text, requests=cut)
        node = pod.node
        world.remove_pod(pod, why)
        world.journal.say(world.now, "pod", pod.name, "gone")
        if all(each.name not in world.pods for each in replica.pods):
            self.of[replica.workload.name].remove(replica)
            if replica.workload.has_identity:
                self._reconcile(replica.workload, f"in place of {pod.name}")
        self.when_gone(node)
        self.when_changed()


def _served(replica: Replica, pod: Pod) -> tuple[str, int] | None:
    """Model and slot, of the pod that the data plane knows a replica by."""
    serving = replica.workload.serving
    if replica.slot is None or serving is None or pod is not replica.pods[0]:
        return None
    return serving.model, replica.slot


def volumes_of(scenario: Scenario) -> dict[str, Volume]:
    """By pool or node group."""
    found = {pool.view.name: pool.volume for pool in scenario.pools}
    return found | {group.view.name: group.volume for group in scenario.groups}


def sharing_of(scenario: Scenario) -> dict[str, Sharing]:
    """By pool or node group, where pods share GPUs."""
    places: list[Pool | NodeGroup] = [*scenario.pools, *scenario.groups]
    return {each.view.name: each.sharing for each in places if each.sharing is not None}
