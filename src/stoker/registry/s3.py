"""Objects in S3, below a prefix of one bucket. `aws.s3` makes each request once; here is what is tried again, until
when, and whether a write that was answered with "somebody else was there first" was our own.

Each write carries a word of its own in the object's metadata. When an answer is lost, the write is made again, and S3
says that its condition does not hold any more: the word tells whether what is there came from this very call. Comparing
the content would not, since two writers who want the same may write the same bytes, and only one of them has won.
"""

import contextlib
import copy
import itertools
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TypeVar

from stoker.aws.s3 import MOST_AT_ONCE, Body, Bucket, Found, NoSuchUpload, Page, PartSent, PreconditionFailed, Upload
from stoker.base.clock import Clock, SystemClock
from stoker.base.errors import NotFound, StokerError, Unavailable
from stoker.policy.retry import delay_s
from stoker.registry.stores import (
    Buffer,
    Changed,
    Deadline,
    Stat,
    check_conditions,
    check_key,
    check_prefix,
    check_span,
    flat,
    is_key,
)

T = TypeVar("T")

PART_BYTES = 16 << 20
MOST_PARTS = 10_000  # S3's own limit
THREADS = 8  # of one write; one connection to S3 carries some 100 MB/s
BASE_S, CAP_S = 0.1, 5.0  # of the waits between tries
WORD = "stoker-write"
_ABORT_S = 3.0


def part_bytes(size_bytes: int, least: int = PART_BYTES) -> int:
    """How large the parts of so large an object are: whole MiB, and not more parts than S3 takes."""
    mib = 1 << 20
    return max(least, -(-size_bytes // (MOST_PARTS * mib)) * mib)


class S3Store:
    """A `Store`."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        sleep: Callable[[float], None] = time.sleep,
        part_bytes: int = PART_BYTES,
        calls: Bucket | None = None,
    ) -> None:
        self._bucket = calls or Bucket(bucket)
        self._prefix = f"{prefix}/" if prefix else ""
        self._clock = clock or SystemClock()
        self._random = random or Random()
        self._sleep = sleep
        self._part_bytes = part_bytes
        self.url = f"s3://{bucket}/{prefix}".removesuffix("/")

    # --- writing ----------------------------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        pieces: Sequence[Buffer],
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        timeout_s: float = 60.0,
    ) -> str:
        check_conditions(if_absent, if_match)
        write = _Write(self._name(key), Body(flat(pieces)), if_absent, if_match, secrets.token_hex(16))
        deadline = self._deadline(timeout_s)
        if write.body.size_bytes <= self._part_bytes:
            return self._again(f"write {key}", deadline, lambda: self._put_whole(write, deadline))
        return self._again(f"write {key}", deadline, lambda: self._put_parts(write, deadline))

    def _put_whole(self, write: "_Write", deadline: Deadline) -> str:
        try:
            return self._bucket.put(
                write.name, write.body, write.metadata, deadline.left_s, absent=write.if_absent, match=write.if_match
            )
        except PreconditionFailed as exc:
            return self._ours(write, deadline, exc)

    def _put_parts(self, write: "_Write", deadline: Deadline) -> str:
        """Raises Unavailable when the upload is gone; the next try begins another."""
        upload = self._again(
            f"begin to write {write.name}",
            deadline,
            lambda: self._bucket.begin(write.name, write.metadata, deadline.left_s),
        )
        try:
            parts = self._send(write, upload, deadline)
            return self._again(
                f"complete {write.name}", deadline, lambda: self._complete(write, upload, parts, deadline)
            )
        except NoSuchUpload as exc:
            raise Unavailable(f"cannot write {write.name}: its upload is gone") from exc
        except BaseException:
            self._abort(write.name, upload)
            raise

    def _send(self, write: "_Write", upload: str, deadline: Deadline) -> list[PartSent]:
        size = part_bytes(write.body.size_bytes, self._part_bytes)
        starts = range(0, write.body.size_bytes, size)
        own = copy.copy(deadline)

        def send(number: int, start: int) -> PartSent:
            body = write.body.part(start, size)
            return self._again(
                f"write part {number} of {write.name}",
                own,
                lambda: self._bucket.send(write.name, upload, number, body, own.left_s),
            )

        with ThreadPoolExecutor(min(THREADS, len(starts)), thread_name_prefix="s3-part") as pool:
            sending = [pool.submit(send, number, start) for number, start in enumerate(starts, 1)]
            try:
                for future in wait(sending, return_when=FIRST_EXCEPTION).done:
                    future.result()
            except BaseException:
                own.give_up()  # the others end when they next look at the time
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            return [future.result() for future in sending]

    def _complete(self, write: "_Write", upload: str, parts: Sequence[PartSent], deadline: Deadline) -> str:
        try:
            return self._bucket.complete(
                write.name, upload, parts, deadline.left_s, absent=write.if_absent, match=write.if_match
            )
        except (PreconditionFailed, NoSuchUpload) as exc:
            return self._ours(write, deadline, exc)

    def _abort(self, name: str, upload: str) -> None:
        """Once, since the time may be over; what stays is swept, or removed by the bucket's lifecycle rule."""
        with contextlib.suppress(StokerError):
            self._bucket.abort(name, upload, self._deadline(_ABORT_S).left_s)

    def _ours(self, write: "_Write", deadline: Deadline, exc: Exception) -> str:
        """The etag, when what is there was written by this very call. Raises Changed when it was not; NoSuchUpload when
        nothing of anybody says that the condition does not hold."""
        try:
            found = self._bucket.look(write.name, deadline.left_s)
        except NotFound:
            found = None
        if found is not None and found.metadata.get(WORD) == write.word:
            return found.etag
        if isinstance(exc, NoSuchUpload):
            raise exc
        raise _changed(write, found) from exc

    # --- reading ----------------------------------------------------------------------------------------------------

    def get(self, key: str, *, start: int = 0, length: int | None = None, timeout_s: float = 60.0) -> bytes:
        check_span(start, length)
        if length == 0:
            self.stat(key, timeout_s=timeout_s)  # S3 has no range without bytes
            return b""
        name, deadline = self._name(key), self._deadline(timeout_s)

        def get() -> bytes:
            got = self._bucket.get(name, deadline.left_s, start=start, length=length)
            due = max(0, got.total_bytes - start)
            if len(got.data) != (due if length is None else min(length, due)):
                raise Unavailable(
                    f"cannot read {key}: {len(got.data)} bytes came, and the object has {got.total_bytes}"
                )
            return got.data

        return self._again(f"read {key}", deadline, get)

    def read(self, key: str, *, timeout_s: float = 60.0, most_bytes: int = 64 << 20) -> tuple[bytes, str]:
        name, deadline = self._name(key), self._deadline(timeout_s)
        got = self._again(
            f"read {key}", deadline, lambda: self._bucket.get(name, deadline.left_s, most_bytes=most_bytes)
        )
        return got.data, got.etag

    def stat(self, key: str, *, timeout_s: float = 60.0) -> Stat:
        name, deadline = self._name(key), self._deadline(timeout_s)
        found = self._again(f"look at {key}", deadline, lambda: self._bucket.look(name, deadline.left_s))
        return self._stat(found)

    def list(self, prefix: str = "", *, timeout_s: float = 60.0) -> Iterator[Stat]:
        """`timeout_s` is for each thousand."""
        return self._listed(self._prefix + check_prefix(prefix), timeout_s)

    def _listed(self, prefix: str, timeout_s: float) -> Iterator[Stat]:
        after: str | None = None
        while True:
            page = self._page(prefix, after, timeout_s)
            for found in page.found:
                if is_key(found.key.removeprefix(self._prefix)):  # others than Stoker may have made a folder's marker
                    yield self._stat(found)
            after = page.next
            if after is None:
                return

    def _page(self, prefix: str, after: str | None, timeout_s: float) -> Page:
        deadline = self._deadline(timeout_s)
        return self._again(
            f"list {prefix or 'all'}", deadline, lambda: self._bucket.page(prefix, after, deadline.left_s)
        )

    def _stat(self, found: Found) -> Stat:
        return Stat(found.key.removeprefix(self._prefix), found.size_bytes, found.etag, found.modified_at)

    # --- removing ---------------------------------------------------------------------------------------------------

    def delete(self, keys: Iterable[str], *, timeout_s: float = 60.0) -> None:
        names, deadline = [self._name(key) for key in keys], self._deadline(timeout_s)
        for begin in range(0, len(names), MOST_AT_ONCE):
            left = names[begin : begin + MOST_AT_ONCE]

            def delete() -> None:
                nonlocal left
                left = self._bucket.delete(left, deadline.left_s)
                if left:
                    raise Unavailable(f"S3 could not delete {left[0]}")

            self._again("delete objects", deadline, delete)

    def sweep(self, prefix: str = "", *, older_than_s: float, timeout_s: float = 60.0) -> int:
        below, deadline = self._prefix + check_prefix(prefix), self._deadline(timeout_s)
        before = self._clock.now() - older_than_s
        uploads = self._again(
            f"list uploads below {below or 'all'}", deadline, lambda: list(self._bucket.uploads(below, deadline.left_s))
        )
        old = [upload for upload in uploads if upload.begun_at <= before]
        for upload in old:
            self._again(f"abort an upload of {upload.key}", deadline, partial(self._end, upload, deadline))
        return len(old)

    def _end(self, upload: Upload, deadline: Deadline) -> None:
        self._bucket.abort(upload.key, upload.id, deadline.left_s)

    # --- trying again -----------------------------------------------------------------------------------------------

    def _again(self, doing: str, deadline: Deadline, call: Callable[[], T]) -> T:
        """What `call` returns, tried until the deadline as long as it raises Unavailable."""
        for attempt in itertools.count(1):
            try:
                return call()
            except _Over:
                raise
            except Unavailable as exc:
                wait_s = delay_s(attempt, base_s=BASE_S, cap_s=CAP_S, random=self._random)
                if wait_s >= deadline.left_s():
                    raise _over(doing, self.url, attempt, deadline, exc) from exc
            self._sleep(wait_s)
        raise AssertionError("unreachable")

    def _deadline(self, timeout_s: float) -> Deadline:
        return Deadline(timeout_s, self._clock.monotonic)

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)


class _Over(Unavailable):
    """It was tried until the time was over."""


def _over(doing: str, url: str, attempts: int, deadline: Deadline, last: Unavailable) -> _Over:
    times = "once" if attempts == 1 else f"{attempts} times"
    error = _Over(f"cannot {doing} in {url} within {deadline.timeout_s:g} s, tried {times}; at last: {last.message}")
    error.hint, error.detail = last.hint, last.detail
    return error


@dataclass(frozen=True, slots=True)
class _Write:
    name: str
    body: Body
    if_absent: bool
    if_match: str | None
    word: str

    @property
    def metadata(self) -> Mapping[str, str]:
        return {WORD: self.word}


def _changed(write: _Write, found: Found | None) -> Changed:
    if write.if_absent:
        return Changed(f"{write.name} exists already, and was to be made anew")
    if found is None:
        return Changed(f"{write.name} is gone, and was to be replaced")
    return Changed(f"{write.name} is another one by now: somebody else has written it")
