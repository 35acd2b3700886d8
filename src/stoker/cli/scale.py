"""`stoker scale`: how many replicas each model has, and why; and how many a person wants."""

import time
from pathlib import Path
from typing import Any

import click

from stoker.base.errors import InvalidInput, StokerError
from stoker.cli import show, target

LOOK_EVERY_S = 0.5
TAKEN_S = 10.0  # the autoscaler looks twice a second at what was asked for


@click.command()
@click.argument("model", required=False)
@click.argument("replicas", metavar="N|auto", required=False)
@click.option("--state", type=click.Path(path_type=Path), help="State directory of the platform.")
@click.option(
    "--watch", is_flag=True, help="One line for each decision, with its reason, from the newest on; until Ctrl-C."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one object a line.")
def scale(model: str | None, replicas: str | None, state: Path | None, watch: bool, as_json: bool) -> None:
    """How many replicas each model has, what for, and what was decided last. docs/autoscaling.md has the arithmetic.

    With MODEL and a number: that many, whatever the load, until `stoker scale MODEL auto`."""
    from stoker.local.state import StateDirectory
    from stoker.local.status import current

    directory = StateDirectory(state or target.default_state())
    run = current(directory)
    if run.get("state") not in ("up", "starting", "stopping"):
        show.note(f"{run.get('url')}  {run.get('state')}: what follows is history")
    said: dict[str, Any] = directory.read_scale()
    if model is not None:
        if run.get("state") not in ("up", "starting"):
            raise InvalidInput("no platform runs here, so there is nothing to scale", hint="`stoker up` starts one")
        number = _wanted(said, model, replicas)
        directory.write_by_hand(model, number)
        said = _once_taken(directory, model, number)
    for one in said.get("models") or []:
        one["ready"] = ready_of(one["model"], run)  # as it is now; the rest is as it was at the last look
    if watch:
        _watch(directory, said, as_json=as_json)
    elif as_json:
        show.as_json(said)
    else:
        _table(said)


def _wanted(said: dict[str, Any], model: str, replicas: str | None) -> int | None:
    """How many; None for `auto`. Raises InvalidInput, also for more than this machine has room for."""
    models = {one["model"]: one for one in said.get("models") or []}
    if model not in models:
        raise InvalidInput(
            f"model {model!r} has no replicas that come and go here",
            param="MODEL",
            hint=f"those that have: {', '.join(models) or 'none'} (replicas.min less than replicas.max)",
        )
    if replicas is None:
        raise InvalidInput(f"how many replicas of {model}?", param="N", hint=f"`stoker scale {model} 2`, or `auto`")
    if replicas == "auto":
        return None
    room = models[model]["room"]
    if not (replicas.isascii() and replicas.isdigit() and int(replicas[:9]) <= room):
        raise InvalidInput(
            f"N is {replicas[:20]!r}; it has to be a whole number from 0 to {room}, or auto",
            param="N",
            hint=f"this machine has room for {said['most']} replicas of all models, what the others have included",
        )
    return int(replicas)


def _once_taken(directory: Any, model: str, number: int | None) -> dict[str, Any]:
    """What the autoscaler says once it has seen what was asked for. Raises StokerError when it does not."""
    until = time.monotonic() + TAKEN_S
    while time.monotonic() < until:
        said: dict[str, Any] = directory.read_scale()
        if any(one["model"] == model and one.get("by_hand") == number for one in said.get("models") or []):
            held = "by load again" if number is None else f"{number} by hand, until `stoker scale {model} auto`"
            show.note(f"{model}: {held}")
            return said
        time.sleep(0.05)
    raise StokerError(
        f"the platform has not taken up how many replicas of {model} are wanted",
        hint="`stoker ps` says whether it runs",
    )


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
    return sum(
        p["role"] in ("worker", "agent-worker") and p["model"] == model and p["state"] == "ready" for p in processes
    )


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
