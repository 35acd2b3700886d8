"""`stoker ps`: what `stoker up` started, and how it is."""

import time
from pathlib import Path
from typing import Any

import click

from stoker.cli import show, target


@click.command()
@click.option("--state", type=click.Path(path_type=Path), help="State directory of the platform.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ps(state: Path | None, as_json: bool) -> None:
    """What runs on this machine, and what each process does."""
    from stoker.local.state import StateDirectory
    from stoker.local.status import current

    run: dict[str, Any] = current(StateDirectory(state or target.default_state()))
    if as_json:
        show.as_json(run)
        return
    show.note(f"{run.get('url')}  {run.get('state')}  pid {run.get('pid')}")
    processes = run.get("processes") or []
    now = time.time()
    show.table(
        ["process", "role", "model", "state", "for", "pid", "restarts", "url", "last exit"],
        [
            [
                p["name"],
                p["role"],
                p["model"],
                p["state"],
                duration(now - p["since"]),
                p["pid"],
                p["restarts"],
                p["url"],
                p["last_exit"],
            ]
            for p in processes
        ],
    )


def duration(seconds: float) -> str:
    """`45s`, `12m`, `3h`, `4d`: as coarse as a glance needs."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"
