"""The saver, over a folder: which checkpoints are kept, and that weights change only when they are copied."""

import threading
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from stoker.base.clock import SystemClock  # noqa: E402
from stoker.registry.folders import FolderStore  # noqa: E402
from stoker.registry.heads import Keep  # noqa: E402
from stoker.registry.runs import RunStore  # noqa: E402
from stoker.train.saving import Saver  # noqa: E402
from stoker.train.state import Held, Staging, restore  # noqa: E402
from stoker.train.world import World  # noqa: E402

pytestmark = pytest.mark.torch


class HeldUp(Staging):
    """Copies when the gate is open."""

    def __init__(self, tensors: list[Held]) -> None:
        super().__init__(tensors)
        self.gate = threading.Event()

    def copy(self) -> None:
        assert self.gate.wait(60)
        super().copy()


def held_of(tensor: Any) -> list[Held]:
    return [Held("model/weight", tensor, tuple(tensor.shape), (0,) * tensor.ndim)]


def saver_of(store: RunStore, staging: Staging, *, keep: Keep, mode: str = "overlapped") -> Saver:
    lease = store.claim()
    return Saver(
        World({}, gpus=0),
        store,
        store.run,
        lease.epoch,
        lease,
        staging,
        mode=mode,
        keep=keep,
        parent=None,
        clock=SystemClock(),
    )


def test_the_best_by_validation_loss_is_kept_beside_the_newest(tmp_path: Path) -> None:
    """One that was not validated is never the best."""
    store = RunStore(FolderStore(tmp_path), "tiny")
    saver = saver_of(store, Staging(held_of(torch.zeros(2))), keep=Keep(last=1, every=None, best=1), mode="sync")

    for step, loss in enumerate([0.75, 0.5, None, 0.625], 1):
        saver.begin(step, {}, why="interval", loss=loss, timeout_s=60.0)

    head = store.head()
    assert head is not None
    assert [(entry.step, entry.loss) for entry in head[0].entries] == [(2, 0.5), (4, 0.625)]


def test_weights_change_only_when_the_copy_of_them_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate before the copy is opened by who waits for it; an update that does not wait comes before the copy."""
    weights = torch.tensor([1.0, 2.0, 3.0])
    tensors = held_of(weights)
    store, staging = RunStore(FolderStore(tmp_path), "tiny"), HeldUp(tensors)
    saver = saver_of(store, staging, keep=Keep(1, None, 0))
    saver.begin(1, {}, why="interval", timeout_s=60.0)
    (copying,) = [thread for thread in threading.enumerate() if thread.name == "snapshot"]
    wait = copying.join

    def let_it_copy(timeout: float | None = None) -> None:
        staging.gate.set()
        wait(timeout)

    monkeypatch.setattr(copying, "join", let_it_copy)

    saver.before_update()
    weights += 10.0
    staging.gate.set()
    saver.finish(60.0)

    assert [saved.error for saved in saver.results()] == [None]
    manifest, _ = store.newest_whole(lambda manifest: restore(store, manifest, tensors))
    assert manifest is not None
    assert weights.tolist() == [1.0, 2.0, 3.0]
