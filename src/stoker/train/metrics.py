"""A run's numbers for Prometheus, from the process that writes its record (rank 0), where STOKER_TRAIN_METRICS says.

STOKER_TRAIN_METRICS=127.0.0.1:9102 stoker train finetune.yaml
"""

from collections.abc import Mapping

from stoker.base.errors import InvalidInput
from stoker.telemetry.metrics import Metrics
from stoker.train.live import Seen

WHERE = "STOKER_TRAIN_METRICS"


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

    def step(self, seen: Seen) -> None:
        nothing = float("nan")
        self._steps.set(seen.step)
        self._of.set(seen.steps)
        self._loss.set(seen.loss)
        self._speed.set(seen.tokens_per_s)
        self._goodput.set(seen.goodput)
        self._lost.set(seen.lost_work_s)
        self._checkpoint.set(nothing if seen.checkpoint_age_s is None else seen.checkpoint_age_s)
        self._usd.set(nothing if seen.usd is None else seen.usd)


class Exposition:
    """A `tracking.Tracker` that answers /metrics in a thread of its own."""

    def __init__(self, host: str, port: int, *, nodes: int) -> None:
        self.shown = TrainMetrics(Metrics(), nodes=nodes)
        self._stop, self.url = self.shown.metrics.serve_in_thread(host, port)

    def step(self, seen: Seen) -> None:
        self.shown.step(seen)

    def close(self, state: str) -> None:
        self._stop()


def exposition(environ: Mapping[str, str], *, nodes: int) -> Exposition | None:
    """None where the environment says nothing. Raises InvalidInput for what is no HOST:PORT, and PortTaken."""
    said = environ.get(WHERE)
    if not said:
        return None
    host, _, port = said.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(f"{WHERE} is {said!r}; it is HOST:PORT, such as 127.0.0.1:9102", param=WHERE)
    return Exposition(host, int(port), nodes=nodes)
