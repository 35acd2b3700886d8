"""Checkpoints behind training: a copy of the state is taken, and a thread writes it while training goes on.

The three moments at which training may wait: `begin` (the copy, unless it is overlapped), `before_update` (for an
overlapped copy that is not done when weights are about to change), `finish` (until all is durable; at the end, or
before the machine is gone). Each process writes its share; process 0 waits for all, then commits.
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from stoker.base import logs
from stoker.base.clock import Clock
from stoker.base.errors import StokerError, TimedOut
from stoker.registry.heads import Keep
from stoker.registry.manifests import Manifest, name_of
from stoker.registry.runs import Fenced, Lease, RunStore
from stoker.registry.shards import PieceRecord, ShardRecord
from stoker.train.state import Staging
from stoker.train.world import Board, World

_BEHIND_S = 10.0
"""How long a commit waits for what is kept with it: what a checkpoint holds, the record tells, unless only the record
cannot be written."""

_NICENESS = 10

_log = logs.get(__name__)


WAIT_S = 1.0


def _give_way() -> None:
    """This thread, and those that it starts, have a core when training does not want it. On Linux a thread has a
    niceness of its own; elsewhere it is the process's."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


@dataclass(frozen=True)
class Saved:
    """What came of a save. `error` None: HEAD names it. `stall_s`: training waited."""

    name: str
    step: int
    why: str
    stall_s: float
    seconds: float
    size_bytes: int
    error: str | None = None


@dataclass
class _Job:
    name: str
    step: int
    why: str
    state: Mapping[str, Any]
    loss: float | None
    timeout_s: float
    begun_at: float
    stall_s: float = 0.0


class Saver:
    """One for each process; the same calls in the same order on all. `lease` is process 0's, None elsewhere."""

    def __init__(
        self,
        world: World,
        store: RunStore,
        run: str,
        epoch: int,
        lease: Lease | None,
        staging: Staging,
        *,
        mode: str,
        keep: Keep,
        parent: str | None,
        clock: Clock,
        behind: Callable[[], None] = lambda: None,
    ) -> None:
        """`parent`: the checkpoint that the run goes on from, which those that were skipped give way to. `behind` is
        called in a thread while a save is written, and once more after it: for what else is to be kept with it."""
        self._world, self._store, self._run, self._epoch = world, store, run, epoch
        self._staging, self._mode, self._keep, self._clock = staging, mode, keep, clock
        self._lease, self._behind = lease, behind
        self._board = world.board()
        self._attempt = 0
        self._newest = parent
        self._said: list[str] = []
        self.waiting: Callable[[], None] = lambda: None
        """Called every so often while training waits for a save."""
        self._copying: threading.Thread | None = None
        self._writing: threading.Thread | None = None
        self._copied = threading.Event()
        self._job: _Job | None = None
        self._ended: list[tuple[_Job, float, int, str | None]] = []
        self._fenced = threading.Event()
        self.last_seconds = 0.0
        """How long the last one took, until HEAD named it; 0 before the first."""

    @property
    def is_busy(self) -> bool:
        """Whether the last one is not durable yet, here."""
        return self._writing is not None and self._writing.is_alive()

    @property
    def is_fenced(self) -> bool:
        """Whether another writer has taken over."""
        return self._fenced.is_set()

    def begin(
        self, step: int, state: Mapping[str, Any], *, why: str, loss: float | None = None, timeout_s: float = 3600.0
    ) -> None:
        """After step `step`. What is still being written is waited for first. `timeout_s`: by when it is durable."""
        begun_at = self._clock.monotonic()
        self._wait_for_writer(timeout_s)
        self._attempt += 1
        name = name_of(step, self._epoch, self._attempt)
        self._job = job = _Job(name, step, why, state, loss, timeout_s, begun_at)
        self._copied.clear()
        self._staging.mark()
        if self._mode == "overlapped":
            self._copying = threading.Thread(target=self._copy, name="snapshot", daemon=True)
            self._copying.start()
        else:
            self._copy()
        self._writing = threading.Thread(target=self._write, args=(job,), name="checkpoint", daemon=True)
        self._writing.start()
        if self._mode == "sync":
            self._wait_for_writer(timeout_s)
        job.stall_s += self._clock.monotonic() - begun_at

    def before_update(self) -> float:
        """Weights are about to change; the seconds that this waited."""
        if self._copying is None:
            return 0.0
        begun_at = self._clock.monotonic()
        self._copying.join()
        self._copying = None
        waited = self._clock.monotonic() - begun_at
        if self._job is not None:
            self._job.stall_s += waited
        return waited

    def finish(self, timeout_s: float) -> None:
        """Until the last save is durable, or has failed. Raises TimedOut."""
        self.before_update()
        begun_at = self._clock.monotonic()
        self._wait_for_writer(timeout_s)
        if self._job is not None:
            self._job.stall_s += self._clock.monotonic() - begun_at

    def results(self) -> list[Saved]:
        """Of the saves that ended since the last call; process 0 knows the size of all of it."""
        ended, self._ended = self._ended, []
        return [
            Saved(job.name, job.step, job.why, job.stall_s, seconds, size, error) for job, seconds, size, error in ended
        ]

    # --- in their threads -------------------------------------------------------------------------------------------

    def _copy(self) -> None:
        self._staging.copy()
        self._copied.set()

    def _wait_for_writer(self, timeout_s: float) -> None:
        if self._writing is None:
            return
        ends_at = self._clock.monotonic() + timeout_s
        while self._writing.is_alive():
            left_s = ends_at - self._clock.monotonic()
            if left_s <= 0:
                raise TimedOut(f"a checkpoint was not durable within {timeout_s:g} s")
            self._writing.join(min(left_s, WAIT_S))
            self.waiting()
        self._writing = None

    def _write(self, job: _Job) -> None:
        _give_way()
        self._copied.wait()
        size, error = 0, None
        try:
            size = self._write_and_commit(job)
        except Fenced:
            self._fenced.set()
            error = "another launch of this run has taken over"
        except (StokerError, OSError) as exc:
            error = str(exc)
            _log.error("checkpoint_failed", name=job.name, why=error)
        seconds = self.last_seconds = self._clock.monotonic() - job.begun_at
        self._ended.append((job, seconds, size, error))
        self._behind()

    def _write_and_commit(self, job: _Job) -> int:
        rank, size = self._world.rank, self._world.size
        behind = threading.Thread(target=self._behind, name="record", daemon=True)
        behind.start()
        key = f"shard-{rank:05d}.safetensors"
        try:
            shard = self._store.write(job.name, key, self._staging.pieces(), timeout_s=job.timeout_s)
            self._board.put(f"{job.name}/{rank}", json.dumps({"shard": asdict(shard)}))
        except (StokerError, OSError) as exc:
            self._board.put(f"{job.name}/{rank}", json.dumps({"error": str(exc)}))
            raise
        if rank == 0:
            try:
                behind.join(_BEHIND_S)
                shards = _shards_of(self._board, job.name, size, job.timeout_s)
                self._commit(job, shards)
            except (StokerError, OSError) as exc:
                self._board.put(f"{job.name}/committed", str(exc) or type(exc).__name__)
                raise
            self._board.put(f"{job.name}/committed", "")
            # All have read what was said of the one before, or this one would not be whole.
            self._board.forget(self._said)
            self._said = [f"{job.name}/{each}" for each in (*range(size), "committed")]
            return sum(each.size_bytes for each in shards)
        (said,) = self._board.wait([f"{job.name}/committed"], job.timeout_s)
        if said:
            raise TimedOut(said)
        return shard.size_bytes

    def _commit(self, job: _Job, shards: tuple[ShardRecord, ...]) -> None:
        assert self._lease is not None  # noqa: S101 - process 0 has it
        manifest = Manifest(
            run=self._run,
            name=job.name,
            step=job.step,
            epoch=self._epoch,
            created_at=self._clock.now(),
            shards=shards,
            state=job.state,
            parent=self._newest,
        )
        self._lease = self._store.commit(self._lease, manifest, self._keep, loss=job.loss, timeout_s=job.timeout_s)
        self._newest = job.name
        try:
            self._store.collect(self._lease)
        except Fenced:
            raise
        except StokerError as exc:  # it is durable; what is left over is collected the next time
            _log.warning("checkpoints_not_collected", why=str(exc))


def _shards_of(board: Board, name: str, size: int, timeout_s: float) -> tuple[ShardRecord, ...]:
    """Raises TimedOut when a process says nothing, or that it failed."""
    shards = []
    for rank, word in enumerate(board.wait([f"{name}/{rank}" for rank in range(size)], timeout_s)):
        said = json.loads(word)
        if "error" in said:
            raise TimedOut(f"process {rank} could not write its part: {said['error']}")
        shards.append(_shard(said["shard"]))
    return tuple(shards)


def _shard(said: Mapping[str, Any]) -> ShardRecord:
    pieces = tuple(
        replace(PieceRecord(**piece), shape=tuple(piece["shape"]), whole=tuple(piece["whole"]), at=tuple(piece["at"]))
        for piece in said["pieces"]
    )
    return ShardRecord(said["key"], said["size_bytes"], tuple(said["chunks"]), pieces)
