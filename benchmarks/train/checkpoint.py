"""How fast a checkpoint is saved and restored, beside the disk alone, torch.save and torch.distributed.checkpoint.

    .venv/bin/python benchmarks/train/checkpoint.py [--rounds 7] [--mega 90] [--folder DIR] [--only ours,raw]

The state is MEGA million float32 elements in tensors as a language model and its AdamW have them (a third weights, two
thirds moments). All methods take turns in each round, in an order that is drawn; each write begins with an idle disk
(sync), ends with what is written being durable (fsync of files and folder), and is read with a cold cache
(posix_fadvise), into memory that is new. Figures are medians, and medians of the ratios of each round to "raw" of the
same round, since a disk that others use, too, changes from minute to minute.

raw         the same bytes: write, fsync / read into new memory, 16 MiB at a time
ours        RunStore.write and commit in a folder (the claim, once in a launch, is not counted): sha256 of every byte,
            manifest, HEAD, its copy / every byte verified
torch.save  and fsync of the file / torch.load
DCP         torch.distributed.checkpoint, one process, files synced / into tensors that are there

Goals (G7, G9): save at 90 % of raw, restore at 80 %.
"""

import argparse
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

from stoker.registry.heads import Keep
from stoker.registry.manifests import Manifest, name_of
from stoker.registry.runs import Lease, RunStore
from stoker.registry.shards import Piece, read_pieces
from stoker.registry.stores import open_store

sys.path.append(str(Path(__file__).parents[1] / "up"))
from machine import describe

State = Mapping[str, torch.Tensor]
GOALS = {"save": 0.9, "restore": 0.8}


def make_state(elements: int, *, width: int = 512) -> State:
    """Weights of layers, and two moments of each; some are small, as norms are."""
    shapes = [(4 * width, width), (width, 4 * width), (width, width), (width, width), (width,), (width,)]
    names: dict[str, tuple[int, ...]] = {}
    left = elements // 3
    layer = 0
    while left > 0:
        for place, shape in enumerate(shapes):
            if left > 0:
                names[f"layers.{layer}.{place}"] = shape
                left -= torch.Size(shape).numel()
        layer += 1
    generator = torch.Generator().manual_seed(1)
    return {
        f"{kind}/{name}": torch.randn(shape, generator=generator)
        for kind in ("model", "adam_m", "adam_v")
        for name, shape in names.items()
    }


@dataclass(frozen=True)
class Method:
    name: str
    save: Callable[..., None]
    load: Callable[[State, Path], object]
    begin: Callable[[Path], object] | None = None
    """What a run does once, before its first save; `save` is given what it returned."""


def save_raw(state: State, folder: Path) -> None:
    descriptor = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT)
    for tensor in state.values():
        view = memoryview(tensor.numpy()).cast("B")
        while view:
            view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)
    os.close(descriptor)
    sync_folder(folder)


def load_raw(state: State, folder: Path) -> object:
    with (folder / "raw").open("rb", buffering=0) as opened:
        return list(iter(lambda: opened.read(16 << 20), b""))


def begin_ours(folder: Path) -> Lease:
    return RunStore(open_store(str(folder)), "bench").claim()


def save_ours(state: State, folder: Path, lease: Lease) -> None:
    runs = RunStore(open_store(str(folder)), "bench")
    name = name_of(1, lease.epoch)
    pieces = [
        Piece(key, "F32", tuple(of.shape), tuple(of.shape), (0,) * of.dim(), memoryview(of.numpy()))
        for key, of in state.items()
    ]
    shard = runs.write(name, "shard-00000.safetensors", pieces, timeout_s=600)
    runs.commit(lease, Manifest("bench", name, 1, lease.epoch, time.time(), (shard,), {"step": 1}), Keep())


def load_ours(state: State, folder: Path) -> object:
    runs = RunStore(open_store(str(folder)), "bench")
    found = []

    def use(manifest: Manifest) -> None:
        found.append(read_pieces(runs.store, runs.prefix(manifest.name), manifest.shards, dict.fromkeys(state)))

    runs.newest_whole(use)
    return {
        name: torch.frombuffer(data, dtype=torch.float32).reshape(shape) for name, (_, shape, data) in found[0].items()
    }


def save_torch(state: State, folder: Path) -> None:
    with (folder / "state.pt").open("wb") as opened:
        torch.save(dict(state), opened)
        opened.flush()
        os.fsync(opened.fileno())
    sync_folder(folder)


def load_torch(state: State, folder: Path) -> object:
    return torch.load(folder / "state.pt")


def save_dcp(state: State, folder: Path) -> None:
    dcp.save(dict(state), storage_writer=dcp.FileSystemWriter(folder, sync_files=True), no_dist=True)


def load_dcp(state: State, folder: Path) -> object:
    found = {name: torch.empty_like(tensor) for name, tensor in state.items()}
    dcp.load(found, storage_reader=dcp.FileSystemReader(folder), no_dist=True)
    return found


METHODS = (
    Method("raw", save_raw, load_raw),
    Method("ours", save_ours, load_ours, begin_ours),
    Method("torch.save", save_torch, load_torch),
    Method("DCP", save_dcp, load_dcp),
)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def drop_from_cache(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def timed(act: Callable[..., object], *args: object) -> tuple[float, float, object]:
    """Seconds by the clock and of all processors, and what it returned."""
    began, worked = time.perf_counter(), time.process_time()
    found = act(*args)
    return time.perf_counter() - began, time.process_time() - worked, found


def check(state: State, found: object) -> None:
    if isinstance(found, dict):
        assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mega", type=int, default=90)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--only", default=",".join(method.name for method in METHODS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "torch.distributed is disabled")
    chosen = [method for method in METHODS if method.name in options.only.split(",")]
    state = make_state(options.mega * 1_000_000)
    size = sum(tensor.numel() * 4 for tensor in state.values())
    print(describe())
    print(f"{size / 1e6:.0f} MB in {len(state)} tensors, {options.rounds} rounds")
    seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    worked: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    chance = random.Random(1)
    for number in range(options.rounds + 1):
        for method in chance.sample(chosen, len(chosen)):
            folder = Path(tempfile.mkdtemp(prefix="checkpoint-", dir=options.folder))
            try:
                begun = () if method.begin is None else (method.begin(folder),)
                os.sync()
                *saving, _ = timed(method.save, state, folder, *begun)
                drop_from_cache(folder)
                *loading, found = timed(method.load, state, folder)
                check(state, found)
                del found
            finally:
                shutil.rmtree(folder)
            if number:  # the first round warms up
                for what, (wall, work) in (("save", saving), ("restore", loading)):
                    seconds[what, method.name].append(wall)
                    worked[what, method.name].append(work)
    for what, goal in GOALS.items():
        print(f"\n{what:10} {'median s':>9} {'GB/s':>6} {'of raw':>7} {'CPU s':>6}   (goal: {goal:.0%} of raw)")
        for method in chosen:
            times = seconds[what, method.name]
            ratio = statistics.median(r / t for r, t in zip(seconds[what, chosen[0].name], times, strict=True))
            middle, work = statistics.median(times), statistics.median(worked[what, method.name])
            span = f"{min(times):.3f}-{max(times):.3f}"
            print(f"{method.name:10} {middle:9.3f} {size / middle / 1e9:6.2f} {ratio:7.0%} {work:6.2f}   {span}")


if __name__ == "__main__":
    main()
