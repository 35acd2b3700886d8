"""What is kept of what processes say, and what is shown."""

import io
import json
from pathlib import Path

import pytest

from stoker.base.terminal import wants_colour
from stoker.local.output import Output, RotatingFile, parse_event, render


def event(level: str, **fields: object) -> bytes:
    return json.dumps({"event": "task finished", "level": level, "process": "worker", **fields}).encode()


def shown(verbose: bool, tmp_path: Path, *lines: bytes) -> str:
    terminal = io.StringIO()
    output = Output(tmp_path, terminal, verbose=verbose, colour=False)
    for line in lines:
        output.line("worker-general-1", line)
    output.close()
    return terminal.getvalue()


def test_every_line_is_kept_as_it_was(tmp_path: Path) -> None:
    lines = [event("info"), b"Traceback (most recent call last):", event("error", task="task_1"), b"\xff\xfe"]

    shown(False, tmp_path, *lines)

    assert (tmp_path / "worker-general-1.jsonl").read_bytes() == b"\n".join(lines) + b"\n"


def test_warnings_errors_and_lines_that_are_no_events_are_shown(tmp_path: Path) -> None:
    text = shown(False, tmp_path, event("info"), event("warning"), event("error"), b"Traceback ...")

    assert [line.split("  ", 1)[1] for line in text.splitlines()[:2]] == [
        "worker-general-1  warning  task finished",
        "worker-general-1  error  task finished",
    ]
    assert text.splitlines()[2] == "worker-general-1  Traceback ..."


def test_verbose_shows_everything(tmp_path: Path) -> None:
    assert len(shown(True, tmp_path, event("debug"), event("info"), event("error")).splitlines()) == 3


def test_an_event_is_shown_with_its_fields_and_its_local_time() -> None:
    text = event("error", timestamp="2026-01-31T12:30:01Z", task="task_1", seconds=1.5, why="no room").decode()

    shown_as = render("worker-general-1", text, parse_event(text), colour=False)

    assert shown_as[2] == shown_as[5] == ":"
    assert shown_as[8:] == '  worker-general-1  error  task finished  task=task_1 seconds=1.5 why="no room"'


def test_an_exception_is_shown_as_its_type_and_message() -> None:
    text = event("error", exception=[{"exc_type": "ValueError", "exc_value": "bad", "frames": []}]).decode()

    assert render("gateway", text, parse_event(text), colour=False).endswith("task finished  ValueError: bad")


def test_what_a_process_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    text = shown(False, tmp_path, event("error", why="\x1b]0;owned\x07\r\nfake line"), b"\x1b[2J gone")

    assert "\x1b" not in text
    assert "\r" not in text
    assert text.count("\n") == 2
    assert r"\x1b[2J gone" in text


def test_an_event_with_a_level_that_is_no_word_is_kept_and_stops_nothing(tmp_path: Path) -> None:
    assert shown(False, tmp_path, b'{"event": "odd", "level": ["x"]}') == ""
    assert (tmp_path / "worker-general-1.jsonl").read_bytes() == b'{"event": "odd", "level": ["x"]}\n'


def test_colour_is_for_warnings_and_errors_only() -> None:
    error, info = event("error").decode(), event("info").decode()

    assert "\x1b[31merror\x1b[0m" in render("gateway", error, parse_event(error), colour=True)
    assert "\x1b" not in render("gateway", info, parse_event(info), colour=True)
    assert "\x1b" not in render("gateway", error, parse_event(error), colour=False)


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "expected"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"STOKER_NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)],
)
def test_colour_needs_a_terminal_and_no_objection(environ: dict[str, str], expected: bool) -> None:
    assert wants_colour(Screen(), environ) is expected
    assert wants_colour(io.StringIO(), environ) is False


def test_the_last_words_are_the_last_error(tmp_path: Path) -> None:
    output = Output(tmp_path, io.StringIO(), verbose=False, colour=False)
    output.line("engine", event("error", model="general"))
    output.line("engine", event("info"))

    assert output.last_words("engine") == "task finished  model=general"
    output.line("engine", b"ModuleNotFoundError: no module")
    assert output.last_words("engine") == "ModuleNotFoundError: no module"
    assert output.last_words("silent") is None
    output.close()


def test_a_terminal_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    output = Output(tmp_path, Gone(), verbose=True, colour=False)
    output.line("engine", b"one")
    output.close()

    assert (tmp_path / "engine.jsonl").read_bytes() == b"one\n"


def test_a_disk_that_refuses_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    terminal = io.StringIO()
    output = Output(tmp_path / "is not there", terminal, verbose=False, colour=False)
    output.line("engine", b"one")
    output.line("engine", b"two")
    output.close()

    assert terminal.getvalue().count("logs cannot be kept") == 1
    assert "engine  two" in terminal.getvalue()


def test_a_log_is_bounded_and_keeps_what_is_newest(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "gateway.jsonl", files=3, file_bytes=20)
    for number in range(10):
        file.write(b"line %04d" % number)
    file.close()

    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert kept == {
        "gateway.jsonl": b"line 0008\nline 0009\n",
        "gateway.jsonl.1": b"line 0006\nline 0007\n",
        "gateway.jsonl.2": b"line 0004\nline 0005\n",
    }


def test_a_log_goes_on_where_the_last_run_ended(tmp_path: Path) -> None:
    for line in (b"one", b"two"):
        file = RotatingFile(tmp_path / "gateway.jsonl", file_bytes=100)
        file.write(line)
        file.close()

    assert (tmp_path / "gateway.jsonl").read_bytes() == b"one\ntwo\n"
