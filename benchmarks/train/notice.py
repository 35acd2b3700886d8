"""What is promised about a notice, beside what happens: how long saves take, and how many steps are lost.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/train/notice.py [--mega 4,30,90] [--kills 10] [--slow 4]

Predicted: `planning.measure` on the place of checkpoints, then `planning.save_seconds`, as a run that begins does it.
Happened: from the begin of a save of MEGA million numbers until HEAD names it (the middle one of three). Then the same
by `planning.seen` of the first of these saves, as a later launch does it, beside the other two. Places: a
folder; moto's S3 through a proxy that lets SLOW MB/s through on each connection. Goal (G4): within 20 %.

Then runs of `stoker train` (a small model, one process, forked from one that has imported torch): SIGTERM at a step
drawn, and kill -9 at a step drawn; by their records: seconds from the signal until the checkpoint is durable, complete
steps lost. Goals (G4, G5): none after a notice, an interval at most after a kill.
"""

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import torch

from stoker.base import logs
from stoker.registry.heads import Keep
from stoker.registry.manifests import Manifest, name_of
from stoker.registry.runs import Lease, RunStore
from stoker.registry.shards import Piece
from stoker.registry.stores import Store, open_store
from stoker.testing.aws import CREDENTIALS, moto_server
from stoker.testing.s3_faults import Fault, S3Faults
from stoker.train import exits
from stoker.train.accounting import Save
from stoker.train.planning import measure, save_seconds, seen
from stoker.train.record import follow

sys.path.extend(
    [str(Path(__file__).parent), str(Path(__file__).parents[1] / "up"), str(Path(__file__).parents[2] / "tests/train")]
)
from checkpoint import make_state
from machine import describe
from training_parts import Gang, come_to, store_of, write_data, write_run

REGION = b"<LocationConstraint>us-west-2</LocationConstraint>"
EVERY = 5
"""Steps between two checkpoints of the small runs."""


def save_once(store: Store, lease: Lease, step: int, pieces: list[Piece]) -> tuple[float, Lease]:
    runs = RunStore(store, "bench")
    begun_at = time.perf_counter()
    name = name_of(step, lease.epoch)
    shard = runs.write(name, "shard-00000.safetensors", pieces, timeout_s=600)
    manifest = Manifest("bench", name, step, lease.epoch, time.time(), (shard,), {"step": step})
    lease = runs.commit(lease, manifest, Keep(1))
    took = time.perf_counter() - begun_at
    runs.collect(lease)
    return took, lease


def predicted_and_happened(title: str, store: Store, mega: float) -> None:
    state = make_state(int(mega * 1e6))
    pieces = [
        Piece(key, "F32", tuple(of.shape), tuple(of.shape), (0,) * of.dim(), memoryview(of.numpy()))
        for key, of in state.items()
    ]
    size = sum(tensor.numel() * 4 for tensor in state.values())
    lease = RunStore(store, "bench").claim()
    os.sync()
    speed, fixed_s = measure(store, bytes_at_most=min(size, 64 << 20))
    predicted = save_seconds(size, bytes_per_s=speed, writers=1, fixed_s=fixed_s)
    took = []
    for step in range(1, 4):
        os.sync()
        seconds, lease = save_once(store, lease, step, pieces)
        took.append(seconds)
    middle = statistics.median(took)
    first = Save("", 1, 0.0, took[0], 0.0, size, "interval")
    again = size / (seen([first], nodes=1) or (0.0,))[0] / statistics.mean(took[1:]) - 1
    print(
        f"{title:22}{size / 1e6:8.0f} MB{speed / 1e6:10.0f} MB/s{predicted:10.2f} s{middle:10.2f} s"
        f"{predicted / middle - 1:+10.0%}{again:+12.0%}   ({min(took):.2f} to {max(took):.2f})"
    )


def places(sizes: list[float], slow: float, place: Path) -> None:
    print(
        f"\n{'place':22}{'state':>11}{'measured':>15}{'predicted':>12}{'happened':>12}{'off by':>10}{'by a save':>12}"
    )
    for mega in sizes:
        predicted_and_happened("folder", open_store(str(place / f"store-{mega:g}")), mega)
    with moto_server(place / "moto.log") as moto, S3Faults(moto) as proxy:
        os.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": proxy.url, "AWS_CONFIG_FILE": str(place / "none")}
        os.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(place / "none")
        where = (
            b"<CreateBucketConfiguration><LocationConstraint>us-west-2</LocationConstraint></CreateBucketConfiguration>"
        )
        request = urllib.request.Request(f"{moto}/bucket", data=where, method="PUT")
        with urllib.request.urlopen(request, timeout=10):
            pass
        for mega in sizes[:2]:
            predicted_and_happened("S3", open_store(f"s3://bucket/fast-{mega:g}"), mega)
        proxy.add(Fault("slow", method="PUT", times=None, bytes_per_s=int(slow * 1e6)))
        for mega in sizes[:2]:
            predicted_and_happened(f"S3, {slow:g} MB/s each", open_store(f"s3://bucket/slow-{mega:g}"), mega)


def interrupted(kills: int, place: Path) -> None:
    write_data(place)
    run_file = write_run(place, checkpointing={"everySteps": EVERY}, epochs=4)
    chance = random.Random(1)
    lost: dict[str, list[int]] = {"SIGTERM": [], "kill -9": []}
    durable: list[tuple[float, float]] = []
    with Gang(place / "log") as gang:
        for number in range(kills):
            for name, sent in (("SIGTERM", signal.SIGTERM), ("kill -9", signal.SIGKILL)):
                state = place / f"{name.split()[0]}-{number}"
                passes = chance.randint(4 * EVERY, 4 * 3 * EVERY)
                codes = gang.launch(run_file, state, send=(0, "pass", passes, sent))
                assert codes == [exits.PREEMPTED if sent == signal.SIGTERM else -sent], gang.said()
                if sent == signal.SIGTERM:
                    durable.append(until_durable(state))
                assert gang.launch(run_file, state) == [0], gang.said()
                lost[name].append(come_to(state).lost_steps)
    print(f"\n{kills} of each, a checkpoint every {EVERY} steps")
    for name, of in lost.items():
        print(f"{name}: complete steps lost, at most: {max(of)}, on the mean {statistics.mean(of):.1f}")
    took, allowed = (statistics.median(each) for each in zip(*durable, strict=True))
    print(
        f"SIGTERM at the start of a step, until its save was durable: {took:.3f} s, at most {max(durable)[0]:.3f}; the "
        f"step and the save by themselves: {allowed:.3f} s"
    )


def until_durable(state: Path) -> tuple[float, float]:
    """From the start of the step in which the signal came; and the seconds of that step and of its save."""
    lines = list(follow(store_of(state)))
    step = [line for line in lines if line["kind"] == "step"][-1]
    save = [line for line in lines if line["kind"] == "save"][-1]
    assert (save["why"], save["step"]) == ("preempted", step["step"])
    return save["at"] - (step["at"] - step["seconds"]), step["seconds"] + save["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mega", default="4,30,90")
    parser.add_argument("--slow", type=float, default=4.0)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logs.configure("train", level="error")
    print(describe("torch"))
    with tempfile.TemporaryDirectory(prefix="notice-", dir=options.folder) as place:
        places([float(each) for each in options.mega.split(",")], options.slow, Path(place))
        interrupted(options.kills, Path(place))


if __name__ == "__main__":
    main()
