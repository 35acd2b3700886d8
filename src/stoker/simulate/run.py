"""One run: manifests and requests over time. Puts the parts together and turns the clock."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from stoker.base.errors import InvalidInput
from stoker.meter import prices
from stoker.policy.cluster import Node
from stoker.policy.market import market
from stoker.simulate import bill, groups, latencies
from stoker.simulate.autoscaling import Autoscaling
from stoker.simulate.capacity import Capacity
from stoker.simulate.karpenter import Karpenter
from stoker.simulate.kernel import Kernel, Rank
from stoker.simulate.machines import Machines
from stoker.simulate.options import Options
from stoker.simulate.placing import Placing
from stoker.simulate.replicas import Replicas, volumes_of
from stoker.simulate.result import Outcomes, Result
from stoker.simulate.scenario import Scenario
from stoker.simulate.serving import Plane, Requests
from stoker.simulate.trace import ANY, Trace
from stoker.simulate.watching import SAMPLE_S, Watching
from stoker.simulate.world import World

_MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
MOST_DAYS = 366
"""Of a run: a day takes seconds, and a trace whose times are in another unit would never end."""
UNNAMED = "(unnamed)"
"""The tenant of requests that name none."""
Progress = Callable[[float], None]


def simulate(
    scenario: Scenario, trace: Trace, options: Options | None = None, progress: Progress | None = None
) -> Result:
    """`progress` is told the share of the run that is done. Raises InvalidInput for options that do not fit."""
    run = _Run(scenario, trace, options or Options())
    run.go(progress or (lambda share: None))
    return run.result()


class _Run:
    def __init__(self, scenario: Scenario, trace: Trace, options: Options) -> None:
        self._started = time.perf_counter()
        self.trace = trace
        self.options = options
        self.models = scenario.models
        self.model = routed(trace, scenario, options)
        self.rows = {name: np.flatnonzero(self.model == i) for i, name in enumerate(self.models)}
        began_at = options.began_at or trace.began_at or _MONDAY
        self.kernel = Kernel(0.0 if options.cold else -options.warm_up_s)
        self.base_market = market(scenario.region, scenario.zones)
        self.prices = prices.read_prices(options.prices, began_at) if options.prices else prices.Prices()
        sold = self.prices.applied(self.base_market, self.kernel.now)
        self.world = World(scenario, options, self.kernel, began_at, sold)
        self.planes = {name: self._plane(name) for name in self.models}
        self.priors = latencies.overridden(options.priors)
        self.replicas = Replicas(self.world, self.planes, self.priors)
        self.machines = Machines(self.world, self.replicas, self.priors)
        capacity = Capacity(options, self._spot_nodes)
        self.karpenter = Karpenter(self.world, self.machines, capacity)
        self.groups = groups.Groups(self.world, self.machines, capacity)
        self.placing = Placing(self.world, self.replicas, self.karpenter.trigger)
        self.ends_at = _ends_at(trace, options)
        self.watching = Watching(self.world, self.replicas, self.planes, self.ends_at)
        self._wire()

    def _wire(self) -> None:
        self.replicas.when_changed = self.placing.poke
        self.replicas.when_gone = self.machines.pod_gone
        self.machines.handles_notices = bool(self.world.scenario.pools)

        def ready(node: Node) -> None:
            self.karpenter.node_ready(node)
            self.placing.poke()

        def gone(name: str) -> None:
            self.karpenter.node_gone(name)
            self.karpenter.keep_static()
            self.groups.keep()
            self.placing.poke()

        self.machines.when_ready = ready
        self.machines.when_leaving = self.karpenter.node_leaving
        self.machines.when_noticed = self.karpenter.node_noticed
        self.machines.when_gone = gone

    # -- over time --

    def go(self, progress: Progress) -> None:
        kernel, scenario = self.kernel, self.world.scenario
        self.groups.begin()
        self.karpenter.begin()
        for workload in scenario.workloads:
            self.replicas.scale(workload, workload.replicas, "as written")
        by_name = {each.name: each for each in scenario.workloads}
        for scaler in scenario.scalers:
            if scaler.target in by_name:
                target = by_name[scaler.target]
                Autoscaling(self.world, self.replicas, scaler, target, self.watching.observe).begin()
        if self.options.available:
            self._follow_market()
        for at in self.prices.changes():
            kernel.at(at, Rank.WORLD, self._reprice)
        kernel.at(math.ceil(kernel.now / SAMPLE_S) * SAMPLE_S, Rank.WATCH, self._watch)
        self._is_over = False
        begins, told = kernel.now, kernel.now
        while not self._is_over:
            when = kernel.next_at
            if when is not None and when > kernel.now:
                self._advance(when)
            kernel.step()
            if kernel.now - told > (self.ends_at - begins) / 100:
                told = kernel.now
                progress(min(1.0, (told - begins) / max(self.ends_at - begins, 1.0)))

    def _advance(self, until: float) -> None:
        for model, plane in self.planes.items():
            while True:
                _, slot = plane.advance(until)
                if slot < 0:
                    break
                self.replicas.drained.add((model, slot))

    def _watch(self) -> None:
        self.watching.sample()
        now = self.world.now
        if self.options.hours is not None:
            self._is_over = now >= self.ends_at
        elif now >= self.trace.duration_s:
            is_done = not any(plane.has_work() for plane in self.planes.values())
            self._is_over = is_done or now >= self.trace.duration_s + self.options.after_s
        next_at = now + SAMPLE_S
        if self.options.hours is not None and now < self.ends_at < next_at:
            next_at = self.ends_at
        if not self._is_over:
            self.kernel.at(next_at, Rank.WATCH, self._watch)

    def _reprice(self) -> None:
        self.karpenter.reprice(self.prices.applied(self.base_market, self.world.now))

    def _spot_nodes(self) -> int:
        return sum(node.capacity == "spot" for node in self.world.nodes.values())

    def _follow_market(self) -> None:
        """When a recorded market has fewer spot nodes than run, the newest have to go."""
        for at, there in self.options.available:
            if at >= self.world.now:

                def shrink(there: int = there) -> None:
                    spot = [node for node in self.world.nodes.values() if node.capacity == "spot"]
                    for node in sorted(spot, key=lambda node: (-node.created_at, node.name))[
                        : max(0, len(spot) - there)
                    ]:
                        self.machines.interrupt(node, f"the recorded market has {there} spot nodes")

                self.kernel.at(at, Rank.WORLD, shrink)

    def _plane(self, model: str) -> Plane:
        of_it = [each.serving for each in self.world.scenario.workloads if each.serving is not None]
        serving = next(each for each in of_it if each.model == model)
        rows, trace, options = self.rows[model], self.trace, self.options
        return Plane(
            Requests(
                trace.at_s[rows], trace.prompt_tokens[rows], trace.completion_tokens[rows], trace.cached_tokens[rows]
            ),
            dispatch=serving.dispatch,
            max_model_len=serving.max_model_len,
            timeout_s=options.timeout_s,
            retries=serving.dispatch == "queue" if options.retries is None else options.retries,
            lease_s=options.lease_s,
            seed=options.seed,
        )

    # -- what came of it --

    def result(self) -> Result:
        world, scenario = self.world, self.world.scenario
        ends_at = world.now
        nodes = tuple(world.node_lives.values())
        pods = tuple(world.pod_lives.values())
        outcomes, work_s = self._outcomes(pods)
        volumes = volumes_of(scenario)
        auto_mode = frozenset(each.view.name for each in scenario.pools if each.is_auto_mode)
        timeline = self.watching.timeline()
        rates = bill.usd_per_hour_at(nodes, timeline.at, volumes, auto_mode, self.prices)
        return Result(
            trace=self.trace,
            models=self.models,
            outcomes=outcomes,
            replicas=pods,
            nodes=nodes,
            timeline=replace(timeline, usd_per_hour=rates),
            journal=tuple(world.journal.events),
            costs=bill.costs(
                *(nodes, pods),
                ends_at=ends_at,
                volumes=volumes,
                auto_mode=auto_mode,
                requests={each.name: each.shape.requests for each in scenario.workloads},
                work_s=work_s,
                models=self.models,
                prices=self.prices,
            ),
            began_at=world.began_at.isoformat().replace("+00:00", "Z"),
            ended_at_s=ends_at,
            seed=self.options.seed,
            notes=(*self.trace.notes, *scenario.notes, *self.prices.notes),
            assumptions=asdict(self.priors),
            wall_s=time.perf_counter() - self._started,
            kind="karpenter" if scenario.pools else "groups" if scenario.groups else "none",
            spells=tuple(spell for of_one in world.spells.values() for spell in of_one),
        )

    def _outcomes(self, pods: tuple[object, ...]) -> tuple[Outcomes, dict[str, dict[str, float]]]:
        n = len(self.trace)
        whole: dict[str, NDArray[np.generic]] = {
            "state": np.zeros(n, np.int8),
            "started_at": np.full(n, np.nan),
            "first_at": np.full(n, np.nan),
            "done_at": np.full(n, np.nan),
            "completion_tokens": np.zeros(n, np.int32),
            "cached_tokens": np.zeros(n, np.int32),
            "attempts": np.zeros(n, np.int16),
        }
        replica = np.full(n, -1, np.int32)
        place = {name: i for i, name in enumerate(self.world.pod_lives)}
        slots = {(model, slot): place[pod] for model, slot, pod in self.replicas.slots}
        work_s: dict[str, dict[str, float]] = {}
        for model, rows in self.rows.items():
            columns = self.planes[model].columns()
            for name, column in whole.items():
                column[rows] = columns[name]
            last = max((slot for each, slot in slots if each == model), default=-1)
            pod_of = np.array([slots.get((model, slot), -1) for slot in range(last + 1)] + [-1], np.int32)
            slot = columns["slot"].astype(np.int64)
            replica[rows] = pod_of[slot]  # -1, no replica, is the last entry
            for pod, many in zip(*np.unique(replica[rows], return_counts=True), strict=True):
                if pod >= 0:
                    self.world.pod_lives[list(place)[pod]].requests += int(many)
            work_s[model] = self._by_tenant(rows, columns["work_s"].astype(np.float64))
        outcomes = Outcomes(model=self.model.astype(np.int16), replica=replica, **whole)  # type: ignore[arg-type]
        return outcomes, work_s

    def _by_tenant(self, rows: NDArray[np.int64], work_s: NDArray[np.float64]) -> dict[str, float]:
        names = (*self.trace.tenants, UNNAMED)
        sums = np.bincount(self.trace.tenant[rows] % len(names), weights=work_s, minlength=len(names))
        return {name: float(seconds) for name, seconds in zip(names, sums, strict=True) if seconds > 0}


def _ends_at(trace: Trace, options: Options) -> float:
    found = trace.duration_s if options.hours is None else options.hours * 3600
    if found > MOST_DAYS * 86400:
        raise InvalidInput(
            f"{trace.name} lasts {found / 86400:.4g} days; at most {MOST_DAYS} are simulated",
            param="trace",
            hint="--hours ends the run sooner, --speed makes the trace faster; times are in seconds",
        )
    return found


def routed(trace: Trace, scenario: Scenario, options: Options) -> NDArray[np.int64]:
    """For each request, the place of its model in `scenario.models`: the one it names where that is there, else by
    `options.shares`, else the default."""
    models = scenario.models
    unknown = sorted(set(options.shares) - set(models))
    if unknown:
        raise InvalidInput(
            f"no model {', '.join(unknown)} is served; there is {', '.join(models)}",
            param="to",
            hint="name one of these",
        )
    places = np.array([models.index(name) if name in models else ANY for name in trace.models] + [ANY])
    found = places[trace.model]  # ANY, -1, is the last entry
    open_rows = np.flatnonzero(found == ANY)
    if options.shares:
        weights = np.array(list(options.shares.values()), float)
        draws = np.random.Generator(np.random.PCG64(options.seed)).random(len(open_rows))
        picked = np.searchsorted(np.cumsum(weights / weights.sum()), draws, side="right")
        names = list(options.shares)
        found[open_rows] = np.array([models.index(name) for name in names])[np.minimum(picked, len(names) - 1)]
    else:
        found[open_rows] = models.index(scenario.default_model or models[0])
    return found.astype(np.int64)
