"""What is sent to S3: some buffers, one after the other, as a file that boto3 reads, without joining them."""

import base64
import io
import itertools
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from stoker.base.errors import Unavailable


class OutOfTime(Unavailable):
    """The time of a call was over while its body was being sent, so that the request was not finished."""


class Body:
    """Bytes `start` to `end` of the views (flat, none empty) put together. Can be read again and again."""

    def __init__(self, views: Sequence[memoryview], start: int = 0, end: int | None = None) -> None:
        self._views = views
        self._ends = list(itertools.accumulate(view.nbytes for view in views))
        whole = self._ends[-1] if self._ends else 0
        self._start, self._end = start, whole if end is None else min(end, whole)

    @property
    def size_bytes(self) -> int:
        return self._end - self._start

    def part(self, start: int, size: int) -> "Body":
        """A range of this one, which holds the same views."""
        body = object.__new__(Body)
        body._views, body._ends = self._views, self._ends
        body._start = self._start + start
        body._end = min(self._end, body._start + size)
        return body

    def crc32(self) -> str:
        """As S3 takes it."""
        value = 0
        for view in self.slices(0, self.size_bytes):
            value = zlib.crc32(view, value)
        return base64.b64encode(value.to_bytes(4, "big")).decode()

    def slices(self, at: int, size: int) -> Iterator[memoryview]:
        """So many bytes from there on, or those that there are."""
        at += self._start
        end = min(at + size, self._end)
        number = bisect_right(self._ends, at)
        while at < end:
            view = self._views[number]
            begin = self._ends[number] - view.nbytes
            yield view[at - begin : end - begin]
            at = self._ends[number]
            number += 1

    def first(self, at: int, size: int) -> bytes | memoryview:
        return next(self.slices(at, size), b"")

    def within(self, left: Callable[[], float]) -> "Reader":
        return Reader(self, left)


class Reader(io.RawIOBase):
    """May give fewer bytes than asked for, as sockets and pipes do, and none only at the end. Raises OutOfTime."""

    def __init__(self, body: Body, left: Callable[[], float]) -> None:
        super().__init__()
        self._body = body
        self._left = left
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._body.size_bytes}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        if self._left() <= 0:
            raise OutOfTime("the time for it is over")
        left = self._body.size_bytes - self._at
        if size is None or size < 0:
            data: bytes | memoryview = b"".join(self._body.slices(self._at, left))
        else:
            data = self._body.first(self._at, size)
        self._at += len(data)
        return data  # type: ignore[return-value]  # whoever reads it sends it: any buffer will do
