"""`stoker train RUN.yaml`: fine-tuning that survives its machine."""

import importlib.util
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stoker.base.errors import InvalidInput
from stoker.cli import show

if TYPE_CHECKING:
    from stoker.registry.stores import Store
    from stoker.spec.run import Run
    from stoker.train.checking import Checked
    from stoker.train.launching import Ended


@click.command()
@click.argument("run_file", metavar="RUN.yaml", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Read everything, say what it would do and cost, and begin nothing.")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    envvar="STOKER_STATE",
    default=".stoker",
    show_default=True,
    help="Directory in which runs and models are kept.",
)
@click.option("--fresh", is_flag=True, help="Begin anew; what there is of the run is put aside.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON at the end. Progress is on stderr all the same.")
@click.option("-v", "--verbose", is_flag=True, help="After an error that nobody expected, show where it was.")
def train(run_file: Path, check: bool, state: Path, fresh: bool, as_json: bool, verbose: bool) -> int:
    """Tune a model as RUN.yaml says, or go on where the run was interrupted.

    Exit codes: 0 completed, 1 failed, 2 asked wrongly, 75 interrupted (the same command goes on), 76 the budget is
    spent, 77 another launch of the run has taken over, 78 the loss is not a number any more.
    """
    if check and fresh:
        raise click.UsageError("--check begins nothing, so it does not go with --fresh")
    if check:
        from stoker.train import sigterm

        sigterm.release()
    from stoker.spec.loading import load_run

    run = load_run(run_file)
    if check:
        return _check(run, run_file, state, as_json=as_json)
    needs_torch("stoker train")
    from stoker.train import exits, launching, runs

    if fresh:
        runs.forget(state, run.name)
    ended = launching.launch(run, run_file, state=state, tell=show.note)
    _, store = runs.find(state, run.name)
    figures = _figures(run, store, ended)
    if as_json:
        show.as_json(figures)
    elif ended.code != exits.ASKED_WRONGLY:  # what is wrong is all that matters then
        _print(figures)
    _say_what_next(run, run_file, ended, figures)
    return ended.code


def needs_torch(command: str) -> None:
    """Raises InvalidInput where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise InvalidInput(
            f"`{command}` needs torch, which is not installed",
            hint="pip install 'stoker[train]'; in a checkout: .venv/bin/pip install -e '.[train]'",
        )


# --- what it came to --------------------------------------------------------------------------------------------------


def _figures(run: "Run", store: "Store", ended: "Ended") -> dict[str, Any]:
    from stoker.registry.runs import RunStore
    from stoker.train import exits, record

    summary = record.summary(record.read(store), now=time.time())
    head = RunStore(store, run.name).head()
    states = {
        exits.COMPLETED: "completed",
        exits.PREEMPTED: "preempted",
        exits.BUDGET_SPENT: "budget",
        exits.FENCED: "fenced",
    }
    return {
        "state": states.get(ended.code, "failed"),
        "run": run.name,
        "steps": summary.steps,
        "steps_of_all": summary.steps_of_all,
        "loss": summary.losses[max(summary.losses)] if summary.losses else None,
        "launches": summary.launches,
        "usd": summary.usd,
        "goodput": summary.goodput,
        "checkpoint": head[0].entries[-1].name if head is not None and head[0].entries else None,
        "store": store.url,
    }


def _print(figures: dict[str, Any]) -> None:
    said = {
        **{name: value for name, value in figures.items() if name != "steps_of_all"},
        "steps": f"{figures['steps']} of {figures['steps_of_all']}" if figures["steps_of_all"] else None,
        "launches": figures["launches"] or None,
        "usd": None if figures["usd"] is None else show.money(figures["usd"]),
        "goodput": None if figures["goodput"] is None else f"{100 * figures['goodput']:.1f} %",
        "loss": None if figures["loss"] is None else f"{figures['loss']:.4f}",
    }
    show.fields([(name, value) for name, value in said.items() if value is not None], 11)


def _say_what_next(run: "Run", run_file: Path, ended: "Ended", figures: dict[str, Any]) -> None:
    from stoker.train import exits

    command = f"stoker train {run_file}"
    has_begun = figures["checkpoint"] is not None
    goes_on = f"goes on from {figures['checkpoint']}" if has_begun else "begins at the beginning"
    shows = f"`stoker runs show {run.name}` shows"
    anew = "another `name`, or --fresh, trains anew"
    over = [f"{ended.why}, and nothing was left to do; {anew}"] if not ended.launches else []
    tries = f"evaluate {run_file}` asks what it has learned; `stoker register" if run.evaluation.suites else "register"
    unseen = "" if run.evaluation.suites else " with --unevaluated, since the run file has no evaluation.suites"
    words = {
        exits.COMPLETED: [
            *over,
            f"{shows} losses, and where time and money went",
            f"`stoker {tries} {run_file}` puts it into service{unseen}",
        ],
        exits.PREEMPTED: [f"interrupted ({ended.why}); `{command}` {goes_on}"],
        exits.BUDGET_SPENT: [f"{ended.why}; with a larger `budget` in {run_file}, `{command}` {goes_on}"],
        exits.FENCED: [f"{ended.why}; this one wrote nothing more"],
        exits.DIVERGED: [f"failed: {ended.why}", f"{shows} how it came to that; with other settings, {anew}"],
        exits.ASKED_WRONGLY: [f"failed: {ended.why}; when that is mended, `{command}` {goes_on}"],
        exits.FAILED: [f"failed: {ended.why}", f"{shows} how far it came; `{command}` {goes_on}"],
    }
    for line in words.get(ended.code, words[exits.FAILED]):
        show.note(line)


# --- --check ----------------------------------------------------------------------------------------------------------


def _check(run: "Run", run_file: Path, state: Path, *, as_json: bool) -> int:
    from stoker.train.checking import check

    found = check(run, run_file, state=state, tell=show.note)
    if as_json:
        show.as_json(_as_json(run, found))
    else:
        _print_checked(run, found)
    if found.may_begin or run.spot.guarantee != "require":
        return 0
    show.note("spot.guarantee is require, so the run would not begin")
    return 1


def _as_json(run: "Run", found: "Checked") -> dict[str, Any]:
    from dataclasses import asdict

    from stoker.cli.training_tables import options_as_dicts

    return {
        "state": "checked",
        "run": run.name,
        "store": found.store_url,
        "steps": found.steps,
        "tokens": found.tokens,
        "data": asdict(found.report),
        "parameters": found.size.parameters,
        "trained": found.size.trained,
        "checkpoint_bytes": found.size.checkpoint_bytes,
        "resumes": None if found.resumes is None else {"step": found.resumes[0], "checkpoint": found.resumes[1]},
        "step_s": found.step_s,
        "guarantee": None if found.guarantee is None else asdict(found.guarantee),
        "options": options_as_dicts(found.options),
    }


def _print_checked(run: "Run", found: "Checked") -> None:
    from stoker.cli import training_tables

    begins = "from the beginning" if found.resumes is None else f"from step {found.resumes[0]} ({found.resumes[1]})"
    if found.resumes is not None and found.resumes[0] >= found.steps:
        begins = f"all of them done ({found.resumes[1]})"
    processes = run.nodes * run.processes_per_node
    kind = f"process{'es' * (processes > 1)} on {'GPUs' if run.gpus else 'processors'}"
    click.echo(f"run {run.name}: {run.method} {run.objective} of {run.base}, by {processes} {kind}")
    click.echo(f"{found.steps:,} step{'s' * (found.steps != 1)}, {begins}; some {found.tokens:,} tokens")
    training_tables.show_size(found.size)
    click.echo(f"checkpoints are kept in {found.store_url}")
    if found.guarantee is not None:
        training_tables.show_guarantee(found.guarantee)
        if found.step_s is None:
            show.note("how long a step takes shows when it runs; it is not in that yet")
    click.echo("")
    training_tables.show_options(found.options)
