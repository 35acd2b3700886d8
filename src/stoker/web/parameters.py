"""What can be asked in the query of a URL. One object for each parameter: it reads the value of a request, refuses a
wrong one, and is what the OpenAPI document says of it, so that the two cannot differ.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.requests import HTTPConnection

from stoker.base.errors import InvalidInput

Schema = dict[str, Any]

# As JSON writes them: Python would take "1_0", " 1 " and the digits of every script for numbers, too.
_WHOLE = re.compile(r"-?[0-9]{1,15}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `least` to `most`; `is_whole`: without a fraction. Not said: `default`. `of_what` completes "a
    number"."""

    name: str
    least: float
    most: float
    what: str
    default: float | None = None
    is_whole: bool = False
    of_what: str = ""

    def of(self, request: HTTPConnection) -> float | None:
        """Raises InvalidInput."""
        return self.read(request.query_params.get(self.name))

    def read(self, text: str | None) -> float | None:
        """As `of`, for what stands elsewhere, too. Raises InvalidInput."""
        if text is None:
            return self.default
        if (_WHOLE if self.is_whole else _NUMBER).fullmatch(text) and self.least <= float(text) <= self.most:
            return float(text)
        kind = "a whole number" if self.is_whole else "a number"
        raise InvalidInput(
            f"{self.name} is {text[:80]!r}; it has to be {kind}{self.of_what} from {self.least:.15g} to "
            f"{self.most:.15g}",
            param=self.name,
        )

    @property
    def schema(self) -> Schema:
        said: Schema = {"type": "integer" if self.is_whole else "number", "minimum": self.least, "maximum": self.most}
        return said if self.default is None else {**said, "default": self.default}


def whole(name: str, least: int, most: int, default: int, what: str) -> Number:
    return Number(name, least, most, what, default, is_whole=True)


def whole_of(parameter: Number, request: HTTPConnection) -> int:
    """The value of a parameter that is whole and has a default. Raises InvalidInput."""
    return whole_in(parameter, request.query_params.get(parameter.name))


def whole_in(parameter: Number, text: str | None) -> int:
    """As `whole_of`, for what stands elsewhere, too. Raises InvalidInput."""
    value = parameter.read(text)
    assert value is not None  # noqa: S101 - it has a default
    return int(value)


@dataclass(frozen=True, slots=True)
class Text:
    """Any text, or what `pattern` describes, completing "it has to be" with `kind`; an empty one is as good as none."""

    name: str
    what: str
    pattern: str | None = None
    kind: str = ""

    def of(self, request: HTTPConnection) -> str | None:
        """Raises InvalidInput."""
        text = request.query_params.get(self.name) or None
        if text is not None and self.pattern is not None and not re.fullmatch(self.pattern, text):
            raise InvalidInput(f"{self.name} is {text[:80]!r}; it has to be {self.kind}", param=self.name)
        return text

    @property
    def schema(self) -> Schema:
        return {"type": "string"} if self.pattern is None else {"type": "string", "pattern": f"^({self.pattern})?$"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words. Not said: None."""

    name: str
    words: tuple[str, ...]
    what: str

    def of(self, request: HTTPConnection) -> str | None:
        """Raises InvalidInput."""
        word = request.query_params.get(self.name)
        if word is not None and word not in self.words:
            listed = " or ".join(self.words) if len(self.words) == 2 else f"one of {', '.join(self.words)}"
            raise InvalidInput(f"{self.name} is {word[:80]!r}; it has to be {listed}", param=self.name)
        return word

    @property
    def schema(self) -> Schema:
        return {"type": "string", "enum": list(self.words)}


def flag(name: str, what: str) -> Choice:
    return Choice(name, ("true", "false"), what)


Query = Number | Text | Choice


def documented(queries: Iterable[Query]) -> list[Schema]:
    """As an OpenAPI document lists them."""
    return [{"name": one.name, "in": "query", "description": one.what, "schema": one.schema} for one in queries]
