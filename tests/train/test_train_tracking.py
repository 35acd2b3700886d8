"""Losses and costs for other programs: what they read back is what was seen."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from run_records import NODE, T0

from stoker.aws.cloudwatch import MOST_BYTES, Datum, Metrics, batches
from stoker.base.errors import InvalidInput, Unavailable
from stoker.spec.run import Run
from stoker.testing.aws import CREDENTIALS, moto_server
from stoker.train.live import Seen
from stoker.train.tracking import NAMESPACE, CloudWatch, trackers


def run_of(**tracking: Any) -> Run:
    return Run.model_validate({"name": "fine", "data": "train.jsonl", "tracking": tracking}, by_name=True)


def seen(step: int, at: float = T0, **more: Any) -> Seen:
    fields: dict[str, Any] = {"step": step, "steps": 10, "loss": 2.0 - step / 10, "rate": 1e-4, "norm": 1.0, "at": at}
    fields |= {"tokens_per_s": 100.0, "goodput": 0.9, "lost_work_s": 4.0, "checkpoint_age_s": 12.0, "usd": 0.42}
    return Seen(**(fields | {"hours": 0.5, "left_s": 10.0} | more))


def test_nothing_is_tracked_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert trackers(run_of(), here=tmp_path, nodes=[], from_step=0) == []


# --- TensorBoard ------------------------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own imports
def test_tensorboard_shows_the_steps_that_count(tmp_path: Path) -> None:
    """Steps 5 and 6 of the first launch were lost, and done again by the second."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for launch, steps in enumerate([range(1, 7), range(5, 9)]):
        (tracker,) = trackers(run_of(tensorboard="events"), here=tmp_path, nodes=[], from_step=steps[0] - 1)
        for step in steps:
            tracker.step(seen(step, at=T0 + 100 * launch + step, loss=10.0 * launch + step))
        tracker.close("preempted")

    events = EventAccumulator(str(tmp_path / "events" / "fine"))
    events.Reload()
    shown = [(each.step, each.value) for each in events.Scalars("train/loss")]
    assert shown == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 15.0), (6, 16.0), (7, 17.0), (8, 18.0)]
    assert [each.value for each in events.Scalars("cost/usd")] == pytest.approx([0.42] * 8)


@pytest.mark.torch
def test_a_package_that_is_missing_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorboard", "torch.utils.tensorboard", "torch.utils.tensorboard.writer", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(InvalidInput, match="the package tensorboard is not installed") as refused:
        trackers(run_of(tensorboard="events"), here=tmp_path, nodes=[], from_step=0)
    assert refused.value.hint == "pip install tensorboard"
    with pytest.raises(InvalidInput, match="the package mlflow is not installed"):
        trackers(run_of(mlflow="mlruns"), here=tmp_path, nodes=[], from_step=0)


# --- MLflow -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # of mlflow's own
def test_mlflow_has_one_run_for_all_launches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (some thirty packages)")
    with pytest.raises(InvalidInput, match="MLflow refused: The filesystem tracking backend"):
        trackers(run_of(mlflow="mlruns"), here=tmp_path, nodes=[], from_step=0)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for steps in (range(1, 4), range(3, 6)):
        (tracker,) = trackers(run_of(mlflow="mlruns"), here=tmp_path, nodes=[], from_step=0)
        for step in steps:
            tracker.step(seen(step, at=T0 + step))
        tracker.close("completed")

    client = mlflow.tracking.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("stoker").experiment_id])
    assert (run.info.run_name, run.info.status) == ("fine", "FINISHED")
    assert {each.step for each in client.get_metric_history(run.info.run_id, "train/loss")} == {1, 2, 3, 4, 5}


# --- CloudWatch -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto_server(tmp_path_factory.mktemp("moto") / "log") as url:
        yield url


@pytest.fixture
def at_moto(aws: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": aws}.items():
        monkeypatch.setenv(name, value)
    return aws


def test_cloudwatch_has_the_cost_and_duration_of_the_guide_and_more(at_moto: str) -> None:
    import boto3

    tracker = CloudWatch(run_of(cloudwatch=True), [NODE, NODE])
    tracker.step(seen(1, T0))
    tracker.step(seen(2, T0 + 30))  # within the minute
    tracker.step(seen(3, T0 + 60, loss=float("nan")))  # which CloudWatch would refuse
    tracker.step(seen(4, T0 + 70, usd=0.5))
    tracker.close("completed")

    client = boto3.client("cloudwatch", endpoint_url=at_moto)
    there = {
        (each["MetricName"], *(f"{d['Name']}={d['Value']}" for d in each["Dimensions"]))
        for each in client.list_metrics(Namespace="AgenticAI/Training")["Metrics"]
    }
    assert NAMESPACE == "AgenticAI/Training"
    names = ("TrainingDuration", "Loss", "TokensPerSecond", "Goodput", "LostWork", "CheckpointAge")
    assert there == {
        ("TrainingJobCost", "JobName=fine", "InstanceType=g5.xlarge"),
        *((name, "JobName=fine") for name in names),
    }

    def points(name: str, *dimensions: dict[str, str]) -> list[tuple[float, str]]:
        found = client.get_metric_statistics(
            Namespace=NAMESPACE,
            MetricName=name,
            Dimensions=dimensions,
            StartTime=T0 - 60,
            EndTime=T0 + 300,
            Period=1,
            Statistics=["Maximum"],
        )
        by_time = sorted(found["Datapoints"], key=lambda each: each["Timestamp"])
        return [(each["Maximum"], each["Unit"]) for each in by_time]

    of_run = {"Name": "JobName", "Value": "fine"}
    machine = {"Name": "InstanceType", "Value": "g5.xlarge"}
    assert points("TrainingJobCost", of_run, machine) == [(0.42, "None"), (0.42, "None"), (0.5, "None")]
    assert points("Loss", of_run) == [(1.9, "None"), (1.6, "None")]
    assert points("Goodput", of_run)[0] == (90.0, "Percent")


def test_an_aws_that_is_away_neither_holds_up_nor_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}.items():
        monkeypatch.setenv(name, value)
    metrics = Metrics(NAMESPACE)
    datum = Datum("Loss", 1.0, "None", T0)

    with pytest.raises(Unavailable, match="CloudWatch cannot be reached: EndpointConnectionError"):
        metrics.send([datum])
    metrics.put(datum)
    metrics.close(30)


def test_an_answer_that_says_no_is_said_by_its_code_alone(at_moto: str) -> None:
    """A number that is none fails the whole call, which is why `put` leaves it out."""
    refused = Metrics(NAMESPACE)

    with pytest.raises(Unavailable) as error:
        refused.send([Datum("Loss", float("nan"), "None", T0)])
    assert error.value.message == "CloudWatch said InvalidParameterValue"


def test_one_call_has_at_most_a_thousand_metrics_and_a_megabyte() -> None:
    small = [Datum("Loss", float(i), "None", T0, {"JobName": "fine"}) for i in range(2001)]
    large = [Datum("Loss", float(i), "None", T0, {f"name{n}": "x" * 1000 for n in range(30)}) for i in range(50)]

    assert [len(each) for each in batches(small)] == [1000, 1000, 1]
    cut = list(batches(large))
    assert [each for batch in cut for each in batch] == large
    assert all(sum(each.size_bytes for each in batch) <= MOST_BYTES for batch in cut)
    assert len(cut) > 1


def test_without_boto3_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)

    with pytest.raises(InvalidInput, match="metrics for CloudWatch need boto3"):
        trackers(run_of(cloudwatch=True), here=Path(), nodes=[], from_step=0)
