"""What one worker counts, for Prometheus: of its own claims only. What waits is the gateway's to say."""

from collections.abc import Callable
from typing import Literal, get_args

from stoker.telemetry.metrics import Metrics

Outcome = Literal["done", "failed", "wrong", "handed back", "lost", "cancelled"]
"""How a claim ended here: `failed`: this attempt, of which there may be more; `wrong`: the engine refused the task
itself; `handed back`: another worker goes on; `lost`: another worker has it already."""


class WorkerMetrics:
    def __init__(self, metrics: Metrics, model: str) -> None:
        self.metrics = metrics
        claims = metrics.counter("stoker_worker_claims_total", "Claims that ended, by how.", ["model", "outcome"])
        self._claims = {outcome: claims.labels(model, outcome) for outcome in get_args(Outcome)}
        self._retries = metrics.counter(
            "stoker_worker_retries_total", "Claims of tasks of which an attempt had failed before.", ["model"]
        ).labels(model)
        self._reclaimed = metrics.counter(
            "stoker_worker_reclaimed_total", "Tasks taken back from workers whose lease ran out.", ["model"]
        ).labels(model)
        running = metrics.gauge("stoker_worker_running", "Tasks that this worker runs.", ["model"])
        capacity = metrics.gauge("stoker_worker_capacity", "Tasks that this worker runs at once at most.", ["model"])
        in_service = metrics.gauge(
            "stoker_worker_in_service", "1 while its engine is up and no notice takes the machine away.", ["model"]
        )
        self._gauges = running.labels(model), capacity.labels(model), in_service.labels(model)

    def ended(self, outcome: Outcome) -> None:
        self._claims[outcome].inc()

    def retried(self) -> None:
        self._retries.inc()

    def reclaimed(self, tasks: int) -> None:
        self._reclaimed.inc(tasks)

    def show(self, running: Callable[[], int], capacity: Callable[[], int], in_service: Callable[[], bool]) -> None:
        """Asked when somebody asks for the metrics, in a thread of its own."""
        for gauge, value in zip(self._gauges, (running, capacity, in_service), strict=True):
            gauge.set_function(value)
