"""Secrets of tools: looked up by the name of a variable, and taken out of whatever a tool says."""

import base64
import html
import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

from stoker.base.errors import InvalidInput

# Shorter values are found in any text by chance; a word with holes in it tells more about them than it hides.
SHORTEST = 8


class Secrets:
    """Values of an environment. Each one that was asked for is `[secret NAME]` in `redacted` from then on."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._name_of: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def value(self, name: str) -> str:
        """Raises InvalidInput when the variable is not set, or empty."""
        value = self._environ.get(name)
        if not value:
            raise InvalidInput(
                f"the environment variable {name}, which a tool needs, is not set",
                hint=f"set {name} where agents run; platform.yaml holds its name only",
            )
        self.remember(name, value)
        return value

    def header(self, name: str) -> str:
        """As `value`, for what is to stand in a header."""
        value = self.value(name)
        if not (value.isascii() and value.isprintable() and value == value.strip()):
            raise InvalidInput(f"the value of {name} holds what no header can hold, such as a line break")
        return value

    def redacted(self, text: str) -> str:
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: f"[secret {self._name_of[found[0]]}]", text)

    def remember(self, name: str, value: str) -> None:
        if value in self._name_of or len(value) < SHORTEST:
            return
        for form in forms_of(value):
            self._name_of.setdefault(form, name)
        longest_first = sorted(self._name_of, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))


def forms_of(value: str) -> set[str]:
    """The value as it stands in text, JSON, HTML, URLs, and in base64 of itself or of anything around it."""
    plain = {value, html.escape(value), json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    in_url = {quote(value), quote(value, safe=""), quote_plus(value)}
    lower = {re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), each) for each in in_url}
    return {form for form in plain | in_url | lower | set(_base64_of(value.encode())) if len(form) >= SHORTEST}


def _base64_of(value: bytes) -> Iterator[str]:
    """What stays the same of it in the base64 of a longer text, for each of the three places where it can begin."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + value).decode()
        begin, end = -(-before * 8 // 6), (before + len(value)) * 8 // 6
        for same in (encoded[begin:end], encoded[begin:].rstrip("=")):  # in the middle, and at the end
            yield same
            yield same.translate(str.maketrans("+/", "-_"))
