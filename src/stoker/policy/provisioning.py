"""Karpenter's provisioner: which pods that wait go onto which nodes, and what nodes to launch for the rest.

The scheduling simulation, in its order: pods by size, existing and coming nodes (first fit), claims of this round, a
new claim from the pools by weight; preferences are relaxed one by one. Also what consolidation asks: "and without these
nodes?". Source: kubernetes-sigs/karpenter, pkg/controllers/provisioning/scheduling/{scheduler,queue,nodeclaim}.go.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stoker.catalog.ec2 import InstanceType
from stoker.catalog.labels import HOSTNAME, OF_TYPES, OS
from stoker.policy.cluster import Market, Node, Pod
from stoker.policy.domains import Topology, labels_of_node
from stoker.policy.placement import NodePoolView, PodView, label_blockers, mislabelled, too_few_values
from stoker.policy.pod_resources import CPU, MEMORY, PODS, STORAGE, Amounts, added
from stoker.policy.preferences import Wish, wishes
from stoker.policy.requirements import Requirement, Requirements, both
from stoker.policy.stock import Opening, Stock, Types, needs, overhead, rooms, roomy, stands, stock, whole
from stoker.policy.unplaced import Obstacle, why

BATCH_IDLE_S = 1.0
BATCH_MAX_S = 10.0
NOMINATED_S = 20.0
MOST_OPTIONS = 600
"""Types that a claim names at most, the cheapest of those that would do."""


@dataclass(frozen=True, eq=False)
class Claim:
    """A node to launch: of any of `types` (the cheapest first), in what `requirements` leave of zones and capacity
    types, for these pods."""

    pool: NodePoolView
    pods: tuple[Pod, ...]
    types: tuple[InstanceType, ...]
    requirements: Requirements
    requests: Amounts
    """Of its pods, without DaemonSets."""


@dataclass(frozen=True, eq=False)
class Plan:
    """`onto`: pod name -> name of an existing or coming node. `unplaced`: pod name -> why, a line per pool."""

    onto: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    unplaced: Mapping[str, str] = field(default_factory=dict)


def plan(
    pods: Sequence[Pod],
    nodes: Sequence[Node],
    pools: Sequence[NodePoolView],
    market: Market,
    *,
    daemons: Collection[PodView] = (),
    may_launch: bool = True,
) -> Plan:
    """One round. `nodes` are all that are there or coming; those that are leaving are no choice, and count towards
    their pool's limits. Pods of `nodes` that are not among `pods` stay where they are."""
    current = _Round(pods, nodes, pools if may_launch else (), stock(market), tuple(daemons))
    waiting = deque(sorted(pods, key=_by_size))
    waited_among: dict[str, int] = {}
    # A pod that found no place is tried again as long as others do: it may need them, or a spread that they change.
    while waiting and waited_among.get(waiting[0].name) != len(waiting):
        pod = waiting.popleft()
        if not current.place(pod):
            waiting.append(pod)
            waited_among[pod.name] = len(waiting)
    return Plan(
        onto=current.onto,
        claims=tuple(each.closed(current.stock) for each in sorted(current.claims, key=lambda each: each.host)),
        unplaced=current.reasons(waiting, may_launch=may_launch),
    )


def by_weight(pools: Sequence[NodePoolView]) -> list[NodePoolView]:
    """The order in which pools are asked: the heaviest first, then from the end of the alphabet (pkg/utils/nodepool).
    Static pools launch nothing for pods."""
    dynamic = [each for each in pools if each.replicas is None]
    return sorted(sorted(dynamic, key=lambda each: each.name, reverse=True), key=lambda each: -each.weight)


def has_preferred_taints(pools: Iterable[NodePoolView]) -> bool:
    return any(taint.effect == "PreferNoSchedule" for pool in pools for taint in pool.taints)


def suits(node: Node, wish: Wish) -> bool:
    """By taints and labels, which do not change. A label that the node does not have it will not get."""
    found: bool | None = node.known.get(wish)
    if found is None:
        found = node.known[wish] = stands(wish.tolerations, node.taints) and all(
            each.allows(node.labels.get(key, node.name if key == HOSTNAME else None))
            for key, each in wish.requirements.items()
        )
    return found


def _by_size(pod: Pod) -> tuple[int, int, float, str]:
    """Processors and memory, the most first; GPUs play no part (queue.go)."""
    requests = pod.shape.requests
    return -requests.get(CPU, 0), -requests.get(MEMORY, 0), pod.created_at, pod.name


class _Existing:
    """A node that is there or coming, and what is left of it in this round."""

    def __init__(self, node: Node, moving: Collection[str]) -> None:
        self.node = node
        self._moving = moving
        self._free: dict[str, int] | None = None
        self._labels: Requirements | None = None

    @property
    def free(self) -> dict[str, int]:
        """Pods that are placed anew do not take anything of it."""
        if self._free is None:
            self._free = self.node.free
            for name, pod in self.node.pods.items():
                if name in self._moving:
                    _change(self._free, pod, 1)
        return self._free

    @property
    def labels(self) -> Requirements:
        if self._labels is None:
            self._labels = labels_of_node(self.node)
        return self._labels

    def holds(self, wish: Wish) -> bool:
        free = self.free
        asked = needs(wish.shape.view, None)
        if any(amount > free.get(key, 0) for key, amount in asked.items()):
            return False
        # What is known of local storage is in allocatable, or nothing is.
        return STORAGE not in free or wish.shape.requests.get(STORAGE, 0) <= free[STORAGE]

    def take(self, pod: Pod) -> None:
        _change(self.free, pod, -1)


class _Open:
    """A claim that pods are still added to. `types` all hold what it has to hold; they get fewer."""

    def __init__(self, pool: NodePoolView, host: str, opening: Opening, room: Mapping[InstanceType, Amounts]) -> None:
        self.pool = pool
        self.host = host
        self.requirements: Requirements = opening.requirements
        self.types: Types = opening.types
        self.room = room
        self.pods: list[Pod] = []
        self.wishes: set[Wish] = set()
        self.refused: set[Wish] = set()
        """Whose labels or size it can never have again: it only gets narrower."""
        self.looked_at: dict[Wish, tuple[Requirements, Types]] = {}
        """What it would be with one more of these, as long as nobody comes."""
        self.wanted: dict[str, int] = {}

    def labels(self, requirements: Requirements) -> dict[str, Requirement]:
        """For the count of domains: its host is its own."""
        return {**requirements, HOSTNAME: Requirement(HOSTNAME, frozenset({self.host}))}

    def closed(self, from_stock: Stock) -> Claim:
        ordered = from_stock.cheapest_first(self.types, self.requirements)
        requests = added(*(_requests(each) for each in self.pods))
        return Claim(self.pool, tuple(self.pods), ordered[:MOST_OPTIONS], self.requirements, requests)


class _Round:
    """The state of one round: what pods found, and what they leave for those that come after them."""

    def __init__(
        self,
        pods: Sequence[Pod],
        nodes: Sequence[Node],
        pools: Sequence[NodePoolView],
        from_stock: Stock,
        daemons: tuple[PodView, ...],
    ) -> None:
        self.stock = from_stock
        self.pools = by_weight(pools)
        self.claims: list[_Open] = []
        self.onto: dict[str, str] = {}
        self._daemons = daemons
        self._nodes = nodes
        moving = frozenset(each.name for each in pods)
        here = sorted(nodes, key=lambda each: (each.ready_at is None, each.name))
        self._existing = [_Existing(each, moving) for each in here if each.leaving_since is None]
        self._candidates: dict[Wish, list[_Existing]] = {}
        """The nodes that may still hold one more."""
        self._left: dict[NodePoolView, dict[str, int]] = {}
        self._shut: set[tuple[Wish, NodePoolView]] = set()
        """For whom a pool can open nothing more in this round."""
        gives_up_taints = has_preferred_taints(self.pools)
        self._wishes = {shape: wishes(shape, gives_up_taints) for shape in {each.shape: None for each in pods}}
        wished = (wish for many in self._wishes.values() for wish in many)
        self.topology = Topology(wished, nodes, moving, self.pools, from_stock.domains)

    def place(self, pod: Pod) -> bool:
        """Everything that the pod prefers counts at first; then one thing less, until a place is found."""
        return any(self._add(pod, wish) for wish in self._wishes[pod.shape])

    def reasons(self, pods: Collection[Pod], *, may_launch: bool) -> dict[str, str]:
        if not may_launch:
            return {pod.name: "no node that is there or coming has room for it" for pod in pods}
        found: dict[Wish, str] = {}
        for pod in pods:
            wish = self._wishes[pod.shape][-1]
            if wish not in found:
                obstacles = (self._obstacle(wish, pool) for pool in self.pools)
                found[wish] = why(wish.shape.view, obstacles)
        return {pod.name: found[self._wishes[pod.shape][-1]] for pod in pods}

    def _add(self, pod: Pod, wish: Wish) -> bool:
        if wish.is_impossible:
            return False
        return self._to_existing(pod, wish) or self._to_claim(pod, wish) or self._to_new(pod, wish)

    # -- nodes that are there or coming --

    def _to_existing(self, pod: Pod, wish: Wish) -> bool:
        """The first that fits; nothing is scored. One that is too full now is too full for the rest of the round."""
        candidates, kept = self._candidates.get(wish, self._existing), list[_Existing]()
        for place, each in enumerate(candidates):
            if suits(each.node, wish) and each.holds(wish):
                kept.append(each)
                if self._takes(pod, wish, each):
                    self._candidates[wish] = kept + candidates[place + 1 :]
                    return True
        self._candidates[wish] = kept
        return False

    def _takes(self, pod: Pod, wish: Wish, existing: _Existing) -> bool:
        """Puts the pod onto the node, if its constraints allow the node's domains."""
        if not self.topology.is_idle:
            labels = self.topology.narrowed(wish, existing.labels, is_there=True)
            if labels is None:
                return False
            self.topology.record(pod.shape, labels, existing.node.taints)
        existing.take(pod)
        self.onto[pod.name] = existing.node.name
        return True

    # -- claims of this round --

    def _to_claim(self, pod: Pod, wish: Wish) -> bool:
        """The one with the fewest pods first; those with as many stay in their order (upstream: in any)."""
        self.claims.sort(key=lambda each: len(each.pods))
        return any(self._joins(pod, wish, each) for each in self.claims)

    def _joins(self, pod: Pod, wish: Wish, claim: _Open) -> bool:
        if wish in claim.refused:
            return False
        if wish not in claim.looked_at:
            found = self._with(wish, claim)
            if found is None:
                claim.refused.add(wish)
                return False
            claim.looked_at[wish] = found
        return self._settle(pod, wish, claim, *claim.looked_at[wish])

    def _with(self, wish: Wish, claim: _Open) -> tuple[Requirements, Types] | None:
        """The labels and types of the claim with one more pod; None where labels, taints or size are against it."""
        merged: Requirements = claim.requirements
        if wish not in claim.wishes:
            unfit = label_blockers(wish.requirements, merged, claim.pool.domain)
            if unfit or not stands(wish.tolerations, claim.pool.taints):
                return None
            merged = both(merged, wish.requirements)
        wanted = added(claim.wanted, needs(wish.shape.view, claim.pool))
        left = roomy(self._narrowed(claim.types, claim.requirements, merged, claim.pool), claim.room, wanted)
        if not left or (claim.pool.min_values and too_few_values(claim.pool, left)):
            return None
        return merged, left

    # -- a new claim --

    def _to_new(self, pod: Pod, wish: Wish) -> bool:
        return any(self._opens(pod, wish, pool) for pool in self.pools)

    def _opens(self, pod: Pod, wish: Wish, pool: NodePoolView) -> bool:
        if (wish, pool) in self._shut:
            return False
        opening = self.stock.opening(wish, pool, self._daemons)
        types = self._within_limits(opening.types, pool) if opening is not None else ()
        if opening is None or not types or (pool.min_values and too_few_values(pool, types)):
            self._shut.add((wish, pool))
            return False
        room = rooms(pool, self.stock.types, self._daemons)
        claim = _Open(pool, f"claim {len(self.claims) + 1:04}", opening, room)
        if not self._settle(pod, wish, claim, opening.requirements, types):
            return False
        self.claims.append(claim)
        self._charge(pool, claim.types)
        return True

    def _settle(self, pod: Pod, wish: Wish, claim: _Open, requirements: Requirements, types: Types) -> bool:
        """Puts the pod onto the claim, in the domains that its constraints leave, if they do."""
        if self.topology.is_idle:
            narrowed = requirements
        else:
            zones = self.stock.zones(types, requirements)
            found = self.topology.narrowed(wish, claim.labels(requirements), zones=zones)
            if found is None:
                return False
            narrowed = {key: each for key, each in found.items() if key != HOSTNAME}
            types = self._narrowed(types, requirements, narrowed, claim.pool)
            if not types or (claim.pool.min_values and too_few_values(claim.pool, types)):
                return False
            self.topology.record(pod.shape, found, claim.pool.taints)
        claim.requirements, claim.types = narrowed, types
        claim.looked_at.clear()
        claim.pods.append(pod)
        claim.wishes.add(wish)
        claim.wanted = added(claim.wanted, needs(wish.shape.view, claim.pool))
        return True

    def _narrowed(self, types: Types, before: Requirements, now: Requirements, pool: NodePoolView) -> Types:
        """The types that what was added to the requirements leaves, and that are still for sale."""
        changed = {key: each for key, each in now.items() if before.get(key) != each}
        if not changed:
            return types
        if any(key == OS or key in OF_TYPES[pool.domain] for key in changed):
            types = tuple(each for each in types if not mislabelled(changed, each, pool))
        return self.stock.on_sale(types, now)

    # -- limits --

    def _remaining(self, pool: NodePoolView) -> dict[str, int]:
        """Of the pool's limits, what its nodes leave, those that are leaving among them."""
        if pool not in self._left:
            own = [whole(each.type) for each in self._nodes if each.pool == pool.name]
            self._left[pool] = {
                key: limit - sum(each.get(key, 0) for each in own) for key, limit in pool.limits.items()
            }
        return self._left[pool]

    def _within_limits(self, types: Types, pool: NodePoolView) -> Types:
        """A limit that is overrun already keeps every type out, also one that has none of it."""
        if not pool.limits:
            return types
        left = self._remaining(pool)
        return tuple(each for each in types if all(whole(each).get(key, 0) <= n for key, n in left.items()))

    def _charge(self, pool: NodePoolView, types: Types) -> None:
        """As if of each resource the most that any of the options has were launched: which one comes is not known."""
        left = self._remaining(pool) if pool.limits else {}
        for key in left:
            left[key] -= max(whole(each).get(key, 0) for each in types)

    # -- why not --

    def _obstacle(self, wish: Wish, pool: NodePoolView) -> Obstacle:
        opening = self.stock.opening(wish, pool, self._daemons)
        types = opening.types if opening is not None else ()
        within = self._within_limits(types, pool)
        return Obstacle(
            pool=pool,
            all_types=self.stock.types,
            overhead=overhead(pool, self._daemons),
            on_sale=types,
            within_limits=within,
            left=self._remaining(pool) if pool.limits else {},
        )


def _requests(pod: Pod) -> Amounts:
    return {**pod.shape.requests, PODS: 1}


def _change(free: dict[str, int], pod: Pod, sign: int) -> None:
    for key, amount in _requests(pod).items():
        if key in free:
            free[key] += sign * amount
