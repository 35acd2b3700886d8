"""Losses and costs for other programs, if the run file asks for it: TensorBoard, MLflow, CloudWatch. None of them can
hold up training or end it; what is missing is said before anything starts."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from stoker.aws.cloudwatch import Datum, Metrics, Unit
from stoker.aws.cloudwatch_names import TRAINING
from stoker.base.background import Background
from stoker.base.errors import InvalidInput, Unavailable
from stoker.spec.run import Run
from stoker.train.live import Done, Live, Seen
from stoker.train.progress import Progress

NAMESPACE = TRAINING
CLOUDWATCH_S = 60.0
"""Between two points of a metric: CloudWatch keeps one a minute."""


class Tracker(Protocol):
    def step(self, seen: Seen) -> None:
        """Never waits, never raises."""

    def close(self, state: str) -> None:
        """`state` is that of the record's last line. Waits some seconds at most."""


def trackers(run: Run, *, here: Path, nodes: Sequence[Mapping[str, Any]], from_step: int) -> list[Tracker]:
    """Those that the run file asks for. `here`: the folder that paths are relative to. Raises InvalidInput in words
    when a package is missing or a place cannot be written."""
    wanted, found = run.tracking, list[Tracker]()
    if wanted.tensorboard is not None:
        found.append(TensorBoard(here / wanted.tensorboard / run.name, from_step=from_step))
    if wanted.mlflow is not None:
        uri = wanted.mlflow if "://" in wanted.mlflow else (here / wanted.mlflow).resolve().as_uri()
        found.append(MLflow(uri, run))
    if wanted.cloudwatch:
        found.append(CloudWatch(run, nodes))
    return found


class Onlookers:
    """All that look on, as one: call it with each step that was done (`loop.Parts.told`)."""

    def __init__(self, live: Live, progress: Progress, trackers: Sequence[Tracker]) -> None:
        self._live, self._progress, self._trackers = live, progress, trackers

    def __call__(self, done: Done) -> None:
        seen = self._live.stepped(done)
        self._progress.show(seen)
        for each in self._trackers:
            each.step(seen)

    def close(self, state: str) -> None:
        self._progress.close()
        for each in self._trackers:
            each.close(state)


def scalars(seen: Seen) -> dict[str, float]:
    """By the names that TensorBoard and MLflow show."""
    found = {
        "train/loss": seen.loss,
        "train/learning_rate": seen.rate,
        "train/grad_norm": seen.norm,
        "speed/tokens_per_second": seen.tokens_per_s,
        "cost/goodput": seen.goodput,
        "cost/lost_work_seconds": seen.lost_work_s,
    }
    more = {"validation/loss": seen.validation, "cost/usd": seen.usd}
    return found | {name: value for name, value in more.items() if value is not None}


class TensorBoard:
    """Event files, which TensorBoard reads as they grow. Steps of earlier launches from `from_step` on, which this one
    does again, are taken out of the curve (purge_step)."""

    def __init__(self, folder: Path, *, from_step: int) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise InvalidInput(
                "tracking.tensorboard is set, and the package tensorboard is not installed",
                param="tracking.tensorboard",
                hint="pip install tensorboard",
            ) from error
        try:
            self._writer: Any = SummaryWriter(str(folder), purge_step=from_step + 1)
        except OSError as error:
            raise InvalidInput(
                f"tracking.tensorboard: {folder} cannot be written: {error.strerror}", param="tracking.tensorboard"
            ) from error

    def step(self, seen: Seen) -> None:
        with contextlib.suppress(OSError):  # a full disk is no reason to stop
            for name, value in scalars(seen).items():
                self._writer.add_scalar(name, value, seen.step, walltime=seen.at)

    def close(self, state: str) -> None:
        with contextlib.suppress(OSError):
            self._writer.close()


class MLflow:
    """One run of the experiment `stoker`, found again by its name in later launches."""

    def __init__(self, uri: str, run: Run) -> None:
        try:
            import mlflow
            from mlflow.exceptions import MlflowException
        except ImportError as error:
            raise InvalidInput(
                "tracking.mlflow is set, and the package mlflow is not installed",
                param="tracking.mlflow",
                hint="pip install mlflow-skinny",
            ) from error
        self._failure = MlflowException
        self._metric = mlflow.entities.Metric
        try:
            self._client = mlflow.tracking.MlflowClient(tracking_uri=uri)
            self._id = self._find(run)
        except MlflowException as error:
            raise InvalidInput(
                f"tracking.mlflow: MLflow refused: {str(error)[:600]}", param="tracking.mlflow"
            ) from error
        self._behind: Background[Seen] = Background("mlflow", self._log, most_at_once=100)

    def _find(self, run: Run) -> str:
        experiment = self._client.get_experiment_by_name("stoker")
        number = experiment.experiment_id if experiment else self._client.create_experiment("stoker")
        there = self._client.search_runs([number], f"tags.`stoker.run` = '{run.name}'", max_results=1)
        if there:
            return str(there[0].info.run_id)
        made = self._client.create_run(number, tags={"stoker.run": run.name}, run_name=run.name)
        for name, value in (("base", run.base), ("method", run.method), ("objective", run.objective)):
            self._client.log_param(made.info.run_id, name, value)
        return str(made.info.run_id)

    def step(self, seen: Seen) -> None:
        self._behind.add(seen)

    def close(self, state: str) -> None:
        self._behind.close()
        with contextlib.suppress(self._failure):
            self._client.set_terminated(self._id, "FINISHED" if state == "completed" else "KILLED")

    def _log(self, seen: Sequence[Seen]) -> None:
        metrics = [
            self._metric(name, value, round(each.at * 1000), each.step)
            for each in seen
            for name, value in scalars(each).items()
        ]
        try:
            for begin in range(0, len(metrics), 1000):  # what one call may have
                self._client.log_batch(self._id, metrics=metrics[begin : begin + 1000])
        except self._failure as error:
            raise Unavailable(f"MLflow: {str(error)[:200]}") from error


class CloudWatch:
    """The guide's TrainingJobCost and TrainingDuration, and what else one sets an alarm on. Once a minute."""

    def __init__(
        self,
        run: Run,
        nodes: Sequence[Mapping[str, Any]],
        *,
        metrics: Callable[[str], Metrics] = Metrics,
        every_s: float = CLOUDWATCH_S,
    ) -> None:
        self._metrics = metrics(NAMESPACE)
        self._of_run = {"JobName": run.name}
        types = sorted({str(each["type"]) for each in nodes if each.get("type")})
        self._of_machine = {**self._of_run, "InstanceType": ",".join(types) or "unknown"}
        self._every_s = every_s
        self._last: Seen | None = None
        self._put_at: float | None = None

    def step(self, seen: Seen) -> None:
        self._last = seen
        if self._put_at is None or abs(seen.at - self._put_at) >= self._every_s:
            self._put_at = seen.at
            self._metrics.put(*self._data(seen))

    def close(self, state: str) -> None:
        if self._last is not None and self._last.at != self._put_at:
            self._metrics.put(*self._data(self._last))
        self._metrics.close()

    def _data(self, seen: Seen) -> list[Datum]:
        of_run: list[tuple[str, float | None, Unit]] = [
            ("TrainingDuration", seen.hours, "None"),  # hours, as the guide has it
            ("Loss", seen.loss, "None"),
            ("ValidationLoss", seen.validation, "None"),
            ("TokensPerSecond", seen.tokens_per_s, "Count/Second"),
            ("Goodput", 100.0 * seen.goodput, "Percent"),
            ("LostWork", seen.lost_work_s, "Seconds"),
            ("CheckpointAge", seen.checkpoint_age_s, "Seconds"),
        ]
        found = [Datum(name, value, unit, seen.at, self._of_run) for name, value, unit in of_run if value is not None]
        if seen.usd is not None:
            found.insert(0, Datum("TrainingJobCost", seen.usd, "None", seen.at, self._of_machine))
        return found
