"""Samples over time: what metrics can read, and what reports draw. It changes nothing."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from stoker.simulate import signals
from stoker.simulate.replicas import Replicas
from stoker.simulate.result import Timeline
from stoker.simulate.serving import Plane
from stoker.simulate.world import World

SAMPLE_S = 15.0
"""What triggers read is sampled at whole multiples of this: scrape intervals and CloudWatch's periods are, too."""
_MOST_STEPS = 1440


class Watching:
    def __init__(self, world: World, replicas: Replicas, planes: Mapping[str, Plane], lasts_s: float) -> None:
        self.world = world
        self.replicas = replicas
        self.planes = planes
        self.histories = {model: signals.History(began_at=world.began_at) for model in planes}
        self.step_s = step_of(lasts_s, world.options.step_s)
        self._workloads: dict[str, list[str]] = {model: [] for model in planes}
        for each in world.scenario.workloads:
            if each.serving is not None:
                self._workloads[each.serving.model].append(each.name)
        self._by_name = {each.name: each for each in world.scenario.workloads}
        self._kinds = {each.kind for scaler in world.scenario.scalers for each in scaler.signals.values()}
        self._at: list[float] = []
        self._rows: list[dict[str, tuple[int, int, int, int]]] = []
        self._nodes: list[Counter[tuple[str, str, str]]] = []

    def sample(self) -> None:
        """Now, a multiple of SAMPLE_S."""
        now = self.world.now
        for model in self.histories:
            self.observe(model)
        if now >= 0 and now % self.step_s == 0:
            self._at.append(now)
            self._rows.append({model: self._row(model) for model in self.planes})
            self._nodes.append(
                Counter(
                    (node.pool, node.type.name, node.capacity)
                    for node in self.world.nodes.values()
                    if self.world.node_lives[node.name].launched_at is not None
                )
            )

    def observe(self, model: str) -> signals.History | None:
        """What can be read of a model, this moment included; None for one that there is not."""
        history = self.histories.get(model)
        if history is not None:
            ready = self._count(model)[1]
            signals.observe(history, self.world.now, self.planes[model], ready, self._kinds)
        return history

    def _count(self, model: str) -> tuple[int, int]:
        """Wanted and ready."""
        counted = [self.replicas.counts(self._by_name[name]) for name in self._workloads[model]]
        return sum(each[0] for each in counted), sum(each[2] for each in counted)

    def _row(self, model: str) -> tuple[int, int, int, int]:
        counts = self.planes[model].counts()
        return (*self._count(model), counts.waiting + counts.engine_waiting, counts.running)

    def timeline(self, usd_per_hour: np.ndarray | None = None) -> Timeline:
        kinds = sorted({kind for row in self._nodes for kind in row})

        def column(model: str, place: int) -> np.ndarray:
            return np.array([row[model][place] for row in self._rows], np.int32)

        return Timeline(
            at=self.times,
            wanted={model: column(model, 0) for model in self.planes},
            ready={model: column(model, 1) for model in self.planes},
            waiting={model: column(model, 2) for model in self.planes},
            running={model: column(model, 3) for model in self.planes},
            nodes={kind: np.array([row[kind] for row in self._nodes], np.int32) for kind in kinds},
            usd_per_hour=np.zeros(len(self._at)) if usd_per_hour is None else usd_per_hour,
        )

    @property
    def times(self) -> np.ndarray:
        return np.array(self._at)


def step_of(lasts_s: float, least_s: float) -> float:
    """Of the timeline: whole multiples of SAMPLE_S, so that a run has at most _MOST_STEPS."""
    steps = max(least_s, lasts_s / _MOST_STEPS)
    return max(1, -(-steps // SAMPLE_S)) * SAMPLE_S
