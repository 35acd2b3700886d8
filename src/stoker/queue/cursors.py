"""Where a reader of chunks is: `<token of the claim>-<number of the chunk>`, which only rises."""

import re

from stoker.base.errors import InvalidInput

Cursor = tuple[int, int]

START: Cursor = (0, 0)
PATTERN = "^[0-9]{1,15}-[0-9]{1,15}$"


def parse_cursor(text: str) -> Cursor:
    """Raises InvalidInput when it is none."""
    if not re.fullmatch(PATTERN, text):
        raise InvalidInput(f"{text!r} is no cursor; take the cursor of the last chunk that was seen", param="after")
    token, _, number = text.partition("-")
    return int(token), int(number)
