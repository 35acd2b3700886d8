"""`stoker scale`: what it prints of what the autoscaler wrote down."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from stoker.cli.app import run
from stoker.cli.scale import line, load, ready_of
from stoker.local.state import StateDirectory

MODEL = {
    "model": "general",
    "replicas": 3,
    "ready": 0,
    "min": 0,
    "max": 3,
    "room": 5,
    "values": {"waiting": 26.0, "running": None},
    "targets": {"waiting": 4.0, "running": 3.0},
    "reason": "waiting 26 at 4 each: 7, at most 3",
}
WORKER = {"name": "worker-general-1", "role": "worker", "model": "general", "state": "ready", "pid": 7}
ENGINE = {**WORKER, "name": "engine-general-1", "role": "engine"}
RUN = {
    "url": "http://x",
    "state": "up",
    "pid": 1,
    "processes": [WORKER, ENGINE, {**WORKER, "name": "worker-general-2", "state": "starting"}],
}


def decision(number: int, before: int, after: int, reason: str) -> dict[str, Any]:
    return {"number": number, "at": 0.0, "model": "general", "before": before, "after": after, "reason": reason}


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    found = StateDirectory(tmp_path)
    found.create()
    found.write_run(RUN)
    found.write_scale(
        {"models": [MODEL], "decisions": [decision(1, 0, 0, "idle"), decision(2, 0, 1, "woken by waiting")]}
    )
    return found


def test_workers_of_agents_are_counted_as_replicas_are() -> None:
    agents = {"name": "worker-agents-1", "role": "agent-worker", "model": "agents", "state": "ready"}
    assert ready_of("agents", {"processes": [agents, WORKER, {**agents, "state": "starting"}]}) == 1


def test_the_table_says_how_many_run_of_what_and_why(state: StateDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    with state.lock():
        assert run(["scale", "--state", str(state.path)]) == 0

    said = capsys.readouterr()
    assert said.err == ""
    assert said.out == (
        "model    replicas  ready  min  max  load                       reason\n"
        "general         3      1    0    3  waiting 26/4  running ?/3  waiting 26 at 4 each: 7, at most 3\n"
    )


def test_json_is_what_was_written_with_those_that_are_ready_now(
    state: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    with state.lock():
        assert run(["scale", "--json", "--state", str(state.path)]) == 0

    said = json.loads(capsys.readouterr().out)
    assert said["models"] == [{**MODEL, "ready": 1}]
    assert [one["number"] for one in said["decisions"]] == [1, 2]


def test_what_a_platform_that_ended_has_decided_is_history(
    state: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["scale", "--state", str(state.path)]) == 0

    assert capsys.readouterr().err == "http://x  killed: what follows is history\n"


def test_watch_says_the_newest_and_then_each_as_it_comes_until_the_platform_ends(
    state: StateDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at the file finds what came in since; a platform that was started anew counts from 1."""
    looks = iter(
        [
            [decision(2, 0, 1, "woken by waiting"), decision(3, 1, 3, "more")],
            [decision(2, 0, 1, "woken by waiting"), decision(3, 1, 3, "more"), decision(4, 3, 3, "same")],
            [decision(1, 0, 0, "idle")],
        ]
    )

    def time_passes(seconds: float) -> None:
        following = next(looks, None)
        if following is None:
            held.__exit__(None, None, None)
        else:
            state.write_scale({"models": [MODEL], "decisions": following})

    held = state.lock()
    monkeypatch.setattr("stoker.cli.scale.time.sleep", time_passes)
    assert run(["scale", "--watch", "--json", "--state", str(state.path)]) == 0

    said = capsys.readouterr()
    assert [json.loads(text)["number"] for text in said.out.splitlines()] == [2, 3, 4, 1]
    assert said.err == "the platform has ended\n"


def test_a_decision_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.cli.scale.time.localtime", time.gmtime)
    assert line(decision(1, 1, 3, "waiting 30 at 4 each: 8, at most 3")) == (
        "00:00:00  general  1 -> 3  waiting 30 at 4 each: 8, at most 3"
    )
    assert line(decision(1, 3, 3, "idle")) == "00:00:00  general  3 stays  idle"


def test_load_names_what_one_replica_is_for() -> None:
    assert load({"values": {"waiting": 0.0}, "targets": {"waiting": 2.5}}) == "waiting 0/2.5"


def test_a_platform_that_scales_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = StateDirectory(tmp_path)
    state.create()
    state.write_run(RUN)
    state.write_scale({"models": [], "decisions": []})
    with state.lock():
        assert run(["scale", "--state", str(tmp_path)]) == 0

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "no model here has replicas that come and go: none says replicas.min and a higher replicas.max\n"
    )


def test_where_no_platform_ever_ran_there_is_nothing_to_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["scale", "--state", str(tmp_path)]) == 2
    assert "no platform was started in" in capsys.readouterr().err


# --- by hand ----------------------------------------------------------------------------------------------------------

CODE = {**MODEL, "model": "code", "replicas": 1, "room": 3}


@pytest.fixture
def taken(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> StateDirectory:
    """An autoscaler that does what it is asked for while the command waits."""
    said: dict[str, Any] = {"most": 6, "decisions": []}

    def look(_: float) -> None:
        wanted = state.read_by_hand()
        models = [{**one, "by_hand": wanted.get(str(one["model"]))} for one in (MODEL, CODE)]
        state.write_scale({**said, "models": models})

    state.write_scale({**said, "models": [{**MODEL, "by_hand": 1}, {**CODE, "by_hand": None}]})
    monkeypatch.setattr("stoker.cli.scale.time.sleep", look)
    return state


def test_a_number_is_held_until_auto(taken: StateDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    with taken.lock():
        assert run(["scale", "general", "5", "--state", str(taken.path)]) == 0
        assert taken.read_by_hand() == {"general": 5}
        assert capsys.readouterr().err == "general: 5 by hand, until `stoker scale general auto`\n"
        assert run(["scale", "general", "auto", "--json", "--state", str(taken.path)]) == 0
        assert taken.read_by_hand() == {}
    said = capsys.readouterr()
    assert said.err == "general: by load again\n"
    assert json.loads(said.out)["models"][0]["by_hand"] is None


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["general", "6"], "N is '6'; it has to be a whole number from 0 to 5, or auto"),
        (["code", "4"], "N is '4'; it has to be a whole number from 0 to 3, or auto"),
        (["general", "--", "-1"], "N is '-1'; it has to be a whole number from 0 to 5, or auto"),
        (["general", "some"], "N is 'some'; it has to be a whole number from 0 to 5, or auto"),
        (["general"], "how many replicas of general?"),
        (["vision", "1"], "model 'vision' has no replicas that come and go here"),
    ],
)
def test_what_cannot_be_is_refused_and_says_what_can(
    taken: StateDirectory, capsys: pytest.CaptureFixture[str], argv: list[str], words: str
) -> None:
    with taken.lock():
        assert run(["scale", "--state", str(taken.path), *argv]) == 2
    assert words in capsys.readouterr().err
    assert taken.read_by_hand() == {}


def test_nothing_is_wanted_of_a_platform_that_does_not_run(
    taken: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["scale", "general", "1", "--state", str(taken.path)]) == 2
    assert "no platform runs here" in capsys.readouterr().err
    assert taken.read_by_hand() == {}


def test_an_autoscaler_that_does_not_look_is_told_of(
    taken: StateDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.cli.scale.TAKEN_S", 0.0)
    with taken.lock():
        assert run(["scale", "general", "2", "--state", str(taken.path)]) == 1
    assert "has not taken up how many replicas of general are wanted" in capsys.readouterr().err
