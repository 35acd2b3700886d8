"""How long `stoker render` takes, start of the process included, beside what Python and its imports take alone.

    .venv/bin/python benchmarks/render/speed.py [--rounds 9] [--only default,everything]

Each run is a new process, pinned to one core, that writes into an empty folder; figures are medians of the rounds,
which take turns; wall time. "again" writes into a folder that says it already. No peer renders the same thing, so
none is timed; the floor is a process that imports what the command imports, and one that only starts Python.

Goal: under 1 s for each spec in each mode.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "up"))
from machine import describe

GOAL_S = 1.0
MODES = ("karpenter", "auto", "hybrid")
EXAMPLES = Path(__file__).parents[2] / "examples"
SPECS = {"default": None, "guide-values": "guide-values.yaml", "everything": "everything.yaml"}
STOKER = (sys.executable, "-m", "stoker.cli.app", "render")
IMPORTS = "import stoker.cli.app, stoker.spec.platform, stoker.spec.loading, stoker.render.run, stoker.render.folder"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default=",".join(SPECS))
    options = parser.parse_args()
    print(describe())
    chosen = [name for name in SPECS if name in options.only.split(",")]
    times: dict[str, list[float]] = {}
    sizes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as directory:
        for number in range(options.rounds):
            times.setdefault("python alone", []).append(seconds([sys.executable, "-c", "pass"], directory))
            times.setdefault("python with the imports", []).append(seconds([sys.executable, "-c", IMPORTS], directory))
            for name in chosen:
                for mode in MODES:
                    out = Path(directory) / f"{name}-{mode}-{number}"
                    command = rendering(name, mode, out)
                    times.setdefault(f"{name}, {mode}", []).append(seconds(command, directory))
                    sizes[f"{name}, {mode}"] = size(out)
                    if mode == "karpenter":
                        times.setdefault(f"{name}, {mode}, again", []).append(seconds(command, directory))
    report(times, sizes)


def rendering(name: str, mode: str, out: Path) -> list[str]:
    spec = SPECS[name]
    return [*STOKER, *(["-f", str(EXAMPLES / spec)] if spec else []), "--mode", mode, "-o", str(out)]


def seconds(command: Sequence[str], folder: str) -> float:
    """Wall time of a new process on one core, in a folder without a platform.yaml."""
    core = min(os.sched_getaffinity(0))
    began = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise SystemExit(f"{command} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return took


def size(folder: Path) -> str:
    """Objects, blocks of Terraform and files."""
    files = [
        path for path in folder.rglob("*") if path.suffix in (".yaml", ".tf") and path.name != "kustomization.yaml"
    ]
    objects = sum(path.read_text().count("\nkind: ") for path in files if path.suffix == ".yaml")
    blocks = sum(path.read_text().count("\n}") for path in files if path.suffix == ".tf")
    return f"{objects} objects, {blocks} blocks of Terraform, {len(files)} files"


def report(times: dict[str, list[float]], sizes: dict[str, str]) -> None:
    print(f"\nPython {platform.python_version()}\n{'':34} {'median':>9} {'lowest':>9} {'highest':>9}")
    for name, each in times.items():
        said = f"{statistics.median(each):8.3f}s {min(each):8.3f}s {max(each):8.3f}s"
        print(f"{name:34} {said}  {sizes.get(name, '')}")
    slowest = max(statistics.median(each) for name, each in times.items() if name in sizes)
    print(f"slowest median {slowest:.3f} s; under {GOAL_S} s: {'met' if slowest < GOAL_S else 'NOT met'}")


if __name__ == "__main__":
    main()
