"""A form with files, as it comes: what is in it is handed on piece by piece, and nobody holds a whole file.

`python-multipart` parses; here are the bounds, the time, and its errors as ours.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from stoker.base.errors import InvalidInput, TooLarge
from stoker.web import uploads

# OpenAI's forms have five fields at most.
MOST_PARTS = 20
# What a form may have beside the file in it: boundaries, heads, fields.
BESIDE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class PartBegins:
    """What follows, up to the next of these, is in a field of this name. `filename` is None when it is no file."""

    name: str
    filename: str | None


async def form(request: Request, *, max_bytes: int) -> AsyncGenerator[PartBegins | bytes, None]:
    """Each part of the form: its begin, and then its content in pieces. Raises InvalidInput for what is no such form,
    TooLarge for more than `max_bytes`, TooSlow."""
    reader = _Reader(_boundary(request))
    size = 0
    began = asyncio.get_running_loop().time()
    pieces = request.stream()
    while (data := await _next(pieces, began, size)) is not None:
        size += len(data)
        if size > max_bytes:
            raise TooLarge(f"the body has more than {max_bytes} bytes")
        for event in reader.read(data):
            yield event
    reader.end()


async def _next(pieces: AsyncIterator[bytes], began: float, size: int) -> bytes | None:
    try:
        async with asyncio.timeout_at(began + uploads.time_for(size)):
            return await anext(pieces, None)
    except TimeoutError:
        raise uploads.too_slow(size) from None


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise _no_form("Content-Type has to be multipart/form-data, with its boundary")
    return options[b"boundary"]


def _no_form(why: str) -> InvalidInput:
    return InvalidInput(f"the body is no form with a file: {why}", code="invalid_form")


class _Reader:
    """The parser's calls, gathered for each piece of the body."""

    def __init__(self, boundary: bytes) -> None:
        self._events: list[PartBegins | bytes] = []
        self._field, self._value = b"", b""
        self._disposition = b""
        self._parts = 0
        self._has_ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part,
                    "on_header_field": self._on_field,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header,
                    "on_headers_finished": self._on_content,
                    "on_part_data": self._on_data,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as exc:
            raise _no_form(str(exc)) from exc

    def read(self, data: bytes) -> list[PartBegins | bytes]:
        try:
            self._parser.write(data)
        except FormParserError as exc:
            raise _no_form(str(exc)) from exc
        events, self._events = self._events, []
        return events

    def end(self) -> None:
        if not self._has_ended:
            raise _no_form("it ends in the middle")

    def _on_part(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise _no_form(f"it has more than {MOST_PARTS} fields")
        self._disposition = b""

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field, self._value = b"", b""

    def _on_content(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in options:
            raise _no_form("a part of it has no name")
        filename = options.get(b"filename")
        shown = None if filename is None else filename.decode("utf-8", "replace")
        self._events.append(PartBegins(options[b"name"].decode("utf-8", "replace"), shown))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _on_end(self) -> None:
        self._has_ended = True
