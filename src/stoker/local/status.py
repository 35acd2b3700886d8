"""What runs, written down for `stoker ps` and for whoever looks into STATE/run.json."""

from stoker.base.clock import Clock
from stoker.local.board import Board, Child, Status
from stoker.local.state import StateDirectory


def snapshot(board: Board, clock: Clock, *, url: str, pid: int) -> dict[str, object]:
    """The board in words, with its monotonic times turned into seconds since the epoch."""
    now, monotonic = clock.now(), clock.monotonic()

    def wall(time: float) -> float:
        return round(now - (monotonic - time), 3)

    return {
        "pid": pid,
        "url": url,
        "state": _state(board),
        "started_at": wall(board.begun_at),
        "processes": [_process(child, wall(child.since)) for child in board.children.values()],
    }


def current(state: StateDirectory) -> dict[str, object]:
    """What runs on a state directory now. Raises NotFound when nothing ever ran there.

    A supervisor that was killed could not write down its end: then nothing holds the lock, and what run.json says is
    history.
    """
    run = state.read_run()
    if run.get("state") != "stopped" and not state.is_locked():
        run["state"] = "killed"
        processes = run.get("processes")
        for process in processes if isinstance(processes, list) else []:
            process.update(state=str(Status.STOPPED), pid=None)
    return run


def _state(board: Board) -> str:
    if board.stopping_at is not None:
        return "stopping" if any(child.pid for child in board.children.values()) else "stopped"
    return "up" if board.is_up else "starting"


def _process(child: Child, since: float) -> dict[str, object]:
    return {
        "name": child.name,
        "role": str(child.role),
        "model": child.model,
        "state": str(child.status),
        "pid": child.pid,
        "url": child.url,
        "weights": child.weights,
        "restarts": child.restarts,
        "since": since,
        "last_exit": child.last_exit,
    }
