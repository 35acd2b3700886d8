"""`stoker drill spot --run FILE|ID`: which run is meant, where a drill keeps its two, and how the verdict reads."""

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stoker.base.errors import InvalidInput
from stoker.cli import show
from stoker.cli.train import needs_torch

if TYPE_CHECKING:
    from stoker.drill.training import Plan
    from stoker.drill.verdicts import Verdict
    from stoker.spec.run import Run

_MOST_BYTES = 4 << 20
_TERMINATED = 128 + signal.SIGTERM


def drill_training(named: str, state: Path, *, seed: int, kills: int, steps: int, as_json: bool) -> int:
    from stoker.drill.alone import alone
    from stoker.drill.training import Plan

    run = _run(named, state)
    needs_torch("stoker drill spot --run")
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"{state} cannot be made: {error.strerror}", param="state") from error
    with alone(state / "drill.lock"):
        plan = Plan(run, _new_folder(state.absolute() / "drills", run.name), kills=kills, steps=steps, seed=seed)
        verdict = _verdict(plan, quiet=as_json)
    if verdict.passed:
        shutil.rmtree(plan.folder, ignore_errors=True)
    if as_json:
        show.as_json(verdict.as_json(seed=seed))
    else:
        show.table(
            ["check", "", "what was seen"],
            [[check.name, "ok" if check.ok else "FAILED", check.said] for check in verdict.checks],
        )
        words = "pass" if verdict.passed else "fail"
        click.echo(f"\n{words}: run {run.name}, seed {seed}, {verdict.evidence['seconds']:g} s")
    if not verdict.passed:
        show.note(f"what both runs left, and what their processes said (log), is in {plan.folder}")
    return 0 if verdict.passed else 1


def _run(named: str, state: Path) -> "Run":
    """A file, or the run that was begun by that name; with places that do not depend on where the file is."""
    from stoker.spec.loading import load_run, run_of
    from stoker.train import runs

    file = Path(named)
    if file.is_file() or file.suffix in (".yaml", ".yml"):
        return runs.anchored(load_run(file), file.absolute().parent)
    _, store = runs.find(state, named)
    return run_of(store.read(runs.RUN_FILE, most_bytes=_MOST_BYTES)[0], f"{store.url}/{runs.RUN_FILE}")


def _new_folder(drills: Path, name: str) -> Path:
    number = 1
    while (drills / f"{name}-{number}").exists():
        number += 1
    return drills / f"{name}-{number}"


def _verdict(plan: "Plan", *, quiet: bool) -> "Verdict":
    from stoker.drill.training import drill

    is_terminated = False

    async def go() -> "Verdict":
        nonlocal is_terminated

        def terminate() -> None:
            nonlocal is_terminated
            is_terminated = True
            task.cancel()

        task = asyncio.ensure_future(drill(plan, environ=os.environ, tell=tell))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        return await task

    def tell(text: str) -> None:
        if not quiet:
            show.note(text)

    with contextlib.suppress(asyncio.CancelledError):
        return asyncio.run(go())
    if is_terminated:
        raise click.exceptions.Exit(_TERMINATED)
    raise KeyboardInterrupt
