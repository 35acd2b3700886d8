"""How much damage is loaded without a word: our checkpoints beside torch.save, safetensors and DCP.

    .venv/bin/python benchmarks/train/integrity.py [--ours 10000] [--peers 150] [--seed 1] [--folder]

Ours is damaged in the fifteen ways of tests/registry/corruptions.py (bits, cuts, shards and manifests of other steps,
HEAD...) and has to fall back to the newest checkpoint that is whole, naming what it skipped and why; "silent" is a load
of wrong bytes, "lost" any other outcome than the right fallback. In memory, or in a folder with --folder (slower).

Of the peers one file is damaged, by one random bit each time: "silent" is a load that raises nothing and gives another
state than was saved. A flip that changes nothing that is loaded is harmless, and counted apart.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import structlog
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file

sys.path.append(str(Path(__file__).parents[2] / "tests/registry"))
sys.path.append(str(Path(__file__).parents[1] / "up"))
from corruptions import damage_and_read, make_run
from machine import describe
from test_integrity import Files

from stoker.registry.stores import open_store
from stoker.testing.stores import MemoryStore

State = dict[str, torch.Tensor]


def make_state() -> State:
    generator = torch.Generator().manual_seed(1)
    return {f"layer.{number}": torch.randn(64, 64, generator=generator) for number in range(8)}


def load_dcp(folder: Path, state: State) -> State:
    found = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    dcp.load(found, storage_reader=dcp.FileSystemReader(folder), no_dist=True)
    return found


PEERS: dict[str, tuple[Callable[[State, Path], object], Callable[[Path, State], State], str]] = {
    "torch.save": (
        lambda state, folder: torch.save(state, folder / "state.pt"),
        lambda folder, state: torch.load(folder / "state.pt"),
        "state.pt",
    ),
    "safetensors": (
        lambda state, folder: save_file(state, folder / "state.safetensors"),
        lambda folder, state: load_file(folder / "state.safetensors"),
        "state.safetensors",
    ),
    "DCP": (
        lambda state, folder: dcp.save(state, storage_writer=dcp.FileSystemWriter(folder), no_dist=True),
        load_dcp,
        "__0_0.distcp",
    ),
}
"""Save, load, and the file that is damaged."""


def flip_and_load(name: str, count: int, seed: int) -> Counter[str]:
    save, load, victim = PEERS[name]
    state, chance, outcomes = make_state(), random.Random(seed), Counter[str]()
    folder = Path(tempfile.mkdtemp(prefix="integrity-"))
    try:
        save(state, folder)
        whole = (folder / victim).read_bytes()
        for _ in range(count):
            data = bytearray(whole)
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            (folder / victim).write_bytes(data)
            try:
                found = load(folder, state)
            except BaseException as exc:  # DCP's error is no Exception
                if isinstance(exc, KeyboardInterrupt):
                    raise
                outcomes["caught"] += 1
                continue
            same = found.keys() == state.keys() and all(
                found[key].shape == tensor.shape
                and found[key].contiguous().numpy().tobytes() == tensor.numpy().tobytes()
                for key, tensor in state.items()
            )
            outcomes["harmless" if same else "silent"] += 1
    finally:
        shutil.rmtree(folder)
    return outcomes


def damage_ours(count: int, seed: int, in_folder: bool) -> Counter[str]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))  # thousands of warnings, all right
    if not in_folder:
        memory = MemoryStore()
        make_run(memory)
        tally = damage_and_read(memory, memory.objects, count, seed)
    else:
        with tempfile.TemporaryDirectory() as folder:
            store = open_store(folder)
            make_run(store)
            tally = damage_and_read(store, Files(Path(folder)), count, seed)
    for each in [*tally.silent, *tally.lost][:10]:
        print(f"  {each}")
    good = sum(tally.done.values()) - len(tally.silent) - len(tally.lost)
    return Counter({"right": good, "silent": len(tally.silent), "lost": len(tally.lost)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=int, default=10_000)
    parser.add_argument("--peers", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(describe("torch", "safetensors"))
    began = time.perf_counter()
    ours = damage_ours(options.ours, options.seed, options.folder)
    seconds = time.perf_counter() - began
    print(
        f"{'ours':12} {options.ours:6} damages: {ours['silent']} silent, {ours['lost']} lost, {ours['right']} loaded "
        f"what is whole and said why ({seconds:.0f} s)"
    )
    for name in PEERS:
        found = flip_and_load(name, options.peers, options.seed)
        print(
            f"{name:12} {options.peers:6} flips:   {found['silent']} silent, {found['caught']} caught, "
            f"{found['harmless']} harmless"
        )


if __name__ == "__main__":
    main()
