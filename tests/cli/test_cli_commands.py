"""What single commands make of what they are given, without a platform."""

import base64
import json
import os
from pathlib import Path

import pytest

from stoker.base.errors import InvalidInput, UpstreamError
from stoker.cli import show
from stoker.cli.app import run
from stoker.cli.chat import data_url, delta_text, request_body
from stoker.cli.ps import duration
from stoker.cli.tasks import answer_text, callback_text, error_text
from stoker.cli.usage import parse_since
from stoker.local.state import Credentials, StateDirectory
from stoker.meter.ledger import Ledger
from stoker.meter.store import Store
from stoker.meter.usage import UsageRecord

PNG = b"\x89PNG\r\n\x1a\n rest"


# chat


def test_a_question_is_a_chat_completion() -> None:
    assert request_body("hi", model="auto", max_tokens=None, image=None) == {
        "model": "auto",
        "messages": [{"role": "user", "content": "hi"}],
    }
    assert request_body("hi", model="code", max_tokens=5, image=None)["max_tokens"] == 5


def test_an_image_goes_with_the_text_as_a_data_url(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(PNG)

    content = request_body("what?", model="auto", max_tokens=None, image=tmp_path / "a.bin")["messages"][0]["content"]

    assert content[0] == {"type": "text", "text": "what?"}
    assert content[1]["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(PNG).decode()


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not an image")

    with pytest.raises(InvalidInput, match="is no image that can be sent; PNG, JPEG, GIF and WebP can"):
        data_url(tmp_path / "a.png")
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        data_url(tmp_path / "b.png")


def test_the_text_of_a_chunk() -> None:
    assert delta_text({"choices": [{"delta": {"content": "one"}}]}) == "one"
    assert delta_text({"choices": [{"delta": {"role": "assistant"}}]}) == ""
    assert delta_text({"choices": [], "usage": {}}) == ""
    with pytest.raises(UpstreamError, match="it broke"):
        delta_text({"error": {"message": "it broke", "code": "engine_unavailable"}})


# usage


def test_since_is_a_span_or_a_date() -> None:
    now = 1_700_000_000.0

    assert parse_since("30m", now) == now - 1800
    assert parse_since("1.5h", now) == now - 5400
    assert parse_since("7d", now) == now - 7 * 86400
    assert parse_since("2023-11-14T22:13:20+00:00", now) == now
    for text in ("", "yesterday", "-5m", "h"):
        with pytest.raises(InvalidInput, match="it must be a time span such as 30m, 24h or 7d, or a date"):
            parse_since(text, now)


def record(number: int, tenant: str, ended_at: float) -> UsageRecord:
    return UsageRecord(
        id=f"req_{number}",
        kind="chat",
        status="ok",
        tenant=tenant,
        key_id="key_1",
        team=None,
        session=None,
        run=None,
        model="general",
        replica="general-1",
        route="general",
        prompt_tokens=10,
        cached_tokens=0,
        completion_tokens=number,
        nano_usd=1_000_000,
        started_at=ended_at - 1,
        first_token_at=ended_at - 0.5,
        ended_at=ended_at,
        attempts=1,
    )


@pytest.fixture
def stopped(tmp_path: Path) -> StateDirectory:
    """The state directory of a platform that ran and does not run any more, with three requests in its ledger."""
    state = StateDirectory(tmp_path / "state")
    state.create()
    state.write_credentials(Credentials("http://127.0.0.1:1", "user-key", "admin-key", 7))
    state.write_spec("")
    store = Store(f"sqlite:///{state.ledger}")
    Ledger(store).append([record(1, "a", 100.0), record(2, "a", 200.0), record(3, "b", 200.0)])
    store.close()
    return state


def test_usage_of_a_platform_that_does_not_run_comes_from_its_ledger(
    stopped: StateDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["usage", "--state", str(stopped.path), "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert report["total"]["requests"] == 3
    assert report["total"]["completion_tokens"] == 6
    assert report["total"]["usd"] == 0.003
    assert [(row["tenant"], row["requests"]) for row in report["rows"]] == [("a", 2), ("b", 1)]


def test_usage_can_be_narrowed(stopped: StateDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    since = "1970-01-01T00:02:30+00:00"

    assert run(["usage", "--state", str(stopped.path), "--json", "--since", since, "--tenant", "a"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["requests"] == 1


def test_usage_for_people_is_a_table_with_a_total(stopped: StateDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["usage", "--state", str(stopped.path)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "tenant",
        "model",
        "session",
        "requests",
        "prompt",
        "tokens",
        "completion",
        "tokens",
        "usd",
    ]
    assert lines[1].split() == ["a", "general", "-", "2", "20", "3", "0.002000"]
    assert lines[3].split() == ["total", "3", "30", "6", "0.003000"]


# ps


def test_ps_of_a_platform_that_was_killed_says_so(stopped: StateDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    process = {
        "name": "gateway",
        "role": "gateway",
        "model": None,
        "state": "ready",
        "pid": 7,
        "url": "http://x",
        "restarts": 2,
        "since": 0.0,
        "last_exit": None,
    }
    run_json = {"pid": 7, "url": "http://x", "state": "up", "started_at": 0.0, "processes": [process]}
    stopped.write_run(run_json)

    assert run(["ps", "--state", str(stopped.path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["state"] == "killed"
    assert shown["processes"][0]["state"] == "stopped"
    assert shown["processes"][0]["pid"] is None
    assert shown["replicas"] is None

    with stopped.lock() as lock:
        lock.say(pid=os.getpid(), url="http://x")
        assert run(["ps", "--state", str(stopped.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {**run_json, "replicas": None}


def test_ps_for_people_is_a_table(stopped: StateDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    process = {
        "name": "gateway",
        "role": "gateway",
        "model": None,
        "state": "stopped",
        "pid": None,
        "url": "http://x",
        "restarts": 2,
        "since": 0.0,
        "last_exit": "exit code 0",
    }
    stopped.write_run({"pid": 7, "url": "http://x", "state": "stopped", "started_at": 0.0, "processes": [process]})

    assert run(["ps", "--state", str(stopped.path)]) == 0
    said = capsys.readouterr()
    assert said.err == "http://x  stopped  pid 7\n"
    assert said.out.splitlines()[1].split()[:4] == ["gateway", "gateway", "-", "stopped"]


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0s"), (59, "59s"), (60, "1m"), (7200, "2h"), (200_000, "2d")])
def test_durations_are_coarse(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# tasks and tables


def test_a_task_shows_its_answer_or_its_error() -> None:
    done = {"result": {"choices": [{"message": {"content": "hello"}}]}, "error": None}
    dead = {"result": None, "error": {"message": "the engine is gone", "code": "engine_unavailable"}}

    assert (answer_text(done), error_text(done)) == ("hello", None)
    assert (answer_text(dead), error_text(dead)) == (None, "the engine is gone")
    assert callback_text({"state": "delivered", "tries": 1, "error": None}) == "delivered after 1 try"
    failed = {"state": "failed", "tries": 12, "error": "the receiver answered 500"}
    assert callback_text(failed) == "failed after 12 tries: the receiver answered 500"


def test_a_table_that_is_not_on_a_terminal_is_columns_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    show.table(["name", "count", "share"], [["a", 1, 0.5], ["bcdef", 20, None]])

    assert capsys.readouterr().out == "name   count  share\na          1  0.500\nbcdef     20      -\n"


def test_a_table_on_a_terminal_shows_the_same_cells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show.table(["name", "count"], [["[red]a", 1]])

    assert "[red]a" in capsys.readouterr().out
