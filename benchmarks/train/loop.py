"""What a step of `stoker train` costs beside a bare loop of PyTorch and the Trainer of Hugging Face.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/train/loop.py [--steps 600] [--large-steps 24] [--only small,large]

All three train in one process and take turns, BLOCK steps each, so that a busy machine is busy for all of them; the
first step of each turn does not count. Same module (`stoker.nn.torch_model`), same loss, rows of the same shape, one
thread, float32, AdamW, gradients cut to norm 1, a rate that falls in a line.

ours   `stoker.train.starting.Process`: the product as it is, with its data, record, signals, flags
bare   a loop over one batch that is there: forward, backward, clip_grad_norm_, AdamW(fused=True), LambdaLR
HF     transformers.Trainer, adamw_torch_fused, no logging, no saving, the same rows in a list as its dataset

small: 0.2 M parameters, 1 x 32 tokens. large: 30 M, 2 x 128. A step's time is from the start of its forward pass to
that of the next. Figures: median and tenth percentile of the clock and of the processor (all threads); what a step
costs more than a bare one, by the difference of the medians (p10s); and the median of the turns' ratios with the
quartiles. Goals (G8): small 1.02 or 0.13 ms, large 1.00.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stoker import spec
from stoker.base import logs
from stoker.base.clock import SystemClock
from stoker.train.losses import sft
from stoker.train.model import TorchRows, base_folder, build, rows_on
from stoker.train.source import Step, open_source
from stoker.train.starting import Process

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("up",))
from machine import describe

SIZES: dict[str, dict[str, Any]] = {
    "small": {"rows": 1, "length": 32, "hidden": 64, "between": 160, "layers": 4, "heads": 4, "vocab": 512},
    "large": {"rows": 2, "length": 128, "hidden": 512, "between": 1408, "layers": 10, "heads": 8, "vocab": 8192},
}
BLOCK = 20
RATE = 1e-4


def write_run(folder: Path, size: dict[str, Any], steps: int, **more: Any) -> Path:
    """Rows of one length each, none packed."""
    text = " ".join(f"w{number}" for number in range(size["length"]))
    lines = [json.dumps({"text": f"{number} {text}"}) for number in range(64)]
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n")
    said: dict[str, Any] = {
        "name": "bench",
        "base": "scratch",
        "scratch": {
            "vocabSize": size["vocab"],
            "hiddenSize": size["hidden"],
            "intermediateSize": size["between"],
            "numHiddenLayers": size["layers"],
            "numAttentionHeads": size["heads"],
            "numKeyValueHeads": size["heads"] // 2,
            "headDim": size["hidden"] // size["heads"],
        },
        "method": "full",
        "data": "data.jsonl",
        "epochs": 100_000,
        "steps": steps,
        "dataset": {"maxLength": size["length"], "packing": False, "trainOn": "all"},
        "batch": {"rows": size["rows"], "microRows": size["rows"]},
        "optimizer": {"learningRate": RATE, "schedule": "linear", "warmup": 0.0, "leastRate": 0.0, "beta2": 0.999},
        "checkpointing": {"everySeconds": 1e6},
        "spot": {"watch": False},
        **more,
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps(said))  # JSON is YAML
    return path


class Turns:
    """Threads that take turns, `block` steps each. Each calls `step` between two of its steps."""

    def __init__(self, names: list[str], block: int) -> None:
        self._names, self._block = names, block
        self._changed = threading.Condition()
        self._left = list(names)
        self._now = names[0]
        self._done = dict.fromkeys(names, 0)
        self._since: dict[str, tuple[float, float]] = {}
        self.wall: dict[str, list[list[float]]] = {name: [] for name in names}
        self.work: dict[str, list[list[float]]] = {name: [] for name in names}

    def begin(self, name: str) -> None:
        """Also to be called before a thread's first work, so that one makes itself ready at a time."""
        with self._changed:
            self._changed.wait_for(lambda: self._now == name)

    def step(self, name: str) -> None:
        wall, work = time.perf_counter(), time.process_time()
        if name in self._since:
            before = self._since[name]
            self.wall[name][-1].append(wall - before[0])
            self.work[name][-1].append(work - before[1])
        self._done[name] += 1
        if self._done[name] % self._block == 1 or self._block == 1:
            self._give(name)
            self.begin(name)
            self.wall[name].append([])
            self.work[name].append([])
        self._since[name] = (time.perf_counter(), time.process_time())

    def end(self, name: str) -> None:
        self._give(name)
        with self._changed:
            self._left.remove(name)

    def _give(self, name: str) -> None:
        with self._changed:
            at = self._left.index(name)
            self._now = self._left[(at + 1) % len(self._left)]
            self._changed.notify_all()


class Batch(nn.Module):
    """The module and its loss as Trainer wants them: a dict in, a dict out."""

    def __init__(self, module: nn.Module, like: TorchRows, weight: float) -> None:
        super().__init__()
        self.module, self._like, self._weight = module, like, weight

    def forward(self, **rows: torch.Tensor) -> dict[str, torch.Tensor]:
        found = TorchRows(**rows, features=self._like.features, is_packed=False, kept=self._like.kept)
        return {"loss": sft(self.module, found) / self._weight}


def module_and_rows(run: Any, folder: Path) -> tuple[nn.Module, Step]:
    model = build(run, base_folder(run, here=folder, cache=folder / "cache"))
    source = open_source(run, run.data, model.encoder, here=folder, tell=lambda _: None)
    return model.module.train(), source.step(0)


def bare(run: Any, folder: Path, steps: int, step_done: Callable[[], None]) -> None:
    module, step = module_and_rows(run, folder)
    rows = rows_on(step.passes[0].rows, "cpu")
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, fused=True, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda number: 1 - number / steps)
    for _ in range(steps):
        step_done()
        loss = sft(module, rows) / step.weight
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def trainer(run: Any, folder: Path, steps: int, step_done: Callable[[], None]) -> None:
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    module, step = module_and_rows(run, folder)
    rows = rows_on(step.passes[0].rows, "cpu")
    names = ("tokens", "targets", "weights", "documents", "positions")
    items = [{name: getattr(rows, name)[row] for name in names} for row in range(len(rows.tokens))]

    class Count(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            step_done()

    made = Trainer(
        Batch(module, rows, step.weight),
        TrainingArguments(
            output_dir=str(folder / "hf"),
            max_steps=steps,
            per_device_train_batch_size=len(items),
            optim="adamw_torch_fused",
            lr_scheduler_type="linear",
            learning_rate=RATE,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
        ),
        train_dataset=[items[number % len(items)] for number in range(64 * len(items))],
        callbacks=[Count()],
    )
    made.remove_callback(PrinterCallback)
    made.train()


def ours(run: Any, folder: Path, step_done: Callable[[], None]) -> None:
    """A step has one pass, and tells at its start."""
    process = Process(
        run,
        folder / "run.yaml",
        folder / "state",
        environ={"AWS_EC2_METADATA_DISABLED": "true"},
        clock=SystemClock(),
        crash=lambda moment: step_done() if moment == "pass" else None,
    )
    code, why = process.go()
    assert code == 0, why


def measured(size: dict[str, Any], steps: int, block: int, names: list[str]) -> Turns:
    turns = Turns(names, block)
    steps += 1  # whose start is the end of the last that counts
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = spec.load_run(write_run(folder, size, steps))
        base_folder(run, here=folder, cache=folder / "cache")
        others = {"bare": bare, "HF": trainer}

        def act(name: str) -> None:
            turns.begin(name)
            try:
                others[name](run, folder, steps, lambda: turns.step(name))
            finally:
                turns.end(name)

        threads = [threading.Thread(target=act, args=(name,), name=name) for name in names if name in others]
        for each in threads:
            each.start()
        turns.begin("ours")
        ours(run, folder, lambda: turns.step("ours"))
        turns.end("ours")
        for each in threads:
            each.join()
    return turns


def report(title: str, turns: Turns, names: list[str]) -> None:
    print(f"\n{title}")
    titles = (("wall ms", 9), ("p10", 8), ("CPU ms", 9), ("p10", 8), ("over bare", 12), ("p10", 8), ("ratio, CPU", 13))
    print(f"{'':6}" + "".join(f"{title:>{width}}" for title, width in titles) + "    (25 to 75 %)")
    flat: defaultdict[str, dict[str, list[float]]] = defaultdict(dict)
    middles: dict[str, list[float]] = {}
    for name in names:
        # The first of a turn begins with another's memory in the caches.
        for what, of in (("wall", turns.wall), ("work", turns.work)):
            flat[name][what] = sorted(1e3 * each for turn in of[name][1:] for each in turn[1:])
        middles[name] = [statistics.median(turn[1:]) for turn in turns.work[name][1:] if len(turn) > 1]
    for name in names:
        wall, work = flat[name]["wall"], flat[name]["work"]
        base = flat["bare"]["work"]
        ratios = sorted(a / b for a, b in zip(middles[name], middles["bare"], strict=False))
        quarter = len(ratios) // 4
        print(
            f"{name:6}{statistics.median(wall):9.3f}{tenth(wall):8.3f}{statistics.median(work):9.3f}{tenth(work):8.3f}"
            f"{statistics.median(work) - statistics.median(base):12.3f}{tenth(work) - tenth(base):8.3f}"
            f"{statistics.median(ratios):13.3f}    ({ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f})"
        )


def tenth(ordered: list[float]) -> float:
    return ordered[len(ordered) // 10]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--large-steps", type=int, default=24)
    parser.add_argument("--only", default="small,large")
    parser.add_argument("--without", default="", help="peers to leave out: HF")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logs.configure("train", level="error")
    torch.set_num_threads(1)
    print(describe("torch", "transformers", "accelerate"))
    names = [name for name in ("bare", "ours", "HF") if name not in options.without.split(",")]
    for name in options.only.split(","):
        size = SIZES[name]
        steps, block = (options.steps, BLOCK) if name == "small" else (options.large_steps, 3)
        turns = measured(size, steps, block, names)
        report(f"{name}: {size['rows']} x {size['length']} tokens, {steps} steps of each", turns, names)


if __name__ == "__main__":
    main()
