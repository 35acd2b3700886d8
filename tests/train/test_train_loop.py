"""The loop, in this process, over a model of two weights: what each step draws, changes, and waits for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_builders import a_run, a_source, chat

torch = pytest.importorskip("torch")

from stoker.registry.folders import FolderStore  # noqa: E402
from stoker.registry.heads import Keep  # noqa: E402
from stoker.registry.runs import RunStore  # noqa: E402
from stoker.spec import Run  # noqa: E402
from stoker.testing import ManualClock  # noqa: E402
from stoker.train import exits, record  # noqa: E402
from stoker.train.gradients import Alone  # noqa: E402
from stoker.train.interruption import Interruption, Why, Wish  # noqa: E402
from stoker.train.interval import Interval  # noqa: E402
from stoker.train.loop import Loop, Parts, derived  # noqa: E402
from stoker.train.optimizer import Adam  # noqa: E402
from stoker.train.record import Writer, summary  # noqa: E402
from stoker.train.saving import Saver  # noqa: E402
from stoker.train.state import held, restore, staging_of  # noqa: E402
from stoker.train.world import World  # noqa: E402

pytestmark = pytest.mark.torch

NOW = 1_700_000_000.0
"""By both clocks: where `ManualClock` begins."""


class Told(Interruption):
    """Wishes for what the test says, and ends no process."""

    told: Why | None = None

    @property
    def why(self) -> Why | None:
        return self.told

    def nothing_unsaved(self, is_so: bool) -> None:
        pass


class Timed(Saver):
    """Keeps how long it was given."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.given: list[tuple[str, float]] = []

    def begin(self, *arguments: Any, timeout_s: float = 0.0, **named: Any) -> None:
        self.given.append(("begin", timeout_s))
        super().begin(*arguments, timeout_s=timeout_s, **named)

    def finish(self, timeout_s: float) -> None:
        self.given.append(("finish", timeout_s))
        super().finish(timeout_s)


def flat(module: Any, rows: Any) -> Any:
    """A loss whose gradient is the same everywhere."""
    return module.weight.sum()


class Small:
    """A run of three steps with two passes each; its validation data, where it is asked for, is the same."""

    def __init__(self, folder: Path, loss: Callable[..., Any] = flat, *, is_random: bool = False, **keys: Any) -> None:
        keys = {
            "seed": 5,
            "batch": {"rows": 2, "microRows": 1},
            "dataset": {"packing": False, "maxLength": 64, "workers": 0},
            "optimizer": {"warmup": 0.0, "schedule": "constant", "learningRate": 0.5, "clip": 0.0},
            **keys,
        }
        self.run: Run = a_run(**keys)
        source = a_source(folder, [chat(f"What is {number}?", "It is.") for number in range(6)], **keys)
        self.files = FolderStore(folder / "run")
        self.store = RunStore(self.files, self.run.name)
        self.clock, self.world = ManualClock(), World({}, gpus=0)
        self.module = torch.nn.Linear(2, 1, bias=False)
        torch.nn.init.ones_(self.module.weight)
        parameters = dict(self.module.named_parameters())
        adam = Adam(self.run.optimizer, parameters)
        self.tensors = held(parameters, adam)
        lease = self.store.claim()
        self.record = Writer(self.files, lease.epoch)
        self.interruption = Told(self.run.spot, environ={}, clock=self.clock, tell=lambda text: None, is_watcher=False)
        self.saver = Timed(
            self.world,
            self.store,
            self.run.name,
            lease.epoch,
            lease,
            staging_of(self.tensors),
            mode=self.run.checkpointing.mode,
            keep=Keep(3, None, 0),
            parent=None,
            clock=self.clock,
        )
        self.parts = Parts(
            run=self.run,
            world=self.world,
            module=self.module,
            loss=loss,
            adam=adam,
            gradients=Alone(list(parameters.values())),
            source=source,
            validation=None if self.run.validation is None else source,
            saver=self.saver,
            record=self.record,
            interruption=self.interruption,
            clock=self.clock,
            interval=Interval(self.run.checkpointing, interruptions_per_hour=0.0, clock=self.clock, step=0),
            is_random=is_random,
        )

    def go(self, step: int = 0) -> tuple[int, str]:
        ended = Loop(self.parts, step=step, tokens=0).run()
        self.record.close()
        return ended

    @property
    def weights(self) -> list[float]:
        found: list[float] = self.module.weight.detach().flatten().tolist()
        return found


# --- what a pass draws ------------------------------------------------------------------------------------------------


def drawn(folder: Path, *, begin: int = 0) -> list[float]:
    folder.mkdir()
    found = []

    def loss(module: Any, rows: Any) -> Any:
        found.append(float(torch.rand(())))
        return flat(module, rows)

    assert Small(folder, loss, is_random=True).go(begin) == (exits.COMPLETED, "3 steps")
    return found


def test_each_pass_of_each_step_draws_numbers_of_its_own_and_the_same_when_it_is_done_again(tmp_path: Path) -> None:
    def first_of(seed: int) -> float:
        return float(torch.rand((), generator=torch.Generator().manual_seed(seed)))

    found = drawn(tmp_path / "whole")

    assert found == [first_of(derived(5, step, number)) for step in range(3) for number in range(2)]
    assert len(set(found)) == 6
    assert drawn(tmp_path / "again", begin=1) == found[2:]


# --- how long it waits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deadline", "patience_s"),
    [(NOW + 40.0, 40.0), (NOW + 1.5, 1.5), (NOW + 0.5, 1.0), (NOW - 60.0, 1.0), (None, 30.0)],
)
def test_a_save_under_a_notice_has_what_is_left_until_its_deadline(
    tmp_path: Path, deadline: float | None, patience_s: float
) -> None:
    """A second at least; where nobody said when, `spot.graceSeconds`."""
    small = Small(tmp_path, spot={"graceSeconds": 30.0})
    small.interruption.told = Why(Wish.STOP, "spot notice: terminate", deadline, NOW)

    assert small.go() == (exits.PREEMPTED, "spot notice: terminate")

    assert small.saver.given == [("begin", patience_s), ("finish", patience_s)]


def test_a_save_that_nobody_waits_for_has_half_an_hour(tmp_path: Path) -> None:
    small = Small(tmp_path, checkpointing={"everySteps": 2})
    small.interruption.told = Why(Wish.SAVE, "rebalance recommended", NOW + 40.0, NOW)

    assert small.go() == (exits.COMPLETED, "3 steps")

    assert set(small.saver.given) == {("begin", 1800.0), ("finish", 1800.0)}


# --- what is kept with a checkpoint -----------------------------------------------------------------------------------


def test_a_checkpoint_has_the_loss_of_the_validation_before_it_or_none(tmp_path: Path) -> None:
    """Two weights of 1.0, 0.5 and 0.0 after each step of Adam; six passes over 6 examples."""
    small = Small(tmp_path, checkpointing={"everySteps": 1, "mode": "sync"}, validation="data.jsonl", validateEvery=2)
    weight = sum(small.parts.source.step(number).weight for number in range(3))

    assert small.go() == (exits.COMPLETED, "3 steps")

    head = small.store.head()
    assert head is not None
    assert [entry.step for entry in head[0].entries] == [1, 2, 3]
    first, *validated = [entry.loss for entry in head[0].entries]
    assert first is None
    assert validated == pytest.approx([0.0, 6 * -1.0 / weight], abs=1e-6)
    said = [each["loss"] for each in record.read(small.files) if each["kind"] == "validate"]
    assert validated == said


# --- numbers that are none --------------------------------------------------------------------------------------------


def times(value: float) -> Callable[[Any], Any]:
    return lambda weight: weight.sum() * value


def root_of_nothing(weight: Any) -> Any:
    """0, in a place where the gradient of it is no number."""
    return (weight * 0.0).sqrt().sum()


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (times(float("nan")), "the loss is nan, the norm of the gradient nan"),
        (times(float("-inf")), "the loss is -inf, the norm of the gradient inf"),
        (root_of_nothing, "the loss is 0.0, the norm of the gradient nan"),
    ],
)
def test_a_step_that_comes_to_no_number_changes_nothing_and_ends_the_run(
    tmp_path: Path, spoiled: Callable[[Any], Any], said: str
) -> None:
    """In the second of three steps. Adam's first is as long as the learning rate: from 1 to 0.5."""
    passes = []

    def loss(module: Any, rows: Any) -> Any:
        passes.append(rows)
        return flat(module, rows) if len(passes) <= 2 else spoiled(module.weight)

    small = Small(tmp_path, loss, checkpointing={"everySteps": 1})
    code, why = small.go()

    assert (code, why.split(";")[0]) == (exits.DIVERGED, f"step 2: {said}")
    assert len(passes) == 4
    assert small.weights == pytest.approx([0.5, 0.5], abs=1e-6)
    kept = small.weights
    torch.nn.init.zeros_(small.module.weight)
    told = record.read(small.files)
    assert list(summary(told, now=NOW).losses) == [1]
    assert [each["step"] for each in told if each["kind"] == "save"] == [1], "what was being written is waited for"
    manifest, skipped = small.store.newest_whole(lambda manifest: restore(small.store, manifest, small.tensors))
    assert (manifest is not None and manifest.step, skipped) == (1, [])
    assert small.weights == kept
