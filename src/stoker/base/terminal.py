"""What is printed for a person: text of others made safe, and colour where it is seen."""

import os
from collections.abc import Mapping
from typing import TextIO


def printable(text: str) -> str:
    """`text` without line breaks and control characters, which could move the cursor or rename the window of whoever
    reads along: they are shown as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def wants_colour(terminal: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Colour only for a person: on a terminal, and unless NO_COLOR (no-color.org) or STOKER_NO_COLOR is set."""
    return terminal.isatty() and not (environ.get("NO_COLOR") or environ.get("STOKER_NO_COLOR"))
