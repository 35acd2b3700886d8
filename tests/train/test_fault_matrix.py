"""The fault matrix of training (docs/training/faults.md): whatever happens, a run never goes on from a wrong state.

Killed processes are in test_kill_points.py, damage to single objects by the thousand in tests/registry. Each story here
ends with the same outcome as a run that nothing happened to, unless it says that the run has to stop.
"""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from training_parts import Gang, Outcome, come_to, outcome, store_of, write_data, write_run

from stoker.registry.runs import RunStore
from stoker.train import exits

pytestmark = pytest.mark.torch

TERM = signal.SIGTERM


@pytest.fixture(scope="module")
def gang(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gang]:
    with Gang(tmp_path_factory.mktemp("gang") / "log") as running:
        yield running


class Story:
    """A run of some kind, what it comes to in the calm (made once), and a state for each test."""

    def __init__(self, gang: Gang, folder: Path, **settings: Any) -> None:
        self.gang, self.folder = gang, folder
        write_data(folder)
        write_data(folder / "held", lines=8, seed=2)
        settings = {"validation": "held/data.jsonl", "validateEvery": 5, "epochs": 1, **settings}
        self.run_file = write_run(folder, **settings)
        self._calm: dict[int, Outcome] = {}

    def calm(self, world: int = 1) -> Outcome:
        if world not in self._calm:
            state = self.folder / f"calm-{world}"
            assert self.gang.launch(self.run_file, state, world=world) == [0] * world
            self._calm[world] = outcome(state)
        return self._calm[world]

    def goes_on(self, state: Path, world: int = 1) -> None:
        assert self.gang.launch(self.run_file, state, world=world) == [0] * world, self.gang.said()
        assert outcome(state) == self.calm(world)


@pytest.fixture(scope="module")
def full(gang: Gang, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(gang, tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def lora(gang: Gang, tmp_path_factory: pytest.TempPathFactory) -> Story:
    checkpointing = {"everySteps": 3, "mode": "async"}
    settings = {"base": "embedded", "method": "lora", "lora": {"rank": 2, "dropout": 0.1}, "steps": 8}
    return Story(gang, tmp_path_factory.mktemp("lora"), checkpointing=checkpointing, **settings)


# --- told to stop -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "nth"), [("pass", 14), ("validate", 1), ("snapshot", 1), ("shard", 1), ("manifest", 1)]
)
def test_told_to_stop_at_any_moment_it_saves_and_says_so(full: Story, tmp_path: Path, moment: str, nth: int) -> None:
    assert full.gang.launch(full.run_file, tmp_path, send=(0, moment, nth, TERM)) == [exits.PREEMPTED]
    said = come_to(tmp_path)
    assert said.state == "preempted"
    assert said.lost_steps == 0
    assert len([save for save in said.saves if save.why == "preempted"]) <= 1
    full.goes_on(tmp_path)
    assert come_to(tmp_path).lost_steps == 0


def test_told_before_the_first_step_it_ends_at_once(full: Story, tmp_path: Path) -> None:
    """There is nothing to save, and reading data or compiling may take longer than there is time."""
    assert full.gang.launch(full.run_file, tmp_path, send=(0, "restore", 1, TERM)) == [exits.PREEMPTED]
    full.goes_on(tmp_path)


def test_told_twice_it_saves_once(full: Story, tmp_path: Path) -> None:
    codes = full.gang.launch(full.run_file, tmp_path, send=(0, "pass", 14, TERM), again=(0, "shard", 2, TERM))
    assert codes == [exits.PREEMPTED]
    assert [save.why for save in come_to(tmp_path).saves] == ["interval", "preempted"]
    full.goes_on(tmp_path)


def test_one_of_two_is_told_and_both_stop_at_the_same_step(full: Story, tmp_path: Path) -> None:
    assert full.gang.launch(full.run_file, tmp_path, world=2, send=(1, "pass", 8, TERM)) == [exits.PREEMPTED] * 2
    assert come_to(tmp_path).lost_steps == 0
    full.goes_on(tmp_path, world=2)


def test_told_in_the_middle_of_the_first_step_nobody_ends_alone(full: Story, tmp_path: Path) -> None:
    """The other one has done the step by then."""
    assert full.gang.launch(full.run_file, tmp_path, world=2, send=(1, "update", 1, TERM)) == [exits.PREEMPTED] * 2
    said = come_to(tmp_path)
    assert (said.state, said.lost_steps) == ("preempted", 0)
    full.goes_on(tmp_path, world=2)


@pytest.mark.parametrize("is_told", [True, False])
def test_whoever_finds_the_others_gone_was_interrupted_if_it_was_told_to_stop(
    full: Story, tmp_path: Path, is_told: bool
) -> None:
    """They were told, too, and were faster. In the third step; each has two passes."""
    send = (0, "pass", 5, TERM) if is_told else None
    codes = full.gang.launch(full.run_file, tmp_path, world=2, fault="the others are gone", send=send)
    assert codes == [exits.PREEMPTED if is_told else exits.FAILED, exits.FAILED]
    assert come_to(tmp_path).state == ("preempted" if is_told else "failed")
    full.goes_on(tmp_path, world=2)


def test_lora_saved_asynchronously_is_no_different(lora: Story, tmp_path: Path) -> None:
    assert lora.gang.launch(lora.run_file, tmp_path, send=(0, "pass", 18, TERM)) == [exits.PREEMPTED]
    assert min(lora.gang.launch(lora.run_file, tmp_path, kill=(0, "shard", 1))) < 0
    lora.goes_on(tmp_path)


# --- what was kept is damaged -----------------------------------------------------------------------------------------


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 8]) + data[middle + 1 :]


DAMAGE: dict[str, Callable[[Path, Path], None]] = {
    # the newest checkpoint's folder, and the one before it
    "a bit": lambda new, old: (new / SHARD).write_bytes(flip((new / SHARD).read_bytes())),
    "cut off": lambda new, old: (new / SHARD).write_bytes((new / SHARD).read_bytes()[:-100]),
    "nothing left": lambda new, old: (new / SHARD).write_bytes(b""),
    "of another step": lambda new, old: (new / SHARD).write_bytes((old / SHARD).read_bytes()),
    "missing": lambda new, old: (new / SHARD).unlink(),
    "a manifest of another step": lambda new, old: (new / MANIFEST).write_bytes((old / MANIFEST).read_bytes()),
    "a manifest that is none": lambda new, old: (new / MANIFEST).write_bytes(b'{"format":'),
}
SHARD, MANIFEST = "shard-00000.safetensors", "manifest.json"


@pytest.fixture(scope="module")
def half_done(full: Story, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints."""
    state = tmp_path_factory.mktemp("half")
    in_step = full.folder / "sync.yaml"
    said = json.loads(full.run_file.read_text())
    in_step.write_text(json.dumps({**said, "checkpointing": {"everySteps": 3, "mode": "sync"}}))
    assert min(full.gang.launch(in_step, state, kill=(0, "update", 7))) < 0
    assert steps_in_head(state) == [3, 6]
    return state


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(
    full: Story, half_done: Path, tmp_path: Path, damage: str
) -> None:
    copy_tree(half_done, tmp_path)
    old, new = sorted((tmp_path / "runs" / "tiny" / "checkpoints").iterdir())
    DAMAGE[damage](new, old)
    full.goes_on(tmp_path)
    (resumed,) = [each for each in records(tmp_path) if each["kind"] == "resume"]
    assert resumed["step"] == 3
    assert [each["name"] for each in resumed["skipped"]] == [new.name]
    assert resumed["skipped"][0]["why"]


def test_when_none_is_whole_it_stops_and_overwrites_nothing(full: Story, half_done: Path, tmp_path: Path) -> None:
    copy_tree(half_done, tmp_path)
    for folder in (tmp_path / "runs" / "tiny" / "checkpoints").iterdir():
        (folder / SHARD).write_bytes(b"")
    assert full.gang.launch(full.run_file, tmp_path) == [exits.FAILED]
    assert "none of the 2 checkpoints of this run is whole" in full.gang.said()
    assert len(list((tmp_path / "runs" / "tiny" / "checkpoints").iterdir())) == 2


def test_a_head_that_is_damaged_is_read_from_its_copy(full: Story, half_done: Path, tmp_path: Path) -> None:
    copy_tree(half_done, tmp_path)
    head = tmp_path / "runs" / "tiny" / "HEAD"
    head.write_bytes(flip(head.read_bytes()))
    full.goes_on(tmp_path)


# --- the place of checkpoints -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["no space", "no fsync", "read-only"])
def test_a_save_that_fails_is_told_and_training_goes_on(full: Story, tmp_path: Path, fault: str) -> None:
    """The first save fails; the next one is kept."""
    assert full.gang.launch(full.run_file, tmp_path, fault=fault) == [0]
    failed = [each for each in records(tmp_path) if each["kind"] == "save_failed"]
    assert [each["step"] for each in failed] == [3]
    assert "was not kept" in full.gang.said()
    assert outcome(tmp_path) == full.calm()


def test_without_memory_for_a_copy_training_waits_and_is_the_same(full: Story, tmp_path: Path) -> None:
    assert full.gang.launch(full.run_file, tmp_path, fault="no memory") == [0]
    assert "no memory for a copy" in full.gang.said()
    assert outcome(tmp_path) == full.calm()


# --- two at once, and numbers that are none ---------------------------------------------------------------------------


def test_who_is_taken_over_writes_nothing_more_and_says_so(full: Story, tmp_path: Path) -> None:
    """Another launch claims the run right before this one's second checkpoint."""
    assert full.gang.launch(full.run_file, tmp_path, fault="a twin") == [exits.FENCED]
    assert steps_in_head(tmp_path) == [3]
    full.goes_on(tmp_path)


def test_a_loss_that_is_no_number_is_never_kept(gang: Gang, tmp_path: Path) -> None:
    write_data(tmp_path)
    optimizer = {"learningRate": 1e9, "warmup": 0.0, "clip": 0.0}
    run_file = write_run(tmp_path, optimizer=optimizer, checkpointing={"everySteps": 1})
    assert gang.launch(run_file, tmp_path / "s") == [exits.DIVERGED]
    said = come_to(tmp_path / "s")
    assert said.state == "failed"
    assert all(loss == loss and abs(loss) != float("inf") for loss in said.losses.values())
    assert "nothing of this step was kept" in gang.said()
    assert gang.launch(run_file, tmp_path / "s") == [exits.DIVERGED]


# --- small things -----------------------------------------------------------------------------------------------------


def steps_in_head(state: Path) -> list[int]:
    head = RunStore(store_of(state), "tiny").head()
    assert head is not None
    return [entry.step for entry in head[0].entries]


def copy_tree(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        copied = target / path.relative_to(source)
        if path.is_dir():
            copied.mkdir(parents=True, exist_ok=True)
        else:
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(path.read_bytes())


def records(state: Path) -> list[dict[str, Any]]:
    folder = state / "runs" / "tiny" / "record"
    return [json.loads(line) for path in sorted(folder.iterdir()) for line in path.read_text().splitlines()]
