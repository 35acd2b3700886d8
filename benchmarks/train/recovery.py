"""From the start of a process to its first step, for a run of 30 M parameters that goes on; beside Trainer and DCP.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/train/recovery.py [--rounds 5] [--imports]

A run is prepared (three steps and a checkpoint of 360 MB), then each of these is started anew in turns, and told to end
once it has done a step:

ours       `python -m stoker.train FILE`: by its record. From the start of the process until the launch is
           recorded (imports, data, weights), until the checkpoint is read, until the first step is done
torch+DCP  a script: the same module, AdamW, torch.distributed.checkpoint.load, a step
HF         a script: Trainer.train(resume_from_checkpoint=True) with the same module, a step

CPU: seconds of the processor, in which other processes have no part. The page cache is dropped for what is read
(posix_fadvise) before each start. `of raw`: how fast the checkpoint is read, beside one read of the same files. Goal
(G9): 5 s, and 80 % of raw. --imports says what our process imports, and which of it takes longest.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.extend([str(Path(__file__).parent), str(Path(__file__).parents[1] / "up")])
from loop import SIZES, Batch, module_and_rows, write_run
from machine import describe

SIZE = SIZES["large"]
HEAVY = ("transformers", "accelerate", "sympy", "torch._dynamo", "torch._inductor", "torch.distributed.fsdp", "boto3")
"""What a launch on processors with a folder needs none of."""


def start(argv: list[str]) -> tuple[float, str]:
    """When it was started, and what it said on stdout."""
    begun_at = time.time()
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "AWS_EC2_METADATA_DISABLED": "true", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return begun_at, done.stdout


def worked() -> float:
    """Seconds of the processor of all processes that were started and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def drop_from_cache(folder: Path) -> None:
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def read_raw(folder: Path) -> float:
    """Seconds for the shards of a checkpoint, as they are."""
    begun_at = time.perf_counter()
    for path in folder.rglob("*.safetensors"):
        with path.open("rb", buffering=0) as file:
            while file.read(16 << 20):
                pass
    return time.perf_counter() - begun_at


# --- ours ------------------------------------------------------------------------------------------------------------


def command(folder: Path, kind: str, *options: str) -> list[str]:
    """`python -m stoker.train`, until its record has a line of that kind."""
    (folder / "benchstop.py").write_text(STOP)
    os.environ["PYTHONPATH"] = str(folder)
    code = f"import benchstop; benchstop.after({kind!r})"
    named = [str(folder / "run.yaml"), "--state", str(folder / "state")]
    return [sys.executable, *options, "-c", code, *named]


def prepare_ours(folder: Path) -> None:
    write_run(folder, SIZE, 100, checkpointing={"everySteps": 3})
    start(command(folder, "save"))


def ours(folder: Path) -> dict[str, float]:
    """A launch that goes on, and how long it took to come to what."""
    write_run(folder, SIZE, 100, checkpointing={"everySteps": 1_000_000})
    drop_from_cache(folder / "state")
    begun_at, _ = start(command(folder, "step"))
    newest = max((folder / "state" / "runs" / "bench" / "record").iterdir())
    lines = [json.loads(line) for line in newest.read_text().splitlines()]
    at = {kind: next((each["at"] for each in lines if each["kind"] == kind), begun_at) for kind in WANTED}
    read = next((each["seconds"] for each in lines if each["kind"] == "resume"), 0.0)
    return {
        "launched": at["launch"] - begun_at,
        "resumed": at["resume"] - begun_at,
        "step": at["step"] - begun_at,
        "read": read,
    }


WANTED = ("launch", "resume", "step")
STOP = """
import os
import runpy

from stoker.train import record


def after(wanted):
    add = record.Writer.add

    def until(self, kind, at, **fields):
        add(self, kind, at, **fields)
        if kind == wanted:
            os._exit(0)

    record.Writer.add = until
    runpy.run_module("stoker.train", run_name="__main__", alter_sys=True)
"""


# --- theirs: this file, in a process of its own ----------------------------------------------------------------------


def made(folder: Path) -> tuple[Any, Any]:
    from stoker import spec

    return module_and_rows(spec.load_run(folder / "run.yaml"), folder)


def dcp_once(folder: Path, *, prepare: bool) -> None:
    import torch
    import torch.distributed.checkpoint as dcp

    from stoker.train.losses import sft
    from stoker.train.model import rows_on

    torch.set_num_threads(1)
    module, step = made(folder)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)
    names = [name for name, _ in module.named_parameters()]

    def train_once() -> None:
        (sft(module, rows_on(step.passes[0].rows, "cpu")) / step.weight).backward()
        optimizer.step()

    def state() -> dict[str, torch.Tensor]:
        found = {f"model/{name}": each.detach() for name, each in module.named_parameters()}
        for name, each in zip(names, module.parameters(), strict=True):
            if not optimizer.state[each]:
                optimizer.state[each].update(
                    step=torch.zeros(()), exp_avg=torch.zeros_like(each), exp_avg_sq=torch.zeros_like(each)
                )
            found |= {f"{key}/{name}": value for key, value in optimizer.state[each].items()}
        return found

    if prepare:
        train_once()
        dcp.save(state(), storage_writer=dcp.FileSystemWriter(folder / "dcp"), no_dist=True)
        return
    dcp.load(state(), storage_reader=dcp.FileSystemReader(folder / "dcp"), no_dist=True)
    train_once()
    print(time.time())


def trainer_once(folder: Path, *, prepare: bool) -> None:
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from stoker.train.model import rows_on

    torch.set_num_threads(1)
    module, step = made(folder)
    rows = rows_on(step.passes[0].rows, "cpu")
    names = ("tokens", "targets", "weights", "documents", "positions")
    items = [{name: getattr(rows, name)[row] for name in names} for row in range(len(rows.tokens))]

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not prepare:
                print(time.time(), flush=True)
                os._exit(0)

    Trainer(
        Batch(module, rows, step.weight),
        TrainingArguments(
            output_dir=str(folder / "hf"),
            max_steps=3 if prepare else 100,
            per_device_train_batch_size=len(items),
            optim="adamw_torch_fused",
            logging_strategy="no",
            save_strategy="steps",
            save_steps=3,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
        ),
        train_dataset=items * 64,
        callbacks=[Stop()],
    ).train(resume_from_checkpoint=not prepare)


THEIRS = {"torch+DCP": dcp_once, "HF": trainer_once}


def theirs(name: str, folder: Path) -> dict[str, float]:
    drop_from_cache(folder / ("dcp" if name == "torch+DCP" else "hf"))
    begun_at, said = start([sys.executable, __file__, "--child", name, "--folder", str(folder)])
    return {"step": float(said.split()[-1]) - begun_at}


# --- and what ours imports -------------------------------------------------------------------------------------------


def imports(folder: Path) -> None:
    argv = command(folder, "step", "-X", "importtime")
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    said = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False).stderr
    found: list[tuple[int, str]] = []
    own: defaultdict[str, int] = defaultdict(int)
    for line in said.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if line.startswith("import time:") and parts[0].strip().isdigit():
            name = parts[2].strip()
            own[name.split(".")[0]] += int(parts[0])
            found.append((int(parts[1]), name))
    spent_s = sum(own.values()) / 1e6
    print(f"\n{len(found)} modules, {spent_s:.2f} s of imports (tracing makes them slower); by package:")
    for name, spent in sorted(own.items(), key=lambda each: -each[1])[:10]:
        print(f"  {name:24}{spent / 1e3:8.0f} ms")
    names = {name for _, name in found}
    heavy = [each for each in HEAVY if each in names]
    print(f"  of {', '.join(HEAVY)}: {', '.join(heavy) or 'none'} is loaded")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--imports", action="store_true")
    parser.add_argument("--only", default="ours,torch+DCP,HF")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.child:
        THEIRS[options.child](options.folder, prepare=options.prepare)
        return
    print(describe("torch", "transformers", "accelerate"))
    names = options.only.split(",")
    with tempfile.TemporaryDirectory(prefix="recovery-", dir=options.folder) as place:
        folder = Path(place)
        prepare_ours(folder)
        for name in names:
            if name in THEIRS:
                start([sys.executable, __file__, "--child", name, "--folder", str(folder), "--prepare"])
        (checkpoint,) = (folder / "state" / "runs" / "bench" / "checkpoints").iterdir()
        size = sum(path.stat().st_size for path in checkpoint.iterdir())
        seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for _ in range(options.rounds):
            for name in names:
                before = worked()
                said = ours(folder) if name == "ours" else theirs(name, folder)
                said["CPU"] = worked() - before
                for what, took in said.items():
                    seconds[name, what].append(took)
            drop_from_cache(checkpoint)
            seconds["raw", "read"].append(read_raw(checkpoint))
        print(f"\n{size / 1e6:.0f} MB of state, {options.rounds} starts of each; process start to first step, s")
        print(f"{'':12}{'median':>8}{'least':>8}{'most':>8}{'CPU':>8}{'least':>8}")
        for name in names:
            of = seconds[name, "step"]
            work = seconds[name, "CPU"]
            print(
                f"{name:12}{statistics.median(of):8.2f}{min(of):8.2f}{max(of):8.2f}"
                f"{statistics.median(work):8.2f}{min(work):8.2f}"
            )
        if "ours" in names:
            launched, resumed = (statistics.median(seconds["ours", what]) for what in ("launched", "resumed"))
            read, raw = seconds["ours", "read"], seconds["raw", "read"]
            ratio = statistics.median(b / a for a, b in zip(read, raw, strict=True))
            print(
                f"ours: launch recorded after {launched:.2f}, checkpoint read after {resumed:.2f}; reading it "
                f"{statistics.median(read):.2f} s, {size / statistics.median(read) / 1e9:.2f} GB/s; the same files as "
                f"they are {statistics.median(raw):.2f} s: {ratio:.0%} of raw"
            )
        if options.imports:
            imports(folder)


if __name__ == "__main__":
    main()
