"""`stoker scale`: how many replicas each model has, and why."""

import time
from pathlib import Path
from typing import Any

import click

from stoker.cli import show, target

LOOK_EVERY_S = 0.5


@click.command()
@click.option("--state", type=click.Path(path_type=Path), help="State directory of the platform.")
@click.option(
    "--watch", is_flag=True, help="One line for each decision, with its reason, from the newest on; until Ctrl-C."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one object a line.")
def scale(state: Path | None, watch: bool, as_json: bool) -> None:
    """How many replicas each model has, what for, and what was decided last. docs/autoscaling.md has the arithmetic."""
    from stoker.local.state import StateDirectory
    from stoker.local.status import current

    directory = StateDirectory(state or target.default_state())
    run = current(directory)
    if run.get("state") not in ("up", "starting", "stopping"):
        show.note(f"{run.get('url')}  {run.get('state')}: what follows is history")
    said: dict[str, Any] = directory.read_scale()
    for model in said.get("models") or []:
        model["ready"] = ready_of(model["model"], run)  # as it is now; the rest is as it was at the last look
    if watch:
        _watch(directory, said, as_json=as_json)
    elif as_json:
        show.as_json(said)
    else:
        _table(said)


def _table(said: dict[str, Any]) -> None:
    models = said.get("models") or []
    if not models:
        show.note("no model here has replicas that come and go: none says replicas.min and a higher replicas.max")
        return
    show.table(
        ["model", "replicas", "ready", "min", "max", "load", "reason"],
        [[m["model"], m["replicas"], m["ready"], m["min"], m["max"], load(m), m["reason"]] for m in models],
    )


def ready_of(model: str, run: dict[str, Any]) -> int:
    """How many replicas of a model serve, by what `stoker ps` shows."""
    processes = run.get("processes") or []
    return sum(p["role"] == "worker" and p["model"] == model and p["state"] == "ready" for p in processes)


def load(model: dict[str, Any]) -> str:
    """`waiting 12/8  running 3/6`: what there is, and how much of it is one replica's."""
    targets = model["targets"]
    return "  ".join(
        f"{name} {'?' if value is None else format(value, 'g')}/{targets[name]:g}"
        for name, value in model["values"].items()
    )


def line(decision: dict[str, Any]) -> str:
    """`12:30:01  general  1 -> 3  waiting 30 at 4 each: 8, maximum limits it to 3`"""
    before, after = decision["before"], decision["after"]
    at = time.strftime("%H:%M:%S", time.localtime(decision["at"]))
    moved = f"{before} -> {after}" if after != before else f"{after} stays"
    return f"{at}  {decision['model']}  {moved}  {decision['reason']}"


def _watch(directory: Any, said: dict[str, Any], *, as_json: bool) -> None:
    seen = max((one["number"] for one in said["decisions"]), default=1) - 1
    while True:
        decisions = directory.read_scale()["decisions"]
        if decisions and decisions[-1]["number"] < seen:
            seen = 0  # another `stoker up` counts anew
        for decision in decisions:
            if decision["number"] > seen:
                seen = decision["number"]
                show.as_json(decision) if as_json else click.echo(line(decision))
        if not directory.is_locked():
            show.note("the platform has ended")
            return
        time.sleep(LOOK_EVERY_S)
