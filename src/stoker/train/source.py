"""The data of a run: which rows each step has, and this process's part of them as arrays.

A step's rows are a pure function of (data, seed, step): nothing of it has to be saved but the number of the step.
"""

import bisect
import hashlib
import itertools
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stoker.base.errors import InvalidInput
from stoker.spec import Run
from stoker.train import encoded_cache, packing, reading, transforms
from stoker.train.encoding import Encoder, Rules
from stoker.train.formats import BadLine
from stoker.train.reading import File, Found, Line
from stoker.train.reports import SHOWN, Notes, Report, in_words
from stoker.train.rows import Rows, Samples, nothing_like, rows_of
from stoker.train.transforms import Transform

_VERSION = "rows 1"
"""Another one when other rows come out of the same data."""
_EPOCHS_KEPT = 2
"""The one that is being trained on, and the next, which is prepared while the last steps of it are trained."""


@dataclass(frozen=True)
class Pass:
    """`number` counts the passes of the step, over all processes: randomness inside it is derived from it."""

    number: int
    rows: Rows


@dataclass(frozen=True)
class Step:
    """A process's part of a step. Passes are cut in contiguous blocks: of n in a whole step, process r of w
    has those from r*n//w to (r+1)*n//w, as far as the step has them. `weight`: of all tokens of the step, over all
    processes (of preferences: how many pairs); never 0. `samples`: of the whole step, all processes, in order.
    `passes_at_most`: of any process."""

    number: int
    """From 0."""
    epoch: int
    passes: tuple[Pass, ...]
    weight: float
    tokens: int
    """Of all processes, without padding."""
    samples: tuple[int, ...]
    passes_at_most: int


@dataclass(frozen=True)
class _Epoch:
    """`rows` are of places in `samples`; `indices` says which example each of these is."""

    samples: Samples
    indices: NDArray[np.int64]
    rows: Sequence[tuple[int, ...]]


def _block(run: Run, rank: int, world: int, count: int) -> range:
    """The passes of a process, of the `count` that a step has. Where the cuts are does not depend on that, so that the
    last step of an epoch, which has fewer, is added up as the others are (`gradients.Canonical`)."""
    whole = run.batch.rows // run.batch.micro_rows
    return range(min(rank * whole // world, count), min((rank + 1) * whole // world, count))


class Source:
    """Encoded data. Make it with `open_source`."""

    digest: str
    """sha256 over the data as it was read, and everything that decides what a row is (encoder, rules, seed, packing).
    """
    files_digest: str
    """`reading.digest_of` its files."""
    report: Report
    steps: int
    """Of the whole run."""

    def __init__(
        self,
        run: Run,
        samples_in: Callable[[int], tuple[Samples, NDArray[np.int64]]],
        *,
        digest: str,
        files: Sequence[File],
        report: Report,
        rows_in: Sequence[int],
    ) -> None:
        """`samples_in` of an epoch; `rows_in`: how many rows each of the run's epochs has."""
        self._run = run
        self._samples_in = samples_in
        self.digest = digest
        self.files_digest = reading.digest_of(files)
        self.report = report
        steps = [-(-rows // run.batch.rows) for rows in rows_in]
        self._first = list(itertools.accumulate(steps, initial=0))
        """Number of the first step of each epoch, and of the one after the last."""
        self.steps = self._first[-1] if run.steps is None else min(run.steps, self._first[-1])
        self._epochs: dict[int, Future[_Epoch]] = {}
        self._lock = threading.Lock()

    def step(self, number: int, *, rank: int = 0, world: int = 1) -> Step:
        """Pure. Raises IndexError beyond the last."""
        if not 0 <= number < self.steps:
            raise IndexError(f"step {number} of {self.steps}")
        epoch = bisect.bisect_right(self._first, number) - 1
        data = self._epoch(epoch)
        start = (number - self._first[epoch]) * self._run.batch.rows
        rows = data.rows[start : start + self._run.batch.rows]
        size = self._run.batch.micro_rows
        groups = [rows[at : at + size] for at in range(0, len(rows), size)]
        mine = _block(self._run, rank, world, len(groups))
        most = self._run.dataset.max_length
        passes = tuple(Pass(at, rows_of(data.samples, groups[at], data.indices, most=most)) for at in mine)
        places = [place for row in rows for place in row]
        return Step(
            number=number,
            epoch=epoch,
            passes=passes,
            weight=self._weight(data.samples, places),
            tokens=int(data.samples.lengths[places].sum()),
            samples=tuple(data.indices[places].tolist()),
            passes_at_most=len(mine)
            if world == 1
            else max(len(_block(self._run, each, world, len(groups))) for each in range(world)),
        )

    def following(self, number: int, *, rank: int, world: int) -> Iterator[Step]:
        """Steps from `number` on to the last, prepared ahead by `dataset.workers` threads (0: when asked for). Ends its
        threads when closed. An error in a transform comes out here, with the example's file and line."""
        workers = self._run.dataset.workers
        numbers = iter(range(number, self.steps))
        if not workers:
            for each in numbers:
                yield self.step(each, rank=rank, world=world)
            return
        pool = ThreadPoolExecutor(workers, thread_name_prefix="stoker-data")
        try:
            ahead = deque(
                pool.submit(self.step, each, rank=rank, world=world) for each in itertools.islice(numbers, 2 * workers)
            )
            while ahead:
                step = ahead.popleft().result()
                ahead.extend(
                    pool.submit(self.step, each, rank=rank, world=world) for each in itertools.islice(numbers, 1)
                )
                yield step
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _weight(self, samples: Samples, places: Sequence[int]) -> float:
        if samples.each == 2:
            return float(len(places))
        return float(samples.totals[places].sum())

    def _epoch(self, epoch: int) -> _Epoch:
        """Made once, by the first thread that asks; the others wait for it."""
        with self._lock:
            future = self._epochs.get(epoch)
            is_mine = future is None
            if future is None:
                future = self._epochs[epoch] = Future()
                for old in list(self._epochs)[:-_EPOCHS_KEPT]:
                    del self._epochs[old]
        if is_mine:
            try:
                future.set_result(_epoch_of(self._run, epoch, *self._samples_in(epoch)))
            except BaseException as exc:
                with self._lock:
                    self._epochs.pop(epoch, None)
                future.set_exception(exc)
        return future.result()


def once(run: Run) -> Run:
    """For the validation data: in the order of the file, once."""
    dataset = run.dataset.model_copy(update={"shuffle": False, "transform": None, "workers": 0})
    return run.model_copy(update={"dataset": dataset, "epochs": 1, "steps": None})


def open_source(
    run: Run,
    files: Sequence[str],
    encoder: Encoder,
    *,
    here: Path,
    tell: Callable[[str], None],
    cache: Path | None = None,
) -> Source:
    """Read and encode all of it. `here`: the folder that paths are relative to; s3:// by `registry.stores`. `tell`
    hears what a person should know (bad lines, truncated ones, progress of long reading). Raises InvalidInput with the
    first bad lines when `dataset.bad_lines` is fail, or when nothing is left.

    `cache`: a folder in which what was encoded is kept for the next launch, and shared by the processes of a node."""
    transform = None if run.dataset.transform is None else transforms.load(run.dataset.transform, here)
    read = reading.read_files(files, here)
    digest = _digest(run, read, encoder, transform)
    if transform is None:
        return _plain_source(run, read, encoder, digest, tell, cache)
    return _transformed_source(run, read, encoder, digest, tell, cache, transform)


def _plain_source(
    run: Run, files: Sequence[File], encoder: Encoder, digest: str, tell: Callable[[str], None], cache: Path | None
) -> Source:
    samples, notes = encoded_cache.load(cache, digest), encoded_cache.load_notes(cache, digest)
    if samples is None or notes is None:
        examples = reading.examples_of(files, run.dataset.format, tell)
        found = reading.encoded(examples, encoder, _rules(run), objective=run.objective, fail=_fails(run))
        samples, notes = found.samples, Notes(_report(found, run), ())
        encoded_cache.save(cache, digest, samples)
    everything = samples, np.arange(len(samples), dtype=np.int64)
    for sentence in in_words(notes.report, run.dataset.max_length):
        tell(sentence)
    # Examples in another order fill rows otherwise.
    vary = run.dataset.packing and run.dataset.shuffle
    rows_in = _counts(run, notes.rows_in, lambda epoch: len(_epoch_of(run, epoch, *everything).rows), vary=vary)
    encoded_cache.save_notes(cache, digest, Notes(notes.report, rows_in))
    return Source(run, lambda epoch: everything, digest=digest, files=files, report=notes.report, rows_in=rows_in)


def _transformed_source(
    run: Run,
    files: Sequence[File],
    encoder: Encoder,
    digest: str,
    tell: Callable[[str], None],
    cache: Path | None,
    transform: Transform,
) -> Source:
    """What an example is differs by epoch. So each epoch is encoded when its time comes, and once more before the run,
    to know how many rows it has; that alone is kept for the next launch."""
    lines, bad = _lines(files, _fails(run), tell)

    def found_in(epoch: int) -> Found:
        read = reading.transformed(lines, transform, seed=run.seed, epoch=epoch, format=run.dataset.format)
        return reading.encoded(read, encoder, _rules(run), objective=run.objective, fail=_fails(run))

    def samples_in(epoch: int) -> tuple[Samples, NDArray[np.int64]]:
        found = found_in(epoch)
        return found.samples, found.places

    def rows(epoch: int) -> int:
        if epoch:
            tell(f"transform: counting the rows of epoch {epoch + 1}")
        return len(_epoch_of(run, epoch, *samples_in(epoch)).rows)

    notes = encoded_cache.load_notes(cache, digest)
    if notes is None:
        notes = Notes(_report(found_in(0), run, bad), ())
    for sentence in in_words(notes.report, run.dataset.max_length):
        tell(sentence)
    rows_in = _counts(run, notes.rows_in, rows, vary=True)
    encoded_cache.save_notes(cache, digest, Notes(notes.report, rows_in))
    return Source(run, samples_in, digest=digest, files=files, report=notes.report, rows_in=rows_in)


def _lines(files: Sequence[File], fail: bool, tell: Callable[[str], None]) -> tuple[list[Line], tuple[BadLine, ...]]:
    lines: list[Line] = []
    bad: list[BadLine] = []
    for line, trouble in reading.lines_of_files(files, tell):
        if trouble is None:
            lines.append(line)
        else:
            bad.append(line.bad(trouble))
    if fail and bad:
        raise reading.refusal(bad)
    return lines, tuple(bad)


def _counts(run: Run, known: Sequence[int], rows: Callable[[int], int], *, vary: bool) -> tuple[int, ...]:
    """Rows of each epoch, as far as the run goes."""
    counts: list[int] = []
    steps = 0
    for epoch in range(run.epochs):
        if epoch < len(known):
            counts.append(known[epoch])
        else:
            counts.append(rows(epoch) if vary or not counts else counts[0])
        steps += -(-counts[-1] // run.batch.rows)
        if run.steps is not None and steps >= run.steps:
            break
    return tuple(counts)


def _epoch_of(run: Run, epoch: int, samples: Samples, indices: NDArray[np.int64]) -> _Epoch:
    sequence = packing.order(len(samples), run.seed, epoch, shuffle=run.dataset.shuffle)
    rows = packing.pack(samples.lengths, sequence, run.dataset.max_length, packing=run.dataset.packing)
    return _Epoch(samples, indices, rows)


def _report(found: Found, run: Run, bad: tuple[BadLine, ...] = ()) -> Report:
    """Raises InvalidInput when nothing is left."""
    samples, bad = found.samples, (*bad, *found.bad)
    if not len(samples):
        raise InvalidInput(
            f"nothing of the data can be used; left out: {found.dropped}, bad lines: {len(bad)}"
            + "".join(f"\n  {each.file}:{each.line}: {each.why}" for each in bad[:SHOWN]),
            param="data",
            hint=f"maxLength is {run.dataset.max_length}, tooLong is {run.dataset.too_long}",
        )
    counts = samples.weights > 0
    counts[samples.starts[:-1]] = False  # the first of a document is no target
    return Report(len(samples), len(samples.tokens), int(counts.sum()), found.truncated, found.dropped, bad)


def _rules(run: Run) -> Rules:
    dataset = run.dataset
    return Rules(dataset.max_length, dataset.train_on, dataset.question_weight, dataset.too_long)


def _fails(run: Run) -> bool:
    return run.dataset.bad_lines == "fail"


def _digest(run: Run, files: Sequence[File], encoder: Encoder, transform: Transform | None) -> str:
    dataset = run.dataset
    decides = {
        "version": _VERSION,
        "files": [file.digest for file in files],
        "encoder": encoder.digest,
        "transform": None if transform is None else transform.digest,
        "seed": run.seed,
        "objective": run.objective,
        **dataset.model_dump(mode="json", exclude={"workers", "transform"}),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


__all__ = ["Pass", "Report", "Rows", "Source", "Step", "in_words", "nothing_like", "open_source"]
