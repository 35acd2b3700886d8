"""`stoker ps`: what `stoker up` started, how it is, and what the gateway thinks of the replicas."""

import time
from pathlib import Path
from typing import Any

import click

from stoker.cli import api, show, target


@click.command()
@click.option("--state", type=click.Path(path_type=Path), help="State directory of the platform.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ps(state: Path | None, as_json: bool) -> None:
    """What runs on this machine, what each process does, and which replicas the gateway sends requests to."""
    from stoker.local.state import StateDirectory
    from stoker.local.status import current

    where = state or target.default_state()
    run: dict[str, Any] = current(StateDirectory(where))
    replicas = _replicas(where) if run.get("state") == "up" else None
    if as_json:
        show.as_json({**run, "replicas": replicas})
        return
    show.note(f"{run.get('url')}  {run.get('state')}  pid {run.get('pid')}")
    processes = run.get("processes") or []
    now = time.time()
    show.table(
        ["process", "role", "model", "state", "for", "pid", "restarts", "url", "weights", "last exit"],
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
                (p.get("weights") or "")[:12] or None,
                p["last_exit"],
            ]
            for p in processes
        ],
    )

    if replicas:
        click.echo()
        show.table(
            ["replica", "model", "state", "in flight", "breaker", "for", "why"],
            [
                [
                    r["id"],
                    r["model"],
                    r["state"],
                    f"{r['in_flight']}/{r['capacity']}",
                    r["breaker"],
                    duration(now - r["breaker_since"]),
                    r["breaker_why"],
                ]
                for r in replicas
            ],
        )
    elif run.get("state") == "up":
        show.note("no replicas" if replicas == [] else "the gateway does not say which replicas there are")


def _replicas(state: Path) -> list[dict[str, Any]] | None:
    """As the gateway sees them; None when it does not answer."""
    from stoker.base.errors import StokerError

    try:
        found = target.find(target.Asked(state=state), admin=True)
        replicas: list[dict[str, Any]] = api.call(found, "GET", "/admin/v1/replicas", silence_s=5.0)["replicas"]
    except StokerError:
        return None
    return replicas


def duration(seconds: float) -> str:
    """`45s`, `12m`, `3h`, `4d`: as coarse as a glance needs."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"
