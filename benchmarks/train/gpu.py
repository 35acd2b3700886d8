"""`stoker train` on one NVIDIA GPU: is a resumed run the same run there, and how fast is its loop beside a bare one?

    python benchmarks/train/gpu.py [--out FOLDER] [--only exact,speed,saves] [--tiny]

Each part is a process of its own, with a limit of its own; one that fails does not stop the next. What it finds it
prints as lines of JSON, and adds to FOLDER/found.jsonl. On the machine of docs/benchmarks-training.md each of `speed`
takes 50 s, `exact` and each of `saves` more than 100. Without a GPU all of it runs on the processor (with --tiny in
two minutes), which shows that the script works and measures nothing.

machine  the card, and its ceilings: a matrix product in bfloat16, a copy from the device to pinned memory
memory   memory for a copy of the state, as torch pins it and as `train.state` does
exact    runs of a small model, each once as it is and once with `kill -9` of its process, SIGTERM and a second launch:
         the same samples, losses and bytes of the last checkpoint? Losses beside those of the same run on processors.
         Sharded: FSDP2 over a mesh of one process, which `stoker train` itself leaves out; two: two processes share
         the card, over gloo
speed    the same module in turns, BLOCK steps each: `stoker.train.starting.Process` as it is; bare, a loop over one
         batch that lies on the device and is never waited for (autocast, backward, clip_grad_norm_, AdamW(fused=True),
         LambdaLR); HF, that loop with transformers' LlamaForCausalLM (sdpa) of the same shape. Free: without
         `deterministic`. The first turn does not count; peak: memory beyond what weights, moments and others hold
saves    a run of the same size with checkpoints: how long training waits, steps while one is written, SIGTERM,
         restoring, the first step
"""

import argparse
import contextlib
import functools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
PEAK_FLOPS = 989.4e12
"""Dense bfloat16 of the H100 and H200 (SXM), by their data sheets."""
BLOCK = 8
TURNS = 5
Settings = dict[str, Any]


def say(part: str, **found: Any) -> None:
    print(json.dumps({"part": part, **found}), flush=True)


# --- run files --------------------------------------------------------------------------------------------------------


def words(chance: random.Random, count: int) -> str:
    return " ".join("".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(3, 7))) for _ in range(count))


def write_data(folder: Path) -> None:
    """Chats of several lengths, preferences, and texts that fill a row of 1,024 tokens."""
    chance = random.Random(1)
    known = words(chance, 40).split()
    chats, preferences = [], []
    for _ in range(300):
        asked = " ".join(chance.choices(known, k=chance.randint(3, 20)))
        answer = " ".join(reversed(asked.split()))
        chats.append({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]})
        preferences.append({"prompt": asked, "chosen": answer, "rejected": asked})
    texts = [{"text": words(chance, 1100)} for _ in range(96)]
    for name, lines in (("chats", chats), ("preferences", preferences), ("texts", texts)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")


def small(name: str, steps: int, more: Settings) -> Settings:
    said: Settings = {
        "name": name,
        "base": "scratch",
        "scratch": {"vocabSize": 512, "hiddenSize": 128, "intermediateSize": 352, "numHiddenLayers": 4}
        | {"numAttentionHeads": 4, "numKeyValueHeads": 2, "headDim": 32},
        "method": "full",
        "data": "chats.jsonl",
        "epochs": 1000,
        "steps": steps,
        "gpus": int(GPU),
        "dataset": {"maxLength": 128},
        "batch": {"rows": 8, "microRows": 4},
        "optimizer": {"learningRate": 1e-3},
        "checkpointing": {"everySteps": max(1, steps // 5)},
        "spot": {"watch": False, "guarantee": "off"},
    }
    return said | more


def large(name: str, steps: int, tiny: bool, more: Settings) -> Settings:
    """340 M parameters, rows of 1,024 tokens. Tiny: as many layers as a bench of the script itself needs."""
    hidden, layers, vocab, rows, length = (64, 2, 1000, 2, 64) if tiny else (1024, 24, 32_000, 16, 1024)
    said: Settings = {
        "name": name,
        "base": "scratch",
        "scratch": {"vocabSize": vocab, "hiddenSize": hidden, "intermediateSize": hidden * 11 // 4}
        | {"numHiddenLayers": layers, "numAttentionHeads": hidden // 64, "numKeyValueHeads": hidden // 64}
        | {"headDim": 64},
        "method": "full",
        "data": "texts.jsonl",
        "epochs": 100_000,
        "steps": steps,
        "gpus": int(GPU),
        "precision": "bfloat16",
        "dataset": {"maxLength": length, "packing": False, "trainOn": "all"},
        "batch": {"rows": rows, "microRows": rows},
        "optimizer": {"learningRate": 1e-4},
        "checkpointing": {"everySeconds": 1e6},
        "spot": {"watch": False, "guarantee": "off"},
    }
    return said | more


def write_run(folder: Path, said: Settings) -> Path:
    path = folder / f"{said['name']}.yaml"
    path.write_text(json.dumps(said))  # JSON is YAML
    return path


# --- a run, from outside ----------------------------------------------------------------------------------------------


def lines_of(state: Path, name: str) -> list[Settings]:
    """Of its record, all launches."""
    found = []
    for path in sorted((state / "runs" / name / "record").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):  # being written
                found.append(json.loads(line))
    return found


def steps_of(lines: list[Settings]) -> list[Settings]:
    return [line for line in lines if line["kind"] == "step"]


class Launched:
    """`stoker train` in a process of its own. `wrap`: how its processes are other than they are, see `process`."""

    def __init__(self, run_file: Path, state: Path, wrap: str) -> None:
        self.said = state.parent / f"{state.name}.said"
        with self.said.open("ab") as out:
            argv = [sys.executable, __file__, "--launch", str(run_file), "--state", str(state), "--wrap", wrap]
            environ = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true"}
            self.child = subprocess.Popen(argv, stdout=out, stderr=out, env=environ)

    def trainers(self) -> list[int]:
        """Pids of its processes."""
        path = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        return [int(word) for word in path.read_text().split()] if path.exists() else []

    def wait(self, timeout_s: float) -> int:
        try:
            return self.child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.child.terminate()
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                self.child.kill()
            raise

    def until(self, step: int, state: Path, name: str, timeout_s: float) -> None:
        """Until a step of that number, or a later one, is in the record of the launch that goes on."""
        ends_at = time.monotonic() + timeout_s
        while time.monotonic() < ends_at and self.child.poll() is None:
            files = sorted((state / "runs" / name / "record").glob("*.jsonl"))
            steps = [line["step"] for line in steps_of(lines_of(state, name)[-1:])] if files else []
            if steps and steps[-1] >= step:
                return
            time.sleep(0.005)
        raise TimeoutError(f"no step {step} in {name}")


def last_checkpoint(state: Path, name: str) -> list[Any]:
    from stoker.registry.runs import RunStore
    from stoker.registry.stores import open_store

    store = RunStore(open_store(str(state / "runs" / name)), name)
    found = store.head()
    assert found is not None
    manifest = store.manifest(found[0].entries[-1])
    return [manifest.step, [list(shard.chunks) for shard in manifest.shards]]


def tail(path: Path, lines: int = 12) -> list[str]:
    return [line[:300] for line in path.read_text(errors="replace").splitlines()[-lines:]] if path.exists() else []


def process(wrap: str, argv: list[str]) -> int:
    """`python -m stoker.train`, other than it is: `sharded`: FSDP2 also where there is one process; `two`: all
    processes on the first card, over gloo, since NCCL wants a card for each."""
    from stoker.train import __main__ as main

    patch(wrap)
    sys.argv = ["stoker.train", *argv]
    return main.main()


def patch(wrap: str) -> None:
    import torch.distributed as dist

    from stoker.train import starting, world

    if wrap == "sharded":
        begin = world.World.__init__

        def alone(self: world.World, *args: Any, **more: Any) -> None:
            begin(self, *args, **more)
            backend = "cpu:gloo,cuda:nccl" if GPU else "gloo"
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)

        world.World.__init__ = alone
        starting.is_sharded_in = lambda run, _: run.parallel == "shard"
    elif wrap == "two":
        join = dist.init_process_group
        dist.init_process_group = lambda _, **more: join("cpu:gloo,cuda:gloo" if GPU else "gloo", **more)
        world._device = lambda *_: torch.device("cuda", 0) if GPU else torch.device("cpu")


def launch(run_file: Path, state: Path, wrap: str) -> int:
    from stoker.train import launching

    if wrap:
        launching.TRAINER = (__file__, "--process", wrap)
    sys.argv = ["stoker", "train", str(run_file), "--state", str(state)]
    from stoker.cli import main

    return int(main() or 0)


# --- is it the same run? ----------------------------------------------------------------------------------------------

_LORA: Settings = {"method": "lora", "base": "embedded", "lora": {"dropout": 0.1}, "dataset": {"maxLength": 192}}
EXACT: dict[str, tuple[str, Settings]] = {
    "float32": ("", {"precision": "float32", "validation": "chats.jsonl", "validateEvery": 50}),
    "bf16": ("", {}),
    "bf16-dropout": ("", {"dropout": 0.1}),
    "bf16-unpacked": ("", {"dataset": {"maxLength": 128, "packing": False}}),
    "bf16-compiled": ("", {"compile": True}),
    "float32-compiled": ("", {"compile": True, "precision": "float32"}),
    "bf16-recompute": ("", {"recompute": True, "batch": {"rows": 8, "microRows": 1}}),
    "bf16-images": ("", {"scratch": small("", 1, {})["scratch"] | {"images": True}}),
    "bf16-lora": ("", _LORA),
    "bf16-dpo": ("", {"objective": "dpo", "data": "preferences.jsonl", "optimizer": {"learningRate": 1e-4}}),
    "bf16-free": ("", {"deterministic": False}),
    "float32-sharded": ("sharded", {"parallel": "shard", "precision": "float32"}),
    "bf16-sharded": ("sharded", {"parallel": "shard"}),
    "bf16-sharded-compiled": ("sharded", {"parallel": "shard", "compile": True}),
    "two-replicate": ("two", {"parallel": "replicate", "precision": "float32"}),
    "two-shard": ("two", {"parallel": "shard", "precision": "float32"}),
}
ON_PROCESSORS: dict[str, Settings] = {
    "cpu": {},
    "cpu-images": EXACT["bf16-images"][1],
    "cpu-unpacked": EXACT["bf16-unpacked"][1],
    "cpu-dpo": EXACT["bf16-dpo"][1],
}
BESIDE = {"bf16-images": "cpu-images", "bf16-unpacked": "cpu-unpacked", "bf16-dpo": "cpu-dpo", "bf16-lora": None}
BESIDE |= {"bf16-dropout": None}


def whole(folder: Path, name: str, wrap: str, said: Settings, limit_s: float) -> list[Settings]:
    """A run that nobody touches: its record."""
    state = folder / f"{name}.whole"
    ran = Launched(write_run(folder, said), state, wrap)
    code = ran.wait(limit_s)
    if code:
        raise RuntimeError(f"exit code {code}: {tail(ran.said)}")
    return lines_of(state, said["name"])


def interrupted(folder: Path, name: str, wrap: str, said: Settings, limit_s: float, kills: bool) -> list[Settings]:
    """The same run, killed at a third and stopped at two thirds."""
    state = folder / f"{name}.cut"
    run_file = write_run(folder, said)
    ran = Launched(run_file, state, wrap)
    try:
        if kills:
            ran.until(said["steps"] // 3, state, said["name"], limit_s)
            os.kill(ran.trainers()[0], signal.SIGKILL)
        ran.until(2 * said["steps"] // 3, state, said["name"], limit_s)
        ran.child.send_signal(signal.SIGTERM)
        code = ran.wait(limit_s)
        if code != 75:
            raise RuntimeError(f"exit code {code} after SIGTERM: {tail(ran.said)}")
        code = Launched(run_file, state, wrap).wait(limit_s)
    except (TimeoutError, subprocess.TimeoutExpired, IndexError) as error:
        ran.child.terminate()
        raise RuntimeError(f"{type(error).__name__} {error}: {tail(ran.said)}") from error
    if code:
        raise RuntimeError(f"exit code {code} after the second launch: {tail(ran.said)}")
    return lines_of(state, said["name"])


def exact(name: str, steps: int, limit_s: float, folder: Path, kills: bool) -> list[float]:
    """Says whether the two are the same, and returns losses."""
    wrap, more = EXACT[name]
    gpus = 2 if wrap == "two" else 1
    said = small(name, steps, {**more, "gpus": gpus * GPU, "processes": 2 if wrap == "two" else 1})
    begun_at = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(interrupted, folder, name, wrap, said, limit_s, kills) if wrap != "two" else None
        lines = whole(folder, name, wrap, said, limit_s)
    seen = {line["step"]: (line["loss"], line["samples"]) for line in steps_of(lines)}
    losses = [seen[step][0] for step in sorted(seen)]
    first = {"first_loss": losses[0], "last_loss": losses[-1]}
    if other is None:
        say("exact", name=name, **first, seconds=round(time.monotonic() - begun_at, 1))
        return losses
    cut = other.result()
    again, state = steps_of(cut), folder / f"{name}.cut"
    differing = [line for line in again if (line["loss"], line["samples"]) != seen[line["step"]]]
    say(
        "exact",
        name=name,
        **first,
        launches=sum(line["kind"] == "launch" for line in cut),
        ends=[line["state"] for line in cut if line["kind"] == "end"],
        went_on_from=[line["step"] for line in cut if line["kind"] == "resume"],
        steps_seen=len(again),
        other_samples=sum(line["samples"] != seen[line["step"]][1] for line in differing),
        other_losses=len(differing),
        most_apart=max((abs(line["loss"] - seen[line["step"]][0]) for line in differing), default=0.0),
        same_checkpoint=last_checkpoint(state.with_suffix(".whole"), name) == last_checkpoint(state, name),
        seconds=round(time.monotonic() - begun_at, 1),
    )
    return losses


def exacts(steps: int, limit_s: float, folder: Path, names: list[str], at_once: int, kills: bool) -> None:
    write_data(folder)
    losses: dict[str, list[float]] = {}

    def one(name: str) -> None:
        try:
            if name in EXACT:
                losses[name] = exact(name, steps, limit_s, folder, kills)
            else:
                said = small(name, steps, {**ON_PROCESSORS[name], "gpus": 0, "precision": "float32"})
                losses[name] = [line["loss"] for line in steps_of(whole(folder, name, "", said, limit_s))]
        except Exception as error:  # the others go on
            say("exact", name=name, error=f"{type(error).__name__}: {error}"[:3000])

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, names))
    for name, of in losses.items():
        other = losses.get(BESIDE.get(name, "cpu") or "")
        if other is not None and not name.startswith("cpu"):
            apart = [abs(a - b) / abs(b) for a, b in zip(of, other, strict=True)]
            say("exact", name=name, beside_processors=max(apart), of_first_10=max(apart[:10]))


# --- how fast? --------------------------------------------------------------------------------------------------------


class Enough(Exception):
    """All turns are over."""


class Turns:
    """Threads that take turns, BLOCK steps each; each calls `step` between two of its steps. Nothing is waited for
    within a turn but what a participant itself waits for."""

    def __init__(self, participants: dict[str, bool]) -> None:
        """Name -> deterministic."""
        self._names = list(participants)
        self._deterministic = participants
        self._changed = threading.Condition()
        self._now = self._names[0]
        self._left = list(self._names)
        self._done = dict.fromkeys(self._names, 0)
        self._at = 0.0
        self._held = 0
        self.seconds: dict[str, list[float]] = {name: [] for name in self._names}
        self.peak: dict[str, int] = dict.fromkeys(self._names, 0)

    def begin(self, name: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._now == name)
        torch.use_deterministic_algorithms(self._deterministic[name])
        torch.utils.deterministic.fill_uninitialized_memory = name != "ours"  # as torch has it, and as `world` has it
        if GPU:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._held = torch.cuda.memory_allocated()
        self._at = time.perf_counter()

    def step(self, name: str) -> None:
        """Raises Enough."""
        done = self._done[name]
        self._done[name] += 1
        if done % BLOCK == 0:
            if done:
                if GPU:
                    torch.cuda.synchronize()
                    self.peak[name] = torch.cuda.max_memory_allocated() - self._held
                self.seconds[name].append((time.perf_counter() - self._at) / BLOCK)
                if done == BLOCK * TURNS:
                    raise Enough
                self._give(name)
            self.begin(name)

    def end(self, name: str) -> None:
        self._give(name)
        with self._changed:
            self._left.remove(name)

    def _give(self, name: str) -> None:
        with self._changed:
            at = self._left.index(name)
            self._now = self._left[(at + 1) % len(self._left)]
            self._changed.notify_all()


def autocast() -> Any:
    return torch.autocast(DEVICE.type, dtype=torch.bfloat16)


def loop(module: nn.Module, loss_of: Callable[[], torch.Tensor], step_done: Callable[[], None]) -> None:
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda number: 1 - number / 10_000)
    with contextlib.suppress(Enough):
        while True:
            step_done()
            with autocast():
                loss = loss_of()
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


def bare(run: Any, folder: Path, step_done: Callable[[], None]) -> None:
    from stoker.nn import config as configs
    from stoker.nn.torch_model import LanguageModel
    from stoker.train import encoding
    from stoker.train.losses import sft
    from stoker.train.model import base_folder, rows_on
    from stoker.train.source import open_source

    base = base_folder(run, here=folder, cache=folder / "cache")
    with DEVICE:
        module = LanguageModel(configs.load(base), recompute=run.recompute).train()
    initialised(module)
    if run.compile:
        module.by_document = False
        for layer in module.model.layers:
            layer.compile()
    source = open_source(run, run.data, encoding.encoder_of(base), here=folder, tell=lambda _: None)
    step = source.step(0)
    rows = rows_on(step.passes[0].rows, DEVICE)
    loop(module, lambda: sft(module, rows) / step.weight, step_done)


def initialised(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.02)
            else:
                parameter.fill_(1.0)


def hugging_face(run: Any, folder: Path, step_done: Callable[[], None]) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from stoker.nn import config as configs
    from stoker.train.model import base_folder

    ours = configs.load(base_folder(run, here=folder, cache=folder / "cache"))
    config = LlamaConfig(
        vocab_size=ours.vocab_size,
        hidden_size=ours.hidden_size,
        intermediate_size=ours.intermediate_size,
        num_hidden_layers=ours.num_hidden_layers,
        num_attention_heads=ours.num_attention_heads,
        num_key_value_heads=ours.num_key_value_heads,
        head_dim=ours.head_dim,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
        use_cache=False,
    )
    with DEVICE:
        module = LlamaForCausalLM(config).float().train()
    tokens = torch.randint(0, ours.vocab_size, (run.batch.rows, run.dataset.max_length), device=DEVICE)
    loop(module, lambda: module(input_ids=tokens, labels=tokens).loss, step_done)


def speed(config: Settings, tiny: bool, out: Path) -> None:
    """`more`: what the run file says beside; `beside`: participants -> deterministic."""
    from stoker import spec
    from stoker.base import logs
    from stoker.base.clock import SystemClock
    from stoker.nn import config as configs
    from stoker.train.model import base_folder
    from stoker.train.starting import Process

    logs.configure("train", level="error")
    name = config["name"]
    if config["more"].get("parallel") == "shard":
        patch("sharded")
    # cuBLAS reads it once; the bare loop would be without it otherwise.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    others = {"bare": bare, "bare-free": bare, "HF": hugging_face}
    participants = {"ours": bool(config["more"].get("deterministic", True)), **config["beside"]}
    turns = Turns(participants)
    profiled = 2 if config.get("profile") else 0
    with tempfile.TemporaryDirectory(prefix="speed-") as place:
        folder = Path(place)
        write_data(folder)
        run_file = write_run(folder, large("speed", BLOCK * TURNS + profiled + 1, tiny, config["more"]))
        run = spec.load_run(run_file)
        shared = out / "scratch-cache"
        base = base_folder(run, here=folder, cache=shared)
        for cache in (folder / "cache", folder / "state" / "runs" / "speed" / "cache"):
            shutil.copytree(shared, cache)
        failed: list[str] = []

        def act(participant: str) -> None:
            turns.begin(participant)
            try:
                others[participant](run, folder, lambda: turns.step(participant))
            except Exception as error:  # the others go on
                failed.append(f"{participant}: {type(error).__name__}: {error}"[:600])
            finally:
                turns.end(participant)

        threads = [threading.Thread(target=act, args=(each,), daemon=True) for each in config["beside"]]
        for each in threads:
            each.start()
        left = profiled
        profiler = torch.profiler.profile(activities=list(torch.profiler.supported_activities())) if profiled else None

        def ours(moment: str) -> None:
            nonlocal left
            if moment != "pass":
                return
            if left < profiled:  # turns are over
                left -= 1
                if left < 0:
                    raise Enough
                return
            try:
                turns.step("ours")
            except Enough:
                if profiler is None:
                    raise
                turns.end("ours")
                for each in threads:
                    each.join()
                torch.use_deterministic_algorithms(participants["ours"])
                left -= 1
                profiler.start()

        process = Process(
            run,
            run_file,
            folder / "state",
            environ={"AWS_EC2_METADATA_DISABLED": "true"},
            clock=SystemClock(),
            crash=ours,
        )
        turns.begin("ours")
        try:
            process.go()
        except Enough:
            pass
        except Exception as error:  # what was measured is told
            failed.append(f"ours: {type(error).__name__}: {error}"[:1500])
        if profiler is not None and left < profiled:
            if GPU:
                torch.cuda.synchronize()
            profiler.stop()
            tell_profile(name, profiler, profiled, out)
        else:
            turns.end("ours")
        for each in threads:
            each.join(60)
        lines = steps_of(lines_of(folder / "state", "speed"))
        shape = configs.load(base)
    tokens = run.batch.rows * run.dataset.max_length
    flops = flops_of_token(shape, run.dataset.max_length)
    seconds = {each: turns.seconds[each][1:] for each in participants}
    say(
        "speed",
        name=name,
        parameters=parameters_of(shape),
        tokens_of_step=tokens,
        ms={each: round(1e3 * statistics.median(of), 2) for each, of in seconds.items() if of},
        tokens_per_s={each: round(tokens / statistics.median(of)) for each, of in seconds.items() if of},
        mfu={each: round(flops * tokens / statistics.median(of) / PEAK_FLOPS, 4) for each, of in seconds.items() if of},
        ours_by=ratios(seconds),
        peak_gb={each: round(of / 1e9, 2) for each, of in turns.peak.items()},
        data_ms=round(1e3 * statistics.median(line["data_s"] for line in lines), 3) if lines else None,
        turns_ms={each: [round(1e3 * one, 1) for one in of] for each, of in turns.seconds.items()},
        pinned_gb=pinned(),
        failed=failed,
    )


def pinned() -> dict[str, float]:
    """What torch holds of pinned memory, as far as it says so; beside what is asked for, which is the state's size."""
    if not (GPU and hasattr(torch.cuda, "host_memory_stats")):
        return {}
    found = torch.cuda.host_memory_stats()
    return {
        key: round(of / 1e9, 2) for key, of in found.items() if "bytes" in key and key.endswith(("current", "peak"))
    }


def ratios(seconds: dict[str, list[float]]) -> dict[str, list[float]]:
    """Tokens per second of ours by those of each other: median, least and most of the pairs of turns."""
    found = {}
    for name, of in seconds.items():
        pairs = sorted(theirs / ours for ours, theirs in zip(seconds["ours"], of, strict=False))
        if name != "ours" and pairs:
            found[name] = [round(each, 4) for each in (statistics.median(pairs), pairs[0], pairs[-1])]
    return found


def parameters_of(shape: Any) -> int:
    attention = shape.hidden_size * (2 * shape.query_size + 2 * shape.kv_size)
    layer = attention + 3 * shape.hidden_size * shape.intermediate_size + 2 * shape.hidden_size
    return int(shape.num_hidden_layers * layer + shape.vocab_size * shape.hidden_size + shape.hidden_size)


def flops_of_token(shape: Any, length: int) -> float:
    """Forward and backward, as torchtitan counts them: 6 for each parameter that is multiplied with (the output layer
    is the embeddings), 12 for each layer, hidden unit and token of the row; nothing for what is computed again."""
    return 6.0 * parameters_of(shape) + 12.0 * shape.num_hidden_layers * shape.query_size * length


def tell_profile(name: str, profiler: Any, steps: int, out: Path) -> None:
    averages = profiler.key_averages()
    (out / f"profile-{name}.txt").write_text(averages.table(sort_by="self_device_time_total", row_limit=60))
    kernels = [each for each in averages if str(each.device_type).endswith("CUDA")]
    total = sum(each.self_device_time_total for each in kernels)
    top = sorted(kernels, key=lambda each: -each.self_device_time_total)[:14]
    say(
        "profile",
        name=name,
        kernels_ms=round(total / 1e3 / steps, 1),
        top=[[each.key[:70], round(each.self_device_time_total / 1e3 / steps, 2), each.count // steps] for each in top],
    )


# --- what do saves cost? ----------------------------------------------------------------------------------------------


def saves(mode: str, tiny: bool, limit_s: float, out: Path, kills: bool) -> None:
    from stoker import spec
    from stoker.train.model import base_folder

    steps = 120
    with tempfile.TemporaryDirectory(prefix="saves-") as place:
        folder = Path(place)
        write_data(folder)
        said = large("saves", steps, tiny, {"checkpointing": {"everySteps": 40, "keepLast": 1, "mode": mode}})
        run = spec.load_run(write_run(folder, said))
        shared = out / "scratch-cache"
        base_folder(run, here=folder, cache=shared)
        for each in ("whole", "cut"):
            shutil.copytree(shared, folder / f"{mode}.{each}" / "runs" / "saves" / "cache")
        is_stopped = mode == "overlapped"
        begun_at = time.monotonic()
        if is_stopped:
            lines = interrupted(folder, mode, "", said, limit_s, kills)
        else:
            lines = whole(folder, mode, "", said, limit_s)
        launches: list[list[Settings]] = []
        for line in lines:
            if line["kind"] == "launch":
                launches.append([])
            launches[-1].append(line)
        say(
            "saves",
            mode=mode,
            launches=[told_of_launch(each) for each in launches],
            seconds=round(time.monotonic() - begun_at, 1),
        )


def told_of_launch(lines: list[Settings]) -> Settings:
    steps = steps_of(lines)
    saved = [line for line in lines if line["kind"] == "save"]
    busy = [(line["up"] - line["seconds"], line["up"]) for line in saved]
    quiet, during = [], []
    for line in steps[3:]:
        begin, end = line["up"] - line["seconds"], line["up"]
        meets = any(begin < b and a < end for a, b in busy)
        (during if meets else quiet).append(1e3 * (line["seconds"] - line["stall_s"]))
    resumed = [line for line in lines if line["kind"] == "resume"]
    return {
        "first_step_s": round(steps[0]["at"] - lines[0]["started_at"], 2) if steps else None,
        "recorded_after_s": round(lines[0]["at"] - lines[0]["started_at"], 2),
        "first_steps_ms": [round(1e3 * line["seconds"], 1) for line in steps[:3]],
        "quiet_ms": round(statistics.median(quiet), 1) if quiet else None,
        "during_ms": round(statistics.median(during), 1) if during else None,
        "during": len(during),
        "waited_in_steps_ms": [round(1e3 * line["stall_s"], 2) for line in steps if line["stall_s"] > 1e-4],
        "saves": [
            {"step": line["step"], "why": line["why"], "stall_ms": round(1e3 * line["stall_s"], 2)}
            | {"seconds": line["seconds"], "gb": round(line["bytes"] / 1e9, 3)}
            for line in saved
        ],
        "restored_s": [round(line["seconds"], 2) for line in resumed],
    }


# --- the machine ------------------------------------------------------------------------------------------------------


def machine() -> None:
    import platform

    found: Settings = {"python": platform.python_version(), "torch": torch.__version__, "cores": os.cpu_count()}
    if GPU:
        a, b = (torch.randn(8192, 8192, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
        source = torch.randn(1 << 28, device=DEVICE)
        target = torch.empty(1 << 28, pin_memory=True)
        copied_s = timed(lambda: target.copy_(source, non_blocking=True), 5)
        found |= {
            "card": torch.cuda.get_device_name(),
            "memory_gb": round(torch.cuda.mem_get_info()[1] / 1e9, 1),
            "matrix_tflops": round(2 * 8192**3 / timed(lambda: a @ b, 20) / 1e12),
            "to_host_gb_per_s": round(4 * (1 << 28) / copied_s / 1e9, 1),
        }
    for place in (Path(tempfile.gettempdir()), Path("/dev/shm")):
        data = os.urandom(1 << 20) * 256
        path = place / "probe"
        begun_at = time.perf_counter()
        with path.open("wb") as file:
            for _ in range(4):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        found[f"write_gb_per_s {place}"] = round(4 * len(data) / (time.perf_counter() - begun_at) / 1e9, 2)
        path.unlink()
    say("machine", **found)


def memory() -> None:
    """Pinned memory for a copy of a state of 341 M parameters: as torch allocates it, and as `train.state` does."""
    from stoker.train import state

    count = 3 * 341_099_520 if GPU else 1 << 20
    source = torch.randn(count, device=DEVICE)
    makers = {"torch": lambda: torch.empty(count, pin_memory=True), "ours": lambda: state._pinned(count)}
    for name, make in makers.items() if GPU else ():
        before, begun_at = rss(), time.perf_counter()
        target = make()
        made_s, resident = time.perf_counter() - begun_at, rss() - before
        begun_at = time.perf_counter()
        target.copy_(source, non_blocking=True)
        returned_s = time.perf_counter() - begun_at
        torch.cuda.synchronize()
        seconds = timed(lambda target=target: target.copy_(source, non_blocking=True), 5)
        same = torch.equal(target[-1000:], source[-1000:].cpu())
        say(
            "memory",
            name=name,
            asked_gb=round(4 * count / 1e9, 3),
            resident_gb=round(resident / 1e9, 3),
            same=same,
            made_s=round(made_s, 2),
            returned_s=round(returned_s, 4),
            gb_per_s=round(4 * count / seconds / 1e9, 1),
            pinned_gb=pinned(),
        )
        del target
    say("memory", resident_after_gb=round(rss() / 1e9, 2), pinned_gb=pinned())


def rss() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def timed(call: Callable[[], object], times: int) -> float:
    for _ in range(3):
        call()
    taken = []
    for _ in range(times):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        taken.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(taken)


# --- all of it --------------------------------------------------------------------------------------------------------

SPEEDS: dict[str, Settings] = {
    "eager-free": {"more": {"deterministic": False}, "beside": {"bare": False, "HF": False}, "profile": True},
    "eager": {"more": {}, "beside": {"bare": True, "bare-free": False}},
    "compiled": {"more": {"compile": True}, "beside": {"bare": True}, "profile": True},
    "compiled-free": {"more": {"compile": True, "deterministic": False}, "beside": {"bare": False}},
    "sharded": {"more": {"parallel": "shard"}, "beside": {"bare": True}},
    "sharded-compiled": {"more": {"parallel": "shard", "compile": True}, "beside": {"bare": True}},
    "packed": {"more": {"dataset": {"maxLength": 1024, "trainOn": "all"}}, "beside": {"bare": True}},
    "recompute": {"more": {"recompute": True}, "beside": {"bare": True}},
}


def parts(options: argparse.Namespace) -> Iterator[tuple[list[str], float]]:
    """Words of each part's process, and its limit in seconds."""
    asked = options.only.split(",")
    if "machine" in asked:
        yield ["machine"], 60
    if "memory" in asked:
        yield ["memory"], 60
    if "exact" in asked:
        yield ["exact"], options.exact_limit
    for each in options.speeds.split(",") if "speed" in asked else ():
        yield ["speed", each], options.part_limit
    for each in options.modes.split(",") if "saves" in asked else ():
        yield ["saves", each], options.part_limit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "stoker-gpu")
    parser.add_argument("--only", default="machine,memory,exact,speed,saves")
    parser.add_argument("--exacts", default=",".join([*ON_PROCESSORS, *EXACT]))
    parser.add_argument("--speeds", default=",".join(SPEEDS))
    parser.add_argument("--modes", default="overlapped,async,sync")
    parser.add_argument("--steps", type=int, default=120, help="of each small run")
    parser.add_argument("--at-once", type=int, default=10, help="small runs at the same time")
    parser.add_argument("--exact-limit", type=float, default=240)
    parser.add_argument("--part-limit", type=float, default=180)
    parser.add_argument("--without-kill", action="store_true", help="SIGTERM alone, which saves a start")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--part", nargs="+", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--launch", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--state", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--wrap", default="", help=argparse.SUPPRESS)
    if sys.argv[1:2] == ["--process"]:
        return process(sys.argv[2], sys.argv[3:])
    options = parser.parse_args()
    if options.launch is not None:
        return launch(options.launch, options.state, options.wrap)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part is not None:
        acted(options)
        return 0
    for part, limit_s in parts(options):
        run_part(part, limit_s, options)
    return 0


def acted(options: argparse.Namespace) -> None:
    kind, *more = options.part
    if kind == "machine":
        machine()
    elif kind == "memory":
        memory()
    elif kind == "exact":
        with tempfile.TemporaryDirectory(prefix="exact-") as folder:
            limit_s, kills = 0.9 * options.exact_limit, not options.without_kill
            exacts(options.steps, limit_s, Path(folder), options.exacts.split(","), options.at_once, kills)
    elif kind == "speed":
        speed({"name": more[0], **SPEEDS[more[0]]}, options.tiny, options.out)
    else:
        saves(more[0], options.tiny, 80, options.out, not options.without_kill)


def run_part(part: list[str], limit_s: float, options: argparse.Namespace) -> None:
    begun_at = time.monotonic()
    argv = [sys.executable, __file__, *sys.argv[1:], "--part", *part]
    said = options.out / f"{'-'.join(part)}.log"
    with said.open("wb") as log, (options.out / "found.jsonl").open("a") as found:
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        late = threading.Timer(limit_s, functools.partial(os.killpg, child.pid, signal.SIGKILL))
        late.start()
        assert child.stdout is not None
        for line in child.stdout:
            found.write(line)
            found.flush()
            print(line, end="", flush=True)
        code = child.wait()
        late.cancel()
    seconds = round(time.monotonic() - begun_at, 1)
    say("part", name=part, code=code, seconds=seconds, **({"said": tail(said)} if code else {}))


if __name__ == "__main__":
    sys.exit(main())
