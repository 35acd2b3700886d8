"""A run's numbers for Prometheus, from the process that writes its record (rank 0), where STOKER_TRAIN_METRICS says,
and to a collector, where the environment names one (`telemetry.otlp_metrics`).

STOKER_TRAIN_METRICS=127.0.0.1:9102 stoker train finetune.yaml
"""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from stoker.base.errors import InvalidInput
from stoker.telemetry.metrics import Metrics
from stoker.telemetry.otlp_metrics import interval_of, send_in_thread
from stoker.train.live import Seen

if TYPE_CHECKING:
    from stoker.train.saving import Saved

WHERE = "STOKER_TRAIN_METRICS"
SAVE_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0)
"""Seconds: from what training hardly waits for to `loop.SAVE_S`. 120 is the notice of spot."""


class TrainMetrics:
    """Of one run: whoever scrapes it knows which, so there is no label for it."""

    def __init__(self, metrics: Metrics, *, nodes: int) -> None:
        self.metrics = metrics
        self._steps = metrics.gauge("stoker_train_step", "Steps that are done, of all launches.")
        self._of = metrics.gauge("stoker_train_steps", "Steps that the run has.")
        self._loss = metrics.gauge("stoker_train_loss", "Loss of the last step.")
        self._speed = metrics.gauge("stoker_train_tokens_per_second", "Tokens a second, lately.")
        self._goodput = metrics.gauge("stoker_train_goodput_ratio", "Part of the time that made steps which count.")
        self._lost = metrics.gauge("stoker_train_lost_work_seconds", "Work that has to be done again, so far.")
        self._checkpoint = metrics.gauge(
            "stoker_train_checkpoint_age_seconds", "Since the last checkpoint was durable; NaN: there is none."
        )
        self._usd = metrics.gauge("stoker_train_usd", "Dollars so far; NaN: no price is known.")
        metrics.gauge("stoker_train_nodes", "Machines of this launch.").set(nodes)
        self._saves = metrics.histogram(
            "stoker_train_save_seconds",
            "Of a checkpoint's save. wait: training stood still; whole: until it was durable.",
            ["part"],
            buckets=SAVE_BUCKETS,
        )
        for part in ("wait", "whole"):
            self._saves.labels(part)  # from 0 on
        self._failed = metrics.counter("stoker_train_save_failures_total", "Saves that came to nothing.")
        self._bytes = metrics.gauge(
            "stoker_train_save_bytes", "What the last checkpoint takes, of all processes; NaN: there is none."
        )
        self._restore = metrics.gauge(
            "stoker_train_restore_seconds", "To read the checkpoint that this launch went on from; NaN: it began anew."
        )
        for unknown in (self._bytes, self._restore):
            unknown.set(math.nan)

    def restored(self, seconds: float) -> None:
        self._restore.set(seconds)

    def saved(self, saved: "Saved") -> None:
        """A save has ended, well or not."""
        if saved.error is not None:
            self._failed.inc()
            return
        self._saves.labels("wait").observe(saved.stall_s)
        self._saves.labels("whole").observe(saved.seconds)
        self._bytes.set(saved.size_bytes)

    def step(self, seen: Seen) -> None:
        nothing = math.nan
        self._steps.set(seen.step)
        self._of.set(seen.steps)
        self._loss.set(seen.loss)
        self._speed.set(seen.tokens_per_s)
        self._goodput.set(seen.goodput)
        self._lost.set(seen.lost_work_s)
        self._checkpoint.set(nothing if seen.checkpoint_age_s is None else seen.checkpoint_age_s)
        self._usd.set(nothing if seen.usd is None else seen.usd)


class Exposition:
    """A `tracking.Tracker` that answers /metrics, and sends them, each in a thread of its own. `address`: where it
    answers; None: it does not."""

    def __init__(self, address: tuple[str, int] | None, environ: Mapping[str, str], *, run: str, nodes: int) -> None:
        self.shown = TrainMetrics(Metrics(), nodes=nodes)
        self.url: str | None = None
        self._ends: list[Callable[[], None]] = []
        if address is not None:
            stop, self.url = self.shown.metrics.serve_in_thread(*address)
            self._ends.append(stop)
        stop_sending = send_in_thread(self.shown.metrics, "stoker-train", environ, about={"stoker.run": run})
        if stop_sending is not None:
            self._ends.append(stop_sending)

    def step(self, seen: Seen) -> None:
        self.shown.step(seen)

    def close(self, state: str) -> None:
        for end in self._ends:
            end()


def exposition(environ: Mapping[str, str], *, run: str, nodes: int) -> Exposition | None:
    """None where the environment names neither a place nor a collector. Raises InvalidInput for what is no HOST:PORT
    and as `send_in_thread` does, and PortTaken."""
    said = environ.get(WHERE)
    if not said:
        return None if interval_of(environ) is None else Exposition(None, environ, run=run, nodes=nodes)
    host, _, port = said.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(f"{WHERE} is {said!r}; it is HOST:PORT, such as 127.0.0.1:9102", param=WHERE)
    return Exposition((host, int(port)), environ, run=run, nodes=nodes)
