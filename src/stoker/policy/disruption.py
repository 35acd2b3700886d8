"""Which nodes Karpenter takes away by itself: empty, drifted, underused ones, within the budgets of their pools.

One pass in its order: emptiness, drift, several nodes at once, one node. What a command does (taint, launch, wait,
drain) is the caller's; so are expiry and interruption, which no budget holds back.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import zip_longest
from typing import Literal

from stoker.catalog.ec2 import InstanceType
from stoker.policy import cron, provisioning
from stoker.policy.candidates import (
    Candidate,
    Evictions,
    aged_cost,
    consolidatable_at,
    disruption_cost,
    is_kept,
    reschedulable,
)
from stoker.policy.cluster import Budget, CapacityType, Disruption, DisruptionBudget, Market, Node, Pod
from stoker.policy.placement import NodePoolView, PodView
from stoker.policy.prospects import Prospects
from stoker.policy.provisioning import Claim, Plan
from stoker.policy.replacing import Refusal, cheaper, cheapest_launch_price, price_of, without_same_types

PASS_S = 10.0
"""A pass that did nothing is followed by the next after this long; one that acted, at once."""
VALIDATION_S = 15.0
MEMO_S = 300.0
"""A pass that found nothing is not repeated before something changes, or this long."""
MOST_AT_ONCE = 100
"""Nodes that the search for several at once begins with; with more candidates than these, one more is tried."""
UNLIMITED = 2**31 - 1
"""Nodes that may be disrupted where no budget says anything."""
BALANCE = 2
"""`Balanced` takes away where the share of the pool's cost that is saved is at least the share of its pods that is
disturbed, divided by this."""

Reason = Literal["Empty", "Drifted", "Underutilized"]
Order = Literal["savings", "cost"]
"""Which candidates come first: those that save most for what is disturbed (Karpenter of August 2026), or those that
disturb least, the nearer to their end the less (releases up to 1.13)."""


@dataclass(frozen=True, eq=False)
class Command:
    """Take `nodes` away, once `replacement` (None: nothing) is ready. `why` is a line with the figures.

    With `needs_validation` the caller waits VALIDATION_S, asks again with `only` these nodes, and drops it when the
    answer differs."""

    reason: Reason
    nodes: tuple[str, ...]
    replacement: Claim | None
    saves_usd_per_hour: float
    why: str
    needs_validation: bool = True
    others: tuple[Claim, ...] = ()
    """More replacements: of a drifted node, whose pods may take several."""


@dataclass(frozen=True, eq=False)
class Pass:
    """What one pass came to. `refused`: node -> why it is no candidate, or why nothing better was found for it, for
    people who ask why it is still there. `is_blocked_by_budget`: not to be remembered as nothing found, for a budget
    with a schedule is in the way, and that may end without anything else changing."""

    command: Command | None
    refused: Mapping[str, str]
    is_blocked_by_budget: bool = False
    next_change_at: float | None = None
    """When a node will next be over its consolidateAfter or its nomination, which is a change, too; None: no time is
    known."""


@dataclass(frozen=True, eq=False)
class View:
    """All that a pass looks at. `waiting` are pods that no node has. `disrupting`: names of nodes that a command that
    goes on is about. `clock_utc` is the moment, for budgets with a schedule."""

    now: float
    clock_utc: datetime
    nodes: Sequence[Node]
    waiting: Sequence[Pod]
    pools: Mapping[str, NodePoolView]
    settings: Mapping[str, Disruption]
    market: Market
    budgets: Sequence[DisruptionBudget] = ()
    daemons: Collection[PodView] = ()
    disrupting: frozenset[str] = frozenset()
    spot_to_spot: bool = False
    order: Order = "savings"


def look(view: View, only: frozenset[str] | None = None) -> Pass:
    """One pass; with `only`, as the validation of a command about these nodes."""
    scene = _Scene(view)
    scene.sift(each for each in view.nodes if only is None or each.name in only)
    command = _search(scene) if only is None else _again(scene, only)
    for name in command.nodes if command is not None else ():
        scene.refused.pop(name, None)  # what one method refused another found
    return Pass(command, scene.refused, scene.is_blocked, scene.next_change_at)


def still_holds(command: Command, again: Command | None) -> bool:
    """Whether a command stands after its validation: the same nodes for the same reason, and what was to be launched
    for them would still do. (karpenter pkg/controllers/disruption/validation.go)"""
    if again is None or (again.reason, set(again.nodes)) != (command.reason, set(command.nodes)):
        return False
    if command.replacement is None or again.replacement is None:
        return command.replacement is again.replacement
    return {each.name for each in command.replacement.types} <= {each.name for each in again.replacement.types}


def allowed(budgets: Sequence[Budget], reason: Reason, total: int, away: int, at: datetime) -> int:
    """How many more nodes of a pool may be disrupted for `reason` now; `total` are its initialised nodes, `away` those
    that are not ready or being disrupted already. The tightest of the budgets in force counts, and one whose schedule
    cannot be read forbids all. (karpenter pkg/apis/v1/nodepool.go, GetAllowedDisruptionsByReason)"""
    if any(each.schedule and cron.fault(each.schedule) for each in budgets):
        return 0
    most = UNLIMITED
    for each in budgets:
        if each.reasons and reason not in each.reasons:
            continue
        if not each.schedule or cron.is_active(each.schedule, each.duration_s, at):
            most = min(most, -(-total * each.nodes // 100) if each.is_percent else each.nodes)
    return max(0, most - away)


# -- a pass --


def _search(scene: "_Scene") -> Command | None:
    """The methods in their order; the first that finds something ends the pass.
    (karpenter pkg/controllers/disruption/controller.go)"""
    command = _empty(scene) or _drifted(scene)
    if command is None and scene.graceful:
        underused = _underused(scene)
        command = _several(scene, underused) or _single(scene, underused)
    return command


def _again(scene: "_Scene", only: frozenset[str]) -> Command | None:
    """What a pass would do with exactly these nodes; nothing unless all of them may still go."""
    found = scene.graceful
    if len(found) < len(only):
        return None
    if all(each.is_empty for each in found):
        return _empty(scene) if len(scene.within_budget(found, "Empty")) == len(only) else None
    found = _underused(scene)
    if len(found) < len(only) or len(scene.within_budget(found, "Underutilized")) < len(only):
        return None
    return scene.noted(found, _consolidated(scene, found))


def _empty(scene: "_Scene") -> Command | None:
    """All empty nodes that the budgets allow, at once. (karpenter pkg/controllers/disruption/emptiness.go)"""
    found = scene.within_budget([each for each in scene.graceful if each.is_empty], "Empty")
    return _command("Empty", found, (), scene) if found else None


def _drifted(scene: "_Scene") -> Command | None:
    """Empty ones all at once; else the first, the oldest of them, whose pods find room, with what has to be launched
    for them. It need not be cheaper. (karpenter pkg/controllers/disruption/drift.go)"""
    drifted = sorted(scene.drifted, key=lambda each: (each.node.created_at, each.name))
    empty = scene.within_budget([each for each in drifted if each.is_empty], "Drifted")
    if empty:
        return _command("Drifted", empty, (), scene)
    for each in drifted:
        if each.is_empty or not scene.within_budget([each], "Drifted"):
            continue
        plan = scene.plan_without([each])
        if isinstance(plan, Plan):
            return _command("Drifted", [each], plan.claims, scene)
        scene.refused[each.name] = f"drifted, but {plan.why}"
    return None


def _underused(scene: "_Scene") -> list[Candidate]:
    """Whom consolidation may look at, the best first; ties by name.
    (karpenter pkg/controllers/disruption/consolidation.go, ShouldDisrupt and sortCandidates)"""
    found = []
    for each in scene.graceful:
        if each.is_empty:
            continue  # refused for the budget of empty ones
        if each.settings.policy == "WhenEmpty":
            scene.refused[each.name] = f"NodePool {each.node.pool} consolidates WhenEmpty, and pods run here"
        elif each.price is None:
            scene.refused[each.name] = f"the price of {each.node.type} ({each.node.capacity}) is not known"
        else:
            found.append(each)
    return scene.sorted(found)


def _several(scene: "_Scene", candidates: Sequence[Candidate]) -> Command | None:
    """The most of the first candidates that can go together, by bisection.
    (karpenter pkg/controllers/disruption/multinodeconsolidation.go)"""
    found = scene.within_budget(candidates, "Underutilized")
    low, high = 1, len(found) - 1 if len(found) <= MOST_AT_ONCE else MOST_AT_ONCE
    best = None
    while low <= high:
        middle = (low + high) // 2
        command = _consolidated(scene, found[: middle + 1])
        if isinstance(command, Command):
            best, low = command, middle + 1
        else:
            high = middle - 1
    return best


def _single(scene: "_Scene", candidates: Sequence[Candidate]) -> Command | None:
    """The first that can go by itself, taking turns between the pools, which come by name.
    (karpenter pkg/controllers/disruption/singlenodeconsolidation.go)"""
    by_pool: dict[str, list[Candidate]] = {}
    for each in candidates:
        by_pool.setdefault(each.node.pool, []).append(each)
    for turn in zip_longest(*(by_pool[name] for name in sorted(by_pool))):
        for each in turn:
            if each is None or not scene.within_budget([each], "Underutilized"):
                continue
            command = scene.noted([each], _consolidated(scene, [each]))
            if command is not None:
                return command
    return None


def _consolidated(scene: "_Scene", taken: Sequence[Candidate]) -> Command | Refusal:
    """What becomes of taking these away: nothing new, or one node that costs less.
    (karpenter pkg/controllers/disruption/consolidation.go, computeConsolidation)"""
    nodes, below = [each.node for each in taken], _price(taken)
    hopeless = scene.hopeless(taken, below)
    if hopeless is not None:
        return hopeless
    plan = scene.plan_without(taken)
    if isinstance(plan, Refusal):
        return plan
    if len(plan.claims) > 1:
        return Refusal(f"it would take {len(plan.claims)} new nodes")
    claims: list[Claim] = []
    for claim in plan.claims:
        found = cheaper(claim, nodes, below, scene.view.market, scene.view.spot_to_spot)
        if isinstance(found, Claim) and len(taken) > 1:
            found = without_same_types(found, nodes, scene.view.market)
        if isinstance(found, Refusal):
            return found
        claims.append(found)
    command = _command("Underutilized", taken, claims, scene)
    return scene.unbalanced(taken, command.saves_usd_per_hour) or command


def _price(taken: Iterable[Candidate]) -> float:
    return sum(each.price or 0.0 for each in taken)


def _command(reason: Reason, taken: Sequence[Candidate], claims: Sequence[Claim], scene: "_Scene") -> Command:
    costs = [cheapest_launch_price(each.types[0], each.requirements, scene.view.market) for each in claims]
    saves = _price(taken) - sum(each for each in costs if each < math.inf)
    pods = sum(len(each.pods) for each in taken)
    listed = ", ".join(f"{each.name} ({each.node.type}, {each.node.capacity}, {_usd(each.price)})" for each in taken)
    if claims:
        wanted = " and ".join(
            f"{each.types[0]} ({_usd(cost)}){_and_more(each)}" for each, cost in zip(claims, costs, strict=True)
        )
        then = f"its {pods} pods go to a new {wanted}" if len(taken) == 1 else f"their {pods} pods to a new {wanted}"
    else:
        then = f"{pods} pods find room on other nodes" if pods else "no pods"
    verb = "saves" if saves >= 0 else "costs"
    return Command(
        reason=reason,
        nodes=tuple(each.name for each in taken),
        replacement=claims[0] if claims else None,
        saves_usd_per_hour=saves,
        why=f"{listed}: {then}; {verb} ${abs(saves):.4g}/h",
        needs_validation=reason != "Drifted",
        others=tuple(claims[1:]),
    )


def _usd(price: float | None) -> str:
    return "unknown price" if price is None or price == math.inf else f"${price:.4g}/h"


def _and_more(claim: Claim) -> str:
    more = len(claim.types) - 1
    return f" or one of {more} other types" if more else ""


# -- what a pass looks at --


@dataclass(slots=True)
class _Totals:
    """Of one pool: what its nodes cost, and what disturbing them all would."""

    usd_per_hour: float = 0.0
    cost: float = 0.0


class _Scene:
    """What one pass has found out so far. Nothing outlives the pass."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.refused: dict[str, str] = {}
        self.is_blocked = False
        self.next_change_at: float | None = None
        self.graceful: list[Candidate] = []
        """Those over their consolidateAfter whose pods may all go."""
        self.drifted: list[Candidate] = []
        self._evictions = Evictions(view.budgets, self._all_pods)
        self._prices: dict[tuple[InstanceType, str, CapacityType], float | None] = {}
        self._left: dict[tuple[str, Reason], int] | None = None
        self._totals: dict[str, _Totals] | None = None
        self._targets: list[Node] | None = None
        self._closed: dict[str, Node] = {}
        self._going: list[Pod] = []
        self._prospects: Prospects | None = None

    # candidates

    def sift(self, nodes: Iterable[Node]) -> None:
        """(karpenter pkg/controllers/disruption/types.go, NewCandidate)"""
        now = self.view.now
        for node in nodes:
            why = self._off_limits(node)
            if why:
                self.refused[node.name] = why
                continue
            settings = self.view.settings[node.pool]
            over_at = consolidatable_at(node, settings)
            is_over = over_at is not None and over_at <= now
            against = self._evictions.against(node.pods.values()) if is_over or node.is_drifted else ""
            if node.is_drifted and (not against or settings.termination_grace_s is not None):
                self.drifted.append(self._candidate(node, settings))
            if over_at is None:
                self.refused[node.name] = f"NodePool {node.pool} has consolidateAfter: Never"
            elif not is_over:
                self._changes(over_at)
                self.refused[node.name] = f"its consolidateAfter has {over_at - now:.0f} s to go"
            elif against:
                self.refused[node.name] = against
            else:
                self.graceful.append(self._candidate(node, settings))
        self.graceful = self.sorted(self.graceful)

    def sorted(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """(karpenter pkg/controllers/disruption/consolidation.go, sortCandidates)"""
        if self.view.order == "cost":
            now = self.view.now
            return sorted(candidates, key=lambda each: (aged_cost(each.pods, each.node, each.settings, now), each.name))
        return sorted(candidates, key=lambda each: (-each.savings_ratio, each.name))

    def noted(self, taken: Sequence[Candidate], found: Command | Refusal) -> Command | None:
        if isinstance(found, Command):
            return found
        self.refused.update((each.name, found.why) for each in taken)
        return None

    def _off_limits(self, node: Node) -> str:
        view = self.view
        pool = view.pools.get(node.pool)
        if pool is None or node.pool not in view.settings:
            return "it is of no NodePool"
        if node.leaving_since is not None or node.name in view.disrupting:
            return "it is being taken away already"
        if node.ready_at is None:
            return "it is not ready yet"
        if node.nominated_until > view.now:
            self._changes(node.nominated_until)
            return "pods are expected on it"
        return f"NodePool {pool.name} is static" if pool.replicas is not None else ""

    def _candidate(self, node: Node, settings: Disruption) -> Candidate:
        pods = reschedulable(node)
        return Candidate(node, settings, pods, disruption_cost(pods), self._price_of(node))

    def _price_of(self, node: Node) -> float | None:
        key = node.type, node.zone, node.capacity
        if key not in self._prices:
            self._prices[key] = price_of(node, self.view.market)
        return self._prices[key]

    def _changes(self, at: float) -> None:
        self.next_change_at = at if self.next_change_at is None else min(self.next_change_at, at)

    def _all_pods(self) -> list[Pod]:
        return [*self.view.waiting, *(pod for node in self.view.nodes for pod in node.pods.values())]

    # budgets

    def within_budget(self, candidates: Sequence[Candidate], reason: Reason) -> list[Candidate]:
        """Of these, in their order, as many of each pool as its budgets allow."""
        found, taken = [], dict.fromkeys((each.node.pool for each in candidates), 0)
        for each in candidates:
            pool = each.node.pool
            if taken[pool] < self._allowed(pool, reason):
                taken[pool] += 1
                found.append(each)
            else:
                self.is_blocked |= any(budget.schedule for budget in each.settings.budgets)
                self.refused[each.name] = f"the budgets of NodePool {pool} allow no more for {reason} now"
        return found

    def _allowed(self, pool: str, reason: Reason) -> int:
        """(karpenter pkg/controllers/disruption/helpers.go, BuildDisruptionBudgetMapping)"""
        if self._left is None:
            self._left = {}
        if (pool, reason) not in self._left:
            view = self.view
            own = [each for each in view.nodes if each.pool == pool and each.ready_at is not None]
            away = sum(each.leaving_since is not None or each.name in view.disrupting for each in own)
            budgets = view.settings[pool].budgets
            self._left[pool, reason] = allowed(budgets, reason, len(own), away, view.clock_utc)
        return self._left[pool, reason]

    def unbalanced(self, taken: Sequence[Candidate], saves: float) -> Refusal | None:
        """Why pools with the policy Balanced would rather not; each is asked about its own part of the saving.
        (karpenter pkg/controllers/disruption/balanced.go, EvaluateBalancedMove)"""
        for pool in dict.fromkeys(each.node.pool for each in taken if each.settings.policy == "Balanced"):
            own = [each for each in taken if each.node.pool == pool]
            share = saves * _price(own) / _price(taken) if _price(taken) > 0 else saves
            totals = self._pool_totals().get(pool)
            if totals is None:
                return Refusal(f"NodePool {pool} is Balanced, and its nodes cost nothing")
            saved, disturbed = share / totals.usd_per_hour, sum(each.cost for each in own) / totals.cost
            if saved <= 0 or saved / disturbed < 1 / BALANCE:
                much = f"{saved:.1%} of its cost is too little for {disturbed:.1%} of what could be disturbed"
                return Refusal(f"NodePool {pool} is Balanced: {much}")
        return None

    def _pool_totals(self) -> dict[str, _Totals]:
        """Over all nodes that could be candidates, whether or not their consolidateAfter is over."""
        if self._totals is None:
            self._totals = {}
            for node in self.view.nodes:
                if self._off_limits(node) or self._evictions.against(node.pods.values()):
                    continue
                totals = self._totals.setdefault(node.pool, _Totals())
                price = self._price_of(node)
                if price:
                    totals.usd_per_hour += price
                    totals.cost += disruption_cost(reschedulable(node))
        return self._totals

    # without some nodes

    def plan_without(self, taken: Sequence[Candidate]) -> Plan | Refusal:
        """Where the pods of these nodes go, together with those that wait and those of nodes that are going anyway.
        (karpenter pkg/controllers/disruption/helpers.go, SimulateScheduling)"""
        gone = {each.name for each in taken}
        targets = [each for each in self._all_targets() if each.name not in gone]
        moving = [pod for each in taken for pod in each.pods if not is_kept(pod.shape, self.view.budgets)]
        pods = [*self.view.waiting, *moving, *self._going]
        plan = self._plan(pods, targets) if len(pods) > len(moving) and self._closed else None
        # Pods that wait or have to go anyway may use nodes within their consolidateAfter; these pods may not.
        if plan is None or any(plan.onto.get(each.name) in self._closed for each in moving):
            names = {each.name for each in moving}
            there = {} if plan is None else {pod: at for pod, at in plan.onto.items() if at in self._closed}
            there = {pod: at for pod, at in there.items() if pod not in names}
            closed = [self._closed.get(each.name, each) for each in targets]
            plan = self._plan([each for each in pods if each.name not in there], closed)
        for pod in [*moving, *self._going]:
            if pod.name in plan.unplaced:
                return Refusal(f"pod {pod.name} finds no room elsewhere: {plan.unplaced[pod.name]}")
        coming = {each.name for each in targets if each.ready_at is None}
        for pod in moving:
            if plan.onto.get(pod.name) in coming:
                return Refusal(f"pod {pod.name} would have to wait for {plan.onto[pod.name]}, which is not ready")
        return plan

    def _plan(self, pods: Sequence[Pod], nodes: Sequence[Node]) -> Plan:
        view = self.view
        return provisioning.plan(pods, nodes, list(view.pools.values()), view.market, daemons=view.daemons)

    def _all_targets(self) -> list[Node]:
        """Nodes that stay, as far as is known. Those within their consolidateAfter are `_closed`, too: copies that take
        no pods. (karpenter pkg/utils/disruption, IsUnderConsolidateAfter)"""
        if self._targets is None:
            self._targets = []
            view = self.view
            for node in view.nodes:
                if node.leaving_since is not None or node.name in view.disrupting:
                    self._going += [pod for pod in reschedulable(node) if not is_kept(pod.shape, view.budgets)]
                    continue
                self._targets.append(node)
                settings = view.settings.get(node.pool)
                over_at = None if settings is None else consolidatable_at(node, settings)
                if over_at is not None and over_at > view.now:
                    self._closed[node.name] = replace(node, leaving_since=view.now)
        return self._targets

    def hopeless(self, taken: Sequence[Candidate], below: float) -> Refusal | None:
        """Where it is certain without planning that nothing comes of it: why."""
        if self._prospects is None:
            view = self.view
            takes_pods = [each for each in self._all_targets() if each.name not in self._closed]
            others = [*view.waiting, *self._going]
            self._prospects = Prospects(
                *(takes_pods, view.pools.values(), view.market, view.daemons, others, self._all_pods())
            )
        only_other = not self.view.spot_to_spot and all(each.node.capacity == "spot" for each in taken)
        pods, gone = [pod for each in taken for pod in each.pods], {each.name for each in taken}
        why = self._prospects.against(below, pods, gone, only_other)
        return Refusal(why) if why else None
