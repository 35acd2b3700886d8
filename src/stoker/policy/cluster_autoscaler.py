"""The classic Cluster Autoscaler with node groups of one type each: what people compare Karpenter with.

One scan in its order: groups that failed, pods that wait and that nothing there or coming takes, one group that grows
for them; then nodes that are little used and whose pods fit elsewhere, of which those go that have been so for long
enough. Defaults of its flags, expander least-waste. (kubernetes/autoscaler: core/static_autoscaler.go.)
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from stoker.catalog.ec2 import InstanceType
from stoker.catalog.labels import CAPACITY_TYPE, HOSTNAME, ZONE, labels_of
from stoker.policy.cluster import CapacityType, DisruptionBudget, Node, Pod, PodShape
from stoker.policy.evictions import Rooms, is_held, rooms, selects
from stoker.policy.placement import NodePoolView, PodView, allocatable_of, capacity_of, daemon_overhead
from stoker.policy.pod_resources import CPU, GPUS, MEMORY
from stoker.policy.rehearsal import Rehearsal
from stoker.policy.requirements import Requirements

SCAN_S = 10.0
UNNEEDED_S = 600.0
AFTER_ADD_S = 600.0
THRESHOLD = 0.5
MAX_PROVISION_S = 900.0

NEW_POD_S = 2.0
NEW_GPU_POD_S = 30.0
"""While the oldest pod that waits (that has a GPU) is younger, more of them are waited for."""
EXPENDABLE_BELOW = -10
"""Pods of a lower priority are worth no node."""
BACKOFF_S = 300.0
MOST_BACKOFF_S = 1800.0
BACKOFF_RESET_S = 3 * 3600.0
RECHECK_S = 300.0
"""A node whose pods had no other place is not looked at again for so long."""
MOST_AT_ONCE = 10
MOST_DRAINED_AT_ONCE = 1


@dataclass(frozen=True, eq=False)
class Group:
    """`nodes` are those it has, coming ones among them (a Node whose `ready_at` is None)."""

    view: NodePoolView
    type: InstanceType
    zones: tuple[str, ...]
    minimum: int
    maximum: int
    usd_per_hour: float

    @property
    def name(self) -> str:
        return self.view.name


@dataclass(frozen=True, slots=True)
class State:
    """`unneeded_since`: by node. `failed_until`: groups that could not grow lately, and `backoff_s` how long their last
    back-off is. `unremovable_until`: nodes whose pods had no other place."""

    unneeded_since: Mapping[str, float] = field(default_factory=dict)
    last_add_at: float | None = None
    failed_until: Mapping[str, float] = field(default_factory=dict)
    backoff_s: Mapping[str, float] = field(default_factory=dict)
    unremovable_until: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Decision:
    """`grow`: group -> how many nodes more. `remove`: node names. `why`: lines, the subject first."""

    grow: Mapping[str, int] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    why: tuple[tuple[str, str], ...] = ()


def scan(
    state: State,
    waiting: Sequence[Pod],
    nodes: Sequence[Node],
    groups: Sequence[Group],
    now: float,
    *,
    daemons: Collection[PodView] = (),
    budgets: Sequence[DisruptionBudget] = (),
) -> tuple[State, Decision]:
    """One scan. A node that has not come in MAX_PROVISION_S is given up: it is in `remove`, and its group has failed.
    The caller says by `failed` which groups could not grow for another reason."""
    by_name = {group.name: group for group in sorted(groups, key=lambda each: each.name)}
    state, given_up = _give_up(state, nodes, by_name, now)
    there = [node for node in nodes if node.name not in given_up]
    held = {name: [node for node in there if node.pool == name] for name in by_name}
    view = _View(now, by_name, held, there, waiting, daemons, budgets)
    why = [(name, f"has not come in {MAX_PROVISION_S:g} s") for name in given_up]

    rehearsal = Rehearsal(node for node in there if node.leaving_since is None and not _is_overdue(node, now))
    helpless = rehearsal.place_all(_in_turn(waiting))
    is_too_early = bool(helpless) and _are_new(helpless, now)
    if helpless and not is_too_early:
        grow, lines = _grow(view, state, rehearsal, helpless)
        why += lines
        if grow:
            return replace(state, last_add_at=now), Decision(_with_minimum(view, state, grow), given_up, tuple(why))

    state, removable, lines = _unneeded(view, state, rehearsal)
    why += lines
    removed: tuple[str, ...] = ()
    if not is_too_early and not _is_in_cooldown(state, now):
        removed = _chosen(view, state, removable)
        why += [(name, f"not needed for {now - state.unneeded_since[name]:g} s") for name in removed]
    return state, Decision(_with_minimum(view, state, {}), (*given_up, *removed), tuple(why))


def node_of(group: Group, name: str, zone: str, now: float, daemons: Collection[PodView] = ()) -> Node:
    """A new node of a group, which has been asked for now."""
    capacity = _capacity(group)
    labels = {**labels_of(group.type, group.view.domain), **_only(group.view.requirements), **group.view.labels}
    return Node(
        name=name,
        pool=group.name,
        type=group.type,
        zone=zone,
        capacity=capacity,
        usd_per_hour=group.usd_per_hour,
        labels={**labels, ZONE: zone, CAPACITY_TYPE: capacity, HOSTNAME: name},
        taints=group.view.taints,
        allocatable=allocatable_of(group.type, group.view),
        created_at=now,
        daemons=daemon_overhead(group.view, daemons),
    )


def _only(requirements: Requirements) -> dict[str, str]:
    """Labels for which one value is allowed."""
    single = {key: each.values for key, each in requirements.items() if not each.complement and len(each.values) == 1}
    return {key: next(iter(values)) for key, values in single.items()}


def _capacity(group: Group) -> CapacityType:
    return "spot" if group.view.capacity_types == ("spot",) else "on-demand"


@dataclass(frozen=True, eq=False)
class _View:
    """What a scan looks at. `held`: by group, the nodes it has, coming and leaving ones among them."""

    now: float
    groups: Mapping[str, Group]
    held: Mapping[str, Sequence[Node]]
    nodes: Sequence[Node]
    waiting: Sequence[Pod]
    daemons: Collection[PodView]
    budgets: Sequence[DisruptionBudget]

    @cached_property
    def rooms(self) -> Rooms:
        return rooms([*self.waiting, *(pod for node in self.nodes for pod in node.pods.values())], self.budgets)

    def staying(self, group: str) -> int:
        return sum(node.leaving_since is None for node in self.held[group])


# -- groups that fail: clusterstate, utils/backoff/exponential_backoff.go --


def failed(state: State, group: str, now: float) -> State:
    """A group could not grow: it is left alone for 5 minutes, twice as long each time that it fails again after that,
    at most 30; after 3 hours without a failure it is 5 again. So it is, from now, when it fails while left alone."""
    last = state.backoff_s.get(group)
    until = state.failed_until.get(group)
    duration = BACKOFF_S
    if last is not None and until is not None and until < now <= until - last + BACKOFF_RESET_S:
        duration = min(2 * last, MOST_BACKOFF_S)
    return replace(
        state,
        failed_until={**state.failed_until, group: now + duration},
        backoff_s={**state.backoff_s, group: duration},
    )


def _give_up(
    state: State, nodes: Sequence[Node], groups: Mapping[str, Group], now: float
) -> tuple[State, tuple[str, ...]]:
    """Nodes that should have come by now; not below the minimum of their group. A group that nodes have come to since
    it failed has not failed any more."""
    late: list[str] = []
    for name, group in groups.items():
        own = [node for node in nodes if node.pool == name]
        if name in state.failed_until:
            state = _forgiven(state, name, own)
        overdue = sorted(node.name for node in own if _is_overdue(node, now))
        if overdue and state.failed_until.get(name, now) <= now:
            state = failed(state, name, now)
        staying = sum(node.leaving_since is None for node in own)
        late += overdue[: max(staying - group.minimum, 0)]
    return state, tuple(late)


def _forgiven(state: State, group: str, nodes: Iterable[Node]) -> State:
    failed_at = state.failed_until[group] - state.backoff_s.get(group, 0.0)
    if not any(node.ready_at is not None and node.created_at > failed_at for node in nodes):
        return state
    until = {key: at for key, at in state.failed_until.items() if key != group}
    return replace(state, failed_until=until, backoff_s={key: s for key, s in state.backoff_s.items() if key != group})


def _is_overdue(node: Node, now: float) -> bool:
    return node.ready_at is None and node.leaving_since is None and node.created_at + MAX_PROVISION_S < now


# -- more nodes: core/scaleup/orchestrator, estimator/binpacking_estimator.go, expander/waste --


def _in_turn(waiting: Iterable[Pod]) -> list[Pod]:
    """The most important first, then who waits longest; those that are worth no node are not there."""
    worth = (pod for pod in waiting if pod.shape.priority >= EXPENDABLE_BELOW)
    return sorted(worth, key=lambda pod: (-pod.shape.priority, pod.created_at, pod.name))


def _are_new(pods: Sequence[Pod], now: float) -> bool:
    with_gpu = [pod.created_at for pod in pods if any(pod.shape.requests.get(key, 0) for key in GPUS)]
    return min(pod.created_at for pod in pods) + NEW_POD_S > now or (
        bool(with_gpu) and min(with_gpu) + NEW_GPU_POD_S > now
    )


@dataclass(frozen=True, eq=False)
class _Option:
    group: Group
    count: int
    pods: Sequence[Pod]

    @property
    def waste(self) -> float:
        """What share of cpu and of memory of the new machines no pod of it would have, together."""
        whole = capacity_of(self.group.type)
        wasted = 0.0
        for key in (CPU, MEMORY):
            bought = whole[key] * self.count
            wasted += (bought - sum(pod.shape.requests.get(key, 0) for pod in self.pods)) / bought
        return wasted


def _grow(
    view: _View, state: State, rehearsal: Rehearsal, helpless: Sequence[Pod]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """One group by as many nodes as the pods need that fit it; the one that wastes least, then the cheapest, then by
    name. Where no group helps, why not, by pod."""
    options: list[_Option] = []
    against: dict[str, str | dict[int, str]] = {}
    for name, group in view.groups.items():
        left = group.maximum - len(view.held[name])
        if state.failed_until.get(name, view.now) > view.now:
            against[name] = f"failed, and is left alone for {state.failed_until[name] - view.now:g} s"
        elif left <= 0:
            against[name] = f"at its maximum of {group.maximum}"
        else:
            option, refused = _estimate(view, group, rehearsal, helpless, left)
            against[name] = refused
            if option.count:
                options.append(option)
    if not options:
        return {}, [(pod.name, _why_not(pod, against)) for pod in helpless]
    best = min(options, key=lambda each: (each.waste, each.count * each.group.usd_per_hour, each.group.name))
    n = len(best.pods)
    said = f"{best.count} more for {n} {'pod' if n == 1 else 'pods'}, {best.pods[0].name} first"
    return {best.group.name: best.count}, [(best.group.name, said)]


def _why_not(pod: Pod, against: Mapping[str, str | dict[int, str]]) -> str:
    found = []
    for name, reason in against.items():
        said = reason if isinstance(reason, str) else reason.get(id(pod.shape), "")
        found.append(f"{name}: {said}" if said else name)
    return f"no group helps: {'; '.join(found)}" if found else "no group helps: there is none"


def _estimate(
    view: _View, group: Group, rehearsal: Rehearsal, helpless: Sequence[Pod], most: int
) -> tuple[_Option, dict[int, str]]:
    """First fit decreasing over new nodes alone, at most `most` of them. Also why shapes do not fit an empty node."""
    template = _template(view, group)
    trial = rehearsal.fork()
    refused = _refused(trial, template, helpless)
    fitting = [pod for pod in helpless if id(pod.shape) not in refused]
    size = _size_on(template)
    placed: list[Pod] = []
    added: list[str] = []

    def is_new(node: Node) -> bool:
        return node.name in added

    for alike in _by_shape(sorted(fitting, key=lambda pod: -size(pod.shape))):
        for pod in alike:
            if trial.place(pod, is_new) is None:
                if len(added) >= most:
                    break
                name = f"{template.name}-{len(added):05}"
                trial.add(_fresh(template, name))
                if trial.against(pod.shape, trial[name]):
                    trial.remove(name)  # spread or affinity that another node of the group does not help
                    break
                added.append(name)
                trial.put(pod, name)
            placed.append(pod)
    return _Option(group, len(added), placed), refused


def _refused(trial: Rehearsal, template: Node, pods: Iterable[Pod]) -> dict[int, str]:
    """By shape: why an empty node of the group would not do."""
    trial.add(template)
    reasons = {id(pod.shape): ", ".join(trial.against(pod.shape, template)) for pod in pods}
    trial.remove(template.name)
    return {key: reason for key, reason in reasons.items() if reason}


def _by_shape(pods: Iterable[Pod]) -> list[list[Pod]]:
    """Pods of one template are packed one after the other. (core/scaleup/equivalence.)"""
    found: dict[int, list[Pod]] = {}
    for pod in pods:
        found.setdefault(id(pod.shape), []).append(pod)
    return list(found.values())


def _size_on(node: Node) -> Callable[[PodShape], float]:
    """Of cpu and of memory the part of a node that a pod takes, together. (decreasing_pod_orderer.go.)"""

    def size(shape: PodShape) -> float:
        parts = ((shape.requests.get(key, 0), node.allocatable.get(key, 0)) for key in (CPU, MEMORY))
        return sum(amount / whole for amount, whole in parts if whole)

    return size


def _template(view: _View, group: Group) -> Node:
    """What a new node of the group would be like: as one that it has; of a group without any, as its settings say, in
    its first zone. (processors/nodeinfosprovider/mixed_nodeinfos_processor.go.)"""
    name = f"{group.name}-new"
    ready = [node for node in view.held[group.name] if node.ready_at is not None and node.leaving_since is None]
    if ready:
        return _fresh(min(ready, key=lambda node: node.name), name)
    return node_of(group, name, min(group.zones, default=""), view.now, view.daemons)


def _fresh(node: Node, name: str) -> Node:
    return replace(node, name=name, labels={**node.labels, HOSTNAME: name}, pods={}, used={}, leaving_since=None)


def _with_minimum(view: _View, state: State, grow: Mapping[str, int]) -> dict[str, int]:
    """And what the Auto Scaling groups do by themselves: have their minimum. One that is being drained is not one of
    them any more, and still counts towards the maximum."""
    found = dict(grow)
    for name, group in view.groups.items():
        if state.failed_until.get(name, view.now) <= view.now:
            lacking = group.minimum - view.staying(name) - found.get(name, 0)
            lacking = min(lacking, group.maximum - len(view.held[name]) - found.get(name, 0))
            if lacking > 0:
                found[name] = found.get(name, 0) + lacking
    return found


# -- fewer nodes: core/scaledown/{eligibility,planner,unneeded,budgets} --


def utilization(node: Node) -> float:
    """The larger part of cpu and memory that pods and DaemonSets request; of a node with GPUs, of these alone.
    (simulator/utilization/info.go.)"""
    gpus = [key for key in GPUS if node.allocatable.get(key, 0)]
    return max((_part(node, key) for key in gpus or (CPU, MEMORY) if node.allocatable.get(key, 0)), default=0.0)


def _part(node: Node, key: str) -> float:
    return (node.used.get(key, 0) + node.daemons.get(key, 0)) / node.allocatable[key]


def _unneeded(view: _View, state: State, rehearsal: Rehearsal) -> tuple[State, list[str], list[tuple[str, str]]]:
    """Which nodes could all go together: little used, with pods that may be evicted and fit elsewhere. Empty ones are
    tried first, then those that were not needed before. What was put onto nodes for pods that wait counts."""
    now = view.now
    recheck = {name: at for name, at in state.unremovable_until.items() if at > now}
    candidates = [
        node
        for node in rehearsal.nodes
        if node.ready_at is not None and node.pool in view.groups and node.name not in recheck
    ]
    candidates = [node for node in candidates if utilization(node) < THRESHOLD]
    candidates.sort(key=lambda node: (bool(node.pods), node.name not in state.unneeded_since, node.name))
    since: dict[str, float] = {}
    lines: list[tuple[str, str]] = []
    for node in candidates:
        reason = _keeps(view, rehearsal[node.name])
        without = None if reason else _without(rehearsal, rehearsal[node.name])
        if without is None:
            recheck[node.name] = now + RECHECK_S
            lines.append((node.name, reason or "little used, but its pods do not fit elsewhere"))
        else:
            rehearsal = without
            since[node.name] = state.unneeded_since.get(node.name, now)
    return replace(state, unneeded_since=since, unremovable_until=recheck), list(since), lines


def _keeps(view: _View, node: Node) -> str:
    """The first pod of the node that may not be evicted, in words; empty if all may. (simulator/drainability/rules.)"""
    for pod in node.pods.values():
        shape = pod.shape
        if pod.node != node.name or pod.leaving_since is not None:
            continue  # it is not there yet, or going anyway
        if shape.do_not_disrupt:
            return f"{pod.name} is not to be disrupted"
        if not shape.owner or shape.owner.startswith("Pod "):
            return f"nobody would make {pod.name} again"
        if shape.namespace == "kube-system" and not any(selects(each, shape) for each in view.budgets):
            return f"{pod.name} is of kube-system, without a disruption budget"
    return _over_budget(view, node) if view.budgets and node.pods else ""


def _over_budget(view: _View, node: Node) -> str:
    """The pods of the node must be able to go together. (scaledown/pdb/basic.go.)"""
    own = [pod for pod in node.pods.values() if pod.node == node.name and pod.leaving_since is None]
    for pod in own:
        if is_held(pod, view.rooms):
            return f"a disruption budget holds {pod.name}"
    for budget, now in view.rooms:
        held = sum(pod.ready_at is not None and selects(budget, pod.shape) for pod in own)
        if held > now.allowed:
            return f"disruption budget {budget.name} does not allow {held} of its pods to go"
    return ""


def _without(rehearsal: Rehearsal, node: Node) -> Rehearsal | None:
    """The cluster without the node, its pods on others that are ready; None where they do not all fit."""
    trial = rehearsal.fork()
    trial.remove(node.name)
    pods = sorted(node.pods.values(), key=lambda pod: (-pod.shape.priority, pod.name))
    if trial.place_all(pods, lambda each: each.ready_at is not None):
        return None
    return trial


def _is_in_cooldown(state: State, now: float) -> bool:
    return state.last_add_at is not None and state.last_add_at + AFTER_ADD_S > now


def _chosen(view: _View, state: State, removable: Sequence[str]) -> tuple[str, ...]:
    """Of the nodes that are not needed those that have not been for long enough, the longest first; empty ones up to
    ten at once, and one to be drained at a time, with those that are going already. None below its group's minimum."""
    by_name = {node.name: node for node in view.nodes}
    due = [name for name in removable if view.now - state.unneeded_since[name] >= UNNEEDED_S]
    due.sort(key=lambda name: (bool(by_name[name].pods), state.unneeded_since[name], name))
    going = [node for held in view.held.values() for node in held if node.leaving_since is not None]
    at_once = MOST_AT_ONCE - len(going)
    drained = MOST_DRAINED_AT_ONCE - sum(bool(node.pods) for node in going)
    sizes = {name: view.staying(name) for name in view.groups}
    chosen: list[str] = []
    for name in due:
        node = by_name[name]
        group = view.groups[node.pool]
        if at_once <= 0 or (node.pods and drained <= 0) or sizes[group.name] <= group.minimum:
            continue
        chosen.append(name)
        sizes[group.name] -= 1
        at_once -= 1
        drained -= bool(node.pods)
    return tuple(chosen)
