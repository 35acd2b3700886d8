"""How fast a folder takes and gives objects, beside what the system does with the same bytes alone.

    .venv/bin/python benchmarks/train/stores.py [--mib 256] [--pieces 64] [--rounds 7] [--folder DIR]

put: `FolderStore.put` of the pieces, beside open, write of each piece, fsync, close. get: `FolderStore.get`, and eight
threads with ranges of 16 MiB, beside one read of the file; the file is in the page cache. Both of a pair run one after
the other, in turns first; figures are medians of each, and the median of the ratios of the pairs (below 1: the store
took longer). Noise of a shared disk is large: the least and the largest ratio are there, too.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stoker.registry.folders import FolderStore

sys.path.append(str(Path(__file__).parents[1] / "up"))
from machine import describe

MIB = 1 << 20
RANGE = 16 * MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--pieces", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    print(describe())
    size = options.mib * MIB // options.pieces
    data = os.urandom(options.mib * MIB)
    pieces = [memoryview(data)[number * size : (number + 1) * size] for number in range(options.pieces)]
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        store, raw = FolderStore(Path(place) / "store"), Path(place) / "raw"
        pairs = {
            "put": (lambda: store.put("a/b", pieces), lambda: write_raw(raw, pieces)),
            "get": (lambda: store.get("a/b"), lambda: read_raw(raw)),
            "get, 8 threads": (lambda: get_ranges(store, "a/b"), lambda: read_raw(raw)),
        }
        print(f"\n{options.mib} MiB in {options.pieces} pieces, {options.rounds} pairs, GB/s\n")
        print(f"{'':16}{'store':>8}{'raw':>8}{'store/raw':>12}{'least':>8}{'most':>8}")
        for name, (ours, theirs) in pairs.items():
            before = (lambda: remove(store, raw)) if name == "put" else (lambda: None)
            times = [pair(ours, theirs, before, number) for number in range(options.rounds)]
            report(name, options.mib * MIB, times)


def remove(store: FolderStore, raw: Path) -> None:
    """Not timed: no write replaces what is there, as none of a checkpoint does."""
    store.delete(["a/b"])
    raw.unlink(missing_ok=True)


def pair(
    ours: Callable[[], object], theirs: Callable[[], object], before: Callable[[], None], number: int
) -> tuple[float, float]:
    before()
    if number % 2:
        second = seconds(theirs)
        return seconds(ours), second
    return seconds(ours), seconds(theirs)


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def report(name: str, size: int, times: list[tuple[float, float]]) -> None:
    ours, theirs = (size / statistics.median(each) / 1e9 for each in zip(*times, strict=True))
    ratios = sorted(raw / store for store, raw in times)
    print(f"{name:16}{ours:8.2f}{theirs:8.2f}{statistics.median(ratios):12.2f}{ratios[0]:8.2f}{ratios[-1]:8.2f}")


def write_raw(path: Path, pieces: list[memoryview]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for piece in pieces:
        os.write(descriptor, piece)
    os.fsync(descriptor)
    os.close(descriptor)


def read_raw(path: Path) -> int:
    with path.open("rb", buffering=0) as file:
        return len(file.read())


def get_ranges(store: FolderStore, key: str) -> int:
    starts = range(0, store.stat(key).size_bytes, RANGE)
    with ThreadPoolExecutor(8) as pool:
        return sum(len(part) for part in pool.map(lambda start: store.get(key, start=start, length=RANGE), starts))


if __name__ == "__main__":
    main()
