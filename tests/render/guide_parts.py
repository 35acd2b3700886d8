"""The parts of the guide that docs/guide-coverage.md has rows for: headings of level 2 to 4, tables, fenced blocks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    line: int
    kind: str
    """`heading`, `table`, or the language of a fenced block."""
    text: str


def parts(text: str) -> Iterator[Part]:
    fence = False
    table = False
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if bare.startswith("```"):
            if not fence:
                yield Part(number, f"block:{bare.removeprefix('```')}", "")
            fence = not fence
            continue
        if fence:
            continue
        if re.match(r"#{2,4} ", line):
            yield Part(number, "heading", line)
        is_row = bare.startswith("|")
        if is_row and not table:
            yield Part(number, "table", bare)
        table = is_row
