"""What the processes say: kept in STATE/logs/<process>.jsonl, each bounded, and shown readably on the terminal.

Lines are events in JSON (`base/logs.py`). A line that is none (a traceback of the interpreter, a word of a library) is
kept and shown as it is, because it is what one looks for when a process does not start.
"""

import json
import time
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, TextIO

from stoker.base.terminal import printable

FILES = 5
FILE_BYTES = 2_000_000
TAIL_LINES = 20
SHOWN_BY_DEFAULT = frozenset({"warning", "error", "critical"})
_COLOURS = {"warning": "33", "error": "31", "critical": "31"}
_NOT_SHOWN = frozenset({"event", "level", "timestamp", "process", "source", "exception"})


class RotatingFile:
    """A file that is moved to `<name>.1`, `.2` and so on before it passes `file_bytes`; the oldest is dropped."""

    def __init__(self, path: Path, *, files: int = FILES, file_bytes: int = FILE_BYTES) -> None:
        self._path, self._files, self._file_bytes = path, files, file_bytes
        self._open()

    def write(self, line: bytes) -> None:
        """Append a line. OSError when the disk refuses."""
        if self._size and self._size + len(line) + 1 > self._file_bytes:
            self._rotate()
        self._file.write(line + b"\n")
        self._file.flush()
        self._size += len(line) + 1

    def close(self) -> None:
        self._file.close()

    def _open(self) -> None:
        self._file: BinaryIO = self._path.open("ab")
        self._size = self._file.tell()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._files - 1, 0, -1):
            older = self._numbered(number)
            newer = self._numbered(number - 1) if number > 1 else self._path
            if newer.exists():
                newer.replace(older)
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class Output:
    """All that processes say goes through `line`. `verbose` shows events of every level."""

    def __init__(self, directory: Path, terminal: TextIO, *, verbose: bool, colour: bool) -> None:
        self._directory, self._terminal = directory, terminal
        self._verbose, self._colour = verbose, colour
        self._files: dict[str, RotatingFile] = {}
        self._tails: dict[str, deque[str]] = {}
        self._disk_is_ill = False

    def line(self, name: str, raw: bytes) -> None:
        self._keep(name, raw)
        text = raw.decode("utf-8", errors="replace").rstrip()
        event = parse_event(text)
        self._tails.setdefault(name, deque(maxlen=TAIL_LINES)).append(text)
        if self._verbose or event is None or str(event.get("level")) in SHOWN_BY_DEFAULT:
            self._show(render(name, text, event, colour=self._colour))

    def last_words(self, name: str) -> str | None:
        """The last error that a process wrote, in short; without one, its last line. None if it was silent."""
        lines = [(text, parse_event(text)) for text in self._tails.get(name, ())]
        errors = [(text, event) for text, event in lines if event is None or str(event.get("level")) in _COLOURS]
        for text, event in reversed(errors or lines):
            return printable(text) if event is None else describe(event)
        return None

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _keep(self, name: str, raw: bytes) -> None:
        try:
            if name not in self._files:
                self._files[name] = RotatingFile(self._directory / f"{name}.jsonl")
            self._files[name].write(raw)
        except (OSError, ValueError) as error:  # ValueError: the file was closed when a rotation failed
            self._files.pop(name, None)
            if not self._disk_is_ill:
                self._show(f"logs cannot be kept: {error}")
            self._disk_is_ill = True

    def _show(self, text: str) -> None:
        try:
            self._terminal.write(text + "\n")
            self._terminal.flush()
        except (OSError, ValueError):
            pass  # the terminal is gone; the platform runs on, and the files have every line


def parse_event(text: str) -> dict[str, object] | None:
    """The event of a log line; None when it is no JSON object."""
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def describe(event: Mapping[str, object]) -> str:
    """`what happened  field=value ...`, with an exception as its type and message."""
    fields = [f"{key}={_short(value)}" for key, value in event.items() if key not in _NOT_SHOWN]
    what = str(event.get("event", ""))
    parts = (what, " ".join(fields), _exception(event.get("exception")))
    return printable("  ".join(part for part in parts if part))


def render(name: str, text: str, event: Mapping[str, object] | None, *, colour: bool) -> str:
    """A line for the terminal: `12:30:01  engine-general-1  warning  what happened  field=value`."""
    if event is None:
        return f"{name}  {printable(text)}"
    level = printable(str(event.get("level", "info")))
    shown = f"\x1b[{_COLOURS[level]}m{level}\x1b[0m" if colour and level in _COLOURS else level
    return f"{_local_time(event)}  {name}  {shown}  {describe(event)}"


def _local_time(event: Mapping[str, object]) -> str:
    try:
        return datetime.fromisoformat(str(event.get("timestamp"))).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return time.strftime("%H:%M:%S")


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    text = text if len(text) <= 200 else text[:199] + "…"
    return json.dumps(text, ensure_ascii=False) if " " in text and isinstance(value, str) else text


def _exception(value: object) -> str:
    """structlog writes a list with one entry for each exception of the chain, the first raised last."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{value[0].get('exc_type')}: {value[0].get('exc_value')}"
    return value.strip().splitlines()[-1] if isinstance(value, str) and value.strip() else ""
