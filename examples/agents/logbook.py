"""A tool that writes: a line of the logbook, which lies where `stoker up` was started."""

from datetime import UTC, datetime
from pathlib import Path


def write(sentence: str) -> str:
    """Write one sentence into the station's logbook. It cannot be taken back."""
    line = f"{datetime.now(UTC):%Y-%m-%d %H:%M} {' '.join(sentence.split())}"
    with Path("logbook.txt").open("a", encoding="utf-8") as logbook:
        logbook.write(line + "\n")
    return f"written: {line}"
