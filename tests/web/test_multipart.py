"""Forms with files, piece by piece: what is in them comes out whatever the pieces are, and what is none is refused."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from stoker.base.errors import InvalidInput, TooLarge, TooSlow
from stoker.web import multipart
from stoker.web.multipart import MOST_PARTS, PartBegins

TYPE = "multipart/form-data; boundary=XYZ"
BODY = (
    b'--XYZ\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--XYZ\r\nContent-Disposition: form-data; name="file"; filename="a b.jsonl"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\none\r\n--XY\r\n\x00\xff\n\r\n--XYZ--\r\n"
)
PARTS = [("purpose", None, b"batch"), ("file", "a b.jsonl", b"one\r\n--XY\r\n\x00\xff\n")]


def a_request(pieces: Iterator[bytes] | list[bytes], *, kind: str | None = TYPE) -> Request:
    headers = [] if kind is None else [(b"content-type", kind.encode("latin-1"))]
    waiting = iter(pieces)

    async def receive() -> Any:
        piece = next(waiting, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


async def parts(request: Request, *, max_bytes: int = 10_000) -> list[tuple[str, str | None, bytes]]:
    found: list[tuple[str, str | None, bytes]] = []
    async for event in multipart.form(request, max_bytes=max_bytes):
        if isinstance(event, PartBegins):
            found.append((event.name, event.filename, b""))
        else:
            name, filename, content = found[-1]
            found[-1] = (name, filename, content + event)
    return found


async def test_each_part_with_its_content() -> None:
    assert await parts(a_request([BODY])) == PARTS


@given(cuts=st.sets(st.integers(1, len(BODY) - 1)))
def test_it_does_not_matter_how_it_is_cut(cuts: set[int]) -> None:
    places = [0, *sorted(cuts), len(BODY)]
    pieces = [BODY[begin:end] for begin, end in itertools.pairwise(places)]
    assert asyncio.run(parts(a_request(pieces))) == PARTS


async def test_a_name_that_is_no_ascii() -> None:
    body = '--XYZ\r\nContent-Disposition: form-data; name="file"; filename="größe.jsonl"\r\n\r\nx\r\n--XYZ--\r\n'
    assert await parts(a_request([body.encode()])) == [("file", "größe.jsonl", b"x")]


NONE = {
    "no type": (None, BODY, "Content-Type has to be"),
    "another type": ("application/json", b"{}", "Content-Type has to be"),
    "no boundary": ("multipart/form-data", BODY, "Content-Type has to be"),
    "too long a boundary": (f"multipart/form-data; boundary={'x' * 500}", BODY, "Boundary"),
    "another boundary": ("multipart/form-data; boundary=ABC", BODY, ""),
    "nothing": (TYPE, b"", "it ends in the middle"),
    "cut off": (TYPE, BODY[:-10], "it ends in the middle"),
    "no name": (TYPE, b"--XYZ\r\nContent-Type: text/plain\r\n\r\nx\r\n--XYZ--\r\n", "a part of it has no name"),
    "a head for ever": (TYPE, b"--XYZ\r\nX: " + b"x" * 9000, ""),
    "too many parts": (
        TYPE,
        b'--XYZ\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * (MOST_PARTS + 1) + b"--XYZ--\r\n",
        f"it has more than {MOST_PARTS} fields",
    ),
}


@pytest.mark.parametrize(("kind", "body", "why"), NONE.values(), ids=NONE.keys())
async def test_what_is_no_form_is_refused(kind: str | None, body: bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=f"the body is no form with a file: .*{why}") as caught:
        await parts(a_request([body], kind=kind))
    assert (caught.value.code, caught.value.status) == ("invalid_form", 400)


async def test_it_has_so_many_bytes_at_most() -> None:
    assert await parts(a_request([BODY[:50], BODY[50:]]), max_bytes=len(BODY)) == PARTS
    with pytest.raises(TooLarge):
        await parts(a_request([BODY[:50], BODY[50:]]), max_bytes=len(BODY) - 1)


async def test_one_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.web.uploads.WAIT_S", 0.01)

    async def receive() -> Any:
        await asyncio.Event().wait()

    headers = [(b"content-type", TYPE.encode())]
    with pytest.raises(TooSlow):
        await parts(Request({"type": "http", "method": "POST", "headers": headers}, receive))
