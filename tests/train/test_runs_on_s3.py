"""Runs whose checkpoints and record are in S3, and what S3 and networks do on bad days: the rows of the fault matrix
that a folder cannot have. moto's server answers, through a proxy that makes the faults.

What each call does about each fault is in tests/registry/test_s3_faults.py; here it is what the run comes to.
"""

import itertools
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pytest
from training_parts import Gang, Outcome, outcome, outcome_in, write_data, write_run

from stoker.registry.runs import RunStore
from stoker.registry.stores import Store, open_store
from stoker.testing.aws import CREDENTIALS, moto_server
from stoker.testing.s3_faults import Fault, Kind, S3Faults
from stoker.train import exits, record
from stoker.train.record import Summary, summary

pytestmark = pytest.mark.torch

BUCKET = "runs"
PATIENCE_S = 120.0
_numbers = itertools.count()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Faults]:
    """Before moto's server with one bucket; and boto3 of this process and of those that it starts finds it there."""
    folder = tmp_path_factory.mktemp("moto")
    with moto_server(folder / "log") as url, S3Faults(url) as faults, pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", faults.url)
        patch.setenv("AWS_CONFIG_FILE", str(folder / "none"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "none"))
        where = (
            b"<CreateBucketConfiguration><LocationConstraint>us-west-2</LocationConstraint></CreateBucketConfiguration>"
        )
        with urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", data=where, method="PUT"), timeout=10):
            yield faults


@pytest.fixture
def faults(proxy: S3Faults) -> Iterator[S3Faults]:
    proxy.clear()
    yield proxy
    proxy.clear()


@pytest.fixture(scope="module")
def gang(proxy: S3Faults, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gang]:
    with Gang(tmp_path_factory.mktemp("gang") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def calm(gang: Gang, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What the run comes to where nothing goes wrong: in a folder, since the place does not matter."""
    folder = tmp_path_factory.mktemp("calm")
    run_file = write_run(folder, epochs=1, data=str(write_data(folder)))
    assert gang.launch(run_file, folder / "s") == [0]
    return outcome(folder / "s")


class OnS3:
    """The same run with its checkpoints in S3, below a prefix of its own."""

    def __init__(self, gang: Gang, folder: Path) -> None:
        self.gang, self.folder = gang, folder
        self.url = f"s3://{BUCKET}/{next(_numbers)}"
        self.run_file = self.kept_in(self.url)
        self._machines = itertools.count()

    def kept_in(self, url: str, *, every: int = 3, mode: str = "overlapped", **more: object) -> Path:
        checkpointing = {"everySteps": every, "keepLast": 9, "mode": mode}
        data = str(write_data(self.folder))
        return write_run(self.folder, epochs=1, data=data, checkpoints=url, checkpointing=checkpointing, **more)

    def every(self, steps: int) -> None:
        self.run_file = self.kept_in(self.url, every=steps)

    @cached_property
    def store(self) -> Store:
        """One, since each has a client of its own, which takes a tenth of a second to make."""
        return open_store(self.url)

    def launch(
        self,
        *,
        world: int = 1,
        kill: tuple[int, str, int] | None = None,
        send: tuple[int, str, int, int] | None = None,
        fault: str | None = None,
    ) -> list[int]:
        """On another machine each time, which knows nothing of the run."""
        state = self.folder / f"machine-{next(self._machines)}"
        return self.gang.launch(self.run_file, state, world=world, kill=kill, send=send, fault=fault)

    def records(self) -> list[dict[str, object]]:
        return record.read(self.store)

    def come_to(self) -> Summary:
        return summary(self.records(), now=0.0)

    def steps_in_head(self) -> list[int]:
        head = RunStore(self.store, "tiny").head()
        assert head is not None
        return [entry.step for entry in head[0].entries]


@pytest.fixture
def on_s3(gang: Gang, faults: S3Faults, tmp_path: Path) -> OnS3:
    return OnS3(gang, tmp_path)


# --- a machine goes, and another one goes on --------------------------------------------------------------------------


def test_killed_and_begun_again_elsewhere_it_is_the_run_that_was_not(on_s3: OnS3, calm: Outcome) -> None:
    for kill in ((0, "update", 5), (0, "shard", 1), (0, "head", 1), (0, "copy", 1)):
        assert min(on_s3.launch(kill=kill)) < 0, kill
    assert on_s3.launch() == [0]
    assert outcome_in(on_s3.store) == calm
    said = on_s3.come_to()
    assert said.state == "completed"
    assert 4 <= said.launches <= 5  # one may have been killed before S3 heard of it


def test_two_processes_write_and_another_number_reads(on_s3: OnS3) -> None:
    assert on_s3.launch(world=2, send=(1, "pass", 8, signal.SIGTERM)) == [exits.PREEMPTED] * 2
    assert on_s3.launch() == [0]
    said = on_s3.come_to()
    assert [each.processes for each in said.lives] == [2, 1]
    assert said.lost_steps == 0
    keys = [each.key for each in on_s3.store.list("checkpoints/")]
    assert any(key.endswith("shard-00001.safetensors") for key in keys)


def test_each_launch_has_its_part_of_the_record(on_s3: OnS3, calm: Outcome) -> None:
    assert on_s3.launch(send=(0, "pass", 14, signal.SIGTERM)) == [exits.PREEMPTED]
    assert on_s3.launch() == [0]
    assert [each.key for each in on_s3.store.list("record/")] == [
        "record/e0001-0001.jsonl",
        "record/e0002-0001.jsonl",
    ]
    steps = [each["step"] for each in on_s3.records() if each["kind"] == "step"]
    assert steps == list(range(1, len(calm.losses) + 1))


# --- S3 does not answer as it should, and what is tried again succeeds ------------------------------------------------

PASSING = {
    "not now": [
        Fault("status", "PUT", "s00000003-e0001-1/shard-00000", times=2),
        Fault("status", "PUT", "s00000003-e0001-1/manifest.json", status=500, code="InternalError"),
        Fault("status", "PUT", "/HEAD", skip=2, status=409, code="ConditionalRequestConflict"),
        Fault("status", "GET", query="list-type", times=2),
    ],
    "a condition that nobody has broken": [
        Fault("status", "PUT", "/HEAD", skip=2, status=412, code="PreconditionFailed")
    ],
    "lost answers": [
        Fault("lost", "PUT", "/HEAD"),
        Fault("lost", "PUT", "/HEAD", skip=2),
        Fault("lost", "PUT", "manifest.json"),
        Fault("lost", "PUT", "run.yaml"),
    ],
    "a bad line": [
        Fault("reset_request", "PUT", "shard-00000", times=2),
        Fault("slow", key="checkpoints/", times=None, bytes_per_s=400_000),
    ],
}
"""The first write of HEAD and of its copy are the claim's."""


@pytest.mark.parametrize("row", PASSING)
def test_what_passes_changes_nothing(on_s3: OnS3, faults: S3Faults, calm: Outcome, row: str) -> None:
    many = [replace(fault) for fault in PASSING[row]]
    faults.add(*many)
    assert on_s3.launch() == [0], on_s3.gang.said()
    assert not any(fault.times for fault in many), "all of them happened"
    assert outcome_in(on_s3.store) == calm
    assert [each for each in on_s3.records() if each["kind"] == "save_failed"] == []


def test_an_error_within_the_200_of_a_multipart_upload(on_s3: OnS3, faults: S3Faults, calm: Outcome) -> None:
    """A shard has one part here. What measures the place would have two, and S3 takes none so small before the last."""
    on_s3.run_file = on_s3.kept_in(on_s3.url, spot={"guarantee": "off"})
    faults.add(Fault("error_in_200", "POST", "shard-00000", query="uploadId", code="InternalError"))
    assert on_s3.launch(fault="small parts") == [0], on_s3.gang.said()
    assert faults.done == {"error_in_200": 1}
    assert faults.count("POST", "uploadId") >= 4, "three shards, and one twice"
    assert outcome_in(on_s3.store) == calm


@pytest.mark.parametrize("kind", ["reset_answer", "cut"])
def test_a_checkpoint_that_does_not_come_whole_is_read_again(
    on_s3: OnS3, faults: S3Faults, calm: Outcome, kind: Kind
) -> None:
    assert on_s3.launch(send=(0, "pass", 14, signal.SIGTERM)) == [exits.PREEMPTED]
    faults.add(Fault(kind, "GET", "shard-00000", times=2))
    assert on_s3.launch() == [0]
    assert faults.done == {kind: 2}
    assert outcome_in(on_s3.store) == calm


# --- S3 does not answer for long --------------------------------------------------------------------------------------


def test_while_a_save_stalls_training_goes_on_and_says_what_would_be_lost(
    on_s3: OnS3, faults: S3Faults, calm: Outcome
) -> None:
    """The shard of step 3 hangs until all 7 steps are done; then it is written, and so is the end."""
    on_s3.every(1)
    faults.add(Fault("stall", "PUT", "s00000001", times=None))
    log, said_before = on_s3.gang.log, len(on_s3.gang.log.read_text())
    was_warned = threading.Event()

    def let_go_when_it_is_said() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while "no checkpoint has become durable" not in log.read_text()[said_before:]:
            if time.monotonic() > deadline:
                break
            threading.Event().wait(0.02)
        else:
            was_warned.set()
        faults.clear()
        faults.let_go()

    looking = threading.Thread(target=let_go_when_it_is_said)
    looking.start()
    assert on_s3.launch() == [0]
    looking.join()
    assert was_warned.is_set()
    assert on_s3.steps_in_head()[-1] == 7
    assert outcome_in(on_s3.store) == calm


# --- S3 refuses -------------------------------------------------------------------------------------------------------


def test_credentials_that_expire_in_mid_run_stop_saving_not_training(
    on_s3: OnS3, faults: S3Faults, calm: Outcome
) -> None:
    """Training goes on to its end, which cannot be kept, and says so; the last checkpoint stays, and with new
    credentials the run goes on from it."""
    on_s3.run_file = on_s3.kept_in(on_s3.url, mode="sync")  # else the save at 6 is left out while that at 3 lasts
    faults.add(
        *[
            Fault("status", "PUT", key, times=None, status=403, code="ExpiredToken")
            for key in ("s00000006", "s00000007")
        ]
    )
    assert on_s3.launch() == [exits.FAILED]
    said = on_s3.gang.said()
    assert "was not kept" in said
    assert "ExpiredToken" in said
    assert "the last checkpoint could not be written" in said
    assert on_s3.steps_in_head() == [3]
    assert [each["step"] for each in on_s3.records() if each["kind"] == "save_failed"] == [6, 7]
    faults.clear()
    assert on_s3.launch() == [0]
    assert outcome_in(on_s3.store) == calm


@pytest.mark.parametrize("key", ["/HEAD", "shard-00000"])
def test_credentials_that_are_expired_at_a_start_begin_nothing_anew(
    on_s3: OnS3, faults: S3Faults, calm: Outcome, key: str
) -> None:
    assert on_s3.launch(send=(0, "pass", 14, signal.SIGTERM)) == [exits.PREEMPTED]
    before = on_s3.steps_in_head()
    faults.add(Fault("status", "GET", key, times=None, status=403, code="ExpiredToken"))
    assert on_s3.launch() == [exits.ASKED_WRONGLY]
    assert "ExpiredToken" in on_s3.gang.said()
    faults.clear()
    assert on_s3.steps_in_head() == before
    assert on_s3.launch() == [0]
    assert outcome_in(on_s3.store) == calm


def test_a_bucket_that_is_not_there_is_asked_for_wrongly(on_s3: OnS3) -> None:
    on_s3.run_file = on_s3.kept_in("s3://no-such-bucket/runs")
    assert on_s3.launch() == [exits.ASKED_WRONGLY]
    assert "no-such-bucket" in on_s3.gang.said()


def test_a_bucket_of_another_region_is_asked_for_wrongly(on_s3: OnS3, faults: S3Faults) -> None:
    faults.add(Fault("status", times=None, status=301, code="PermanentRedirect"))
    assert on_s3.launch() == [exits.ASKED_WRONGLY]
    assert "region" in on_s3.gang.said()
