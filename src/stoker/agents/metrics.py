"""What processes of agents count, for Prometheus: a worker of the steps that it takes, the service of what waits."""

import math
from collections.abc import Callable
from typing import Literal, get_args

from stoker.agents.tasks import MODEL
from stoker.base import logs
from stoker.base.errors import QueueUnavailable
from stoker.queue import Queue
from stoker.telemetry.metrics import Metrics

Outcome = Literal["done", "failed", "handed back", "lost", "cancelled"]
"""How a step ended here: `failed`: this attempt, of which there may be more; `handed back`: it goes on elsewhere from
what its nodes had finished; `lost`: another worker has it already."""

_log = logs.get(__name__)


class StepMetrics:
    """Of one worker."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        steps = metrics.counter("stoker_agent_steps_total", "Steps of runs that ended here, by how.", ["outcome"])
        self._steps = {outcome: steps.labels(outcome) for outcome in get_args(Outcome)}
        self._running = metrics.gauge("stoker_agent_steps_running", "Steps that this worker runs.")
        self._room = metrics.gauge("stoker_agent_steps_at_once", "Steps that this worker runs at once at most.")

    def ended(self, outcome: Outcome) -> None:
        self._steps[outcome].inc()

    def show(self, running: Callable[[], int], room: int) -> None:
        """`running` is asked when somebody asks for the metrics, in a thread of its own."""
        self._running.set_function(running)
        self._room.set(room)


class ServiceMetrics:
    """Of the API, which sees the queue."""

    def __init__(self, metrics: Metrics, queue: Queue) -> None:
        self.metrics, self._queue = metrics, queue
        self._waiting = metrics.gauge(
            "stoker_agent_steps_waiting", "Steps that wait for a worker; NaN: Redis does not tell."
        )
        self._dead = metrics.gauge(
            "stoker_agent_steps_dead", "Dead letters: steps that were given up; NaN: Redis does not tell."
        )

    async def refresh(self) -> None:
        try:
            depth = await self._queue.depth(MODEL)
        except QueueUnavailable as error:
            _log.warning("the queue's depth is not known", error=error.in_log)
            depth = None
        self._waiting.set(math.nan if depth is None else depth.lag)
        self._dead.set(math.nan if depth is None else depth.dead)
