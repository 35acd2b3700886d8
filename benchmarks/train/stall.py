"""How long training waits for a checkpoint, what its steps take while one is written behind it, and memory.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/train/stall.py [--rounds 5] [--saves 1000] [--tokens 256]

A model of 30 M parameters in float32 and AdamW's moments (360 MB) trains, one thread; in each round every method saves
once, in an order that is drawn:

overlapped, async, sync   `stoker.train.saving.Saver` into a folder, as `checkpointing.mode` says; digests, HEAD
DCP async                 torch.distributed.checkpoint.async_save, its thread, files synced
torch.save                into a file that is synced

stall    the training thread waited: in the call, and (overlapped) before the optimizer changes weights
CPU      of it, what that thread itself did in the call: other processes have no part in it
durable  from the call until the checkpoint is there
steps    those that begin before it is durable, beside the steps right before the save: median of the rounds' ratios

The processor has to copy, hash and write besides training: where all cores are busy steps become longer for all
methods. Memory: what a process has more (RSS, peak) after five saves than before the first, less `none`, beside the
size of the state; and `--saves` saves of a small state in one process, whose RSS at the end is compared with that after
a tenth of them. Goals (G6): overlapped 2 ms, async 50 ms; memory 1.05 of the state, no growth.
"""

import argparse
import gc
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from stoker.base.clock import SystemClock
from stoker.nn import config as configs
from stoker.nn.torch_model import LanguageModel
from stoker.registry.heads import Keep
from stoker.registry.runs import RunStore
from stoker.registry.stores import open_store
from stoker.spec.run import Optimizer
from stoker.train.optimizer import Adam
from stoker.train.saving import Saver
from stoker.train.state import Staging, held
from stoker.train.world import World

sys.path.append(str(Path(__file__).parents[1] / "up"))
from machine import describe

METHODS = ("none", "overlapped", "async", "sync", "DCP async", "torch.save")
RATE = 1e-4


class Training:
    """A bare loop, so that savers of others can be put into it."""

    def __init__(self, tokens: int, *, layers: int = 9, hidden: int = 512, vocab: int = 8192) -> None:
        config = {
            "model_type": "llama",
            "vocab_size": vocab,
            "hidden_size": hidden,
            "intermediate_size": hidden * 11 // 4,
            "num_hidden_layers": layers,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": hidden // 8,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10_000.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "tie_word_embeddings": True,
        }
        torch.manual_seed(0)
        self.module = LanguageModel(configs.from_json(json.dumps(config))).train()
        for parameter in self.module.parameters():
            nn.init.normal_(parameter, std=0.02)
        self.parameters = dict(self.module.named_parameters())
        self.adam = Adam(Optimizer(), self.parameters)
        self.tokens = torch.randint(0, vocab, (1, tokens))
        self.buffer = torch.zeros(sum(each.numel() for each in self.parameters.values()))
        at = 0
        for each in self.parameters.values():
            each.grad = self.buffer[at : at + each.numel()].view_as(each)
            at += each.numel()

    def step(self, before_update: Callable[[], object] = lambda: None) -> float:
        """Its seconds, without the wait."""
        begun_at = time.perf_counter()
        self.buffer.zero_()
        logits = self.module(self.tokens)
        nn.functional.cross_entropy(logits.flatten(0, 1), self.tokens.flatten()).backward()
        waiting_since = time.perf_counter()
        before_update()
        waited = time.perf_counter() - waiting_since
        self.adam.step(RATE)
        return time.perf_counter() - begun_at - waited

    def state(self) -> dict[str, torch.Tensor]:
        return {each.name: each.tensor for each in held(self.parameters, self.adam)}


class Ours:
    def __init__(self, training: Training, folder: Path, mode: str, keep: int = 3) -> None:
        store = RunStore(open_store(str(folder)), "bench")
        lease = store.claim()
        world = World({}, gpus=0)
        staging = Staging(held(training.parameters, training.adam))
        self.size_bytes = staging.size_bytes
        self._saver = Saver(
            world,
            store,
            "bench",
            lease.epoch,
            lease,
            staging,
            mode=mode,
            keep=Keep(keep),
            parent=None,
            clock=SystemClock(),
        )
        self._step = 0

    def begin(self) -> None:
        self._step += 1
        self._saver.begin(self._step, {"step": self._step}, why="interval")

    def before_update(self) -> None:
        self._saver.before_update()

    @property
    def is_busy(self) -> bool:
        return self._saver.is_busy

    def end(self) -> None:
        self._saver.finish(600)
        for each in self._saver.results():
            assert each.error is None, each.error


class Dcp:
    def __init__(self, training: Training, folder: Path) -> None:
        self._training, self._folder, self._number = training, folder, 0
        self._future: Any = None

    def begin(self) -> None:
        self._number += 1
        writer = dcp.FileSystemWriter(self._folder / str(self._number), sync_files=True)
        self._future = dcp.async_save(self._training.state(), storage_writer=writer, no_dist=True)

    def before_update(self) -> None:
        pass

    @property
    def is_busy(self) -> bool:
        return self._future is not None and not self._future.done()

    def end(self) -> None:
        if self._future is not None:
            self._future.result()
        shutil.rmtree(self._folder / str(self._number))


class TorchSave:
    is_busy = False

    def __init__(self, training: Training, folder: Path) -> None:
        self._training, self._path = training, folder / "state.pt"

    def begin(self) -> None:
        with self._path.open("wb") as file:
            torch.save(self._training.state(), file)
            file.flush()
            os.fsync(file.fileno())

    def before_update(self) -> None:
        pass

    def end(self) -> None:
        pass


def saver_of(name: str, training: Training, folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    if name == "DCP async":
        return Dcp(training, folder)
    if name == "torch.save":
        return TorchSave(training, folder)
    return Ours(training, folder, name)


def one_save(training: Training, saver: Any) -> dict[str, float]:
    before = [training.step() for _ in range(2)]
    begun_at, worked = time.perf_counter(), time.thread_time()
    saver.begin()
    stall, worked = time.perf_counter() - begun_at, time.thread_time() - worked
    during, waits = [], []

    def wait() -> None:
        since = time.perf_counter()
        saver.before_update()
        waits.append(time.perf_counter() - since)

    durable = stall if not saver.is_busy else None
    while saver.is_busy or not during:
        is_busy = saver.is_busy
        took = training.step(wait)
        if is_busy or not during:
            during.append(took)
        if durable is None and not saver.is_busy:
            durable = time.perf_counter() - begun_at
    saver.end()
    return {
        "stall": 1e3 * (stall + sum(waits)),
        "worked": 1e3 * worked,
        "durable": durable if durable is not None else time.perf_counter() - begun_at,
        "inflation": statistics.mean(during) / statistics.mean(before),
        "step": statistics.mean(before),
    }


def stalls(rounds: int, tokens: int, place: Path) -> None:
    training = Training(tokens)
    savers = {name: saver_of(name, training, place / name) for name in METHODS if name != "none"}
    size = sum(tensor.numel() * 4 for tensor in training.state().values())
    found: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
    chance = random.Random(1)
    for number in range(rounds + 1):
        for name in chance.sample(list(savers), len(savers)):
            os.sync()
            said = one_save(training, savers[name])
            if number:  # the first makes room
                found[name].append(said)
    step = statistics.median(each["step"] for of in found.values() for each in of)
    print(f"\n{size / 1e6:.0f} MB of state, steps of {step * 1e3:.0f} ms, {rounds} rounds")
    titles = (("stall ms", 10), ("least", 9), ("most", 9), ("CPU ms", 9), ("of DCP", 9), ("durable s", 11))
    print(f"{'':12}" + "".join(f"{title:>{width}}" for title, width in titles) + "  steps behind it")
    theirs = statistics.median(each["stall"] for each in found["DCP async"])
    for name, of in found.items():
        stall = sorted(each["stall"] for each in of)
        middle = statistics.median(stall)
        print(
            f"{name:12}{middle:10.2f}{stall[0]:9.2f}{stall[-1]:9.2f}"
            f"{statistics.median(each['worked'] for each in of):9.2f}{middle / theirs:9.3f}"
            f"{statistics.median(each['durable'] for each in of):11.2f}"
            f"{statistics.median(each['inflation'] for each in of):16.2f}x"
        )


# --- memory, each in a process of its own ----------------------------------------------------------------------------


def rss(what: str = "VmRSS") -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(what)


def memory(name: str, tokens: int, place: Path) -> None:
    """Prints bytes more than before the saver was there: at the end, and at the highest."""
    training = Training(tokens)
    for _ in range(2):
        training.step()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the highest from now on
    before = rss()
    if name == "none":
        for _ in range(5):
            training.step()
    else:
        saver = saver_of(name, training, place / name)
        for _ in range(5):
            one_save(training, saver)
    print(rss() - before, rss("VmHWM") - before)


def growth(saves: int, place: Path) -> None:
    training = Training(16, layers=2, hidden=64, vocab=512)
    saver = Ours(training, place / "many", "overlapped")
    early = 0
    for number in range(1, saves + 1):
        saver.begin()
        training.step(saver.before_update)
        saver.end()
        if number == max(1, saves // 10):
            gc.collect()
            early = rss()
    gc.collect()
    print(saver.size_bytes, early, rss(), len(list((place / "many").rglob("*"))))


def child(*words: str) -> list[int]:
    argv = [sys.executable, __file__, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [int(word) for word in done.stdout.split()]


def memories(tokens: int, saves: int, place: Path) -> None:
    size = sum(tensor.numel() * 4 for tensor in Training(tokens).state().values())
    print(f"\nmemory more than before, of the state's {size / 1e6:.0f} MB{'':6}{'after 5 saves':>15}{'highest':>10}")
    calm = child("--child", "none", "--tokens", str(tokens), "--folder", str(place))
    for name in METHODS[1:]:
        after, highest = child("--child", name, "--tokens", str(tokens), "--folder", str(place))
        print(f"{name:48}{(after - calm[0]) / size:12.2f}x{(highest - calm[1]) / size:9.2f}x")
    held_bytes, early, late, files = child("--child", "growth", "--saves", str(saves), "--folder", str(place))
    print(
        f"{saves} saves of {held_bytes / 1e6:.1f} MB: RSS {early / 1e6:.1f} MB after {max(1, saves // 10)}, "
        f"{late / 1e6:.1f} MB after the last ({(late - early) / 1e6:+.1f}); {files} files and folders are there"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--saves", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory(prefix="stall-", dir=options.folder) as place:
        if options.child == "growth":
            growth(options.saves, Path(place))
        elif options.child:
            memory(options.child, options.tokens, Path(place))
        else:
            print(describe("torch"))
            stalls(options.rounds, options.tokens, Path(place))
            memories(options.tokens, options.saves, Path(place))


if __name__ == "__main__":
    main()
