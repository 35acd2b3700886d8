"""The board in words."""

from pathlib import Path

from stoker.local.board import Board, Child, Role
from stoker.local.state import StateDirectory
from stoker.local.status import current, snapshot
from stoker.testing import ManualClock


async def test_what_runs_is_written_with_times_that_people_can_read() -> None:
    clock = ManualClock(start=1_700_000_000.0)
    board = Board([Child("gateway", Role.GATEWAY, url="http://x")], now=clock.monotonic(), backoff_s=lambda _: 1.0)
    await clock.advance(2.0)
    board.started("gateway", 41, {}, clock.monotonic())
    await clock.advance(3.0)

    assert snapshot(board, clock, url="http://x", pid=7) == {
        "pid": 7,
        "url": "http://x",
        "state": "starting",
        "started_at": 1_700_000_000.0,
        "processes": [
            {
                "name": "gateway",
                "role": "gateway",
                "model": None,
                "state": "starting",
                "pid": 41,
                "url": "http://x",
                "weights": None,
                "restarts": 0,
                "since": 1_700_000_002.0,
                "last_exit": None,
            }
        ],
    }


def test_a_platform_goes_from_starting_to_stopped() -> None:
    clock = ManualClock()
    board = Board([Child("gateway", Role.GATEWAY)], now=0.0, backoff_s=lambda _: 1.0)
    states = []

    def look() -> None:
        states.append(snapshot(board, clock, url="", pid=7)["state"])

    board.started("gateway", 41, {}, 0.0)
    look()
    board.ready("gateway", None, 1.0)
    board.up()
    look()
    board.stop(2.0)
    look()
    board.exited("gateway", "exit code 0", 3.0)
    look()

    assert states == ["starting", "up", "stopping", "stopped"]


def test_what_was_up_when_its_supervisor_was_killed_is_history(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    state.create()
    state.write_run({"state": "up", "processes": [{"name": "gateway", "state": "ready", "pid": 41}]})

    assert current(state) == {"state": "killed", "processes": [{"name": "gateway", "state": "stopped", "pid": None}]}
    with state.lock():
        assert current(state)["state"] == "up"
